//! The MQTT state of one client: what may outlive its connection. Owned by the shard's slab of sessions.

use std::collections::VecDeque;

use protocol::{QoS, SubscriptionOptions, Version};

use crate::access::ClientAccess;
use crate::inflight::Inflight;
use crate::queue::{Outgoing, Queue};
use crate::rate_limit::RateBucket;
use crate::retained_order::DirectTopics;
use crate::retained_replay::Replay;
use crate::{ConnectionId, Time};

/// A subscription as its session keeps it (the tree holds what the data path needs).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Subscription {
    pub options: SubscriptionOptions,
    pub identifier: u32,
}

/// The will of a connection, or of a session that waits for the delay to pass.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Will {
    pub topic: Box<str>,
    pub payload: Box<[u8]>,
    /// Forwarded properties in wire form.
    pub properties: Box<[u8]>,
    pub qos: QoS,
    pub retain: bool,
    pub delay_ms: u64,
    /// Message Expiry Interval; counts from the publication.
    pub expiry_s: Option<u32>,
}

/// A QoS 2 message that was accepted and not yet released.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct Unreleased {
    /// It came, or was repeated, on this connection.
    pub is_current: bool,
    /// Key of `Shard::waits` while it is not stored: PUBREC waits for that on a later connection too.
    pub wait: Option<u32>,
}

/// Packet ids of QoS 2 messages that were accepted and not yet released. Most clients have none, so it costs a pointer.
#[derive(Debug, Default)]
pub(crate) struct UnreleasedIds {
    ids: Option<Box<hashbrown::HashMap<u16, Unreleased, HashSeed>>>,
}

impl UnreleasedIds {
    #[inline]
    pub fn contains(&self, packet_id: u16) -> bool {
        self.ids.as_ref().is_some_and(|ids| ids.contains_key(&packet_id))
    }

    /// A message of the current connection was accepted.
    pub fn insert(&mut self, packet_id: u16, wait: Option<u32>) {
        self.ids.get_or_insert_default().insert(packet_id, Unreleased { is_current: true, wait });
    }

    pub fn get_mut(&mut self, packet_id: u16) -> Option<&mut Unreleased> {
        self.ids.as_mut()?.get_mut(&packet_id)
    }

    pub fn remove(&mut self, packet_id: u16) -> Option<Unreleased> {
        self.ids.as_mut()?.remove(&packet_id)
    }

    /// A new connection begins: none of them is of this one.
    pub fn begin_connection(&mut self) {
        self.ids.iter_mut().flat_map(|ids| ids.values_mut()).for_each(|id| id.is_current = false);
    }
}

/// Builds hashers from one seed: a quarter of the size of the hash library's own state, which counts in each session.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct HashSeed(pub u64);

impl std::hash::BuildHasher for HashSeed {
    type Hasher = ahash::AHasher;

    #[inline]
    fn build_hasher(&self) -> ahash::AHasher {
        ahash::RandomState::with_seeds(self.0, 7, 8, 9).build_hasher()
    }
}

pub(crate) struct Session {
    pub client_id: Box<str>,
    /// `Placement::client_key` of the id.
    pub client_key: u64,
    pub user_name: Option<Box<str>>,
    pub connection: Option<ConnectionId>,
    /// Of the last connection.
    pub version: Version,
    /// A bridge by its protocol level: its own messages are not sent back to it.
    pub is_bridge: bool,
    /// Lifetime after the connection; 0 ends with it.
    pub expiry_ms: u64,
    /// When it ends, while there is no connection.
    pub expires_at: Time,
    pub subscriptions: hashbrown::HashMap<Box<str>, Subscription, HashSeed>,
    pub unreleased: UnreleasedIds,
    pub inflight: Inflight<Outgoing>,
    pub queue: Queue,
    /// Retained messages that are still to be sent, one after the other.
    pub replays: VecDeque<Replay>,
    /// Deliveries that found no place, at a full socket or queue; counts on from 0 at the end of its range.
    pub drops: u32,
    pub will: Option<Box<Will>>,
    /// When the delayed will is published, while there is no connection.
    pub will_at: Option<Time>,
    pub access: ClientAccess,
    pub publish_rate: Option<Box<RateBucket>>,
    pub direct: DirectTopics,
    /// Mark of the last message that matched it and where it stands in the list of matches: one copy for overlapping
    /// subscriptions.
    pub match_epoch: u32,
    pub match_index: u32,
    /// Shared groups of which it is a member (indices of `Shard::groups`).
    pub groups: Vec<u32>,
}

impl Session {
    /// It survives its connection.
    #[inline]
    pub fn is_persistent(&self) -> bool {
        self.expiry_ms > 0
    }

    /// Deliveries have to wait behind others: order.
    #[inline]
    pub fn is_backlogged(&self) -> bool {
        !self.queue.is_empty() || self.inflight.is_resending() || self.has_pending_page()
    }

    /// QoS 0 goes by what waits for the window; only what waits at QoS 0 itself and retained messages it must not pass.
    #[inline]
    pub fn may_qos0_pass(&self) -> bool {
        !self.has_pending_page() && !self.queue.has_qos0()
    }

    /// Retained messages have been read for it that are not sent yet: what comes live has to follow them.
    #[inline]
    pub fn has_pending_page(&self) -> bool {
        self.replays.front().is_some_and(Replay::has_page)
    }
}
