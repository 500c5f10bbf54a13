//! Flow control and packet sizes (3.1.2.11, 3.2.2.3, 3.3.4, 4.9).

use super::prelude::*;

pub fn cases() -> Vec<Case> {
    vec![
        case!(receive_maximum_of_the_client_is_kept).v5("3.3.4-9 4.9.0-1 4.9.0-2"),
        case!(receive_maximum_holds_for_repetitions).v5("3.3.4-9 4.9.0-1 4.4.0-1"),
        case!(receive_maximum_0_is_a_protocol_error).v5("4.9.0-1"),
        case!(a_full_quota_holds_back_nothing_else).v5("3.3.4-10 4.9.0-3"),
        case!(receive_maximum_of_the_broker_is_told_and_held)
            .v5("3.3.4-7")
            .with(&[Set::ReceiveMaximum(3)]),
        case!(a_client_within_receive_maximum_is_served).v5("3.3.4-7").with(&[Set::ReceiveMaximum(3)]),
        case!(no_packet_exceeds_the_clients_maximum).v5("3.1.2-24"),
        case!(a_message_that_is_too_large_counts_as_delivered).v5("3.1.2-25"),
        case!(small_packets_carry_no_reason_string)
            .v5("3.4.2-2 3.4.2-3 3.5.2-2 3.5.2-3 3.6.2-2 3.6.2-3 3.7.2-2 3.7.2-3 3.9.2-1 3.9.2-2 3.11.2-1 3.11.2-2 3.14.2-3 3.14.2-4")
            .with(&[Set::DeniedLevel]),
        case!(a_small_maximum_keeps_connack_small).v5("3.1.2-24 3.2.2-19 3.2.2-20"),
        case!(no_problem_information_where_none_is_wanted).v5("3.1.2-29").with(&[Set::DeniedLevel]),
        case!(the_brokers_maximum_packet_size_is_told_and_held)
            .v5("3.2.2-15")
            .with(&[Set::PacketSizeMax(1_000)]),
        case!(a_packet_above_the_maximum_closes_3_x).v311("4.8.0-1").with(&[Set::PacketSizeMax(1_000)]),
    ]
}

fn receive_maximum_of_the_client_is_kept(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    let mut client = scene.connect_with(&id("c").receive_maximum(2));
    client.subscribe("t", 2);
    for i in 0..8 {
        publisher.publish("t", &i.to_string(), if i < 4 { 1 } else { 2 });
    }
    let mut window = vec![client.expect_message(), client.expect_message()];
    client.expect_silence();
    // PUBACK lets one through, out of order as well.
    client.puback(window.pop().expect("two").packet_id);
    window.push(client.expect_message());
    client.expect_silence();
    client.puback(window.remove(0).packet_id);
    window.push(client.expect_message());
    client.puback(window.remove(0).packet_id);
    client.puback(window.remove(0).packet_id);
    window.extend([client.expect_message(), client.expect_message()]);
    client.expect_silence();
    // PUBREC does not, PUBCOMP does.
    client.pubrec(window[0].packet_id);
    client.expect_pubrel(window[0].packet_id);
    client.expect_silence();
    client.pubcomp(window[0].packet_id);
    assert_eq!(client.expect_message().text(), "6");
    client.expect_silence();
    // A PUBREC that refuses does.
    client.write(&wire::ack_with(0x50, window[1].packet_id, 0x97));
    assert_eq!(client.expect_message().text(), "7");
    client.expect_silence();
}

fn receive_maximum_holds_for_repetitions(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    let mut client = scene.connect_with(&id("c").kept());
    client.subscribe("t", 2);
    let mut first: Vec<Message> = vec![];
    for i in 0..6 {
        publisher.publish("t", &i.to_string(), 1 + i % 2);
        first.push(client.expect_message());
    }
    client.cut();
    // The new connection has its own quota; the reader counts.
    let mut client = scene.reconnect(&id("c").kept().receive_maximum(2), true);
    for first in &first {
        let again = client.expect_message();
        assert_eq!(again, Message { dup: true, ..first.clone() });
        client.acknowledge(&again);
    }
    client.expect_silence();
}

fn receive_maximum_0_is_a_protocol_error(scene: &mut Scene) {
    scene.try_connect(&id("c").receive_maximum(0)).expect_refusal(ReasonCode::ProtocolError);
}

