//! CONNECT (3.1).

use super::{header, packet_len};
use crate::packet::{Connect, Version};
use crate::properties::{section_len, write_section};
use crate::wire::write_binary;

impl Connect<'_> {
    fn name(version: Version) -> &'static [u8] {
        if version == Version::V31 { b"MQIsdp" } else { b"MQTT" }
    }

    fn body_len(&self, version: Version) -> usize {
        let section = |len: usize| if version.has_properties() { section_len(len) } else { 0 };
        let will = self.will.as_ref().map_or(0, |will| {
            section(will.properties.raw().len()) + 4 + will.topic.len() + will.payload.len()
        });
        2 + Connect::name(version).len()
            + 4
            + section(self.properties.raw().len())
            + 2
            + self.client_id.len()
            + will
            + self.user_name.map_or(0, |name| 2 + name.len())
            + self.password.map_or(0, |password| 2 + password.len())
    }

    pub fn encoded_len(&self, version: Version) -> usize {
        packet_len(self.body_len(version))
    }

    /// Appends the packet; `version` wins over the field of that name.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        header(0x10, self.body_len(version), out);
        write_binary(Connect::name(version), out);
        out.push(version.level() | if self.is_bridge { 0x80 } else { 0 });
        let will_flags =
            self.will.as_ref().map_or(0, |will| 0x04 | (will.qos as u8) << 3 | (will.retain as u8) << 5);
        out.push(
            (self.clean_start as u8) << 1
                | will_flags
                | (self.password.is_some() as u8) << 6
                | (self.user_name.is_some() as u8) << 7,
        );
        out.extend_from_slice(&self.keep_alive.to_be_bytes());
        if version.has_properties() {
            write_section(self.properties, out);
        }
        write_binary(self.client_id.as_bytes(), out);
        if let Some(will) = &self.will {
            if version.has_properties() {
                write_section(will.properties, out);
            }
            write_binary(will.topic.as_bytes(), out);
            write_binary(will.payload, out);
        }
        if let Some(name) = self.user_name {
            write_binary(name.as_bytes(), out);
        }
        if let Some(password) = self.password {
            write_binary(password, out);
        }
    }
}
