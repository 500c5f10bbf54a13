//! Deliveries that wait for their session: into its queue when they cannot be sent (`keep_for_later`), out of it when an
//! acknowledgement or a written buffer makes room (`pull`).

use protocol::{QoS, ReasonCode};

use crate::QueuePolicy;
use crate::connection::{ConnectionId, Delivery, Frames};
use crate::inflight::Resend;
use crate::message::{Message, MessageRef, NO_MESSAGE};
use crate::metrics::DropReason;
use crate::publish::{Copy, Refusal};
use crate::queue::Outgoing;
use crate::shard::Shard;

impl Shard {
    /// A copy that cannot be sent now: into the session's queue, or dropped and counted. True if somebody had
    /// subscribed who can get it.
    pub(crate) fn keep_for_later(
        &mut self,
        session: u32,
        message: &Message<'_>,
        copy: Copy<'_>,
        stored: &mut MessageRef,
        wait: Option<u32>,
        is_refused: &mut bool,
    ) -> bool {
        let state = &self.sessions[session as usize];
        if copy.qos == QoS::AtMostOnce {
            if state.connection.is_some() && state.may_qos0_pass() {
                // Only a full socket stops QoS 0.
                self.drop_delivery(session, copy.qos, DropReason::SlowConsumer);
                return true;
            }
            if state.connection.is_none() && !self.config.is_qos0_queued {
                self.metrics.dropped(copy.qos, DropReason::Offline);
                return false;
            }
        }
        if message.is_expired(self.now) || message.is_fleeting {
            self.metrics.dropped(copy.qos, DropReason::Expired);
            return false;
        }
        let is_queued = self.enqueue(session, message, copy, stored);
        if is_queued && copy.qos != QoS::AtMostOnce {
            self.append(session, message, wait);
        }
        *is_refused |= !is_queued && self.config.queue_policy == QueuePolicy::Refuse;
        true
    }

    fn drop_delivery(&mut self, session: u32, qos: QoS, reason: DropReason) {
        self.metrics.dropped(qos, reason);
        let drops = &mut self.sessions[session as usize].drops;
        *drops = drops.wrapping_add(1);
    }

    /// Lets the delivery wait for the session; at the bound the policy decides. False if the new message was dropped.
    fn enqueue(
        &mut self,
        session: u32,
        message: &Message<'_>,
        copy: Copy<'_>,
        stored: &mut MessageRef,
    ) -> bool {
        let limits = &self.config.limits;
        let (messages_max, bytes_max) = (limits.queue_messages_max, limits.queue_bytes_max);
        let len = message.frame_len() as u32;
        while self.sessions[session as usize].queue.is_full(len, messages_max, bytes_max) {
            let oldest = match self.config.queue_policy {
                QueuePolicy::DropOldest => self.sessions[session as usize].queue.pop_front(),
                QueuePolicy::DropNew | QueuePolicy::Refuse => None,
            };
            let Some((oldest, oldest_len)) = oldest else {
                self.drop_delivery(session, copy.qos, DropReason::QueueFull);
                return false;
            };
            self.metrics.queue_messages -= 1;
            self.metrics.queue_bytes -= oldest_len as u64;
            self.drop_delivery(session, oldest.qos, DropReason::QueueFull);
            self.messages.release_delivery(oldest);
        }
        if *stored == NO_MESSAGE {
            *stored = self.messages.insert(message);
        }
        self.messages.retain(*stored);
        let outgoing = Outgoing {
            message: *stored,
            qos: copy.qos,
            retain: copy.retain,
            identifiers: self.messages.keep_identifiers(copy.identifiers),
            group: copy.group,
        };
        self.sessions[session as usize].queue.push_back(outgoing, len);
        self.metrics.queue_messages += 1;
        self.metrics.queue_bytes += len as u64;
        true
    }

    /// Sends what waits for the session, as far as its window and socket allow: repeats, retained messages, the queue,
    /// then what waits for its shared groups.
    pub(crate) fn pull(&mut self, session: u32) {
        let state = &self.sessions[session as usize];
        let Some(id) = state.connection else { return };
        if state.inflight.is_resending() && !self.resend(session, id) {
            return;
        }
        if !self.sessions[session as usize].replays.is_empty() {
            self.pull_replays(session, id);
        }
        if !self.sessions[session as usize].queue.is_empty()
            && !self.sessions[session as usize].has_pending_page()
        {
            self.pull_queue(session, id);
        }
        for at in 0..self.sessions[session as usize].groups.len() {
            let Some(&group) = self.sessions[session as usize].groups.get(at) else { break };
            self.drain_group(group);
            // Messages that wait on other shards come when they hear that there is room again.
            self.groups.mark(group);
        }
    }

