//! PUBLISH: header, topic, retained messages, overlapping subscriptions (3.3).

use super::prelude::*;

pub fn cases() -> Vec<Case> {
    vec![
        case!(dup_says_repeated_and_nothing_else).v5("3.3.1-1 3.3.1-3").v311("3.3.1-1 3.3.1-3"),
        case!(dup_is_zero_when_qos_is_zero).v5("3.3.1-2 4.3.1-1").v311("3.3.1-2 4.3.1-1"),
        case!(qos_3_is_malformed).v5("3.3.1-4").v311("3.3.1-4"),
        case!(the_answer_fits_the_qos).v5("3.3.4-1 4.3.2-4 4.3.3-8").v311("3.3.4-1 4.3.2-2 4.3.3-2"),
        case!(wildcards_are_for_filters_only).v5("3.3.2-2 4.7.0-1").v311("3.3.2-2 4.7.1-1"),
        case!(what_arrives_matches_the_filter).v5("3.3.2-3 4.5.0-1").v311("3.3.2-3 4.5.0-1"),
        case!(overlapping_subscriptions_give_the_highest_qos).v5("3.3.4-2").v311("3.3.5-1"),
        case!(one_copy_carries_all_identifiers).v5("3.3.4-3 3.3.4-4"),
        case!(several_copies_carry_their_own_identifiers)
            .v5("3.3.4-2 3.3.4-3 3.3.4-5")
            .with(&[Set::OverlapPerSubscription]),
        case!(a_client_sends_no_subscription_identifier).v5("3.3.4-6"),
        case!(a_denied_publish_is_acknowledged_and_dropped)
            .v5("3.4.2-1 3.5.2-1 4.3.3-9")
            .v311("3.3.5-2")
            .with(&[Set::DeniedLevel]),
        case!(a_denied_publish_may_close).v311("3.3.5-2").with(&[Set::DeniedLevel, Set::DeniedPublishCloses]),
        case!(a_full_retained_store_is_told)
            .v5("3.4.2-1 3.5.2-1")
            .v311("4.8.0-2")
            .with(&[Set::RetainedCountMax(0)]),
        case!(a_payload_that_is_no_utf8_is_refused_where_it_is_checked)
            .v5("3.4.2-1 3.5.2-1 4.13.1-1")
            .with(&[Set::PayloadFormatChecked]),
        case!(truncated_publishes_are_malformed).v5("4.13.1-1 4.13.2-1").v311("4.8.0-1"),
        case!(a_fault_of_one_client_leaves_the_others).v5("4.13.1-1").v311("4.8.0-1"),
        case!(every_matching_session_gets_the_message).v5("4.5.0-1").v311("4.5.0-1"),
    ]
}

fn dup_says_repeated_and_nothing_else(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    let mut client = scene.connect_with(&id("c").kept());
    client.subscribe("t", 2);
    for qos in [1, 2] {
        // The DUP of the publisher is not passed on.
        publisher.publish_message(&message("t", "x").qos(qos).dup());
        let first = client.expect_message();
        assert_eq!((first.qos, first.dup), (qos, false));
        client.cut();
        client = scene.reconnect(&id("c").kept(), true);
        let again = client.expect_message();
        assert_eq!((again.packet_id, again.dup, again.text()), (first.packet_id, true, "x"));
        client.acknowledge(&again);
        client.expect_silence();
    }
}

fn dup_is_zero_when_qos_is_zero(scene: &mut Scene) {
    let mut client = scene.subscriber("c", "t", 0);
    for qos in 0..3 {
        client.publish("t", "x", qos);
        let found = client.expect_message();
        assert_eq!((found.qos, found.dup), (0, false));
    }
    let bytes = wire::publish(scene.version, 0x38, scene.topic("t"), None, &[], "x");
    scene.expect_faulty(&bytes, ReasonCode::MalformedPacket);
}

fn qos_3_is_malformed(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "t", 2);
    for first in [0x36, 0x37, 0x3E, 0x3F] {
        let bytes = wire::publish(scene.version, first, scene.topic("t"), Some(1), &[], "x");
        scene.expect_faulty(&bytes, ReasonCode::MalformedPacket);
    }
    watcher.expect_silence();
}

fn the_answer_fits_the_qos(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "t", 0);
    let mut client = scene.connect("c");
    client.send_publish(&message("t", "0"));
    client.expect_silence();
    client.send_publish(&message("t", "1").qos(1).packet_id(5));
    client.expect_bytes(&wire::ack(0x40, 5));
    client.expect_silence();
    client.send_publish(&message("t", "2").qos(2).packet_id(6));
    client.expect_bytes(&wire::ack(0x50, 6));
    client.expect_silence();
    client.pubrel(6);
    client.expect_bytes(&wire::ack(0x70, 6));
    client.expect_silence();
    watcher.expect_texts(&["0", "1", "2"]);
    // Nobody interested: the answer is the same, 5 may say so.
    client.send_publish(&message("nobody", "1").qos(1).packet_id(5));
    let code = client.expect_puback(5);
    assert!(code == 0 || scene.is_v5() && code == 0x10, "{code:02x}");
}

