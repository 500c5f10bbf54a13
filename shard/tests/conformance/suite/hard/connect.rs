//! HC-CON: the first packet, refusals, keep alive.

use shard::EndReason;

use crate::suite::prelude::*;

pub fn cases() -> Vec<Case> {
    vec![
        case!(first_packet_is_no_connect).hard("HC-CON-1"),
        case!(second_connect).hard("HC-CON-2"),
        case!(all_in_one_segment).hard("HC-CON-3"),
        case!(all_in_one_segment_refused).hard("HC-CON-3"),
        case!(connect_split_anywhere).hard("HC-CON-4"),
        case!(connect_deadline).hard("HC-CON-5").core_only("takes five seconds, and counts"),
        case!(protocol_names_and_levels).hard("HC-CON-6"),
        case!(bridge_levels).hard("HC-CON-6").versions(V3),
        case!(contradicting_flags).hard("HC-CON-7").versions(FROM_V311),
        case!(password_without_user_name).hard("HC-CON-8"),
        case!(long_client_id).hard("HC-CON-9"),
        case!(empty_client_id_of_3).hard("HC-CON-10").versions(V3),
        case!(assigned_client_id_resumes).hard("HC-CON-11").versions(ONLY_V5),
        case!(properties_doubled_foreign_unknown).hard("HC-CON-12").versions(ONLY_V5),
        case!(properties_out_of_range).hard("HC-CON-13").versions(ONLY_V5),
        case!(no_problem_information)
            .hard("HC-CON-14")
            .versions(ONLY_V5)
            .with(&[Set::DeniedLevel, Set::SubscriptionsMax(1)]),
        case!(connack_fits_the_maximum_packet_size)
            .hard("HC-CON-15 HC-CON-16")
            .versions(ONLY_V5)
            .with(&[Set::ResponseInformation("some information"), Set::MaximumQos(1)]),
        case!(silence_is_counted_by_what_the_client_sends).hard("HC-CON-17").core_only("takes half a minute"),
        case!(a_packet_that_trickles_in).hard("HC-CON-18").core_only("takes minutes"),
        case!(keep_alive_of_the_server).hard("HC-CON-19").with(&[Set::KeepAliveMax(2)]),
        case!(refusals_touch_nothing).hard("HC-CON-20").versions(ONLY_V5).with(&[
            Set::MaximumQos(1),
            Set::RetainUnavailable,
            Set::ClientIdBytesMax(100),
        ]),
        case!(refusals_by_the_authenticator_touch_nothing)
            .hard("HC-CON-20 HC-CON-21")
            .with(&[Set::Login])
            .core_only("needs an authenticator"),
        case!(refusal_for_want_of_room)
            .hard("HC-CON-20")
            .core_with("sets the bound of sessions", |config| config.limits.sessions_max = 1),
        case!(client_ids_byte_for_byte).hard("HC-CON-22"),
        case!(client_ids_that_are_no_text).hard("HC-CON-22"),
        case!(remaining_length_of_five_bytes_or_not_minimal).hard("HC-CON-23"),
        case!(will_properties_are_kept).hard("HC-CON-24").versions(ONLY_V5),
    ]
}

fn first_packet_is_no_connect(scene: &mut Scene) {
    for kind in (0..=15u8).filter(|kind| *kind != 1) {
        for flags in [0, 2, 0x0F] {
            for body in [&[][..], &[0, 1], b"\x00\x04MQTT\x04\x02\x00\x00\x00\x00"] {
                let mut peer = scene.open();
                peer.write(&wire::packet(kind << 4 | flags, body));
                peer.expect_end();
            }
        }
    }
    for garbage in [&b"GET / HTTP/1.1\r\n\r\n"[..], b"\x16\x03\x01\x02\x00", b"\x11\x00", &[0xFF; 600]] {
        let mut peer = scene.open();
        peer.write(garbage);
        peer.expect_end();
    }
}

fn second_connect(scene: &mut Scene) {
    let mut watcher = scene.subscriber("watcher", "will/#", 0);
    for is_same_segment in [false, true] {
        let first = scene.encode(&id("twice").will(will("will/first", "first")));
        let second = scene.encode(&id("other").will(will("will/second", "second")));
        let mut peer = scene.open();
        if is_same_segment {
            peer.write(&[first, second].concat());
            peer.expect_connected();
        } else {
            peer.write(&first);
            peer.expect_connected();
            peer.write(&second);
        }
        peer.expect_fault(ReasonCode::ProtocolError);
        watcher.expect_texts(&["first"]);
    }
}

