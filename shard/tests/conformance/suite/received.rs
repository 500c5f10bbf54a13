//! What the broker sends, read by a strict reader that shares no code with the broker's codec: prescribed flags, the
//! shortest lengths, valid strings, identifiers, reason codes and properties of each packet, nothing left over. It
//! panics with the fault, so every case checks all of this for every byte that it gets.

use protocol::{PropertyId, Version};

/// A packet from the broker.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    ConnAck(ConnAck),
    Publish(Message),
    PubAck(Ack),
    PubRec(Ack),
    PubRel(Ack),
    PubComp(Ack),
    SubAck(Codes),
    UnsubAck(Codes),
    PingResp,
    Disconnect(Reason),
    Auth(Reason),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ConnAck {
    pub session_present: bool,
    /// Reason code (5) or return code (3.x).
    pub code: u8,
    pub properties: Properties,
}

/// A PUBLISH.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub dup: bool,
    /// 0 at QoS 0.
    pub packet_id: u16,
    pub properties: Properties,
}

impl Message {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("the payload is text")
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Ack {
    pub packet_id: u16,
    pub code: u8,
    pub properties: Properties,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Codes {
    pub packet_id: u16,
    pub codes: Vec<u8>,
    pub properties: Properties,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Reason {
    pub code: u8,
    pub properties: Properties,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    Number(u32),
    Text(String),
    Binary(Vec<u8>),
    Pair(String, String),
}

/// Properties in their order.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Properties(pub Vec<(u8, Value)>);

impl Properties {
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    pub fn has(&self, id: PropertyId) -> bool {
        self.0.iter().any(|(found, _)| *found == id as u8)
    }

    /// All values of a numeric property.
    pub fn numbers(&self, id: PropertyId) -> Vec<u32> {
        let number = |(found, value): &(u8, Value)| match value {
            Value::Number(number) if *found == id as u8 => Some(*number),
            _ => None,
        };
        self.0.iter().filter_map(number).collect()
    }

    pub fn number(&self, id: PropertyId) -> Option<u32> {
        self.numbers(id).first().copied()
    }

    pub fn text(&self, id: PropertyId) -> Option<&str> {
        self.0.iter().find_map(|(found, value)| match value {
            Value::Text(text) if *found == id as u8 => Some(text.as_str()),
            _ => None,
        })
    }

    pub fn binary(&self, id: PropertyId) -> Option<&[u8]> {
        self.0.iter().find_map(|(found, value)| match value {
            Value::Binary(bytes) if *found == id as u8 => Some(bytes.as_slice()),
            _ => None,
        })
    }

    /// User properties.
    pub fn pairs(&self) -> Vec<(&str, &str)> {
        self.0
            .iter()
            .filter_map(|(_, value)| match value {
                Value::Pair(name, value) => Some((name.as_str(), value.as_str())),
                _ => None,
            })
            .collect()
    }
}

/// Length of the first packet in `bytes`, header included; None while it is incomplete.
pub fn packet_len(bytes: &[u8]) -> Option<usize> {
    let (mut len, mut at) = (0usize, 1);
    loop {
        let byte = *bytes.get(at)?;
        len |= ((byte & 0x7F) as usize) << (7 * (at - 1));
        if byte & 0x80 == 0 {
            assert!(byte != 0 || at == 1, "a remaining length is not in its shortest form: {bytes:02x?}");
            break;
        }
        at += 1;
        assert!(at <= 4, "a remaining length has more than four bytes: {bytes:02x?}");
    }
    let total = at + 1 + len;
    (bytes.len() >= total).then_some(total)
}

/// Reads one whole packet.
pub fn read(bytes: &[u8], version: Version) -> Received {
    let mut body = Body { rest: &bytes[bytes.len() - body_len(bytes)..], whole: bytes };
    let (kind, flags) = (bytes[0] >> 4, bytes[0] & 0x0F);
    let is_v5 = version == Version::V5;
    let prescribed = match kind {
        3 => flags,
        6 => 2,
        _ => 0,
    };
    body.check(flags == prescribed, "reserved flags are not as prescribed");
    let received = match kind {
        2 => {
            let flags = body.u8();
            body.check(flags <= 1, "reserved CONNACK flags are set");
            body.check(flags == 0 || version != Version::V31, "3.1 has no session present");
            let code = body.code(if is_v5 { CONNACK_CODES } else { &[0, 1, 2, 3, 4, 5] });
            body.check(code == 0 || flags == 0, "session present in a refusal");
            Received::ConnAck(ConnAck {
                session_present: flags == 1,
                code,
                properties: body.properties(2, is_v5),
            })
        }
        3 => Received::Publish(body.publish(flags, is_v5)),
        4 => Received::PubAck(body.ack(4, PUBACK_CODES, is_v5)),
        5 => Received::PubRec(body.ack(5, PUBACK_CODES, is_v5)),
        6 => Received::PubRel(body.ack(6, &[0, 0x92], is_v5)),
        7 => Received::PubComp(body.ack(7, &[0, 0x92], is_v5)),
        9 => {
            let allowed: &[u8] = if is_v5 { SUBACK_CODES } else { &[0, 1, 2, 0x80] };
            let suback = body.codes(9, allowed, is_v5);
            body.check(!suback.codes.is_empty(), "SUBACK without a code");
            Received::SubAck(suback)
        }
        11 => {
            let allowed: &[u8] = if is_v5 { UNSUBACK_CODES } else { &[] };
            let unsuback = body.codes(11, allowed, is_v5);
            body.check(unsuback.codes.is_empty() != is_v5, "UNSUBACK has codes in 5 and none in 3.x");
            Received::UnsubAck(unsuback)
        }
        13 => Received::PingResp,
        14 => {
            body.check(is_v5, "a server of 3.x does not send DISCONNECT");
            Received::Disconnect(body.reason(14, DISCONNECT_CODES))
        }
        15 => {
            body.check(is_v5, "3.x has no AUTH");
            Received::Auth(body.reason(15, &[0, 0x18]))
        }
        _ => panic!("a server does not send this packet: {bytes:02x?}"),
    };
    body.check(body.rest.is_empty(), "bytes are left over");
    received
}

fn body_len(bytes: &[u8]) -> usize {
    let len_bytes = 1 + bytes[1..].iter().take_while(|byte| **byte & 0x80 != 0).count();
    bytes.len() - 1 - len_bytes
}

const CONNACK_CODES: &[u8] = &[
    0, 0x80, 0x81, 0x82, 0x83, 0x84, 0x85, 0x86, 0x87, 0x88, 0x89, 0x8A, 0x8C, 0x90, 0x95, 0x97, 0x99, 0x9A,
    0x9B, 0x9C, 0x9D, 0x9F,
];
const PUBACK_CODES: &[u8] = &[0, 0x10, 0x80, 0x83, 0x87, 0x90, 0x91, 0x97, 0x99];
const SUBACK_CODES: &[u8] = &[0, 1, 2, 0x80, 0x83, 0x87, 0x8F, 0x91, 0x97, 0x9E, 0xA1, 0xA2];
const UNSUBACK_CODES: &[u8] = &[0, 0x11, 0x80, 0x83, 0x87, 0x8F, 0x91];
/// What a server may send: not 0x00 and 0x04 (a server that ends a connection says why).
const DISCONNECT_CODES: &[u8] = &[
    0x80, 0x81, 0x82, 0x83, 0x87, 0x89, 0x8B, 0x8D, 0x8E, 0x8F, 0x90, 0x93, 0x94, 0x95, 0x96, 0x97, 0x98,
    0x99, 0x9A, 0x9B, 0x9C, 0x9D, 0x9E, 0x9F, 0xA0, 0xA1, 0xA2,
];

/// Properties that a server may put in a packet: packet type, ids.
const PROPERTIES: &[(u8, &[u8])] = &[
    (
        2,
        &[
            0x11, 0x12, 0x13, 0x15, 0x16, 0x1A, 0x1C, 0x1F, 0x21, 0x22, 0x24, 0x25, 0x26, 0x27, 0x28, 0x29,
            0x2A,
        ],
    ),
    (3, &[0x01, 0x02, 0x03, 0x08, 0x09, 0x0B, 0x23, 0x26]),
    (4, &[0x1F, 0x26]),
    (5, &[0x1F, 0x26]),
    (6, &[0x1F, 0x26]),
    (7, &[0x1F, 0x26]),
    (9, &[0x1F, 0x26]),
    (11, &[0x1F, 0x26]),
    // No Session Expiry Interval (0x11) from a server.
    (14, &[0x1C, 0x1F, 0x26]),
    (15, &[0x15, 0x16, 0x1F, 0x26]),
];

/// A cursor over the body of a packet.
struct Body<'a> {
    rest: &'a [u8],
    whole: &'a [u8],
}

impl<'a> Body<'a> {
    fn check(&self, holds: bool, fault: &str) {
        assert!(holds, "{fault}: {:02x?}", &self.whole[..self.whole.len().min(200)]);
    }

    fn take(&mut self, len: usize) -> &'a [u8] {
        self.check(self.rest.len() >= len, "a field ends behind its packet");
        let (taken, rest) = self.rest.split_at(len);
        self.rest = rest;
        taken
    }

    fn u8(&mut self) -> u8 {
        self.take(1)[0]
    }

    fn u16(&mut self) -> u16 {
        let bytes = self.take(2);
        u16::from_be_bytes([bytes[0], bytes[1]])
    }

    fn varint(&mut self) -> u32 {
        let mut value = 0;
        for at in 0..4 {
            let byte = self.u8();
            value |= ((byte & 0x7F) as u32) << (7 * at);
            if byte & 0x80 == 0 {
                self.check(byte != 0 || at == 0, "an integer is not in its shortest form");
                return value;
            }
        }
        panic!("an integer has more than four bytes: {:02x?}", self.whole)
    }

    fn text(&mut self) -> String {
        let len = self.u16() as usize;
        let bytes = self.take(len).to_vec();
        self.check(!bytes.contains(&0), "U+0000 in a string");
        String::from_utf8(bytes).unwrap_or_else(|_| panic!("a string is not UTF-8: {:02x?}", self.whole))
    }

    fn packet_id(&mut self) -> u16 {
        let id = self.u16();
        self.check(id != 0, "packet identifier 0");
        id
    }

    fn code(&mut self, allowed: &[u8]) -> u8 {
        let code = self.u8();
        self.check(allowed.contains(&code), "a reason code that the packet does not have");
        code
    }

    fn properties(&mut self, packet: u8, is_v5: bool) -> Properties {
        if !is_v5 {
            return Properties::default();
        }
        let len = self.varint() as usize;
        let bytes = self.take(len);
        let allowed = PROPERTIES.iter().find(|(of, _)| *of == packet).expect("every packet has its row").1;
        let mut section = Body { rest: bytes, whole: self.whole };
        let mut found: Vec<(u8, Value)> = vec![];
        while !section.rest.is_empty() {
            let id = section.u8();
            section.check(allowed.contains(&id), "a property that the packet does not have");
            let may_repeat = id == 0x26 || id == 0x0B;
            section
                .check(may_repeat || found.iter().all(|(other, _)| *other != id), "a property stands twice");
            let value = section.value(id);
            found.push((id, value));
        }
        Properties(found)
    }

    fn value(&mut self, id: u8) -> Value {
        let value = match id {
            0x01 | 0x24 | 0x25 | 0x28 | 0x29 | 0x2A => {
                let value = self.u8();
                self.check(value <= 1, "a flag property is neither 0 nor 1");
                Value::Number(value as u32)
            }
            0x13 | 0x21 | 0x22 | 0x23 => Value::Number(self.u16() as u32),
            0x02 | 0x11 | 0x27 => Value::Number((self.u16() as u32) << 16 | self.u16() as u32),
            0x0B => Value::Number(self.varint()),
            0x09 | 0x16 => {
                let len = self.u16() as usize;
                Value::Binary(self.take(len).to_vec())
            }
            0x26 => Value::Pair(self.text(), self.text()),
            _ => Value::Text(self.text()),
        };
        let must_not_be_0 = matches!(id, 0x0B | 0x21 | 0x23 | 0x27);
        self.check(!must_not_be_0 || value != Value::Number(0), "a property must not be 0");
        value
    }

    fn publish(&mut self, flags: u8, is_v5: bool) -> Message {
        let (dup, qos, retain) = (flags & 8 != 0, flags >> 1 & 3, flags & 1 != 0);
        self.check(qos < 3, "QoS 3");
        self.check(qos > 0 || !dup, "DUP at QoS 0");
        let topic = self.text();
        self.check(!topic.contains(['+', '#']), "a wildcard in a topic name");
        let packet_id = if qos == 0 { 0 } else { self.packet_id() };
        let properties = self.properties(3, is_v5);
        if let Some(response) = properties.text(PropertyId::ResponseTopic) {
            self.check(!response.contains(['+', '#']), "a wildcard in a response topic");
        }
        let has_alias = properties.has(PropertyId::TopicAlias);
        self.check(!topic.is_empty() || has_alias, "neither topic nor alias");
        let payload = std::mem::take(&mut self.rest).to_vec();
        Message { topic, payload, qos, retain, dup, packet_id, properties }
    }

    fn ack(&mut self, packet: u8, allowed: &[u8], is_v5: bool) -> Ack {
        let packet_id = self.packet_id();
        let mut ack = Ack { packet_id, code: 0, properties: Properties::default() };
        if is_v5 && !self.rest.is_empty() {
            ack.code = self.code(allowed);
            if !self.rest.is_empty() {
                ack.properties = self.properties(packet, true);
            }
        }
        ack
    }

    fn codes(&mut self, packet: u8, allowed: &[u8], is_v5: bool) -> Codes {
        let packet_id = self.packet_id();
        let properties = self.properties(packet, is_v5);
        let codes = std::mem::take(&mut self.rest).to_vec();
        self.check(codes.iter().all(|code| allowed.contains(code)), "a code that the packet does not have");
        Codes { packet_id, codes, properties }
    }

    fn reason(&mut self, packet: u8, allowed: &[u8]) -> Reason {
        // The short form means 0x00.
        let code = if self.rest.is_empty() { 0 } else { self.u8() };
        self.check(allowed.contains(&code), "a reason code that the packet does not have");
        let properties =
            if self.rest.is_empty() { Properties::default() } else { self.properties(packet, true) };
        Reason { code, properties }
    }
}
