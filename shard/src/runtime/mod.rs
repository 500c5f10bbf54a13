//! Runs shards on real sockets: one glommio executor per core, each with an event loop (`event_loop`) over a socket
//! ring of its own (`ring`), joined by lanes (`mesh`). Called by the broker's bootstrap; the control plane reaches the
//! shards through [`ControlHandle`] only.
//!
//! Invariants: a `Shard` is created, driven and dropped on its own thread; nothing here awaits while a shard is
//! borrowed; the only blocking point of a shard is its sleep, and it sleeps only after it has looked everywhere
//! (`parking`).
//!
//! **Panics.** Packets are decoded by a pure function without unsafe code, and a malformed one is an error, not a
//! panic; if it panics all the same, `Shard::on_bytes` ends that connection alone. So a panic that reaches the event
//! loop came from the core or from the runtime, whose state may be half updated; a shard that went on, or was missing
//! silently, would lose its part of the clients. The process says what happened and exits with [`EXIT_CODE_PANIC`]; a
//! supervisor starts it again.

mod event_loop;
mod listener;
mod mesh;
mod parking;
mod ring;
mod sys;

use std::io;
use std::net::SocketAddr;
use std::os::fd::OwnedFd;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::sync::mpsc::{self, Sender};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use glommio::{LocalExecutorBuilder, Placement};

use self::event_loop::EventLoop;
pub use self::event_loop::files_reserved;
use self::mesh::{ControlRequest, Mesh, Port, Stop};
use crate::filter_index::TopicHasher;
use crate::placement;
use crate::routes::SHARDS_MAX;
use crate::{AccessPolicy, Authentication, Config, Durability, Envelope, MetricsSnapshot, ShardId};

/// The process's exit code after a panic in a shard (EX_SOFTWARE of sysexits).
pub const EXIT_CODE_PANIC: i32 = 70;

/// Locked memory that a process needs: glommio's own demand, and the rings of each shard.
const MEMLOCK_BASE_BYTES: u64 = 512 * 1024;
const MEMLOCK_SHARD_BYTES: u64 = 300 * 1024;
/// The executor's preemption timer must not fire: when it does between two steps of the executor's own loop (a thread
/// that loses its core there for longer than the timer), glommio 0.9 takes its queues for empty and sleeps with a
/// runnable task, for good. The event loop is the executor's only task and sleeps by itself, so nothing needs it.
const PREEMPT_NEVER: Duration = Duration::from_secs(3600);
/// How long the control plane waits for room in a shard's queue before it gives up.
const REQUEST_PATIENCE: Duration = Duration::from_secs(5);

#[derive(Clone, Debug)]
pub struct RuntimeOptions {
    /// One shard for each entry.
    pub cores: Vec<usize>,
    pub is_pinned: bool,
    /// Time that an idle shard looks for work before it sleeps; costs the core, saves a wake-up.
    pub busy_poll_us: u32,
    /// Moment 0 of `shard::Time`.
    pub clock_origin: Instant,
}

/// Its place in the list is the listener id of the core.
#[derive(Clone, Debug)]
pub struct ListenerSpec {
    pub name: String,
    pub address: SocketAddr,
    pub backlog: u32,
}

