//! DISCONNECT and the ends of connections (3.14, 4.13).

use super::prelude::*;

pub fn cases() -> Vec<Case> {
    vec![
        case!(nothing_after_disconnect_is_processed).v5("3.14.4-1").v311("3.14.4-2"),
        case!(the_broker_closes_after_disconnect).v5("3.14.4-2").v311("3.14.4-3"),
        case!(the_broker_closes_after_its_own_disconnect)
            .v5("3.14.4-1 3.14.4-2 3.14.2-2 4.13.2-1")
            .v311("4.8.0-1"),
        case!(a_refused_connect_gets_no_disconnect).v5("3.14.0-1 4.13.2-1"),
        case!(reason_codes_of_disconnect_are_checked).v5("3.14.2-1"),
        case!(disconnect_has_its_codes).v5("3.14.2-1 3.14.2-2 4.13.1-1 4.13.2-1"),
        case!(packets_of_the_server_are_protocol_errors).v5("4.13.1-1").v311("4.8.0-1"),
        case!(bodies_where_none_belong_are_malformed).v5("4.13.1-1").v311("4.8.0-1"),
    ]
}

fn nothing_after_disconnect_is_processed(scene: &mut Scene) {
    let mut watcher = scene.subscriber("w", "t", 2);
    let topic = scene.topic("t");
    let mut client = scene.connect("c");
    let publish = wire::publish(scene.version, 0x32, &topic, Some(1), &[], "never");
    client.write(&[&[0xE0, 0], &publish[..], &[0xC0, 0]].concat());
    client.expect_end();
    watcher.expect_silence();
    // What stands before it is.
    let mut client = scene.connect("c");
    let publish = wire::publish(scene.version, 0x30, &topic, None, &[], "before");
    client.write(&[&publish[..], &[0xE0, 0]].concat());
    client.expect_end();
    watcher.expect_texts(&["before"]);
}

fn the_broker_closes_after_disconnect(scene: &mut Scene) {
    let mut client = scene.connect("c");
    client.write(&[0xE0, 0]);
    client.expect_end();
    if scene.is_v5() {
        for bytes in [&[0xE0, 1, 0][..], &[0xE0, 2, 0, 0], &[0xE0, 2, 4, 0], &[0xE0, 1, 0x80]] {
            let mut client = scene.connect("c");
            client.write(bytes);
            client.expect_end();
        }
    }
}

fn the_broker_closes_after_its_own_disconnect(scene: &mut Scene) {
    // The reader refuses anything behind a DISCONNECT, and a Session Expiry Interval in it.
    let mut client = scene.subscriber("c", "t", 2);
    let mut publisher = scene.connect("p");
    publisher.publish("t", "x", 2);
    client.expect_message();
    client.write(&[0x00, 0]);
    client.expect_fault(ReasonCode::MalformedPacket);
    publisher.publish("t", "y", 2);
    client.expect_end();
}

fn a_refused_connect_gets_no_disconnect(scene: &mut Scene) {
    // Malformed, forbidden, unknown: CONNACK or nothing. The reader refuses a DISCONNECT without a CONNACK.
    let payload = wire::field(scene.client_id("c"));
    for (bytes, code) in [
        (wire::connect(Version::V5, 0x01, &payload), ReasonCode::MalformedPacket),
        (wire::connect_with(Version::V5, 2, &[0x21, 0, 0], &payload), ReasonCode::ProtocolError),
        (
            wire::connect_with(Version::V5, 2, &[0x15, 0, 1, b'X'], &payload),
            ReasonCode::BadAuthenticationMethod,
        ),
    ] {
        scene.expect_refused(&bytes, code);
    }
}

fn reason_codes_of_disconnect_are_checked(scene: &mut Scene) {
    // Codes of the server, and none at all.
    for code in [0x8B, 0x8D, 0x8E, 0x8F, 0x9D, 0xA2, 0x01, 0x10, 0x7F, 0xFF] {
        scene.expect_faulty(&[0xE0, 1, code], ReasonCode::ProtocolError);
    }
    for code in [0x00, 0x04, 0x80, 0x81, 0x82, 0x83, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98, 0x99] {
        let mut client = scene.connect("c");
        client.write(&[0xE0, 1, code]);
        client.expect_end();
    }
    // Properties of other packets, doubled ones, surplus bytes.
    scene.expect_faulty(&[0xE0, 5, 0, 3, 0x21, 0, 1], ReasonCode::MalformedPacket);
    let twice = [0xE0, 12, 0, 10, 0x11, 0, 0, 0, 0, 0x11, 0, 0, 0, 0];
    scene.expect_faulty(&twice, ReasonCode::ProtocolError);
    scene.expect_faulty(&[0xE0, 3, 0, 0, 0], ReasonCode::MalformedPacket);
}

/// Every way to provoke one, and its code.
fn disconnect_has_its_codes(scene: &mut Scene) {
    let topic = scene.topic("t");
    let publish = |properties: &[u8]| wire::publish(Version::V5, 0x30, &topic, None, properties, "x");
    let table = [
        (vec![0x00, 0], ReasonCode::MalformedPacket),
        (vec![0xD0, 0], ReasonCode::ProtocolError),
        (publish(&[0x23, 0, 0]), ReasonCode::TopicAliasInvalid),
        (publish(&[0x23, 0xFF, 0xFF]), ReasonCode::TopicAliasInvalid),
        (wire::publish(Version::V5, 0x30, "a/#", None, &[], "x"), ReasonCode::TopicNameInvalid),
        (vec![0x30, 0xFF, 0xFF, 0xFF, 0x7F], ReasonCode::PacketTooLarge),
    ];
    for (bytes, code) in table {
        let mut client = scene.connect("c");
        client.write(&bytes);
        // No surplus: there is nothing in it but the code and the length of no properties.
        client.expect_bytes(&[0xE0, 2, code as u8, 0]);
        client.expect_end();
    }
}

fn packets_of_the_server_are_protocol_errors(scene: &mut Scene) {
    let mut packets = vec![vec![0x20, 2, 0, 0], vec![0x90, 3, 0, 1, 0], vec![0xB0, 2, 0, 1], vec![0xD0, 0]];
    if scene.is_v5() {
        packets[0] = vec![0x20, 3, 0, 0, 0];
    }
    for bytes in packets {
        scene.expect_faulty(&bytes, ReasonCode::ProtocolError);
    }
}

fn bodies_where_none_belong_are_malformed(scene: &mut Scene) {
    scene.expect_faulty(&[0xC0, 1, 0], ReasonCode::MalformedPacket);
    let surplus: &[u8] = if scene.is_v5() { &[0x40, 6, 0, 1, 0, 1, 0, 0] } else { &[0x40, 3, 0, 1, 0] };
    scene.expect_faulty(surplus, ReasonCode::MalformedPacket);
    if !scene.is_v5() {
        scene.expect_faulty(&[0xE0, 1, 0], ReasonCode::MalformedPacket);
    }
}
