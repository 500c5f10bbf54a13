//! The state that probes ask for. Written by the bootstrap and by whoever hears of a shard.

use std::sync::atomic::{AtomicU8, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A shard that does not answer for so long is stuck.
const ANSWER_PATIENCE: Duration = Duration::from_secs(5);

/// Where the process is in its life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
enum Phase {
    Starting,
    Serving,
    Stopping,
}

/// Clones share it.
#[derive(Clone)]
pub struct Health {
    phase: Arc<AtomicU8>,
    /// When each shard answered last; empty before they run.
    answered: Arc<Mutex<Vec<Instant>>>,
}

impl Health {
    pub fn new() -> Health {
        Health { phase: Arc::new(AtomicU8::new(Phase::Starting as u8)), answered: Arc::default() }
    }

    /// All shards listen.
    pub fn on_started(&self, shards: usize) {
        *self.answers() = vec![Instant::now(); shards];
        self.phase.store(Phase::Serving as u8, Ordering::Relaxed);
    }

    pub fn on_stopping(&self) {
        self.phase.store(Phase::Stopping as u8, Ordering::Relaxed);
    }

    pub fn on_answer(&self, shard: usize) {
        if let Some(answered) = self.answers().get_mut(shard) {
            *answered = Instant::now();
        }
    }

    /// Every shard answered not long ago. Shards answer until they end, all at the same time.
    pub fn is_live(&self, now: Instant) -> bool {
        self.answers().iter().all(|answered| now.saturating_duration_since(*answered) < ANSWER_PATIENCE)
    }

    pub fn is_starting(&self) -> bool {
        self.has(Phase::Starting)
    }

    pub fn is_serving(&self) -> bool {
        self.has(Phase::Serving)
    }

    fn has(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Relaxed) == phase as u8
    }

    fn answers(&self) -> MutexGuard<'_, Vec<Instant>> {
        self.answered.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_shard_that_does_not_answer_is_told_until_it_does() {
        let health = Health::new();
        let later = Instant::now() + ANSWER_PATIENCE + Duration::from_secs(1);
        assert!(health.is_live(later) && !health.is_serving());
        health.on_started(2);
        assert!(health.is_live(Instant::now()) && health.is_serving());
        assert!(!health.is_live(later));
        health.answers().fill(later);
        assert!(health.is_live(later));
        health.on_stopping();
        assert!(health.is_live(later) && !health.is_serving());
    }
}
