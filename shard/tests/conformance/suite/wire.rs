//! Bytes on the wire, built by hand: what a case sends when no correct packet will do.

use protocol::Version;

/// A string or binary field with its length.
pub fn field(bytes: impl AsRef<[u8]>) -> Vec<u8> {
    let bytes = bytes.as_ref();
    let mut out = (bytes.len() as u16).to_be_bytes().to_vec();
    out.extend_from_slice(bytes);
    out
}

/// A variable byte integer in its shortest form.
pub fn varint(mut value: usize) -> Vec<u8> {
    let mut out = vec![];
    loop {
        let byte = (value & 0x7F) as u8;
        value >>= 7;
        if value == 0 {
            out.push(byte);
            return out;
        }
        out.push(byte | 0x80);
    }
}

/// A packet: first byte, length, body.
pub fn packet(first: u8, body: impl AsRef<[u8]>) -> Vec<u8> {
    let body = body.as_ref();
    [&[first][..], &varint(body.len()), body].concat()
}

/// A property section: length, bytes.
pub fn section(properties: impl AsRef<[u8]>) -> Vec<u8> {
    let properties = properties.as_ref();
    [&varint(properties.len())[..], properties].concat()
}

/// Pieces one after the other.
pub fn join(parts: &[&[u8]]) -> Vec<u8> {
    parts.concat()
}

pub const CLEAN: u8 = 0x02;
pub const WILL: u8 = 0x04;
pub const WILL_RETAIN: u8 = 0x20;
pub const PASSWORD: u8 = 0x40;
pub const USER_NAME: u8 = 0x80;

/// A CONNECT without keep alive and properties, whatever its flags and payload say.
pub fn connect(version: Version, flags: u8, payload: impl AsRef<[u8]>) -> Vec<u8> {
    connect_with(version, flags, &[], payload)
}

/// The same with properties (5) in wire form, without their length.
pub fn connect_with(version: Version, flags: u8, properties: &[u8], payload: impl AsRef<[u8]>) -> Vec<u8> {
    let name = if version == Version::V31 { "MQIsdp" } else { "MQTT" };
    let mut body = connect_head(name, version.level(), flags);
    body.extend(section_of(version, properties));
    body.extend_from_slice(payload.as_ref());
    packet(0x10, body)
}

/// Protocol name, level, flags and keep alive 0.
pub fn connect_head(name: &str, level: u8, flags: u8) -> Vec<u8> {
    join(&[&field(name), &[level, flags, 0, 0]])
}

/// A property section in 5, nothing in 3.x.
pub fn section_of(version: Version, properties: &[u8]) -> Vec<u8> {
    if version == Version::V5 { section(properties) } else { vec![] }
}

/// A PUBLISH with that first byte; `packet_id` as QoS and first byte ask for it.
pub fn publish(
    version: Version,
    first: u8,
    topic: impl AsRef<[u8]>,
    packet_id: Option<u16>,
    properties: &[u8],
    payload: impl AsRef<[u8]>,
) -> Vec<u8> {
    let id = packet_id.map(|id| id.to_be_bytes().to_vec()).unwrap_or_default();
    packet(first, join(&[&field(topic), &id, &section_of(version, properties), payload.as_ref()]))
}

/// SUBSCRIBE (0x82) or UNSUBSCRIBE (0xA2): packet identifier, empty properties, the entries as they are.
pub fn request(version: Version, first: u8, packet_id: u16, entries: impl AsRef<[u8]>) -> Vec<u8> {
    packet(first, join(&[&packet_id.to_be_bytes(), &section_of(version, &[]), entries.as_ref()]))
}

/// PUBACK, PUBREC, PUBREL or PUBCOMP in its short form.
pub fn ack(first: u8, packet_id: u16) -> Vec<u8> {
    packet(first, packet_id.to_be_bytes())
}

/// The same with a reason code (5).
pub fn ack_with(first: u8, packet_id: u16, code: u8) -> Vec<u8> {
    let [high, low] = packet_id.to_be_bytes();
    packet(first, [high, low, code])
}
