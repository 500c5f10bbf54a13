//! Runs the load generator against a broker: its arguments, the phases that it tells on the way, and the JSON that it
//! leaves.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::Deserialize;

use crate::broker::{Programs, Running, pin_child};
use crate::cores::CoreSet;
use crate::result::{Latency, Second, Verdict};
use crate::scenario::Scenario;

const PROGRAM: &str = "shardmq-loadgen";
/// Beyond the time that it was told to run: connecting, settling, and a broker that is slow at both.
const PATIENCE: Duration = Duration::from_secs(180);
const KEEP_ALIVE_SECS: u16 = 300;
/// Bytes of its messages that are told when it fails.
const ERROR_TAIL_BYTES: usize = 600;

/// A run of the load generator, as its command line.
pub struct Load {
    program: PathBuf,
    arguments: Vec<String>,
    cores: CoreSet,
    time_max: Duration,
}

/// Times of a scenario, changed by the command line.
#[derive(Clone, Copy, Debug, Default)]
pub struct Times {
    pub seconds: Option<f64>,
    pub warm_up_s: Option<f64>,
}

impl Load {
    pub fn new(
        scenario: &Scenario,
        times: Times,
        broker: &Running,
        programs: &Programs,
        cores: &CoreSet,
    ) -> anyhow::Result<Load> {
        let address = if scenario.version == 5 { broker.address_v5 } else { broker.address };
        let arguments = arguments(scenario, times, address, broker.pid(), cores);
        let seconds = scenario.seconds.map_or(0.0, |seconds| times.seconds.unwrap_or(seconds));
        let time_max = PATIENCE + Duration::from_secs_f64(2.0 * seconds);
        Ok(Load { program: programs.find(PROGRAM)?, arguments, cores: cores.clone(), time_max })
    }

    /// Runs it. `on_phase` is called when it tells a phase, such as `measure-begin`, before it goes on much further.
    pub fn run(&self, scratch: &Path, mut on_phase: impl FnMut(&str)) -> anyhow::Result<Output> {
        let (json, errors) = (scratch.join("load.json"), scratch.join("load.err"));
        let _ = fs::remove_file(&json);
        let mut command = Command::new(&self.program);
        command.args(&self.arguments).arg("--quiet").arg("--json").arg(&json);
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(fs::File::create(&errors)?);
        pin_child(&mut command, &self.cores);
        let mut process =
            Guard(command.spawn().with_context(|| format!("starting {}", self.program.display()))?);
        let watchdog = Watchdog::start(process.0.id(), self.time_max);
        let stdout = process.0.stdout.take().context("its output is piped")?;
        for line in BufReader::new(stdout).lines() {
            if let Ok(Phase { phase }) = serde_json::from_str(&line?) {
                on_phase(&phase);
            }
        }
        let status = process.0.wait()?;
        if watchdog.has_fired() {
            bail!("the load generator did not end within {} s", self.time_max.as_secs());
        }
        let Ok(text) = fs::read_to_string(&json) else {
            bail!("the load generator ended with {status}: {}", tail(&errors));
        };
        Output::parse(&text)
            .with_context(|| format!("the load generator ended with {status}: {}", tail(&errors)))
    }

    pub fn version(programs: &Programs) -> anyhow::Result<String> {
        let program = programs.find(PROGRAM)?;
        crate::host::first_line_of(&program, &["--version"])
            .with_context(|| format!("{} says no version", program.display()))
    }
}

