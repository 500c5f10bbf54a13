//! Properties (2.2.2): one table of what exists, validation at decode, access and writing in wire form.

use crate::DecodeErrorKind;
use crate::packet::PacketType;
use crate::wire::{Reader, Result, VARINT_MAX, varint_len, write_binary, write_varint};

/// User properties of one packet; more is refused, so that a packet costs bounded work.
pub const USER_PROPERTIES_MAX: usize = 64;
/// Bytes of all user properties of one packet.
pub const USER_PROPERTIES_BYTES_MAX: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Kind {
    Byte,
    TwoBytes,
    FourBytes,
    Varint,
    String,
    Binary,
    Pair,
}

/// Packets that may carry a property: bit = packet type number, `WILL` for the will's section.
type Carriers = u32;
const WILL: Carriers = 1;
const CONNECT: Carriers = 1 << 1;
const CONNACK: Carriers = 1 << 2;
const PUBLISH: Carriers = 1 << 3;
const ACKS: Carriers = 0b1111 << 4;
const SUBSCRIBE: Carriers = 1 << 8;
const SUBACK: Carriers = 1 << 9;
const UNSUBSCRIBE: Carriers = 1 << 10;
const UNSUBACK: Carriers = 1 << 11;
const DISCONNECT: Carriers = 1 << 14;
const AUTH: Carriers = 1 << 15;
const ALL: Carriers = WILL
    | CONNECT
    | CONNACK
    | PUBLISH
    | ACKS
    | SUBSCRIBE
    | SUBACK
    | UNSUBSCRIBE
    | UNSUBACK
    | DISCONNECT
    | AUTH;

macro_rules! properties {
    ($($name:ident = $id:literal, $kind:ident, $carriers:expr;)+) => {
        /// A property, by the standard's name and number.
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum PropertyId { $($name = $id),+ }

        impl PropertyId {
            pub const EVERY: &'static [PropertyId] = &[$(PropertyId::$name),+];

            pub fn from_u8(id: u8) -> Option<PropertyId> {
                match id { $($id => Some(PropertyId::$name),)+ _ => None }
            }

            fn kind(self) -> Kind {
                match self { $(PropertyId::$name => Kind::$kind),+ }
            }

            fn carriers(self) -> Carriers {
                match self { $(PropertyId::$name => $carriers),+ }
            }
        }
    };
}

properties! {
    PayloadFormatIndicator = 0x01, Byte, PUBLISH | WILL;
    MessageExpiryInterval = 0x02, FourBytes, PUBLISH | WILL;
    ContentType = 0x03, String, PUBLISH | WILL;
    ResponseTopic = 0x08, String, PUBLISH | WILL;
    CorrelationData = 0x09, Binary, PUBLISH | WILL;
    SubscriptionIdentifier = 0x0B, Varint, PUBLISH | SUBSCRIBE;
    SessionExpiryInterval = 0x11, FourBytes, CONNECT | CONNACK | DISCONNECT;
    AssignedClientIdentifier = 0x12, String, CONNACK;
    ServerKeepAlive = 0x13, TwoBytes, CONNACK;
    AuthenticationMethod = 0x15, String, CONNECT | CONNACK | AUTH;
    AuthenticationData = 0x16, Binary, CONNECT | CONNACK | AUTH;
    RequestProblemInformation = 0x17, Byte, CONNECT;
    WillDelayInterval = 0x18, FourBytes, WILL;
    RequestResponseInformation = 0x19, Byte, CONNECT;
    ResponseInformation = 0x1A, String, CONNACK;
    ServerReference = 0x1C, String, CONNACK | DISCONNECT;
    ReasonString = 0x1F, String, CONNACK | ACKS | SUBACK | UNSUBACK | DISCONNECT | AUTH;
    ReceiveMaximum = 0x21, TwoBytes, CONNECT | CONNACK;
    TopicAliasMaximum = 0x22, TwoBytes, CONNECT | CONNACK;
    TopicAlias = 0x23, TwoBytes, PUBLISH;
    MaximumQoS = 0x24, Byte, CONNACK;
    RetainAvailable = 0x25, Byte, CONNACK;
    UserProperty = 0x26, Pair, ALL;
    MaximumPacketSize = 0x27, FourBytes, CONNECT | CONNACK;
    WildcardSubscriptionAvailable = 0x28, Byte, CONNACK;
    SubscriptionIdentifierAvailable = 0x29, Byte, CONNACK;
    SharedSubscriptionAvailable = 0x2A, Byte, CONNACK;
}

