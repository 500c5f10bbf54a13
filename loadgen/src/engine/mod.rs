//! Carries out a plan: one thread for each worker, thousands of connections on each, and one coordinator that gives
//! commands and reads counters.

mod client;
mod commands;
mod connection;
mod connector;
mod context;
mod inflight;
mod mesh;
mod poller;
mod port;
mod publisher;
mod reading;
pub mod socket;
mod stats;
mod subscriber;
mod worker;

pub use connector::ConnectLimits;
pub use mesh::Mesh;
pub use port::Interval;
pub use stats::Stats;
use subscriber::ReceiverState;
use worker::WorkerOutcome;

use crate::latency::{self, Latencies};
use crate::plan::{Plan, Role};
use anyhow::{Context as _, Result, anyhow, bail};
use port::{Measured, Port};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeMap, HashMap};
use std::net::TcpListener;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::thread::JoinHandle;

/// What the coordinator asks of the workers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
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

/// Files of this process beside its connections.
const OTHER_FILES: u64 = 64;

/// What all threads of a run see.
struct Shared {
    plan: Plan,
    limits: ConnectLimits,
    filler: Vec<u8>,
    /// By flow; empty in closed loop.
    phases: Vec<u64>,
    ports: Vec<Port>,
    /// Where publishers in other processes wait for what was delivered here.
    mesh: Option<Mesh>,
    measured: Measured,
    tick: AtomicU64,
}

impl Shared {
    /// The port of a worker of this process; `worker` counts through all processes.
    fn port(&self, worker: usize) -> &Port {
        &self.ports[worker - self.plan.local.start]
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
    pub fn start(plan: Plan, limits: ConnectLimits, cpus: &[usize], mesh: Option<Mesh>) -> Result<Engine> {
        let options = &plan.options;
        let phases = match options.pace {
            crate::plan::Pace::Window(_) | crate::plan::Pace::Unacknowledged(_) => vec![],
            crate::plan::Pace::Interval { ns, .. } => {
                crate::pacing::phases(plan.flows.len(), ns, options.seed)
            }
        };
        let connections =
            plan.clients.iter().filter(|client| plan.local.contains(&client.worker)).count() as u64;
        let files = socket::raise_file_limit(connections + OTHER_FILES);
        if files < connections {
            bail!("{connections} connections need as many files, but the limit is {files} (ulimit -n)");
        }
        if !cpus.is_empty() {
            // The coordinator must not disturb the broker's CPUs.
            socket::pin_to(cpus)?;
        }
        let ports = plan.local.clone().map(|_| Port::new()).collect::<std::io::Result<_>>()?;
        let shared = Arc::new(Shared {
            filler: options.filler(),
            phases,
            ports,
            mesh,
            measured: Measured::new(),
            tick: AtomicU64::new(0),
            limits,
            plan,
        });
        let spawn = |index: usize| {
            let shared = shared.clone();
            let cpu = (!cpus.is_empty()).then(|| cpus[(index - shared.plan.local.start) % cpus.len()]);
            std::thread::Builder::new()
                .name(format!("load-{index}"))
                .spawn(move || worker::run(shared, index, cpu).with_context(|| format!("worker {index}")))
                .context("cannot start a thread")
        };
        let threads = shared.plan.local.clone().map(spawn).collect::<Result<_>>()?;
        Ok(Engine { shared, threads })
    }

    /// Takes what `peer_count` other processes tell of deliveries, from their connections to `listener`.
    pub fn receive_credits(&self, listener: &TcpListener, peer_count: usize) -> Result<()> {
        mesh::receive(&self.shared, listener, peer_count)
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

    /// Disconnects all, and returns what the workers know.
    pub fn finish(self) -> Result<Ended> {
        self.command(Command::Finish);
        let mut ended = Ended::default();
        let mut failed = None;
        for thread in self.threads {
            match thread.join() {
                Ok(Ok(outcome)) => ended.add(outcome),
                Ok(Err(error)) => failed = failed.or(Some(error)),
                Err(_) => failed = failed.or(Some(anyhow!("a worker panicked"))),
            }
        }
        ended.intervals = self.shared.ports.iter().flat_map(Port::take_intervals).collect();
        failed.map_or(Ok(ended), Err)
    }
}

/// A number for some flows, by their index.
pub type PerFlow = Vec<(u32, u64)>;

/// What the workers of this process know at the end.
pub struct Ended {
    /// Flow and messages sent.
    pub sent: PerFlow,
    /// Flow and number of messages that were not acknowledged, or refused: nobody owes their delivery.
    pub unacked: PerFlow,
    pub receivers: Vec<ReceiverState>,
    pub connect_latency: Latencies,
    pub ack_latency: Latencies,
    /// Latencies that no tick took.
    pub intervals: Vec<Interval>,
}

impl Default for Ended {
    fn default() -> Ended {
        Ended {
            sent: vec![],
            unacked: vec![],
            receivers: vec![],
            connect_latency: latency::histogram(),
            ack_latency: latency::histogram(),
            intervals: vec![],
        }
    }
}

impl Ended {
    fn add(&mut self, outcome: WorkerOutcome) {
        self.sent.extend(outcome.sent);
        self.unacked.extend(outcome.unacked);
        self.receivers.extend(outcome.receivers);
        let same = "all histograms have the same bounds";
        self.connect_latency.add(outcome.connect_latency).expect(same);
        self.ack_latency.add(outcome.ack_latency).expect(same);
    }

    /// Flow and deliveries that never came to the receivers of this process, given what all processes sent.
    pub fn lost(&self, sent: &[(u32, u64)], unacked: &[(u32, u64)]) -> PerFlow {
        let sent: HashMap<u32, u64> = sent.iter().copied().collect();
        let mut excused: HashMap<u32, Vec<u64>> = HashMap::new();
        for (flow, sequence) in unacked {
            excused.entry(*flow).or_default().push(*sequence);
        }
        let mut lost: BTreeMap<u32, u64> = BTreeMap::new();
        for receiver in &self.receivers {
            for (flow, tracker) in receiver.flows.iter().zip(&receiver.trackers) {
                let excused = excused.get(&flow).map_or(&[][..], Vec::as_slice);
                let count = tracker.lost(sent.get(&flow).copied().unwrap_or(0), excused);
                if count > 0 {
                    *lost.entry(flow).or_default() += count;
                }
            }
        }
        lost.into_iter().collect()
    }
}
