//! Messages that wait for one session or one shared group, in order, bounded by count and bytes.

use protocol::QoS;

use crate::fifo::Fifo;
use crate::message::{MessageRef, NO_MESSAGE};

/// Subscription identifiers of a delivery: none, one, or the name of a longer list in the `MessageStore`.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(crate) struct Identifiers(u32);

/// Above every identifier [MQTT-3.8.2.1.2: at most 268,435,455].
const LIST: u32 = 1 << 31;

impl Identifiers {
    pub const NONE: Identifiers = Identifiers(0);

    /// None: a list of them has to be kept.
    #[inline(always)]
    pub fn from_slice(ids: &[u32]) -> Option<Identifiers> {
        match ids {
            [] => Some(Identifiers::NONE),
            [id] => Some(Identifiers(*id)),
            _ => None,
        }
    }

    pub fn from_list(index: u32) -> Identifiers {
        Identifiers(LIST | index)
    }

    #[inline]
    pub fn list(self) -> Option<u32> {
        (self.0 & LIST != 0).then_some(self.0 & !LIST)
    }

    /// Without a list.
    #[inline]
    pub fn as_slice(&self) -> &[u32] {
        match self.0 {
            0 => &[],
            _ => std::slice::from_ref(&self.0),
        }
    }
}

/// One delivery to one session, waiting or in flight. Owns a reference to its message and its list of identifiers, which
/// `MessageStore::release_delivery` gives back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Outgoing {
    /// `NO_MESSAGE` once nothing would have to be sent again.
    pub message: MessageRef,
    pub qos: QoS,
    /// RETAIN of this delivery.
    pub retain: bool,
    pub identifiers: Identifiers,
    /// Number of the shared group through which it came (`Groups::number`), 0 without.
    pub group: u32,
}

impl Outgoing {
    /// A delivery that is never repeated.
    pub fn forgotten(qos: QoS) -> Outgoing {
        Outgoing { message: NO_MESSAGE, qos, retain: false, identifiers: Identifiers::NONE, group: 0 }
    }
}

/// FIFO with the bytes of what it holds. Most sessions never have anything waiting, so it costs a pointer until then.
#[derive(Debug, Default)]
pub(crate) struct Queue(Option<Box<Waiting>>);

#[derive(Debug, Default)]
struct Waiting {
    entries: Fifo<(Outgoing, u32)>,
    bytes: u64,
    /// Entries at QoS 0: further ones must not pass them.
    qos0: u32,
}

impl Queue {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0.as_ref().is_none_or(|waiting| waiting.entries.is_empty())
    }

    /// Whether a message of `len` bytes finds no room. An empty queue always takes one.
    pub fn is_full(&self, len: u32, messages_max: u32, bytes_max: u64) -> bool {
        self.0.as_ref().filter(|waiting| !waiting.entries.is_empty()).is_some_and(|waiting| {
            waiting.entries.len() >= messages_max as usize || waiting.bytes + len as u64 > bytes_max
        })
    }

    /// Something at QoS 0 waits.
    #[inline]
    pub fn has_qos0(&self) -> bool {
        self.0.as_ref().is_some_and(|waiting| waiting.qos0 > 0)
    }

    pub fn push_back(&mut self, outgoing: Outgoing, len: u32) {
        self.enter(outgoing.qos, len).push_back((outgoing, len));
    }

    pub fn push_front(&mut self, outgoing: Outgoing, len: u32) {
        self.enter(outgoing.qos, len).push_front((outgoing, len));
    }

    fn enter(&mut self, qos: QoS, len: u32) -> &mut Fifo<(Outgoing, u32)> {
        let waiting = self.0.get_or_insert_default();
        waiting.bytes += len as u64;
        waiting.qos0 += (qos == QoS::AtMostOnce) as u32;
        &mut waiting.entries
    }

    pub fn front(&self) -> Option<&Outgoing> {
        self.0.as_ref()?.entries.front().map(|(outgoing, _)| outgoing)
    }

    pub fn pop_front(&mut self) -> Option<(Outgoing, u32)> {
        let waiting = self.0.as_mut()?;
        let (outgoing, len) = waiting.entries.pop_front()?;
        waiting.bytes -= len as u64;
        waiting.qos0 -= (outgoing.qos == QoS::AtMostOnce) as u32;
        Some((outgoing, len))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Each waiting message of each session has one, and so has each one in flight.
    #[test]
    fn a_delivery_stays_small() {
        assert_eq!((size_of::<Outgoing>(), size_of::<(Outgoing, u32)>()), (16, 20));
    }
}
