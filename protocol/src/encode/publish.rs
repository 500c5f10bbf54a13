//! PUBLISH (3.3): the hot path.

use super::{header, packet_len};
use crate::packet::{Publish, QoS, Version};
use crate::properties::PropertyId;
use crate::wire::{varint_len, write_binary, write_varint};

impl Publish<'_> {
    fn properties_len(&self) -> usize {
        let alias = if self.topic_alias.is_some() { 3 } else { 0 };
        let expiry = if self.message_expiry.is_some() { 5 } else { 0 };
        let ids: usize = self.subscription_ids.iter().map(|id| 1 + varint_len(*id)).sum();
        self.properties.raw().len() + alias + expiry + ids
    }

    #[inline]
    fn body_len(&self, version: Version) -> usize {
        let id = if self.qos == QoS::AtMostOnce { 0 } else { 2 };
        let properties = match version.has_properties() {
            true => {
                let len = self.properties_len();
                varint_len(len as u32) + len
            }
            false => 0,
        };
        2 + self.topic.len() + id + properties + self.payload.len()
    }

    /// Bytes that `encode` appends.
    pub fn encoded_len(&self, version: Version) -> usize {
        packet_len(self.body_len(version))
    }

    /// Where the packet id stands from the start of the frame (at QoS 0: where it would).
    #[inline]
    pub fn packet_id_offset(&self, version: Version) -> usize {
        1 + varint_len(self.body_len(version) as u32) + 2 + self.topic.len()
    }

    /// Appends the packet.
    #[inline]
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        let len = self.body_len(version);
        out.reserve(len + 5);
        header(0x30 | (self.dup as u8) << 3 | (self.qos as u8) << 1 | self.retain as u8, len, out);
        write_binary(self.topic.as_bytes(), out);
        if self.qos != QoS::AtMostOnce {
            out.extend_from_slice(&self.packet_id.to_be_bytes());
        }
        if version.has_properties() {
            self.encode_properties(out);
        }
        out.extend_from_slice(self.payload);
    }

    fn encode_properties(&self, out: &mut Vec<u8>) {
        write_varint(self.properties_len() as u32, out);
        if let Some(alias) = self.topic_alias {
            out.push(PropertyId::TopicAlias as u8);
            out.extend_from_slice(&alias.to_be_bytes());
        }
        if let Some(expiry) = self.message_expiry {
            out.push(PropertyId::MessageExpiryInterval as u8);
            out.extend_from_slice(&expiry.to_be_bytes());
        }
        for id in self.subscription_ids {
            out.push(PropertyId::SubscriptionIdentifier as u8);
            write_varint(*id, out);
        }
        out.extend_from_slice(self.properties.raw());
    }
}
