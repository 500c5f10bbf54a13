//! The wire and nothing else: bytes to packets and back, for MQTT 3.1, 3.1.1 and 5.0 and for both sides.
//!
//! [`Decoder::next_packet`] frames and decodes; the [`Packet`] borrows topic, payload and properties from the input, so
//! nothing is copied and nothing is allocated by a length that the peer only claims. Property sections are validated
//! against the packet that carries them and stay in wire form ([`Properties`]). Each packet has `encode`; a PUBLISH
//! can be encoded once and its packet id patched for each receiver (`Publish::packet_id_offset`). Bad input is a
//! [`DecodeError`] that carries its reason code. There is one packet model for all versions: what a version lacks is
//! empty on decode and left out on encode.
#![forbid(unsafe_code)]

mod decode;
mod decoder;
mod encode;
mod error;
mod packet;
mod properties;
mod reason;
pub mod topic;
mod wire;

pub use decoder::{Decoder, Role};
pub use error::{DecodeError, DecodeErrorKind};
pub use packet::{
    Ack, Auth, ConnAck, Connect, Disconnect, Packet, PacketType, Publish, QoS, RetainHandling, SubAck,
    Subscribe, SubscribeFilters, SubscriptionOptions, UnsubAck, Unsubscribe, UnsubscribeFilters, Version,
    Will,
};
pub use properties::{
    Properties, PropertyId, PropertyWriter, USER_PROPERTIES_BYTES_MAX, USER_PROPERTIES_MAX, copy_forwarded,
};
pub use reason::ReasonCode;
