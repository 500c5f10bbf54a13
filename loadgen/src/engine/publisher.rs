//! What a publishing connection knows: its flows, what is under way, and the frames to send.
//!
//! A frame is written from parts that are encoded once: the PUBLISH up to its payload for each flow, and the filler
//! that all payloads share. Only packet id and stamp differ from message to message.

use super::inflight::{Inflight, Sent};
use crate::pacing::Schedule;
use crate::payload::{Form, Header, Stamp};
use crate::plan::{Flow, Plan};
use protocol::{Properties, Publish, QoS};

/// Bytes that wait on one connection; a publisher adds no message beyond.
const OUT_MAX_BYTES: usize = 256 * 1024;
/// A message that leaves later than this after its due time is late.
const LATE_NS: u64 = 1_000_000;

pub struct Publisher {
    flows: Box<[PublishedFlow]>,
    /// Whose turn it is.
    turn: usize,
    /// Messages of all flows.
    sent: u64,
    pub inflight: Inflight,
    /// Receive Maximum of the server.
    pub receive_max: u16,
}

struct PublishedFlow {
    /// Index of `Plan::flows`.
    index: u32,
    copies: u32,
    qos: QoS,
    phase_ns: u64,
    sent: u64,
    /// Sent at the last look for stalls, and deliveries counted then.
    seen: (u64, u64),
    /// The frame up to the payload.
    head: Box<[u8]>,
    packet_id_offset: usize,
}

/// What one call of `fill` added.
#[derive(Clone, Copy, Debug, Default)]
pub struct Filled {
    pub sent: u64,
    pub owed: u64,
    pub late: u64,
    /// Fill again in the next turn: nothing will come back to ask for more, or the buffer was full.
    pub has_more: bool,
}

/// When to publish.
#[derive(Clone, Copy, Debug)]
pub enum Allowance {
    /// Messages under way at most.
    Window(u32),
    /// Messages that are not acknowledged at most, whoever gets them.
    Unacknowledged(u32),
    /// What is due by now, and not at or after the end.
    Due { schedule: Schedule, end_ns: u64 },
}

/// What all publishers of a worker share.
pub struct Material<'a> {
    pub tag: u32,
    pub headers: &'a [Header],
    pub form: Form,
    pub filler: &'a [u8],
    pub allowance: Allowance,
    /// Messages of one flow at most.
    pub limit: u64,
    /// Deliveries by flow index.
    pub delivered: &'a [u64],
    pub now_ns: u64,
}

impl Publisher {
    /// `phases`: by flow index; empty in closed loop.
    pub fn new(plan: &Plan, flows: std::ops::Range<u32>, phases: &[u64]) -> Publisher {
        let flow = |index: u32| {
            let phase_ns = phases.get(index as usize).copied().unwrap_or(0);
            PublishedFlow::new(plan, index, &plan.flows[index as usize], phase_ns)
        };
        let flows = flows.map(flow).collect();
        Publisher { flows, turn: 0, sent: 0, inflight: Inflight::default(), receive_max: u16::MAX }
    }

    /// Appends what may be sent now.
    pub fn fill(&mut self, out: &mut Vec<u8>, material: &Material<'_>, was_blocked: bool) -> Filled {
        let mut filled = Filled::default();
        match material.allowance {
            Allowance::Window(window) => {
                let room = (window as u64).saturating_sub(self.under_way(material.delivered));
                self.fill_room(room, material, out, &mut filled);
            }
            Allowance::Unacknowledged(window) => {
                let room = (window as u64).saturating_sub(self.inflight.len() as u64);
                self.fill_room(room, material, out, &mut filled);
            }
            Allowance::Due { schedule, end_ns } => {
                for place in 0..self.flows.len() {
                    self.fill_due(place, schedule, end_ns, material, was_blocked, out, &mut filled);
                }
            }
        }
        filled.has_more |= out.len() >= OUT_MAX_BYTES;
        filled
    }

    fn fill_room(&mut self, room: u64, material: &Material<'_>, out: &mut Vec<u8>, filled: &mut Filled) {
        for _ in 0..room {
            if out.len() >= OUT_MAX_BYTES || self.is_exhausted(material.limit) {
                return;
            }
            let Some(place) = self.next_place(material.limit) else { return };
            if !self.append(place, material.now_ns, material, out, filled) {
                return;
            }
            let flow = &self.flows[place];
            let is_answered = match material.allowance {
                Allowance::Unacknowledged(_) => flow.qos != QoS::AtMostOnce,
                _ => flow.copies > 0 || flow.qos != QoS::AtMostOnce,
            };
            filled.has_more |= !is_answered;
        }
    }

    /// All flows have sent what they may.
    fn is_exhausted(&self, limit: u64) -> bool {
        self.sent >= limit.saturating_mul(self.flows.len() as u64)
    }

    #[allow(clippy::too_many_arguments)]
    fn fill_due(
        &mut self,
        place: usize,
        schedule: Schedule,
        end_ns: u64,
        material: &Material<'_>,
        mut was_blocked: bool,
        out: &mut Vec<u8>,
        filled: &mut Filled,
    ) {
        while self.flows[place].sent < material.limit && out.len() < OUT_MAX_BYTES {
            let flow = &self.flows[place];
            let due = schedule.due_ns(flow.sent, flow.phase_ns);
            if due > material.now_ns || due >= end_ns {
                return;
            }
            // The broker's acknowledgements are late, not we.
            was_blocked |= self.inflight.len() + 1 >= self.receive_max as usize;
            if !self.append(place, due, material, out, filled) {
                return;
            }
            filled.late += (material.now_ns - due > LATE_NS && !was_blocked) as u64;
        }
    }

