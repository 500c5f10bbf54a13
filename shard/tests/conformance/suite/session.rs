//! Sessions: clean start, resumption, expiry, takeover, keep alive (3.1.2, 3.1.4, 3.2.2, 4.1).

use super::prelude::*;

pub fn cases() -> Vec<Case> {
    vec![
        case!(clean_start_discards_the_session).v5("3.1.2-4 3.1.4-4 3.2.2-2").v311("3.1.2-6 3.1.4-3 3.2.2-1"),
        case!(a_kept_session_is_resumed)
            .v5("3.1.2-5 3.1.2-23 3.1.4-4 3.2.2-3")
            .v311("3.1.2-4 3.1.2-5 3.1.4-3 3.2.2-2 4.1.0-1"),
        case!(a_session_is_created_where_there_is_none).v5("3.1.2-6 3.1.4-4 3.2.2-3").v311("3.1.2-4 3.2.2-3"),
        case!(a_clean_session_ends_with_its_connection).v5("3.1.2-23 4.1.0-2").v311("3.1.2-6 3.2.2-3"),
        case!(retained_messages_are_no_part_of_a_session).v5("4.1.0-2").v311("3.1.2-7"),
        case!(a_session_expires_after_its_interval).v5("3.1.2-23 4.1.0-2"),
        case!(a_kept_session_of_3_x_expires_too).v311("3.1.2-4 4.1.0-1").with(&[Set::SessionExpiry3x(2)]),
        case!(expiry_counts_from_the_end_of_the_connection).v5("4.1.0-1 4.1.0-2").v311("4.1.0-2"),
        case!(disconnect_may_change_the_expiry).v5("4.1.0-2 3.1.2-23"),
        case!(a_long_expiry_is_lowered_and_told).v5("4.1.0-2").with(&[Set::SessionExpiryMax(2)]),
        case!(a_second_connection_takes_the_client_over).v5("3.1.4-3").v311("3.1.4-2"),
        case!(a_good_connect_is_answered).v5("3.1.4-5 3.2.2-1").v311("3.1.4-4 3.2.2-1 3.2.2-3"),
        case!(connack_comes_before_queued_messages).v5("3.2.0-1 3.2.0-2").v311("3.2.0-1"),
        case!(silence_ends_the_connection).v5("3.1.2-22 3.2.2-22").v311("3.1.2-24"),
        case!(every_packet_is_a_sign_of_life).v5("3.1.2-22").v311("3.1.2-24"),
        case!(what_the_broker_sends_is_no_sign_of_life).v5("3.1.2-22").v311("3.1.2-24"),
        case!(keep_alive_0_never_ends_the_connection)
            .v5("3.1.2-22 3.2.2-22")
            .v311("3.1.2-24")
            .with(&[Set::KeepAliveMax(0)])
            .core_only("waits for a day"),
        case!(the_server_keep_alive_holds).v5("3.1.2-21 3.2.2-21").with(&[Set::KeepAliveMax(2)]),
    ]
}

fn clean_start_discards_the_session(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    let mut client = scene.connect_with(&id("c").kept());
    client.subscribe("t", 1);
    publisher.publish("t", "in flight", 1);
    client.expect_message();
    client.cut();
    publisher.publish("t", "queued", 1);
    let mut client = scene.reconnect(&id("c"), false);
    client.expect_silence();
    publisher.publish("t", "not subscribed", 1);
    client.expect_silence();
    client.disconnect();
    let mut client = scene.reconnect(&id("c").kept(), false);
    publisher.publish("t", "still not", 1);
    client.expect_silence();
    // A takeover with clean start does the same.
    client.subscribe("t", 1);
    let mut second = scene.reconnect(&id("c"), false);
    client.expect_fault(ReasonCode::SessionTakenOver);
    publisher.publish("t", "never", 1);
    second.expect_silence();
}

fn a_kept_session_is_resumed(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    let mut client = scene.reconnect(&id("c").kept(), false);
    client.subscribe("t", 2);
    for is_cut in [true, false] {
        match is_cut {
            true => client.cut(),
            false => client.disconnect(),
        }
        publisher.publish("t", "0", 0);
        publisher.publish("t", "1", 1);
        publisher.publish("t", "2", 2);
        publisher.publish("other", "x", 2);
        client = scene.reconnect(&id("c").kept(), true);
        // QoS 0 need not be stored.
        client.expect_texts(&["1", "2"]);
        publisher.publish("t", "live", 1);
        client.expect_texts(&["live"]);
    }
}