fn wildcards_are_for_filters_only(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "a/#", 0);
    for topic in ["a/+", "a/#", "a/b+", "a/#/b", "a/+/b"] {
        let bytes = wire::publish(scene.version, 0x30, scene.topic(topic), None, &[], "x");
        scene.expect_faulty(&bytes, ReasonCode::TopicNameInvalid);
    }
    watcher.expect_silence();
}

fn what_arrives_matches_the_filter(scene: &mut Scene) {
    let table: &[(&str, &[&str], &[&str])] = &[
        (
            "sport/tennis/player1/#",
            &["sport/tennis/player1", "sport/tennis/player1/ranking"],
            &["sport/tennis"],
        ),
        ("sport/tennis/+", &["sport/tennis/player1", "sport/tennis/"], &["sport/tennis/player1/ranking"]),
        ("sport/+", &["sport/"], &["sport", "sport/a/b"]),
        ("a/+/+/b", &["a///b", "a/x/y/b"], &["a//b", "a/x/b"]),
        ("+/b", &["a/b", "/b"], &["a/a/b", "b"]),
        ("a/b", &["a/b"], &["a/b/", "/a/b", "a/B", "a//b", "a"]),
        ("a/+/#", &["a/b", "a/b/c", "a/"], &["a"]),
        ("/", &["/"], &["//", "a/"]),
    ];
    let mut publisher = scene.connect("p");
    for (filter, matching, others) in table {
        let mut client = scene.connect("c");
        client.subscribe(filter, 0);
        for topic in others.iter().chain(*matching) {
            publisher.publish(topic, topic, 0);
        }
        client.expect_texts(matching);
    }
}

fn overlapping_subscriptions_give_the_highest_qos(scene: &mut Scene) {
    let mut client = scene.connect("c");
    let options = [("a/#", at(0)), ("a/+", at(2)), ("a/b", at(1))];
    assert_eq!(client.subscribe_all(&options, &[]), [0, 2, 1]);
    let mut publisher = scene.connect("p");
    for qos in 0..3 {
        publisher.publish("a/b", "x", qos);
        let found = client.expect_message();
        assert_eq!((found.text(), found.qos), ("x", qos));
        client.acknowledge(&found);
        // One copy, by default.
        client.expect_silence();
    }
}

fn identifier(number: u32) -> Vec<u8> {
    properties(|w| w.varint(PropertyId::SubscriptionIdentifier, number))
}

fn one_copy_carries_all_identifiers(scene: &mut Scene) {
    let mut client = scene.connect("c");
    client.subscribe_all(&[("a/#", at(0))], &identifier(1));
    client.subscribe_all(&[("a/+", at(2))], &identifier(268_435_455));
    client.subscribe_all(&[("a/b", at(1))], &[]);
    client.subscribe_all(&[("+/b", at(1))], &identifier(1));
    let mut publisher = scene.connect("p");
    publisher.publish("a/b", "x", 2);
    let found = client.expect_message();
    let mut numbers = found.properties.numbers(PropertyId::SubscriptionIdentifier);
    numbers.sort_unstable();
    assert_eq!((numbers, found.qos), (vec![1, 1, 268_435_455], 2));
    client.acknowledge(&found);
    client.expect_silence();
    // A filter that does not match adds nothing.
    publisher.publish("a/c", "y", 0);
    let mut numbers = client.expect_message().properties.numbers(PropertyId::SubscriptionIdentifier);
    numbers.sort_unstable();
    assert_eq!(numbers, [1, 268_435_455]);
    // A subscription without identifier alone: none.
    publisher.publish("a/b", "z", 0);
    client.expect_message();
    let mut other = scene.subscriber("o", "a/b", 0);
    publisher.publish("a/b", "x", 0);
    assert!(!other.expect_message().properties.has(PropertyId::SubscriptionIdentifier));
}

fn several_copies_carry_their_own_identifiers(scene: &mut Scene) {
    let mut client = scene.connect("c");
    client.subscribe_all(&[("a/#", at(0))], &identifier(1));
    client.subscribe_all(&[("a/+", at(2))], &identifier(2));
    client.subscribe_all(&[("a/b", at(1))], &[]);
    let mut publisher = scene.connect("p");
    publisher.publish("a/b", "x", 2);
    let found = client.take_messages();
    let mut copies: Vec<(u8, Vec<u32>)> = found
        .iter()
        .map(|copy| (copy.qos, copy.properties.numbers(PropertyId::SubscriptionIdentifier)))
        .collect();
    copies.sort();
    assert_eq!(copies, [(0, vec![1]), (1, vec![]), (2, vec![2])]);
}

fn a_client_sends_no_subscription_identifier(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "t", 0);
    let bytes = wire::publish(Version::V5, 0x30, scene.topic("t"), None, &identifier(1), "x");
    scene.expect_faulty(&bytes, ReasonCode::ProtocolError);
    watcher.expect_silence();
}

