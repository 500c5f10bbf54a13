//! HC-PUB: what a client publishes, and its acknowledgements in both directions.

use shard::DropReason;

use crate::suite::prelude::*;

pub fn cases() -> Vec<Case> {
    vec![
        case!(publishes_that_are_none).hard("HC-PUB-1"),
        case!(topics_beyond_the_bounds).hard("HC-PUB-1").alone(),
        case!(acks_in_order_of_arrival).hard("HC-PUB-2"),
        case!(qos_2_again_before_pubrel).hard("HC-PUB-3"),
        case!(qos_2_again_after_pubrel).hard("HC-PUB-4"),
        case!(acks_for_unknown_ids).hard("HC-PUB-5"),
        case!(acks_of_the_wrong_kind).hard("HC-PUB-6"),
        case!(pubrec_with_an_error).hard("HC-PUB-7").versions(ONLY_V5),
        case!(refused_qos_2_leaves_no_trace)
            .hard("HC-PUB-8")
            .versions(ONLY_V5)
            .with(&[Set::DeniedLevel, Set::PayloadFormatChecked]),
        case!(refused_for_quota_leaves_no_trace)
            .hard("HC-PUB-8")
            .versions(ONLY_V5)
            .core_with("sets a publish rate", |config| {
                config.client_publish_rate = shard::RateLimit::parse("1:1000").ok()
            }),
        case!(receive_maximum_of_the_server)
            .hard("HC-PUB-9")
            .versions(ONLY_V5)
            .with(&[Set::ReceiveMaximum(5)]),
        case!(receive_maximum_counts_what_storage_holds_back)
            .hard("HC-PUB-9")
            .versions(ONLY_V5)
            .with(&[Set::ReceiveMaximum(5)])
            .core_with("holds the storage back", |config| config.durability = shard::Durability::Stored),
        case!(nobody_gets_it).hard("HC-PUB-10").versions(ONLY_V5),
        case!(above_the_maximum_qos).hard("HC-PUB-11").versions(ONLY_V5).with(&[Set::MaximumQos(1)]),
        case!(retained_where_nothing_is).hard("HC-PUB-11").versions(ONLY_V5).with(&[Set::RetainUnavailable]),
        case!(payload_format_checked).hard("HC-PUB-12").versions(ONLY_V5).with(&[Set::PayloadFormatChecked]),
        case!(payload_format_passes).hard("HC-PUB-12").versions(ONLY_V5),
        case!(aliases_in)
            .hard("HC-PUB-13")
            .versions(ONLY_V5)
            .with(&[Set::TopicAliasMax(3), Set::DeniedLevel]),
        case!(aliases_out).hard("HC-PUB-14").versions(ONLY_V5),
        case!(aliases_out_of_a_slow_reader).hard("HC-PUB-14").versions(ONLY_V5).core_only("stops a reader"),
        case!(subscription_identifier_of_a_client).hard("HC-PUB-15").versions(ONLY_V5),
        case!(response_topic_with_wildcard).hard("HC-PUB-16").versions(ONLY_V5),
        case!(properties_are_forwarded).hard("HC-PUB-17").versions(ONLY_V5),
        case!(message_expiry).hard("HC-PUB-18").versions(ONLY_V5).core_only("counts time exactly"),
        case!(payload_sizes).hard("HC-PUB-19").with(&[Set::PacketSizeMax(1000)]),
        case!(larger_than_the_subscriber_takes).hard("HC-PUB-20").versions(ONLY_V5),
        case!(acks_out_of_order_free_places).hard("HC-PUB-21").with(&[Set::InflightMax(10)]),
        case!(ids_do_not_collide_at_the_wrap)
            .hard("HC-PUB-21")
            .with(&[Set::InflightMax(10)])
            .core_only("needs 66,000 deliveries"),
        case!(receive_maximum_shrinks).hard("HC-PUB-22"),
        case!(qos_0_passes_a_full_window).hard("HC-PUB-23").with(&[Set::InflightMax(2)]),
        case!(publisher_that_does_not_read).hard("HC-PUB-24"),
        case!(order_within_each_qos).hard("HC-PUB-25").with(&[Set::InflightMax(1)]),
        case!(retransmission_on_a_live_connection).hard("HC-PUB-26"),
        case!(denied_publish_of_3).hard("HC-PUB-27").versions(V3).with(&[Set::DeniedLevel]),
        case!(denied_publish_of_3_closes)
            .hard("HC-PUB-27")
            .versions(V3)
            .with(&[Set::DeniedLevel, Set::DeniedPublishCloses]),
    ]
}

