//! The life of the broker: data directory, admin endpoint, shards; then it waits for a signal, and stops in reverse.
//! All of it runs on the main thread, which is the control thread; nothing here is on the way of a message.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, OnceLock};
use std::time::{Duration, Instant};

use sd_notify::NotifyState;
use shard::runtime::{ControlHandle, RunError, StartError};
use tokio::net::TcpListener;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio::task::JoinHandle;
use tokio::time::MissedTickBehavior;

use crate::admin;
use crate::config::{Config, Listener};
use crate::data_dir::{self, DataDir, DataDirError};
use crate::health::Health;
use crate::logging::Logging;
use crate::machine;
use crate::monitoring::{Monitor, blocking, sys_topics};
use crate::plan::{self, Plan, PlanError};

/// Time between two signs of life of the shards.
const HEARTBEAT: Duration = Duration::from_secs(1);

/// Threads that wait for shards. Who asks for figures beyond that waits for one.
const BLOCKING_THREADS_MAX: usize = 16;

/// Why the broker did not start, or ended other than it was told.
#[derive(Debug, thiserror::Error)]
pub enum ServeError {
    #[error(transparent)]
    Plan(#[from] PlanError),
    #[error(transparent)]
    DataDir(#[from] DataDirError),
    #[error(transparent)]
    Start(#[from] StartError),
    #[error(
        "the admin endpoint cannot listen on {address}: {source}; choose another `admin.address`, or `off`"
    )]
    Admin { address: SocketAddr, source: io::Error },
    #[error(transparent)]
    Run(#[from] RunError),
    #[error("the shards ended without being told")]
    Ended,
    #[error("the control thread failed: {0}")]
    Control(#[from] io::Error),
}

impl ServeError {
    /// 3: starting again does not help. 1: it may.
    pub fn exit_code(&self) -> u8 {
        match self {
            ServeError::Plan(_)
            | ServeError::DataDir(DataDirError::Unusable { .. } | DataDirError::Damaged(_)) => 3,
            ServeError::Start(StartError::Bind { .. } | StartError::ShardEnded { .. }) => 1,
            ServeError::Start(_) => 3,
            _ => 1,
        }
    }
}

/// Runs the broker until it was told to stop.
pub fn serve(config: &Config, logging: &Logging) -> Result<(), ServeError> {
    let data_dir = match config.storage.data_dir.as_str() {
        "" => None,
        path => Some(DataDir::open(Path::new(path))?),
    };
    let placement_key = match &data_dir {
        Some(data_dir) => data_dir.placement_key(),
        None => data_dir::random()?,
    };
    let plan = plan::make(config, placement_key, data_dir::random()?)?;
    leave_the_shards_their_cores(&plan);
    let control = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .thread_name("control")
        .max_blocking_threads(BLOCKING_THREADS_MAX)
        .build()?;
    let result = control.block_on(run(config, logging, plan));
    // A question to a shard that ended may still be waiting.
    control.shutdown_background();
    result
}

/// The control thread, and what it starts, stays on cores that no shard has, if there are any.
fn leave_the_shards_their_cores(plan: &Plan) {
    let mut spare = machine::cores();
    spare.retain(|core| !plan.options.cores.contains(core));
    if plan.options.is_pinned && !spare.is_empty() {
        machine::stay_on(&spare);
    }
}

async fn run(config: &Config, logging: &Logging, plan: Plan) -> Result<(), ServeError> {
    let mut signals = Signals::new()?;
    let health = Health::new();
    let monitor = Arc::new(OnceLock::new());
    let mut admin_address = None;
    if let Some(address) = config.admin.address.value() {
        let failed = |source| ServeError::Admin { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        admin_address = Some(listener.local_addr().map_err(failed)?);
        tokio::spawn(admin::serve(listener, health.clone(), monitor.clone()));
    }

    let Plan { options, listeners, config: core, memory_bytes } = plan;
    let shards = options.cores.len();
    let runtime = blocking(move || shard::runtime::start(options, listeners, core)).await??;
    let monitor = monitor.get_or_init(|| {
        Monitor::new(runtime.control(), &config.listeners, health.clone(), logging.dropped())
    });
    health.on_started(shards);
    tokio::spawn(watch(monitor.clone(), health.clone()));
    if !config.sys_topics.interval.is_zero() {
        tokio::spawn(sys_topics::publish(monitor.clone(), config.sys_topics.interval));
    }
    let address_of = |(listener, address): (&Listener, &SocketAddr)| {
        format!("{}={}://{address}", listener.name, listener.kind)
    };
    let addresses: Vec<String> = config.listeners.iter().zip(runtime.addresses()).map(address_of).collect();
    tracing::info!(
        version = env!("CARGO_PKG_VERSION"),
        shards,
        listeners = addresses.join(" "),
        admin = admin_address.map_or("off".to_owned(), |address| address.to_string()),
        memory_bytes,
        "ready"
    );
    tell_service_manager(NotifyState::Ready);

    let shards = runtime.control();
    let mut ended = tokio::task::spawn_blocking(move || runtime.join());
    tokio::select! {
        result = &mut ended => {
            result.map_err(io::Error::other)??;
            Err(ServeError::Ended)
        }
        signal = signals.next() => {
            tracing::info!(signal, "stopping");
            health.on_stopping();
            tell_service_manager(NotifyState::Stopping);
            stop(config.drain.delay, &mut signals, &shards, ended).await
        }
    }
}

/// A signal skips what is left of the waiting.
async fn stop(
    delay: Duration,
    signals: &mut Signals,
    shards: &ControlHandle,
    mut ended: JoinHandle<Result<(), RunError>>,
) -> Result<(), ServeError> {
    let orderly = async {
        tokio::select! {
            () = tokio::time::sleep(delay) => {}
            // A shard failed.
            result = &mut ended => return result,
        }
        shards.drain();
        (&mut ended).await
    };
    let in_time = tokio::select! {
        result = orderly => Some(result),
        signal = signals.next() => {
            tracing::info!(signal, "hurrying");
            None
        }
    };
    let result = match in_time {
        Some(result) => result,
        None => {
            shards.hurry();
            ended.await
        }
    };
    result.map_err(io::Error::other)??;
    tracing::info!("stopped");
    Ok(())
}

/// Asks the shards for a sign of life, feeds the service manager's watchdog while all of them give one, and returns
/// memory that nobody needs any more.
async fn watch(monitor: Monitor, health: Health) {
    let watchdog = sd_notify::watchdog_enabled();
    let period = watchdog.map_or(HEARTBEAT, |limit| HEARTBEAT.min(limit / 2));
    let mut ticks = tokio::time::interval(period);
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        ticks.tick().await;
        machine::return_memory();
        let asked = monitor.clone();
        if let Err(error) = blocking(move || asked.look()).await {
            tracing::error!(%error, "the shards cannot be asked");
        }
        if watchdog.is_some() && health.is_live(Instant::now()) {
            tell_service_manager(NotifyState::Watchdog);
        }
    }
}

fn tell_service_manager(state: NotifyState<'_>) {
    if let Err(error) = sd_notify::notify(&[state]) {
        tracing::warn!(%error, "the service manager cannot be told");
    }
}

/// SIGTERM and SIGINT, from the moment that it is made. SIGHUP, with which other brokers reload, must not end this one.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
    hangup: Signal,
}

impl Signals {
    fn new() -> io::Result<Signals> {
        Ok(Signals {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
            hangup: signal(SignalKind::hangup())?,
        })
    }

    async fn next(&mut self) -> &'static str {
        loop {
            tokio::select! {
                _ = self.terminate.recv() => return "SIGTERM",
                _ = self.interrupt.recv() => return "SIGINT",
                _ = self.hangup.recv() => {
                    tracing::warn!(signal = "SIGHUP", "the configuration is read at start only; nothing was changed");
                }
            }
        }
    }
}
