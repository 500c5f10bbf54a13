//! A scenario file: which load is put on a broker, what of it is measured, and what others have published for it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

/// What a broker must be able to do for a scenario. A broker's definition names what it lacks.
pub const NEEDS: [&str; 2] = ["retained", "sessions"];

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The file's name without its ending.
    #[serde(skip_deserializing)]
    pub name: String,
    pub title: String,
    /// Heading of the report under which it stands.
    pub group: String,
    /// Order within the report.
    pub order: u32,
    /// What happens, in a sentence or two.
    pub about: String,
    /// Arguments of the load generator without the broker's address.
    pub load: String,
    /// Measured time and what precedes it, for loads that run for a time.
    pub seconds: Option<f64>,
    #[serde(default = "half_a_second")]
    pub warm_up_s: f64,
    /// Count the broker's system calls in a run of its own.
    #[serde(default)]
    pub count_calls: bool,
    /// MQTT version: 3, 4 or 5.
    #[serde(default = "version_4")]
    pub version: u8,
    pub measure: Measure,
    #[serde(default)]
    pub needs: Vec<String>,
    /// How it differs from the test that it stands for, if a small machine cannot hold that one.
    pub scaled: Option<String>,
    /// What we want to reach, in the unit of `measure`.
    pub target: Option<f64>,
    #[serde(default)]
    pub published: Vec<Published>,
}

fn version_4() -> u8 {
    4
}

fn half_a_second() -> f64 {
    0.5
}

/// The cost that is compared between brokers.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// CPU nanoseconds for each delivered message.
    Delivered,
    /// CPU nanoseconds for each connection that is set up.
    Connect,
    /// Bytes of resident memory for each connection.
    Memory,
    /// CPU nanoseconds for each message that is stored for later.
    Stored,
}

impl Measure {
    pub fn unit(self) -> &'static str {
        match self {
            Measure::Delivered => "CPU ns per delivered message",
            Measure::Connect => "CPU ns per connect",
            Measure::Memory => "bytes of memory per connection",
            Measure::Stored => "CPU ns per stored message",
        }
    }
}

/// A published result of the test that the scenario stands for.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Published {
    pub who: String,
    pub machine: String,
    pub source: String,
    /// Messages delivered, or connections, each second.
    pub rate: Option<f64>,
    pub latency_mean_ms: Option<f64>,
    pub latency_p50_ms: Option<f64>,
    pub latency_p95_ms: Option<f64>,
    pub latency_p99_ms: Option<f64>,
    /// Cores that were busy.
    pub busy_cores: Option<f64>,
    pub memory_mib: Option<f64>,
    pub note: Option<String>,
}

impl Scenario {
    pub fn read(path: &Path) -> anyhow::Result<Scenario> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let mut scenario: Scenario = toml::from_str(&text).with_context(|| path.display().to_string())?;
        scenario.name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        scenario.validate().with_context(|| path.display().to_string())?;
        Ok(scenario)
    }

    fn validate(&self) -> anyhow::Result<()> {
        if !matches!(self.version, 3..=5) {
            bail!("version is {}, must be 3, 4 or 5", self.version);
        }
        if let Some(unknown) = self.needs.iter().find(|need| !NEEDS.contains(&need.as_str())) {
            bail!("needs '{unknown}', known are {}", NEEDS.join(", "));
        }
        if self.load.split_whitespace().next().is_none() {
            bail!("load is empty");
        }
        Ok(())
    }

    /// What of its needs is among what a broker lacks.
    pub fn unmet<'a>(&'a self, lacks: &[String]) -> Option<&'a str> {
        self.needs.iter().find(|need| lacks.contains(need)).map(String::as_str)
    }
}

/// The scenarios of a folder, in the order of the report.
pub fn read_folder(folder: &Path) -> anyhow::Result<Vec<Scenario>> {
    let entries = fs::read_dir(folder).with_context(|| format!("reading {}", folder.display()))?;
    let paths: Vec<PathBuf> = entries.map(|entry| Ok(entry?.path())).collect::<std::io::Result<_>>()?;
    let is_scenario = |path: &&PathBuf| path.extension().is_some_and(|extension| extension == "toml");
    let mut scenarios: Vec<Scenario> =
        paths.iter().filter(is_scenario).map(|path| Scenario::read(path)).collect::<anyhow::Result<_>>()?;
    scenarios.sort_by(|a, b| (a.order, &a.name).cmp(&(b.order, &b.name)));
    Ok(scenarios)
}