/// The properties of a packet in wire form, without their length. What a decoder returns is valid for its packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Properties<'a>(&'a [u8]);

/// One property's value in wire form: numbers widened, strings and data as bytes.
enum Value<'a> {
    Number(u32),
    Bytes(&'a [u8]),
    Pair(&'a str, &'a str),
}

impl<'a> Properties<'a> {
    pub const EMPTY: Properties<'static> = Properties(&[]);

    /// Properties that were written by [`PropertyWriter`] or come from a decoded packet.
    #[inline]
    pub fn from_wire(bytes: &'a [u8]) -> Properties<'a> {
        Properties(bytes)
    }

    #[inline]
    pub fn raw(&self) -> &'a [u8] {
        self.0
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    fn iter(&self) -> impl Iterator<Item = (PropertyId, Value<'a>)> + use<'a> {
        let mut reader = Reader::new(self.0);
        std::iter::from_fn(move || if reader.is_empty() { None } else { read_property(&mut reader).ok() })
    }

    fn number(&self, id: PropertyId) -> Option<u32> {
        self.iter().find_map(|(found, value)| match value {
            Value::Number(number) if found == id => Some(number),
            _ => None,
        })
    }

    pub fn u8(&self, id: PropertyId) -> Option<u8> {
        self.number(id).map(|number| number as u8)
    }

    pub fn u16(&self, id: PropertyId) -> Option<u16> {
        self.number(id).map(|number| number as u16)
    }

    pub fn u32(&self, id: PropertyId) -> Option<u32> {
        self.number(id)
    }

    pub fn varint(&self, id: PropertyId) -> Option<u32> {
        self.number(id)
    }

    pub fn bytes(&self, id: PropertyId) -> Option<&'a [u8]> {
        self.iter().find_map(|(found, value)| match value {
            Value::Bytes(bytes) if found == id => Some(bytes),
            _ => None,
        })
    }

    pub fn str(&self, id: PropertyId) -> Option<&'a str> {
        self.bytes(id).and_then(|bytes| std::str::from_utf8(bytes).ok())
    }

    /// User properties in their order.
    pub fn user_properties(&self) -> impl Iterator<Item = (&'a str, &'a str)> + use<'a> {
        self.iter().filter_map(|(_, value)| match value {
            Value::Pair(name, value) => Some((name, value)),
            _ => None,
        })
    }

    /// Subscription identifiers in their order.
    pub fn subscription_ids(&self) -> impl Iterator<Item = u32> + use<'a> {
        self.iter().filter_map(|(id, value)| match value {
            Value::Number(number) if id == PropertyId::SubscriptionIdentifier => Some(number),
            _ => None,
        })
    }
}

fn read_property<'a>(reader: &mut Reader<'a>) -> Result<(PropertyId, Value<'a>)> {
    let id = PropertyId::from_u8(reader.u8()?).ok_or(DecodeErrorKind::Malformed("unknown property"))?;
    let value = match id.kind() {
        Kind::Byte => Value::Number(reader.u8()? as u32),
        Kind::TwoBytes => Value::Number(reader.u16()? as u32),
        Kind::FourBytes => Value::Number(reader.u32()?),
        Kind::Varint => Value::Number(reader.varint()?),
        Kind::String => Value::Bytes(reader.string()?.as_bytes()),
        Kind::Binary => Value::Bytes(reader.binary()?),
        Kind::Pair => Value::Pair(reader.string()?, reader.string()?),
    };
    Ok((id, value))
}

/// Facts about a PUBLISH's section that the data path needs, found while it was validated.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct PublishFacts {
    pub topic_alias: Option<u16>,
    pub message_expiry: Option<u32>,
}

/// Where a section stands; decides what it may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Section {
    Packet(PacketType),
    Will,
}

/// Reads the length and the properties of a section and checks them: known, allowed here, not doubled, in range.
/// `is_from_client` adds what only clients must not send.
pub(crate) fn read_section<'a>(
    reader: &mut Reader<'a>,
    section: Section,
    is_from_client: bool,
    facts: &mut PublishFacts,
) -> Result<Properties<'a>> {
    let len = reader.varint()? as usize;
    let bytes = reader.take(len)?;
    if !bytes.is_empty() {
        validate(bytes, section, is_from_client, facts)?;
    }
    Ok(Properties(bytes))
}

