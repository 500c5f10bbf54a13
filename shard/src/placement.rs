//! Where a client lives: client id -> bucket -> home shard. The bucket count is fixed for good; only the table from
//! buckets to shards depends on the number of cores.

use std::hash::Hasher;

use siphasher::sip::SipHasher13;

use crate::ShardId;

/// Buckets of client ids; stored with durable data, so it never changes.
pub const BUCKET_COUNT: u16 = 1024;

#[derive(Clone, Debug)]
pub(crate) struct Placement {
    placement_key: u64,
    hash_seed: u64,
    shard_count: u16,
}

impl Placement {
    pub fn new(placement_key: u64, hash_seed: u64, shard_count: u16) -> Placement {
        assert!(shard_count > 0, "a mesh has at least one shard");
        Placement { placement_key, hash_seed, shard_count }
    }

    /// The bucket of a client id, 0 to `BUCKET_COUNT - 1`. The same on every machine for the same placement key.
    pub fn bucket(&self, client_id: &str) -> u16 {
        (sip(self.placement_key, 0, client_id) % BUCKET_COUNT as u64) as u16
    }

    pub fn home(&self, client_id: &str) -> ShardId {
        self.bucket(client_id) % self.shard_count
    }

    /// Key of a client in messages (No Local): a keyed hash, never 0, the same on all shards of the process.
    pub fn client_key(&self, client_id: &str) -> u64 {
        sip(self.hash_seed, 1, client_id).max(1)
    }

    /// Key of a shared group (`$share/group/filter`), never 0.
    pub fn group_key(&self, filter: &str) -> u64 {
        sip(self.hash_seed, 2, filter).max(1)
    }

    /// The shard that keeps the retained message of a topic and orders what is published to it with RETAIN.
    pub fn retained_owner(&self, topic_hash: u64) -> ShardId {
        // The high half: the low bits already choose the slot in hash tables.
        ((topic_hash >> 32) % self.shard_count as u64) as ShardId
    }

    /// A client id for a client that sent none: unique for `number` and hashed to `shard`, so that it need not move.
    pub fn assign_client_id(&self, shard: ShardId, number: &mut u64) -> String {
        loop {
            *number += 1;
            let id = format!("auto-{:016x}-{shard:x}-{number:x}", sip(self.hash_seed, *number, "assigned"));
            if self.home(&id) == shard {
                return id;
            }
        }
    }
}

fn sip(key: u64, domain: u64, text: &str) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(key, domain);
    hasher.write(text.as_bytes());
    hasher.finish()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn buckets_are_stable_and_even() {
        let placement = Placement::new(0, 99, 4);
        let mut counts = [0u32; 4];
        for i in 0..100_000 {
            counts[placement.home(&format!("client-{i}")) as usize] += 1;
        }
        assert!(counts.iter().all(|c| (23_000..27_000).contains(c)), "{counts:?}");
        // Pinned: stored data depends on it.
        assert_eq!(placement.bucket("client-1"), Placement::new(0, 1, 9).bucket("client-1"));
    }

    #[test]
    fn assigned_ids_stay_on_their_shard() {
        let placement = Placement::new(3, 4, 8);
        let mut number = 0;
        let first = placement.assign_client_id(5, &mut number);
        let second = placement.assign_client_id(5, &mut number);
        assert_ne!(first, second);
        assert_eq!((placement.home(&first), placement.home(&second)), (5, 5));
    }
}