fn publishes_that_are_none(scene: &mut Scene) {
    let mut watcher = scene.subscriber("watcher", "#", 2);
    let version = scene.version;
    let topic = scene.topic("t");
    let publish = |first, topic: &str, id| wire::publish(version, first, topic, id, &[], "m");
    let table = [
        (ReasonCode::MalformedPacket, publish(0x36, &topic, Some(1))),
        (ReasonCode::MalformedPacket, publish(0x3E, &topic, Some(1))),
        (ReasonCode::MalformedPacket, publish(0x38, &topic, None)),
        (ReasonCode::ProtocolError, publish(0x32, &topic, Some(0))),
        (ReasonCode::ProtocolError, publish(0x34, &topic, Some(0))),
        (ReasonCode::ProtocolError, publish(0x30, "", None)),
        (ReasonCode::TopicNameInvalid, publish(0x32, &scene.topic("a/+/b"), Some(1))),
        (ReasonCode::TopicNameInvalid, publish(0x30, &scene.topic("a/#"), None)),
        (ReasonCode::TopicNameInvalid, publish(0x30, &scene.topic("a+b"), None)),
        (ReasonCode::MalformedPacket, publish(0x30, &scene.topic("a\0b"), None)),
    ];
    for (code, bytes) in table {
        scene.expect_faulty(&bytes, code);
    }
    watcher.expect_silence();
}

fn topics_beyond_the_bounds(scene: &mut Scene) {
    let mut watcher = scene.subscriber("watcher", "#", 0);
    let longest = "x".repeat(4096);
    let deepest = vec!["d"; 128].join("/");
    let mut publisher = scene.connect("publisher");
    publisher.publish(&longest, "longest", 1);
    publisher.publish(&deepest, "deepest", 1);
    watcher.expect_texts(&["longest", "deepest"]);
    for topic in [longest + "x", deepest + "/d", "/".repeat(200)] {
        let bytes = wire::publish(scene.version, 0x32, topic, Some(1), &[], "m");
        scene.expect_faulty(&bytes, ReasonCode::TopicNameInvalid);
    }
    watcher.expect_silence();
}

fn acks_in_order_of_arrival(scene: &mut Scene) {
    let mut watcher = scene.subscriber("watcher", "t", 2);
    let ids = [(5, 1), (3, 2), (65_535, 1), (1, 2), (40_000, 1), (2, 1), (9, 2), (65_534, 2)];
    let mut publisher = scene.connect("publisher");
    let mut bytes = vec![];
    for (packet_id, qos) in ids {
        let payload = packet_id.to_string();
        let first = 0x30 | qos << 1;
        bytes.extend(wire::publish(scene.version, first, scene.topic("t"), Some(packet_id), &[], payload));
    }
    publisher.write(&bytes);
    for (packet_id, qos) in ids {
        match (qos, publisher.expect_packet()) {
            (1, Received::PubAck(ack)) | (2, Received::PubRec(ack)) => assert_eq!(ack.packet_id, packet_id),
            (_, other) => panic!("{other:?} in place of the ack for {packet_id}"),
        }
    }
    let texts: Vec<String> = watcher.take_messages().iter().map(|m| m.text().to_owned()).collect();
    let expected: Vec<String> = ids.iter().map(|(packet_id, _)| packet_id.to_string()).collect();
    assert_eq!(texts, expected);
}

fn qos_2_again_before_pubrel(scene: &mut Scene) {
    let mut watcher = scene.subscriber("watcher", "t", 2);
    let mut publisher = scene.connect("publisher");
    let outgoing = message("t", "once").qos(2).packet_id(5);
    for again in [outgoing.clone(), outgoing.clone(), outgoing.dup()] {
        publisher.send_publish(&again);
        assert_eq!(publisher.expect_pubrec(5), 0);
    }
    publisher.pubrel(5);
    assert_eq!(publisher.expect_pubcomp(5), 0);
    watcher.expect_texts(&["once"]);
}

fn qos_2_again_after_pubrel(scene: &mut Scene) {
    let mut watcher = scene.subscriber("watcher", "t", 2);
    let mut publisher = scene.connect("publisher");
    publisher.publish_message(&message("t", "first").qos(2).packet_id(5));
    publisher.publish_message(&message("t", "second").qos(2).packet_id(5).dup());
    watcher.expect_texts(&["first", "second"]);
}

fn acks_for_unknown_ids(scene: &mut Scene) {
    let mut peer = scene.connect("c");
    let not_found = if scene.is_v5() { ReasonCode::PacketIdentifierNotFound as u8 } else { 0 };
    for packet_id in [1, 7, 65_535] {
        peer.pubrel(packet_id);
        assert_eq!(peer.expect_pubcomp(packet_id), not_found);
        peer.pubrec(packet_id);
        assert_eq!(peer.expect_pubrel(packet_id), not_found);
        peer.puback(packet_id);
        peer.pubcomp(packet_id);
        peer.expect_silence();
    }
    peer.ping();
}

