//! Why bytes are no packet, with the reason code that answers it.

use crate::{ReasonCode, Version};

/// What is wrong with the input.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
pub enum DecodeErrorKind {
    /// The packet does not parse: truncated fields, reserved bits, unknown ids, bad UTF-8, bad lengths.
    #[error("malformed packet: {0}")]
    Malformed(&'static str),
    /// It parses, but the standard forbids it: doubled properties, values out of range, packets of the other side.
    #[error("protocol error: {0}")]
    Protocol(&'static str),
    /// The first packet of a connection is not CONNECT, or its protocol name is unknown: close without an answer.
    #[error("not an MQTT CONNECT")]
    NotConnect,
    /// `MQTT` or `MQIsdp` with a protocol level that is not served.
    #[error("protocol level {0} is not supported")]
    UnsupportedVersion(u8),
    /// Longer than the maximum that was announced.
    #[error("packet of {len} bytes exceeds the maximum of {max}")]
    PacketTooLarge { len: u64, max: u32 },
    /// A topic name with a wildcard, or a will topic that is none.
    #[error("invalid topic name")]
    TopicName,
    /// Topic Alias 0.
    #[error("invalid topic alias")]
    TopicAlias,
    /// More user properties than a packet may carry.
    #[error("too many user properties")]
    UserProperties,
}

/// A decode error with the version that the peer named, where it named one.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{kind}")]
pub struct DecodeError {
    kind: DecodeErrorKind,
    version: Option<Version>,
}

impl DecodeError {
    pub(crate) fn new(kind: DecodeErrorKind, version: Option<Version>) -> DecodeError {
        DecodeError { kind, version }
    }

    pub fn kind(&self) -> DecodeErrorKind {
        self.kind
    }

    /// The version in whose form an answer is understood: the connection's, or that of the CONNECT that failed.
    pub fn version(&self) -> Option<Version> {
        self.version
    }

    /// The code for CONNACK or DISCONNECT.
    pub fn reason(&self) -> ReasonCode {
        match self.kind {
            DecodeErrorKind::Malformed(_) => ReasonCode::MalformedPacket,
            DecodeErrorKind::Protocol(_) | DecodeErrorKind::NotConnect => ReasonCode::ProtocolError,
            DecodeErrorKind::UnsupportedVersion(_) => ReasonCode::UnsupportedProtocolVersion,
            DecodeErrorKind::PacketTooLarge { .. } => ReasonCode::PacketTooLarge,
            DecodeErrorKind::TopicName => ReasonCode::TopicNameInvalid,
            DecodeErrorKind::TopicAlias => ReasonCode::TopicAliasInvalid,
            DecodeErrorKind::UserProperties => ReasonCode::ProtocolError,
        }
    }
}
