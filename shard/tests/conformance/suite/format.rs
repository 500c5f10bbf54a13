//! Data representation and packet format (chapters 1.5 and 2).

use super::prelude::*;

pub fn cases() -> Vec<Case> {
    vec![
        case!(strings_are_valid_utf8)
            .v5("1.5.4-1 3.1.3-4 3.1.3-11 3.1.3-12 3.3.2-1 3.8.3-1 3.10.3-1")
            .v311("1.5.3-1 3.1.3-4 3.1.3-10 3.1.3-11 3.3.2-1 3.8.3-1 3.10.3-1"),
        case!(strings_hold_no_nul).v5("1.5.4-2 4.7.3-2").v311("1.5.3-2 4.7.3-2"),
        case!(binary_fields_hold_anything).v5("1.5.4-2").v311("1.5.3-2"),
        case!(a_byte_order_mark_is_a_character).v5("1.5.4-3").v311("1.5.3-3"),
        case!(lengths_have_their_shortest_form).v5("1.5.5-1"),
        case!(string_properties_are_valid_utf8).v5("1.5.7-1 1.5.4-1 1.5.4-2 3.3.2-13 3.3.2-19"),
        case!(reserved_flags_are_checked)
            .v5("2.1.3-1 3.6.1-1 3.8.1-1 3.10.1-1 3.14.1-1 3.15.1-1")
            .v311("2.2.2-1 2.2.2-2 3.6.1-1 3.8.1-1 3.10.1-1 3.14.1-1"),
        case!(reserved_flags_from_the_broker).v5("2.1.3-1 3.6.1-1").v311("2.2.2-1"),
        case!(qos_0_has_no_packet_identifier).v5("2.2.1-2").v311("2.3.1-5"),
        case!(packet_identifier_0_is_refused).v5("2.2.1-3").v311("2.3.1-1"),
        case!(new_deliveries_have_unused_identifiers)
            .v5("2.2.1-4 4.3.2-1 4.3.3-1")
            .v311("2.3.1-1 2.3.1-4 4.3.2-1 4.3.3-1")
            .core_only("70,000 messages"),
        case!(acknowledgements_repeat_the_identifier).v5("2.2.1-5").v311("2.3.1-6"),
        case!(answers_repeat_the_identifier)
            .v5("2.2.1-6 3.8.4-1 3.8.4-2 3.10.4-4 3.10.4-5")
            .v311("2.3.1-7 3.8.4-1 3.8.4-2 3.10.4-4 3.10.4-5"),
        case!(an_identifier_is_free_after_its_acknowledgement)
            .v5("4.3.2-5 4.3.3-12")
            .v311("2.3.1-3 4.3.2-2 4.3.3-2"),
        case!(no_properties_are_a_length_of_0).v5("2.2.2-1"),
    ]
}

/// A surrogate, truncated, overlong and impossible sequences.
const BAD_UTF8: &[&[u8]] = &[
    &[0xED, 0xA0, 0x80],
    &[0xED, 0xBF, 0xBF],
    b"a\xC3",
    b"a\xE2\x82",
    &[0xC0, 0x80],
    &[0xE0, 0x80, 0xAF],
    &[0xF4, 0x90, 0x80, 0x80],
    &[0xFF],
    &[0x80],
];

/// The string stands in every field of every packet that a client sends.
fn expect_bad_string(scene: &mut Scene, bad: &[u8]) {
    use wire::{CLEAN, USER_NAME, WILL, field, join};
    let version = scene.version;
    let id = field(scene.client_id("x"));
    scene.expect_refused(&wire::connect(version, CLEAN, field(bad)), ReasonCode::MalformedPacket);
    let user = join(&[&id, &field(bad)]);
    scene.expect_refused(&wire::connect(version, CLEAN | USER_NAME, user), ReasonCode::MalformedPacket);
    let will = join(&[&id, &wire::section_of(version, &[]), &field(bad), &field("payload")]);
    scene.expect_refused(&wire::connect(version, CLEAN | WILL, will), ReasonCode::MalformedPacket);
    let publish = wire::publish(version, 0x30, bad, None, &[], "x");
    scene.expect_faulty(&publish, ReasonCode::MalformedPacket);
    let good = join(&[&field("good"), &[0]]);
    let subscribe = join(&[&good, &field(bad), &[0]]);
    scene.expect_faulty(&wire::request(version, 0x82, 1, subscribe), ReasonCode::MalformedPacket);
    let unsubscribe = join(&[&field("good"), &field(bad)]);
    scene.expect_faulty(&wire::request(version, 0xA2, 1, unsubscribe), ReasonCode::MalformedPacket);
}

