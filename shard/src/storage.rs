//! Acknowledgements that wait: for the journal, here or on other shards, and for the owner of a retained message's topic.
//! They leave in the order of their PUBLISHes whatever they wait for.

use protocol::QoS;

use crate::connection::{ConnectionId, pause};
use crate::message::{Instructions, Message};
use crate::outputs::Append;
use crate::shard::Shard;
use crate::{Durability, ShardId};

/// An acknowledgement that waits for storage, here or on other shards.
#[derive(Debug)]
pub(crate) struct Wait {
    pub origin: WaitOrigin,
    pub outstanding: u32,
}

#[derive(Clone, Copy, Debug)]
pub(crate) enum WaitOrigin {
    /// The publisher: the `PendingAck` of its connection names this wait, at QoS 2 its session (with the epoch of its
    /// slot) does too.
    Publisher { connection: ConnectionId, session: u32, epoch: u32, packet_id: u16 },
    /// The shard where it was published, and the ticket that it wants back.
    Shard(ShardId, u32),
}

impl Shard {
    /// Begins to count what has to be done before the message of a publisher is acknowledged: storage, and for a message
    /// with RETAIN its arrival at the owner of the topic, or a client that subscribes after the acknowledgement could
    /// get it late, twice, or in its former state. Closed by `close_wait`.
    pub(crate) fn open_publisher_wait(
        &mut self,
        message: &Message<'_>,
        publisher: WaitOrigin,
    ) -> Option<u32> {
        let is_stored = self.config.durability != Durability::Memory;
        let is_owned = message.retain && self.config.shard_count > 1;
        if message.qos == QoS::AtMostOnce || !(is_stored || is_owned) {
            return None;
        }
        Some(self.open_wait(publisher))
    }

    pub(crate) fn open_wait(&mut self, origin: WaitOrigin) -> u32 {
        self.waits.insert(Wait { origin, outstanding: 1 }) as u32
    }

    /// True if storage is still outstanding.
    pub(crate) fn close_wait(&mut self, wait: Option<u32>) -> bool {
        let Some(key) = wait else { return false };
        self.waits[key as usize].outstanding -= 1;
        if self.waits[key as usize].outstanding > 0 {
            return true;
        }
        if let WaitOrigin::Shard(shard, ticket) = self.waits.remove(key as usize).origin {
            self.receipts[shard as usize].push(ticket);
        }
        false
    }

    /// One of the things that `key` waits for is stored.
    pub(crate) fn wait_done(&mut self, key: u32) {
        let Some(wait) = self.waits.get_mut(key as usize) else { return };
        wait.outstanding -= 1;
        if wait.outstanding > 0 {
            return;
        }
        match self.waits.remove(key as usize).origin {
            WaitOrigin::Shard(shard, ticket) => self.receipts[shard as usize].push(ticket),
            WaitOrigin::Publisher { connection: id, session, epoch, packet_id } => {
                if self.is_session(session, epoch)
                    && let Some(unreleased) = self.sessions[session as usize].unreleased.get_mut(packet_id)
                    && unreleased.wait == Some(key)
                {
                    unreleased.wait = None;
                }
                let Some(connection) = self.connection(id) else { return };
                for ack in connection.pending_acks.iter_mut().filter(|ack| ack.wait == Some(key)) {
                    ack.wait = None;
                    connection.inbound_inflight -= !ack.is_kept as u32;
                }
                self.flush_acks(id);
                self.reopen_window(id);
            }
        }
    }

    /// Acks leave in the order of their PUBLISHes [MQTT-4.6.0-2].
    fn flush_acks(&mut self, id: ConnectionId) {
        while let Some(connection) = self.connection(id) {
            let Some(ack) = connection.pending_acks.front().copied().filter(|ack| ack.wait.is_none()) else {
                return;
            };
            connection.pending_acks.pop_front();
            self.write_publish_ack(id, ack.qos, ack.packet_id, ack.reason);
        }
    }

    /// A publisher that had to wait for its acknowledgements goes on.
    fn reopen_window(&mut self, id: ConnectionId) {
        let receive_maximum = self.config.limits.receive_maximum as u32;
        if self.connection(id).is_some_and(|connection| {
            connection.paused & pause::WINDOW != 0
                && (connection.inbound_inflight < receive_maximum || connection.pending_acks.is_empty())
        }) {
            self.unpause(id, pause::WINDOW);
        }
    }

    /// The journal has everything up to `sequence`.
    pub fn on_stored(&mut self, sequence: u64) {
        while let Some(&(at, key)) = self.stored_waits.front()
            && at <= sequence
        {
            self.stored_waits.pop_front();
            self.wait_done(key);
        }
    }

    /// Hands the delivery to the journal if the session outlives its connection.
    pub(crate) fn append(&mut self, session: u32, message: &Message<'_>, wait: Option<u32>) {
        if self.config.durability == Durability::Memory || !self.sessions[session as usize].is_persistent() {
            return;
        }
        let Some(key) = wait else { return };
        self.appended += 1;
        let mut frame = Vec::with_capacity(message.frame_len());
        message.write(Instructions::default(), &mut frame);
        let client_id = self.sessions[session as usize].client_id.clone();
        self.outputs.appends.push(Append { sequence: self.appended, client_id, message: frame });
        self.waits[key as usize].outstanding += 1;
        self.stored_waits.push_back((self.appended, key));
    }
}
