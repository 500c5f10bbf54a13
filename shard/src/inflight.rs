//! The outgoing window of one session: QoS 1 and 2 deliveries from their PUBLISH to their last acknowledgement, in the
//! order in which they were sent. Packet ids ascend (modulo 65,535) along the window, so an acknowledgement finds its
//! entry by distance, and a new id never meets one in flight.

use protocol::QoS;

use crate::fifo::Fifo;

/// What an entry waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// QoS 1: PUBACK.
    Publish1,
    /// QoS 2: PUBREC.
    Publish2,
    /// QoS 2: PUBCOMP; the message itself is done with.
    Release,
    /// Acknowledged; the entry goes when all before it have gone.
    Done,
}

#[derive(Clone, Copy, Debug)]
struct Entry<T> {
    packet_id: u16,
    phase: Phase,
    /// Still to be repeated on this connection.
    is_due: bool,
    /// Its PUBLISH was sent on this connection, so its end gives quota back.
    is_counted: bool,
    /// None from PUBREC on.
    value: Option<T>,
}

/// Why an acknowledgement is none.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum AckError {
    /// Nothing in flight has that id.
    Unknown,
    /// PUBACK for QoS 2, PUBREC for QoS 1, PUBCOMP before PUBREC.
    WrongPhase,
}

/// What to repeat on a new connection.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Resend<'a, T> {
    Publish {
        packet_id: u16,
        value: &'a T,
    },
    /// PUBREL.
    Release(u16),
}

#[derive(Debug)]
pub(crate) struct Inflight<T> {
    entries: Fifo<Entry<T>>,
    /// Entries that are not `Done`.
    live: u32,
    next_id: u16,
    receive_maximum: u16,
    /// PUBLISHes that may still be sent [MQTT-4.9.0-1].
    quota: u16,
    /// First entry that may be due; `entries.len()` or more: nothing is.
    resend_at: u32,
    is_resending: bool,
}

/// Acknowledged entries behind a live one are swept out when there are this many more of them than live ones.
const DONE_SLACK: usize = 64;

impl<T: Copy> Inflight<T> {
    pub fn new(receive_maximum: u16) -> Inflight<T> {
        Inflight {
            entries: Fifo::default(),
            live: 0,
            next_id: 1,
            receive_maximum,
            quota: receive_maximum,
            resend_at: 0,
            is_resending: false,
        }
    }

    /// Deliveries that are not completed.
    pub fn len(&self) -> usize {
        self.live as usize
    }

    pub fn is_resending(&self) -> bool {
        self.is_resending
    }

    /// A further PUBLISH may be sent: there is quota, and the ids do not run into the oldest one.
    #[inline]
    pub fn has_room(&self) -> bool {
        self.quota > 0
            && self
                .entries
                .front()
                .is_none_or(|first| distance(first.packet_id, self.next_id) < u16::MAX as u32 - 1)
    }

    /// Enters a PUBLISH that is being sent and returns its packet id. The caller has asked `has_room`.
    #[inline(always)]
    pub fn push(&mut self, qos: QoS, value: T) -> u16 {
        debug_assert!(self.has_room(), "the window is full");
        debug_assert!(qos != QoS::AtMostOnce, "QoS 0 is never in flight");
        let packet_id = self.next_id;
        self.next_id = if packet_id == u16::MAX { 1 } else { packet_id + 1 };
        let phase = if qos == QoS::AtLeastOnce { Phase::Publish1 } else { Phase::Publish2 };
        self.entries.push_back(Entry {
            packet_id,
            phase,
            is_due: false,
            is_counted: true,
            value: Some(value),
        });
        self.live += 1;
        self.quota -= 1;
        packet_id
    }

    /// Where the id stands: at its distance from the first one if no entry between was swept out, before it otherwise.
    #[inline]
    fn position(&self, packet_id: u16) -> Result<usize, AckError> {
        let first = self.entries.front().ok_or(AckError::Unknown)?.packet_id;
        if packet_id == 0 {
            return Err(AckError::Unknown);
        }
        let wanted = distance(first, packet_id);
        let at = match self.entries.get(wanted as usize) {
            Some(entry) if entry.packet_id == packet_id => wanted as usize,
            _ => self
                .entries
                .find_by_key(wanted, |entry| distance(first, entry.packet_id))
                .ok_or(AckError::Unknown)?,
        };
        match self.entries[at].phase {
            Phase::Done => Err(AckError::Unknown),
            _ => Ok(at),
        }
    }

