//! Which other shards have subscribers for what. Exact filters are kept as hashes only: a false positive costs one
//! message on a lane, since the shard that gets it matches again.

use crate::ShardId;
use crate::filter_index::{FilterIndex, TopicHasher};

/// Most shards of a process.
pub const SHARDS_MAX: u16 = 128;

/// A set of shards.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct ShardSet(u128);

impl ShardSet {
    pub fn insert(&mut self, shard: ShardId) {
        debug_assert!(shard < SHARDS_MAX, "the process checked its shard count");
        self.0 |= 1 << shard;
    }

    pub fn remove(&mut self, shard: ShardId) {
        self.0 &= !(1 << shard);
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.0 == 0
    }

    #[inline]
    pub fn contains(&self, shard: ShardId) -> bool {
        self.0 & 1 << shard != 0
    }

    pub fn union(self, other: ShardSet) -> ShardSet {
        ShardSet(self.0 | other.0)
    }

    #[inline]
    pub fn iter(self) -> impl Iterator<Item = ShardId> {
        let mut left = self.0;
        std::iter::from_fn(move || {
            let shard = left.trailing_zeros();
            left &= left.wrapping_sub(1);
            (shard < 128).then_some(shard as ShardId)
        })
    }
}

/// Hashes need no second hash.
#[derive(Clone, Debug, Default)]
pub(crate) struct Prehashed(u64);

impl std::hash::Hasher for Prehashed {
    fn finish(&self) -> u64 {
        self.0
    }

    fn write(&mut self, _bytes: &[u8]) {
        unreachable!("keys are u64");
    }

    fn write_u64(&mut self, key: u64) {
        self.0 = key;
    }
}

type PrehashedMap<V> = hashbrown::HashMap<u64, V, std::hash::BuildHasherDefault<Prehashed>>;

fn is_exact(filter: &str) -> bool {
    !filter.contains(['+', '#'])
}

/// The routes of all other shards.
#[derive(Debug)]
pub struct RouteTable {
    hasher: TopicHasher,
    exact: PrehashedMap<ShardSet>,
    wildcards: FilterIndex<ShardSet>,
}

impl RouteTable {
    pub fn new(hasher: TopicHasher) -> RouteTable {
        RouteTable { exact: PrehashedMap::default(), wildcards: FilterIndex::new(hasher.clone()), hasher }
    }

    /// The shard announced its first subscriber of the filter.
    pub fn add(&mut self, filter: &str, shard: ShardId) {
        match is_exact(filter) {
            true => self.exact.entry(self.hasher.hash(filter)).or_default().insert(shard),
            false => self.wildcards.get_or_insert_with(filter, ShardSet::default).insert(shard),
        }
    }

    /// The shard withdrew the filter.
    pub fn remove(&mut self, filter: &str, shard: ShardId) {
        if is_exact(filter) {
            if let hashbrown::hash_map::Entry::Occupied(mut entry) =
                self.exact.entry(self.hasher.hash(filter))
            {
                entry.get_mut().remove(shard);
                if entry.get().is_empty() {
                    entry.remove();
                }
            }
        } else if let Some(shards) = self.wildcards.get_mut(filter) {
            shards.remove(shard);
            if shards.is_empty() {
                self.wildcards.remove(filter);
            }
        }
    }

    /// Shards that may have a subscriber for the topic name; `hash` is the hasher's.
    #[inline]
    pub fn interested(&self, topic: &str, hash: u64) -> ShardSet {
        let mut shards = self.exact.get(&hash).copied().unwrap_or_default();
        if !self.wildcards.is_empty() {
            self.wildcards.for_each_match(topic, hash, |set| shards = shards.union(*set));
        }
        shards
    }

    pub fn len(&self) -> usize {
        self.exact.len() + self.wildcards.len()
    }
}

/// The announcing side: exact filters whose hashes collide share one route, so they are announced and withdrawn once.
#[derive(Debug)]
pub struct LocalInterest {
    hasher: TopicHasher,
    exact: PrehashedMap<u32>,
}

impl LocalInterest {
    pub fn new(hasher: TopicHasher) -> LocalInterest {
        LocalInterest { hasher, exact: PrehashedMap::default() }
    }

    /// A filter got its first subscriber here; true: announce it.
    pub fn added(&mut self, filter: &str) -> bool {
        if !is_exact(filter) {
            return true;
        }
        let count = self.exact.entry(self.hasher.hash(filter)).or_default();
        *count += 1;
        *count == 1
    }

    /// A filter lost its last subscriber here; true: withdraw it.
    pub fn removed(&mut self, filter: &str) -> bool {
        if !is_exact(filter) {
            return true;
        }
        let hash = self.hasher.hash(filter);
        let Some(count) = self.exact.get_mut(&hash) else { return false };
        *count -= 1;
        let is_last = *count == 0;
        if is_last {
            self.exact.remove(&hash);
        }
        is_last
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn routes_come_and_go() {
        let hasher = TopicHasher::with_seed(3);
        let mut routes = RouteTable::new(hasher.clone());
        routes.add("a/b", 2);
        routes.add("a/+", 127);
        routes.add("a/+", 1);
        let shards = |routes: &RouteTable, topic: &str| {
            routes.interested(topic, hasher.hash(topic)).iter().collect::<Vec<_>>()
        };
        assert_eq!(shards(&routes, "a/b"), [1, 2, 127]);
        assert_eq!(shards(&routes, "a/c"), [1, 127]);
        assert_eq!(shards(&routes, "b"), [] as [u16; 0]);
        routes.remove("a/b", 2);
        routes.remove("a/+", 127);
        routes.remove("a/+", 1);
        assert_eq!(routes.len(), 0);
    }

    #[test]
    fn interest_is_announced_once() {
        let mut interest = LocalInterest::new(TopicHasher::with_seed(3));
        assert!(interest.added("a"));
        assert!(!interest.added("a"), "a second filter with the same hash");
        assert!(!interest.removed("a"));
        assert!(interest.removed("a"));
        assert!(!interest.removed("a"));
    }
}
