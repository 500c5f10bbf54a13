//! The timers of connections (CONNECT deadline, keep alive, slow consumer) and of sessions (expiry, will delay).

use protocol::ReasonCode;

use crate::Time;
use crate::connection::ConnectionId;
use crate::metrics::{DropReason, EndReason};
use crate::shard::{Shard, TimerKey};
use crate::timers::TimerId;

impl Shard {
    pub(crate) fn on_connection_timer(&mut self, id: ConnectionId) {
        let now = self.now;
        let limits = self.config.limits.clone();
        let Some(connection) = self.connection(id) else { return };
        connection.timer = None;
        if let Some(opening) = &connection.opening {
            let deadline = opening.accepted_at + limits.connect_timeout_ms;
            match deadline <= now {
                true => self.end_connection(id, EndReason::ConnectTimeout, None),
                false => self.set_connection_timer(id, deadline),
            }
            return;
        }
        let stall_deadline = connection.output_at + limits.slow_consumer_timeout_ms;
        let is_stalled = connection.output_out > 0 && stall_deadline <= now;
        if is_stalled {
            self.end_connection(id, EndReason::SlowConsumer, Some(ReasonCode::QuotaExceeded));
            return;
        }
        let mut next = Time::MAX;
        if connection.is_stall_timer_set {
            connection.is_stall_timer_set = connection.output_pending() > 0;
            if connection.is_stall_timer_set {
                next = stall_deadline.max(now + 1000);
            }
        }
        if connection.keep_alive_ms > 0 {
            let keep_alive_ms = Time::from(connection.keep_alive_ms);
            let deadline = connection.packet_at + keep_alive_ms;
            // A long packet that arrives at a decent rate is a sign of life; so is our own refusal to read. What counted
            // once does not count again.
            let wanted = keep_alive_ms / 1000 * limits.packet_rate_min as u64;
            let input_len = connection.input.len();
            let is_arriving = (input_len as u64).saturating_sub(connection.arrived as u64) >= wanted;
            if deadline > now {
                next = next.min(deadline);
            } else if connection.paused != 0 || is_arriving {
                connection.packet_at = now;
                connection.arrived = input_len as u32;
                next = next.min(now + keep_alive_ms);
            } else {
                self.end_connection(id, EndReason::KeepAliveTimeout, Some(ReasonCode::KeepAliveTimeout));
                return;
            }
        }
        let Some(at) = self.on_shortage_timer(id) else { return };
        next = next.min(at);
        if next < Time::MAX {
            self.set_connection_timer(id, next);
        }
    }

    /// Looks at the connection at that time at the latest.
    pub(crate) fn set_connection_timer(&mut self, id: ConnectionId, at: Time) {
        let Some(connection) = self.connection(id) else { return };
        let present = connection.timer;
        if present.is_some_and(|timer| self.timers.time_of(timer) <= at) {
            return;
        }
        self.cancel_timer(present, TimerKey::Connection(id));
        let timer = self.timers.set(at, TimerKey::Connection(id));
        if let Some(connection) = self.connection(id) {
            connection.timer = Some(timer);
        }
    }

    pub(crate) fn cancel_timer(&mut self, timer: Option<TimerId>, key: TimerKey) {
        if let Some(timer) = timer {
            self.timers.cancel(timer, key);
        }
    }

    /// Looks at a session without connection when its will is due or its end.
    pub(crate) fn set_session_timer(&mut self, index: u32) {
        self.cancel_session_timer(index);
        let at = self.sessions[index as usize].due_at();
        let key = TimerKey::Session(index, self.session_epochs[index as usize]);
        self.sessions[index as usize].timer = Some(self.timers.set(at, key));
    }

    pub(crate) fn cancel_session_timer(&mut self, index: u32) {
        let timer = self.sessions[index as usize].timer.take();
        self.cancel_timer(timer, TimerKey::Session(index, self.session_epochs[index as usize]));
    }

    pub(crate) fn is_session(&self, index: u32, epoch: u32) -> bool {
        self.sessions.contains(index as usize) && self.session_epochs[index as usize] == epoch
    }

    pub(crate) fn on_session_timer(&mut self, index: u32, epoch: u32) {
        if !self.is_session(index, epoch) || self.sessions[index as usize].connection.is_some() {
            return;
        }
        self.sessions[index as usize].timer = None;
        let now = self.now;
        if self.sessions[index as usize].expires_at <= now {
            self.metrics.sessions_expired += 1;
            self.end_session(index, DropReason::SessionEnded);
            return;
        }
        if self.sessions[index as usize].due_at() <= now {
            self.publish_will(index);
        }
        self.set_session_timer(index);
    }
}