fn all_in_one_segment(scene: &mut Scene) {
    let mut bytes = scene.encode(&id("fast"));
    bytes.extend(subscribe(scene, "fast/#"));
    bytes.extend(wire::publish(scene.version, 0x30, scene.topic("fast/1"), None, &[], "one"));
    bytes.extend([0xC0, 0]);
    let mut peer = scene.open();
    peer.write(&bytes);
    peer.expect_connected();
    let mut kinds = vec![];
    for _ in 0..3 {
        kinds.push(match peer.expect_packet() {
            Received::SubAck(answer) => format!("suback {}", answer.codes[0]),
            Received::Publish(message) => format!("message {}", message.text()),
            other => format!("{other:?}"),
        });
    }
    // A SUBACK may wait until all shards know the route, while PINGRESP does not; the message is its own anyway.
    kinds.sort();
    assert_eq!(kinds, ["PingResp", "message one", "suback 0"]);
    peer.expect_silence();
}

/// SUBSCRIBE with packet identifier 1 at QoS 0, below the root.
fn subscribe(scene: &Scene, filter: &str) -> Vec<u8> {
    let entry = [&wire::field(scene.topic(filter))[..], &[0]].concat();
    wire::request(scene.version, 0x82, 1, entry)
}

fn all_in_one_segment_refused(scene: &mut Scene) {
    let mut watcher = scene.subscriber("watcher", "fast/#", 0);
    // The will's topic is none.
    let connect = scene.encode(&id("fast").will(will("fast/+", "will")));
    let publish = wire::publish(scene.version, 0x31, scene.topic("fast/1"), None, &[], "one");
    let mut peer = scene.open();
    peer.write(&[&connect[..], &subscribe(scene, "fast/#"), &publish, &[0xC0, 0]].concat());
    peer.expect_refusal(ReasonCode::TopicNameInvalid);
    watcher.expect_silence();
    scene.subscriber("late", "fast/#", 0).expect_silence();
    scene.reconnect(&id("fast").resume(), false);
}

fn connect_split_anywhere(scene: &mut Scene) {
    let options = id("pieces").keep_alive(60).login("name", "password").will(will("will/t", "w").qos(1));
    let whole = scene.encode(&options);
    for cut in 1..whole.len() {
        let mut peer = scene.open();
        peer.write(&whole[..cut]);
        scene.pass(1);
        peer.write(&whole[cut..]);
        assert!(!peer.expect_connected(), "cut at {cut}");
        peer.disconnect();
    }
    let mut peer = scene.open();
    for byte in whole {
        peer.write(&[byte]);
    }
    peer.expect_connected();
    peer.ping();
}

fn connect_deadline(scene: &mut Scene) {
    let whole = scene.encode(&id("slow"));
    let mut slow = scene.open();
    let mut silent = scene.open();
    for byte in &whole[..4] {
        slow.write(&[*byte]);
        scene.pass(1200);
    }
    // 4.8 s are over.
    slow.write(&whole[4..5]);
    slow.expect_silence();
    silent.expect_silence();
    scene.pass(250);
    slow.expect_end();
    silent.expect_end();
    assert_eq!(scene.figure(|m| m.connect_rejected[EndReason::ConnectTimeout as usize]), 2);
    assert_eq!(scene.figure(|m| m.connections_pending), 0);
}

/// CONNECT with any name and level, in the rest as the version has it.
fn named(name: &str, level: u8, scene: &Scene) -> Vec<u8> {
    let client_id = wire::field(scene.client_id("named"));
    let payload = wire::join(&[&wire::section_of(scene.version, &[]), &client_id]);
    wire::packet(0x10, [wire::connect_head(name, level, wire::CLEAN), payload].concat())
}

fn protocol_names_and_levels(scene: &mut Scene) {
    let (name, levels): (&str, &[u8]) = match scene.version {
        Version::V31 => ("MQIsdp", &[0, 4, 5, 6, 0x84]),
        Version::V311 => ("MQTT", &[0, 3]),
        Version::V5 => ("MQTT", &[6, 7, 0x7F, 0x83, 0x85, 0xFF]),
    };
    for level in levels {
        scene.expect_refused(&named(name, *level, scene), ReasonCode::UnsupportedProtocolVersion);
    }
    for name in ["", "mqtt", "MQTT5", "MQT", "AMQP"] {
        let mut peer = scene.open();
        peer.write(&named(name, scene.version.level(), scene));
        peer.expect_end();
    }
}

