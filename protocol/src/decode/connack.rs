//! CONNACK (3.2).

use crate::packet::{ConnAck, PacketType, Version};
use crate::wire::{Reader, Result};
use crate::{DecodeErrorKind, ReasonCode};

pub(crate) fn decode(body: &[u8], version: Version) -> Result<ConnAck<'_>> {
    let mut reader = Reader::new(body);
    let flags = reader.u8()?;
    if flags > 1 {
        return Err(DecodeErrorKind::Malformed("reserved CONNACK flags"));
    }
    let reason = match version.has_properties() {
        true => super::reason(&mut reader, |code| code == ReasonCode::Success || code.is_error())?,
        false => ReasonCode::from_connack_code_v3(reader.u8()?)
            .ok_or(DecodeErrorKind::Malformed("unknown return code"))?,
    };
    let properties = super::properties(&mut reader, PacketType::ConnAck, version)?;
    reader.end()?;
    // 3.1 has no Session Present: the byte is reserved there.
    Ok(ConnAck { session_present: flags == 1 && version != Version::V31, reason, properties })
}