fn a_full_quota_holds_back_nothing_else(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    let mut client = scene.connect_with(&id("c").receive_maximum(1));
    client.subscribe("t", 2);
    publisher.publish("t", "1", 2);
    let held = client.expect_message();
    publisher.publish("t", "2", 1);
    client.ping();
    client.subscribe("u", 0);
    assert_eq!(client.unsubscribe(&["u"]), [0]);
    assert_eq!(client.publish("t", "3", 1), 0);
    assert_eq!(client.publish("t", "4", 2), 0);
    // QoS 0 passes what waits.
    publisher.publish("t", "5", 0);
    let passing = client.expect_message();
    assert_eq!((passing.text(), passing.qos), ("5", 0));
    client.expect_silence();
    client.acknowledge(&held);
    client.expect_texts(&["2", "3", "4"]);
}

fn receive_maximum_of_the_broker_is_told_and_held(scene: &mut Scene) {
    let mut client = scene.try_connect(&id("c"));
    assert_eq!(client.expect_connack_number(PropertyId::ReceiveMaximum), Some(3));
    let ids: Vec<u16> = (0..3).map(|_| client.send_publish(&message("t", "x").qos(2))).collect();
    for packet_id in ids {
        client.expect_pubrec(packet_id);
    }
    client.send_publish(&message("t", "x").qos(2));
    client.expect_disconnect(ReasonCode::ReceiveMaximumExceeded);
}

fn a_client_within_receive_maximum_is_served(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "t", 2);
    let mut client = scene.connect_with(&id("c").kept());
    // Three at a time, for long; QoS 0 and 1 beside them; a repetition does not count twice.
    let mut sent = 0;
    for _ in 0..10 {
        let ids: Vec<u16> = (0..3).map(|_| client.send_publish(&message("t", "x").qos(2))).collect();
        for packet_id in &ids {
            assert_eq!(client.expect_pubrec(*packet_id), 0);
        }
        client.send_publish(&message("t", "x").qos(2).packet_id(ids[0]).dup());
        assert_eq!(client.expect_pubrec(ids[0]), 0);
        client.publish("t", "x", 0);
        for packet_id in ids {
            client.pubrel(packet_id);
            assert_eq!(client.expect_pubcomp(packet_id), 0);
        }
        client.publish("t", "x", 1);
        sent += 5;
    }
    assert_eq!(watcher.take_messages().len(), sent);
    // What an earlier connection left open does not count until it is repeated.
    let ids: Vec<u16> = (0..3).map(|_| client.send_publish(&message("t", "x").qos(2))).collect();
    for packet_id in &ids {
        client.expect_pubrec(*packet_id);
    }
    client.cut();
    let mut client = scene.reconnect(&id("c").kept(), true);
    for packet_id in ids {
        client.pubrel(packet_id);
        assert_eq!(client.expect_pubcomp(packet_id), 0);
    }
}

fn no_packet_exceeds_the_clients_maximum(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    let mut client = scene.connect_with(&id("c").kept().packet_size_max(64));
    client.subscribe("t", 2);
    // Just as large as it may be, and one more byte. The reader checks every packet.
    let overhead = scene.topic("t").len() + 2 + 2 + 1 + 2;
    for qos in [1, 2] {
        publisher.publish("t", &"x".repeat(64 - overhead), qos);
        publisher.publish("t", &"y".repeat(65 - overhead), qos);
        publisher.publish("t", "small", qos);
    }
    let texts = ["x".repeat(64 - overhead), "small".into()];
    client.expect_texts(&[&texts[0], "small", &texts[0], "small"]);
    // An answer that would be too large is not sent; the subscription holds.
    let filters: Vec<String> = (0..70).map(|i| format!("f/{i}")).collect();
    let requests: Vec<(&str, SubscriptionOptions)> =
        filters.iter().map(|filter| (filter.as_str(), at(0))).collect();
    client.send_subscribe(&requests, &[]);
    client.settle();
    publisher.publish("f/69", "x", 0);
    client.expect_texts(&["x"]);
    // What waited for it, too.
    client.cut();
    publisher.publish("t", &"y".repeat(100), 1);
    publisher.publish("t", "z", 1);
    scene.reconnect(&id("c").kept().packet_size_max(64), true).expect_texts(&["z"]);
}