fn validate(bytes: &[u8], section: Section, is_from_client: bool, facts: &mut PublishFacts) -> Result<()> {
    let carrier = match section {
        Section::Packet(packet) => 1 << packet as u32,
        Section::Will => WILL,
    };
    let mut seen = 0u64;
    let (mut pairs, mut pair_bytes) = (0, 0);
    let mut reader = Reader::new(bytes);
    while !reader.is_empty() {
        let before = reader.rest().len();
        let (id, value) = read_property(&mut reader)?;
        if id.carriers() & carrier == 0 {
            return Err(DecodeErrorKind::Malformed("a property that this packet does not have"));
        }
        let bit = 1u64 << id as u8;
        let may_repeat = id == PropertyId::UserProperty
            || (id == PropertyId::SubscriptionIdentifier && section == Section::Packet(PacketType::Publish));
        if seen & bit != 0 && !may_repeat {
            return Err(DecodeErrorKind::Protocol("a property stands twice"));
        }
        seen |= bit;
        if id == PropertyId::UserProperty {
            pairs += 1;
            pair_bytes += before - reader.rest().len();
            if pairs > USER_PROPERTIES_MAX || pair_bytes > USER_PROPERTIES_BYTES_MAX {
                return Err(DecodeErrorKind::UserProperties);
            }
        }
        check_value(id, &value, section, is_from_client, facts)?;
    }
    let has = |id: PropertyId| seen & (1 << id as u8) != 0;
    if has(PropertyId::AuthenticationData) && !has(PropertyId::AuthenticationMethod) {
        return Err(DecodeErrorKind::Protocol("Authentication Data without Method"));
    }
    Ok(())
}

fn check_value(
    id: PropertyId,
    value: &Value<'_>,
    section: Section,
    is_from_client: bool,
    facts: &mut PublishFacts,
) -> Result<()> {
    match (id, value) {
        (
            PropertyId::PayloadFormatIndicator
            | PropertyId::RequestProblemInformation
            | PropertyId::RequestResponseInformation
            | PropertyId::MaximumQoS
            | PropertyId::RetainAvailable
            | PropertyId::WildcardSubscriptionAvailable
            | PropertyId::SubscriptionIdentifierAvailable
            | PropertyId::SharedSubscriptionAvailable,
            Value::Number(2..),
        ) => Err(DecodeErrorKind::Protocol("a flag property is neither 0 nor 1")),
        (PropertyId::ReceiveMaximum | PropertyId::MaximumPacketSize, Value::Number(0)) => {
            Err(DecodeErrorKind::Protocol("Receive Maximum or Maximum Packet Size 0"))
        }
        (PropertyId::SubscriptionIdentifier, Value::Number(number)) => {
            if *number == 0 {
                return Err(DecodeErrorKind::Protocol("Subscription Identifier 0"));
            }
            if is_from_client && section == Section::Packet(PacketType::Publish) {
                return Err(DecodeErrorKind::Protocol("Subscription Identifier in a client's PUBLISH"));
            }
            Ok(())
        }
        (PropertyId::TopicAlias, Value::Number(alias)) => {
            if *alias == 0 {
                return Err(DecodeErrorKind::TopicAlias);
            }
            facts.topic_alias = Some(*alias as u16);
            Ok(())
        }
        (PropertyId::MessageExpiryInterval, Value::Number(expiry)) => {
            facts.message_expiry = Some(*expiry);
            Ok(())
        }
        (PropertyId::ResponseTopic, Value::Bytes(topic)) if memchr::memchr2(b'+', b'#', topic).is_some() => {
            Err(DecodeErrorKind::Protocol("Response Topic with a wildcard"))
        }
        (PropertyId::ResponseTopic, Value::Bytes([])) => {
            Err(DecodeErrorKind::Protocol("empty Response Topic"))
        }
        _ => Ok(()),
    }
}

/// Appends those properties of a PUBLISH or will that are forwarded to subscribers: all but topic alias, message
/// expiry, subscription identifiers and will delay, in their order.
pub fn copy_forwarded(properties: &[u8], out: &mut Vec<u8>) {
    let mut reader = Reader::new(properties);
    while !reader.is_empty() {
        let before = reader.rest();
        let Ok((id, _)) = read_property(&mut reader) else { return };
        let is_kept = !matches!(
            id,
            PropertyId::TopicAlias
                | PropertyId::MessageExpiryInterval
                | PropertyId::SubscriptionIdentifier
                | PropertyId::WillDelayInterval
        );
        if is_kept {
            out.extend_from_slice(&before[..before.len() - reader.rest().len()]);
        }
    }
}