fn strings_are_valid_utf8(scene: &mut Scene) {
    for bad in BAD_UTF8 {
        expect_bad_string(scene, bad);
    }
    // The neighbours of the surrogates, the last code point, and a character of each length are fine.
    let topic = "\u{D7FF}\u{E000}\u{10FFFF}aé€😀";
    let mut client = scene.connect("c");
    client.subscribe(topic, 0);
    client.publish(topic, "x", 0);
    assert_eq!(client.expect_message().topic, topic);
}

fn strings_hold_no_nul(scene: &mut Scene) {
    for bad in [&b"a\0b"[..], b"\0", b"a\0"] {
        expect_bad_string(scene, bad);
    }
}

fn binary_fields_hold_anything(scene: &mut Scene) {
    use wire::{CLEAN, PASSWORD, USER_NAME, WILL, field, join};
    let mut watcher = scene.connect("w");
    watcher.subscribe("will", 0);
    let version = scene.version;
    let mut client = scene.open();
    let payload = join(&[
        &field(scene.client_id("c")),
        &wire::section_of(version, &[]),
        &field(scene.topic("will")),
        &field([0, 0xFF, 0xC3]),
        &field("user"),
        &field([0, 0xED, 0xA0, 0x80]),
    ]);
    client.write(&wire::connect(version, CLEAN | WILL | USER_NAME | PASSWORD, payload));
    client.expect_connected();
    client.cut();
    assert_eq!(watcher.expect_message().payload, [0, 0xFF, 0xC3]);
}

fn a_byte_order_mark_is_a_character(scene: &mut Scene) {
    let mut client = scene.connect("c");
    client.subscribe("\u{FEFF}a", 0);
    client.subscribe("x/\u{FEFF}/+", 0);
    client.publish("a", "without", 0);
    client.publish("\u{FEFF}a", "with", 0);
    client.publish("x/\u{FEFF}/\u{FEFF}", "levels", 0);
    let first = client.expect_message();
    assert_eq!((first.topic.as_str(), first.text()), ("\u{FEFF}a", "with"));
    assert_eq!(client.expect_message().topic, "x/\u{FEFF}/\u{FEFF}");
    client.expect_silence();
    // It is part of the client id too.
    let _first = scene.connect("\u{FEFF}id");
    let mut second = scene.connect("id");
    second.ping();
    client.ping();
}

fn lengths_have_their_shortest_form(scene: &mut Scene) {
    // Packets around every change of length; the reader refuses what is not the shortest.
    let mut client = scene.connect("c");
    client.subscribe("t", 0);
    for len in [0, 100, 110, 127, 128, 16_300, 16_383, 16_384] {
        client.publish_message(&message("t", vec![b'x'; len]));
        assert_eq!(client.expect_message().payload.len(), len);
    }
    // Towards the broker: the remaining length, and the length of the properties.
    scene.expect_faulty(&[0xC0, 0x80, 0x00], ReasonCode::MalformedPacket);
    scene.expect_faulty(&[0xE0, 0x82, 0x00, 0x00, 0x00], ReasonCode::MalformedPacket);
    let id = wire::field(scene.client_id("x"));
    let body = wire::join(&[&wire::connect_head("MQTT", 5, wire::CLEAN), &[0x80, 0x00], &id]);
    scene.expect_refused(&wire::packet(0x10, body), ReasonCode::MalformedPacket);
    // More than four bytes are no length.
    scene.expect_faulty(&[0x30, 0xFF, 0xFF, 0xFF, 0xFF, 0x01], ReasonCode::MalformedPacket);
}

fn string_properties_are_valid_utf8(scene: &mut Scene) {
    use wire::{field, join};
    let publish = |properties: &[u8], scene: &mut Scene| {
        let bytes = wire::publish(scene.version, 0x30, scene.topic("t"), None, properties, "x");
        scene.expect_faulty(&bytes, ReasonCode::MalformedPacket);
    };
    for bad in BAD_UTF8.iter().chain(&[&b"a\0b"[..]]) {
        publish(&join(&[&[0x26], &field(bad), &field("value")]), scene);
        publish(&join(&[&[0x26], &field("name"), &field(bad)]), scene);
        // Content Type, Response Topic.
        publish(&join(&[&[0x03], &field(bad)]), scene);
        publish(&join(&[&[0x08], &field(bad)]), scene);
        // In CONNECT and in the will's section too.
        let id = field(scene.client_id("x"));
        let properties = join(&[&[0x26], &field("name"), &field(bad)]);
        let connect = wire::connect_with(Version::V5, wire::CLEAN, &properties, &id);
        scene.expect_refused(&connect, ReasonCode::MalformedPacket);
        let will = join(&[&id, &wire::section(&properties), &field(scene.topic("will")), &field("")]);
        let connect = wire::connect(Version::V5, wire::CLEAN | wire::WILL, will);
        scene.expect_refused(&connect, ReasonCode::MalformedPacket);
    }
}

