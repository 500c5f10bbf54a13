//! What the connections of one worker share: the verdict on each delivery, counters, and who has something to write.

use super::Shared;
use super::port::{Interval, Port};
use super::publisher::{Allowance, Material};
use super::stats::Stats;
use super::subscriber::{ReceiverState, Subscriber};
use crate::clock;
use crate::latency::{self, Latencies};
use crate::payload::{self, Form, Stamp};
use crate::tracker::Delivery;
use protocol::{Publish, QoS};
use std::sync::Arc;

pub const REFUSED_MAX: usize = 100_000;
/// No publisher here.
const ELSEWHERE: u32 = u32::MAX;

pub struct Context {
    pub shared: Arc<Shared>,
    pub worker: usize,
    pub stats: Stats,
    pub receivers: Vec<ReceiverState>,
    /// None: nothing is to be published.
    pub allowance: Option<Allowance>,
    /// Messages of one flow at most.
    pub limit: u64,
    /// Deliveries by flow: of own flows all that there were, of others those that their worker was not told.
    delivered: Vec<u64>,
    /// Slot of the publisher by flow.
    publishers: Vec<u32>,
    /// Flows of other workers with credits to hand over.
    credited: Vec<u32>,
    dirty: Vec<u32>,
    is_dirty: Vec<bool>,
    measured: std::ops::Range<u64>,
    interval: Interval,
    pub connect_latency: Latencies,
    pub ack_latency: Latencies,
    /// Flow and number of refused messages, the first `REFUSED_MAX`; later ones count as lost, too.
    pub refused: Vec<(u32, u64)>,
    /// Connections may break: a crash is part of the scenario.
    pub expects_breaks: bool,
    /// Being set up.
    pub connecting: u64,
    /// Slots of connections that broke where it is expected: they are to come back.
    pub broken: Vec<u32>,
    /// There was, or may have been, a break: QoS 1 may deliver twice.
    pub allows_repeats: bool,
    /// Connections start clean and do not subscribe.
    pub is_wiping: bool,
}

impl Context {
    pub fn new(shared: Arc<Shared>, worker: usize, connection_count: usize) -> Context {
        let flow_count = shared.plan.flows.len();
        Context {
            worker,
            stats: Stats::default(),
            receivers: vec![],
            allowance: None,
            limit: u64::MAX,
            delivered: vec![0; flow_count],
            publishers: vec![ELSEWHERE; flow_count],
            credited: vec![],
            dirty: vec![],
            is_dirty: vec![false; connection_count],
            measured: u64::MAX..u64::MAX,
            interval: Interval { tick: 0, delivery: latency::histogram() },
            connect_latency: latency::histogram(),
            ack_latency: latency::histogram(),
            refused: vec![],
            expects_breaks: false,
            connecting: 0,
            broken: vec![],
            allows_repeats: false,
            is_wiping: false,
            shared,
        }
    }

    pub fn port(&self) -> &Port {
        self.shared.port(self.worker)
    }

    pub fn set_publisher(&mut self, flow: u32, slot: u32) {
        self.publishers[flow as usize] = slot;
    }

    /// The connection has, or may have, something to write this turn.
    #[inline]
    pub fn mark_dirty(&mut self, slot: u32) {
        if !self.is_dirty[slot as usize] {
            self.is_dirty[slot as usize] = true;
            self.dirty.push(slot);
        }
    }

    pub fn has_dirty(&self) -> bool {
        !self.dirty.is_empty()
    }

    pub fn take_dirty(&mut self, into: &mut Vec<u32>) {
        std::mem::swap(&mut self.dirty, into);
        into.iter().for_each(|slot| self.is_dirty[*slot as usize] = false);
    }

    /// Looks at one delivery: is it ours, whole, at the right QoS, new and in order?
    #[inline]
    pub fn check(&mut self, subscriber: &mut Subscriber, publish: &Publish<'_>, now_ns: u64) {
        let shared = &*self.shared;
        if !shared.plan.options.is_judged {
            return self.count(subscriber, publish, now_ns);
        }
        let receiver = &mut self.receivers[subscriber.receiver];
        let stamp = Stamp::read(publish.payload, shared.plan.options.tag, now_ns);
        let Some((stamp, place)) = stamp.and_then(|stamp| Some((stamp, receiver.flows.place(stamp.flow)?)))
        else {
            self.stats.foreign += 1;
            return;
        };
        let flow = &shared.plan.flows[stamp.flow as usize];
        if *flow.topic != *publish.topic {
            self.stats.foreign += 1;
            return;
        }
        if publish.payload[Form::of(publish.payload.len()).stamp_len()..] != shared.filler {
            self.stats.corrupt += 1;
            return;
        }
        self.stats.wrong_qos += (publish.qos != flow.qos.min(receiver.qos)) as u64;
        self.stats.wrong_retain += (publish.retain != shared.plan.options.retain) as u64;
        match receiver.trackers[place].on_delivery(stamp.sequence) {
            // At least once, and there was a break: with DUP from the broker, without after a publisher's retry.
            Delivery::Duplicate if self.allows_repeats && publish.qos == QoS::AtLeastOnce => {
                self.stats.redelivered += 1;
                return;
            }
            Delivery::Duplicate => {
                self.stats.duplicated += 1;
                return;
            }
            // Only a member's own order counts, since the others take what lies between.
            Delivery::OutOfOrder if !receiver.is_group => self.stats.out_of_order += 1,
            Delivery::OutOfOrder | Delivery::InOrder => {}
        }
        if receiver.is_group && subscriber.is_behind(place, stamp.sequence) {
            self.stats.out_of_order += 1;
        }
        self.stats.delivered += 1;
        if self.measured.contains(&stamp.due_ns) {
            latency::record(&mut self.interval.delivery, now_ns.saturating_sub(stamp.due_ns));
        }
        self.credit(stamp.flow, 1);
    }

