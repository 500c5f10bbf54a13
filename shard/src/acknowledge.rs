//! The four acknowledgements, in both directions: PUBACK, PUBREC, PUBREL, PUBCOMP.

use protocol::{Ack, Publish, QoS, ReasonCode, Version};

use crate::DeniedPublish3x;
use crate::connection::{ConnectionId, PendingAck};
use crate::inflight::{AckError, Phase};
use crate::metrics::EndReason;
use crate::queue::Outgoing;
use crate::shard::{Flow, Shard};
use crate::storage::{Wait, WaitOrigin};

impl Shard {
    // ---- for what we sent ----

    pub(crate) fn on_puback(&mut self, id: ConnectionId, ack: &Ack<'_>) -> Flow {
        let Some(session) = self.session_of(id) else { return Flow::End };
        match self.sessions[session as usize].inflight.on_puback(ack.packet_id) {
            Ok(outgoing) => {
                self.metrics.inflight_out -= 1;
                self.messages.release_delivery(outgoing);
                self.pull(session);
                Flow::Continue
            }
            Err(error) => self.on_ack_error(id, error),
        }
    }

    pub(crate) fn on_pubrec(&mut self, id: ConnectionId, ack: &Ack<'_>) -> Flow {
        let Some(session) = self.session_of(id) else { return Flow::End };
        match self.sessions[session as usize].inflight.on_pubrec(ack.packet_id, ack.reason.is_error()) {
            Ok(outgoing) => {
                if let Some(outgoing) = outgoing {
                    self.messages.release_delivery(outgoing);
                }
                if ack.reason.is_error() {
                    // Refused: the delivery is over, its id is free [MQTT-4.3.3-4].
                    self.metrics.inflight_out -= 1;
                    self.pull(session);
                } else {
                    self.write_pubrel(id, ack.packet_id, ReasonCode::Success);
                }
                Flow::Continue
            }
            Err(AckError::Unknown) => {
                self.metrics.acks_unknown += 1;
                if !ack.reason.is_error() {
                    self.write_pubrel(id, ack.packet_id, ReasonCode::PacketIdentifierNotFound);
                }
                Flow::Continue
            }
            Err(error) => self.on_ack_error(id, error),
        }
    }

    pub(crate) fn on_pubcomp(&mut self, id: ConnectionId, ack: &Ack<'_>) -> Flow {
        let Some(session) = self.session_of(id) else { return Flow::End };
        match self.sessions[session as usize].inflight.on_pubcomp(ack.packet_id) {
            Ok(()) => {
                self.metrics.inflight_out -= 1;
                self.pull(session);
                Flow::Continue
            }
            Err(error) => self.on_ack_error(id, error),
        }
    }

    fn on_ack_error(&mut self, id: ConnectionId, error: AckError) -> Flow {
        match error {
            // An ack that crossed a lost connection: harmless.
            AckError::Unknown => {
                self.metrics.acks_unknown += 1;
                Flow::Continue
            }
            AckError::WrongPhase => self.fail(id, EndReason::ProtocolError, ReasonCode::ProtocolError),
        }
    }

    /// A repeated delivery that the client's Maximum Packet Size forbids counts as completed.
    pub(crate) fn complete_unsent(&mut self, session: u32, packet_id: u16, qos: QoS) {
        let inflight = &mut self.sessions[session as usize].inflight;
        let outgoing: Option<Outgoing> = match qos {
            QoS::AtLeastOnce => inflight.on_puback(packet_id).ok(),
            _ => inflight.on_pubrec(packet_id, true).ok().flatten(),
        };
        if let Some(outgoing) = outgoing {
            self.metrics.inflight_out -= 1;
            self.messages.release_delivery(outgoing);
        }
    }

    pub(crate) fn write_pubrel(&mut self, id: ConnectionId, packet_id: u16, reason: ReasonCode) {
        self.metrics.packets_sent[6] += 1;
        let ack = Ack::new(packet_id, reason);
        self.write(id, |version, out| ack.encode_pubrel(version, out));
    }

    // ---- for what we received ----

    pub(crate) fn on_pubrel(&mut self, id: ConnectionId, ack: &Ack<'_>) -> Flow {
        let Some(session) = self.session_of(id) else { return Flow::End };
        let known = self.sessions[session as usize].unreleased.remove(ack.packet_id);
        if known.is_some_and(|unreleased| unreleased.is_current)
            && let Some(connection) = self.connection(id)
        {
            connection.inbound_inflight = connection.inbound_inflight.saturating_sub(1);
        }
        let reason = match known {
            Some(_) => ReasonCode::Success,
            None => {
                self.metrics.acks_unknown += 1;
                ReasonCode::PacketIdentifierNotFound
            }
        };
        self.metrics.packets_sent[7] += 1;
        let answer = Ack::new(ack.packet_id, reason);
        self.write(id, |version, out| answer.encode_pubcomp(version, out));
        Flow::Continue
    }

