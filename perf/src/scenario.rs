//! A scenario file: which load is put on a broker, what of it is measured, and what others have published for it.

use std::fs;
use std::path::{Path, PathBuf};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

/// Measured time of a run.
pub const SECONDS: std::ops::RangeInclusive<f64> = 0.1..=86_400.0;
/// What a broker must be able to do for a scenario. A broker's definition names what it lacks.
pub const NEEDS: [&str; 2] = ["retained", "sessions"];

#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Scenario {
    /// The file's name without its ending; not in the file itself.
    #[serde(default)]
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
    /// Rounds at least, where the measured part is so short that one round says little.
    #[serde(default)]
    pub rounds: u32,
    /// Count the broker's system calls in a run of its own.
    #[serde(default)]
    pub count_calls: bool,
    /// MQTT version: 3, 4 or 5.
    #[serde(default = "version_4")]
    pub version: u8,
    #[serde(default)]
    pub measure: Measure,
    /// The load generator's phase whose cost it is; none: of each delivered message in the measured interval.
    pub phase: Option<String>,
    /// What the cost is of, such as `connect`.
    #[serde(default = "delivered_message")]
    pub per: String,
    #[serde(default)]
    pub needs: Vec<String>,
    /// How it differs from the test that it stands for, if a small machine cannot hold that one.
    pub scaled: Option<String>,
    /// What we want to reach, in the unit of the cost.
    pub target: Option<f64>,
    #[serde(default)]
    pub published: Vec<Published>,
}

fn version_4() -> u8 {
    4
}

fn delivered_message() -> String {
    "delivered message".into()
}

fn half_a_second() -> f64 {
    0.5
}

/// The cost that is compared between brokers.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Measure {
    /// CPU nanoseconds.
    #[default]
    Cpu,
    /// Bytes of resident memory.
    Memory,
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
        if let Err(Mistake { key, what }) = scenario.validate() {
            bail!("{}:{}: {key}: {what}", path.display(), line_of(&text, key));
        }
        scenario.name = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        Ok(scenario)
    }

    fn validate(&self) -> Result<(), Mistake> {
        let mistake = |key, what: String| Err(Mistake { key, what });
        if !self.name.is_empty() {
            return mistake("name", format!("the scenario is called after its file, not '{}'", self.name));
        }
        if !matches!(self.version, 3..=5) {
            return mistake("version", format!("{}, must be 3, 4 or 5", self.version));
        }
        if let Some(unknown) = self.needs.iter().find(|need| !NEEDS.contains(&need.as_str())) {
            return mistake("needs", format!("'{unknown}', known are {}", NEEDS.join(", ")));
        }
        if let Some(seconds) = self.seconds.filter(|seconds| !SECONDS.contains(seconds)) {
            return mistake(
                "seconds",
                format!("{seconds}, must be {} to {}", SECONDS.start(), SECONDS.end()),
            );
        }
        if !(0.0..=*SECONDS.end()).contains(&self.warm_up_s) {
            return mistake("warm_up_s", format!("{}, must be 0 to {}", self.warm_up_s, SECONDS.end()));
        }
        let load = match crate::load::check_arguments(self) {
            Ok(load) => load,
            Err(what) => return mistake("load", what),
        };
        match self.phase.as_deref() {
            Some(phase) if !load.phases().contains(&phase) => {
                let known = load.phases().join(", ");
                let known = if known.is_empty() { "it has none" } else { &known };
                mistake("phase", format!("{} has no phase '{phase}': {known}", load.name()))
            }
            _ => Ok(()),
        }
    }

    /// The unit of the cost.
    pub fn unit(&self) -> String {
        match self.measure {
            Measure::Cpu => format!("CPU ns per {}", self.per),
            Measure::Memory => format!("bytes of memory per {}", self.per),
        }
    }

    /// The interval of the load generator in which the cost arises, as its phase lines call it.
    pub fn interval(&self) -> &str {
        match self.phase.as_deref() {
            None | Some("deliver" | "drain") => "measure",
            Some(phase) => phase,
        }
    }

    /// What of its needs is among what a broker lacks.
    pub fn unmet<'a>(&'a self, lacks: &[String]) -> Option<&'a str> {
        self.needs.iter().find(|need| lacks.contains(need)).map(String::as_str)
    }
}

