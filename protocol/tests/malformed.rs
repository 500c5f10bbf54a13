//! Bytes that a server must refuse, and the reason code that says why.

use protocol::{Decoder, ReasonCode, Role, Version};

use ReasonCode::{
    MalformedPacket, PacketTooLarge, ProtocolError, TopicAliasInvalid, TopicNameInvalid,
    UnsupportedProtocolVersion,
};
use Version::{V5, V31, V311};

/// What, the connection's version (None: CONNECT is awaited), bytes, reason.
type Case = (&'static str, Option<Version>, &'static [u8], ReasonCode);

const CASES: &[Case] = &[
    // The fixed header (2.1).
    ("packet type 0", Some(V311), &[0x00, 0], MalformedPacket),
    ("AUTH in 3.1.1", Some(V311), &[0xF0, 0], MalformedPacket),
    ("PINGREQ with flags", Some(V5), &[0xC1, 0], MalformedPacket),
    ("PUBREL without its flags", Some(V5), &[0x60, 2, 0, 1], MalformedPacket),
    ("SUBSCRIBE without its flags", Some(V5), &[0x80, 7, 0, 1, 0, 0, 1, b'a', 0], MalformedPacket),
    ("a length of five bytes", Some(V5), &[0x30, 0x80, 0x80, 0x80, 0x80, 1], MalformedPacket),
    ("a length that is not the shortest", Some(V5), &[0x30, 0x80, 0], MalformedPacket),
    ("a length above the limit", Some(V5), &[0x30, 0xFF, 0xFF, 0xFF, 0x7F], PacketTooLarge),
    // Packets of the server.
    ("CONNACK", Some(V5), &[0x20, 3, 0, 0, 0], ProtocolError),
    ("SUBACK", Some(V311), &[0x90, 3, 0, 1, 0], ProtocolError),
    ("UNSUBACK", Some(V311), &[0xB0, 2, 0, 1], ProtocolError),
    ("PINGRESP", Some(V311), &[0xD0, 0], ProtocolError),
    // CONNECT (3.1).
    ("something else first", None, &[0x30, 4, 0, 1, b'a', b'x'], ProtocolError),
    ("another protocol", None, &[0x10, 12, 0, 4, b'H', b'T', b'T', b'P', 4, 2, 0, 0, 0, 0], ProtocolError),
    (
        "level 6",
        None,
        &[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 6, 2, 0, 0, 0, 0],
        UnsupportedProtocolVersion,
    ),
    ("a reserved flag", None, &[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 3, 0, 0, 0, 0], MalformedPacket),
    ("will QoS 3", None, &[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 0x1E, 0, 0, 0, 0], MalformedPacket),
    (
        "will QoS without a will",
        None,
        &[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 0x0A, 0, 0, 0, 0],
        MalformedPacket,
    ),
    (
        "a password alone in 3.1.1",
        None,
        &[0x10, 12, 0, 4, b'M', b'Q', b'T', b'T', 4, 0x42, 0, 0, 0, 0],
        MalformedPacket,
    ),
    ("it ends early", None, &[0x10, 11, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0], MalformedPacket),
    (
        "bytes behind it",
        None,
        &[0x10, 13, 0, 4, b'M', b'Q', b'T', b'T', 4, 2, 0, 0, 0, 0, 9],
        MalformedPacket,
    ),
    (
        "Receive Maximum 0",
        None,
        &[0x10, 16, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0, 3, 0x21, 0, 0, 0, 0],
        ProtocolError,
    ),
    (
        "Receive Maximum twice",
        None,
        &[0x10, 19, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0, 6, 0x21, 0, 1, 0x21, 0, 1, 0, 0],
        ProtocolError,
    ),
    (
        "Authentication Data without Method",
        None,
        &[0x10, 16, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0, 3, 0x16, 0, 0, 0, 0],
        ProtocolError,
    ),
    (
        "a property of PUBLISH",
        None,
        &[0x10, 16, 0, 4, b'M', b'Q', b'T', b'T', 5, 2, 0, 0, 3, 0x23, 0, 1, 0, 0],
        MalformedPacket,
    ),
    (
        "a will topic with a wildcard",
        None,
        &[0x10, 17, 0, 4, b'M', b'Q', b'T', b'T', 4, 6, 0, 0, 0, 0, 0, 1, b'#', 0, 0],
        TopicNameInvalid,
    ),
    // PUBLISH (3.3).
    ("QoS 3", Some(V5), &[0x36, 6, 0, 1, b'a', 0, 1, 0], MalformedPacket),
    ("DUP at QoS 0", Some(V5), &[0x38, 4, 0, 1, b'a', 0], MalformedPacket),
    ("packet identifier 0", Some(V311), &[0x32, 5, 0, 1, b'a', 0, 0], ProtocolError),
    ("a wildcard in the topic", Some(V311), &[0x30, 3, 0, 1, b'+'], TopicNameInvalid),
    ("U+0000 in the topic", Some(V311), &[0x30, 3, 0, 1, 0], MalformedPacket),
    ("a topic that is not UTF-8", Some(V311), &[0x30, 5, 0, 3, 0xED, 0xA0, 0x80], MalformedPacket),
    ("a topic behind the packet", Some(V311), &[0x30, 3, 0, 9, b'a'], MalformedPacket),
    ("no topic in 3.1.1", Some(V311), &[0x30, 2, 0, 0], ProtocolError),
    ("neither topic nor alias", Some(V5), &[0x30, 3, 0, 0, 0], ProtocolError),
    ("Topic Alias 0", Some(V5), &[0x30, 7, 0, 1, b'a', 3, 0x23, 0, 0], TopicAliasInvalid),
    ("Topic Alias twice", Some(V5), &[0x30, 10, 0, 1, b'a', 6, 0x23, 0, 1, 0x23, 0, 1], ProtocolError),
    ("Payload Format Indicator 2", Some(V5), &[0x30, 6, 0, 1, b'a', 2, 1, 2], ProtocolError),
    ("Subscription Identifier of a client", Some(V5), &[0x30, 6, 0, 1, b'a', 2, 0x0B, 1], ProtocolError),
    ("a wildcard in Response Topic", Some(V5), &[0x30, 8, 0, 1, b'a', 4, 8, 0, 1, b'#'], ProtocolError),
    ("an unknown property", Some(V5), &[0x30, 6, 0, 1, b'a', 2, 0x7F, 0], MalformedPacket),
    ("properties behind the packet", Some(V5), &[0x30, 5, 0, 1, b'a', 9, 1], MalformedPacket),
    // The four acknowledgements (3.4 to 3.7).
    ("PUBACK with a foreign code", Some(V5), &[0x40, 3, 0, 1, 0x92], ProtocolError),
    ("PUBREL with a foreign code", Some(V5), &[0x62, 3, 0, 1, 0x10], ProtocolError),
    ("PUBACK 0", Some(V5), &[0x40, 2, 0, 0], ProtocolError),
    ("PUBACK with a code in 3.1.1", Some(V311), &[0x40, 3, 0, 1, 0], MalformedPacket),
    // SUBSCRIBE and UNSUBSCRIBE (3.8, 3.10).
    ("SUBSCRIBE without filters", Some(V5), &[0x82, 3, 0, 1, 0], ProtocolError),
    ("SUBSCRIBE at QoS 3", Some(V5), &[0x82, 7, 0, 1, 0, 0, 1, b'a', 3], MalformedPacket),
    ("reserved options", Some(V5), &[0x82, 7, 0, 1, 0, 0, 1, b'a', 0x40], MalformedPacket),
    ("options of 5 in 3.1.1", Some(V311), &[0x82, 6, 0, 1, 0, 1, b'a', 4], MalformedPacket),
    ("Retain Handling 3", Some(V5), &[0x82, 7, 0, 1, 0, 0, 1, b'a', 0x30], ProtocolError),
    ("Subscription Identifier 0", Some(V5), &[0x82, 9, 0, 1, 2, 0x0B, 0, 0, 1, b'a', 0], ProtocolError),
    ("a filter without options", Some(V5), &[0x82, 6, 0, 1, 0, 0, 1, b'a'], MalformedPacket),
    ("UNSUBSCRIBE without filters", Some(V311), &[0xA2, 2, 0, 1], ProtocolError),
    // The rest.
    ("PINGREQ with a body", Some(V311), &[0xC0, 1, 0], MalformedPacket),
    ("DISCONNECT with a body in 3.1.1", Some(V311), &[0xE0, 1, 0], MalformedPacket),
    ("DISCONNECT with a code of the server", Some(V5), &[0xE0, 1, 0x8E], ProtocolError),
    ("AUTH with a foreign code", Some(V5), &[0xF0, 1, 0x80], ProtocolError),
];