/// Why the shards cannot run. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    #[error(
        "io_uring is switched off by the system (kernel.io_uring_disabled={setting}): run `sysctl -w \
         kernel.io_uring_disabled=0`, or set kernel.io_uring_group to the group of this process"
    )]
    UringDisabled { setting: String },
    #[error(
        "io_uring is forbidden to this process, most likely by a seccomp profile: allow io_uring_setup, io_uring_enter \
         and io_uring_register (containers: `--security-opt seccomp=unconfined` or a profile that lists them)"
    )]
    UringForbidden,
    #[error("the kernel has no io_uring: a Linux kernel 6.1 or later, built with CONFIG_IO_URING, is needed")]
    UringMissing,
    #[error(
        "the kernel ({release}) is too old for io_uring as it is used here: Linux 6.1 or later is needed"
    )]
    KernelTooOld { release: String },
    #[error(
        "the limit on locked memory is {limit_bytes} bytes, {shards} shards need {needed_bytes}: raise it (`ulimit -l`, \
         systemd: LimitMEMLOCK=, containers: `--ulimit memlock=`) or run fewer shards"
    )]
    MemlockTooSmall { limit_bytes: u64, needed_bytes: u64, shards: usize },
    #[error("the sockets' io_uring could not be set up: {0}")]
    Ring(#[source] io::Error),
    #[error(
        "listener {name} cannot listen on {address}: {source}; is another process there, or is it not an own address?"
    )]
    Bind { name: String, address: SocketAddr, source: io::Error },
    #[error(
        "{cores} cores were given for {shards} shards: the two numbers must be the same, at least 1 and at most {SHARDS_MAX}"
    )]
    ShardCount { cores: usize, shards: u16 },
    #[error(
        "{what} is not served by this build's event loop: choose authentication = anonymous and durability = memory"
    )]
    NotServed { what: &'static str },
    #[error("shard {shard} cannot run on core {core}: {message}; does the process have this core?")]
    Executor { shard: usize, core: usize, message: String },
    #[error("shard {shard} did not start: {source}")]
    Thread { shard: usize, source: io::Error },
    #[error("shard {shard} ended while it was starting")]
    ShardEnded { shard: usize },
    #[error("the doorbells could not be made: {0}; raise the limit on open files (`ulimit -n`)")]
    Doorbell(#[source] io::Error),
}

/// Why the shards stopped other than in order.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    #[error("the socket ring of shard {shard} failed: {source}")]
    Ring { shard: usize, source: io::Error },
    #[error("the thread of shard {shard} ended with a panic")]
    Panicked { shard: usize },
}

/// Whether this machine can run that many shards. Raises the soft limits on open files and locked memory to the hard
/// ones. Has to be asked before any executor is built: those panic where io_uring is missing.
pub fn probe(shard_count: usize) -> Result<(), StartError> {
    if let Err(error) = sys::raise_limit(libc::RLIMIT_NOFILE) {
        tracing::warn!(%error, "the limit on open files could not be raised");
    }
    let needed_bytes = MEMLOCK_BASE_BYTES + MEMLOCK_SHARD_BYTES * shard_count as u64;
    let limit_bytes = sys::raise_limit(libc::RLIMIT_MEMLOCK).unwrap_or(u64::MAX);
    // The executor wants its base even from root, to whom the limit does not apply otherwise.
    let demand = if sys::is_root() { MEMLOCK_BASE_BYTES } else { needed_bytes };
    if limit_bytes < demand {
        return Err(StartError::MemlockTooSmall { limit_bytes, needed_bytes: demand, shards: shard_count });
    }
    try_ring().map_err(|error| match error.raw_os_error() {
        Some(libc::ENOSYS) => StartError::UringMissing,
        Some(libc::EPERM | libc::EACCES) => {
            let setting = std::fs::read_to_string("/proc/sys/kernel/io_uring_disabled").unwrap_or_default();
            match setting.trim() {
                "" | "0" => StartError::UringForbidden,
                setting => StartError::UringDisabled { setting: setting.to_owned() },
            }
        }
        Some(libc::EINVAL) => {
            let release = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
            StartError::KernelTooOld { release: release.trim().to_owned() }
        }
        Some(libc::ENOMEM) => StartError::MemlockTooSmall { limit_bytes, needed_bytes, shards: shard_count },
        _ => StartError::Ring(error),
    })
}

/// On a thread of its own, because taking a ring down interrupts system calls of the thread that built it.
fn try_ring() -> io::Result<()> {
    let attempt = std::thread::Builder::new().name("probe".to_owned()).spawn(ring::try_build)?;
    attempt.join().unwrap_or_else(|_| Err(io::Error::other("the probe panicked")))
}

