//! DISCONNECT (3.14) and AUTH (3.15). A reason is followed by the property length even where it is 0 and might be left out:
//! several clients lose the reason of the shorter form.

use super::{header, packet_len};
use crate::packet::{Auth, Disconnect, Version};
use crate::properties::{section_len, write_section};
use crate::{Properties, ReasonCode};

fn body_len(reason: ReasonCode, properties: Properties<'_>, version: Version) -> usize {
    if !version.has_properties() || (reason == ReasonCode::Success && properties.is_empty()) {
        0
    } else {
        1 + section_len(properties.raw().len())
    }
}

fn encode(first: u8, reason: ReasonCode, properties: Properties<'_>, version: Version, out: &mut Vec<u8>) {
    let len = body_len(reason, properties, version);
    header(first, len, out);
    if len > 0 {
        out.push(reason as u8);
        write_section(properties, out);
    }
}

impl Disconnect<'_> {
    pub fn encoded_len(&self, version: Version) -> usize {
        packet_len(body_len(self.reason, self.properties, version))
    }

    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        encode(0xE0, self.reason, self.properties, version, out);
    }
}

impl Auth<'_> {
    pub fn encoded_len(&self, version: Version) -> usize {
        packet_len(body_len(self.reason, self.properties, version))
    }

    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        encode(0xF0, self.reason, self.properties, version, out);
    }
}