fn acks_of_the_wrong_kind(scene: &mut Scene) {
    let mut publisher = scene.connect("publisher");
    type Answer = fn(&mut Peer, u16);
    let wrong: [(u8, Answer); 4] = [
        (2, |peer, id| peer.puback(id)),
        (1, |peer, id| peer.pubrec(id)),
        (1, |peer, id| peer.pubcomp(id)),
        (2, |peer, id| peer.pubcomp(id)),
    ];
    for (qos, answer) in wrong {
        let mut peer = scene.reconnect(&id("c").kept(), false);
        peer.subscribe("t", 2);
        publisher.publish("t", "m", qos);
        let sent = peer.expect_message();
        answer(&mut peer, sent.packet_id);
        peer.expect_fault(ReasonCode::ProtocolError);
        let mut peer = scene.reconnect(&id("c").kept(), true);
        let again = peer.expect_message();
        assert_eq!(again, Message { dup: true, ..sent });
        peer.acknowledge(&again);
        peer.disconnect();
        scene.connect("c").disconnect();
    }
}

fn pubrec_with_an_error(scene: &mut Scene) {
    let mut publisher = scene.connect("publisher");
    let mut peer = scene.connect_with(&id("c").receive_maximum(1));
    peer.subscribe("t", 2);
    for code in [0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99] {
        publisher.publish("t", "refused", 2);
        publisher.publish("t", "next", 2);
        let refused = peer.expect_message();
        peer.expect_silence();
        peer.write(&wire::ack_with(0x50, refused.packet_id, code));
        // The window of one is free at once, without PUBREL.
        peer.expect_texts(&["next"]);
        // And the id is unknown from now on.
        peer.write(&wire::ack(0x50, refused.packet_id));
        assert_eq!(peer.expect_pubrel(refused.packet_id), ReasonCode::PacketIdentifierNotFound as u8);
    }
}

/// A QoS 2 PUBLISH is refused with `code`, and its id is free at once.
fn refused_then_free(publisher: &mut Peer, bytes: &[u8], code: ReasonCode) {
    for _ in 0..2 {
        publisher.write(bytes);
        assert_eq!(publisher.expect_pubrec(9), code as u8);
    }
    publisher.pubrel(9);
    assert_eq!(publisher.expect_pubcomp(9), ReasonCode::PacketIdentifierNotFound as u8);
}

fn refused_qos_2_leaves_no_trace(scene: &mut Scene) {
    let mut watcher = scene.subscriber("watcher", "t", 2);
    let mut publisher = scene.connect("publisher");
    let publish = |topic: &str, properties: &[u8], payload: &[u8]| {
        wire::publish(Version::V5, 0x34, topic, Some(9), properties, payload)
    };
    let is_text = properties(|w| w.u8(PropertyId::PayloadFormatIndicator, 1));
    let table = [
        (ReasonCode::NotAuthorized, publish(&scene.topic("denied/t"), &[], b"m")),
        (ReasonCode::TopicNameInvalid, publish("$SYS/broker", &[], b"m")),
        (ReasonCode::PayloadFormatInvalid, publish(&scene.topic("t"), &is_text, b"\xFF")),
    ];
    for (code, bytes) in table {
        refused_then_free(&mut publisher, &bytes, code);
        publisher.publish_message(&message("t", "new").qos(2).packet_id(9));
        watcher.expect_texts(&["new"]);
    }
}

fn refused_for_quota_leaves_no_trace(scene: &mut Scene) {
    let mut watcher = scene.subscriber("watcher", "t", 2);
    let mut publisher = scene.connect("publisher");
    publisher.publish("t", "within", 0);
    let bytes = wire::publish(Version::V5, 0x34, "t", Some(9), &[], "m");
    refused_then_free(&mut publisher, &bytes, ReasonCode::QuotaExceeded);
    scene.pass(1_001_000);
    let mut publisher = scene.connect("publisher");
    publisher.publish_message(&message("t", "new").qos(2).packet_id(9));
    watcher.take_packets();
}

/// That many PUBLISHes with ascending ids from 1 on, in one piece.
fn many(scene: &Scene, qos: u8, count: u16) -> Vec<u8> {
    let publish = |packet_id| {
        wire::publish(scene.version, 0x30 | qos << 1, scene.topic("t"), Some(packet_id), &[], "m")
    };
    (1..=count).flat_map(publish).collect()
}

fn receive_maximum_of_the_server(scene: &mut Scene) {
    let mut publisher = scene.try_connect(&id("publisher"));
    assert_eq!(publisher.expect_connack_number(PropertyId::ReceiveMaximum), Some(5));
    publisher.write(&many(scene, 2, 5));
    for packet_id in 1..=5 {
        publisher.expect_pubrec(packet_id);
    }
    // Again the same ones: nothing new.
    publisher.write(&many(scene, 2, 5));
    for packet_id in 1..=5 {
        publisher.expect_pubrec(packet_id);
    }
    publisher.pubrel(3);
    publisher.expect_pubcomp(3);
    publisher.send_publish(&message("t", "m").qos(2).packet_id(6));
    publisher.expect_pubrec(6);
    publisher.send_publish(&message("t", "m").qos(2).packet_id(7));
    publisher.expect_disconnect(ReasonCode::ReceiveMaximumExceeded);

    let mut publisher = scene.connect("publisher");
    publisher.write(&many(scene, 2, 6));
    for packet_id in 1..=5 {
        publisher.expect_pubrec(packet_id);
    }
    publisher.expect_disconnect(ReasonCode::ReceiveMaximumExceeded);

    // QoS 1 is free as soon as its PUBACK is written, read or not.
    let mut publisher = scene.connect("publisher");
    publisher.write(&many(scene, 1, 50));
    for packet_id in 1..=50 {
        publisher.expect_puback(packet_id);
    }
}