    /// Acknowledges a refused message with its code; versions without codes get a plain acknowledgement, or the end.
    pub(crate) fn refuse_publish(
        &mut self,
        id: ConnectionId,
        publish: &Publish<'_>,
        code: ReasonCode,
    ) -> Flow {
        let closes_denied = self.config.denied_publish_3x == DeniedPublish3x::Close;
        let Some(connection) = self.connection(id) else { return Flow::End };
        if connection.version != Version::V5 && code == ReasonCode::NotAuthorized && closes_denied {
            return self.fail(id, EndReason::NotAuthorized, code);
        }
        if publish.qos == QoS::AtMostOnce {
            // Nothing to answer with, except where the standard asks for a DISCONNECT.
            return match code {
                ReasonCode::PayloadFormatInvalid => self.fail(id, EndReason::ProtocolError, code),
                _ => Flow::Continue,
            };
        }
        let session = connection.session;
        self.acknowledge(id, session, publish, code, None)
    }

    /// PUBACK or PUBREC, now or when `wait` is over.
    pub(crate) fn acknowledge(
        &mut self,
        id: ConnectionId,
        session: u32,
        publish: &Publish<'_>,
        reason: ReasonCode,
        wait: Option<u32>,
    ) -> Flow {
        if publish.qos == QoS::AtMostOnce {
            return Flow::Continue;
        }
        let is_v5 = self.sessions[session as usize].version == Version::V5;
        // 3.x cannot be told of a refusal: for it the exchange goes on as if it were none.
        let is_kept = publish.qos == QoS::ExactlyOnce && !(is_v5 && reason.is_error());
        if is_kept {
            self.sessions[session as usize].unreleased.insert(publish.packet_id, wait);
        }
        let Some(connection) = self.connection(id) else { return Flow::End };
        if is_kept || wait.is_some() {
            connection.inbound_inflight += 1;
        }
        if wait.is_none() && connection.pending_acks.is_empty() {
            self.write_publish_ack(id, publish.qos, publish.packet_id, reason);
        } else {
            let ack = PendingAck { packet_id: publish.packet_id, qos: publish.qos, reason, is_kept, wait };
            connection.pending_acks.push_back(ack);
        }
        Flow::Continue
    }

    /// PUBREC for a QoS 2 message that is known already: it is not delivered again [MQTT-4.3.3-10].
    pub(crate) fn acknowledge_again(&mut self, id: ConnectionId, session: u32, packet_id: u16) -> Flow {
        let Some(unreleased) = self.sessions[session as usize].unreleased.get_mut(packet_id) else {
            return Flow::Continue;
        };
        let was_current = std::mem::replace(&mut unreleased.is_current, true);
        let wait = unreleased.wait;
        if let Some(Wait { origin: WaitOrigin::Publisher { connection, .. }, .. }) =
            wait.and_then(|key| self.waits.get_mut(key as usize))
        {
            // It came on an earlier connection; this one is told when it is stored.
            *connection = id;
        }
        let Some(connection) = self.connection(id) else { return Flow::End };
        connection.inbound_inflight += !was_current as u32;
        if wait.is_none() && connection.pending_acks.is_empty() {
            self.write_publish_ack(id, QoS::ExactlyOnce, packet_id, ReasonCode::Success);
        } else if !connection.pending_acks.iter().any(|ack| ack.packet_id == packet_id) {
            let ack = PendingAck {
                packet_id,
                qos: QoS::ExactlyOnce,
                reason: ReasonCode::Success,
                is_kept: true,
                wait,
            };
            connection.pending_acks.push_back(ack);
        }
        Flow::Continue
    }

    /// PUBACK (QoS 1) or PUBREC (QoS 2) to the publisher. 3.x has no codes: errors look like success there.
    pub(crate) fn write_publish_ack(
        &mut self,
        id: ConnectionId,
        qos: QoS,
        packet_id: u16,
        reason: ReasonCode,
    ) {
        let ack = Ack::new(packet_id, reason);
        let is_v5 = self.connection(id).is_some_and(|connection| connection.version == Version::V5);
        debug_assert!(is_v5 || !reason.is_error() || qos != QoS::AtMostOnce, "QoS 0 is not acknowledged");
        if qos == QoS::AtLeastOnce {
            self.metrics.packets_sent[4] += 1;
            self.write(id, |version, out| ack.encode_puback(version, out));
        } else {
            self.metrics.packets_sent[5] += 1;
            self.write(id, |version, out| ack.encode_pubrec(version, out));
        }
    }

    /// What becomes of a delivery that was in flight when its session ended: a shared one at QoS 1 goes to another
    /// member; one at QoS 2 was begun with this client and goes to nobody [MQTT-4.8.2-5].
    pub(crate) fn give_back_or_release(
        &mut self,
        phase: Phase,
        outgoing: Outgoing,
        returned: &mut Vec<Outgoing>,
    ) {
        if outgoing.group != 0 && phase == Phase::Publish1 && self.groups.by_number(outgoing.group).is_some()
        {
            returned.push(outgoing);
        } else {
            self.messages.release_delivery(outgoing);
        }
    }
}
