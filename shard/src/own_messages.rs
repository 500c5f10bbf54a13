//! What the server publishes: wills, and `$SYS`.

use protocol::QoS;

use crate::Time;
use crate::message::{Instructions, Message, NEVER};
use crate::metrics::DropReason;
use crate::publish::Origin;
use crate::shard::Shard;

impl Shard {
    /// Publishes the will of a session and forgets it.
    pub(crate) fn publish_will(&mut self, session: u32) {
        let state = &mut self.sessions[session as usize];
        let Some(will) = state.will.take() else { return };
        let message = Message {
            topic: &will.topic,
            payload: &will.payload,
            properties: &will.properties,
            qos: will.qos,
            retain: will.retain,
            publisher: state.client_key,
            expires_at: will.expiry_s.map_or(NEVER, |s| self.now + s as Time * 1000),
            is_fleeting: will.expiry_s == Some(0),
        };
        // The right is looked at again: rules may have changed since CONNECT.
        if !state.access.may_publish(message.topic) {
            self.metrics.dropped(message.qos, DropReason::AccessDenied);
            return;
        }
        self.metrics.wills_published += 1;
        self.route(&message, Origin::Detached(session), None);
    }

    /// Publishes a retained `$SYS` message.
    pub(crate) fn publish_system(&mut self, topic: &str, payload: &[u8]) {
        let message = Message {
            topic,
            payload,
            properties: &[],
            qos: QoS::AtMostOnce,
            retain: true,
            publisher: 0,
            expires_at: NEVER,
            is_fleeting: false,
        };
        self.store_and_number(&message);
        let hash = self.hasher.hash(topic);
        self.deliver(self.id, &message, hash, None, &mut false);
        for shard in self.routes.interested(topic, hash).iter() {
            self.forward(shard, &message, Instructions::default(), None);
        }
    }
}
