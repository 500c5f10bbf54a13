//! One file for each packet family; `encode` has the same names.

pub(crate) mod ack;
pub(crate) mod auth;
pub(crate) mod connack;
pub(crate) mod connect;
pub(crate) mod disconnect;
pub(crate) mod ping;
pub(crate) mod publish;
pub(crate) mod suback;
pub(crate) mod subscribe;
pub(crate) mod unsubscribe;

use crate::packet::PacketType;
use crate::properties::{PublishFacts, Section, read_section};
use crate::wire::{Reader, Result};
use crate::{DecodeErrorKind, Properties, ReasonCode, Version};

/// The property section of a packet other than PUBLISH; empty before version 5.
fn properties<'a>(reader: &mut Reader<'a>, packet: PacketType, version: Version) -> Result<Properties<'a>> {
    if !version.has_properties() {
        return Ok(Properties::EMPTY);
    }
    read_section(reader, Section::Packet(packet), true, &mut PublishFacts::default())
}

/// A reason code that `allowed` says the packet may carry.
fn reason(reader: &mut Reader<'_>, allowed: impl Fn(ReasonCode) -> bool) -> Result<ReasonCode> {
    ReasonCode::from_u8(reader.u8()?)
        .filter(|code| allowed(*code))
        .ok_or(DecodeErrorKind::Protocol("a reason code that this packet does not have"))
}