/// Starts all shards; returns when every one of them listens.
pub fn start(
    options: RuntimeOptions,
    listeners: Vec<ListenerSpec>,
    config: Arc<Config>,
) -> Result<Runtime, StartError> {
    let count = options.cores.len();
    if count == 0 || count > SHARDS_MAX as usize || count != config.shard_count as usize {
        return Err(StartError::ShardCount { cores: count, shards: config.shard_count });
    }
    if config.authentication != Authentication::Anonymous {
        return Err(StartError::NotServed { what: "an authenticator" });
    }
    if config.durability != Durability::Memory {
        return Err(StartError::NotServed { what: "a journal" });
    }
    probe(count)?;
    let mut addresses = Vec::with_capacity(listeners.len());
    let mut sockets: Vec<Vec<OwnedFd>> = (0..count).map(|_| Vec::with_capacity(listeners.len())).collect();
    for spec in &listeners {
        let (address, opened) = listener::open(spec, count).map_err(|source| StartError::Bind {
            name: spec.name.clone(),
            address: spec.address,
            source,
        })?;
        addresses.push(address);
        sockets.iter_mut().zip(opened).for_each(|(shard, socket)| shard.push(socket));
    }
    let mesh = Mesh::new(count, config.limits.lane_envelopes_max as usize).map_err(StartError::Doorbell)?;
    let mesh = Arc::new(mesh);
    let control = ControlHandle { mesh: mesh.clone(), config: config.clone() };
    let mut runtime = Runtime { mesh: mesh.clone(), addresses, control, threads: Vec::with_capacity(count) };

    let (started, starts) = mpsc::channel();
    for (shard, sockets) in sockets.into_iter().enumerate() {
        let seed = Seed {
            shard,
            core: options.cores[shard],
            options: options.clone(),
            sockets,
            config: config.clone(),
            mesh: mesh.clone(),
            started: started.clone(),
        };
        let thread = std::thread::Builder::new()
            .name(format!("shard-{shard}"))
            .spawn(move || run_shard(seed))
            .map_err(|source| StartError::Thread { shard, source });
        match thread {
            Ok(thread) => runtime.threads.push(thread),
            Err(error) => return Err(runtime.abandon(error)),
        }
    }
    drop(started);
    for done in 0..count {
        match starts.recv() {
            Ok(Ok(())) => {}
            Ok(Err(error)) => return Err(runtime.abandon(error)),
            Err(mpsc::RecvError) => return Err(runtime.abandon(StartError::ShardEnded { shard: done })),
        }
    }
    tracing::info!(shards = count, addresses = ?runtime.addresses, "all shards listen");
    Ok(runtime)
}

/// What a shard's thread starts with.
struct Seed {
    shard: usize,
    core: usize,
    options: RuntimeOptions,
    sockets: Vec<OwnedFd>,
    config: Arc<Config>,
    mesh: Arc<Mesh>,
    started: Sender<Result<(), StartError>>,
}

fn run_shard(seed: Seed) -> Result<(), RunError> {
    let shard = seed.shard;
    let mesh = seed.mesh.clone();
    match catch_unwind(AssertUnwindSafe(|| run_executor(seed))) {
        Ok(result) => {
            if result.is_err() {
                // The others cannot go on without it, and `join` may be waiting for one of them.
                mesh.stop(Stop::Hurry);
            }
            result
        }
        Err(panic) => {
            // It may hold what a client sent, which must not look like a line of its own.
            let text = panic_text(&*panic).escape_debug();
            tracing::error!(
                shard,
                panic = %text,
                "a shard panicked; its state cannot be trusted, the process exits"
            );
            eprintln!("shard {shard} panicked: {text}; its state cannot be trusted, the process exits");
            // Time for a log writer on another thread.
            std::thread::sleep(Duration::from_millis(100));
            sys::exit_now(EXIT_CODE_PANIC);
        }
    }
}

fn panic_text(panic: &(dyn std::any::Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)")
}

fn run_executor(seed: Seed) -> Result<(), RunError> {
    let Seed { shard, core, options, sockets, config, mesh, started } = seed;
    let placement = if options.is_pinned { Placement::Fixed(core) } else { Placement::Unbound };
    let executor = LocalExecutorBuilder::new(placement)
        .name(&format!("shard-{shard}"))
        .preempt_timer(PREEMPT_NEVER)
        // The default of 10 MiB is charged three times against the limit on locked memory.
        .io_memory(65_536)
        .ring_depth(128)
        .make();
    let executor = match executor {
        Ok(executor) => executor,
        Err(error) => {
            let _ = started.send(Err(StartError::Executor { shard, core, message: error.to_string() }));
            return Ok(());
        }
    };
    executor.run(async move {
        let port = Port::new(mesh, shard);
        match EventLoop::new(shard as ShardId, &options, sockets, config, port) {
            Ok(event_loop) => {
                let _ = started.send(Ok(()));
                drop(started);
                event_loop.run().map_err(|source| RunError::Ring { shard, source })
            }
            Err(error) => {
                let _ = started.send(Err(StartError::Ring(error)));
                Ok(())
            }
        }
    })
}

/// The running shards. Dropping it cuts them off.
pub struct Runtime {
    mesh: Arc<Mesh>,
    addresses: Vec<SocketAddr>,
    control: ControlHandle,
    threads: Vec<JoinHandle<Result<(), RunError>>>,
}