fn receive_maximum_counts_what_storage_holds_back(scene: &mut Scene) {
    let mut keeper = scene.reconnect(&id("keeper").kept(), false);
    keeper.subscribe("t", 1);
    let mut publisher = scene.connect("publisher");
    scene.core(|core| core.hold_storage(true));
    publisher.write(&many(scene, 1, 5));
    publisher.expect_silence();
    scene.core(|core| core.hold_storage(false));
    publisher.send_publish(&message("t", "m").qos(1).packet_id(9));
    (1..=5).for_each(|packet_id| assert_eq!(publisher.expect_puback(packet_id), 0));
    publisher.expect_puback(9);
    scene.core(|core| core.hold_storage(true));
    publisher.write(&many(scene, 1, 6));
    publisher.expect_disconnect(ReasonCode::ReceiveMaximumExceeded);
}

fn nobody_gets_it(scene: &mut Scene) {
    let nobody = ReasonCode::NoMatchingSubscribers as u8;
    let mut publisher = scene.reconnect(&id("publisher").kept(), false);
    for qos in [1, 2] {
        assert_eq!(publisher.publish("t", "m", qos), nobody);
    }
    publisher.subscribe_with("t", SubscriptionOptions { no_local: true, ..at(1) });
    for qos in [1, 2] {
        assert_eq!(publisher.publish("t", "m", qos), nobody);
    }
    publisher.expect_silence();
    publisher.unsubscribe(&["t"]);
    // A session on the same shard keeps only what has not expired; of another shard the publisher knows the route.
    publisher.subscribe("own", 1);
    let mut other = scene.reconnect(&id("other").kept(), false);
    other.subscribe("t", 1);
    other.cut();
    let code = publisher.publish_message(&message("t", "fleeting").qos(1).expiry(0));
    let is_on_one_shard = scene.shards() == 1;
    assert!(code == nobody || !is_on_one_shard, "{code}");
    assert_eq!(publisher.publish("t", "queued", 1), 0);
    scene.reconnect(&id("other").kept(), true).expect_texts(&["queued"]);
}

fn above_the_maximum_qos(scene: &mut Scene) {
    let mut peer = scene.try_connect(&id("c"));
    assert_eq!(peer.expect_connack_number(PropertyId::MaximumQoS), Some(1));
    peer.send_publish(&message("t", "m").qos(2));
    peer.expect_disconnect(ReasonCode::QoSNotSupported);
    // Subscriptions get what there is.
    let mut peer = scene.connect("c");
    assert_eq!(peer.subscribe_all(&[("t", at(2))], &[]), [1]);
}

fn retained_where_nothing_is(scene: &mut Scene) {
    for qos in [0, 1, 2] {
        let mut peer = scene.connect("c");
        peer.send_publish(&message("t", "m").qos(qos).retain());
        peer.expect_disconnect(ReasonCode::RetainNotSupported);
    }
}

/// Marked as text, and none.
fn no_text(qos: u8) -> crate::suite::options::Outgoing {
    message("t", b"\xFF\xFE").qos(qos).properties(|w| w.u8(PropertyId::PayloadFormatIndicator, 1))
}

fn payload_format_checked(scene: &mut Scene) {
    let mut watcher = scene.subscriber("watcher", "t", 2);
    let mut publisher = scene.connect("publisher");
    for qos in [1, 2] {
        assert_eq!(publisher.publish_message(&no_text(qos)), ReasonCode::PayloadFormatInvalid as u8);
    }
    publisher.send_publish(&no_text(0));
    publisher.expect_disconnect(ReasonCode::PayloadFormatInvalid);
    watcher.expect_silence();
}

fn payload_format_passes(scene: &mut Scene) {
    let mut watcher = scene.subscriber("watcher", "t", 2);
    let mut publisher = scene.connect("publisher");
    for qos in [0, 1, 2] {
        assert_eq!(publisher.publish_message(&no_text(qos)), 0);
        let message = watcher.expect_message();
        assert_eq!(message.payload, b"\xFF\xFE");
        assert_eq!(message.properties.number(PropertyId::PayloadFormatIndicator), Some(1));
        watcher.acknowledge(&message);
    }
}

