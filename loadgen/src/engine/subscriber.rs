//! What a subscribing connection knows, and what all subscribers of one receiver know together.

use crate::plan::{FlowSet, Receiver};
use crate::tracker::Tracker;
use protocol::QoS;

pub struct Subscriber {
    /// Index among the receivers of the worker.
    pub receiver: usize,
    /// Packet ids between PUBLISH and PUBREL at QoS 2.
    unreleased: Option<Box<[u64; 1024]>>,
    /// Members of a group: number behind the last that this one got, by place of the flow.
    order: Box<[u64]>,
}

impl Subscriber {
    pub fn new(receiver: usize, plan: &Receiver) -> Subscriber {
        let order = if plan.is_group { vec![0; plan.flows.len()] } else { vec![] };
        Subscriber { receiver, unreleased: None, order: order.into() }
    }

    /// A QoS 2 PUBLISH came. False if its id is still in use, so that it is the same message again.
    pub fn begin_exactly_once(&mut self, packet_id: u16) -> bool {
        let ids = self.unreleased.get_or_insert_with(|| Box::new([0; 1024]));
        let (word, bit) = (packet_id as usize / 64, 1 << (packet_id % 64));
        let is_new = ids[word] & bit == 0;
        ids[word] |= bit;
        is_new
    }

    pub fn release(&mut self, packet_id: u16) {
        if let Some(ids) = &mut self.unreleased {
            ids[packet_id as usize / 64] &= !(1 << (packet_id % 64));
        }
    }

    /// The broker lost the session, and with it all packet ids.
    pub fn on_session_lost(&mut self) {
        self.unreleased = None;
    }

    /// For a member of a group: whether this member already got a later one.
    #[inline]
    pub fn is_behind(&mut self, place: usize, sequence: u64) -> bool {
        let Some(next) = self.order.get_mut(place) else { return false };
        let is_behind = sequence < *next;
        *next = (*next).max(sequence + 1);
        is_behind
    }
}

/// A receiver of the plan with what it got.
pub struct ReceiverState {
    pub flows: FlowSet,
    pub qos: QoS,
    pub is_group: bool,
    /// By place of the flow.
    pub trackers: Box<[Tracker]>,
}

impl ReceiverState {
    pub fn new(plan: &Receiver) -> ReceiverState {
        let trackers = vec![Tracker::default(); plan.flows.len()].into();
        ReceiverState { flows: plan.flows.clone(), qos: plan.qos, is_group: plan.is_group, trackers }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn member(is_group: bool) -> Subscriber {
        let plan = Receiver { flows: FlowSet::Range(0..2), qos: QoS::ExactlyOnce, is_group, worker: 0 };
        Subscriber::new(0, &plan)
    }

    #[test]
    fn a_packet_id_is_new_until_it_comes_and_after_its_release() {
        let mut subscriber = member(false);
        assert!(subscriber.begin_exactly_once(65535));
        assert!(!subscriber.begin_exactly_once(65535));
        assert!(subscriber.begin_exactly_once(65534));
        subscriber.release(65535);
        assert!(subscriber.begin_exactly_once(65535));
    }

    #[test]
    fn a_member_may_skip_but_not_go_back() {
        let mut subscriber = member(true);
        assert!(!subscriber.is_behind(0, 5) && !subscriber.is_behind(1, 0) && !subscriber.is_behind(0, 9));
        assert!(subscriber.is_behind(0, 7));
        assert!(!member(false).is_behind(0, 0));
    }
}
