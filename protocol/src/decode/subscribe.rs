//! SUBSCRIBE (3.8). Whether a filter is a valid one is not decided here: the server answers that in SUBACK.

use crate::DecodeErrorKind;
use crate::packet::{PacketType, QoS, Subscribe, SubscribeFilters, SubscriptionOptions, Version};
use crate::wire::{Reader, Result};

pub(crate) fn decode(body: &[u8], version: Version) -> Result<Subscribe<'_>> {
    let mut reader = Reader::new(body);
    let packet_id = reader.packet_id()?;
    let properties = super::properties(&mut reader, PacketType::Subscribe, version)?;
    let filters = reader.rest();
    if filters.is_empty() {
        return Err(DecodeErrorKind::Protocol("SUBSCRIBE without a filter"));
    }
    while !reader.is_empty() {
        reader.string()?;
        check_options(reader.u8()?, version)?;
    }
    Ok(Subscribe { packet_id, properties, filters: SubscribeFilters::from_wire(filters) })
}

fn check_options(bits: u8, version: Version) -> Result<()> {
    let reserved = if version.has_properties() { 0xC0 } else { 0xFC };
    if bits & reserved != 0 || QoS::from_u8(bits & 3).is_none() {
        return Err(DecodeErrorKind::Malformed("reserved subscription options or QoS 3"));
    }
    match SubscriptionOptions::from_bits(bits) {
        Some(_) => Ok(()),
        None => Err(DecodeErrorKind::Protocol("Retain Handling 3")),
    }
}