fn aliases_in(scene: &mut Scene) {
    let mut watcher = scene.subscriber("watcher", "one", 1);
    watcher.subscribe("two", 1);
    let faults = [
        (message("t", "m").alias(0), ReasonCode::TopicAliasInvalid),
        (message("t", "m").alias(4), ReasonCode::TopicAliasInvalid),
        (message("t", "m").alias(65_535), ReasonCode::TopicAliasInvalid),
        (message("", "m").alias(4), ReasonCode::TopicAliasInvalid),
        (message("", "m").alias(3), ReasonCode::ProtocolError),
        (message("", "m").alias(3).qos(1), ReasonCode::ProtocolError),
    ];
    for (outgoing, code) in faults {
        let mut publisher = scene.connect("publisher");
        publisher.send_publish(&outgoing);
        publisher.expect_disconnect(code);
    }
    let mut publisher = scene.reconnect(&id("publisher").kept(), false);
    publisher.publish_message(&message("one", "1").alias(3));
    publisher.publish_message(&message("", "2").alias(3));
    publisher.publish_message(&message("two", "3").alias(3).qos(1));
    publisher.publish_message(&message("", "4").alias(3).qos(1));
    let topics: Vec<String> = watcher.take_messages().iter().map(|m| m.topic.clone()).collect();
    assert_eq!(topics, ["one", "one", "two", "two"]);
    // Refused, and set all the same.
    let denied = ReasonCode::NotAuthorized as u8;
    assert_eq!(publisher.publish_message(&message("denied/t", "m").alias(2).qos(1)), denied);
    assert_eq!(publisher.publish_message(&message("", "m").alias(2).qos(1)), denied);
    publisher.cut();
    let mut publisher = scene.reconnect(&id("publisher").kept(), true);
    publisher.send_publish(&message("", "m").alias(3));
    publisher.expect_disconnect(ReasonCode::ProtocolError);
    watcher.expect_silence();
}

fn aliases_out(scene: &mut Scene) {
    let options = || id("reader").kept().properties(|w| w.u16(PropertyId::TopicAliasMaximum, 2));
    let mut reader = scene.reconnect(&options(), false);
    reader.subscribe("+/x", 1);
    let mut publisher = scene.connect("publisher");
    for round in 0..3 {
        // The checks of the reader resolve the aliases, and refuse those that it does not know.
        for (number, topic) in ["a/x", "b/x", "c/x", "a/x"].iter().enumerate() {
            publisher.publish(topic, "m", (number % 2) as u8);
        }
        let messages = reader.take_messages();
        let topics: Vec<&str> = messages.iter().map(|message| message.topic.as_str()).collect();
        assert_eq!(topics, ["a/x", "b/x", "c/x", "a/x"], "round {round}");
        let aliases = messages.iter().filter(|m| m.properties.has(PropertyId::TopicAlias)).count();
        assert!(aliases >= 3, "two topics have one: {aliases} of 4");
        reader.cut();
        publisher.publish("b/x", "kept", 1);
        reader = scene.reconnect(&options(), true);
        assert_eq!(reader.expect_message().topic, "b/x");
        // Not acknowledged: it comes again, by its topic.
        reader.cut();
        reader = scene.reconnect(&options(), true);
        let again = reader.expect_message();
        assert_eq!((again.topic.as_str(), again.dup), ("b/x", true));
        reader.acknowledge(&again);
    }
}

fn aliases_out_of_a_slow_reader(scene: &mut Scene) {
    let mut reader =
        scene.connect_with(&id("reader").properties(|w| w.u16(PropertyId::TopicAliasMaximum, 2)));
    reader.subscribe("+", 0);
    let mut publisher = scene.connect("publisher");
    scene.core(|core| core.stall(reader.socket(), true));
    // More than the hard bound of its output: what comes after it is dropped, alias or not.
    for number in 0..1500 {
        publisher.publish(["a", "b", "c"][number % 3], &"x".repeat(1000), 0);
    }
    assert!(scene.figure(|m| m.publish_dropped[0][DropReason::SlowConsumer as usize]) > 0);
    scene.core(|core| core.stall(reader.socket(), false));
    let messages = reader.take_messages();
    assert!(messages.len() > 900, "{}", messages.len());
    for (number, message) in messages.iter().enumerate() {
        assert_eq!(message.topic, ["a", "b", "c"][number % 3]);
    }
    publisher.publish("c", "m", 0);
    assert_eq!(reader.expect_message().topic, "c");
}

fn subscription_identifier_of_a_client(scene: &mut Scene) {
    let bytes = wire::publish(Version::V5, 0x30, scene.topic("t"), None, &[0x0B, 1], "m");
    scene.expect_faulty(&bytes, ReasonCode::ProtocolError);
}

fn response_topic_with_wildcard(scene: &mut Scene) {
    for topic in ["a/+", "#", "a/#/b", "a+"] {
        let faulty = properties(|w| w.str(PropertyId::ResponseTopic, topic));
        let bytes = wire::publish(Version::V5, 0x30, scene.topic("t"), None, &faulty, "m");
        scene.expect_faulty(&bytes, ReasonCode::ProtocolError);
    }
}

