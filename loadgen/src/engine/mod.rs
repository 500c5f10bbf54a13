//! Carries out a plan: one thread for each worker, thousands of connections on each, and one coordinator that gives
//! commands and reads counters.

mod client;
mod connection;
mod connector;
mod context;
mod inflight;
mod poller;
mod port;
mod publisher;
pub mod socket;
mod stats;
mod subscriber;
mod worker;

pub use connector::ConnectLimits;
pub use port::Interval;
pub use stats::Stats;
pub use worker::WorkerOutcome;

use crate::payload;
use crate::plan::{Plan, Role};
use anyhow::{Context as _, Result, anyhow};
use port::{Measured, Port};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

/// What the coordinator asks of the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Command {
    Connect(Role),
    /// Connect with a clean start and without a subscription: removes the session of an earlier run.
    Wipe(Role),
    /// PINGREQ to all; `Stats::fenced` counts the answers.
    Fence(Role),
    /// Publish an empty retained message on every topic.
    ClearRetained,
    /// DISCONNECT and close; what was delivered stays known.
    Disconnect(Role),
    /// From `start_ns` on, up to `limit` messages of each flow in all.
    Publish {
        start_ns: u64,
        limit: u64,
    },
    /// Nothing new after this time.
    StopPublishing {
        at_ns: u64,
    },
    /// From now on connections may break without a fault, or no longer.
    ExpectBreaks(bool),
    /// Disconnect all and end.
    Finish,
}

/// What all threads of a run see.
pub struct Shared {
    plan: Plan,
    limits: ConnectLimits,
    filler: Vec<u8>,
    /// By flow; empty in closed loop.
    phases: Vec<u64>,
    ports: Vec<Port>,
    measured: Measured,
    tick: AtomicU64,
}

impl Shared {
    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    fn tick(&self) -> u64 {
        self.tick.load(Ordering::Relaxed)
    }
}

/// A running plan.
pub struct Engine {
    shared: Arc<Shared>,
    threads: Vec<JoinHandle<Result<WorkerOutcome>>>,
}

impl Engine {
    /// Starts the workers, bound to `cpus` in turn (none: not bound). Nothing connects before a command.
    pub fn start(plan: Plan, limits: ConnectLimits, cpus: &[usize]) -> Result<Engine> {
        let options = &plan.options;
        let phases = match options.pace {
            crate::plan::Pace::Window(_) | crate::plan::Pace::Unacknowledged(_) => vec![],
            crate::plan::Pace::Interval { ns, .. } => {
                crate::pacing::phases(plan.flows.len(), ns, options.seed)
            }
        };
        let ports = (0..plan.worker_count).map(|_| Port::new()).collect::<std::io::Result<_>>()?;
        let shared = Arc::new(Shared {
            filler: payload::filler(options.seed, options.payload_size),
            phases,
            ports,
            measured: Measured::new(),
            tick: AtomicU64::new(0),
            limits,
            plan,
        });
        let spawn = |index: usize| {
            let shared = shared.clone();
            let cpu = (!cpus.is_empty()).then(|| cpus[index % cpus.len()]);
            std::thread::Builder::new()
                .name(format!("load-{index}"))
                .spawn(move || worker::run(shared, index, cpu).with_context(|| format!("worker {index}")))
                .context("cannot start a thread")
        };
        let threads = (0..shared.plan.worker_count).map(spawn).collect::<Result<_>>()?;
        Ok(Engine { shared, threads })
    }

    pub fn plan(&self) -> &Plan {
        &self.shared.plan
    }

    pub fn command(&self, command: Command) {
        self.shared.ports.iter().for_each(|port| port.command(command));
    }

    /// All counters as they are now.
    pub fn stats(&self) -> Stats {
        let mut sum = Stats::default();
        self.shared.ports.iter().for_each(|port| sum.add(&port.stats()));
        sum
    }

    /// CPU time of each worker so far.
    pub fn cpu_ns(&self) -> Vec<u64> {
        self.shared.ports.iter().map(Port::cpu_ns).collect()
    }

    /// Messages that are due in this range give the latencies.
    pub fn measure(&self, due_ns: std::ops::Range<u64>) {
        self.shared.measured.set(due_ns);
    }

    /// Begins a new second, and returns the latencies of those that are over.
    pub fn tick(&self) -> Vec<Interval> {
        self.shared.tick.fetch_add(1, Ordering::Relaxed);
        self.shared.ports.iter().for_each(|port| port.doorbell.ring());
        self.shared.ports.iter().flat_map(Port::take_intervals).collect()
    }

    pub fn first_error(&self) -> Option<String> {
        self.shared.ports.iter().find_map(Port::first_error)
    }

    /// False if a worker ended early, which is an error that `finish` tells.
    pub fn is_running(&self) -> bool {
        self.threads.iter().all(|thread| !thread.is_finished())
    }

    /// Disconnects all, and returns what the workers know and the latencies that were not taken yet.
    pub fn finish(self) -> Result<(Arc<Shared>, Vec<WorkerOutcome>, Vec<Interval>)> {
        self.command(Command::Finish);
        let join = |thread: JoinHandle<Result<WorkerOutcome>>| {
            thread.join().unwrap_or_else(|_| Err(anyhow!("a worker panicked")))
        };
        let outcomes = self.threads.into_iter().map(join).collect::<Result<Vec<_>>>()?;
        let intervals = self.shared.ports.iter().flat_map(Port::take_intervals).collect();
        Ok((self.shared, outcomes, intervals))
    }
}
