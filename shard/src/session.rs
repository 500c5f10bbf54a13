//! The MQTT state of one client: what may outlive its connection. Owned by the shard's slab of sessions.

use protocol::{QoS, SubscriptionOptions, Version};

use crate::access::ClientAccess;
use crate::inflight::Inflight;
use crate::queue::{Outgoing, Queue};
use crate::rare::RareQueue;
use crate::rate_limit::RateBucket;
use crate::retained_order::DirectTopics;
use crate::retained_replay::Replay;
use crate::timers::TimerId;
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
    /// When it is published, once the connection is gone and while the delay passes.
    pub due_at: Option<Time>,
}

/// The subscriptions of one session by their filters. Most have none or one, which need no table.
#[derive(Debug, Default)]
pub(crate) enum Subscriptions {
    #[default]
    None,
    One(Box<str>, Subscription),
    Many(Box<hashbrown::HashMap<Box<str>, Subscription, HashSeed>>),
}

impl Subscriptions {
    pub fn len(&self) -> usize {
        match self {
            Subscriptions::None => 0,
            Subscriptions::One(..) => 1,
            Subscriptions::Many(all) => all.len(),
        }
    }

    pub fn get(&self, filter: &str) -> Option<&Subscription> {
        match self {
            Subscriptions::One(own, subscription) if **own == *filter => Some(subscription),
            Subscriptions::None | Subscriptions::One(..) => None,
            Subscriptions::Many(all) => all.get(filter),
        }
    }

    /// Adds the subscription or replaces the one with that filter. `seed` is for the table of many.
    pub fn set(&mut self, filter: &str, subscription: Subscription, seed: u64) {
        match self {
            Subscriptions::None => *self = Subscriptions::One(filter.into(), subscription),
            Subscriptions::One(own, present) if **own == *filter => *present = subscription,
            Subscriptions::One(..) => {
                let Subscriptions::One(own, present) = std::mem::take(self) else { return };
                let mut all = hashbrown::HashMap::with_hasher(HashSeed(seed));
                all.extend([(own, present), (filter.into(), subscription)]);
                *self = Subscriptions::Many(Box::new(all));
            }
            Subscriptions::Many(all) => drop(all.insert(filter.into(), subscription)),
        }
    }

    /// False if there was none with that filter.
    pub fn remove(&mut self, filter: &str) -> bool {
        let was_there = match self {
            Subscriptions::None => return false,
            Subscriptions::One(own, _) => **own == *filter,
            Subscriptions::Many(all) => {
                let was_there = all.remove(filter).is_some();
                if !all.is_empty() {
                    return was_there;
                }
                was_there
            }
        };
        if was_there {
            *self = Subscriptions::None;
        }
        was_there
    }

    pub fn filters(&self) -> Vec<Box<str>> {
        match self {
            Subscriptions::None => Vec::new(),
            Subscriptions::One(own, _) => vec![own.clone()],
            Subscriptions::Many(all) => all.keys().cloned().collect(),
        }
    }
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
    pub subscriptions: Subscriptions,
    pub unreleased: UnreleasedIds,
    pub inflight: Inflight<Outgoing>,
    pub queue: Queue,
    /// Retained messages that are still to be sent, one after the other.
    pub replays: RareQueue<Replay>,
    /// Deliveries that found no place, at a full socket or queue; counts on from 0 at the end of its range.
    pub drops: u32,
    pub will: Option<Box<Will>>,
    /// Set while there is no connection.
    pub timer: Option<TimerId>,
    pub access: ClientAccess,
    pub publish_rate: Option<Box<RateBucket>>,
    pub direct: DirectTopics,
    /// Mark of the last message that matched it and where it stands in the list of matches: one copy for overlapping
    /// subscriptions.
    pub match_epoch: u32,
    pub match_index: u32,
    /// Shared groups of which it is a member (indices of `Shard::groups`).
    pub groups: RareQueue<u32>,
}

impl Session {
    /// It survives its connection.
    #[inline]
    pub fn is_persistent(&self) -> bool {
        self.expiry_ms > 0
    }

    /// When a session without connection has to be looked at: its will is due or its end.
    pub fn due_at(&self) -> Time {
        let will_at = self.will.as_ref().and_then(|will| will.due_at);
        will_at.unwrap_or(Time::MAX).min(self.expires_at)
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

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn subscription(identifier: u32) -> Subscription {
        Subscription { options: SubscriptionOptions::new(QoS::AtMostOnce), identifier }
    }

    proptest! {
        #[test]
        fn subscriptions_are_a_map(steps in prop::collection::vec((0u8..4, any::<bool>()), 0..40)) {
            let mut subscriptions = Subscriptions::default();
            let mut model = std::collections::BTreeMap::new();
            for (number, (filter, is_new)) in steps.into_iter().enumerate() {
                let filter = filter.to_string();
                if is_new {
                    subscriptions.set(&filter, subscription(number as u32), 7);
                    model.insert(filter, subscription(number as u32));
                } else {
                    prop_assert_eq!(subscriptions.remove(&filter), model.remove(&filter).is_some());
                }
                prop_assert_eq!(subscriptions.len(), model.len());
                let mut filters = subscriptions.filters();
                filters.sort();
                prop_assert!(filters.iter().map(|filter| &**filter).eq(model.keys().map(String::as_str)));
                for filter in 0..4 {
                    let filter = filter.to_string();
                    prop_assert_eq!(subscriptions.get(&filter), model.get(&filter));
                }
            }
        }
    }
}
