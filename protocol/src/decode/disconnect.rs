//! DISCONNECT (3.14).

use crate::packet::{Disconnect, PacketType, Version};
use crate::properties::PropertyId;
use crate::wire::{Reader, Result};
use crate::{DecodeErrorKind, Properties, ReasonCode};

pub(crate) fn decode(body: &[u8], version: Version, is_from_client: bool) -> Result<Disconnect<'_>> {
    let mut reader = Reader::new(body);
    let mut disconnect = Disconnect { reason: ReasonCode::Success, properties: Properties::EMPTY };
    if version.has_properties() && !reader.is_empty() {
        disconnect.reason = super::reason(&mut reader, |code| is_allowed(code, is_from_client))?;
        if !reader.is_empty() {
            disconnect.properties = super::properties(&mut reader, PacketType::Disconnect, version)?;
        }
    }
    reader.end()?;
    let has_expiry = disconnect.properties.u32(PropertyId::SessionExpiryInterval).is_some();
    if has_expiry && !is_from_client {
        return Err(DecodeErrorKind::Protocol("a server's DISCONNECT with Session Expiry Interval"));
    }
    Ok(disconnect)
}

/// 3.14.2.1: codes of both sides, and those of one.
fn is_allowed(code: ReasonCode, is_from_client: bool) -> bool {
    use ReasonCode::*;
    match code {
        Success
        | UnspecifiedError
        | MalformedPacket
        | ProtocolError
        | ImplementationSpecificError
        | TopicNameInvalid
        | ReceiveMaximumExceeded
        | TopicAliasInvalid
        | PacketTooLarge
        | MessageRateTooHigh
        | QuotaExceeded
        | AdministrativeAction
        | PayloadFormatInvalid => true,
        DisconnectWithWill => is_from_client,
        _ => code.is_error() && !is_from_client,
    }
}
