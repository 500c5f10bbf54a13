//! An application message as the core sees it, its frame (the form in lanes, in the store and in the journal), and the
//! store of messages that wait for sessions of this shard.

use std::borrow::Cow;

use protocol::QoS;
use slab::Slab;

use crate::Time;
use crate::chunked::ChunkedVec;
use crate::queue::{Identifiers, Outgoing};

/// A message that borrows from where its bytes are: a read buffer, a batch, or the store.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Message<'a> {
    pub topic: &'a str,
    pub payload: &'a [u8],
    /// The forwarded MQTT 5 properties in wire form and order: all but topic alias, expiry and subscription ids.
    pub properties: &'a [u8],
    pub qos: QoS,
    /// RETAIN as published.
    pub retain: bool,
    /// Key of the publishing client (`placement::client_key`), 0 for the server itself. Decides No Local.
    pub publisher: u64,
    /// When it expires; `NEVER` without Message Expiry Interval.
    pub expires_at: Time,
    /// Message Expiry Interval 0: for those who are online now, never stored.
    pub is_fleeting: bool,
}

/// `Message::expires_at` of a message that does not expire.
pub(crate) const NEVER: Time = Time::MAX;

/// What a frame in a lane asks of the shard that receives it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(crate) struct Instructions {
    /// Set at the owner of the topic: store it as retained (or clear).
    pub store: bool,
    /// Route it from there on as if it had been published there. Otherwise it is only delivered.
    pub route: bool,
    /// Hash of the shared group that it is for; 0: for the plain subscriptions.
    pub group: u64,
    /// The receiver confirms with this ticket when it is stored; 0: no confirmation wanted.
    pub ticket: u32,
}

const HEADER: usize = 40;
const QOS_MASK: u8 = 3;
const RETAIN: u8 = 4;
const STORE: u8 = 8;
const ROUTE: u8 = 16;
const FLEETING: u8 = 32;

impl<'a> Message<'a> {
    /// Bytes of the frame.
    #[inline]
    pub fn frame_len(&self) -> usize {
        HEADER + self.topic.len() + self.properties.len() + self.payload.len()
    }

    /// Appends the frame: total length u32, properties length u32, expiry u64, publisher u64, group u64, ticket u32,
    /// topic length u16, flags u8, reserved u8, topic, properties, payload; little endian.
    #[inline]
    pub fn write(&self, instructions: Instructions, out: &mut Vec<u8>) {
        let mut header = [0u8; HEADER];
        header[0..4].copy_from_slice(&(self.frame_len() as u32).to_le_bytes());
        header[4..8].copy_from_slice(&(self.properties.len() as u32).to_le_bytes());
        header[8..16].copy_from_slice(&self.expires_at.to_le_bytes());
        header[16..24].copy_from_slice(&self.publisher.to_le_bytes());
        header[24..32].copy_from_slice(&instructions.group.to_le_bytes());
        header[32..36].copy_from_slice(&instructions.ticket.to_le_bytes());
        header[36..38].copy_from_slice(&(self.topic.len() as u16).to_le_bytes());
        header[38] = self.qos as u8
            | if self.retain { RETAIN } else { 0 }
            | if instructions.store { STORE } else { 0 }
            | if instructions.route { ROUTE } else { 0 }
            | if self.is_fleeting { FLEETING } else { 0 };
        out.reserve(self.frame_len());
        out.extend_from_slice(&header);
        out.extend_from_slice(self.topic.as_bytes());
        out.extend_from_slice(self.properties);
        out.extend_from_slice(self.payload);
    }

