//! CONNECT: its format, client ids, what is refused (3.1).

use super::prelude::*;
use super::wire::{
    CLEAN, PASSWORD, USER_NAME, WILL, WILL_RETAIN, connect, connect_with, field, join, packet,
};

pub fn cases() -> Vec<Case> {
    vec![
        case!(connect_comes_first).v5("3.1.0-1").v311("3.1.0-1"),
        case!(a_second_connect_is_a_protocol_error).v5("3.1.0-2 3.2.0-2").v311("3.1.0-2"),
        case!(an_unknown_protocol_name_is_closed).v5("3.1.2-1").v311("3.1.2-1"),
        case!(an_unknown_level_is_told).v5("3.1.2-2").v311("3.1.2-2"),
        case!(every_version_has_its_name_and_level).v5("3.1.2-1 3.1.2-2").v311("3.1.2-1"),
        case!(the_reserved_connect_flag_is_0).v5("3.1.2-3").v311("3.1.2-3").versions(FROM_V311),
        case!(a_will_has_its_fields).v5("3.1.2-9").v311("3.1.2-9"),
        case!(will_flags_need_a_will).v5("3.1.2-11 3.1.2-13").v311("3.1.2-11 3.1.2-13 3.1.2-15"),
        case!(will_qos_3_is_malformed).v5("3.1.2-12").v311("3.1.2-14"),
        case!(user_name_and_password_are_as_flagged)
            .v5("3.1.2-16 3.1.2-17 3.1.2-18 3.1.2-19")
            .v311("3.1.2-18 3.1.2-19 3.1.2-20 3.1.2-21"),
        case!(a_password_needs_a_user_name_before_5).v5("3.1.2-19").v311("3.1.2-22"),
        case!(payload_fields_have_their_order)
            .v5("3.1.3-1 3.1.2-17 3.1.2-19")
            .v311("3.1.3-1 3.1.2-19 3.1.2-21")
            .with(&[Set::Login])
            .core_only("needs an authenticator that tells what it saw"),
        case!(a_payload_without_client_id_is_malformed).v5("3.1.3-3").v311("3.1.3-3"),
        case!(ids_of_1_to_23_letters_and_digits_are_accepted).v5("3.1.3-5").v311("3.1.3-5").alone(),
        case!(the_client_id_identifies_the_session).v5("3.1.3-2").v311("3.1.3-2"),
        case!(an_empty_id_is_replaced_by_a_unique_one).v5("3.1.3-6 3.1.3-7 3.2.2-16"),
        case!(an_empty_id_needs_clean_session).v311("3.1.3-6 3.1.3-7 3.1.3-8").versions(ONLY_V311),
        case!(a_refused_id_is_told)
            .v5("3.1.3-8 3.2.2-7")
            .v311("3.1.3-9 3.2.2-5")
            .with(&[Set::ClientIdBytesMax(30)]),
        case!(a_malformed_connect_is_closed).v5("3.1.4-1 3.14.0-1").v311("3.1.4-1 3.2.2-6"),
        case!(properties_of_connect_are_checked).v5("3.1.4-1 4.13.1-1"),
        case!(a_wrong_password_is_refused)
            .v5("3.1.4-2 3.1.4-6 3.2.2-6 3.2.2-7")
            .v311("3.1.4-5 3.2.2-4 3.2.2-5")
            .with(&[Set::Login])
            .core_only("needs an authenticator"),
        case!(nothing_after_a_refused_connect_is_processed)
            .v5("3.1.4-6 3.1.4-2")
            .v311("3.1.4-5")
            .with(&[Set::ClientIdBytesMax(30)]),
        case!(packets_behind_connect_are_served_in_order).v5("3.1.4-5 3.2.0-1").v311("3.1.4-4 3.2.0-1"),
        case!(a_connect_may_come_in_pieces).v5("4.2-1").v311("7.1.1-1 7.0.0-2"),
    ]
}

