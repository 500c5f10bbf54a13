//! QoS 1 and 2: acknowledgements, repetition, resumption, order (3.4 to 3.7, 4.3, 4.4, 4.6).

use super::prelude::*;

pub fn cases() -> Vec<Case> {
    vec![
        case!(qos_1_is_unacknowledged_until_puback).v5("4.3.2-2 4.3.2-3 4.4.0-1").v311("4.3.2-1 4.4.0-1"),
        case!(an_identifier_acknowledged_is_a_new_message).v5("4.3.2-5").v311("4.3.2-2"),
        case!(qos_2_is_unacknowledged_until_pubrec).v5("4.3.3-2 4.3.3-3 4.4.0-1").v311("4.3.3-1 4.4.0-1"),
        case!(pubrec_is_answered_by_pubrel).v5("4.3.3-4 3.6.1-1").v311("4.3.3-1"),
        case!(pubrel_is_unacknowledged_until_pubcomp).v5("4.3.3-5 4.3.3-6 4.4.0-1").v311("4.3.3-1 4.4.0-1"),
        case!(expiry_is_not_applied_once_sent).v5("4.3.3-7"),
        case!(a_repeated_publish_is_delivered_once).v5("4.3.3-10").v311("4.3.3-2"),
        case!(a_repeated_publish_is_delivered_once_across_a_reconnect).v5("4.3.3-10").v311("4.3.3-2"),
        case!(pubrel_is_answered_by_pubcomp).v5("4.3.3-11 3.7.2-1").v311("4.3.3-2"),
        case!(an_identifier_completed_is_a_new_message).v5("4.3.3-12").v311("4.3.3-2"),
        case!(the_handshake_goes_on_after_expiry).v5("4.3.3-13"),
        case!(nothing_is_repeated_on_a_live_connection)
            .v5("4.4.0-1")
            .v311("4.4.0-1")
            .core_only("waits for minutes"),
        case!(everything_in_flight_is_repeated_in_order)
            .v5("4.4.0-1 4.6.0-1 3.3.1-1")
            .v311("4.4.0-1 4.6.0-1 2.3.1-4"),
        case!(a_refusal_counts_as_acknowledged).v5("4.4.0-2 4.3.3-4"),
        case!(pubacks_leave_in_order).v5("4.6.0-2").v311("4.6.0-2"),
        case!(pubrecs_leave_in_order).v5("4.6.0-3").v311("4.6.0-3"),
        case!(pubrels_leave_in_order).v5("4.6.0-4").v311("4.6.0-4"),
        case!(messages_of_a_publisher_stay_in_order).v5("4.6.0-5 4.6.0-6").v311("4.6.0-5 4.6.0-6"),
        case!(unknown_identifiers_are_told).v5("3.6.2-1 3.7.2-1"),
        case!(unknown_identifiers_are_harmless_in_3_x).v311("4.3.3-1 4.3.3-2"),
        case!(acks_of_the_wrong_phase_are_protocol_errors).v5("4.13.1-1").v311("4.8.0-1"),
        case!(reason_codes_of_acks_are_checked).v5("3.4.2-1 3.5.2-1 3.6.2-1 3.7.2-1"),
    ]
}

fn kept() -> super::options::Options {
    id("c").kept()
}

fn qos_1_is_unacknowledged_until_puback(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    let mut client = scene.connect_with(&kept());
    client.subscribe("t", 1);
    publisher.publish("t", "1", 1);
    publisher.publish("t", "2", 1);
    let first = client.expect_message();
    let second = client.expect_message();
    assert!(!first.dup && !second.dup && first.packet_id != second.packet_id);
    client.puback(first.packet_id);
    client.ping();
    client.cut();
    let mut client = scene.reconnect(&kept(), true);
    let again = client.expect_message();
    assert_eq!(again, Message { dup: true, ..second });
    client.expect_silence();
    client.puback(again.packet_id);
    client.ping();
    client.cut();
    scene.reconnect(&kept(), true).expect_silence();
}

fn an_identifier_acknowledged_is_a_new_message(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "t", 1);
    let mut client = scene.connect("c");
    client.publish_message(&message("t", "1").qos(1).packet_id(1));
    client.publish_message(&message("t", "2").qos(1).packet_id(1).dup());
    watcher.expect_texts(&["1", "2"]);
}

fn qos_2_is_unacknowledged_until_pubrec(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    let mut client = scene.connect_with(&kept());
    client.subscribe("t", 2);
    publisher.publish("t", "1", 2);
    let first = client.expect_message();
    assert!(!first.dup && first.qos == 2);
    for _ in 0..2 {
        client.cut();
        client = scene.reconnect(&kept(), true);
        assert_eq!(client.expect_message(), Message { dup: true, ..first.clone() });
    }
    client.acknowledge(&first);
    client.ping();
    client.cut();
    scene.reconnect(&kept(), true).expect_silence();
}

