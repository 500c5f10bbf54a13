//! What becomes of a PUBLISH when the shard's memory runs short. Held publishers would keep the acknowledgements behind
//! their PUBLISHes unread, and with them the memory that those free, so each gets through slowly:
//!
//! - from 85 % a PUBLISH waits; its connection is read again after a second, for one PUBLISH that is accepted;
//! - from 100 % that pass accepts none and does not end: v5 is told 0x97 at QoS 1 and 2, QoS 0 is dropped and counted;
//!   3.x knows no refusal, and an acknowledgement would lose the message: it stays unanswered with all that follow it,
//!   and the connection is closed a second later, as `quota`. Until then its acknowledgements are served. One whose
//!   session holds nothing cannot free anything: it goes on waiting.
//!
//! So what a client has sent is reached in the end, and publishers take nothing above the budget.

use protocol::{Publish, QoS, ReasonCode, Version};

use crate::Time;
use crate::connection::{ConnectionId, Shortage, pause};
use crate::metrics::{DropReason, EndReason};
use crate::shard::{Flow, Shard};

/// Between two PUBLISHes of a connection that is held back.
const PASS_EVERY_MS: Time = 1000;
/// How long acknowledgements are read of a 3.x connection whose PUBLISHes cannot be taken.
const LEAVE_AFTER_MS: Time = 1000;

impl Shard {
    /// A PUBLISH while memory is short, or on a connection that leaves for it. None: it goes on.
    #[cold]
    pub(crate) fn hold_publish(
        &mut self,
        id: ConnectionId,
        publish: &Publish<'_>,
        is_full: bool,
    ) -> Option<Flow> {
        let now = self.now;
        let connection = self.connection(id)?;
        let (session, is_final) = (connection.session, connection.is_input_final);
        let is_mute = connection.version != Version::V5 && publish.qos != QoS::AtMostOnce;
        match connection.shortage {
            Shortage::Leaving(_) => {
                if publish.qos == QoS::AtMostOnce {
                    self.drop_for_memory(publish);
                }
                return Some(Flow::Continue);
            }
            Shortage::Pass if !is_full => {
                connection.shortage = Shortage::None;
                return None;
            }
            Shortage::Pass if !is_mute => return None,
            _ if is_final && !(is_full && is_mute) => return None,
            _ => {}
        }
        let has_pass = connection.shortage == Shortage::Pass;
        let holds_memory = {
            let session = &self.sessions[session as usize];
            session.inflight.len() > 0 || !session.queue.is_empty()
        };
        let connection = self.connection(id)?;
        if is_final || (has_pass && holds_memory) {
            let at = now + LEAVE_AFTER_MS;
            connection.shortage = Shortage::Leaving(at);
            self.set_connection_timer(id, at);
            return Some(Flow::Continue);
        }
        let at = now + PASS_EVERY_MS;
        connection.shortage = Shortage::Held(at);
        self.set_connection_timer(id, at);
        Some(self.pause(id, pause::MEMORY))
    }

    pub(crate) fn drop_for_memory(&mut self, publish: &Publish<'_>) {
        self.count_received(publish);
        self.metrics.dropped(publish.qos, DropReason::MemoryFull);
    }

    /// Looks whether the connection may go on or has to go; when to look again, or None if it ended.
    pub(crate) fn on_shortage_timer(&mut self, id: ConnectionId) -> Option<Time> {
        let now = self.now;
        let connection = self.connection(id)?;
        match connection.shortage {
            Shortage::Held(at) if at <= now => {
                let is_held = connection.paused & pause::MEMORY != 0;
                connection.shortage = if is_held { Shortage::Pass } else { Shortage::None };
                self.unpause(id, pause::MEMORY);
            }
            Shortage::Leaving(at) if at <= now => {
                self.end_connection(id, EndReason::Quota, Some(ReasonCode::QuotaExceeded));
            }
            _ => {}
        }
        match self.connection(id)?.shortage {
            Shortage::Held(at) | Shortage::Leaving(at) => Some(at),
            Shortage::None | Shortage::Pass => Some(Time::MAX),
        }
    }
}