impl Runtime {
    /// The real address of each listener.
    pub fn addresses(&self) -> &[SocketAddr] {
        &self.addresses
    }

    pub fn control(&self) -> ControlHandle {
        self.control.clone()
    }

    /// As [`ControlHandle::drain`].
    pub fn drain(&self) {
        self.control.drain();
    }

    /// As [`ControlHandle::hurry`].
    pub fn hurry(&self) {
        self.control.hurry();
    }

    /// Waits until all shards have stopped (after `drain` or `hurry`, or when one fails).
    pub fn join(mut self) -> Result<(), RunError> {
        let result = self.join_threads();
        self.mesh.close_stranded();
        result
    }

    fn join_threads(&mut self) -> Result<(), RunError> {
        let mut result = Ok(());
        for (shard, thread) in self.threads.drain(..).enumerate() {
            let ended = thread.join().unwrap_or(Err(RunError::Panicked { shard }));
            result = result.and(ended);
        }
        result
    }

    fn abandon(mut self, error: StartError) -> StartError {
        self.mesh.stop(Stop::Hurry);
        let _ = self.join_threads();
        error
    }
}

impl Drop for Runtime {
    fn drop(&mut self) {
        if !self.threads.is_empty() {
            self.mesh.stop(Stop::Hurry);
            let _ = self.join_threads();
            self.mesh.close_stranded();
        }
    }
}

/// The control plane's way to the shards. All calls may block for a moment; none may be made on a shard's thread.
#[derive(Clone)]
pub struct ControlHandle {
    mesh: Arc<Mesh>,
    config: Arc<Config>,
}

impl ControlHandle {
    pub fn shard_count(&self) -> usize {
        self.mesh.count()
    }

    /// Orderly stop: no new clients, all are told and take their last bytes, within `limits.drain_timeout_ms`.
    pub fn drain(&self) {
        self.mesh.stop(Stop::Drain);
    }

    /// Stop at once.
    pub fn hurry(&self) {
        self.mesh.stop(Stop::Hurry);
    }

    /// The figures of all shards; None for one that did not answer in time.
    pub fn snapshot(&self, deadline: Duration) -> Vec<Option<MetricsSnapshot>> {
        let until = Instant::now() + deadline;
        let count = self.shard_count();
        let (sender, answers) = mpsc::sync_channel(count);
        for shard in 0..count {
            // A full queue means no answer.
            let _ = self.mesh.try_request(shard, ControlRequest::Snapshot(sender.clone()));
        }
        drop(sender);
        let mut snapshots = vec![None; count];
        while let Ok((shard, snapshot)) =
            answers.recv_timeout(until.saturating_duration_since(Instant::now()))
        {
            snapshots[shard as usize] = Some(snapshot);
        }
        snapshots
    }

    /// Publishes a retained `$SYS` message. It is lost when its shard's queue is full for seconds.
    pub fn publish_system(&self, topic: &str, payload: &[u8]) {
        let hash = TopicHasher::with_seed(self.config.hash_seed).hash(topic);
        let owner = self.placement().retained_owner(hash);
        let envelope = Envelope::System { topic: topic.into(), payload: payload.into() };
        self.request(owner as usize, envelope);
    }

    /// New access rules, for all shards.
    pub fn set_access(&self, policy: Arc<AccessPolicy>) {
        for shard in 0..self.shard_count() {
            self.request(shard, Envelope::AccessChanged(policy.clone()));
        }
    }

    /// Ends the connection and session of a client. False: its shard does not take requests.
    pub fn kick(&self, client_id: &str) -> bool {
        let home = self.placement().home(client_id);
        self.request(home as usize, Envelope::Kick { client_id: client_id.into() })
    }

    fn placement(&self) -> placement::Placement {
        let config = &self.config;
        placement::Placement::new(config.placement_key, config.hash_seed, config.shard_count)
    }

    fn request(&self, shard: usize, envelope: Envelope) -> bool {
        let until = Instant::now() + REQUEST_PATIENCE;
        let mut request = ControlRequest::Envelope(envelope);
        loop {
            match self.mesh.try_request(shard, request) {
                Ok(()) => return true,
                Err(refused) => request = refused,
            }
            if Instant::now() >= until {
                tracing::warn!(shard, "a shard takes no requests of the control plane");
                return false;
            }
            std::thread::sleep(Duration::from_millis(1));
        }
    }
}