fn reserved_flags_are_checked(scene: &mut Scene) {
    let version = scene.version;
    let subscribe = wire::request(version, 0x82, 1, wire::join(&[&wire::field("t"), &[0]]));
    let unsubscribe = wire::request(version, 0xA2, 1, wire::field("t"));
    let packets = [
        wire::ack(0x40, 1),
        wire::ack(0x50, 1),
        wire::ack(0x62, 1),
        wire::ack(0x70, 1),
        subscribe,
        unsubscribe,
        vec![0xC0, 0],
        vec![0xE0, 0],
        vec![0xF0, 0],
    ];
    for packet in packets {
        let right = packet[0] & 0x0F;
        for flags in (0..16).filter(|flags| *flags != right) {
            // 3.1 has DUP on PUBREL, SUBSCRIBE and UNSUBSCRIBE.
            if version == Version::V31 && right == 2 && flags == 10 {
                continue;
            }
            let mut wrong = packet.clone();
            wrong[0] = packet[0] & 0xF0 | flags;
            scene.expect_faulty(&wrong, ReasonCode::MalformedPacket);
        }
    }
    // Types that are reserved, whatever their flags.
    for flags in 0..16 {
        scene.expect_faulty(&[flags, 0], ReasonCode::MalformedPacket);
    }
    if !scene.is_v5() {
        scene.expect_faulty(&[0xF0, 0], ReasonCode::MalformedPacket);
    }
    // On a DISCONNECT with wrong flags the will is sent.
    let mut watcher = scene.connect("w");
    watcher.subscribe("will", 0);
    let mut client = scene.connect_with(&id("c").will(will("will", "gone")));
    client.write(&[0xE1, 0]);
    client.expect_fault(ReasonCode::MalformedPacket);
    watcher.expect_texts(&["gone"]);
}

/// The strict reader looks at the flags of all that comes; here is every packet type once.
fn reserved_flags_from_the_broker(scene: &mut Scene) {
    let mut client = scene.connect("c");
    client.subscribe("t", 2);
    client.publish("t", "1", 1);
    client.publish("t", "2", 2);
    client.expect_texts(&["1", "2"]);
    client.unsubscribe(&["t"]);
    client.ping();
    client.subscribe("t", 2);
    let sent = client.send_publish(&message("t", "3").qos(2));
    client.expect_pubrec(sent);
    let id = client.expect_message().packet_id;
    client.pubrec(id);
    client.expect_bytes(&wire::ack(0x62, id));
}

fn qos_0_has_no_packet_identifier(scene: &mut Scene) {
    let mut client = scene.connect("c");
    client.subscribe("t", 2);
    client.publish("t", "payload", 0);
    let expected = wire::publish(scene.version, 0x30, scene.topic("t"), None, &[], "payload");
    client.expect_bytes(&expected);
    // Inwards: what follows the topic is payload (3.x) or properties (5).
    client.write(&wire::publish(scene.version, 0x30, scene.topic("t"), None, &[], [0, 1, 2]));
    assert_eq!(client.expect_message().payload, [0, 1, 2]);
}

fn packet_identifier_0_is_refused(scene: &mut Scene) {
    let version = scene.version;
    let topic = scene.topic("t");
    let subscribe = wire::request(version, 0x82, 0, wire::join(&[&wire::field(&topic), &[0]]));
    let unsubscribe = wire::request(version, 0xA2, 0, wire::field(&topic));
    scene.expect_faulty(&subscribe, ReasonCode::ProtocolError);
    scene.expect_faulty(&unsubscribe, ReasonCode::ProtocolError);
    for first in [0x32, 0x34] {
        let publish = wire::publish(version, first, &topic, Some(0), &[], "x");
        scene.expect_faulty(&publish, ReasonCode::ProtocolError);
    }
    for first in [0x40, 0x50, 0x62, 0x70] {
        scene.expect_faulty(&wire::ack(first, 0), ReasonCode::ProtocolError);
    }
}

fn new_deliveries_have_unused_identifiers(scene: &mut Scene) {
    let mut subscriber = scene.connect("s");
    subscriber.subscribe("t", 2);
    let mut publisher = scene.connect("p");
    let mut used = vec![false; 65_536];
    for _ in 0..2 {
        // Two stay unacknowledged for most of a round of the identifiers; the reader looks at what is in flight.
        let held = [1, 2].map(|qos| {
            publisher.publish("t", "held", qos);
            subscriber.expect_message()
        });
        for _ in 0..350 {
            for i in 0..100 {
                publisher.publish("t", "x", 1 + i % 2);
            }
            for _ in 0..100 {
                let message = subscriber.expect_message();
                used[message.packet_id as usize] = true;
                subscriber.acknowledge(&message);
            }
        }
        held.iter().for_each(|message| subscriber.acknowledge(message));
    }
    assert!(!used[0], "0 is no identifier");
    assert!(used.iter().filter(|is_used| **is_used).count() > 65_000, "identifiers wrap around");
}

