//! The way of running that most scenarios share: connect all, warm up, measure, wait for what is under way, judge.

use super::watch::Watch;
use super::{setup, verdict, watch};
use crate::args::{Common, Scenario};
use crate::clock;
use crate::engine::{Command, Engine, Stats, socket};
use crate::latency::{self, Percentiles};
use crate::plan::{Plan, Role};
use crate::process::{BrokerReport, Usage, ratio};
use crate::report::progress::Progress;
use crate::report::{ConnectReport, Measured, Report, SCHEMA};
use anyhow::{Result, bail};
use std::time::Duration;

/// Files of this process beside its connections.
const OTHER_FILES: u64 = 64;
/// A broker that sets up no connection for so long is not going to.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);

/// All that is taken at one moment.
struct Moment {
    ns: u64,
    stats: Stats,
    cpu_ns: Vec<u64>,
    broker: Usage,
}

impl Moment {
    fn take(engine: &Engine, common: &Common) -> Moment {
        let broker = Usage::of(&common.broker_pid);
        Moment { ns: clock::now_ns(), stats: engine.stats(), cpu_ns: engine.cpu_ns(), broker }
    }
}

pub fn run(scenario: &Scenario, plan: Plan) -> Result<Report> {
    let common = scenario.common();
    let started_unix_ms = clock::unix_ms();
    let client_count = plan.clients.len() as u64;
    let files = socket::raise_file_limit(client_count + OTHER_FILES);
    if files < client_count {
        bail!("{client_count} connections need as many files, the limit is {files} (ulimit -n)");
    }
    let cpus = common.cpus.clone().unwrap_or_default().0;
    if !cpus.is_empty() {
        // The coordinator must not disturb the broker's CPUs.
        socket::pin_to(&cpus)?;
    }
    let engine = Engine::start(plan, setup::connect_limits(common), &cpus)?;
    let mut watch = Watch::new(&engine, Progress::new(common.quiet));

    watch.phase("connect-begin");
    let connect_begin = clock::now_ns();
    connect(&engine, &mut watch, Role::Subscriber)?;
    connect(&engine, &mut watch, Role::Publisher)?;
    let connect_ns = clock::now_ns() - connect_begin;
    watch.phase("connect-end");

    let (begin, end) = publish(&engine, &mut watch, common)?;
    watch.phase("drain-begin");
    let is_complete = |stats: &Stats| {
        let answered = stats.acked + stats.refused;
        stats.delivered >= stats.owed && (common.qos == 0 || answered >= stats.sent)
    };
    watch.wait(common.settle, |stats| stats.delivered + stats.acked + stats.duplicated, is_complete)?;
    watch.phase("drain-end");

    let mut series = watch.into_series();
    let first_error = engine.first_error();
    let totals = engine.stats();
    let (shared, outcomes, intervals) = engine.finish()?;
    watch::add_rest(&mut series, intervals);

    let measured = end.stats.since(&begin.stats);
    let elapsed_ns = end.ns - begin.ns;
    let cpu_ns: Vec<u64> = end.cpu_ns.iter().zip(&begin.cpu_ns).map(|(end, begin)| end - begin).collect();
    let verdict = verdict::verdict(&shared, &totals, &outcomes);
    let generator = verdict::generator(&cpu_ns, elapsed_ns, &measured);
    let broker = (!common.broker_pid.is_empty()).then(|| {
        BrokerReport::new(&common.broker_pid, &begin.broker, &end.broker, elapsed_ns, measured.delivered)
    });
    let (mut connect_latency, mut ack_latency) = (latency::histogram(), latency::histogram());
    for outcome in &outcomes {
        connect_latency.add(&outcome.connect_latency)?;
        ack_latency.add(&outcome.ack_latency)?;
    }
    Ok(Report {
        schema: SCHEMA,
        tool: env!("CARGO_PKG_NAME"),
        version: env!("CARGO_PKG_VERSION"),
        command: std::env::args().collect(),
        started_unix_ms,
        scenario: scenario.clone(),
        clients: client_count,
        flows: shared.plan().flows.len() as u64,
        connect: ConnectReport {
            connections: totals.ready,
            elapsed_ns: connect_ns,
            per_second: ratio(totals.ready, connect_ns) * 1e9,
            latency_ns: Percentiles::of(&connect_latency),
        },
        measured: Measured::new(begin.ns, end.ns, &measured),
        totals,
        latency_ns: Percentiles::of(&series.total),
        ack_latency_ns: Percentiles::of(&ack_latency),
        is_valid: verdict.passed && !generator.is_limit,
        verdict,
        generator,
        broker,
        first_error,
        series: series.seconds,
    })
}

/// Connects all clients with this role.
fn connect(engine: &Engine, watch: &mut Watch<'_>, role: Role) -> Result<()> {
    let count = engine.plan().clients.iter().filter(|client| client.role == role).count() as u64;
    let before = engine.stats();
    engine.command(Command::Connect(role));
    let over = |stats: &Stats| stats.ready + stats.connect_failed;
    let is_over = watch.wait(CONNECT_PATIENCE, over, |stats| over(stats) - over(&before) >= count)?;
    let stats = engine.stats().since(&before);
    if !is_over || stats.ready < count {
        let error = engine.first_error().unwrap_or_else(|| "no answer".into());
        bail!("{} of {count} connections were set up: {error}", stats.ready);
    }
    Ok(())
}

/// Warms up and measures. Returns the moments when the measured interval begins and ends.
fn publish(engine: &Engine, watch: &mut Watch<'_>, common: &Common) -> Result<(Moment, Moment)> {
    let flow_count = engine.plan().flows.len() as u64;
    let limit = common.count.map_or(u64::MAX, |count| count.div_ceil(flow_count));
    let start_ns = clock::now_ns();
    let warmup = common.warmup();
    let start = Command::Publish { start_ns, limit };
    if !warmup.is_zero() {
        engine.command(start);
        watch.phase("warmup-begin");
        watch.sleep_until(start_ns + warmup.as_nanos() as u64)?;
    }
    watch.tick();
    let begin = Moment::take(engine, common);
    let end_ns = begin.ns + common.duration.as_nanos() as u64;
    match common.count {
        None => engine.measure(begin.ns..end_ns),
        Some(_) => engine.measure(begin.ns..u64::MAX),
    }
    watch.phase("measure-begin");
    if warmup.is_zero() {
        engine.command(Command::Publish { start_ns: clock::now_ns(), limit });
    }
    if common.count.is_some() {
        let total = limit * flow_count;
        let is_done = |stats: &Stats| stats.sent >= total && stats.delivered >= stats.owed;
        watch.wait(common.settle, |stats| stats.sent + stats.delivered, is_done)?;
    } else {
        if common.rate.is_some() {
            engine.command(Command::StopPublishing { at_ns: end_ns });
        }
        watch.sleep_until(end_ns)?;
    }
    let end = Moment::take(engine, common);
    watch.phase("measure-end");
    engine.command(Command::StopPublishing { at_ns: end.ns });
    watch.tick();
    Ok((begin, end))
}
