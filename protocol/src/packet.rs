//! The packets (chapter 3), one model for all versions. What a version lacks is empty.

use crate::wire::Reader;
use crate::{Properties, ReasonCode};

/// A protocol version.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum Version {
    /// `MQIsdp`, level 3.
    V31,
    /// `MQTT`, level 4.
    V311,
    /// `MQTT`, level 5.
    V5,
}

impl Version {
    /// The protocol level in CONNECT.
    pub fn level(self) -> u8 {
        match self {
            Version::V31 => 3,
            Version::V311 => 4,
            Version::V5 => 5,
        }
    }

    /// Packets carry properties and reason codes.
    #[inline]
    pub fn has_properties(self) -> bool {
        self == Version::V5
    }
}

/// Quality of service (4.3).
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub enum QoS {
    AtMostOnce = 0,
    AtLeastOnce = 1,
    ExactlyOnce = 2,
}

impl QoS {
    #[inline]
    pub fn from_u8(value: u8) -> Option<QoS> {
        match value {
            0 => Some(QoS::AtMostOnce),
            1 => Some(QoS::AtLeastOnce),
            2 => Some(QoS::ExactlyOnce),
            _ => None,
        }
    }
}

/// Packet types by their number (2.1.2).
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum PacketType {
    Connect = 1,
    ConnAck = 2,
    Publish = 3,
    PubAck = 4,
    PubRec = 5,
    PubRel = 6,
    PubComp = 7,
    Subscribe = 8,
    SubAck = 9,
    Unsubscribe = 10,
    UnsubAck = 11,
    PingReq = 12,
    PingResp = 13,
    Disconnect = 14,
    Auth = 15,
}

