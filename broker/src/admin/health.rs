//! What probes ask: does the process have to be restarted, may clients be sent here, has it started.

use std::sync::Arc;
use std::sync::atomic::{AtomicU8, Ordering};
use std::time::{Duration, Instant};

use axum::extract::State;
use axum::http::StatusCode;
use std::sync::Mutex;

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

/// The state that health answers are made of. Clones share it.
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

    /// Every shard answered not long ago. Shards that wind up answer no more, and end by `drain.timeout`.
    pub fn is_live(&self) -> bool {
        self.has(Phase::Stopping)
            || self.answers().iter().all(|answered| answered.elapsed() < ANSWER_PATIENCE)
    }

    fn has(&self, phase: Phase) -> bool {
        self.phase.load(Ordering::Relaxed) == phase as u8
    }

    fn answers(&self) -> std::sync::MutexGuard<'_, Vec<Instant>> {
        self.answered.lock().unwrap_or_else(std::sync::PoisonError::into_inner)
    }
}

fn answer(is_good: bool, good: &'static str, bad: &'static str) -> (StatusCode, &'static str) {
    if is_good { (StatusCode::OK, good) } else { (StatusCode::SERVICE_UNAVAILABLE, bad) }
}

pub async fn live(State(health): State<Health>) -> (StatusCode, &'static str) {
    answer(health.is_live(), "live\n", "a shard does not answer\n")
}

pub async fn ready(State(health): State<Health>) -> (StatusCode, &'static str) {
    let why_not = if health.has(Phase::Starting) { "starting\n" } else { "stopping\n" };
    answer(health.has(Phase::Serving), "ready\n", why_not)
}

pub async fn started(State(health): State<Health>) -> (StatusCode, &'static str) {
    answer(!health.has(Phase::Starting), "started\n", "starting\n")
}
