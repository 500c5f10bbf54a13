//! SUBACK (3.9) and UNSUBACK (3.11).

use crate::packet::{PacketType, SubAck, UnsubAck, Version};
use crate::wire::{Reader, Result};
use crate::{DecodeErrorKind, ReasonCode};

pub(crate) fn decode_suback(body: &[u8], version: Version) -> Result<SubAck<'_>> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    let properties = super::properties(&mut reader, PacketType::SubAck, version)?;
    let codes = reader.rest();
    check_codes(codes, |code| code <= 2 || code >= 0x80)?;
    Ok(SubAck { packet_id, properties, codes })
}

pub(crate) fn decode_unsuback(body: &[u8], version: Version) -> Result<UnsubAck<'_>> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    let properties = super::properties(&mut reader, PacketType::UnsubAck, version)?;
    let codes = reader.rest();
    if !version.has_properties() {
        reader.end()?;
    } else {
        check_codes(codes, |code| code == 0 || code == 0x11 || code >= 0x80)?;
    }
    Ok(UnsubAck { packet_id, properties, codes })
}

fn check_codes(codes: &[u8], is_allowed: impl Fn(u8) -> bool) -> Result<()> {
    let is_known = |code: &u8| ReasonCode::from_u8(*code).is_some() && is_allowed(*code);
    match !codes.is_empty() && codes.iter().all(is_known) {
        true => Ok(()),
        false => Err(DecodeErrorKind::Malformed("codes that this packet does not have, or none")),
    }
}