fn connect_comes_first(scene: &mut Scene) {
    let topic = scene.topic("t");
    let mut watcher = scene.subscriber("w", "t", 0);
    let version = scene.version;
    let publish = |first, id| wire::publish(version, first, &topic, id, &[], "x");
    let mut packets = vec![
        publish(0x30, None),
        publish(0x31, None),
        publish(0x32, Some(1)),
        publish(0x34, Some(1)),
        wire::ack(0x40, 1),
        wire::ack(0x50, 1),
        wire::ack(0x62, 1),
        wire::ack(0x70, 1),
        wire::request(version, 0x82, 1, join(&[&field(&topic), &[0]])),
        wire::request(version, 0xA2, 1, field(&topic)),
        // What only a server sends.
        vec![0x20, 2, 0, 0],
        vec![0x90, 3, 0, 1, 0],
        vec![0xB0, 2, 0, 1],
        vec![0xC0, 0],
        vec![0xD0, 0],
        vec![0xE0, 0],
        vec![0xF0, 0],
        // No MQTT at all, and CONNECT with flags.
        b"GET / HTTP/1.1\r\n\r\n".to_vec(),
        vec![0x00, 0],
        vec![0xFF, 0xFF, 0xFF, 0xFF, 0xFF],
    ];
    let mut flagged = connect(version, CLEAN, field("x"));
    flagged[0] = 0x11;
    packets.push(flagged);
    for bytes in packets {
        let mut peer = scene.open();
        peer.write(&bytes);
        peer.expect_end();
    }
    watcher.expect_silence();
}

fn a_second_connect_is_a_protocol_error(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "will", 0);
    let options = id("c").will(will("will", "gone"));
    let mut client = scene.connect_with(&options);
    let bytes = scene.encode(&options);
    client.write(&bytes);
    // The reader refuses a second CONNACK.
    client.expect_fault(ReasonCode::ProtocolError);
    watcher.expect_texts(&["gone"]);
    // In one segment: the first is served.
    let mut client = scene.open();
    client.write(&[&bytes[..], &bytes].concat());
    client.expect_connected();
    client.expect_fault(ReasonCode::ProtocolError);
    watcher.expect_texts(&["gone"]);
}

fn an_unknown_protocol_name_is_closed(scene: &mut Scene) {
    let level = scene.version.level();
    for name in ["MQTX", "mqtt", "", "MQTTT", "MQT", "MQIsdq", "MQISDP", "MQTT\0"] {
        let mut body = wire::connect_head(name, level, CLEAN);
        body.extend(wire::section_of(scene.version, &[]));
        body.extend(field("x"));
        let mut peer = scene.open();
        peer.write(&packet(0x10, body));
        peer.expect_end();
    }
}

fn an_unknown_level_is_told(scene: &mut Scene) {
    // The answer has the form of the nearest version.
    let (name, levels): (&str, &[u8]) = match scene.version {
        Version::V31 => ("MQIsdp", &[0, 1, 2, 4, 5, 6, 255]),
        Version::V311 => ("MQTT", &[0, 1, 2, 3]),
        Version::V5 => ("MQTT", &[6, 7, 127, 255]),
    };
    for level in levels {
        let mut body = wire::connect_head(name, *level, CLEAN);
        body.extend(wire::section_of(scene.version, &[]));
        body.extend(field("x"));
        scene.expect_refused(&packet(0x10, body), ReasonCode::UnsupportedProtocolVersion);
    }
}

fn every_version_has_its_name_and_level(scene: &mut Scene) {
    let (name, level) = match scene.version {
        Version::V31 => (&b"\0\x06MQIsdp"[..], 3),
        Version::V311 => (&b"\0\x04MQTT"[..], 4),
        Version::V5 => (&b"\0\x04MQTT"[..], 5),
    };
    let client_id = field(scene.client_id("c"));
    let section = wire::section_of(scene.version, &[]);
    let mut client = scene.open();
    client.write(&packet(0x10, join(&[name, &[level, CLEAN, 0, 0], &section, &client_id])));
    assert!(!client.expect_connected());
    client.ping();
}

fn the_reserved_connect_flag_is_0(scene: &mut Scene) {
    for flags in [0x01, 0x03] {
        let client_id = field(scene.client_id("c"));
        scene.expect_refused(&connect(scene.version, flags, client_id), ReasonCode::MalformedPacket);
    }
}