fn pubrec_is_answered_by_pubrel(scene: &mut Scene) {
    let mut client = scene.subscriber("c", "t", 2);
    let mut publisher = scene.connect("p");
    publisher.publish("t", "x", 2);
    let packet_id = client.expect_message().packet_id;
    client.pubrec(packet_id);
    client.expect_bytes(&wire::ack(0x62, packet_id));
    // A repeated PUBREC gets the PUBREL again.
    client.pubrec(packet_id);
    client.expect_bytes(&wire::ack(0x62, packet_id));
    client.pubcomp(packet_id);
    client.expect_silence();
}

fn pubrel_is_unacknowledged_until_pubcomp(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    let mut client = scene.connect_with(&kept());
    client.subscribe("t", 2);
    publisher.publish("t", "x", 2);
    let packet_id = client.expect_message().packet_id;
    client.pubrec(packet_id);
    assert_eq!(client.expect_pubrel(packet_id), 0);
    for _ in 0..2 {
        client.cut();
        client = scene.reconnect(&kept(), true);
        // PUBREL again, and never the PUBLISH.
        assert_eq!(client.expect_pubrel(packet_id), 0);
        client.expect_silence();
    }
    client.pubcomp(packet_id);
    client.ping();
    client.cut();
    scene.reconnect(&kept(), true).expect_silence();
}

fn expiry_is_not_applied_once_sent(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    for qos in [1, 2] {
        let mut client = scene.connect_with(&kept());
        client.subscribe("t", 2);
        publisher.publish_message(&message("t", "x").qos(qos).expiry(1));
        let first = client.expect_message();
        client.cut();
        scene.pass(1_300);
        let mut client = scene.reconnect(&kept(), true);
        let again = client.expect_message();
        assert_eq!((again.packet_id, again.dup, again.text()), (first.packet_id, true, "x"));
        client.acknowledge(&again);
        client.disconnect();
    }
}

fn a_repeated_publish_is_delivered_once(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "t", 2);
    let mut client = scene.connect("c");
    let outgoing = message("t", "x").qos(2).packet_id(7);
    client.send_publish(&outgoing);
    client.expect_bytes(&wire::ack(0x50, 7));
    for _ in 0..3 {
        client.send_publish(&outgoing.clone().dup());
        client.expect_bytes(&wire::ack(0x50, 7));
    }
    client.pubrel(7);
    client.expect_bytes(&wire::ack(0x70, 7));
    watcher.expect_texts(&["x"]);
}

fn a_repeated_publish_is_delivered_once_across_a_reconnect(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "t", 2);
    let mut client = scene.connect_with(&kept());
    let outgoing = message("t", "x").qos(2).packet_id(7);
    client.send_publish(&outgoing);
    assert_eq!(client.expect_pubrec(7), 0);
    for _ in 0..2 {
        client.cut();
        client = scene.reconnect(&kept(), true);
        client.send_publish(&outgoing.clone().dup());
        assert_eq!(client.expect_pubrec(7), 0);
    }
    client.pubrel(7);
    assert_eq!(client.expect_pubcomp(7), 0);
    watcher.expect_texts(&["x"]);
    // A new session knows nothing of it.
    client.send_publish(&outgoing);
    assert_eq!(client.expect_pubrec(7), 0);
    client.cut();
    let mut client = scene.reconnect(&id("c"), false);
    client.publish_message(&outgoing.clone().dup());
    watcher.expect_texts(&["x", "x"]);
}

fn pubrel_is_answered_by_pubcomp(scene: &mut Scene) {
    let mut client = scene.connect("c");
    client.send_publish(&message("t", "x").qos(2).packet_id(7));
    let code = client.expect_pubrec(7);
    assert!(code < 0x80, "{code:02x}");
    client.pubrel(7);
    client.expect_bytes(&wire::ack(0x70, 7));
    // Again: still a PUBCOMP; 5 may say that it knows none.
    client.pubrel(7);
    let code = client.expect_pubcomp(7);
    assert_eq!(code, if scene.is_v5() { ReasonCode::PacketIdentifierNotFound as u8 } else { 0 });
}

fn an_identifier_completed_is_a_new_message(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "t", 2);
    let mut client = scene.connect("c");
    for text in ["1", "2"] {
        client.publish_message(&message("t", text).qos(2).packet_id(7));
    }
    client.publish_message(&message("t", "3").qos(2).packet_id(7).dup());
    watcher.expect_texts(&["1", "2", "3"]);
}