fn a_session_is_created_where_there_is_none(scene: &mut Scene) {
    let mut client = scene.reconnect(&id("c").resume(), false);
    client.subscribe("t", 1);
    client.publish("t", "x", 1);
    client.expect_texts(&["x"]);
}

fn a_clean_session_ends_with_its_connection(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    let mut client = scene.connect("c");
    client.subscribe("t", 1);
    client.cut();
    publisher.publish("t", "x", 1);
    let mut client = scene.reconnect(&id("c").kept(), false);
    publisher.publish("t", "y", 1);
    client.expect_silence();
    if scene.is_v5() {
        // Without an expiry the session ends too, whatever Clean Start said.
        client.disconnect();
        scene.connect_with(&id("d").resume()).cut();
        scene.reconnect(&id("d").resume(), false).ping();
    }
}

fn retained_messages_are_no_part_of_a_session(scene: &mut Scene) {
    let mut client = scene.connect("c");
    client.publish_retained("t", "kept", 1);
    client.disconnect();
    let mut again = scene.connect("c");
    again.ping();
    scene.subscriber("s", "t", 1).expect_texts(&["kept"]);
}

fn a_session_expires_after_its_interval(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    let options = id("c").resume().expiry(2);
    scene.connect_with(&options).subscribe("t", 1);
    scene.reconnect(&options, true).cut();
    publisher.publish("t", "x", 1);
    scene.pass(1_500);
    let mut client = scene.reconnect(&options, true);
    client.expect_texts(&["x"]);
    client.cut();
    publisher.publish("t", "y", 1);
    scene.pass(2_100);
    let mut client = scene.reconnect(&options, false);
    publisher.publish("t", "z", 1);
    client.expect_silence();
}

fn a_kept_session_of_3_x_expires_too(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    scene.connect_with(&id("c").kept()).subscribe("t", 1);
    scene.reconnect(&id("c").kept(), true).cut();
    scene.pass(1_500);
    scene.reconnect(&id("c").kept(), true).cut();
    scene.pass(2_100);
    let mut client = scene.reconnect(&id("c").kept(), false);
    publisher.publish("t", "x", 1);
    client.expect_silence();
}

fn expiry_counts_from_the_end_of_the_connection(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    let mut client = scene.connect_with(&id("c").resume().expiry(1));
    client.subscribe("t", 1);
    scene.pass(2_500);
    publisher.publish("t", "x", 1);
    client.expect_texts(&["x"]);
    client.cut();
    if scene.is_v5() {
        scene.pass(500);
        scene.reconnect(&id("c").resume().expiry(1), true).ping();
    }
}

fn disconnect_may_change_the_expiry(scene: &mut Scene) {
    let expiry = |seconds| properties(|w| w.u32(PropertyId::SessionExpiryInterval, seconds));
    // Longer, shorter, to the end at once.
    scene.connect_with(&id("a").expiry(1)).disconnect_with(ReasonCode::Success, &expiry(60));
    scene.connect_with(&id("b").expiry(60)).disconnect_with(ReasonCode::Success, &expiry(1));
    scene.connect_with(&id("c").expiry(60)).disconnect_with(ReasonCode::Success, &expiry(0));
    scene.reconnect(&id("c").resume(), false).ping();
    scene.pass(1_300);
    scene.reconnect(&id("a").resume(), true).ping();
    scene.reconnect(&id("b").resume(), false).ping();
    // Not from 0 to more.
    let mut client = scene.connect("d");
    let disconnect = wire::join(&[&[0], &wire::section(expiry(60))]);
    client.write(&wire::packet(0xE0, disconnect));
    client.expect_disconnect(ReasonCode::ProtocolError);
    scene.reconnect(&id("d").resume(), false).ping();
}

fn a_long_expiry_is_lowered_and_told(scene: &mut Scene) {
    let mut client = scene.try_connect(&id("c").resume().expiry(3600));
    assert_eq!(client.expect_connack_number(PropertyId::SessionExpiryInterval), Some(2));
    client.cut();
    scene.pass(2_100);
    let mut client = scene.try_connect(&id("c").resume().expiry(1));
    let connack = client.expect_connack();
    assert_eq!((connack.code, connack.session_present), (0, false));
    assert_eq!(connack.properties.number(PropertyId::SessionExpiryInterval), None, "as asked for");
}

fn a_second_connection_takes_the_client_over(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    let mut peers = vec![scene.connect_with(&id("c").kept())];
    peers[0].subscribe("t", 1);
    // Several times, so that it arrives on every shard.
    for round in 0..4 {
        let mut next = scene.reconnect(&id("c").kept(), true);
        let mut first = peers.pop().expect("one is connected");
        first.expect_fault(ReasonCode::SessionTakenOver);
        publisher.publish("t", &round.to_string(), 1);
        next.expect_texts(&[&round.to_string()]);
        peers.push(next);
    }
}

