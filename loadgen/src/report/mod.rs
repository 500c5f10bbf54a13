//! The result of a run: what is written as JSON and as text. `README.md` documents every field.

pub mod hlog;
pub mod progress;
pub mod series;
pub mod text;

use crate::engine::Stats;
use crate::fleet::ClockReport;
use crate::latency::Percentiles;
use crate::process::{BrokerReport, ratio};
use serde::Serialize;
use series::Second;
use std::io::Write;

/// Version of the JSON; grows when a field changes its meaning or goes.
pub const SCHEMA: u32 = 1;

#[derive(Clone, Debug, Serialize)]
pub struct Report {
    pub schema: u32,
    pub tool: &'static str,
    pub version: &'static str,
    pub command: Vec<String>,
    pub started_unix_ms: u64,
    pub scenario: crate::args::Scenario,
    pub clients: u64,
    pub flows: u64,
    pub connect: ConnectReport,
    pub measured: Measured,
    /// Of scenarios that measure more than one thing.
    pub phases: Vec<PhaseReport>,
    /// Counters of the whole run.
    pub totals: Stats,
    pub latency_ns: Percentiles,
    pub ack_latency_ns: Percentiles,
    pub verdict: Verdict,
    pub generator: GeneratorReport,
    /// Of runners, if there are several processes.
    pub clocks: Vec<ClockReport>,
    /// The verdict passed and the load generator was not the limit.
    pub is_valid: bool,
    pub broker: Option<BrokerReport>,
    pub first_error: Option<String>,
    /// The summary line of TBMQ's tool, for its scenario.
    pub tbmq: Option<String>,
    pub series: Vec<Second>,
}

#[derive(Clone, Debug, Default, Serialize)]
pub struct ConnectReport {
    pub connections: u64,
    pub elapsed_ns: u64,
    pub per_second: f64,
    /// From the time when it was due to CONNACK, or SUBACK where there is a subscription.
    pub latency_ns: Percentiles,
}

/// One interval of a scenario and what it cost per unit.
#[derive(Clone, Debug, Serialize)]
pub struct PhaseReport {
    pub name: &'static str,
    /// What is counted.
    pub unit: &'static str,
    pub count: u64,
    pub begin_ns: u64,
    pub end_ns: u64,
    pub elapsed_ns: u64,
    pub per_second: f64,
    pub broker_cpu_ns_per_unit: Option<f64>,
    /// Growth of the resident set.
    pub broker_rss_bytes_per_unit: Option<f64>,
    pub broker: Option<BrokerReport>,
}

/// What happened in the measured interval.
#[derive(Clone, Debug, Serialize)]
pub struct Measured {
    /// Nanoseconds of the monotonic clock.
    pub begin_ns: u64,
    pub end_ns: u64,
    pub elapsed_ns: u64,
    pub sent: u64,
    pub acked: u64,
    pub delivered: u64,
    pub sent_per_second: f64,
    pub acked_per_second: f64,
    pub delivered_per_second: f64,
    pub bytes_sent: u64,
    pub bytes_received: u64,
}

impl Measured {
    pub fn new(begin_ns: u64, end_ns: u64, stats: &Stats) -> Measured {
        let elapsed_ns = end_ns - begin_ns;
        let per_second = |count: u64| ratio(count, elapsed_ns) * 1e9;
        Measured {
            begin_ns,
            end_ns,
            elapsed_ns,
            sent: stats.sent,
            acked: stats.acked,
            delivered: stats.delivered,
            sent_per_second: per_second(stats.sent),
            acked_per_second: per_second(stats.acked),
            delivered_per_second: per_second(stats.delivered),
            bytes_sent: stats.bytes_sent,
            bytes_received: stats.bytes_received,
        }
    }
}

/// What went wrong, over the whole run. All 0: passed.
#[derive(Clone, Debug, Serialize)]
pub struct Verdict {
    pub passed: bool,
    /// At which messages are delivered: the lower of publisher and subscription.
    pub qos: u8,
    pub lost: u64,
    pub duplicated: u64,
    pub out_of_order: u64,
    pub foreign: u64,
    pub corrupt: u64,
    pub wrong_qos: u64,
    pub unacknowledged: u64,
    pub wrong_retain: u64,
    pub sessions_lost: u64,
    pub refused: u64,
    pub protocol_errors: u64,
    pub connect_failed: u64,
    pub disconnected: u64,
    /// Of the messages of the flow that lost most. Points at one bad client among many good ones.
    pub lost_max_of_one_flow: u64,
}

#[derive(Clone, Debug, Serialize)]
pub struct GeneratorReport {
    pub threads: u64,
    pub cpu_ns: u64,
    pub cpu_ns_per_delivered: f64,
    /// Share of a core that each thread used, 0 to 1.
    pub utilisation: Vec<f64>,
    /// Messages sent more than 1 ms after they were due although the broker was not in the way.
    pub late: u64,
    pub stalls: u64,
    pub is_limit: bool,
    pub why: Option<String>,
}

/// Prints a line for the program that started us. It may have closed its end, which is no reason to stop.
pub fn print_line(line: &str) {
    let mut out = std::io::stdout().lock();
    let _ = writeln!(out, "{line}").and_then(|()| out.flush());
}

impl Report {
    /// 0 all well, 1 a verdict failed, 3 the load generator was the limit.
    pub fn exit_code(&self) -> u8 {
        match (self.verdict.passed, self.generator.is_limit) {
            (false, _) => 1,
            (true, true) => 3,
            (true, false) => 0,
        }
    }

    pub fn write_json(&self, path: &std::path::Path) -> std::io::Result<()> {
        if path.as_os_str() == "-" {
            print_line(&serde_json::to_string(self)?);
            return Ok(());
        }
        std::fs::write(path, serde_json::to_string_pretty(self)? + "\n")
    }
}