fn a_will_has_its_fields(scene: &mut Scene) {
    let version = scene.version;
    let client_id = field(scene.client_id("c"));
    let section = wire::section_of(version, &[]);
    let topic = field(scene.topic("will"));
    let malformed = |payload: &[u8], scene: &mut Scene| {
        scene.expect_refused(&connect(version, CLEAN | WILL, payload), ReasonCode::MalformedPacket);
    };
    malformed(&client_id, scene);
    malformed(&join(&[&client_id, &section, &topic]), scene);
    malformed(&join(&[&client_id, &section, &topic, &[0, 5], b"shor"]), scene);
    // An empty will message is one.
    let mut watcher = scene.subscriber("w", "will", 0);
    let mut client = scene.open();
    client.write(&connect(version, CLEAN | WILL, join(&[&client_id, &section, &topic, &[0, 0]])));
    client.expect_connected();
    client.cut();
    watcher.expect_texts(&[""]);
}

fn will_flags_need_a_will(scene: &mut Scene) {
    let client_id = field(scene.client_id("c"));
    for flags in [0x08, 0x10, 0x18, WILL_RETAIN, WILL_RETAIN | 0x08] {
        let bytes = connect(scene.version, CLEAN | flags, &client_id);
        scene.expect_refused(&bytes, ReasonCode::MalformedPacket);
    }
}

fn will_qos_3_is_malformed(scene: &mut Scene) {
    let version = scene.version;
    let payload = join(&[
        &field(scene.client_id("c")),
        &wire::section_of(version, &[]),
        &field(scene.topic("will")),
        &field("x"),
    ]);
    for flags in [0x18, 0x18 | WILL_RETAIN] {
        let bytes = connect(version, CLEAN | WILL | flags, &payload);
        scene.expect_refused(&bytes, ReasonCode::MalformedPacket);
    }
}

fn user_name_and_password_are_as_flagged(scene: &mut Scene) {
    let version = scene.version;
    let client_id = field(scene.client_id("c"));
    let malformed = |flags: u8, payload: &[u8], scene: &mut Scene| {
        scene.expect_refused(&connect(version, CLEAN | flags, payload), ReasonCode::MalformedPacket);
    };
    // Flagged and absent, or cut off.
    malformed(USER_NAME, &client_id, scene);
    malformed(USER_NAME, &join(&[&client_id, &[0, 9], b"short"]), scene);
    malformed(USER_NAME | PASSWORD, &join(&[&client_id, &field("user")]), scene);
    malformed(USER_NAME | PASSWORD, &join(&[&client_id, &field("user"), &[0]]), scene);
    // There and not flagged.
    malformed(0, &join(&[&client_id, &field("user")]), scene);
    malformed(USER_NAME, &join(&[&client_id, &field("user"), &field("secret")]), scene);
    // Empty ones are legal.
    for (flags, payload) in [
        (USER_NAME, join(&[&client_id, &field("")])),
        (USER_NAME | PASSWORD, join(&[&client_id, &field(""), &field("")])),
    ] {
        let mut client = scene.open();
        client.write(&connect(version, CLEAN | flags, payload));
        client.expect_connected();
    }
}

fn a_password_needs_a_user_name_before_5(scene: &mut Scene) {
    let payload = join(&[&field(scene.client_id("c")), &field("secret")]);
    let bytes = connect(scene.version, CLEAN | PASSWORD, payload);
    if scene.is_v5() {
        let mut client = scene.open();
        client.write(&bytes);
        client.expect_connected();
    } else {
        scene.expect_refused(&bytes, ReasonCode::MalformedPacket);
    }
}

