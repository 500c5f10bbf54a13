//! What is known about the running broker, and how it is told: `/metrics`, JSON, `$SYS` topics.

mod figures;
mod process;
pub mod prometheus;
pub mod stats;
pub mod sys_topics;

use std::io;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use shard::MetricsSnapshot;
use shard::runtime::ControlHandle;

use self::figures::ListenerLabels;
use crate::config::Listener;
use crate::health::Health;
use crate::logging::Dropped;

/// What a shard gets for its answer; one that takes longer is left out of the figures.
const PATIENCE: Duration = Duration::from_secs(1);

/// The one way to the shards' figures, so that each look is a sign of life and no maximum is lost. Clones share it.
#[derive(Clone)]
pub struct Monitor {
    shards: ControlHandle,
    health: Health,
    started: Instant,
    listeners: Arc<[ListenerLabels]>,
    log_lines_dropped: Dropped,
    /// By shard: the longest turn since `take_lag_max_ns`.
    lag_max_ns: Arc<Mutex<Vec<u64>>>,
}

impl Monitor {
    pub fn new(shards: ControlHandle, listeners: &[Listener], health: Health, dropped: Dropped) -> Monitor {
        let lag_max_ns = Arc::new(Mutex::new(vec![0; shards.shard_count()]));
        let labels = |listener: &Listener| ListenerLabels {
            name: listener.name.clone(),
            kind: listener.kind.to_string(),
        };
        Monitor {
            shards,
            health,
            started: Instant::now(),
            listeners: listeners.iter().map(labels).collect(),
            log_lines_dropped: dropped,
            lag_max_ns,
        }
    }

    fn listeners(&self) -> &[ListenerLabels] {
        &self.listeners
    }

    /// The figures of all shards; None for one that does not answer. Blocks for a moment.
    pub fn look(&self) -> Vec<Option<MetricsSnapshot>> {
        let snapshots = self.shards.snapshot(PATIENCE);
        let mut lag_max_ns = self.lags();
        for (shard, snapshot) in snapshots.iter().enumerate() {
            if let Some(snapshot) = snapshot {
                self.health.on_answer(shard);
                lag_max_ns[shard] = lag_max_ns[shard].max(snapshot.turn_max_ns);
            }
        }
        snapshots
    }

    fn take_lag_max_ns(&self) -> Vec<u64> {
        let mut lags = self.lags();
        let fresh = vec![0; lags.len()];
        std::mem::replace(&mut *lags, fresh)
    }

    fn lags(&self) -> MutexGuard<'_, Vec<u64>> {
        self.lag_max_ns.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// Runs what waits for shards on a thread where waiting does no harm.
pub async fn blocking<T: Send + 'static>(work: impl FnOnce() -> T + Send + 'static) -> io::Result<T> {
    tokio::task::spawn_blocking(work).await.map_err(io::Error::other)
}

impl std::fmt::Debug for Monitor {
    fn fmt(&self, formatter: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        formatter.debug_struct("Monitor").finish_non_exhaustive()
    }
}