    /// Reads the frame at the start of `bytes`, which this process wrote; returns the bytes used.
    #[inline]
    pub fn read(bytes: &'a [u8]) -> (Message<'a>, Instructions, usize) {
        let u32_at = |at: usize| u32::from_le_bytes(bytes[at..at + 4].try_into().expect("four bytes"));
        let u64_at = |at: usize| u64::from_le_bytes(bytes[at..at + 8].try_into().expect("eight bytes"));
        let len = u32_at(0) as usize;
        let topic_end = HEADER + u16::from_le_bytes([bytes[36], bytes[37]]) as usize;
        let properties_end = topic_end + u32_at(4) as usize;
        let flags = bytes[38];
        let message = Message {
            topic: std::str::from_utf8(&bytes[HEADER..topic_end]).expect("frames hold valid topics"),
            properties: &bytes[topic_end..properties_end],
            payload: &bytes[properties_end..len],
            qos: QoS::from_u8(flags & QOS_MASK).expect("frames hold a valid QoS"),
            retain: flags & RETAIN != 0,
            publisher: u64_at(16),
            expires_at: u64_at(8),
            is_fleeting: flags & FLEETING != 0,
        };
        let instructions = Instructions {
            store: flags & STORE != 0,
            route: flags & ROUTE != 0,
            group: u64_at(24),
            ticket: u32_at(32),
        };
        (message, instructions, len)
    }

    #[inline]
    pub fn is_expired(&self, now: Time) -> bool {
        self.expires_at <= now && !self.is_fleeting
    }

    /// Message Expiry Interval that is left, in seconds: rounded down, at least 1 [MQTT-3.3.2-6].
    #[inline]
    pub fn expiry_left(&self, now: Time) -> Option<u32> {
        match self.expires_at {
            NEVER => None,
            _ if self.is_fleeting => Some(0),
            at => Some((at.saturating_sub(now) / 1000).clamp(1, u32::MAX as u64) as u32),
        }
    }
}

/// Names a message in the store.
pub(crate) type MessageRef = u32;
/// No message is kept (nothing would ever be sent again).
pub(crate) const NO_MESSAGE: MessageRef = u32::MAX;

#[derive(Debug, Default)]
struct Stored {
    frame: Vec<u8>,
    /// Queue and in-flight entries that name it.
    references: u32,
}

/// Messages that wait for sessions, one copy each however many wait. Slots and small buffers are recycled, so a busy
/// shard allocates nothing for a message.
#[derive(Debug, Default)]
pub(crate) struct MessageStore {
    slots: ChunkedVec<Stored>,
    free: Vec<MessageRef>,
    bytes: u64,
    count: u64,
    spare_bytes: usize,
    /// Subscription identifiers of deliveries that have more than one.
    identifiers: Slab<Box<[u32]>>,
}

/// Buffers above this capacity are given back to the allocator.
const RECYCLED_CAPACITY: usize = 4096;
/// All recycled buffers together.
const SPARE_BYTES_MAX: usize = 4 * 1024 * 1024;

impl MessageStore {
    /// Stores a copy with one reference, the caller's: `retain` it for each entry that names it, then `release` it.
    pub fn insert(&mut self, message: &Message<'_>) -> MessageRef {
        let index = self.free.pop().unwrap_or_else(|| {
            self.slots.push(Stored::default());
            (self.slots.len() - 1) as MessageRef
        });
        let slot = &mut self.slots[index as usize];
        self.spare_bytes -= slot.frame.capacity();
        message.write(Instructions::default(), &mut slot.frame);
        slot.references = 1;
        self.bytes += slot.frame.len() as u64;
        self.count += 1;
        index
    }

    #[inline]
    pub fn retain(&mut self, index: MessageRef) {
        if index != NO_MESSAGE {
            self.slots[index as usize].references += 1;
        }
    }

    /// Gives up one reference; the last one frees the message.
    #[inline]
    pub fn release(&mut self, index: MessageRef) {
        if index == NO_MESSAGE {
            return;
        }
        let slot = &mut self.slots[index as usize];
        debug_assert!(slot.references > 0, "released more often than retained");
        slot.references -= 1;
        if slot.references == 0 {
            self.free_slot(index);
        }
    }

    /// Gives up what a delivery that is over owns here.
    #[inline]
    pub fn release_delivery(&mut self, outgoing: Outgoing) {
        if let Some(list) = outgoing.identifiers.list() {
            self.identifiers.remove(list as usize);
        }
        self.release(outgoing.message);
    }