    /// PUBACK: returns the delivery.
    pub fn on_puback(&mut self, packet_id: u16) -> Result<T, AckError> {
        let at = self.position(packet_id)?;
        if self.entries[at].phase != Phase::Publish1 {
            return Err(AckError::WrongPhase);
        }
        let value = self.entries[at].value.take();
        self.complete(at);
        value.ok_or(AckError::Unknown)
    }

    /// PUBREC: returns the delivery, whose message is done with. With an error code it is over; otherwise PUBREL and
    /// PUBCOMP follow. A repeated PUBREC is Ok(None).
    pub fn on_pubrec(&mut self, packet_id: u16, is_error: bool) -> Result<Option<T>, AckError> {
        let at = self.position(packet_id)?;
        let entry = &mut self.entries[at];
        match entry.phase {
            Phase::Publish2 => {}
            Phase::Release if !is_error => return Ok(None),
            _ => return Err(AckError::WrongPhase),
        }
        let value = entry.value.take();
        if is_error {
            self.complete(at);
        } else {
            entry.phase = Phase::Release;
            entry.is_due = false;
        }
        Ok(value)
    }

    pub fn on_pubcomp(&mut self, packet_id: u16) -> Result<(), AckError> {
        let at = self.position(packet_id)?;
        if self.entries[at].phase != Phase::Release {
            return Err(AckError::WrongPhase);
        }
        self.complete(at);
        Ok(())
    }

    fn complete(&mut self, at: usize) {
        self.entries[at].phase = Phase::Done;
        self.entries[at].is_due = false;
        self.live -= 1;
        // A PUBREL that was only repeated took none: its PUBCOMP must not let a PUBLISH too many out [MQTT-3.3.4-9].
        if self.entries[at].is_counted && self.quota < self.receive_maximum {
            self.quota += 1;
        }
        while self.entries.front().is_some_and(|entry| entry.phase == Phase::Done) {
            self.entries.pop_front();
            self.resend_at = self.resend_at.saturating_sub(1);
        }
        if self.entries.len() > 2 * self.live as usize + DONE_SLACK {
            self.entries.retain(|entry| entry.phase != Phase::Done);
            self.resend_at = 0;
        }
    }

    /// A new connection: the quota begins anew [MQTT-4.9.0-1] and everything in flight is due to be repeated.
    pub fn resume(&mut self, receive_maximum: u16) {
        self.receive_maximum = receive_maximum;
        self.quota = receive_maximum;
        self.resend_at = 0;
        self.is_resending = self.live > 0;
        self.entries.for_each_mut(|entry| {
            entry.is_due = entry.phase != Phase::Done;
            entry.is_counted = false;
        });
    }

    /// The next thing to repeat, in the original order; PUBLISHes need quota, PUBRELs do not. None: wait for an
    /// acknowledgement, or all is repeated (`is_resending` tells).
    pub fn next_resend(&mut self) -> Option<Resend<'_, T>> {
        let start = self.resend_at as usize;
        let Some(at) = (start..self.entries.len()).find(|at| self.entries[*at].is_due) else {
            self.is_resending = false;
            return None;
        };
        self.resend_at = at as u32;
        let entry = &mut self.entries[at];
        if entry.phase != Phase::Release {
            if self.quota == 0 {
                return None;
            }
            self.quota -= 1;
            entry.is_counted = true;
        }
        entry.is_due = false;
        self.resend_at += 1;
        match &entry.value {
            Some(value) => Some(Resend::Publish { packet_id: entry.packet_id, value }),
            None => Some(Resend::Release(entry.packet_id)),
        }
    }

    /// Empties the window: phase and delivery of each entry, in order.
    pub fn drain(&mut self) -> impl Iterator<Item = (Phase, Option<T>)> + use<'_, T> {
        self.live = 0;
        self.is_resending = false;
        std::iter::from_fn(|| self.entries.pop_front())
            .filter(|entry| entry.phase != Phase::Done)
            .map(|entry| (entry.phase, entry.value))
    }
}