fn acknowledgements_repeat_the_identifier(scene: &mut Scene) {
    let mut subscriber = scene.connect("s");
    subscriber.subscribe("t", 2);
    let mut client = scene.connect("p");
    for packet_id in [1, 0x1234, 0xFF00, 0x00FF, 65_535] {
        client.send_publish(&message("t", "x").qos(1).packet_id(packet_id));
        client.expect_bytes(&wire::ack(0x40, packet_id));
        client.send_publish(&message("t", "x").qos(2).packet_id(packet_id));
        client.expect_bytes(&wire::ack(0x50, packet_id));
        client.pubrel(packet_id);
        client.expect_bytes(&wire::ack(0x70, packet_id));
        subscriber.expect_message();
        // `acknowledge` takes only a PUBREL with the identifier.
        let delivered = subscriber.expect_message();
        assert_eq!(delivered.qos, 2);
        subscriber.acknowledge(&delivered);
    }
}

fn answers_repeat_the_identifier(scene: &mut Scene) {
    let version = scene.version;
    let topic = scene.topic("t");
    let mut client = scene.connect("c");
    for packet_id in [1u16, 0x1234, 65_535] {
        let [high, low] = packet_id.to_be_bytes();
        client.write(&wire::request(version, 0x82, packet_id, wire::join(&[&wire::field(&topic), &[1]])));
        let (suback, unsuback): (Vec<u8>, Vec<u8>) = match scene.is_v5() {
            true => (vec![0x90, 4, high, low, 0, 1], vec![0xB0, 4, high, low, 0, 0]),
            false => (vec![0x90, 3, high, low, 1], vec![0xB0, 2, high, low]),
        };
        client.expect_bytes(&suback);
        client.write(&wire::request(version, 0xA2, packet_id, wire::field(&topic)));
        client.expect_bytes(&unsuback);
        // Also if nothing was subscribed (5: 0x11).
        client.write(&wire::request(version, 0xA2, packet_id, wire::field(&topic)));
        let mut nothing = unsuback;
        if scene.is_v5() {
            nothing[5] = 0x11;
        }
        client.expect_bytes(&nothing);
    }
}

fn an_identifier_is_free_after_its_acknowledgement(scene: &mut Scene) {
    let mut subscriber = scene.connect("s");
    subscriber.subscribe("t", 2);
    let mut publisher = scene.connect("p");
    for (text, qos) in [("a", 1), ("b", 1), ("c", 2), ("d", 2), ("e", 1)] {
        publisher.publish_message(&message("t", text).qos(qos).packet_id(7));
    }
    // After PUBACK even DUP makes it no repetition.
    publisher.publish_message(&message("t", "f").qos(1).packet_id(7).dup());
    subscriber.expect_texts(&["a", "b", "c", "d", "e", "f"]);
    // The identifiers of requests too.
    let version = scene.version;
    for filter in ["u", "v"] {
        let entry = wire::join(&[&wire::field(scene.topic(filter)), &[0]]);
        publisher.write(&wire::request(version, 0x82, 7, entry));
        assert_eq!(publisher.expect_suback(7), [0]);
        publisher.publish(filter, filter, 0);
        publisher.expect_texts(&[filter]);
    }
}

fn no_properties_are_a_length_of_0(scene: &mut Scene) {
    let mut client = scene.connect("c");
    client.subscribe("t", 1);
    client.publish_message(&message("t", "x").qos(1));
    let id = client.expect_message().packet_id;
    client.puback(id);
    let subscribe = wire::request(Version::V5, 0x82, 9, wire::join(&[&wire::field(scene.topic("u")), &[0]]));
    client.write(&subscribe);
    client.expect_bytes(&[0x90, 4, 0, 9, 0, 0]);
    client.write(&wire::request(Version::V5, 0xA2, 10, wire::field(scene.topic("u"))));
    client.expect_bytes(&[0xB0, 4, 0, 10, 0, 0]);
    client.publish("t", "y", 0);
    client.expect_bytes(&wire::publish(Version::V5, 0x30, scene.topic("t"), None, &[], "y"));
    // A client that leaves the length out sends no packet: its topic filter is taken for properties.
    let entry = wire::join(&[&[0, 1], &wire::field("t"), &[0][..]]);
    scene.expect_faulty(&wire::packet(0x82, entry), ReasonCode::MalformedPacket);
    let payload = wire::join(&[&wire::connect_head("MQTT", 5, wire::CLEAN), &wire::field("ab")]);
    scene.expect_refused(&wire::packet(0x10, payload), ReasonCode::MalformedPacket);
}
