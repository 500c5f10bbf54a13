//! How connections and sessions end: DISCONNECT, faults, loss, takeover, expiry, an administrator; with the will.

use protocol::{Disconnect, Properties, PropertyId, ReasonCode, Version};

use crate::connect::version_index;
use crate::connection::{ConnectionId, Phase};
use crate::metrics::{DropReason, EndReason};
use crate::shard::{Flow, Shard};

impl Shard {
    pub(crate) fn on_disconnect(&mut self, id: ConnectionId, disconnect: &Disconnect<'_>) -> Flow {
        let Some(session) = self.session_of(id) else { return Flow::End };
        let limits_max = self.config.limits.session_expiry_max_s;
        if let Some(expiry_s) = disconnect.properties.u32(PropertyId::SessionExpiryInterval) {
            let was_persistent = self.sessions[session as usize].is_persistent();
            if !was_persistent && expiry_s > 0 {
                return self.fail(id, EndReason::ProtocolError, ReasonCode::ProtocolError);
            }
            self.sessions[session as usize].expiry_ms = expiry_s.min(limits_max) as u64 * 1000;
            self.count_persistent(was_persistent, self.sessions[session as usize].is_persistent());
        }
        if disconnect.reason == ReasonCode::Success {
            self.sessions[session as usize].will = None;
        }
        self.end_connection(id, EndReason::ClientDisconnect, None);
        Flow::End
    }

    /// Ends a connection: v5 is told the code, the last bytes go to `outputs.closing`, the session lives on or ends,
    /// the will is published or waits. The slot is free after this.
    pub(crate) fn end_connection(&mut self, id: ConnectionId, end: EndReason, code: Option<ReasonCode>) {
        let Some(connection) = self.connection(id) else { return };
        let is_live = connection.phase == Phase::Live;
        if let (true, Some(reason), Version::V5) = (is_live, code, connection.version) {
            let disconnect = Disconnect { reason, properties: Properties::EMPTY };
            if disconnect.encoded_len(Version::V5) <= connection.packet_size_max as usize {
                // Bytes of a stalled client are not worth waiting for.
                if matches!(end, EndReason::Takeover | EndReason::SlowConsumer) && connection.output_out > 0 {
                    let dropped = connection.output.len() as u64;
                    connection.output.clear();
                    self.output_bytes -= dropped;
                }
                self.metrics.packets_sent[14] += 1;
                self.write(id, |version, out| disconnect.encode(version, out));
            }
        }
        let Some(mut connection) = self.remove_connection(id) else { return };
        let output = std::mem::take(&mut connection.output);
        self.metrics.bytes_sent += output.len() as u64;
        self.outputs.closing.push((id, output));
        if !is_live {
            self.metrics.connect_rejected[end as usize] += 1;
            return;
        }
        self.metrics.disconnects[end as usize] += 1;
        *self.metrics.connections_of(connection.listener, version_index(connection.version)) -= 1;
        self.detach_session(connection.session);
    }

    /// The connection of the session is gone.
    pub(crate) fn detach_session(&mut self, index: u32) {
        let now = self.now;
        let session = &mut self.sessions[index as usize];
        session.connection = None;
        session.expires_at = now.saturating_add(session.expiry_ms);
        for replay in session.replays.take() {
            self.replays.remove(&replay.number());
        }
        session.groups.iter().for_each(|group| self.groups.mark(*group));
        if let Some(will) = &mut session.will {
            match will.delay_ms.min(session.expiry_ms) {
                0 => self.publish_will(index),
                delay_ms => will.due_at = Some(now + delay_ms),
            }
        }
        let session = &mut self.sessions[index as usize];
        if !session.is_persistent() {
            self.end_session(index, DropReason::SessionEnded);
            return;
        }
        self.set_session_timer(index);
    }

    /// Ends a session for good: the will that still waits is published, shared messages go to other members, the rest
    /// is dropped and counted.
    pub(crate) fn end_session(&mut self, index: u32, reason: DropReason) {
        if self.sessions[index as usize].will.is_some() {
            self.publish_will(index);
        }
        for filter in self.sessions[index as usize].subscriptions.filters() {
            self.remove_subscription(index, &filter);
        }
        self.cancel_session_timer(index);
        let mut session = self.sessions.remove(index as usize);
        self.clients.remove(session.client_key, index);
        self.session_epochs[index as usize] = self.session_epochs[index as usize].wrapping_add(1);
        self.metrics.sessions -= 1;
        self.count_persistent(session.is_persistent(), false);
        for replay in session.replays.take() {
            self.replays.remove(&replay.number());
        }
        let mut returned = Vec::new();
        self.metrics.inflight_out -= session.inflight.len() as u64;
        for (phase, outgoing) in session.inflight.drain() {
            let Some(outgoing) = outgoing else { continue };
            self.give_back_or_release(phase, outgoing, &mut returned);
        }
        while let Some((outgoing, len)) = session.queue.pop_front() {
            self.metrics.queue_messages -= 1;
            self.metrics.queue_bytes -= len as u64;
            self.metrics.dropped(outgoing.qos, reason);
            self.messages.release_delivery(outgoing);
        }
        self.redistribute(returned);
    }

    /// Ends a client's connection and session on behalf of an administrator.
    pub(crate) fn kick(&mut self, client_id: &str) {
        let Some(index) = self.find_session(client_id) else { return };
        let was_persistent = self.sessions[index as usize].is_persistent();
        self.sessions[index as usize].expiry_ms = 0;
        self.count_persistent(was_persistent, false);
        match self.sessions[index as usize].connection {
            Some(id) => {
                self.end_connection(id, EndReason::Administrative, Some(ReasonCode::AdministrativeAction))
            }
            None => self.end_session(index, DropReason::SessionEnded),
        }
    }

    pub(crate) fn count_persistent(&mut self, was: bool, is: bool) {
        match (was, is) {
            (false, true) => self.metrics.sessions_persistent += 1,
            (true, false) => self.metrics.sessions_persistent -= 1,
            _ => {}
        }
    }
}
