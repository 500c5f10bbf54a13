//! What a subscribing connection knows, and what all subscribers of one receiver know together.

use super::stats::Stats;
use crate::plan::{FlowSet, Receiver};
use crate::tracker::{Delivery, Tracker};
use protocol::QoS;
use std::collections::HashMap;

pub struct Subscriber {
    /// Index among the receivers of the worker.
    pub receiver: usize,
    /// Packet ids between PUBLISH and PUBREL at QoS 2.
    unreleased: Option<Box<[u64; 1024]>>,
    /// Members of a group: number behind the last that this one got, by place of the flow.
    order: Box<[u64]>,
    /// Numbers that publishers with a `cnt64` header sent, by topic.
    counts: HashMap<Box<str>, Tracker>,
}

impl Subscriber {
    pub fn new(receiver: usize, plan: &Receiver) -> Subscriber {
        let order = if plan.is_group { vec![0; plan.flows.len()] } else { vec![] };
        Subscriber { receiver, unreleased: None, order: order.into(), counts: HashMap::new() }
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

    /// A message with this number came on a topic that one publisher has. The first that comes begins the count, so
    /// that a subscriber may be late.
    pub fn on_count(&mut self, topic: &str, count: u64, stats: &mut Stats) {
        let Some(tracker) = self.counts.get_mut(topic) else {
            self.counts.insert(topic.into(), Tracker::behind(count));
            return;
        };
        stats.skipped = stats.skipped.saturating_add(count.saturating_sub(tracker.next()));
        match tracker.on_delivery(count) {
            Delivery::InOrder => {}
            Delivery::Duplicate => stats.duplicated += 1,
            Delivery::OutOfOrder => {
                stats.out_of_order += 1;
                stats.filled += 1;
            }
        }
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
    fn counts_tell_what_was_skipped_swapped_and_doubled() {
        let (mut subscriber, mut stats) = (member(false), Stats::default());
        for (topic, count) in [("a", 7), ("b", 0), ("a", 8), ("a", 11), ("a", 9), ("a", 9), ("b", 1)] {
            subscriber.on_count(topic, count, &mut stats);
        }
        assert_eq!((stats.skipped, stats.filled), (2, 1));
        assert_eq!((stats.out_of_order, stats.duplicated), (1, 1));
    }

    #[test]
    fn a_member_may_skip_but_not_go_back() {
        let mut subscriber = member(true);
        assert!(!subscriber.is_behind(0, 5) && !subscriber.is_behind(1, 0) && !subscriber.is_behind(0, 9));
        assert!(subscriber.is_behind(0, 7));
        assert!(!member(false).is_behind(0, 0));
    }
}
