//! SUBSCRIBE, SUBACK, UNSUBSCRIBE, UNSUBACK (3.8 to 3.11): packet id, properties, entries.

use super::{header, packet_len};
use crate::Properties;
use crate::packet::{SubAck, Subscribe, UnsubAck, Unsubscribe, Version};
use crate::properties::{section_len, write_section};

fn body_len(properties: Properties<'_>, entries: &[u8], version: Version) -> usize {
    2 + if version.has_properties() { section_len(properties.raw().len()) } else { 0 } + entries.len()
}

fn encode(
    first: u8,
    packet_id: u16,
    properties: Properties<'_>,
    entries: &[u8],
    version: Version,
    out: &mut Vec<u8>,
) {
    header(first, body_len(properties, entries, version), out);
    out.extend_from_slice(&packet_id.to_be_bytes());
    if version.has_properties() {
        write_section(properties, out);
    }
    out.extend_from_slice(entries);
}

impl Subscribe<'_> {
    pub fn encoded_len(&self, version: Version) -> usize {
        packet_len(body_len(self.properties, self.filters.raw(), version))
    }

    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        encode(0x82, self.packet_id, self.properties, self.filters.raw(), version, out);
    }
}

impl Unsubscribe<'_> {
    pub fn encoded_len(&self, version: Version) -> usize {
        packet_len(body_len(self.properties, self.filters.raw(), version))
    }

    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        encode(0xA2, self.packet_id, self.properties, self.filters.raw(), version, out);
    }
}

impl SubAck<'_> {
    pub fn encoded_len(&self, version: Version) -> usize {
        packet_len(body_len(self.properties, self.codes, version))
    }

    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        encode(0x90, self.packet_id, self.properties, self.codes, version, out);
    }
}

impl UnsubAck<'_> {
    fn codes(&self, version: Version) -> &[u8] {
        if version.has_properties() { self.codes } else { &[] }
    }

    pub fn encoded_len(&self, version: Version) -> usize {
        packet_len(body_len(self.properties, self.codes(version), version))
    }

    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        encode(0xB0, self.packet_id, self.properties, self.codes(version), version, out);
    }
}