fn payload_fields_have_their_order(scene: &mut Scene) {
    let version = scene.version;
    let mut watcher = scene.connect_with(&id("w").login("user", "secret"));
    watcher.subscribe("will/#", 2);
    let payload = join(&[
        &field(scene.client_id("c")),
        &wire::section_of(version, &[]),
        &field(scene.topic("will/topic")),
        &field("will payload"),
        &field("user"),
        &field("secret"),
    ]);
    let mut client = scene.open();
    client.write(&connect(version, CLEAN | WILL | USER_NAME | PASSWORD | 0x10, payload));
    client.expect_connected();
    client.cut();
    let found = watcher.expect_message();
    assert_eq!((found.topic.as_str(), found.text(), found.qos), ("will/topic", "will payload", 2));
}

fn a_payload_without_client_id_is_malformed(scene: &mut Scene) {
    scene.expect_refused(&connect(scene.version, CLEAN, []), ReasonCode::MalformedPacket);
    scene.expect_refused(&connect(scene.version, CLEAN, [0]), ReasonCode::MalformedPacket);
    scene.expect_refused(&connect(scene.version, CLEAN, [0, 4, b'a']), ReasonCode::MalformedPacket);
}

fn ids_of_1_to_23_letters_and_digits_are_accepted(scene: &mut Scene) {
    for client_id in ["a", "Z", "0", "0123456789abcdefghijklm", "nopqrstuvwxyzABCDEFGHIJ", "KLMNOPQRSTUVWXYZ"]
    {
        let mut client = scene.connect_with(&id(client_id).exact_id());
        client.ping();
    }
}

fn the_client_id_identifies_the_session(scene: &mut Scene) {
    let mut lower = scene.connect_with(&id("client").kept());
    lower.subscribe("for/lower", 1);
    // Only the case differs, or one has the other as its beginning: other clients.
    let mut upper = scene.reconnect(&id("CLIENT").kept(), false);
    upper.subscribe("for/upper", 1);
    let mut longer = scene.reconnect(&id("client2").kept(), false);
    lower.ping();
    upper.ping();
    longer.ping();
    for peer in [lower, upper, longer] {
        peer.cut();
    }
    let mut publisher = scene.connect("p");
    publisher.publish("for/lower", "l", 1);
    publisher.publish("for/upper", "u", 1);
    scene.reconnect(&id("client").kept(), true).expect_texts(&["l"]);
    scene.reconnect(&id("CLIENT").kept(), true).expect_texts(&["u"]);
    scene.reconnect(&id("client2").kept(), true).expect_silence();
}

fn an_empty_id_is_replaced_by_a_unique_one(scene: &mut Scene) {
    let anonymous = id("").exact_id().expiry(3600);
    let mut assigned: Vec<String> = vec![];
    for round in 0..2 {
        let mut peers: Vec<Peer> = vec![];
        for i in 0..20 {
            let options = if i % 2 == 0 { anonymous.clone() } else { anonymous.clone().resume() };
            let mut peer = scene.try_connect(&options);
            let connack = peer.expect_connack();
            assert_eq!((connack.code, connack.session_present), (0, false));
            let given =
                connack.properties.text(PropertyId::AssignedClientIdentifier).expect("an id").to_owned();
            assert!(!given.is_empty() && !assigned.contains(&given), "{given} in round {round}");
            assigned.push(given);
            peer.subscribe("t", 1);
            peers.push(peer);
        }
        // None disconnects another; in the second round the sessions of the first are only stored.
        peers.iter_mut().for_each(Peer::ping);
        peers.into_iter().for_each(Peer::cut);
    }
    // It is an id like any other.
    let mut publisher = scene.connect("p");
    publisher.publish("t", "kept", 1);
    let mut again = scene.reconnect(&id(&assigned[0]).exact_id().resume(), true);
    again.expect_texts(&["kept"]);
    let mut other = scene.try_connect(&id("named"));
    assert!(!other.expect_connack().properties.has(PropertyId::AssignedClientIdentifier));
}

fn an_empty_id_needs_clean_session(scene: &mut Scene) {
    let mut refused = scene.open();
    refused.write(&connect(Version::V311, 0, field("")));
    refused.expect_bytes(&[0x20, 2, 0, 2]);
    refused.expect_end();
    let mut first = scene.connect_with(&id("").exact_id());
    let mut second = scene.connect_with(&id("").exact_id());
    first.subscribe("t", 0);
    second.publish("t", "x", 0);
    first.expect_texts(&["x"]);
    second.ping();
}