fn bridge_levels(scene: &mut Scene) {
    let name = if scene.version == Version::V31 { "MQIsdp" } else { "MQTT" };
    let mut bridge = scene.open();
    bridge.write(&named(name, scene.version.level() | 0x80, scene));
    bridge.expect_connected();
    bridge.subscribe("#", 1);
    let mut other = scene.subscriber("other", "t", 0);
    bridge.publish("t", "from the bridge", 1);
    bridge.expect_silence();
    other.expect_texts(&["from the bridge"]);
    other.publish("t", "to the bridge", 1);
    bridge.expect_texts(&["to the bridge"]);
}

fn contradicting_flags(scene: &mut Scene) {
    let version = scene.version;
    let client_id = wire::field(scene.client_id("flags"));
    let will = wire::join(&[&wire::section_of(version, &[]), &wire::field("t"), &wire::field("m")]);
    let with_will = wire::join(&[&client_id, &will]);
    let table: [(u8, &[u8]); 8] = [
        (0x01, &client_id),
        (wire::WILL | 0x01, &with_will),
        (wire::WILL | 0x18, &with_will),
        (0x08, &client_id),
        (0x10, &client_id),
        (wire::WILL_RETAIN, &client_id),
        (wire::WILL, &client_id),
        // User name flag without a user name.
        (wire::USER_NAME, &client_id),
    ];
    for (flags, payload) in table {
        let bytes = wire::connect(version, wire::CLEAN | flags, payload);
        scene.expect_refused(&bytes, ReasonCode::MalformedPacket);
    }
}

fn password_without_user_name(scene: &mut Scene) {
    let payload = wire::join(&[&wire::field(scene.client_id("secretive")), &wire::field("password")]);
    let bytes = wire::connect(scene.version, wire::CLEAN | wire::PASSWORD, payload);
    let mut peer = scene.open();
    peer.write(&bytes);
    if scene.is_v5() {
        peer.expect_connected();
        peer.ping();
    } else {
        peer.expect_end();
    }
}

fn long_client_id(scene: &mut Scene) {
    for len in [23, 24, 25, 65, 1024] {
        let mut peer = scene.connect_with(&scene.id_of_len(len));
        peer.ping();
    }
    let mut peer = scene.try_connect(&scene.id_of_len(1025));
    peer.expect_refusal(ReasonCode::ClientIdentifierNotValid);
}

fn empty_client_id_of_3(scene: &mut Scene) {
    let mut resuming = scene.try_connect(&id("").exact_id().resume());
    resuming.expect_refusal(ReasonCode::ClientIdentifierNotValid);
    for _ in 0..4 {
        let mut peer = scene.try_connect(&id("").exact_id());
        if scene.version == Version::V31 {
            peer.expect_refusal(ReasonCode::ClientIdentifierNotValid);
            continue;
        }
        peer.expect_connected();
        // Nobody else has the generated id.
        let mut other = scene.connect_with(&id("").exact_id());
        other.subscribe("x", 0);
        peer.ping();
        other.ping();
    }
}

fn assigned_client_id_resumes(scene: &mut Scene) {
    for options in [id("").exact_id(), id("").exact_id().resume()] {
        let mut peer = scene.try_connect(&options.expiry(60));
        let connack = peer.expect_connack();
        assert_eq!((connack.code, connack.session_present), (0, false));
        let assigned = connack.properties.text(PropertyId::AssignedClientIdentifier).expect("assigned");
        peer.subscribe("assigned/t", 1);
        peer.cut();
        scene.connect("sender").publish("assigned/t", "kept", 1);
        let mut peer = scene.reconnect(&id(assigned).exact_id().kept(), true);
        peer.expect_texts(&["kept"]);
        peer.disconnect_with(
            ReasonCode::Success,
            &properties(|w| w.u32(PropertyId::SessionExpiryInterval, 0)),
        );
    }
}

