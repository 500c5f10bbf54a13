//! How a shard goes to sleep without missing what is pushed to it. It owns one flag per shard and knows neither the
//! queues nor the bell: the caller says whether its queues are empty and how to ring.
//!
//! Producer: push to a queue, then [`Parking::wake`], which says whether the bell has to be rung. Consumer:
//! [`Parking::try_park`], which says whether it may sleep. The two `SeqCst` fences make one of the two happen: the
//! consumer sees the push, or the producer sees the flag. The producer that takes the flag down rings, so there is
//! one bell for each sleep however many shards push.
//!
//! The same protocol lets a producer sleep that waits for room: the consumer pops, then calls `wake` of the producer.
//!
//! Checked by loom: `RUSTFLAGS="--cfg loom" cargo test -p shardmq-shard --no-default-features --features loom-mesh
//! --test parking_loom` (`.ci/test` does it).

#[cfg(loom)]
use loom::sync::atomic::{AtomicBool, Ordering, fence};
#[cfg(not(loom))]
use std::sync::atomic::{AtomicBool, Ordering, fence};

#[derive(Debug)]
pub struct Parking {
    is_parked: AtomicBool,
}

impl Default for Parking {
    fn default() -> Parking {
        Parking::new()
    }
}

impl Parking {
    pub fn new() -> Parking {
        Parking { is_parked: AtomicBool::new(false) }
    }

    /// After a push (or a pop that made room): true when the owner sleeps and the caller has to ring its bell.
    #[inline]
    pub fn wake(&self) -> bool {
        fence(Ordering::SeqCst);
        // The load keeps the line shared between producers while the owner is awake.
        self.is_parked.load(Ordering::Relaxed) && self.is_parked.swap(false, Ordering::AcqRel)
    }

    /// By the owner: true when it may wait for the bell. `has_work` looks at everything that others push.
    #[inline]
    pub fn try_park(&self, has_work: impl FnOnce() -> bool) -> bool {
        self.is_parked.store(true, Ordering::Relaxed);
        fence(Ordering::SeqCst);
        if has_work() {
            self.unpark();
            return false;
        }
        true
    }

    /// By the owner, awake again for whatever reason. A bell that was rung meanwhile wakes it once more, in vain.
    #[inline]
    pub fn unpark(&self) {
        self.is_parked.store(false, Ordering::Relaxed);
    }
}