fn a_refused_id_is_told(scene: &mut Scene) {
    for options in [scene.id_of_len(31), scene.id_of_len(31).kept(), scene.id_of_len(1_000)] {
        scene.try_connect(&options).expect_refusal(ReasonCode::ClientIdentifierNotValid);
    }
    scene.connect_with(&scene.id_of_len(30)).ping();
}

/// Not one byte of a DISCONNECT, and in 3.x no CONNACK either.
fn a_malformed_connect_is_closed(scene: &mut Scene) {
    let version = scene.version;
    let client_id = scene.client_id("c");
    let whole = connect(version, CLEAN | USER_NAME, join(&[&field(&client_id), &field("user")]));
    let body = &whole[2..];
    let head = wire::connect_head(if version == Version::V31 { "MQIsdp" } else { "MQTT" }, 0, 0).len() - 3;
    for len in 0..body.len() {
        let mut peer = scene.open();
        peer.write(&packet(0x10, &body[..len]));
        // Without a level the version is unknown: no answer either.
        if len < head { peer.expect_end() } else { peer.expect_refusal(ReasonCode::MalformedPacket) }
    }
    scene.expect_refused(&packet(0x10, join(&[body, &[0]])), ReasonCode::MalformedPacket);
    scene.expect_refused(&packet(0x10, join(&[body, &field("surplus")])), ReasonCode::MalformedPacket);
}

fn properties_of_connect_are_checked(scene: &mut Scene) {
    let client_id = field(scene.client_id("c"));
    let refused = |properties: &[u8], code: ReasonCode, scene: &mut Scene| {
        scene.expect_refused(&connect_with(Version::V5, CLEAN, properties, &client_id), code);
    };
    use ReasonCode::{MalformedPacket, ProtocolError};
    // Every property of CONNECT twice.
    let text = field("x");
    for once in [
        join(&[&[0x11], &[0, 0, 0, 1]]),
        join(&[&[0x21], &[0, 1]]),
        join(&[&[0x27], &[0, 0, 1, 0]]),
        join(&[&[0x22], &[0, 1]]),
        vec![0x19, 1],
        vec![0x17, 1],
        join(&[&[0x15], &text]),
    ] {
        refused(&join(&[&once, &once]), ProtocolError, scene);
        // And cut off.
        refused(&once[..once.len() - 1], MalformedPacket, scene);
    }
    let data = join(&[&[0x15], &text, &[0x16], &text, &[0x16], &text]);
    refused(&data, ProtocolError, scene);
    // Authentication Data without a method; values out of range.
    refused(&join(&[&[0x16], &text]), ProtocolError, scene);
    refused(&[0x21, 0, 0], ProtocolError, scene);
    refused(&[0x27, 0, 0, 0, 0], ProtocolError, scene);
    refused(&[0x19, 2], ProtocolError, scene);
    refused(&[0x17, 2], ProtocolError, scene);
    // Those of other packets, and of none.
    for foreign in [&[0x01, 1][..], &[0x02, 0, 0, 0, 1], &[0x0B, 1], &[0x13, 0, 1], &[0x23, 0, 1], &[0x24, 1]]
    {
        refused(foreign, MalformedPacket, scene);
    }
    for unknown in [0x00, 0x04, 0x0C, 0x2B, 0x7F, 0x80, 0xFF] {
        refused(&[unknown, 0], MalformedPacket, scene);
    }
    // A section that is longer than the packet.
    let mut body = wire::connect_head("MQTT", 5, CLEAN);
    body.extend([0x7F, 0x11, 0, 0, 0, 1]);
    body.extend(&client_id);
    scene.expect_refused(&packet(0x10, body), MalformedPacket);
    // The will's section is checked too.
    let will_rest = join(&[&field(scene.topic("will")), &field("x")]);
    for (section, code) in [
        (&[0x18, 0, 0, 0, 1, 0x18, 0, 0, 0, 1][..], ProtocolError),
        (&[0x01, 2], ProtocolError),
        (&[0x11, 0, 0, 0, 1], MalformedPacket),
        (&[0x23, 0, 1], MalformedPacket),
    ] {
        let payload = join(&[&client_id, &wire::section(section), &will_rest]);
        scene.expect_refused(&connect(Version::V5, CLEAN | WILL, payload), code);
    }
}