/// Properties of CONNECT, each with a value that is allowed.
fn connect_properties() -> Vec<Vec<u8>> {
    vec![
        properties(|w| w.u32(PropertyId::SessionExpiryInterval, 1)),
        properties(|w| w.str(PropertyId::AuthenticationMethod, "m")),
        properties(|w| w.u8(PropertyId::RequestProblemInformation, 1)),
        properties(|w| w.u8(PropertyId::RequestResponseInformation, 1)),
        properties(|w| w.u16(PropertyId::ReceiveMaximum, 9)),
        properties(|w| w.u16(PropertyId::TopicAliasMaximum, 9)),
        properties(|w| w.u32(PropertyId::MaximumPacketSize, 999)),
    ]
}

fn connect_v5(scene: &Scene, properties: &[u8]) -> Vec<u8> {
    let payload = wire::field(scene.client_id("properties"));
    wire::connect_with(Version::V5, wire::CLEAN, properties, payload)
}

fn properties_doubled_foreign_unknown(scene: &mut Scene) {
    for property in connect_properties() {
        let bytes = connect_v5(scene, &[&property[..], &property].concat());
        scene.expect_refused(&bytes, ReasonCode::ProtocolError);
    }
    let data = properties(|w| w.str(PropertyId::AuthenticationMethod, "m"));
    let twice = properties(|w| {
        w.bytes(PropertyId::AuthenticationData, b"1").bytes(PropertyId::AuthenticationData, b"2")
    });
    scene.expect_refused(&connect_v5(scene, &[data, twice].concat()), ReasonCode::ProtocolError);
    // User Property may repeat.
    let pair = properties(|w| w.user_property("name", "value"));
    let mut peer = scene.open();
    peer.write(&connect_v5(scene, &[&pair[..], &pair].concat()));
    peer.expect_connected();

    let foreign = [
        properties(|w| w.u16(PropertyId::TopicAlias, 1)),
        properties(|w| w.u8(PropertyId::MaximumQoS, 1)),
        properties(|w| w.str(PropertyId::AssignedClientIdentifier, "x")),
        properties(|w| w.u32(PropertyId::WillDelayInterval, 1)),
        vec![0x00, 1],
        vec![0x04, 1],
        vec![0x7F, 1],
        vec![0xFF, 1],
    ];
    for property in foreign {
        scene.expect_refused(&connect_v5(scene, &property), ReasonCode::MalformedPacket);
    }
    // The section ends behind the packet.
    let body = [&wire::connect_head("MQTT", 5, wire::CLEAN)[..], &[50], &wire::field("x")].concat();
    scene.expect_refused(&wire::packet(0x10, body), ReasonCode::MalformedPacket);
}

fn properties_out_of_range(scene: &mut Scene) {
    let faulty = [
        properties(|w| w.u16(PropertyId::ReceiveMaximum, 0)),
        properties(|w| w.u32(PropertyId::MaximumPacketSize, 0)),
        properties(|w| w.u8(PropertyId::RequestResponseInformation, 2)),
        properties(|w| w.u8(PropertyId::RequestProblemInformation, 2)),
        properties(|w| w.u8(PropertyId::RequestProblemInformation, 255)),
        properties(|w| w.bytes(PropertyId::AuthenticationData, b"data")),
    ];
    for property in faulty {
        scene.expect_refused(&connect_v5(scene, &property), ReasonCode::ProtocolError);
    }
}

fn no_problem_information(scene: &mut Scene) {
    let options = id("plain").properties(|w| w.u8(PropertyId::RequestProblemInformation, 0));
    // Each answer says an error; the reader checks that none of them explains it.
    let mut peer = scene.connect_with(&options);
    assert_eq!(peer.subscribe_all(&[("a#", at(0)), ("denied/x", at(0))], &[]), [0x8F, 0x87]);
    assert_eq!(peer.subscribe_all(&[("a", at(0)), ("b", at(0))], &[]), [0, 0x97]);
    assert_eq!(peer.unsubscribe(&["none"]), [0x11]);
    assert_eq!(peer.publish("denied/x", "m", 1), 0x87);
    assert_eq!(peer.publish("denied/x", "m", 2), 0x87);
    peer.pubrel(999);
    assert_eq!(peer.expect_pubcomp(999), 0x92);
    peer.pubrec(999);
    assert_eq!(peer.expect_pubrel(999), 0x92);
    peer.write(&[0xC1, 0]);
    peer.expect_disconnect(ReasonCode::MalformedPacket);
}

