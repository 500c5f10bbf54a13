//! What every scenario does with its plan: start, connect, take moments, fence, and report.

use super::watch::{self, Watch};
use super::{setup, verdict};
use crate::args::{Common, Scenario};
use crate::clock;
use crate::engine::{Command, Stats};
use crate::generator::{Finished, Generator};
use crate::interrupt;
use crate::latency::Percentiles;
use crate::plan::{Plan, Role};
use crate::process::{BrokerReport, Usage, ratio};
use crate::report::progress::Progress;
use crate::report::{ConnectReport, Measured, PhaseReport, Report, SCHEMA};
use anyhow::{Result, bail};
use std::time::Duration;

/// A broker that sets up no connection for so long is not going to.
const CONNECT_PATIENCE: Duration = Duration::from_secs(30);

/// All that is taken at one moment.
pub struct Moment {
    pub ns: u64,
    pub stats: Stats,
    cpu_ns: Vec<u64>,
    broker: Usage,
}

/// An interval that was measured.
pub struct Span {
    pub begin: Moment,
    pub end: Moment,
}

impl Span {
    fn stats(&self) -> Stats {
        self.end.stats.since(&self.begin.stats)
    }

    pub fn elapsed_ns(&self) -> u64 {
        self.end.ns - self.begin.ns
    }

    fn broker(&self, common: &Common, delivered: u64) -> Option<BrokerReport> {
        let pids = &common.broker_pid;
        let report =
            || BrokerReport::new(pids, &self.begin.broker, &self.end.broker, self.elapsed_ns(), delivered);
        (!pids.is_empty()).then(report)
    }
}

/// A scenario that runs.
pub struct Run<'a> {
    pub scenario: &'a Scenario,
    pub common: &'a Common,
    pub generator: Generator,
    pub watch: Watch,
    started_unix_ms: u64,
    connect_ns: u64,
    phases: Vec<PhaseReport>,
}