fn the_handshake_goes_on_after_expiry(scene: &mut Scene) {
    let mut client = scene.subscriber("c", "t", 2);
    let mut publisher = scene.connect("p");
    publisher.send_publish(&message("t", "x").qos(2).packet_id(7).expiry(1));
    assert_eq!(publisher.expect_pubrec(7), 0);
    let found = client.expect_message();
    scene.pass(1_300);
    publisher.pubrel(7);
    assert_eq!(publisher.expect_pubcomp(7), 0);
    client.acknowledge(&found);
    client.ping();
}

fn nothing_is_repeated_on_a_live_connection(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    let mut client = scene.connect_with(&kept());
    client.subscribe("t", 2);
    for qos in [1, 2, 2] {
        publisher.publish("t", "x", qos);
    }
    let found: Vec<Message> = (0..3).map(|_| client.expect_message()).collect();
    client.pubrec(found[2].packet_id);
    assert_eq!(client.expect_pubrel(found[2].packet_id), 0);
    for _ in 0..10 {
        scene.pass(60_000);
        client.expect_silence();
    }
}

fn everything_in_flight_is_repeated_in_order(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    let mut client = scene.connect_with(&kept());
    client.subscribe("#", 2);
    for (i, qos) in [1, 2, 1, 2, 2, 1].into_iter().enumerate() {
        publisher.publish(&format!("t{}", i % 2), &i.to_string(), qos);
    }
    let found: Vec<Message> = (0..6).map(|_| client.expect_message()).collect();
    // The second is in its second half, the third is done; the rest waits.
    client.pubrec(found[1].packet_id);
    client.expect_pubrel(found[1].packet_id);
    client.puback(found[2].packet_id);
    client.ping();
    client.cut();
    publisher.publish("t0", "new", 1);
    let mut client = scene.reconnect(&kept(), true);
    assert_eq!(client.expect_message(), Message { dup: true, ..found[0].clone() });
    match client.expect_packet() {
        Received::PubRel(ack) => assert_eq!(ack.packet_id, found[1].packet_id),
        other => panic!("PUBREL was expected, {other:?} came"),
    }
    for first in &found[3..] {
        assert_eq!(client.expect_message(), Message { dup: true, ..first.clone() });
    }
    let new = client.expect_message();
    assert_eq!((new.text(), new.dup), ("new", false));
    client.expect_silence();
}

fn a_refusal_counts_as_acknowledged(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    let mut client = scene.connect_with(&kept().receive_maximum(1));
    client.subscribe("t", 2);
    for qos in [1, 2] {
        publisher.publish("t", "refused", qos);
        let found = client.expect_message();
        client.write(&wire::ack_with(if qos == 1 { 0x40 } else { 0x50 }, found.packet_id, 0x80));
        // No PUBREL, and the window is free.
        client.expect_silence();
        publisher.publish("t", "next", qos);
        client.expect_texts(&["next"]);
    }
    client.cut();
    scene.reconnect(&kept(), true).expect_silence();
}

/// The acknowledgements of 100 PUBLISHes in one segment.
fn expect_pipelined(scene: &mut Scene, qos: u8) {
    let version = scene.version;
    // Some have subscribers on other shards, some nobody: the answers leave in order all the same.
    let mut watchers: Vec<Peer> =
        ["a", "b", "c", "d"].map(|name| scene.subscriber(name, &format!("t/{name}"), 2)).into();
    let mut client = scene.connect("p");
    let topics = ["t/a", "t/none", "t/b", "t/c", "t/d"];
    let bytes: Vec<u8> = (1..=100u16)
        .flat_map(|packet_id| {
            let topic = scene.topic(topics[packet_id as usize % topics.len()]);
            wire::publish(version, 0x30 | qos << 1, topic, Some(packet_id), &[], packet_id.to_string())
        })
        .collect();
    client.write(&bytes);
    for packet_id in 1..=100 {
        let id = match client.expect_packet() {
            Received::PubAck(ack) if qos == 1 => ack.packet_id,
            Received::PubRec(ack) if qos == 2 => ack.packet_id,
            other => panic!("an acknowledgement was expected, {other:?} came"),
        };
        assert_eq!(id, packet_id);
    }
    let total: usize = watchers.iter_mut().map(|watcher| watcher.take_messages().len()).sum();
    assert_eq!(total, 80);
}

fn pubacks_leave_in_order(scene: &mut Scene) {
    expect_pipelined(scene, 1);
}

fn pubrecs_leave_in_order(scene: &mut Scene) {
    expect_pipelined(scene, 2);
}

fn pubrels_leave_in_order(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    let mut client = scene.subscriber("c", "t", 2);
    for i in 0..50 {
        publisher.publish("t", &i.to_string(), 2);
    }
    let found: Vec<Message> = (0..50).map(|_| client.expect_message()).collect();
    let order = |at: usize| found[(at * 7) % 50].packet_id;
    let bytes: Vec<u8> = (0..50).flat_map(|at| wire::ack(0x50, order(at))).collect();
    client.write(&bytes);
    for at in 0..50 {
        match client.expect_packet() {
            Received::PubRel(ack) => assert_eq!(ack.packet_id, order(at)),
            other => panic!("PUBREL was expected, {other:?} came"),
        }
    }
}