fn a_message_that_is_too_large_counts_as_delivered(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    let options = || id("c").kept().packet_size_max(64).receive_maximum(1);
    let mut client = scene.connect_with(&options());
    client.subscribe("t", 2);
    for qos in 0..3 {
        // The quota is not used up by what is dropped.
        for _ in 0..3 {
            publisher.publish("t", &"y".repeat(100), qos);
        }
        publisher.publish("t", "small", qos);
        client.expect_texts(&["small"]);
    }
    // What was in flight may be too large for the next connection.
    client.cut();
    let mut client = scene.reconnect(&id("c").kept(), true);
    for qos in [1, 2] {
        publisher.publish("t", &"y".repeat(100), qos);
        client.expect_message();
    }
    client.cut();
    publisher.publish("t", "small", 2);
    let mut client = scene.reconnect(&options(), true);
    client.expect_texts(&["small"]);
    client.cut();
    scene.reconnect(&id("c").kept(), true).expect_silence();
}

/// No answer is larger than the form that carries its code alone; the reader checks every packet.
fn small_packets_carry_no_reason_string(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    let mut client = scene.connect_with(&id("c").packet_size_max(40));
    assert_eq!(client.publish_message(&message("denied/t", "x").qos(1)), 0x87);
    assert_eq!(client.publish_message(&message("denied/t", "x").qos(2)), 0x87);
    assert_eq!(client.subscribe_all(&[("denied/t", at(1)), ("t", at(2))], &[]), [0x87, 2]);
    publisher.publish("t", "x", 2);
    client.expect_texts(&["x"]);
    assert_eq!(client.unsubscribe(&["t", "denied/t"]), [0, 0x11]);
    client.pubrec(99);
    assert_eq!(client.expect_pubrel(99), 0x92);
    client.pubrel(99);
    assert_eq!(client.expect_pubcomp(99), 0x92);
    client.write(&[0xD0, 0]);
    let properties = client.expect_disconnect(ReasonCode::ProtocolError);
    assert!(properties.is_empty());
}

fn a_small_maximum_keeps_connack_small(scene: &mut Scene) {
    // Whatever the maximum: a CONNACK within it, or a close without one.
    for maximum in 1..80 {
        let mut client = scene.try_connect(&id("c").packet_size_max(maximum));
        match client.poll() {
            Some(Received::ConnAck(connack)) => assert_eq!(connack.code, 0),
            None => client.expect_end(),
            Some(other) => panic!("{other:?}"),
        }
        // A refusal needs five bytes.
        let mut refused = scene.try_connect(&id(&"x".repeat(2_000)).packet_size_max(maximum));
        if maximum >= 5 {
            refused.expect_refusal(ReasonCode::ClientIdentifierNotValid);
        } else {
            refused.expect_end();
        }
    }
}

fn no_problem_information_where_none_is_wanted(scene: &mut Scene) {
    // The reader refuses it in all packets but PUBLISH, CONNACK and DISCONNECT.
    let quiet = id("c").properties(|w| w.u8(PropertyId::RequestProblemInformation, 0));
    let mut client = scene.connect_with(&quiet);
    assert_eq!(client.publish_message(&message("denied/t", "x").qos(1)), 0x87);
    assert_eq!(client.publish_message(&message("denied/t", "x").qos(2)), 0x87);
    assert_eq!(
        client.subscribe_all(&[("denied/t", at(1)), ("a#", at(0)), ("t", at(0))], &[]),
        [0x87, 0x8F, 0]
    );
    assert_eq!(client.unsubscribe(&["nothing"]), [0x11]);
    client.pubrel(99);
    assert_eq!(client.expect_pubcomp(99), 0x92);
    // The publisher's own user properties are passed on.
    client.publish_message(&message("t", "x").properties(|w| w.user_property("a", "b")));
    assert_eq!(client.expect_message().properties.pairs(), [("a", "b")]);
}

fn the_brokers_maximum_packet_size_is_told_and_held(scene: &mut Scene) {
    let mut client = scene.try_connect(&id("c"));
    assert_eq!(client.expect_connack_number(PropertyId::MaximumPacketSize), Some(1_000));
    let overhead = 3 + 2 + scene.topic("t").len() + 1;
    client.subscribe("t", 0);
    client.publish("t", &"x".repeat(1_000 - overhead), 0);
    assert_eq!(client.expect_message().payload.len(), 1_000 - overhead);
    client.send_publish(&message("t", "x".repeat(1_001 - overhead)));
    client.expect_disconnect(ReasonCode::PacketTooLarge);
    // The header alone decides: the body need not come.
    scene.expect_faulty(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], ReasonCode::PacketTooLarge);
}

fn a_packet_above_the_maximum_closes_3_x(scene: &mut Scene) {
    let mut client = scene.connect("c");
    client.send_publish(&message("t", "x".repeat(1_000)));
    client.expect_end();
    scene.expect_faulty(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F], ReasonCode::PacketTooLarge);
}