    /// A delivery of which nobody here knows whether it was to come.
    fn count(&mut self, subscriber: &mut Subscriber, publish: &Publish<'_>, now_ns: u64) {
        self.stats.delivered += 1;
        let options = &self.shared.plan.options;
        let Some((headers, payload)) = payload::split_headers(&options.headers, publish.payload) else {
            self.stats.foreign += 1;
            return;
        };
        if let Some(count) = headers.count {
            subscriber.on_count(publish.topic, count, &mut self.stats);
        }
        let due_ns = match (Stamp::read(payload, options.tag, now_ns), headers.sent_unix_ms) {
            (Some(stamp), _) => stamp.due_ns,
            (None, Some(sent)) => now_ns.saturating_sub(clock::unix_ms().saturating_sub(sent) * 1_000_000),
            (None, None) => return,
        };
        if self.measured.contains(&due_ns) {
            latency::record(&mut self.interval.delivery, now_ns.saturating_sub(due_ns));
        }
    }

    /// Counts deliveries towards the window of the flow's publisher.
    #[inline]
    pub fn credit(&mut self, flow: u32, deliveries: u64) {
        let delivered = &mut self.delivered[flow as usize];
        *delivered += deliveries;
        match self.publishers[flow as usize] {
            ELSEWHERE if *delivered == deliveries => self.credited.push(flow),
            ELSEWHERE => {}
            slot => self.mark_dirty(slot),
        }
    }

    pub fn delivered(&self) -> &[u64] {
        &self.delivered
    }

    /// Tells the other workers what came of their flows.
    pub fn hand_over_credits(&mut self) {
        if self.credited.is_empty() {
            return;
        }
        // Open loop waits for nobody.
        if let crate::plan::Pace::Window(_) = self.shared.plan.options.pace {
            let flows = &self.shared.plan.flows;
            self.credited.sort_unstable_by_key(|flow| flows[*flow as usize].worker);
            for group in self.credited.chunk_by(|a, b| flows[*a as usize].worker == flows[*b as usize].worker)
            {
                let worker = flows[group[0] as usize].worker;
                let credits = group.iter().map(|flow| (*flow, self.delivered[*flow as usize]));
                match &self.shared.mesh {
                    Some(mesh) if !self.shared.plan.local.contains(&worker) => mesh.credit(worker, credits),
                    _ => self.shared.port(worker).credit(credits),
                }
            }
        }
        for flow in self.credited.drain(..) {
            self.delivered[flow as usize] = 0;
        }
    }

    pub fn record_ack(&mut self, due_ns: u64, now_ns: u64) {
        if self.measured.contains(&due_ns) {
            latency::record(&mut self.ack_latency, now_ns.saturating_sub(due_ns));
        }
    }

    /// What publishers need; None while nothing is to be published.
    pub fn material(&self, now_ns: u64) -> Option<Material<'_>> {
        self.allowance.map(|allowance| self.material_for(allowance, now_ns))
    }

    pub fn material_for(&self, allowance: Allowance, now_ns: u64) -> Material<'_> {
        Material {
            tag: self.shared.plan.options.tag,
            headers: &self.shared.plan.options.headers,
            form: self.shared.plan.options.form(),
            filler: &self.shared.filler,
            allowance,
            limit: self.limit,
            delivered: &self.delivered,
            now_ns,
        }
    }

    /// Follows the coordinator: the measured interval, and the second that latencies are counted in. True if a new
    /// second began.
    pub fn on_turn(&mut self) -> bool {
        self.measured = self.shared.measured.range();
        let tick = self.shared.tick();
        if tick == self.interval.tick {
            return false;
        }
        self.end_interval(tick);
        true
    }

    pub fn end_interval(&mut self, next_tick: u64) {
        let next = Interval { tick: next_tick, delivery: latency::histogram() };
        let over = std::mem::replace(&mut self.interval, next);
        if !over.delivery.is_empty() {
            self.port().put_interval(over);
        }
    }
}
