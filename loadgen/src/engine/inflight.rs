//! Messages that a publisher sent at QoS 1 or 2 and that are not acknowledged yet.

use protocol::QoS;

/// How far the acknowledgement of a message is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Step {
    Free,
    AwaitsPubAck,
    AwaitsPubRec,
    AwaitsPubComp,
}

/// A message under way.
#[derive(Clone, Copy, Debug)]
pub struct Sent {
    /// Index among the publisher's flows.
    pub place: u32,
    pub sequence: u64,
    pub due_ns: u64,
}

/// The message behind each packet id. Ids are taken from the lowest, so that the table is as long as the most
/// messages that were ever under way at once.
#[derive(Default)]
pub struct Inflight {
    slots: Vec<(Step, Sent)>,
    free: Vec<u16>,
}

impl Inflight {
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    /// The packet id for a message; None if all 65,535 are in use.
    #[inline]
    pub fn begin(&mut self, qos: QoS, sent: Sent) -> Option<u16> {
        let step = if qos == QoS::ExactlyOnce { Step::AwaitsPubRec } else { Step::AwaitsPubAck };
        if let Some(packet_id) = self.free.pop() {
            self.slots[packet_id as usize - 1] = (step, sent);
            return Some(packet_id);
        }
        let packet_id = u16::try_from(self.slots.len() + 1).ok()?;
        self.slots.push((step, sent));
        Some(packet_id)
    }

    /// PUBACK or PUBCOMP, or a PUBREC with an error: the message is done. None if no message waits for that.
    #[inline]
    pub fn on_done(&mut self, packet_id: u16, by: Ack) -> Option<Sent> {
        let (step, sent) = self.slots.get_mut((packet_id as usize).checked_sub(1)?)?;
        if *step != by.answers() {
            return None;
        }
        *step = Step::Free;
        self.free.push(packet_id);
        Some(*sent)
    }

    /// PUBREC: true if PUBREL is to be sent.
    #[inline]
    pub fn on_pubrec(&mut self, packet_id: u16) -> bool {
        let slot = (packet_id as usize).checked_sub(1).and_then(|at| self.slots.get_mut(at));
        match slot {
            Some((step @ Step::AwaitsPubRec, _)) => {
                *step = Step::AwaitsPubComp;
                true
            }
            // Its PUBREL may be lost to a broker that came back.
            Some((Step::AwaitsPubComp, _)) => true,
            _ => false,
        }
    }

    /// Ends all messages that wait for PUBCOMP.
    pub fn forget_released(&mut self) {
        for (packet_id, (step, _)) in (1..).zip(&mut self.slots) {
            if *step == Step::AwaitsPubComp {
                *step = Step::Free;
                self.free.push(packet_id);
            }
        }
    }

    /// All that is not done: packet id, message, and whether PUBREL is to be repeated rather than PUBLISH. In the
    /// order in which they were sent.
    pub fn unfinished(&self) -> Vec<(u16, Sent, bool)> {
        let mut unfinished: Vec<_> = (1..)
            .zip(&self.slots)
            .filter(|(_, (step, _))| *step != Step::Free)
            .map(|(packet_id, (step, sent))| (packet_id, *sent, *step == Step::AwaitsPubComp))
            .collect();
        unfinished.sort_by_key(|(_, sent, _)| (sent.due_ns, sent.sequence));
        unfinished
    }
}

/// The packets that can finish a message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(clippy::enum_variant_names, reason = "the standard's names")]
pub enum Ack {
    PubAck,
    /// Only one with an error finishes.
    PubRec,
    PubComp,
}

impl Ack {
    fn answers(self) -> Step {
        match self {
            Ack::PubAck => Step::AwaitsPubAck,
            Ack::PubRec => Step::AwaitsPubRec,
            Ack::PubComp => Step::AwaitsPubComp,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn message(sequence: u64) -> Sent {
        Sent { place: 0, sequence, due_ns: sequence }
    }

    #[test]
    fn ids_are_reused_and_end_at_65535() {
        let mut inflight = Inflight::default();
        for sequence in 0..65535 {
            assert_eq!(inflight.begin(QoS::AtLeastOnce, message(sequence)), Some(sequence as u16 + 1));
        }
        assert_eq!(inflight.begin(QoS::AtLeastOnce, message(0)), None);
        assert_eq!(inflight.on_done(7, Ack::PubAck).unwrap().sequence, 6);
        assert!(inflight.on_done(7, Ack::PubAck).is_none());
        assert_eq!(inflight.begin(QoS::AtLeastOnce, message(9)), Some(7));
        assert_eq!(inflight.len(), 65535);
    }

    #[test]
    fn exactly_once_takes_both_steps() {
        let mut inflight = Inflight::default();
        let id = inflight.begin(QoS::ExactlyOnce, message(3)).unwrap();
        assert!(inflight.on_done(id, Ack::PubAck).is_none() && inflight.on_done(id, Ack::PubComp).is_none());
        assert!(inflight.on_pubrec(id) && inflight.on_pubrec(id));
        assert!(inflight.unfinished()[0].2);
        assert_eq!(inflight.on_done(id, Ack::PubComp).unwrap().sequence, 3);
        assert!(!inflight.on_pubrec(id) && !inflight.on_pubrec(0) && !inflight.on_pubrec(99));
        assert!(inflight.unfinished().is_empty());
    }

    #[test]
    fn unfinished_messages_come_in_the_order_of_sending() {
        let mut inflight = Inflight::default();
        (0..3).for_each(|sequence| {
            inflight.begin(QoS::AtLeastOnce, message(sequence));
        });
        inflight.on_done(1, Ack::PubAck);
        inflight.begin(QoS::AtLeastOnce, message(3));
        let sequences: Vec<u64> = inflight.unfinished().iter().map(|(_, sent, _)| sent.sequence).collect();
        assert_eq!(sequences, [1, 2, 3]);
    }
}
