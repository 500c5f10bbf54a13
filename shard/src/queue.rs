//! Messages that wait for one session or one shared group, in order, bounded by count and bytes.

use std::collections::VecDeque;

use protocol::QoS;

use crate::message::{MessageRef, NO_MESSAGE};

/// Subscription identifiers of a delivery.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) enum Identifiers {
    #[default]
    None,
    One([u32; 1]),
    Many(Box<[u32]>),
}

impl Identifiers {
    // Inlined, because a value that comes back through memory stalls its reader until all earlier stores are done.
    #[inline(always)]
    pub fn from_slice(ids: &[u32]) -> Identifiers {
        match ids {
            [] => Identifiers::None,
            [id] => Identifiers::One([*id]),
            _ => Identifiers::Many(ids.into()),
        }
    }

    #[inline]
    pub fn as_slice(&self) -> &[u32] {
        match self {
            Identifiers::None => &[],
            Identifiers::One(id) => id,
            Identifiers::Many(ids) => ids,
        }
    }
}

/// One delivery to one session, waiting or in flight. Owns a reference to its message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// `NO_MESSAGE` once nothing would have to be sent again.
    pub message: MessageRef,
    pub qos: QoS,
    /// RETAIN of this delivery.
    pub retain: bool,
    pub identifiers: Identifiers,
    /// Key of the shared group through which it came (`Placement::group_key`), 0 without.
    pub group: u64,
}

impl Outgoing {
    /// A delivery that is never repeated.
    pub fn forgotten(qos: QoS) -> Outgoing {
        Outgoing { message: NO_MESSAGE, qos, retain: false, identifiers: Identifiers::None, group: 0 }
    }
}

/// FIFO with the bytes of what it holds.
#[derive(Debug, Default)]
pub(crate) struct Queue {
    entries: VecDeque<(Outgoing, u32)>,
    bytes: u64,
    /// Entries at QoS 0: further ones must not pass them.
    qos0: u32,
}

impl Queue {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.entries.is_empty()
    }

    /// Whether a message of `len` bytes finds no room. An empty queue always takes one.
    pub fn is_full(&self, len: u32, messages_max: u32, bytes_max: u64) -> bool {
        !self.is_empty()
            && (self.entries.len() >= messages_max as usize || self.bytes + len as u64 > bytes_max)
    }

    /// Something at QoS 0 waits.
    #[inline]
    pub fn has_qos0(&self) -> bool {
        self.qos0 > 0
    }

    pub fn push_back(&mut self, outgoing: Outgoing, len: u32) {
        self.bytes += len as u64;
        self.qos0 += (outgoing.qos == QoS::AtMostOnce) as u32;
        self.entries.push_back((outgoing, len));
    }

    pub fn push_front(&mut self, outgoing: Outgoing, len: u32) {
        self.bytes += len as u64;
        self.qos0 += (outgoing.qos == QoS::AtMostOnce) as u32;
        self.entries.push_front((outgoing, len));
    }

    pub fn front(&self) -> Option<&Outgoing> {
        self.entries.front().map(|(outgoing, _)| outgoing)
    }

    pub fn pop_front(&mut self) -> Option<(Outgoing, u32)> {
        let (outgoing, len) = self.entries.pop_front()?;
        self.bytes -= len as u64;
        self.qos0 -= (outgoing.qos == QoS::AtMostOnce) as u32;
        if self.entries.is_empty() && self.entries.capacity() > 64 {
            self.entries = VecDeque::new();
        }
        Some((outgoing, len))
    }
}