/// A packet that borrows from the bytes it was decoded from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Packet<'a> {
    /// Boxed: it is large, and once in a connection.
    Connect(Box<Connect<'a>>),
    ConnAck(ConnAck<'a>),
    Publish(Publish<'a>),
    PubAck(Ack<'a>),
    PubRec(Ack<'a>),
    PubRel(Ack<'a>),
    PubComp(Ack<'a>),
    Subscribe(Subscribe<'a>),
    SubAck(SubAck<'a>),
    Unsubscribe(Unsubscribe<'a>),
    UnsubAck(UnsubAck<'a>),
    PingReq,
    PingResp,
    Disconnect(Disconnect<'a>),
    Auth(Auth<'a>),
}

impl Packet<'_> {
    pub fn packet_type(&self) -> PacketType {
        match self {
            Packet::Connect(_) => PacketType::Connect,
            Packet::ConnAck(_) => PacketType::ConnAck,
            Packet::Publish(_) => PacketType::Publish,
            Packet::PubAck(_) => PacketType::PubAck,
            Packet::PubRec(_) => PacketType::PubRec,
            Packet::PubRel(_) => PacketType::PubRel,
            Packet::PubComp(_) => PacketType::PubComp,
            Packet::Subscribe(_) => PacketType::Subscribe,
            Packet::SubAck(_) => PacketType::SubAck,
            Packet::Unsubscribe(_) => PacketType::Unsubscribe,
            Packet::UnsubAck(_) => PacketType::UnsubAck,
            Packet::PingReq => PacketType::PingReq,
            Packet::PingResp => PacketType::PingResp,
            Packet::Disconnect(_) => PacketType::Disconnect,
            Packet::Auth(_) => PacketType::Auth,
        }
    }
}

/// CONNECT (3.1).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Connect<'a> {
    pub version: Version,
    /// Level 0x83 or 0x84: a bridge that does not want its own messages back.
    pub is_bridge: bool,
    /// Clean Start; Clean Session in 3.x.
    pub clean_start: bool,
    /// Seconds; 0 = off.
    pub keep_alive: u16,
    pub client_id: &'a str,
    pub will: Option<Will<'a>>,
    pub user_name: Option<&'a str>,
    pub password: Option<&'a [u8]>,
    pub properties: Properties<'a>,
}

/// The will in CONNECT.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Will<'a> {
    pub qos: QoS,
    pub retain: bool,
    pub topic: &'a str,
    pub payload: &'a [u8],
    pub properties: Properties<'a>,
}

/// CONNACK (3.2).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct ConnAck<'a> {
    pub session_present: bool,
    pub reason: ReasonCode,
    pub properties: Properties<'a>,
}

/// PUBLISH (3.3).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Publish<'a> {
    pub dup: bool,
    pub qos: QoS,
    pub retain: bool,
    /// Empty only with a topic alias.
    pub topic: &'a str,
    /// 0 at QoS 0.
    pub packet_id: u16,
    pub topic_alias: Option<u16>,
    /// Message Expiry Interval in seconds.
    pub message_expiry: Option<u32>,
    /// Written on encode; a decoded packet has them in `properties` (`Properties::subscription_ids`).
    pub subscription_ids: &'a [u32],
    /// Decoded: the whole section. To encode: the forwarded ones only; alias, expiry and identifiers come from the
    /// fields.
    pub properties: Properties<'a>,
    pub payload: &'a [u8],
}

impl<'a> Publish<'a> {
    /// The section of a decoded PUBLISH without topic alias, message expiry and subscription identifiers; `scratch`
    /// is used only if there is something to leave out.
    #[inline]
    pub fn forwarded_properties<'b>(&self, scratch: &'b mut Vec<u8>) -> &'b [u8]
    where
        'a: 'b,
    {
        if self.topic_alias.is_none() && self.message_expiry.is_none() {
            // A client's PUBLISH has no subscription identifiers [MQTT-3.3.4-6].
            return self.properties.raw();
        }
        scratch.clear();
        crate::copy_forwarded(self.properties.raw(), scratch);
        scratch
    }
}

/// PUBACK, PUBREC, PUBREL and PUBCOMP (3.4 to 3.7).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ack<'a> {
    pub packet_id: u16,
    pub reason: ReasonCode,
    pub properties: Properties<'a>,
}

impl Ack<'_> {
    pub fn new(packet_id: u16, reason: ReasonCode) -> Ack<'static> {
        Ack { packet_id, reason, properties: Properties::EMPTY }
    }
}

/// Retain Handling (3.8.3.1).
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum RetainHandling {
    SendAlways = 0,
    SendIfNew = 1,
    DoNotSend = 2,
}

/// Subscription options (3.8.3.1); 3.x has only the QoS.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct SubscriptionOptions {
    pub qos: QoS,
    pub no_local: bool,
    pub retain_as_published: bool,
    pub retain_handling: RetainHandling,
}

impl SubscriptionOptions {
    pub fn new(qos: QoS) -> SubscriptionOptions {
        SubscriptionOptions {
            qos,
            no_local: false,
            retain_as_published: false,
            retain_handling: RetainHandling::SendAlways,
        }
    }

    pub(crate) fn to_bits(self) -> u8 {
        self.qos as u8
            | (self.no_local as u8) << 2
            | (self.retain_as_published as u8) << 3
            | (self.retain_handling as u8) << 4
    }

    pub(crate) fn from_bits(bits: u8) -> Option<SubscriptionOptions> {
        Some(SubscriptionOptions {
            qos: QoS::from_u8(bits & 3)?,
            no_local: bits & 4 != 0,
            retain_as_published: bits & 8 != 0,
            retain_handling: match bits >> 4 {
                0 => RetainHandling::SendAlways,
                1 => RetainHandling::SendIfNew,
                2 => RetainHandling::DoNotSend,
                _ => return None,
            },
        })
    }
}

/// SUBSCRIBE (3.8).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Subscribe<'a> {
    pub packet_id: u16,
    pub properties: Properties<'a>,
    pub filters: SubscribeFilters<'a>,
}

/// Filters with options, in wire form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubscribeFilters<'a>(&'a [u8]);

impl<'a> SubscribeFilters<'a> {
    /// Filters that were built with [`SubscribeFilters::push`] or come from a decoded packet.
    pub fn from_wire(bytes: &'a [u8]) -> SubscribeFilters<'a> {
        SubscribeFilters(bytes)
    }

    /// Appends an entry to `out`.
    pub fn push(out: &mut Vec<u8>, filter: &str, options: SubscriptionOptions) {
        crate::wire::write_binary(filter.as_bytes(), out);
        out.push(options.to_bits());
    }

    pub fn raw(&self) -> &'a [u8] {
        self.0
    }

    pub fn iter(&self) -> impl Iterator<Item = (&'a str, SubscriptionOptions)> + use<'a> {
        let mut reader = Reader::new(self.0);
        std::iter::from_fn(move || {
            let filter = reader.string().ok()?;
            Some((filter, SubscriptionOptions::from_bits(reader.u8().ok()?)?))
        })
    }

    pub fn count(&self) -> usize {
        self.iter().count()
    }
}

/// SUBACK (3.9): one code for each filter, in their order.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SubAck<'a> {
    pub packet_id: u16,
    pub properties: Properties<'a>,
    pub codes: &'a [u8],
}

/// UNSUBSCRIBE (3.10).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Unsubscribe<'a> {
    pub packet_id: u16,
    pub properties: Properties<'a>,
    pub filters: UnsubscribeFilters<'a>,
}

/// Filters in wire form.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsubscribeFilters<'a>(&'a [u8]);

impl<'a> UnsubscribeFilters<'a> {
    /// Filters that were built with [`UnsubscribeFilters::push`] or come from a decoded packet.
    pub fn from_wire(bytes: &'a [u8]) -> UnsubscribeFilters<'a> {
        UnsubscribeFilters(bytes)
    }

    /// Appends a filter to `out`.
    pub fn push(out: &mut Vec<u8>, filter: &str) {
        crate::wire::write_binary(filter.as_bytes(), out);
    }

    pub fn raw(&self) -> &'a [u8] {
        self.0
    }

    pub fn iter(&self) -> impl Iterator<Item = &'a str> + use<'a> {
        let mut reader = Reader::new(self.0);
        std::iter::from_fn(move || reader.string().ok())
    }

    pub fn count(&self) -> usize {
        self.iter().count()
    }
}

/// UNSUBACK (3.11): one code for each filter in 5, none in 3.x.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct UnsubAck<'a> {
    pub packet_id: u16,
    pub properties: Properties<'a>,
    pub codes: &'a [u8],
}

/// DISCONNECT (3.14).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Disconnect<'a> {
    pub reason: ReasonCode,
    pub properties: Properties<'a>,
}

/// AUTH (3.15).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Auth<'a> {
    pub reason: ReasonCode,
    pub properties: Properties<'a>,
}