fn connack_fits_the_maximum_packet_size(scene: &mut Scene) {
    let mut was_served = false;
    for size in 1..100 {
        let options = id("").exact_id().packet_size_max(size);
        let options = options.properties(|w| w.u8(PropertyId::RequestResponseInformation, 1));
        // The reader holds every packet to the maximum.
        let mut peer = scene.try_connect(&options);
        let is_served = peer.poll().is_some();
        assert!(is_served >= was_served, "{size} bytes are no longer enough");
        was_served = is_served;
        match is_served {
            true => peer.ping(),
            false => peer.expect_end(),
        }
        // A refusal is a bare CONNACK of five bytes, or nothing.
        let mut refused = scene.try_connect(&id("x").packet_size_max(size).will(will("t", "w").qos(2)));
        if size >= 5 {
            assert_eq!(refused.expect_connack().code, ReasonCode::QoSNotSupported as u8);
        }
        refused.expect_end();
    }
    assert!(was_served, "a CONNACK has less than 100 bytes");
}

fn silence_is_counted_by_what_the_client_sends(scene: &mut Scene) {
    let mut watcher = scene.subscriber("watcher", "will", 0);
    let mut publisher = scene.connect("publisher");
    for is_flooded in [false, true] {
        let options = id("silent").keep_alive(10).will(will("will", "gone"));
        let mut silent = scene.connect_with(&options);
        if is_flooded {
            silent.subscribe("flood", 0);
        }
        for _ in 0..145 {
            if is_flooded {
                publisher.publish("flood", "drop", 0);
            }
            scene.pass(100);
        }
        silent.take_packets();
        silent.expect_silence();
        watcher.expect_silence();
        scene.pass(1000);
        silent.expect_fault(ReasonCode::KeepAliveTimeout);
        watcher.expect_texts(&["gone"]);
    }
    assert_eq!(scene.figure(|m| m.disconnects[EndReason::KeepAliveTimeout as usize]), 2);
}

fn a_packet_that_trickles_in(scene: &mut Scene) {
    let mut watcher = scene.subscriber("watcher", "big", 0);
    let big = wire::publish(scene.version, 0x30, scene.topic("big"), None, &[], vec![b'x'; 1_000_000]);
    // Below the minimum rate: one kilobyte a second.
    let mut slow = scene.connect_with(&id("slow").keep_alive(10));
    for chunk in big.chunks(1000).take(14) {
        slow.write(chunk);
        scene.pass(1000);
    }
    slow.expect_silence();
    scene.pass(1100);
    slow.expect_fault(ReasonCode::KeepAliveTimeout);

    // Above it: served to the end, though it takes longer than the keep alive.
    let mut steady = scene.connect_with(&id("steady").keep_alive(10));
    for chunk in big.chunks(10_000) {
        steady.write(chunk);
        scene.pass(1000);
    }
    assert_eq!(watcher.expect_message().payload.len(), 1_000_000);
    steady.ping();

    // What has arrived in time does not excuse the silence that follows.
    let mut stopping = scene.connect_with(&id("stopping").keep_alive(10));
    stopping.write(&big[..500_000]);
    scene.pass(14_000);
    stopping.expect_silence();
    scene.pass(17_000);
    stopping.expect_fault(ReasonCode::KeepAliveTimeout);
}

fn keep_alive_of_the_server(scene: &mut Scene) {
    let mut closed = vec![];
    for asked in [0, 3, 65_535] {
        let mut peer = scene.try_connect(&id(&format!("keeps-{asked}")).keep_alive(asked));
        let connack = peer.expect_connack();
        if scene.is_v5() {
            assert_eq!(connack.properties.number(PropertyId::ServerKeepAlive), Some(2), "asked for {asked}");
        }
        closed.push(peer);
    }
    for asked in [1, 2] {
        let mut peer = scene.try_connect(&id(&format!("short-{asked}")).keep_alive(asked));
        assert_eq!(peer.expect_connack().properties.number(PropertyId::ServerKeepAlive), None);
    }
    scene.pass(2_000);
    closed[0].ping();
    scene.pass(1_500);
    for peer in &mut closed[1..] {
        peer.expect_fault(ReasonCode::KeepAliveTimeout);
    }
    closed[0].ping();
}

