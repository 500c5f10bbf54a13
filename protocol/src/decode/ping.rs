//! PINGREQ (3.12) and PINGRESP (3.13): no body.

use crate::packet::Packet;
use crate::wire::{Reader, Result};

pub(crate) fn decode<'a>(body: &'a [u8], packet: Packet<'a>) -> Result<Packet<'a>> {
    Reader::new(body).end()?;
    Ok(packet)
}