/// Appends properties in wire form to a buffer (without the section's length).
#[derive(Debug)]
pub struct PropertyWriter<'a> {
    out: &'a mut Vec<u8>,
}

impl<'a> PropertyWriter<'a> {
    pub fn new(out: &'a mut Vec<u8>) -> PropertyWriter<'a> {
        PropertyWriter { out }
    }

    fn id(&mut self, id: PropertyId, kind: Kind) {
        debug_assert_eq!(id.kind(), kind, "{id:?} has another type");
        self.out.push(id as u8);
    }

    pub fn u8(&mut self, id: PropertyId, value: u8) -> &mut Self {
        self.id(id, Kind::Byte);
        self.out.push(value);
        self
    }

    pub fn u16(&mut self, id: PropertyId, value: u16) -> &mut Self {
        self.id(id, Kind::TwoBytes);
        self.out.extend_from_slice(&value.to_be_bytes());
        self
    }

    pub fn u32(&mut self, id: PropertyId, value: u32) -> &mut Self {
        self.id(id, Kind::FourBytes);
        self.out.extend_from_slice(&value.to_be_bytes());
        self
    }

    /// `value` is at most 268,435,455.
    pub fn varint(&mut self, id: PropertyId, value: u32) -> &mut Self {
        self.id(id, Kind::Varint);
        write_varint(value.min(VARINT_MAX), self.out);
        self
    }

    /// `value` has at most 65,535 bytes.
    pub fn str(&mut self, id: PropertyId, value: &str) -> &mut Self {
        self.id(id, Kind::String);
        write_binary(value.as_bytes(), self.out);
        self
    }

    pub fn bytes(&mut self, id: PropertyId, value: &[u8]) -> &mut Self {
        self.id(id, Kind::Binary);
        write_binary(value, self.out);
        self
    }

    pub fn user_property(&mut self, name: &str, value: &str) -> &mut Self {
        self.id(PropertyId::UserProperty, Kind::Pair);
        write_binary(name.as_bytes(), self.out);
        write_binary(value.as_bytes(), self.out);
        self
    }
}

/// Bytes of a section: its length field and its properties.
#[inline]
pub(crate) fn section_len(properties_len: usize) -> usize {
    varint_len(properties_len as u32) + properties_len
}

#[inline]
pub(crate) fn write_section(properties: Properties<'_>, out: &mut Vec<u8>) {
    write_varint(properties.0.len() as u32, out);
    out.extend_from_slice(properties.0);
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn written_properties_read_back() {
        let mut bytes = vec![];
        PropertyWriter::new(&mut bytes)
            .u8(PropertyId::PayloadFormatIndicator, 1)
            .user_property("a", "1")
            .u32(PropertyId::MessageExpiryInterval, 7)
            .user_property("a", "2")
            .bytes(PropertyId::CorrelationData, &[0, 1])
            .u16(PropertyId::TopicAlias, 3);
        let mut section = vec![];
        write_section(Properties::from_wire(&bytes), &mut section);
        let mut facts = PublishFacts::default();
        let read =
            read_section(&mut Reader::new(&section), Section::Packet(PacketType::Publish), true, &mut facts)
                .unwrap();
        assert_eq!((facts.topic_alias, facts.message_expiry), (Some(3), Some(7)));
        assert_eq!(read.u8(PropertyId::PayloadFormatIndicator), Some(1));
        assert_eq!(read.bytes(PropertyId::CorrelationData), Some(&[0u8, 1][..]));
        assert_eq!(read.user_properties().collect::<Vec<_>>(), [("a", "1"), ("a", "2")]);
        let mut forwarded = vec![];
        copy_forwarded(read.raw(), &mut forwarded);
        let forwarded = Properties::from_wire(&forwarded);
        assert_eq!(forwarded.u32(PropertyId::MessageExpiryInterval), None);
        assert_eq!(forwarded.u16(PropertyId::TopicAlias), None);
        assert_eq!(forwarded.user_properties().count(), 2);
    }

    #[test]
    fn every_property_has_one_number_and_a_carrier() {
        for id in PropertyId::EVERY {
            assert_eq!(PropertyId::from_u8(*id as u8), Some(*id));
            assert_ne!(id.carriers(), 0);
        }
        assert_eq!(PropertyId::EVERY.len(), 27);
    }
}
