//! Messages with RETAIN are stored and ordered by the owner of their topic: which messages take the way by it, the
//! store there, and how a new subscription gets each of them once.
//!
//! A new subscription gets the state by asking the owners, and what is published from then on live. So that nothing
//! comes both ways, each shard numbers the retained messages of its topics as it routes them, and tells each other
//! shard, in the lane and thus in order, how far its messages for that shard have come. A subscription asks for the
//! messages up to the number that stood there when it began; the others find it subscribed already.

use crate::message::{Instructions, Message};
use crate::metrics::DropReason;
use crate::publish::{Origin, Routed};
use crate::retained::RetainedMessage;
use crate::shard::Shard;
use crate::{ShardId, Time};

/// How long after the last message that went one way (by the owner of the topic, or directly) a client's messages to
/// a topic keep to it; far above the time in a lane.
const ORDERED_TOPIC_MS: Time = 5_000;
/// Topics (of one client each) remembered for that; above, the oldest knowledge is dropped as a whole.
const ORDERED_TOPICS_MAX: usize = 100_000;

/// Topics that a session's messages have lately gone to other shards for without the detour by the owner; a bit for
/// many topics, so it may say yes in vain. Small, because every session has one.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct DirectTopics {
    bits: u32,
    /// Of the last message, in seconds.
    at_s: u32,
}

impl DirectTopics {
    #[inline]
    pub(crate) fn note(&mut self, hash: u64, now: Time) {
        if !self.is_young(now) {
            self.bits = 0;
        }
        self.bits |= 1 << (hash & 31);
        self.at_s = (now / 1000) as u32;
    }

    pub(crate) fn is_recent(&self, hash: u64, now: Time) -> bool {
        self.is_young(now) && self.bits & 1 << (hash & 31) != 0
    }

    #[inline]
    fn is_young(&self, now: Time) -> bool {
        (now / 1000) as u32 - self.at_s <= (ORDERED_TOPIC_MS / 1000) as u32
    }
}

/// How far retained messages have come between this shard and the others.
#[derive(Debug, Default)]
pub(crate) struct RetainedProgress {
    /// Number of the last retained message of our own topics that we have routed.
    pub routed: u64,
    /// By shard: how far its messages for us have come.
    pub seen: Vec<u64>,
    /// By shard: the last of ours that was dropped on the way to it.
    lost: Vec<u64>,
}

impl RetainedProgress {
    pub fn new(shard_count: u16) -> RetainedProgress {
        let none = vec![0; shard_count as usize];
        RetainedProgress { routed: 0, seen: none.clone(), lost: none }
    }

    /// The shard has said how far its messages for us have come.
    pub fn on_told(&mut self, from: ShardId, retained: u64) {
        if let Some(seen) = self.seen.get_mut(from as usize) {
            *seen = retained.max(*seen);
        }
    }

    /// A retained message for the shard was dropped at a full lane.
    pub fn on_lost(&mut self, to: ShardId) {
        self.lost[to as usize] = self.routed;
    }

    /// The bound of a query of that shard: nothing is left out of the answer when a live copy may have been dropped.
    pub fn bound_for(&self, shard: ShardId, asked: u64) -> u64 {
        match self.lost[shard as usize] > asked {
            true => u64::MAX,
            false => asked,
        }
    }
}

impl Shard {
    /// The shard that orders this message, if it is another one: messages with RETAIN go by the owner of their topic,
    /// so that all subscribers see the same last one, and what the same client publishes to that topic soon after
    /// follows them on the same way, so that it does not overtake. For the same reason a message with RETAIN does not
    /// take that way when the client's messages to the topic have lately gone to other shards directly.
    pub(crate) fn ordering_owner(
        &mut self,
        message: &Message<'_>,
        hash: u64,
        origin: Origin,
    ) -> Option<ShardId> {
        let (Origin::Publisher(session) | Origin::Detached(session)) = origin else { return None };
        if !message.retain && self.ordered_topics.is_empty() {
            return None;
        }
        let owner = self.placement.retained_owner(hash);
        if owner == self.id {
            return None;
        }
        let key = hash ^ message.publisher.rotate_left(17);
        let since = self.ordered_topics.get(&key).copied();
        let is_ordered = since.is_some_and(|since| self.now - since <= ORDERED_TOPIC_MS);
        if !is_ordered {
            if since.is_some() {
                self.ordered_topics.remove(&key);
            }
            if !message.retain || self.sessions[session as usize].direct.is_recent(hash, self.now) {
                return None;
            }
        }
        if self.ordered_topics.len() >= ORDERED_TOPICS_MAX {
            self.ordered_topics.clear();
        }
        self.ordered_topics.insert(key, self.now);
        Some(owner)
    }

    pub(crate) fn route_by_owner(
        &mut self,
        owner: ShardId,
        message: &Message<'_>,
        can_wait: bool,
        wait: Option<u32>,
    ) -> Routed {
        if can_wait && self.is_congested(owner) {
            return Routed::Congested;
        }
        let instructions = Instructions { store: message.retain, route: true, ..Default::default() };
        self.forward(owner, message, instructions, wait);
        Routed::Done { is_matched: true, is_refused: false }
    }

    /// Stores a message that is routed from here, the owner of its topic. False if there is no room.
    pub(crate) fn store_and_number(&mut self, message: &Message<'_>) -> bool {
        self.retained_progress.routed += 1;
        self.store_retained(message, self.retained_progress.routed)
    }

    /// Stores or clears the retained message of an owned topic; false if there is no room.
    pub(crate) fn store_retained(&mut self, message: &Message<'_>, number: u64) -> bool {
        if message.payload.is_empty() {
            self.retained.remove(message.topic);
            return true;
        }
        if message.is_fleeting {
            return true;
        }
        let limits = &self.config.limits;
        let len = message.payload.len() + message.properties.len();
        let would_exceed = self.retained.would_exceed(
            limits.retained_count_max,
            limits.retained_bytes_max,
            message.topic,
            len,
        );
        let is_system = message.publisher == 0 && message.topic.starts_with("$SYS/");
        if would_exceed && !is_system {
            self.metrics.dropped(message.qos, DropReason::RetainedFull);
            return false;
        }
        let entry = RetainedMessage {
            qos: message.qos,
            publisher: message.publisher,
            number,
            expires_at: message.expires_at,
            properties: message.properties.into(),
            payload: message.payload.into(),
        };
        self.retained.store(message.topic, entry);
        true
    }
}
