//! AUTH (3.15), version 5 only.

use crate::packet::{Auth, PacketType, Version};
use crate::wire::{Reader, Result};
use crate::{Properties, ReasonCode};

pub(crate) fn decode(body: &[u8]) -> Result<Auth<'_>> {
    let mut reader = Reader::new(body);
    let mut auth = Auth { reason: ReasonCode::Success, properties: Properties::EMPTY };
    if !reader.is_empty() {
        auth.reason = super::reason(&mut reader, |code| {
            matches!(
                code,
                ReasonCode::Success | ReasonCode::ContinueAuthentication | ReasonCode::ReAuthenticate
            )
        })?;
        if !reader.is_empty() {
            auth.properties = super::properties(&mut reader, PacketType::Auth, Version::V5)?;
        }
    }
    reader.end()?;
    Ok(auth)
}