impl<'a> Run<'a> {
    pub fn start(scenario: &'a Scenario, plan: Plan) -> Result<Run<'a>> {
        let common = scenario.common();
        let watch = Watch::new(Progress::new(common.quiet), common.hlog.as_deref())?;
        let generator = Generator::start(scenario, plan, setup::connect_limits(common))?;
        Ok(Run {
            scenario,
            common,
            generator,
            watch,
            started_unix_ms: clock::unix_ms(),
            connect_ns: 0,
            phases: vec![],
        })
    }

    pub fn count_of(&self, role: Role) -> u64 {
        self.generator.plan().clients.iter().filter(|client| client.role == role).count() as u64
    }

    /// Connects all clients with this role that are not connected; fails if one cannot.
    pub fn connect(&mut self, role: Role) -> Result<()> {
        let count = self.count_of(role);
        let (missing, error) = self.try_connect(Command::Connect(role), count)?;
        if missing > 0 {
            bail!("{missing} of {count} connections were not set up: {error}");
        }
        Ok(())
    }

    /// Removes the sessions of these clients that an earlier run may have left.
    pub fn wipe(&mut self, role: Role) -> Result<()> {
        self.try_connect(Command::Wipe(role), self.count_of(role))?;
        self.generator.command(Command::Disconnect(role));
        Ok(())
    }

    /// Gives a command that begins `count` connections, and waits for them. Returns how many were not set up, and
    /// why the first was not.
    pub fn try_connect(&mut self, command: Command, count: u64) -> Result<(u64, String)> {
        let (before, begin) = (self.generator.stats(), clock::now_ns());
        self.generator.command(command);
        let over = move |stats: &Stats| stats.ready + stats.connect_failed;
        let is_over = move |stats: &Stats| {
            over(stats).saturating_sub(over(&before)) >= count || interrupt::is_interrupted()
        };
        self.watch.wait(&self.generator, CONNECT_PATIENCE, over, is_over)?;
        self.connect_ns += clock::now_ns() - begin;
        let error = self.generator.first_error().unwrap_or_else(|| "no answer".into());
        Ok((count - self.generator.stats().since(&before).ready.min(count), error))
    }

    /// Waits until the broker has handled all that these clients sent: an answer to PINGREQ comes behind it.
    pub fn fence(&mut self, role: Role) -> Result<()> {
        let count = self.count_of(role);
        let before = self.generator.stats().fenced;
        self.generator.command(Command::Fence(role));
        let progress = |stats: &Stats| stats.fenced + stats.bytes_sent;
        let is_done = move |stats: &Stats| stats.fenced.saturating_sub(before) >= count;
        if !self.watch.wait(&self.generator, CONNECT_PATIENCE, progress, is_done)? {
            let error = self.generator.first_error().map_or(String::new(), |error| format!(": {error}"));
            bail!("the broker does not answer PINGREQ{error}");
        }
        Ok(())
    }

    /// Waits until `is_done`, or nothing was delivered or acknowledged for `--settle`. Tells whether it is done.
    pub fn settle(&mut self, is_done: impl Fn(&Stats) -> bool) -> Result<bool> {
        let progress = |stats: &Stats| stats.delivered + stats.acked + stats.duplicated + stats.redelivered;
        self.watch.wait(&self.generator, self.common.settle, progress, is_done)
    }

    pub fn moment(&self) -> Moment {
        let broker = Usage::of(&self.common.broker_pid);
        let (stats, cpu_ns) = (self.generator.stats(), self.generator.cpu_ns());
        Moment { ns: clock::now_ns(), stats, cpu_ns, broker }
    }

    /// Begins a measured interval that is called `name`.
    pub fn begin(&mut self, name: &str) -> Moment {
        self.watch.tick(&self.generator);
        let moment = self.moment();
        self.watch.phase(&format!("{name}-begin"));
        moment
    }

    /// Ends it.
    pub fn end(&mut self, name: &str, begin: Moment) -> Span {
        let span = Span { begin, end: self.moment() };
        self.watch.phase(&format!("{name}-end"));
        self.watch.tick(&self.generator);
        span
    }

    /// Reports an interval as what it cost per `unit`, of which there were `count`.
    pub fn report_phase(&mut self, name: &'static str, unit: &'static str, count: u64, span: &Span) {
        let broker = span.broker(self.common, count);
        let grown = |broker: &BrokerReport| broker.rss_end_bytes as f64 - broker.rss_begin_bytes as f64;
        self.phases.push(PhaseReport {
            name,
            unit,
            count,
            begin_ns: span.begin.ns,
            end_ns: span.end.ns,
            elapsed_ns: span.elapsed_ns(),
            per_second: ratio(count, span.elapsed_ns()) * 1e9,
            broker_cpu_ns_per_unit: broker.as_ref().map(|broker| ratio(broker.cpu_ns, count)),
            broker_rss_bytes_per_unit: broker.as_ref().map(|broker| grown(broker) / count.max(1) as f64),
            broker,
        });
    }

    /// Ends the run. `span` is the interval that the figures are of.
    pub fn report(self, span: &Span) -> Result<Report> {
        let Run { scenario, common, generator, watch, .. } = self;
        let mut series = watch.into_series();
        let first_error = generator.first_error();
        let totals = generator.stats();
        let Finished { plan, mut ended, lost, clocks } = generator.finish()?;
        watch::add_rest(&mut series, std::mem::take(&mut ended.intervals))?;
        let measured = span.stats();
        let cpu_ns = span.end.cpu_ns.iter().zip(&span.begin.cpu_ns).map(|(end, begin)| end - begin);
        let verdict = verdict::verdict(&plan, &totals, &lost, ended.unacked.len() as u64);
        let generator = verdict::generator(&cpu_ns.collect::<Vec<_>>(), span.elapsed_ns(), &measured);
        Ok(Report {
            schema: SCHEMA,
            tool: env!("CARGO_PKG_NAME"),
            version: env!("CARGO_PKG_VERSION"),
            command: std::env::args().collect(),
            started_unix_ms: self.started_unix_ms,
            scenario: scenario.clone(),
            clients: plan.clients.len() as u64,
            flows: plan.flows.len() as u64,
            connect: ConnectReport {
                connections: totals.ready,
                elapsed_ns: self.connect_ns,
                per_second: ratio(totals.ready, self.connect_ns) * 1e9,
                latency_ns: Percentiles::of(&ended.connect_latency),
            },
            measured: Measured::new(span.begin.ns, span.end.ns, &measured),
            phases: self.phases,
            totals,
            latency_ns: Percentiles::of(&series.total),
            ack_latency_ns: Percentiles::of(&ended.ack_latency),
            is_valid: verdict.passed && !generator.is_limit,
            verdict,
            generator,
            clocks,
            broker: span.broker(common, measured.delivered),
            first_error,
            tbmq: None,
            series: series.seconds,
        })
    }
}