fn properties_are_forwarded(scene: &mut Scene) {
    let mut readers = vec![];
    for version in [Version::V5, Version::V311, Version::V31] {
        let name = format!("reader-{}", version.level());
        let mut reader = scene.connect_with(&id(&name).version(version));
        reader.subscribe("t", 2);
        readers.push(reader);
    }
    let mut publisher = scene.connect("publisher");
    for correlation in [vec![], vec![0xA5; 65_535]] {
        let pairs: Vec<(String, String)> =
            (0..60).map(|number| (format!("name{}", number % 3), number.to_string())).collect();
        let outgoing = message("t", b"\0bytes\xFF").qos(2).properties(|w| {
            w.user_property("first", "0");
            w.str(PropertyId::ResponseTopic, "answers/here").bytes(PropertyId::CorrelationData, &correlation);
            for (name, value) in &pairs {
                w.user_property(name, value);
            }
            w.u8(PropertyId::PayloadFormatIndicator, 0).str(PropertyId::ContentType, "text/plain")
        });
        assert_eq!(publisher.publish_message(&outgoing), 0);
        for reader in &mut readers {
            let message = reader.expect_message();
            assert_eq!(message.payload, b"\0bytes\xFF");
            reader.acknowledge(&message);
            let properties = &message.properties;
            if !reader.is_v5() {
                assert!(properties.is_empty());
                continue;
            }
            let mut expected = vec![("first", "0")];
            expected.extend(pairs.iter().map(|(name, value)| (name.as_str(), value.as_str())));
            assert_eq!(properties.pairs(), expected);
            assert_eq!(properties.binary(PropertyId::CorrelationData), Some(&correlation[..]));
            let order: Vec<u8> = properties.0.iter().map(|(id, _)| *id).collect();
            assert_eq!(order[..3], [0x26, 0x08, 0x09], "{order:?}");
            assert_eq!(order[63..], [0x01, 0x03], "{order:?}");
        }
    }
}

fn message_expiry(scene: &mut Scene) {
    let expiry = |message: &Message| message.properties.number(PropertyId::MessageExpiryInterval);
    let mut live = scene.subscriber("live", "t", 1);
    let options = || id("kept").kept().receive_maximum(10);
    let mut kept = scene.reconnect(&options(), false);
    kept.subscribe("t", 1);
    let mut publisher = scene.connect("publisher");

    // In flight when it expires: resent and completed.
    publisher.publish_message(&message("t", "begun").qos(1).expiry(2));
    let begun = kept.expect_message();
    assert_eq!(expiry(&begun), Some(2));
    let first = live.expect_message();
    assert_eq!(expiry(&first), Some(2), "live, whole");
    live.acknowledge(&first);
    kept.cut();
    publisher.publish_message(&message("t", "two").qos(1).expiry(2));
    scene.pass(1000);
    let mut kept = scene.reconnect(&options(), true);
    let begun = kept.expect_message();
    assert_eq!((begun.text(), begun.dup, expiry(&begun)), ("begun", true, Some(1)));
    let two = kept.expect_message();
    assert_eq!((two.text(), expiry(&two)), ("two", Some(1)));
    kept.acknowledge(&two);
    kept.cut();
    publisher.publish_message(&message("t", "gone").qos(1).expiry(2));
    assert_eq!(publisher.publish_message(&message("t", "fleeting").qos(1).expiry(0)), 0, "to the live one");
    scene.pass(3000);
    let expired = |scene: &mut Scene| scene.figure(|m| m.publish_dropped[1][DropReason::Expired as usize]);
    let before = expired(scene);
    let mut kept = scene.reconnect(&options(), true);
    let begun = kept.expect_message();
    assert_eq!((begun.text(), begun.dup), ("begun", true), "its delivery had begun");
    kept.acknowledge(&begun);
    kept.expect_silence();
    assert_eq!(expired(scene), before + 1);
    assert_eq!(scene.figure(|m| m.queue_messages), 0);

    let texts: Vec<(String, Option<u32>)> =
        live.take_messages().iter().map(|message| (message.text().to_owned(), expiry(message))).collect();
    let expected = [("two", Some(2)), ("gone", Some(2)), ("fleeting", Some(0))];
    assert_eq!(texts, expected.map(|(text, expiry)| (text.to_owned(), expiry)));
}

fn payload_sizes(scene: &mut Scene) {
    let mut watcher = scene.subscriber("watcher", "t", 0);
    let mut publisher = scene.connect("publisher");
    publisher.publish("t", "", 1);
    watcher.expect_texts(&[""]);
    // First byte, two bytes of length, topic, in 5 an empty property section.
    let overhead = 1 + 2 + 2 + scene.topic("t").len() + scene.is_v5() as usize;
    let exact = wire::publish(scene.version, 0x30, scene.topic("t"), None, &[], vec![b'x'; 1000 - overhead]);
    assert_eq!(exact.len(), 1000);
    publisher.write(&exact);
    assert_eq!(watcher.expect_message().payload.len(), 1000 - overhead);
    let above = wire::publish(scene.version, 0x30, scene.topic("t"), None, &[], vec![b'x'; 1001 - overhead]);
    // The length alone says it.
    publisher.write(&above[..3]);
    publisher.expect_fault(ReasonCode::PacketTooLarge);
    watcher.expect_silence();
}

