//! PUBACK, PUBREC, PUBREL, PUBCOMP (3.4 to 3.7).

use crate::packet::{Ack, Packet, PacketType, Version};
use crate::wire::{Reader, Result};
use crate::{Properties, ReasonCode};

pub(crate) fn decode(packet_type: u8, body: &[u8], version: Version) -> Result<Packet<'_>> {
    let (carrier, is_response): (PacketType, bool) = match packet_type {
        4 => (PacketType::PubAck, true),
        5 => (PacketType::PubRec, true),
        6 => (PacketType::PubRel, false),
        _ => (PacketType::PubComp, false),
    };
    let mut reader = Reader::new(body);
    let mut ack = Ack::new(reader.packet_id()?, ReasonCode::Success);
    let mut properties = Properties::EMPTY;
    if version.has_properties() && !reader.is_empty() {
        ack.reason = super::reason(&mut reader, |code| is_allowed(code, is_response))?;
        if !reader.is_empty() {
            properties = super::properties(&mut reader, carrier, version)?;
        }
    }
    reader.end()?;
    let ack = Ack { packet_id: ack.packet_id, reason: ack.reason, properties };
    Ok(match carrier {
        PacketType::PubAck => Packet::PubAck(ack),
        PacketType::PubRec => Packet::PubRec(ack),
        PacketType::PubRel => Packet::PubRel(ack),
        _ => Packet::PubComp(ack),
    })
}

/// 3.4.2.1, 3.5.2.1 and 3.6.2.1, 3.7.2.1.
fn is_allowed(code: ReasonCode, is_response: bool) -> bool {
    match is_response {
        true => matches!(
            code,
            ReasonCode::Success
                | ReasonCode::NoMatchingSubscribers
                | ReasonCode::UnspecifiedError
                | ReasonCode::ImplementationSpecificError
                | ReasonCode::NotAuthorized
                | ReasonCode::TopicNameInvalid
                | ReasonCode::PacketIdentifierInUse
                | ReasonCode::QuotaExceeded
                | ReasonCode::PayloadFormatInvalid
        ),
        false => matches!(code, ReasonCode::Success | ReasonCode::PacketIdentifierNotFound),
    }
}