    #[inline]
    pub fn keep_identifiers(&mut self, ids: &[u32]) -> Identifiers {
        match Identifiers::from_slice(ids) {
            Some(identifiers) => identifiers,
            None => Identifiers::from_list(self.identifiers.insert(ids.into()) as u32),
        }
    }

    /// The identifiers of a delivery.
    #[inline]
    pub fn identifiers<'a>(&self, identifiers: &'a Identifiers) -> Cow<'a, [u32]> {
        match identifiers.list() {
            None => Cow::Borrowed(identifiers.as_slice()),
            Some(list) => Cow::Owned(self.identifiers[list as usize].to_vec()),
        }
    }

    /// Lists of identifiers that are kept.
    pub fn identifier_lists(&self) -> usize {
        self.identifiers.len()
    }

    fn free_slot(&mut self, index: MessageRef) {
        let slot = &mut self.slots[index as usize];
        self.bytes -= slot.frame.len() as u64;
        self.count -= 1;
        slot.frame.clear();
        if slot.frame.capacity() > RECYCLED_CAPACITY || self.spare_bytes > SPARE_BYTES_MAX {
            slot.frame = Vec::new();
        }
        self.spare_bytes += slot.frame.capacity();
        self.free.push(index);
        if self.count == 0 && self.slots.len() > 4096 {
            // A burst is over: its slots go back too.
            *self = MessageStore { identifiers: std::mem::take(&mut self.identifiers), ..Default::default() };
        }
    }

    #[inline]
    pub fn get(&self, index: MessageRef) -> Message<'_> {
        Message::read(&self.slots[index as usize].frame).0
    }

    /// Takes the frame out while it is delivered (the caller holds a reference and gives it back by `put_frame`).
    #[inline]
    pub fn take_frame(&mut self, index: MessageRef) -> Vec<u8> {
        std::mem::take(&mut self.slots[index as usize].frame)
    }

    #[inline]
    pub fn put_frame(&mut self, index: MessageRef, frame: Vec<u8>) {
        self.slots[index as usize].frame = frame;
    }

    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    pub fn count(&self) -> u64 {
        self.count
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message<'a>(topic: &'a str, payload: &'a [u8]) -> Message<'a> {
        Message {
            topic,
            payload,
            properties: &[1, 1],
            qos: QoS::ExactlyOnce,
            retain: true,
            publisher: 7,
            expires_at: 12_345,
            is_fleeting: false,
        }
    }

    #[test]
    fn frame_round_trip() {
        let mut bytes = vec![];
        let instructions = Instructions { store: true, route: true, group: 99, ticket: 5 };
        message("a/b", b"xyz").write(instructions, &mut bytes);
        message("c", b"").write(Instructions::default(), &mut bytes);
        let (first, read, used) = Message::read(&bytes);
        assert_eq!((first, read), (message("a/b", b"xyz"), instructions));
        let (second, read, rest) = Message::read(&bytes[used..]);
        assert_eq!((second, read), (message("c", b""), Instructions::default()));
        assert_eq!(used + rest, bytes.len());
    }

    #[test]
    fn store_counts_references_and_recycles() {
        let mut store = MessageStore::default();
        let first = store.insert(&message("a", b"1"));
        store.retain(first);
        store.release(first);
        assert_eq!(store.get(first).payload, b"1");
        store.release(first);
        assert_eq!((store.count(), store.bytes()), (0, 0));
        let second = store.insert(&message("b", b"2"));
        assert_eq!(second, first, "the slot is used again");
        store.release(second);
        assert_eq!(store.count(), 0);
    }

    #[test]
    fn expiry_left_is_rounded_down_and_at_least_one() {
        let m = message("a", b"");
        assert_eq!(m.expiry_left(2_345), Some(10));
        assert_eq!(m.expiry_left(2_346), Some(9));
        assert_eq!(m.expiry_left(12_344), Some(1));
        assert!(!m.is_expired(12_344) && m.is_expired(12_345));
        assert_eq!(Message { expires_at: NEVER, ..m }.expiry_left(5), None);
    }
}