    fn pull_queue(&mut self, session: u32, id: ConnectionId) {
        let mut frames = std::mem::take(&mut self.frames);
        frames.begin(1);
        loop {
            let state = &mut self.sessions[session as usize];
            // Most calls find room for one message: the next is not touched in vain.
            if state.queue.front().is_some_and(|next| next.qos != QoS::AtMostOnce)
                && !state.inflight.has_room()
            {
                break;
            }
            let Some((outgoing, len)) = state.queue.pop_front() else { break };
            let mut stored = outgoing.message;
            let frame = self.messages.take_frame(stored);
            let message = Message::read(&frame).0;
            let identifiers = self.messages.identifiers(&outgoing.identifiers);
            let copy = Copy {
                qos: outgoing.qos,
                retain: outgoing.retain,
                identifiers: &identifiers,
                group: outgoing.group,
            };
            let result = match message.is_expired(self.now) {
                true => Err(DropReason::Expired),
                false => match self.send_now(session, id, &message, copy, &mut stored, &mut frames) {
                    Ok(()) => Ok(true),
                    Err(Refusal::NoRoom) => Ok(false),
                    Err(Refusal::TooLarge) => Err(DropReason::TooLarge),
                },
            };
            self.messages.put_frame(outgoing.message, frame);
            if result == Ok(false) {
                self.sessions[session as usize].queue.push_front(outgoing, len);
                break;
            }
            if let Err(reason) = result {
                self.metrics.dropped(outgoing.qos, reason);
            }
            self.metrics.queue_messages -= 1;
            self.metrics.queue_bytes -= len as u64;
            self.messages.release_delivery(outgoing);
        }
        self.frames = frames;
    }

    /// Repeats a PUBLISH that was in flight, with DUP and its old packet id.
    pub(crate) fn write_again(
        &mut self,
        session: u32,
        id: ConnectionId,
        packet_id: u16,
        outgoing: &Outgoing,
    ) {
        debug_assert_ne!(outgoing.message, NO_MESSAGE, "what may be repeated is kept");
        let frame = self.messages.take_frame(outgoing.message);
        let message = Message::read(&frame).0;
        let identifiers = self.messages.identifiers(&outgoing.identifiers);
        let delivery =
            Delivery { qos: outgoing.qos, retain: outgoing.retain, dup: true, identifiers: &identifiers };
        let now = self.now;
        let mut id_at = None;
        let Shard { connections, output_bytes, .. } = self;
        if let Some(Some(connection)) = connections.get_mut(id.slot as usize) {
            let before = connection.output.len();
            id_at = connection.append_publish(&message, delivery, now, &mut Frames::default());
            if let Some(id_at) = id_at {
                connection.patch_packet_id(id_at, packet_id);
            }
            *output_bytes += (connection.output.len() - before) as u64;
        }
        self.messages.put_frame(outgoing.message, frame);
        if id_at.is_some() {
            self.metrics.packets_sent[3] += 1;
            self.metrics.publish_sent[outgoing.qos as usize] += 1;
            self.mark_dirty(id);
        } else {
            // Too large for this connection's client: counts as completed [MQTT-3.1.2-25].
            self.metrics.dropped(outgoing.qos, DropReason::TooLarge);
            self.complete_unsent(session, packet_id, outgoing.qos);
        }
    }

    /// Sends again what was in flight, as far as the window allows. True when all is sent.
    pub(crate) fn resend(&mut self, session: u32, id: ConnectionId) -> bool {
        while self.sessions[session as usize].inflight.is_resending() {
            let Some(resend) = self.sessions[session as usize].inflight.next_resend() else { return false };
            match resend {
                Resend::Release(packet_id) => self.write_pubrel(id, packet_id, ReasonCode::Success),
                Resend::Publish { packet_id, value, .. } => {
                    let outgoing = *value;
                    self.write_again(session, id, packet_id, &outgoing);
                }
            }
        }
        true
    }
}