fn larger_than_the_subscriber_takes(scene: &mut Scene) {
    let small = |name: &str| {
        let options = id(name).packet_size_max(120);
        options.properties(|w| w.u16(PropertyId::TopicAliasMaximum, 1))
    };
    let mut tight = scene.connect_with(&small("tight"));
    tight.subscribe("t/#", 1);
    let mut roomy = scene.subscriber("roomy", "t/#", 1);
    let mut publisher = scene.connect("publisher");
    let long = "x".repeat(100);
    // By its topic it is too long; it fits by the alias that a short message has set.
    let deep = format!("t/{}", "y".repeat(60));
    for payload in [&long[..], "short", &"z".repeat(60)] {
        assert_eq!(publisher.publish(&deep, payload, 1), 0);
    }
    roomy.expect_texts(&[&long, "short", &"z".repeat(60)]);
    tight.expect_texts(&["short", &"z".repeat(60)]);
    // The payload is small, the properties are not.
    let wordy = message("t", "wordy").qos(1).properties(|w| w.user_property("name", &long));
    assert_eq!(publisher.publish_message(&wordy), 0);
    roomy.expect_texts(&["wordy"]);
    tight.expect_silence();

    // In a shared group another member gets it.
    let mut member = scene.connect_with(&small("member"));
    member.subscribe("$share/g/s", 1);
    let mut other = scene.connect("other");
    other.subscribe("$share/g/s", 1);
    for _ in 0..6 {
        assert_eq!(publisher.publish("s", &long.repeat(2), 1), 0);
    }
    let count = other.take_messages().len();
    member.expect_silence();
    // Which of them a shard has is not known to the shard of the publisher, so one of another shard may be lost.
    assert!(count == 6 || scene.shards() > 1, "{count} of 6");
}

fn acks_out_of_order_free_places(scene: &mut Scene) {
    let mut reader = scene.connect("reader");
    reader.subscribe("t", 1);
    let mut publisher = scene.connect("publisher");
    for number in 0..40 {
        publisher.publish("t", &number.to_string(), 1);
    }
    let mut in_flight: Vec<Message> = (0..10).map(|_| reader.expect_message()).collect();
    reader.expect_silence();
    // The middle first, then the last, then the first.
    for turn in 0..30usize {
        let at = [in_flight.len() / 2, in_flight.len() - 1, 0][turn % 3];
        let acked = in_flight.remove(at);
        reader.puback(acked.packet_id);
        let next = reader.expect_message();
        assert_eq!(next.text(), (10 + turn).to_string());
        assert!(in_flight.iter().all(|message| message.packet_id != next.packet_id));
        in_flight.push(next);
    }
    in_flight.iter().for_each(|message| reader.puback(message.packet_id));
    reader.expect_silence();
}

fn ids_do_not_collide_at_the_wrap(scene: &mut Scene) {
    let batches = scene.full_or(133, 3);
    let options = || id("reader").kept();
    let mut reader = scene.reconnect(&options(), false);
    reader.subscribe("t", 1);
    let mut publisher = scene.connect("publisher");
    let batch = |scene: &Scene| many(scene, 1, 500);
    publisher.write(&batch(scene));
    // The first one stays unacknowledged while all the other ids go by.
    let first = reader.expect_message();
    let mut count = 1;
    for _ in 1..batches {
        publisher.take_packets();
        publisher.write(&batch(scene));
        for message in reader.take_messages() {
            assert_ne!(message.packet_id, first.packet_id, "after {count}");
            count += 1;
        }
    }
    assert!(count > 65_000 || batches < 133, "{count}");
    reader.cut();
    let mut reader = scene.reconnect(&options(), true);
    let again = reader.expect_message();
    assert_eq!(again, Message { dup: true, ..first });
    reader.puback(again.packet_id);
    // Now the ring is open again.
    let rest = reader.take_messages().len();
    assert_eq!(count + rest, batches * 500);
}