/// The scenario's own arguments and those of this run.
fn arguments(
    scenario: &Scenario,
    times: Times,
    address: SocketAddr,
    pid: u32,
    cores: &CoreSet,
) -> Vec<String> {
    let mut arguments: Vec<String> = scenario.load.split_whitespace().map(str::to_owned).collect();
    let mut add = |name: &str, value: String| arguments.extend([name.to_owned(), value]);
    add("--host", address.ip().to_string());
    add("--port", address.port().to_string());
    add("--mqtt", scenario.version.to_string());
    // Some brokers refuse clients without; no scenario is long enough for a PINGREQ.
    add("--keep-alive", KEEP_ALIVE_SECS.to_string());
    add("--threads", cores.count().to_string());
    add("--cpus", cores.to_string());
    add("--broker-pid", pid.to_string());
    if let Some(seconds) = scenario.seconds {
        add("--duration", format!("{}s", times.seconds.unwrap_or(seconds)));
        add("--warmup", format!("{}s", times.warm_up_s.unwrap_or(scenario.warm_up_s)));
    }
    arguments
}

/// What is wrong with the load of a scenario, as the load generator's own parser sees it.
pub fn check_arguments(scenario: &Scenario) -> Result<loadgen::args::Scenario, String> {
    let (address, cores) = (SocketAddr::from(([127, 0, 0, 1], 1883)), CoreSet::first());
    let arguments = arguments(scenario, Times::default(), address, 1, &cores);
    let arguments = std::iter::once(PROGRAM.to_owned()).chain(arguments);
    match loadgen::args::Cli::parse_from(arguments) {
        Ok(loadgen::args::Cli { task: loadgen::args::Task::Scenario(load) }) => Ok(load),
        Ok(_) => Err("a runner is no load".into()),
        Err(error) => {
            let text = error.to_string();
            let text = text.split("\n\nUsage:").next().unwrap_or_default().trim_start_matches("error: ");
            Err(text.split_whitespace().collect::<Vec<_>>().join(" "))
        }
    }
}

impl std::fmt::Display for Load {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "taskset -c {} {} {}", self.cores, self.program.display(), self.arguments.join(" "))
    }
}

fn tail(path: &Path) -> String {
    let mut text = String::new();
    if let Ok(mut file) = fs::File::open(path) {
        let _ = file.read_to_string(&mut text);
    }
    let text = text.trim();
    let start = text.char_indices().rev().take(ERROR_TAIL_BYTES).last().map_or(0, |(at, _)| at);
    text[start..].to_owned()
}

/// Ends the process if we do not get to wait for it.
struct Guard(Child);

impl Drop for Guard {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// Kills a process that takes too long. The process must not be waited for before this is dropped.
pub struct Watchdog {
    is_over: Arc<AtomicBool>,
    has_fired: Arc<AtomicBool>,
    thread: Option<std::thread::JoinHandle<()>>,
}

impl Watchdog {
    pub fn start(pid: u32, limit: Duration) -> Watchdog {
        let (is_over, has_fired) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
        let flags = (is_over.clone(), has_fired.clone());
        let thread = std::thread::spawn(move || {
            let end = Instant::now() + limit;
            while !flags.0.load(Ordering::Relaxed) {
                let left = end.saturating_duration_since(Instant::now());
                if left.is_zero() {
                    flags.1.store(true, Ordering::Relaxed);
                    // SAFETY: the process is not waited for before `is_over` is set, so the number is still its own.
                    unsafe { libc::kill(pid as libc::pid_t, libc::SIGKILL) };
                    return;
                }
                std::thread::park_timeout(left);
            }
        });
        Watchdog { is_over, has_fired, thread: Some(thread) }
    }

