//! The four acknowledgements, in both directions: PUBACK, PUBREC, PUBREL, PUBCOMP.

use protocol::{Ack, QoS, ReasonCode, Version};

use crate::connection::ConnectionId;
use crate::inflight::{AckError, Phase};
use crate::metrics::EndReason;
use crate::queue::Outgoing;
use crate::shard::{Flow, Shard};

impl Shard {
    // ---- for what we sent ----

    pub(crate) fn on_puback(&mut self, id: ConnectionId, ack: &Ack<'_>) -> Flow {
        let Some(session) = self.session_of(id) else { return Flow::End };
        match self.sessions[session as usize].inflight.on_puback(ack.packet_id) {
            Ok(outgoing) => {
                self.metrics.inflight_out -= 1;
                self.messages.release(outgoing.message);
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
                    self.messages.release(outgoing.message);
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
            self.messages.release(outgoing.message);
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
        if outgoing.group != 0 && phase == Phase::Publish1 && self.groups.by_key(outgoing.group).is_some() {
            returned.push(outgoing);
        } else {
            self.messages.release(outgoing.message);
        }
    }
}