/// A CONNECT of `options` is refused, and neither the live session of that id nor anybody else notices.
fn refused_without_effect(scene: &mut Scene, bytes: &[u8], code: ReasonCode) {
    let mut watcher = scene.connect_with(&id("watcher").login("user", "secret"));
    watcher.subscribe("will/#", 0);
    // With no session of that id, none is made.
    scene.expect_refused(bytes, code);
    let options = id("touchy").kept().login("user", "secret");
    let mut live = scene.reconnect(&options, false);
    live.subscribe("touchy/t", 1);
    scene.expect_refused(bytes, code);
    live.ping();
    watcher.publish("touchy/t", "still there", 1);
    live.expect_texts(&["still there"]);
    live.cut();
    // Neither is the kept one ended.
    scene.expect_refused(bytes, code);
    watcher.publish("touchy/t", "kept", 1);
    let mut live = scene.reconnect(&options, true);
    live.expect_texts(&["kept"]);
    live.disconnect();
    watcher.expect_silence();
    scene.connect_with(&id("touchy").login("user", "secret")).disconnect();
}

fn refusals_touch_nothing(scene: &mut Scene) {
    let touchy = || id("touchy");
    let ok = || will("will/t", "w");
    let properties_of = |property: Vec<u8>| {
        wire::connect_with(Version::V5, wire::CLEAN, &property, wire::field(scene.client_id("touchy")))
    };
    let unsupported = {
        let payload = wire::join(&[&[0], &wire::field(scene.client_id("touchy"))]);
        wire::packet(0x10, [wire::connect_head("MQTT", 6, wire::CLEAN), payload].concat())
    };
    let table = [
        (ReasonCode::MalformedPacket, properties_of(vec![0x7F, 0])),
        (ReasonCode::ProtocolError, properties_of(properties(|w| w.u16(PropertyId::ReceiveMaximum, 0)))),
        (ReasonCode::UnsupportedProtocolVersion, unsupported),
        (ReasonCode::ClientIdentifierNotValid, scene.encode(&id(&"x".repeat(101)).will(ok()))),
        (
            ReasonCode::BadAuthenticationMethod,
            scene.encode(
                &touchy().will(ok()).properties(|w| w.str(PropertyId::AuthenticationMethod, "SCRAM-UNKNOWN")),
            ),
        ),
        (ReasonCode::TopicNameInvalid, scene.encode(&touchy().will(will("will/+", "w")))),
        (ReasonCode::RetainNotSupported, scene.encode(&touchy().will(ok().retain()))),
        (ReasonCode::QoSNotSupported, scene.encode(&touchy().will(ok().qos(2)))),
    ];
    for (code, bytes) in table {
        refused_without_effect(scene, &bytes, code);
    }
}

fn refusals_by_the_authenticator_touch_nothing(scene: &mut Scene) {
    let wrong = id("touchy").login("user", "wrong").will(will("will/t", "w"));
    refused_without_effect(scene, &scene.encode(&wrong), ReasonCode::BadUserNameOrPassword);
    refused_without_effect(scene, &scene.encode(&id("touchy")), ReasonCode::BadUserNameOrPassword);
    if scene.is_v5() {
        let refused = id("touchy").will(will("will/t", "w")).properties(|w| {
            w.str(PropertyId::AuthenticationMethod, "CHALLENGE").bytes(PropertyId::AuthenticationData, b"no")
        });
        refused_without_effect(scene, &scene.encode(&refused), ReasonCode::NotAuthorized);
    }
}

fn refusal_for_want_of_room(scene: &mut Scene) {
    // One session on each shard; the next one has no place.
    let mut peers = vec![];
    let mut was_refused = false;
    for number in 0..40 {
        let mut peer = scene.try_connect(&id(&format!("many-{number}")).will(will("will", "w")));
        match peer.expect_connack().code {
            0 => peers.push(peer),
            code => {
                let expected = if scene.is_v5() { ReasonCode::QuotaExceeded as u8 } else { 3 };
                assert_eq!(code, expected);
                peer.expect_end();
                was_refused = true;
            }
        }
    }
    assert!(was_refused);
    assert_eq!(peers.len(), scene.shards() as usize);
    assert_eq!(scene.figure(|m| m.sessions), peers.len() as u64);
    assert_eq!(scene.figure(|m| m.wills_published), 0);
    // A client that has its session may come again.
    for number in 0..40 {
        let mut peer = scene.try_connect(&id(&format!("many-{number}")));
        if peer.expect_connack().code == 0 {
            peer.ping();
        }
    }
    assert_eq!(scene.figure(|m| m.session_takeovers), peers.len() as u64);
}

