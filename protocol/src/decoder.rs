//! Framing: the fixed header, the size limit before there is a body, and the dispatch to the packet's decoder.

use crate::decode;
use crate::packet::Packet;
use crate::wire::read_varint;
use crate::{DecodeError, DecodeErrorKind, Version};

/// Which side we are: what the other one must not send is refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    Server,
    Client,
}

/// Decodes the packets of one connection. A value without state of its own beyond what it was told: framing starts
/// anew with each call, at the start of a packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Decoder {
    pub role: Role,
    /// The connection's version. None: a server that awaits CONNECT.
    pub version: Option<Version>,
    /// Largest packet in bytes, fixed header included.
    pub packet_size_max: u32,
}

impl Decoder {
    /// The first packet of `bytes` and its length; None if it is not complete. Errors are final for the connection.
    #[inline]
    pub fn next_packet<'a>(&self, bytes: &'a [u8]) -> Result<Option<(Packet<'a>, usize)>, DecodeError> {
        let Some(&first) = bytes.first() else { return Ok(None) };
        if self.version.is_none() && self.role == Role::Server && first != 0x10 {
            return Err(self.error(DecodeErrorKind::NotConnect));
        }
        let Some((len, len_bytes)) = read_varint(&bytes[1..]).map_err(|kind| self.error(kind))? else {
            return Ok(None);
        };
        let total = 1 + len_bytes + len as usize;
        if total as u64 > self.packet_size_max as u64 {
            let kind = DecodeErrorKind::PacketTooLarge { len: total as u64, max: self.packet_size_max };
            return Err(self.error(kind));
        }
        // What can be refused by the first byte is refused before the body is there.
        self.check_first_byte(first).map_err(|kind| self.error(kind))?;
        if bytes.len() < total {
            return Ok(None);
        }
        let body = &bytes[1 + len_bytes..total];
        let packet = self.decode_body(first, body)?;
        Ok(Some((packet, total)))
    }

    /// Bytes that have to follow `bytes`, the beginning of a packet, before `next_packet` can say more than now: to the
    /// end of the packet, or as long as its length is not known to the next byte of that. 0: it is complete, or wrong.
    #[inline]
    pub fn missing(bytes: &[u8]) -> usize {
        let Some(rest) = bytes.get(1..) else { return 2 };
        match read_varint(rest) {
            Ok(Some((len, len_bytes))) => (1 + len_bytes + len as usize).saturating_sub(bytes.len()),
            Ok(None) => 1,
            Err(_) => 0,
        }
    }

    #[cold]
    fn error(&self, kind: DecodeErrorKind) -> DecodeError {
        DecodeError::new(kind, self.version)
    }

    /// Packet type and flags (2.1.2, 2.1.3), and whether this side may receive it.
    #[inline]
    fn check_first_byte(&self, first: u8) -> Result<(), DecodeErrorKind> {
        const MALFORMED: DecodeErrorKind = DecodeErrorKind::Malformed("reserved flags or packet type");
        let (packet_type, flags) = (first >> 4, first & 0x0F);
        match packet_type {
            3 => return Ok(()),
            // DUP was allowed on these in 3.1.
            6 | 8 | 10 if flags == 2 || (self.version == Some(Version::V31) && flags | 8 == 10) => {}
            6 | 8 | 10 => return Err(MALFORMED),
            0 => return Err(MALFORMED),
            15 if self.version != Some(Version::V5) => return Err(MALFORMED),
            _ if flags != 0 => return Err(MALFORMED),
            _ => {}
        }
        let is_for_us = match self.role {
            Role::Server => !matches!(packet_type, 2 | 9 | 11 | 13),
            Role::Client => !matches!(packet_type, 1 | 8 | 10 | 12),
        };
        match is_for_us {
            true => Ok(()),
            false => Err(DecodeErrorKind::Protocol("a packet that only the other side may send")),
        }
    }

    #[inline]
    fn decode_body<'a>(&self, first: u8, body: &'a [u8]) -> Result<Packet<'a>, DecodeError> {
        if first >> 4 == 1 {
            return decode::connect::decode(body).map(|connect| Packet::Connect(Box::new(connect)));
        }
        let version = self.version.unwrap_or(Version::V311);
        let is_from_client = self.role == Role::Server;
        let packet = match first >> 4 {
            3 => decode::publish::decode(first, body, version, is_from_client).map(Packet::Publish),
            4..=7 => decode::ack::decode(first >> 4, body, version),
            2 => decode::connack::decode(body, version).map(Packet::ConnAck),
            8 => decode::subscribe::decode(body, version).map(Packet::Subscribe),
            9 => decode::suback::decode_suback(body, version).map(Packet::SubAck),
            10 => decode::unsubscribe::decode(body, version).map(Packet::Unsubscribe),
            11 => decode::suback::decode_unsuback(body, version).map(Packet::UnsubAck),
            12 => decode::ping::decode(body, Packet::PingReq),
            13 => decode::ping::decode(body, Packet::PingResp),
            14 => decode::disconnect::decode(body, version, is_from_client).map(Packet::Disconnect),
            _ => decode::auth::decode(body).map(Packet::Auth),
        };
        packet.map_err(|kind| self.error(kind))
    }
}