fn messages_of_a_publisher_stay_in_order(scene: &mut Scene) {
    let mut live: Vec<Peer> = vec![];
    for name in ["a", "b", "c", "d", "e"] {
        live.push(scene.subscriber(name, "#", 2));
        let mut stored = scene.connect_with(&id(&format!("stored-{name}")).kept());
        stored.subscribe("#", 2);
        stored.cut();
    }
    let mut publisher = scene.connect("p");
    let topics = ["t/1", "t/2", "t/3"];
    for i in 0..90usize {
        // Each topic sees all three QoS levels.
        let outgoing = message(topics[i % 3], i.to_string()).qos((i / 3 % 3) as u8);
        let retained = if i % 10 == 9 { outgoing.retain() } else { outgoing };
        publisher.publish_message(&retained);
    }
    let check = |found: Vec<Message>, count: usize, scene: &Scene| {
        assert_eq!(found.len(), count);
        for topic in topics {
            for qos in 0..3 {
                let of = |message: &&Message| message.topic == topic && message.qos == qos;
                let numbers: Vec<u32> =
                    found.iter().filter(of).map(|message| message.text().parse().unwrap()).collect();
                assert!(numbers.is_sorted(), "{topic} at QoS {qos}, {} shards: {numbers:?}", scene.shards());
            }
        }
    };
    for client in &mut live {
        check(client.take_messages(), 90, scene);
    }
    for name in ["a", "b", "c", "d", "e"] {
        let mut stored = scene.reconnect(&id(&format!("stored-{name}")).kept(), true);
        check(stored.take_messages(), 60, scene);
    }
}

fn unknown_identifiers_are_told(scene: &mut Scene) {
    let mut client = scene.connect("c");
    client.pubrel(1234);
    client.expect_bytes(&wire::ack_with(0x70, 1234, 0x92));
    client.pubrec(1234);
    client.expect_bytes(&wire::ack_with(0x62, 1234, 0x92));
    client.puback(1234);
    client.pubcomp(1234);
    client.write(&wire::ack_with(0x50, 1234, 0x80));
    client.expect_silence();
    client.ping();
}

fn unknown_identifiers_are_harmless_in_3_x(scene: &mut Scene) {
    let mut client = scene.connect("c");
    client.pubrel(1234);
    client.expect_bytes(&wire::ack(0x70, 1234));
    client.pubrec(1234);
    client.expect_bytes(&wire::ack(0x62, 1234));
    client.puback(1234);
    client.pubcomp(1234);
    client.expect_silence();
    client.ping();
}

fn acks_of_the_wrong_phase_are_protocol_errors(scene: &mut Scene) {
    let mut publisher = scene.connect("p");
    for (qos, first) in [(1, 0x50), (1, 0x70), (2, 0x40), (2, 0x70)] {
        let mut client = scene.subscriber("c", "t", 2);
        publisher.publish("t", "x", qos);
        let packet_id = client.expect_message().packet_id;
        client.write(&wire::ack(first, packet_id));
        client.expect_fault(ReasonCode::ProtocolError);
    }
}

fn reason_codes_of_acks_are_checked(scene: &mut Scene) {
    for (first, foreign) in [
        (0x40, [0x01, 0x92, 0x8E, 0xFF]),
        (0x50, [0x01, 0x92, 0x8E, 0xFF]),
        (0x62, [0x01, 0x10, 0x80, 0xFF]),
        (0x70, [0x01, 0x10, 0x80, 0xFF]),
    ] {
        for code in foreign {
            scene.expect_faulty(&wire::ack_with(first, 1, code), ReasonCode::ProtocolError);
        }
        // A property that the packet does not have; a section that is cut off.
        let mut bytes = wire::packet(first, [0, 1, 0, 5, 0x11, 0, 0, 0, 1]);
        scene.expect_faulty(&bytes, ReasonCode::MalformedPacket);
        bytes = wire::packet(first, [0, 1, 0, 5, 0x1F]);
        scene.expect_faulty(&bytes, ReasonCode::MalformedPacket);
    }
    // Reason strings and user properties of the client are fine.
    let mut client = scene.subscriber("c", "t", 2);
    let mut publisher = scene.connect("p");
    publisher.publish("t", "x", 1);
    let packet_id = client.expect_message().packet_id;
    let section =
        wire::section(properties(|w| w.str(PropertyId::ReasonString, "fine").user_property("a", "b")));
    client.write(&wire::packet(0x40, wire::join(&[&packet_id.to_be_bytes(), &[0x10], &section])));
    client.ping();
}
