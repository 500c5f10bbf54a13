//! PUBACK, PUBREC, PUBREL, PUBCOMP (3.4 to 3.7): the shortest form that says it.

use super::{header, packet_len};
use crate::ReasonCode;
use crate::packet::{Ack, Version};
use crate::properties::{section_len, write_section};

impl Ack<'_> {
    #[inline]
    fn body_len(&self, version: Version) -> usize {
        if !version.has_properties() || (self.reason == ReasonCode::Success && self.properties.is_empty()) {
            2
        } else if self.properties.is_empty() {
            3
        } else {
            3 + section_len(self.properties.raw().len())
        }
    }

    pub fn encoded_len(&self, version: Version) -> usize {
        packet_len(self.body_len(version))
    }

    pub fn encode_puback(&self, version: Version, out: &mut Vec<u8>) {
        self.encode_as(0x40, version, out);
    }

    pub fn encode_pubrec(&self, version: Version, out: &mut Vec<u8>) {
        self.encode_as(0x50, version, out);
    }

    pub fn encode_pubrel(&self, version: Version, out: &mut Vec<u8>) {
        self.encode_as(0x62, version, out);
    }

    pub fn encode_pubcomp(&self, version: Version, out: &mut Vec<u8>) {
        self.encode_as(0x70, version, out);
    }

    #[inline]
    fn encode_as(&self, first: u8, version: Version, out: &mut Vec<u8>) {
        let len = self.body_len(version);
        header(first, len, out);
        out.extend_from_slice(&self.packet_id.to_be_bytes());
        if len > 2 {
            out.push(self.reason as u8);
        }
        if len > 3 {
            write_section(self.properties, out);
        }
    }
}
