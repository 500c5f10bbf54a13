//! One file for each packet family, as in `decode`. Every packet has `encoded_len` and `encode`, which appends.

mod ack;
mod connack;
mod connect;
mod disconnect;
mod publish;
mod subscribe;

use crate::packet::{Packet, Version};
use crate::wire::{varint_len, write_varint};

/// Length of a packet with a body of `len` bytes.
#[inline]
fn packet_len(len: usize) -> usize {
    1 + varint_len(len as u32) + len
}

/// Appends the fixed header.
#[inline]
fn header(first: u8, len: usize, out: &mut Vec<u8>) {
    out.push(first);
    write_varint(len as u32, out);
}

impl Packet<'_> {
    /// Appends the packet in the form of the version.
    pub fn encode(&self, version: Version, out: &mut Vec<u8>) {
        match self {
            Packet::Connect(connect) => connect.encode(version, out),
            Packet::ConnAck(connack) => connack.encode(version, out),
            Packet::Publish(publish) => publish.encode(version, out),
            Packet::PubAck(ack) => ack.encode_puback(version, out),
            Packet::PubRec(ack) => ack.encode_pubrec(version, out),
            Packet::PubRel(ack) => ack.encode_pubrel(version, out),
            Packet::PubComp(ack) => ack.encode_pubcomp(version, out),
            Packet::Subscribe(subscribe) => subscribe.encode(version, out),
            Packet::SubAck(suback) => suback.encode(version, out),
            Packet::Unsubscribe(unsubscribe) => unsubscribe.encode(version, out),
            Packet::UnsubAck(unsuback) => unsuback.encode(version, out),
            Packet::PingReq => header(0xC0, 0, out),
            Packet::PingResp => header(0xD0, 0, out),
            Packet::Disconnect(disconnect) => disconnect.encode(version, out),
            Packet::Auth(auth) => auth.encode(version, out),
        }
    }

    /// Bytes that `encode` appends.
    pub fn encoded_len(&self, version: Version) -> usize {
        match self {
            Packet::Connect(connect) => connect.encoded_len(version),
            Packet::ConnAck(connack) => connack.encoded_len(version),
            Packet::Publish(publish) => publish.encoded_len(version),
            Packet::PubAck(ack) | Packet::PubRec(ack) | Packet::PubRel(ack) | Packet::PubComp(ack) => {
                ack.encoded_len(version)
            }
            Packet::Subscribe(subscribe) => subscribe.encoded_len(version),
            Packet::SubAck(suback) => suback.encoded_len(version),
            Packet::Unsubscribe(unsubscribe) => unsubscribe.encoded_len(version),
            Packet::UnsubAck(unsuback) => unsuback.encoded_len(version),
            Packet::PingReq | Packet::PingResp => 2,
            Packet::Disconnect(disconnect) => disconnect.encoded_len(version),
            Packet::Auth(auth) => auth.encoded_len(version),
        }
    }
}
