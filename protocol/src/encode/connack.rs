//! CONNACK (3.2).

use super::{header, packet_len};
use crate::packet::{ConnAck, Version};
use crate::properties::{section_len, write_section};

/// Return code for a reason that 3.x cannot say (the server closes without a CONNACK instead).
const SERVER_UNAVAILABLE: u8 = 3;

impl ConnAck<'_> {
    fn body_len(&self, version: Version) -> usize {
        2 + if version.has_properties() { section_len(self.properties.raw().len()) } else { 0 }
    }

    pub fn encoded_len(&self, version: Version) -> usize {
        packet_len(self.body_len(version))
    }

    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        header(0x20, self.body_len(version), out);
        // 3.1 has no Session Present; the byte is reserved there.
        out.push((self.session_present && version != Version::V31) as u8);
        if version.has_properties() {
            out.push(self.reason as u8);
            write_section(self.properties, out);
        } else {
            out.push(self.reason.connack_code_v3().unwrap_or(SERVER_UNAVAILABLE));
        }
    }
}
