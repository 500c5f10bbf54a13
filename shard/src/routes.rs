//! Which other shards have at least one subscriber for which topic filter.
//!
//! Each shard owns a `RouteTable`, written from the route envelopes of the other shards and read once per PUBLISH, and a
//! `LocalInterest`, which decides when the shard itself announces or withdraws a route.
//! Invariant: both sides key exact filters by the same 64-bit hash. Colliding filters are one route: a false positive costs an
//! envelope, while a withdrawal for one of them must not silence the other, so only the last local filter of a key withdraws.

use crate::filter_index::{FilterIndex, TopicHasher};
use hashbrown::HashTable;

/// Set of shards; shard ids are below 128.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSet(u128);

impl ShardSet {
    pub const SHARD_MAX: u16 = 128;

    fn bit(shard: u16) -> u128 {
        assert!(shard < Self::SHARD_MAX, "shard ids are below {}", Self::SHARD_MAX);
        1 << shard
    }

    pub fn insert(&mut self, shard: u16) {
        self.0 |= Self::bit(shard);
    }

    pub fn remove(&mut self, shard: u16) {
        self.0 &= !Self::bit(shard);
    }

    pub fn contains(self, shard: u16) -> bool {
        self.0 & Self::bit(shard) != 0
    }

    pub fn is_empty(self) -> bool {
        self.0 == 0
    }

    #[must_use]
    pub fn union(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Ascending.
    pub fn iter(self) -> impl Iterator<Item = u16> {
        let mut rest = self.0;
        std::iter::from_fn(move || {
            let shard = rest.trailing_zeros();
            (rest != 0).then(|| {
                rest &= rest - 1;
                shard as u16
            })
        })
    }
}

fn is_wildcard(filter: &str) -> bool {
    memchr::memchr2(b'+', b'#', filter.as_bytes()).is_some()
}

pub struct RouteTable {
    hasher: TopicHasher,
    exact: HashTable<(u64, ShardSet)>,
    wildcard: FilterIndex<ShardSet>,
}

impl RouteTable {
    pub fn new(hasher: TopicHasher) -> Self {
        Self { exact: HashTable::new(), wildcard: FilterIndex::new(hasher.clone()), hasher }
    }

    pub fn add(&mut self, filter: &str, shard: u16) {
        if is_wildcard(filter) {
            self.wildcard.get_or_insert_with(filter, ShardSet::default).insert(shard);
        } else {
            let hash = self.hasher.hash(filter);
            let entry = self.exact.entry(hash, |e| e.0 == hash, |e| e.0);
            entry.or_insert((hash, ShardSet::default())).into_mut().1.insert(shard);
        }
    }

    pub fn remove(&mut self, filter: &str, shard: u16) {
        if is_wildcard(filter) {
            if let Some(shards) = self.wildcard.get_mut(filter) {
                shards.remove(shard);
                if shards.is_empty() {
                    self.wildcard.remove(filter);
                }
            }
        } else {
            let hash = self.hasher.hash(filter);
            if let Ok(mut entry) = self.exact.find_entry(hash, |e| e.0 == hash) {
                entry.get_mut().1.remove(shard);
                if entry.get().1.is_empty() {
                    entry.remove();
                }
            }
        }
    }

    /// Shards that want the topic: all that do, and rarely one that does not.
    pub fn interested(&self, topic: &str, hash: u64) -> ShardSet {
        let mut shards = self.exact.find(hash, |e| e.0 == hash).map_or(ShardSet::default(), |e| e.1);
        self.wildcard.for_each_match(topic, hash, |more| shards = shards.union(*more));
        shards
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    pub fn len(&self) -> usize {
        self.exact.len() + self.wildcard.len()
    }
}

/// Distinct filters with local subscribers, counted by route key. The caller reports a filter's first and last subscriber.
pub struct LocalInterest {
    hasher: TopicHasher,
    counts: HashTable<(u64, u32)>,
}

impl LocalInterest {
    pub fn new(hasher: TopicHasher) -> Self {
        Self { hasher, counts: HashTable::new() }
    }

    /// True: the first filter of its route, announce it.
    pub fn added(&mut self, filter: &str) -> bool {
        if is_wildcard(filter) {
            return true; // Wildcard routes are keyed by their text: the filter is its own route.
        }
        let hash = self.hasher.hash(filter);
        let entry = self.counts.entry(hash, |e| e.0 == hash, |e| e.0).or_insert((hash, 0));
        let count = &mut entry.into_mut().1;
        *count += 1;
        *count == 1
    }

    /// True: the last filter of its route, withdraw it.
    pub fn removed(&mut self, filter: &str) -> bool {
        if is_wildcard(filter) {
            return true;
        }
        let hash = self.hasher.hash(filter);
        let Ok(mut entry) = self.counts.find_entry(hash, |e| e.0 == hash) else { return false };
        entry.get_mut().1 -= 1;
        let is_last = entry.get().1 == 0;
        if is_last {
            entry.remove();
        }
        is_last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_follow_additions_and_withdrawals() {
        let hasher = TopicHasher::with_seed(3);
        let mut routes = RouteTable::new(hasher.clone());
        for (filter, shard) in [("a/b", 0), ("a/b", 127), ("a/+", 5), ("#", 6)] {
            routes.add(filter, shard);
        }
        let shards = |routes: &RouteTable, topic| {
            routes.interested(topic, hasher.hash(topic)).iter().collect::<Vec<_>>()
        };
        assert_eq!(shards(&routes, "a/b"), [0, 5, 6, 127]);
        assert_eq!(shards(&routes, "$SYS/x"), [0u16; 0]);
        assert_eq!(routes.len(), 3);
        routes.remove("a/b", 0);
        routes.remove("a/+", 9);
        assert_eq!(shards(&routes, "a/b"), [5, 6, 127]);
        for (filter, shard) in [("a/b", 127), ("a/+", 5), ("#", 6)] {
            routes.remove(filter, shard);
        }
        assert!(routes.is_empty());
    }

    #[test]
    fn only_the_first_announces_and_only_the_last_withdraws() {
        let mut interest = LocalInterest::new(TopicHasher::with_seed(3));
        // The same text twice stands for two filters whose hashes collide.
        assert!(interest.added("a") && !interest.added("a"));
        assert!(!interest.removed("a") && interest.removed("a") && !interest.removed("a"));
        assert!(interest.added("a/+") && interest.removed("a/+"));
    }
}