#[test]
fn every_case_is_refused_with_its_code() {
    for (what, version, bytes, reason) in CASES {
        let decoder = Decoder { role: Role::Server, version: *version, packet_size_max: 1 << 20 };
        let error = decoder.next_packet(bytes).expect_err(what);
        assert_eq!(error.reason(), *reason, "{what}: {error}");
        for len in 0..bytes.len() {
            // The start of it is refused for the same, or waits for more.
            if let Err(error) = decoder.next_packet(&bytes[..len]) {
                assert_eq!(error.reason(), *reason, "{what}, its first {len} bytes: {error}");
            }
        }
    }
}

#[test]
fn a_refused_connect_says_in_whose_form_the_answer_is() {
    let decoder = Decoder { role: Role::Server, version: None, packet_size_max: 1 << 20 };
    let named = |level: u8, name: &[u8]| {
        let mut bytes = vec![0x10, (2 + name.len() + 6) as u8, 0, name.len() as u8];
        bytes.extend_from_slice(name);
        bytes.extend_from_slice(&[level, 0x1E, 0, 0, 0, 0]);
        decoder.next_packet(&bytes).expect_err("will QoS 3").version()
    };
    assert_eq!(named(3, b"MQIsdp"), Some(V31));
    assert_eq!(named(4, b"MQTT"), Some(V311));
    assert_eq!(named(5, b"MQTT"), Some(V5));
    assert_eq!(named(7, b"MQTT"), Some(V5));
    assert_eq!(named(4, b"mqtt"), None);
}