/// What is wrong with the value of a key.
struct Mistake {
    key: &'static str,
    what: String,
}

/// The line on which a key stands, from 1; 1 if it is not there.
fn line_of(text: &str, key: &str) -> usize {
    let is_key = |line: &str| {
        line.trim_start().strip_prefix(key).is_some_and(|rest| rest.trim_start().starts_with('='))
    };
    text.lines().position(is_key).map_or(1, |at| at + 1)
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

#[cfg(test)]
mod tests {
    use super::*;

    fn shipped() -> Vec<Scenario> {
        read_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")).unwrap()
    }

    #[test]
    fn the_shipped_scenarios_are_valid_and_in_order() {
        let scenarios = shipped();
        assert!(scenarios.len() >= 20);
        assert_eq!(scenarios[0].name, "p2p-q0");
        for scenario in &scenarios {
            assert_eq!(scenario.seconds.is_none(), scenario.phase.is_some(), "{}", scenario.name);
            assert!(scenario.about.ends_with('.'), "{}", scenario.name);
            let is_far_from_published = scenario.group != "Base set";
            assert_eq!(is_far_from_published, !scenario.published.is_empty(), "{}", scenario.name);
        }
        let mut orders: Vec<_> = scenarios.iter().map(|scenario| scenario.order).collect();
        orders.dedup();
        assert_eq!(orders.len(), scenarios.len());
    }

    #[test]
    fn mistakes_in_a_file_are_told() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("bad.toml");
        let good = "title = 't'\ngroup = 'g'\norder = 1\nabout = 'a'\nload = 'p2p'\n";
        fs::write(&path, good).unwrap();
        let scenario = Scenario::read(&path).unwrap();
        assert_eq!(
            (scenario.name.as_str(), scenario.unit().as_str()),
            ("bad", "CPU ns per delivered message")
        );
        assert_eq!(scenario.unmet(&["sessions".into()]), None);
        for (line, told) in [
            ("version = 6", "bad.toml:6: version: 6, must be"),
            ("needs = ['magic']", "bad.toml:6: needs: 'magic'"),
            ("seconds = 0", "bad.toml:6: seconds: 0, must be"),
            ("warm_up_s = -1", "bad.toml:6: warm_up_s: -1, must be"),
            ("phase = 'store'", "bad.toml:6: phase: p2p has no phase 'store': it has none"),
            ("name = 'x'", "bad.toml:6: name: the scenario is called after its file"),
            ("laod = 'x'", "unknown field `laod`"),
            ("seconds = 'x'", "line 6"),
        ] {
            fs::write(&path, format!("{good}{line}\n")).unwrap();
            let error = format!("{:#}", Scenario::read(&path).unwrap_err());
            assert!(error.contains(told) && error.contains("bad.toml"), "{error}");
        }
        for (load, told) in [
            ("", "bad.toml:5: load: "),
            ("p2q", "unrecognized subcommand 'p2q'"),
            (
                "p2p --paris 3",
                "unexpected argument '--paris' found tip: a similar argument exists: '--pairs'",
            ),
            ("p2p --size 3", "bad.toml:5: load: a payload of 3 bytes"),
            // What the run sets itself.
            ("p2p --port 1883", "'--port <PORT>' cannot be used multiple times"),
            ("runner --orchestrator 127.0.0.1:1", "bad.toml:5: load: "),
        ] {
            fs::write(&path, good.replace("'p2p'", &format!("'{load}'"))).unwrap();
            let error = format!("{:#}", Scenario::read(&path).unwrap_err());
            assert!(error.contains(told), "{error}");
        }
    }
}