/// Steps from one id to another along the ring 1..=65535.
#[inline]
fn distance(from: u16, to: u16) -> u32 {
    match to >= from {
        true => (to - from) as u32,
        false => u16::MAX as u32 - (from - to) as u32,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn ids_wrap_without_zero_and_without_collision() {
        let mut inflight = Inflight::new(u16::MAX);
        let first = inflight.push(QoS::AtLeastOnce, 0);
        for i in 1..65_534u32 {
            assert!(inflight.has_room(), "{i}");
            let id = inflight.push(QoS::AtLeastOnce, i);
            assert_ne!(id, first);
            inflight.on_puback(id).unwrap();
        }
        // The next id would be one that the oldest still has, or so near that it cannot be told apart.
        assert!(!inflight.has_room());
        assert_eq!(inflight.on_puback(first), Ok(0));
        let id = inflight.push(QoS::AtLeastOnce, 1);
        assert_ne!(id, 0);
        assert!(inflight.has_room());
        let next = inflight.push(QoS::AtLeastOnce, 2);
        assert_ne!(next, id);
    }

    #[test]
    fn resend_respects_the_new_quota_and_order() {
        let mut inflight = Inflight::new(100);
        for i in 0..6 {
            inflight.push(if i % 2 == 0 { QoS::AtLeastOnce } else { QoS::ExactlyOnce }, i);
        }
        inflight.on_pubrec(2, false).unwrap();
        inflight.resume(2);
        assert!(inflight.is_resending());
        assert_eq!(inflight.next_resend(), Some(Resend::Publish { packet_id: 1, value: &0 }));
        assert_eq!(inflight.next_resend(), Some(Resend::Release(2)));
        assert_eq!(inflight.next_resend(), Some(Resend::Publish { packet_id: 3, value: &2 }));
        assert_eq!(inflight.next_resend(), None);
        assert!(inflight.is_resending() && !inflight.has_room());
        inflight.on_pubcomp(2).unwrap();
        assert_eq!(inflight.next_resend(), None, "a repeated PUBREL took no quota");
        inflight.on_puback(1).unwrap();
        assert_eq!(inflight.next_resend(), Some(Resend::Publish { packet_id: 4, value: &3 }));
        assert_eq!(inflight.next_resend(), None);
        inflight.on_pubrec(4, false).unwrap();
        inflight.on_pubcomp(4).unwrap();
        inflight.on_puback(3).unwrap();
        assert_eq!(inflight.next_resend(), Some(Resend::Publish { packet_id: 5, value: &4 }));
        assert_eq!(inflight.next_resend(), Some(Resend::Publish { packet_id: 6, value: &5 }));
        assert_eq!(inflight.next_resend(), None);
        assert!(!inflight.is_resending());
        inflight.on_puback(5).unwrap();
        assert_eq!(inflight.push(QoS::AtLeastOnce, 9), 7, "a new delivery does not take an old id");
    }

    #[derive(Clone, Debug)]
    enum Op {
        Push(bool),
        Ack(usize),
        Rec(usize, bool),
        Comp(usize),
        Foreign(u16),
        Resume(u16),
        Resend,
    }

    fn ops() -> impl Strategy<Value = Vec<Op>> {
        let op = prop_oneof![
            4 => any::<bool>().prop_map(Op::Push),
            3 => (0usize..50).prop_map(Op::Ack),
            3 => (0usize..50, any::<bool>()).prop_map(|(i, e)| Op::Rec(i, e)),
            3 => (0usize..50).prop_map(Op::Comp),
            1 => any::<u16>().prop_map(Op::Foreign),
            1 => (1u16..30).prop_map(Op::Resume),
            2 => Just(Op::Resend),
        ];
        prop::collection::vec(op, 1..400)
    }

    /// The plain truth: entries in order, nothing clever.
    #[derive(Default)]
    struct Model {
        /// Id, phase, number, due, counted.
        entries: Vec<(u16, Phase, u32, bool, bool)>,
        quota: u16,
        maximum: u16,
    }

    impl Model {
        fn find(&self, id: u16) -> Option<usize> {
            self.entries.iter().position(|entry| entry.0 == id)
        }

        fn complete(&mut self, at: usize) {
            let entry = self.entries.remove(at);
            self.quota = (self.quota + entry.4 as u16).min(self.maximum);
        }
    }

    proptest! {
        #[test]
        fn behaves_like_the_model(ops in ops(), start in 65_000u32..65_600) {
            let mut inflight = Inflight::new(20);
            // Begin near the wrap.
            for i in 0..start {
                let id = inflight.push(QoS::AtLeastOnce, i);
                inflight.on_puback(id).unwrap();
            }
            let mut model = Model { quota: 20, maximum: 20, ..Model::default() };
            let mut number = start;
            for op in ops {
                let pick = |model: &Model, i: usize| model.entries.get(i % model.entries.len().max(1)).map(|e| e.0);
                match op {
                    Op::Push(is_two) => {
                        prop_assert_eq!(inflight.has_room(), model.quota > 0);
                        if !inflight.has_room() || inflight.is_resending() { continue; }
                        number += 1;
                        let qos = if is_two { QoS::ExactlyOnce } else { QoS::AtLeastOnce };
                        let id = inflight.push(qos, number);
                        prop_assert!(id != 0 && model.find(id).is_none());
                        model.entries.push((id, if is_two { Phase::Publish2 } else { Phase::Publish1 }, number, false, true));
                        model.quota -= 1;
                    }
                    Op::Ack(i) => if let Some(id) = pick(&model, i) {
                        let at = model.find(id).unwrap();
                        match model.entries[at].1 {
                            Phase::Publish1 => {
                                prop_assert_eq!(inflight.on_puback(id), Ok(model.entries[at].2));
                                model.complete(at);
                            }
                            _ => prop_assert_eq!(inflight.on_puback(id), Err(AckError::WrongPhase)),
                        }
                    },
                    Op::Rec(i, is_error) => if let Some(id) = pick(&model, i) {
                        let at = model.find(id).unwrap();
                        match model.entries[at].1 {
                            Phase::Publish2 => {
                                prop_assert_eq!(inflight.on_pubrec(id, is_error), Ok(Some(model.entries[at].2)));
                                if is_error { model.complete(at) } else { model.entries[at].1 = Phase::Release; model.entries[at].3 = false }
                            }
                            Phase::Release if !is_error => prop_assert_eq!(inflight.on_pubrec(id, false), Ok(None)),
                            _ => prop_assert_eq!(inflight.on_pubrec(id, is_error), Err(AckError::WrongPhase)),
                        }
                    },
                    Op::Comp(i) => if let Some(id) = pick(&model, i) {
                        let at = model.find(id).unwrap();
                        match model.entries[at].1 {
                            Phase::Release => { prop_assert_eq!(inflight.on_pubcomp(id), Ok(())); model.complete(at) }
                            _ => prop_assert_eq!(inflight.on_pubcomp(id), Err(AckError::WrongPhase)),
                        }
                    },
                    Op::Foreign(id) => if model.find(id).is_none() {
                        prop_assert_eq!(inflight.on_puback(id), Err(AckError::Unknown));
                        prop_assert_eq!(inflight.on_pubrec(id, false), Err(AckError::Unknown));
                        prop_assert_eq!(inflight.on_pubcomp(id), Err(AckError::Unknown));
                    },
                    Op::Resume(maximum) => {
                        inflight.resume(maximum);
                        model.quota = maximum;
                        model.maximum = maximum;
                        model.entries.iter_mut().for_each(|entry| (entry.3, entry.4) = (true, false));
                    }
                    Op::Resend => {
                        let due = model.entries.iter_mut().find(|entry| entry.3);
                        let expected = match due {
                            Some(entry) if entry.1 == Phase::Release => { entry.3 = false; Some((entry.0, None)) }
                            Some(entry) if model.quota > 0 => { model.quota -= 1; (entry.3, entry.4) = (false, true); Some((entry.0, Some(entry.2))) }
                            _ => None,
                        };
                        let found = inflight.next_resend().map(|resend| match resend {
                            Resend::Publish { packet_id, value } => (packet_id, Some(*value)),
                            Resend::Release(packet_id) => (packet_id, None),
                        });
                        prop_assert_eq!(found, expected);
                    }
                }
                prop_assert_eq!(inflight.len(), model.entries.len());
            }
        }
    }
}
