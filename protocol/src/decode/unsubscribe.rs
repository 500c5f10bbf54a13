//! UNSUBSCRIBE (3.10).

use crate::DecodeErrorKind;
use crate::packet::{PacketType, Unsubscribe, UnsubscribeFilters, Version};
use crate::wire::{Reader, Result};

pub(crate) fn decode(body: &[u8], version: Version) -> Result<Unsubscribe<'_>> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    let properties = super::properties(&mut reader, PacketType::Unsubscribe, version)?;
    let filters = reader.rest();
    if filters.is_empty() {
        return Err(DecodeErrorKind::Protocol("UNSUBSCRIBE without a filter"));
    }
    while !reader.is_empty() {
        reader.string()?;
    }
    Ok(Unsubscribe { packet_id, properties, filters: UnsubscribeFilters::from_wire(filters) })
}