fn a_good_connect_is_answered(scene: &mut Scene) {
    let mut client = scene.try_connect(&id("c"));
    if !scene.is_v5() {
        client.expect_bytes(&[0x20, 2, 0, 0]);
        return;
    }
    let connack = client.expect_connack();
    assert_eq!((connack.code, connack.session_present), (0, false));
    // Nothing is announced that is there anyway.
    let properties = &connack.properties;
    for id in [
        PropertyId::MaximumQoS,
        PropertyId::RetainAvailable,
        PropertyId::WildcardSubscriptionAvailable,
        PropertyId::SubscriptionIdentifierAvailable,
        PropertyId::SharedSubscriptionAvailable,
    ] {
        assert!(properties.number(id).is_none_or(|value| value == 1), "{id:?}");
    }
}

fn connack_comes_before_queued_messages(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    let mut client = scene.connect_with(&id("c").kept());
    client.subscribe("t", 2);
    publisher.publish("t", "in flight", 2);
    client.expect_message();
    client.cut();
    for i in 0..100 {
        publisher.publish("t", &i.to_string(), 1 + i % 2);
    }
    // The reader refuses anything before CONNACK, and a second one.
    let mut client = scene.reconnect(&id("c").kept(), true);
    let again = client.expect_message();
    assert_eq!((again.text(), again.dup), ("in flight", true));
    client.acknowledge(&again);
    let texts: Vec<String> = client.take_messages().iter().map(|message| message.text().to_owned()).collect();
    assert_eq!(texts, (0..100).map(|i| i.to_string()).collect::<Vec<_>>());
}

fn silence_ends_the_connection(scene: &mut Scene) {
    let slack = scene.slack_ms();
    let mut slow = scene.connect_with(&id("d").keep_alive(20));
    let mut client = scene.connect_with(&id("c").keep_alive(2));
    scene.pass(2_990 - slack);
    client.expect_silence();
    scene.pass(30 + slack);
    client.expect_fault(ReasonCode::KeepAliveTimeout);
    slow.ping();
}

fn every_packet_is_a_sign_of_life(scene: &mut Scene) {
    let slack = scene.slack_ms();
    let mut client = scene.connect_with(&id("c").keep_alive(2));
    for step in 0..3 {
        scene.pass(2_900 - slack);
        match step % 3 {
            0 => client.ping(),
            1 => drop(client.publish("t", "x", 1)),
            _ => client.subscribe("t", 0),
        }
    }
    scene.pass(3_030);
    client.expect_fault(ReasonCode::KeepAliveTimeout);
}

fn what_the_broker_sends_is_no_sign_of_life(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    let mut client = scene.connect_with(&id("c").keep_alive(1));
    client.subscribe("t", 0);
    for _ in 0..3 {
        scene.pass(500);
        publisher.publish("t", "x", 0);
    }
    scene.pass(100);
    while let Some(received) = client.poll() {
        match received {
            Received::Publish(message) => assert_eq!(message.text(), "x"),
            Received::Disconnect(reason) => assert_eq!(reason.code, ReasonCode::KeepAliveTimeout as u8),
            other => panic!("{other:?}"),
        }
    }
    client.expect_end();
}

fn keep_alive_0_never_ends_the_connection(scene: &mut Scene) {
    let mut client = scene.connect_with(&id("c").keep_alive(0));
    scene.pass(24 * 3600 * 1000);
    client.expect_silence();
    client.ping();
}

fn the_server_keep_alive_holds(scene: &mut Scene) {
    let slack = scene.slack_ms();
    let mut off = scene.try_connect(&id("d").keep_alive(0));
    assert_eq!(off.expect_connack_number(PropertyId::ServerKeepAlive), Some(2));
    let mut own = scene.try_connect(&id("e").keep_alive(2));
    assert_eq!(own.expect_connack_number(PropertyId::ServerKeepAlive), None);
    let mut client = scene.try_connect(&id("c").keep_alive(60));
    assert_eq!(client.expect_connack_number(PropertyId::ServerKeepAlive), Some(2));
    scene.pass(2_990 - slack);
    client.expect_silence();
    scene.pass(30 + slack);
    for peer in [&mut client, &mut off, &mut own] {
        peer.expect_disconnect(ReasonCode::KeepAliveTimeout);
    }
}