fn receive_maximum_shrinks(scene: &mut Scene) {
    let mut reader = scene.reconnect(&id("reader").kept().receive_maximum(100), false);
    reader.subscribe("t", 2);
    let mut publisher = scene.connect("publisher");
    for number in 0..60 {
        publisher.publish("t", &number.to_string(), 1 + number % 2);
    }
    let sent: Vec<Message> = (0..60).map(|_| reader.expect_message()).collect();
    // Some of them only wait for PUBCOMP.
    for message in sent.iter().filter(|message| message.qos == 2).take(10) {
        reader.pubrec(message.packet_id);
        reader.expect_pubrel(message.packet_id);
    }
    reader.cut();
    let mut reader = scene.reconnect(&id("reader").kept().receive_maximum(5), true);
    let (mut texts, mut releases) = (vec![], 0);
    while let Some(received) = reader.poll() {
        match received {
            // The checks of the reader hold the unacknowledged ones to five.
            Received::Publish(message) => {
                assert!(message.dup);
                texts.push(message.text().parse::<usize>().expect("a number"));
                if message.qos == 1 {
                    reader.puback(message.packet_id);
                } else {
                    reader.pubrec(message.packet_id);
                }
            }
            Received::PubRel(ack) => {
                releases += 1;
                reader.pubcomp(ack.packet_id);
            }
            other => panic!("{other:?}"),
        }
    }
    let expected: Vec<usize> = (0..60).filter(|number| number % 2 == 0 || *number >= 20).collect();
    assert_eq!(texts, expected);
    assert_eq!(releases, 30);
    reader.cut();
    scene.reconnect(&id("reader").kept().receive_maximum(5), true).expect_silence();
}

fn qos_0_passes_a_full_window(scene: &mut Scene) {
    let mut reader = scene.subscriber("reader", "#", 2);
    let mut publisher = scene.connect("publisher");
    for number in 0..4 {
        publisher.publish("reliable", &number.to_string(), 1 + number % 2);
    }
    publisher.publish("other", "passes", 0);
    publisher.publish("reliable", "passes too", 0);
    let texts: Vec<String> = (0..4).map(|_| reader.expect_message().text().to_owned()).collect();
    assert_eq!(texts, ["0", "1", "passes", "passes too"]);
    reader.expect_silence();
}

fn publisher_that_does_not_read(scene: &mut Scene) {
    let mut reader = scene.subscriber("reader", "t", 1);
    let mut publisher = scene.connect("publisher");
    let mut bytes = vec![];
    for number in 0..10_000u32 {
        let packet_id = Some(number as u16 + 1);
        bytes.extend(wire::publish(
            scene.version,
            0x32,
            scene.topic("t"),
            packet_id,
            &[],
            number.to_string(),
        ));
    }
    // Half a packet more.
    bytes.extend_from_slice(&wire::publish(scene.version, 0x32, scene.topic("t"), Some(1), &[], "cut")[..8]);
    publisher.write(&bytes);
    publisher.cut();
    // A real network may lose the end of what was written before a reset, and only that.
    let mut count = 0;
    while let Some(Received::Publish(message)) = reader.poll() {
        assert_eq!(message.text(), count.to_string());
        reader.acknowledge(&message);
        count += 1;
    }
    assert!(count > 0 && count <= 10_000, "{count}");
    reader.ping();
}

fn order_within_each_qos(scene: &mut Scene) {
    let mut reader = scene.subscriber("reader", "t", 2);
    let mut publisher = scene.connect("publisher");
    for number in 0..60 {
        publisher.publish("t", &number.to_string(), number % 3);
    }
    let messages = reader.take_messages();
    for qos in 0..3 {
        let numbers: Vec<usize> =
            messages.iter().filter(|m| m.qos == qos).map(|m| m.text().parse().expect("a number")).collect();
        let expected: Vec<usize> = (0..60).filter(|number| number % 3 == qos as usize).collect();
        assert_eq!(numbers, expected, "QoS {qos}");
    }
}

fn retransmission_on_a_live_connection(scene: &mut Scene) {
    let mut reader = scene.subscriber("reader", "t", 2);
    let mut publisher = scene.connect("publisher");
    for again in [message("t", "one").qos(1).packet_id(4), message("t", "one").qos(1).packet_id(4).dup()] {
        publisher.send_publish(&again);
        assert_eq!(publisher.expect_puback(4), 0);
    }
    let received: Vec<(String, bool)> =
        reader.take_messages().iter().map(|message| (message.text().to_owned(), message.dup)).collect();
    assert_eq!(received, [("one".to_owned(), false), ("one".to_owned(), false)]);
    for again in [message("t", "two").qos(2).packet_id(4), message("t", "two").qos(2).packet_id(4).dup()] {
        publisher.send_publish(&again);
        assert_eq!(publisher.expect_pubrec(4), 0);
    }
    let unacknowledged = reader.expect_message();
    // The broker does not repeat it, however long it waits.
    scene.pass(2000);
    reader.expect_silence();
    reader.acknowledge(&unacknowledged);
}

fn denied_publish_of_3(scene: &mut Scene) {
    let mut watcher = scene.subscriber("watcher", "t", 0);
    let mut publisher = scene.connect("publisher");
    for qos in [0, 1, 2] {
        publisher.publish("denied/t", "m", qos);
        publisher.publish_retained("denied/t", "m", qos);
    }
    publisher.publish("t", "allowed", 1);
    watcher.expect_texts(&["allowed"]);
}

fn denied_publish_of_3_closes(scene: &mut Scene) {
    for qos in [0, 1, 2] {
        let mut publisher = scene.connect("publisher");
        publisher.send_publish(&message("denied/t", "m").qos(qos));
        publisher.expect_end();
    }
}