    /// The flow whose turn it is, if it has messages left.
    fn next_place(&mut self, limit: u64) -> Option<usize> {
        for _ in 0..self.flows.len() {
            let place = self.turn;
            self.turn = if place + 1 == self.flows.len() { 0 } else { place + 1 };
            if self.flows[place].sent < limit {
                return Some(place);
            }
        }
        None
    }

    /// Messages that are not delivered to all their receivers, or not acknowledged.
    fn under_way(&self, delivered: &[u64]) -> u64 {
        let undelivered = self.flows.iter().map(|flow| flow.undelivered(delivered)).sum::<u64>();
        undelivered.max(self.inflight.len() as u64)
    }

    /// Writes one message. False if no more may be under way.
    #[inline]
    fn append(
        &mut self,
        place: usize,
        due_ns: u64,
        material: &Material<'_>,
        out: &mut Vec<u8>,
        filled: &mut Filled,
    ) -> bool {
        let flow = &mut self.flows[place];
        let packet_id = match flow.qos {
            QoS::AtMostOnce => 0,
            qos => {
                if self.inflight.len() >= self.receive_max as usize {
                    return false;
                }
                let sent = Sent { place: place as u32, sequence: flow.sent, due_ns };
                match self.inflight.begin(qos, sent) {
                    Some(packet_id) => packet_id,
                    None => return false,
                }
            }
        };
        flow.write_frame(out, packet_id, flow.sent, due_ns, material, false);
        flow.sent += 1;
        self.sent += 1;
        filled.sent += 1;
        filled.owed += flow.copies as u64;
        true
    }

    /// Writes again what was not acknowledged before the connection broke [MQTT-4.4.0-1].
    pub fn resend(&mut self, out: &mut Vec<u8>, material: &Material<'_>) {
        for (packet_id, sent, is_released) in self.inflight.unfinished() {
            if is_released {
                out.extend_from_slice(&[0x62, 2]);
                out.extend_from_slice(&packet_id.to_be_bytes());
            } else {
                let flow = &self.flows[sent.place as usize];
                flow.write_frame(out, packet_id, sent.sequence, sent.due_ns, material, true);
            }
        }
    }

    /// The session is gone at the broker: what it took on with PUBREC is its own to deliver, not ours to resend.
    pub fn on_session_lost(&mut self) {
        self.inflight.forget_released();
    }

    /// Appends an empty retained message for each flow, which removes what is stored.
    pub fn write_clears(&self, plan: &Plan, out: &mut Vec<u8>) {
        for flow in &self.flows {
            let publish = Publish {
                dup: false,
                qos: QoS::AtMostOnce,
                retain: true,
                topic: &plan.flows[flow.index as usize].topic,
                packet_id: 0,
                topic_alias: None,
                message_expiry: None,
                subscription_ids: &[],
                properties: Properties::EMPTY,
                payload: &[],
            };
            publish.encode(plan.options.version, out);
        }
    }

    /// Flows that had messages under way at the last look and got nothing since: their deliveries are written off,
    /// through `write_off(flow index, deliveries)`. Returns how many such flows there are.
    pub fn break_stalls(&mut self, delivered: &[u64], mut write_off: impl FnMut(u32, u64)) -> u64 {
        let mut stalls = 0;
        for flow in &mut self.flows {
            let now = (flow.sent, delivered[flow.index as usize]);
            let owed = flow.sent * flow.copies as u64;
            if now == flow.seen && now.1 < owed {
                write_off(flow.index, owed - now.1);
                stalls += 1;
            }
            flow.seen = now;
        }
        stalls
    }

    /// Flow index and number of messages sent, for each flow.
    pub fn sent(&self) -> impl Iterator<Item = (u32, u64)> + '_ {
        self.flows.iter().map(|flow| (flow.index, flow.sent))
    }

    /// Flow index behind a place.
    pub fn flow_at(&self, place: u32) -> u32 {
        self.flows[place as usize].index
    }
}

impl PublishedFlow {
    fn new(plan: &Plan, index: u32, flow: &Flow, phase_ns: u64) -> PublishedFlow {
        let payload = vec![0; plan.options.wire_size()];
        let publish = Publish {
            dup: false,
            qos: flow.qos,
            retain: plan.options.retain,
            topic: &flow.topic,
            packet_id: 1,
            topic_alias: None,
            message_expiry: None,
            subscription_ids: &[],
            properties: Properties::EMPTY,
            payload: &payload,
        };
        let mut head = vec![];
        publish.encode(plan.options.version, &mut head);
        head.truncate(head.len() - payload.len());
        PublishedFlow {
            index,
            copies: flow.copies,
            qos: flow.qos,
            phase_ns,
            sent: 0,
            seen: (0, 0),
            head: head.into(),
            packet_id_offset: publish.packet_id_offset(plan.options.version),
        }
    }

    fn undelivered(&self, delivered: &[u64]) -> u64 {
        match self.copies {
            0 => 0,
            1 => self.sent.saturating_sub(delivered[self.index as usize]),
            copies => self.sent.saturating_sub(delivered[self.index as usize] / copies as u64),
        }
    }

    #[inline]
    fn write_frame(
        &self,
        out: &mut Vec<u8>,
        packet_id: u16,
        sequence: u64,
        due_ns: u64,
        material: &Material<'_>,
        dup: bool,
    ) {
        let start = out.len();
        out.extend_from_slice(&self.head);
        if packet_id != 0 {
            let at = start + self.packet_id_offset;
            out[at..at + 2].copy_from_slice(&packet_id.to_be_bytes());
        }
        if dup {
            out[start] |= 0x08;
        }
        for header in material.headers {
            header.append(sequence, out);
        }
        Stamp { tag: material.tag, flow: self.index, sequence, due_ns }.append(material.form, out);
        out.extend_from_slice(material.filler);
    }
}
