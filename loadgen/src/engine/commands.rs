//! What a worker does when the coordinator says so, and once a second.

use super::Command;
use super::connection::{Connection, Phase};
use super::publisher::Allowance;
use super::worker::Worker;
use crate::pacing::{Pacer, Schedule};
use crate::plan::{Pace, Role};

const PINGREQ: [u8; 2] = [0xC0, 0];
const DISCONNECT: [u8; 2] = [0xE0, 0];

impl Worker {
    pub(super) fn on_command(&mut self, command: Command, now: u64) {
        match command {
            Command::Connect(role) => self.queue_connects(role, false, now),
            Command::Wipe(role) => self.queue_connects(role, true, now),
            Command::Fence(role) => self.fence(role),
            Command::ClearRetained => self.clear_retained(),
            Command::Disconnect(role) => self.disconnect(&self.slots_of(role)),
            Command::Publish { start_ns, limit } => self.start_publishing(start_ns, limit),
            Command::StopPublishing { at_ns } => self.stop_publishing(at_ns),
            Command::ExpectBreaks(expects) => {
                self.context.expects_breaks = expects;
                self.context.allows_repeats |= expects;
            }
            Command::Finish => {
                self.disconnect(&(0..self.connections.len() as u32).collect::<Vec<_>>());
                self.is_over = true;
            }
        }
    }

    fn queue_connects(&mut self, role: Role, is_wiping: bool, now: u64) {
        self.context.is_wiping = is_wiping;
        let slots = self.slots_of(role).into_iter();
        let closed = slots.filter(|slot| !self.connections[*slot as usize].is_open());
        self.connector.add(closed, now);
    }

    fn fence(&mut self, role: Role) {
        for slot in self.slots_of(role) {
            let connection = &mut self.connections[slot as usize];
            if connection.phase == Phase::Ready {
                connection.is_fenced = true;
                connection.out.extend_from_slice(&PINGREQ);
                self.context.mark_dirty(slot);
            }
        }
    }

    fn clear_retained(&mut self) {
        let shared = self.context.shared.clone();
        for (slot, connection) in (0..).zip(&mut self.connections) {
            if let (Some(publisher), Phase::Ready) = (&connection.publisher, connection.phase) {
                publisher.write_clears(&shared.plan, &mut connection.out);
                self.context.mark_dirty(slot);
            }
        }
    }

    fn slots_of(&self, role: Role) -> Vec<u32> {
        let clients = &self.context.shared.plan.clients;
        let has_role = |(_, it): &(u32, &Connection)| clients[it.client as usize].role == role;
        (0..).zip(&self.connections).filter(has_role).map(|(slot, _)| slot).collect()
    }

    fn disconnect(&mut self, slots: &[u32]) {
        for slot in slots {
            let connection = &mut self.connections[*slot as usize];
            if connection.is_open() {
                connection.out.extend_from_slice(&DISCONNECT);
                // The socket is closed in any case; what it does not take is not needed.
                let _ = connection.flush();
                if connection.phase != Phase::Ready {
                    self.context.connecting -= 1;
                    self.context.stats.connect_failed += 1;
                }
                connection.close();
            }
        }
    }

    fn start_publishing(&mut self, start_ns: u64, limit: u64) {
        let shared = self.context.shared.clone();
        self.context.limit = limit;
        match shared.plan.options.pace {
            Pace::Window(window) => self.open_window(Allowance::Window(window)),
            Pace::Unacknowledged(window) => self.open_window(Allowance::Unacknowledged(window)),
            Pace::Interval { ns, ramp_ns } => {
                let schedule = Schedule { start_ns, interval_ns: ns, ramp_ns };
                let allowance = Allowance::Due { schedule, end_ns: u64::MAX };
                self.context.allowance = Some(allowance);
                let flows_of = |(slot, it): (u32, &Connection)| {
                    let flows = shared.plan.clients[it.client as usize].flows.clone();
                    flows.map(move |flow| (flow, slot))
                };
                let flows = (0..).zip(&self.connections).flat_map(flows_of);
                let phases = flows.map(|(flow, slot)| (shared.phases[flow as usize], slot)).collect();
                self.pacer = Some(Pacer::new(schedule, phases));
            }
        }
    }

    fn open_window(&mut self, allowance: Allowance) {
        self.context.allowance = Some(allowance);
        self.slots_of(Role::Publisher).into_iter().for_each(|slot| self.context.mark_dirty(slot));
    }

    fn stop_publishing(&mut self, at_ns: u64) {
        match &mut self.context.allowance {
            Some(Allowance::Due { end_ns, .. }) => *end_ns = at_ns,
            _ => self.context.allowance = None,
        }
    }

    pub(super) fn on_second(&mut self, now: u64) {
        let now_secs = (now / 1_000_000_000) as u32;
        for (slot, connection) in (0..).zip(&mut self.connections) {
            // A quarter of the time is left for the way.
            let patience = connection.keep_alive_secs as u32 * 3 / 4;
            if patience > 0
                && connection.phase == Phase::Ready
                && now_secs - connection.sent_at_secs >= patience
            {
                connection.out.extend_from_slice(&PINGREQ);
                self.context.mark_dirty(slot);
            }
        }
        let is_closed_loop = matches!(self.context.allowance, Some(Allowance::Window(_)));
        if is_closed_loop {
            self.break_stalls();
        }
    }

    fn break_stalls(&mut self) {
        let mut written_off = vec![];
        for connection in &mut self.connections {
            if let Some(publisher) = &mut connection.publisher {
                let delivered = self.context.delivered();
                let stalls = publisher.break_stalls(delivered, |flow, count| written_off.push((flow, count)));
                self.context.stats.stalls += stalls;
            }
        }
        written_off.into_iter().for_each(|(flow, count)| self.context.credit(flow, count));
    }
}