fn a_wrong_password_is_refused(scene: &mut Scene) {
    let known = |name: &str| id(name).login("user", "secret");
    let mut watcher = scene.connect_with(&known("w"));
    watcher.subscribe("#", 1);
    let mut kept = scene.connect_with(&known("c").kept());
    kept.subscribe("t", 1);
    kept.cut();
    // No session is made or touched, no will is stored.
    for options in [
        id("c").kept().login("user", "wrong"),
        id("c").kept().login("other", "secret"),
        id("c").kept(),
        id("c").login("user", "wrong").will(will("will", "never")),
    ] {
        let mut refused = scene.try_connect(&options);
        refused.expect_refusal(ReasonCode::BadUserNameOrPassword);
    }
    let mut live = scene.reconnect(&known("c").kept(), true);
    scene.try_connect(&id("c").login("user", "wrong")).expect_refusal(ReasonCode::BadUserNameOrPassword);
    live.ping();
    watcher.publish("t", "x", 1);
    live.expect_texts(&["x"]);
    watcher.expect_texts(&["x"]);
    // What follows in the same segment has no effect.
    let bytes = scene.encode(&id("d").login("user", "wrong"));
    let publish = wire::publish(scene.version, 0x31, scene.topic("u"), None, &[], "never");
    let mut refused = scene.open();
    refused.write(&[&bytes[..], &publish].concat());
    refused.expect_refusal(ReasonCode::BadUserNameOrPassword);
    watcher.expect_silence();
    let mut late = scene.connect_with(&known("late"));
    late.subscribe("#", 1);
    late.expect_silence();
}

fn nothing_after_a_refused_connect_is_processed(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "#", 1);
    let long = "x".repeat(31);
    let bytes = scene.encode(&id(&long).exact_id().will(will("will", "never")));
    let publish = wire::publish(scene.version, 0x31, scene.topic("t"), None, &[], "never");
    let mut refused = scene.open();
    refused.write(&[&bytes[..], &publish].concat());
    refused.expect_refusal(ReasonCode::ClientIdentifierNotValid);
    watcher.expect_silence();
    scene.subscriber("late", "#", 1).expect_silence();
}

fn packets_behind_connect_are_served_in_order(scene: &mut Scene) {
    let version = scene.version;
    let topic = scene.topic("t");
    // On every shard in turn: the first bytes arrive elsewhere than at home, and move along.
    for client_id in ["a", "b", "c", "d", "e", "f"] {
        let bytes = [
            scene.encode(&id(client_id)),
            wire::request(version, 0x82, 1, join(&[&field(&topic), &[1]])),
            wire::publish(version, 0x32, &topic, Some(2), &[], client_id),
            vec![0xC0, 0],
        ];
        let mut client = scene.open();
        client.write(&bytes.concat());
        assert!(!client.expect_connected());
        // SUBACK may come later than what follows it: it waits for the other shards. The subscription holds at once.
        let packets = client.take_packets();
        let is_message = |packet: &Received| match packet {
            Received::Publish(message) => message.text() == client_id,
            _ => false,
        };
        assert_eq!(packets.len(), 4, "{packets:?}");
        assert!(packets.iter().any(|packet| matches!(packet, Received::SubAck(_))));
        assert!(packets.iter().any(|packet| matches!(packet, Received::PubAck(ack) if ack.code == 0)));
        assert!(packets.contains(&Received::PingResp));
        assert!(packets.iter().any(is_message));
        client.disconnect();
    }
}

fn a_connect_may_come_in_pieces(scene: &mut Scene) {
    let bytes = scene.encode(&id("c").will(will("will", "x")).login("user", "secret"));
    let mut client = scene.open();
    for byte in &bytes {
        client.write(&[*byte]);
    }
    client.expect_connected();
    client.ping();
}
