//! Connections that are not read for a while: what stops them, and what lets them go on.

use crate::ShardId;
use crate::connection::{ConnectionId, pause};
use crate::shard::{Flow, MEMORY_RESUME_PERCENT, Shard};

impl Shard {
    /// Stops serving the connection for the reason (`pause` bits); the runtime stops reading it.
    pub(crate) fn pause(&mut self, id: ConnectionId, reason: u8) -> Flow {
        let number = self.pause_number;
        if let Some(connection) = self.connection(id) {
            if connection.paused == 0 {
                connection.paused = reason;
                connection.pause_number = number;
                self.pause_number += 1;
                self.paused.insert(number, id);
                self.outputs.reading.push((id, false));
                self.metrics.backpressure_events += 1;
            } else {
                connection.paused |= reason;
            }
        }
        Flow::Pause
    }

    /// Takes the reason back; the connection goes on when none is left.
    pub(crate) fn unpause(&mut self, id: ConnectionId, reason: u8) {
        let now = self.now;
        let Some(connection) = self.connection(id) else { return };
        if connection.paused == 0 {
            return;
        }
        connection.paused &= !reason;
        if connection.paused == 0 {
            // The silence was ours.
            connection.packet_at = now;
            let number = connection.pause_number;
            self.paused.remove(&number);
            self.outputs.reading.push((id, true));
            self.on_bytes(id, &[]);
        }
    }

    /// `pause` bits whose cause is over.
    pub(crate) fn freed_pauses(&self) -> u8 {
        let lane = if self.full_lanes == 0 { pause::LANE } else { 0 };
        let memory = if self.memory_percent() < MEMORY_RESUME_PERCENT { pause::MEMORY } else { 0 };
        lane | memory
    }

    /// Publishers go on when the lanes have room again or memory is back below 80 %.
    pub(crate) fn resume_paused(&mut self) {
        if self.paused.is_empty() {
            return;
        }
        let freed = self.freed_pauses();
        if freed == 0 {
            return;
        }
        let paused: Vec<ConnectionId> = self.paused.values().copied().collect();
        for id in paused {
            if self.connection(id).is_some_and(|connection| connection.paused & freed != 0) {
                self.unpause(id, freed);
            }
        }
    }

    /// The runtime's word on the lane to a shard: it refused an envelope, or has room again.
    pub fn set_lane_full(&mut self, to: ShardId, is_full: bool) {
        let flag = &mut self.is_lane_full[to as usize];
        if *flag == is_full {
            return;
        }
        *flag = is_full;
        if is_full {
            self.full_lanes += 1;
            self.metrics.lane_full += 1;
        } else {
            self.full_lanes -= 1;
            self.drain_waiting_groups();
        }
    }
}