fn client_ids_byte_for_byte(scene: &mut Scene) {
    let ids = [
        "a/+/#",
        "+",
        "#",
        "$SYS",
        " ",
        "  two  ",
        "\"quoted\" 'id'",
        "\u{1F980}\u{10FFFF}",
        "x",
        "\u{FEFF}x",
        "\u{FFFF}",
        "tab\tnew\nline",
        "\u{1}\u{1F}\u{7F}\u{9F}",
        "ümlaut",
        "u\u{308}mlaut",
        "%s%n",
        "\\",
    ];
    let mut live = vec![];
    for client_id in ids {
        // Below the root, so that runs beside others do not meet.
        let options = id(client_id).user_name(client_id);
        let mut peer = scene.connect_with(&options);
        peer.subscribe("t", 0);
        live.push(peer);
    }
    // No two of them are the same client.
    for peer in &mut live {
        peer.ping();
    }
    let mut again = scene.connect_with(&id("\u{FEFF}x"));
    again.ping();
    let at = ids.iter().position(|client_id| *client_id == "\u{FEFF}x").expect("it is there");
    live[at].expect_fault(ReasonCode::SessionTakenOver);
    live[at - 1].ping();
}

fn client_ids_that_are_no_text(scene: &mut Scene) {
    for client_id in
        [&b"nul\0"[..], b"\0", b"\xED\xA0\x80", b"\xED\xBF\xBF", b"\xC0\x80", b"\xFF", b"cut\xE2\x82"]
    {
        let as_client_id = wire::connect(scene.version, wire::CLEAN, wire::field(client_id));
        scene.expect_refused(&as_client_id, ReasonCode::MalformedPacket);
        let payload = wire::join(&[&wire::field("x"), &wire::field(client_id)]);
        let as_user_name = wire::connect(scene.version, wire::CLEAN | wire::USER_NAME, payload);
        scene.expect_refused(&as_user_name, ReasonCode::MalformedPacket);
    }
}

fn remaining_length_of_five_bytes_or_not_minimal(scene: &mut Scene) {
    for length in
        [&[0xFF, 0xFF, 0xFF, 0xFF, 0x01][..], &[0x80, 0x80, 0x80, 0x80], &[0x80, 0x00], &[0x8C, 0x80, 0x00]]
    {
        let mut first = scene.open();
        first.write(&[&[0x10], length].concat());
        first.expect_end();
        scene.expect_faulty(&[&[0x30], length].concat(), ReasonCode::MalformedPacket);
        scene.expect_faulty(&[&[0xC0], length].concat(), ReasonCode::MalformedPacket);
    }
}

fn will_properties_are_kept(scene: &mut Scene) {
    let mut watcher = scene.subscriber("watcher", "will", 1);
    let will = will("will", "bytes").qos(1).delay(0).properties(|w| {
        w.u32(PropertyId::MessageExpiryInterval, 600)
            .u8(PropertyId::PayloadFormatIndicator, 1)
            .str(PropertyId::ContentType, "text/plain")
            .str(PropertyId::ResponseTopic, "answers")
            .bytes(PropertyId::CorrelationData, &[0, 1, 255])
            .user_property("b", "1")
            .user_property("a", "2")
            .user_property("b", "1")
    });
    let options = id("dying").will(will).properties(|w| {
        w.u16(PropertyId::ReceiveMaximum, 7)
            .user_property("session", "only")
            .u32(PropertyId::SessionExpiryInterval, 60)
            .u16(PropertyId::TopicAliasMaximum, 3)
    });
    scene.connect_with(&options).cut();
    let message = watcher.expect_message();
    assert_eq!(message.text(), "bytes");
    let properties = &message.properties;
    scene.assert_expiry(properties, 600);
    assert_eq!(properties.number(PropertyId::PayloadFormatIndicator), Some(1));
    assert_eq!(properties.text(PropertyId::ContentType), Some("text/plain"));
    assert_eq!(properties.text(PropertyId::ResponseTopic), Some("answers"));
    assert_eq!(properties.binary(PropertyId::CorrelationData), Some(&[0, 1, 255][..]));
    assert_eq!(properties.pairs(), [("b", "1"), ("a", "2"), ("b", "1")]);
    assert_eq!(properties.0.len(), 8, "and nothing else: {properties:?}");
}