    pub fn has_fired(&self) -> bool {
        self.has_fired.load(Ordering::Relaxed)
    }
}

impl Drop for Watchdog {
    fn drop(&mut self) {
        self.is_over.store(true, Ordering::Relaxed);
        if let Some(thread) = self.thread.take() {
            thread.thread().unpark();
            let _ = thread.join();
        }
    }
}

#[derive(Deserialize)]
struct Phase {
    phase: String,
}

/// What we use of the load generator's JSON; `loadgen/README.md` has all of it.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Output {
    pub connect: Connect,
    pub measured: Measured,
    phases: Vec<PhaseFigures>,
    latency_ns: Latency,
    verdict: LoadVerdict,
    generator: Generator,
    pub broker: Option<Broker>,
    first_error: Option<String>,
    series: Vec<LoadSecond>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Connect {
    pub connections: u64,
    latency_ns: Latency,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Measured {
    begin_ns: u64,
    pub elapsed_ns: u64,
    pub delivered: u64,
    pub delivered_per_second: f64,
}

/// An interval of a scenario that measures more than one thing.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct PhaseFigures {
    name: String,
    pub count: u64,
    pub elapsed_ns: u64,
    pub per_second: f64,
    pub broker_cpu_ns_per_unit: Option<f64>,
    pub broker_rss_bytes_per_unit: Option<f64>,
    pub broker: Option<Broker>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Broker {
    pub cpu_ns: u64,
    pub user_ns: u64,
    pub system_ns: u64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
    pub rss_end_bytes: u64,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct LoadVerdict {
    passed: bool,
    lost: u64,
    duplicated: u64,
    out_of_order: u64,
    foreign: u64,
    #[serde(flatten)]
    others: std::collections::BTreeMap<String, serde_json::Value>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct Generator {
    cpu_ns_per_delivered: f64,
    is_limit: bool,
    why: Option<String>,
}

#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
struct LoadSecond {
    monotonic_ns: u64,
    elapsed_ns: u64,
    delivered: u64,
    latency_ns: Latency,
}

/// Counters of the verdict that say how the run was, rather than what was wrong.
const NOT_FAULTS: [&str; 2] = ["qos", "lost_max_of_one_flow"];

impl Output {
    pub fn parse(json: &str) -> anyhow::Result<Output> {
        let output: Output = serde_json::from_str(json).context("reading the load generator's result")?;
        match output.measured.elapsed_ns {
            0 => bail!("the load generator measured nothing"),
            _ => Ok(output),
        }
    }

    pub fn phase(&self, name: &str) -> anyhow::Result<&PhaseFigures> {
        let found = self.phases.iter().find(|phase| phase.name == name);
        found.with_context(|| format!("the load generator told no phase '{name}'"))
    }

    /// Everything that was wrong; what has no counter of its own in our verdict becomes a note.
    pub fn verdict(&self) -> Verdict {
        let verdict = &self.verdict;
        let counters = verdict.others.iter().filter(|(name, _)| !NOT_FAULTS.contains(&name.as_str()));
        let wrong =
            counters.filter_map(|(name, value)| Some((name, value.as_u64().filter(|count| *count > 0)?)));
        let mut notes: Vec<String> =
            wrong.map(|(name, count)| format!("{}: {count}", name.replace('_', " "))).collect();
        notes.extend(self.first_error.iter().map(|error| format!("first error: {error}")));
        notes.extend(self.generator.why.iter().map(|why| format!("load generator: {why}")));
        Verdict {
            passed: verdict.passed,
            lost: verdict.lost,
            duplicated: verdict.duplicated,
            reordered: verdict.out_of_order,
            foreign: verdict.foreign,
            load_limited: self.generator.is_limit,
            notes,
        }
    }

    pub fn latency(&self) -> Option<Latency> {
        some(&self.latency_ns)
    }

    /// CPU nanoseconds of the load generator for each delivered message.
    pub fn load_cost(&self) -> f64 {
        self.generator.cpu_ns_per_delivered
    }

    pub fn connect_latency(&self) -> Option<Latency> {
        some(&self.connect.latency_ns)
    }

    /// The seconds that lie within the measured interval. Parts of a second at its ends are left out.
    pub fn series(&self) -> Vec<Second> {
        let begin = self.measured.begin_ns;
        let end = begin + self.measured.elapsed_ns;
        let start_of = |second: &LoadSecond| second.monotonic_ns.saturating_sub(second.elapsed_ns);
        // The tick that begins the interval is taken a moment before it.
        let slack = 50_000_000;
        let is_within = |second: &&LoadSecond| {
            start_of(second) + slack >= begin
                && second.monotonic_ns <= end + slack
                && second.elapsed_ns > 4 * slack
        };
        let per_second = |second: &LoadSecond| second.delivered as f64 * 1e9 / second.elapsed_ns as f64;
        self.series
            .iter()
            .filter(is_within)
            .map(|second| Second {
                at_s: second.monotonic_ns.saturating_sub(begin) as f64 / 1e9,
                received: per_second(second) as u64,
                p50_ns: second.latency_ns.p50,
                p99_ns: second.latency_ns.p99,
            })
            .collect()
    }
}

fn some(latency: &Latency) -> Option<Latency> {
    (latency.count > 0).then_some(*latency)
}

#[cfg(test)]
mod tests {
    use super::*;

    const JSON: &str = r#"{
        "schema": 1, "unknown": {"to": "us"},
        "connect": {"connections": 200, "per_second": 9000.5, "latency_ns": {"count": 200, "p50": 7}},
        "phases": [{"name": "store", "count": 4, "broker_cpu_ns_per_unit": 2.5}],
        "measured": {"begin_ns": 1000000000, "elapsed_ns": 2000000000, "delivered": 50, "delivered_per_second": 25.0},
        "latency_ns": {"count": 50, "mean": 12, "p50": 10, "p99": 30, "max": 40},
        "verdict": {"passed": false, "qos": 1, "lost": 2, "duplicated": 1, "out_of_order": 3, "foreign": 0,
                    "corrupt": 4, "unacknowledged": 0, "lost_max_of_one_flow": 2},
        "generator": {"is_limit": true, "why": "a thread was busy 95 % of the time"},
        "broker": {"cpu_ns": 5000, "user_ns": 1, "system_ns": 3, "rss_end_bytes": 99},
        "first_error": null,
        "series": [
            {"monotonic_ns": 1000000000, "elapsed_ns": 900000000, "delivered": 1},
            {"monotonic_ns": 2000000000, "elapsed_ns": 1000000000, "delivered": 20, "latency_ns": {"count": 20, "p50": 9}},
            {"monotonic_ns": 3000000000, "elapsed_ns": 1000000000, "delivered": 30},
            {"monotonic_ns": 4000000000, "elapsed_ns": 1000000000, "delivered": 5}]}"#;

    #[test]
    fn faults_come_over_with_all_their_counters() {
        let verdict = Output::parse(JSON).unwrap().verdict();
        assert_eq!(
            (verdict.lost, verdict.duplicated, verdict.reordered, verdict.passed, verdict.load_limited),
            (2, 1, 3, false, true)
        );
        assert_eq!(verdict.notes, ["corrupt: 4", "load generator: a thread was busy 95 % of the time"]);
    }

    #[test]
    fn the_series_is_that_of_the_measured_interval() {
        let output = Output::parse(JSON).unwrap();
        let series = output.series();
        assert_eq!(
            series.iter().map(|second| (second.at_s, second.received)).collect::<Vec<_>>(),
            [(1.0, 20), (2.0, 30)]
        );
        assert_eq!((series[0].p50_ns, output.latency().unwrap().p99), (9, 30));
        assert_eq!(output.connect_latency().unwrap().p50, 7);
        assert_eq!(output.phase("store").unwrap().broker_cpu_ns_per_unit, Some(2.5));
        assert!(output.phase("other").unwrap_err().to_string().contains("'other'"));
    }

    #[test]
    fn a_result_without_a_measurement_is_refused() {
        assert!(Output::parse("{}").is_err());
        assert!(Output::parse("no json").is_err());
    }

    #[test]
    fn a_watchdog_ends_what_takes_too_long() {
        let mut process = Command::new("sleep").arg("60").spawn().unwrap();
        let watchdog = Watchdog::start(process.id(), Duration::from_millis(20));
        assert!(!process.wait().unwrap().success());
        assert!(watchdog.has_fired());
    }
}