fn a_denied_publish_is_acknowledged_and_dropped(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "open/#", 1);
    let mut client = scene.connect("c");
    let denied = if scene.is_v5() { ReasonCode::NotAuthorized as u8 } else { 0 };
    for qos in [0, 1, 2] {
        let code = client.publish_message(&message("denied/t", "x").qos(qos).retain().packet_id(5));
        assert_eq!(code, if qos == 0 { 0 } else { denied });
    }
    // The identifier of the refused one is free: the next is a new message.
    client.publish_message(&message("open/t", "x").qos(2).packet_id(5));
    watcher.expect_texts(&["x"]);
    // Nothing was retained, and nobody may look either.
    let code = if scene.is_v5() { ReasonCode::NotAuthorized as u8 } else { 0x80 };
    assert_eq!(watcher.subscribe_all(&[("denied/t", at(1))], &[]), [code]);
    watcher.expect_silence();
}

fn a_denied_publish_may_close(scene: &mut Scene) {
    for qos in [0u8, 1, 2] {
        let mut client = scene.connect("c");
        client.send_publish(&message("denied/t", "x").qos(qos));
        client.expect_end();
    }
}

fn a_full_retained_store_is_told(scene: &mut Scene) {
    let mut client = scene.connect("c");
    client.subscribe("t", 1);
    client.expect_silence();
    for qos in [0, 1, 2] {
        let code = client.publish_message(&message("t", "x").qos(qos).retain());
        // Where the message has another owner the publisher is not told; what holds is that nothing is retained.
        let full = ReasonCode::QuotaExceeded as u8;
        assert!(code == 0 || scene.is_v5() && code == full, "{code:02x}");
        assert!(qos == 0 || scene.shards() > 1 || !scene.is_v5() || code == full);
        client.take_messages();
    }
    scene.subscriber("s", "t", 1).expect_silence();
}

fn a_payload_that_is_no_utf8_is_refused_where_it_is_checked(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "t", 2);
    let marked =
        |payload: &[u8]| message("t", payload).properties(|w| w.u8(PropertyId::PayloadFormatIndicator, 1));
    let mut client = scene.connect("c");
    for qos in [1, 2] {
        let code = client.publish_message(&marked(b"\xFF").qos(qos));
        assert_eq!(code, ReasonCode::PayloadFormatInvalid as u8);
    }
    client.send_publish(&marked(b"\xFF"));
    client.expect_disconnect(ReasonCode::PayloadFormatInvalid);
    watcher.expect_silence();
    let mut client = scene.connect("c");
    client.publish_message(&marked("é".as_bytes()).qos(1));
    // Not marked: bytes are bytes.
    client.publish_message(&message("t", b"\xFF").qos(1));
    assert_eq!(watcher.take_messages().len(), 2);
}

fn truncated_publishes_are_malformed(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "#", 2);
    let topic = scene.topic("t");
    let whole = wire::publish(scene.version, 0x34, &topic, Some(5), &[0x01, 1], "");
    // Every body that ends before the payload begins.
    for len in 0..whole.len() - 2 {
        let cut = wire::packet(0x34, &whole[2..2 + len]);
        let mut client = scene.connect("c");
        client.write(&cut);
        client.expect_fault(ReasonCode::MalformedPacket);
    }
    watcher.expect_silence();
}

fn a_fault_of_one_client_leaves_the_others(scene: &mut Scene) {
    let mut others = [scene.connect("a"), scene.connect("b"), scene.connect("c")];
    others[0].subscribe("t", 1);
    for bytes in [&[0x00u8, 0][..], &[0xFF; 64], &[0x30, 0xFF, 0xFF, 0xFF, 0xFF]] {
        scene.expect_faulty(bytes, ReasonCode::MalformedPacket);
        // Before CONNECT too.
        let mut peer = scene.open();
        peer.write(bytes);
        peer.expect_end();
    }
    others[1].publish("t", "x", 1);
    others[0].expect_texts(&["x"]);
    others.iter_mut().for_each(Peer::ping);
}

fn every_matching_session_gets_the_message(scene: &mut Scene) {
    // Live and stored ones of all versions, on all shards.
    let versions = [Version::V31, Version::V311, Version::V5];
    let name = |i: usize, kind: &str| format!("{kind}{i}");
    let mut live: Vec<Peer> = vec![];
    for i in 0..6 {
        let version = versions[i % 3];
        let mut client = scene.connect_with(&id(&name(i, "live")).version(version));
        client.subscribe(["t", "+", "#"][i / 2], 1);
        live.push(client);
        let mut stored = scene.connect_with(&id(&name(i, "stored")).version(version).kept());
        stored.subscribe(["t", "+", "#"][i / 2], 1);
        stored.cut();
    }
    let mut publisher = scene.connect("p");
    publisher.publish("t", "x", 1);
    publisher.publish("t", "y", 2);
    for client in &mut live {
        client.expect_texts(&["x", "y"]);
    }
    for i in 0..6 {
        let mut client = scene.reconnect(&id(&name(i, "stored")).version(versions[i % 3]).kept(), true);
        client.expect_texts(&["x", "y"]);
    }
}
