//! A result file: everything that was measured, with all that is needed to measure it again. JSON on disk.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

pub use loadgen::latency::Percentiles as Latency;

use crate::broker::BrokerFacts;
use crate::host::Host;
use crate::scenario::Scenario;

/// Raised when a reader of older files would go wrong.
pub const SCHEMA: u32 = 1;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Report {
    pub schema: u32,
    /// UTC, as in `2026-11-25T01:00:00Z`.
    pub created: String,
    pub took_s: f64,
    pub version: String,
    pub load_generator: String,
    /// The command line that made it.
    pub command: Vec<String>,
    pub host: Host,
    pub brokers: Vec<BrokerFacts>,
    pub results: Vec<ScenarioResult>,
    /// What could not be measured on this machine, and why.
    pub remarks: Vec<String>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct ScenarioResult {
    pub scenario: Scenario,
    /// In the order in which they ran.
    pub runs: Vec<Run>,
    pub skipped: Vec<Skipped>,
    /// Brokers that would have had more rounds, had there been time.
    #[serde(default)]
    pub cut_short: BTreeSet<String>,
    /// System calls of the broker for each message, by broker; counted in a run of its own.
    #[serde(default)]
    pub system_calls: BTreeMap<String, f64>,
    /// CPU profiles, by broker; taken in a run of its own.
    #[serde(default)]
    pub profiles: BTreeMap<String, crate::profile::Frame>,
}

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
pub struct Skipped {
    pub broker: String,
    pub why: String,
}

/// One broker under one load, once.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Run {
    pub broker: String,
    /// From 0.
    pub round: u32,
    pub broker_cores: String,
    pub broker_core_count: usize,
    pub load_cores: String,
    /// Broker and load had a core in common, so the figures are too bad.
    pub shares_cores: bool,
    pub broker_command: String,
    pub load_command: String,
    /// With the start and the end of the broker.
    #[serde(default)]
    pub took_s: f64,
    /// None if the run failed.
    pub figures: Option<Figures>,
    pub failure: Option<String>,
    /// The broker could not carry the load: it was stopped with messages under way.
    #[serde(default)]
    pub is_overloaded: bool,
    pub verdict: Verdict,
}

/// What was measured while the load ran, warm-up excluded.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Figures {
    /// In the unit of the scenario's cost.
    pub cost: f64,
    pub seconds: f64,
    /// Messages delivered, or connections set up.
    pub count: u64,
    /// Of `count`, each second.
    pub rate: f64,
    pub cpu_ns: u64,
    /// Share of user time in the broker's CPU time, 0 to 1.
    pub user_share: Option<f64>,
    /// Cores that the broker kept busy.
    pub busy_cores: f64,
    pub switches_per_message: f64,
    pub rss_bytes: u64,
    pub connections: u64,
    /// From when a message was due to when it arrived.
    pub latency: Option<Latency>,
    /// CPU nanoseconds of the load generator for each message.
    #[serde(default)]
    pub load_cost: f64,
    pub series: Vec<Second>,
    pub shards: Vec<Shard>,
    /// Share of the time that the hypervisor took from the cores in use, 0 to 1.
    pub steal_share: f64,
}

/// One second of a run.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Second {
    /// Since the load began.
    pub at_s: f64,
    pub received: u64,
    pub p50_ns: u64,
    pub p99_ns: u64,
}

/// What one shard of the broker did, from its metrics.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Shard {
    pub shard: u32,
    /// Share of the time that its loop was busy, 0 to 1.
    pub utilization: Option<f64>,
    pub values: BTreeMap<String, f64>,
}

/// What the load generator says about the deliveries.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Verdict {
    /// Nothing was wrong with what the broker delivered. False also for a run that failed.
    pub passed: bool,
    pub lost: u64,
    pub duplicated: u64,
    pub reordered: u64,
    pub foreign: u64,
    /// The load generator was the limit, or could not keep its times: the figures say little about the broker.
    pub load_limited: bool,
    pub notes: Vec<String>,
}

impl Verdict {
    pub fn faults(&self) -> [(&'static str, u64); 4] {
        [
            ("lost", self.lost),
            ("duplicated", self.duplicated),
            ("out of order", self.reordered),
            ("foreign", self.foreign),
        ]
    }
}

impl Report {
    pub fn read(path: &Path) -> anyhow::Result<Report> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let report: Report =
            serde_json::from_str(&text).with_context(|| format!("{} is no result", path.display()))?;
        if report.schema != SCHEMA {
            bail!("{} has schema {}, this program reads {SCHEMA}", path.display(), report.schema);
        }
        Ok(report)
    }

    pub fn write(&self, path: &Path) -> anyhow::Result<()> {
        let text = serde_json::to_string_pretty(self)?;
        replace(path, &text)
    }
}

/// Writes a file whole: who reads it meanwhile, or is left with it after an interruption, has the old or the new one.
pub fn replace(path: &Path, text: &str) -> anyhow::Result<()> {
    let new = path.with_extension("new");
    fs::write(&new, text).with_context(|| format!("writing {}", new.display()))?;
    fs::rename(&new, path).with_context(|| format!("replacing {}", path.display()))
}

/// Now, in UTC, to the second.
pub fn timestamp(unix_s: u64) -> String {
    let (days, second) = (unix_s / 86_400, unix_s % 86_400);
    // Days since 0000-03-01 make a year end with its leap day.
    let shifted = days + 719_468;
    let (era, day_of_era) = (shifted / 146_097, shifted % 146_097);
    let year_of_era = (day_of_era - day_of_era / 1460 + day_of_era / 36_524 - day_of_era / 146_096) / 365;
    let day_of_year = day_of_era - (365 * year_of_era + year_of_era / 4 - year_of_era / 100);
    let month_from_march = (5 * day_of_year + 2) / 153;
    let day = day_of_year - (153 * month_from_march + 2) / 5 + 1;
    let month = if month_from_march < 10 { month_from_march + 3 } else { month_from_march - 9 };
    let year = year_of_era + era * 400 + u64::from(month <= 2);
    format!("{year:04}-{month:02}-{day:02}T{:02}:{:02}:{:02}Z", second / 3600, second / 60 % 60, second % 60)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timestamps_are_calendar_dates() {
        for (unix_s, text) in [
            (0, "1970-01-01T00:00:00Z"),
            (951_782_400, "2000-02-29T00:00:00Z"),
            (1_795_566_896, "2026-11-25T00:34:56Z"),
            (4_107_542_399, "2100-02-28T23:59:59Z"),
        ] {
            assert_eq!(timestamp(unix_s), text);
        }
    }

    #[test]
    fn a_file_of_another_schema_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("r.json");
        Report { schema: SCHEMA, ..Report::default() }.write(&path).unwrap();
        assert_eq!(Report::read(&path).unwrap().schema, SCHEMA);
        Report { schema: 99, ..Report::default() }.write(&path).unwrap();
        assert!(Report::read(&path).unwrap_err().to_string().contains("schema 99"));
    }
}
