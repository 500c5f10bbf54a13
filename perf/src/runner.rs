//! Runs scenarios against brokers: rounds in which the brokers take turns, each run with a fresh broker on its cores.

use std::path::PathBuf;
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

use anyhow::{Context, bail};

use crate::broker::{Definition, Programs, Running};
use crate::budget::{Budget, Plan, nominal_s};
use crate::core_times::CoreTimes;
use crate::cores::CoreSet;
use crate::load::{Broker, Load, Output, Times, Watchdog};
use crate::metrics::Metrics;
use crate::profile::{self, Frame};
use crate::result::{Figures, Run, ScenarioResult, Skipped, Verdict};
use crate::scenario::{Measure, Scenario};
use crate::summary::median_gap;

/// Share of the measured time during which system calls are counted or samples taken.
const PROBE_SHARE: f64 = 0.8;
const PROBE_SECONDS: f64 = 2.0;
/// A broker that has not delivered what it took so long after the load has ended is stopped: a queue that an open loop
/// built up can take minutes, and would say no more.
const DRAIN_MAX: Duration = Duration::from_secs(5);
/// Further rounds are run while the rounds of a broker disagree by more than this about its median cost.
const SETTLED_MAX: f64 = 0.03;

pub struct Runner {
    pub programs: Programs,
    pub brokers: Vec<Definition>,
    /// Cores of the broker and of the load, one pair for each step of a sweep.
    pub splits: Vec<(CoreSet, CoreSet)>,
    pub rounds: u32,
    /// Rounds at most, for brokers whose rounds disagree.
    pub rounds_max: u32,
    pub times: Times,
    /// Why `perf` cannot be used; None if it can.
    pub perf_obstacle: Option<String>,
    /// Brokers whose CPU profile is taken.
    pub profiled: Vec<String>,
    /// For files of the load generator and of perf.
    pub scratch: PathBuf,
    /// Told before each run.
    pub on_run: fn(&str),
}

/// What is taken besides the figures. It makes them useless.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Probe {
    None,
    SystemCalls,
    Profile,
}

enum Probed {
    SystemCalls(u64, f64),
    Profile(Frame),
}

/// What was seen from outside at the edges of the measured interval.
#[derive(Default)]
struct Seen {
    metrics: Vec<Metrics>,
    cores: Vec<CoreTimes>,
    /// Watches the broker while it delivers what is left.
    drain: Option<Watchdog>,
    probe: Option<JoinHandle<anyhow::Result<Probed>>>,
}

impl Runner {
    fn run(&self, scenario: &Scenario, budget: &mut Budget, start: Instant) -> ScenarioResult {
        let (cut_short, system_calls, profiles) = Default::default();
        let mut result = ScenarioResult {
            scenario: scenario.clone(),
            runs: vec![],
            skipped: vec![],
            cut_short,
            system_calls,
            profiles,
        };
        let nominal_s = nominal_s(scenario, self.times);
        let mut brokers = Vec::new();
        for broker in &self.brokers {
            match self.obstacle(broker, scenario) {
                None => brokers.push(broker),
                Some(why) => result.skipped.push(Skipped { broker: broker.title.clone(), why }),
            }
        }
        let least = self.rounds.max(scenario.rounds);
        for round in 0..least.max(self.rounds_max) {
            for split in &self.splits {
                for broker in &brokers {
                    let own = runs_of(&result.runs, &broker.title, split);
                    if is_known_to_be_overloaded(&own) || round >= least && is_settled(&own) {
                        continue;
                    }
                    let elapsed_s = start.elapsed().as_secs_f64();
                    let is_in_time = match round {
                        0 => true,
                        round if round < self.rounds => budget.allows_asked(elapsed_s, nominal_s),
                        _ => budget.allows_further(elapsed_s, nominal_s),
                    };
                    if !is_in_time {
                        result.cut_short.insert(broker.title.clone());
                        continue;
                    }
                    (self.on_run)(&format!(
                        "{}: {} on cores {}, round {}",
                        scenario.name,
                        broker.title,
                        split.0,
                        round + 1
                    ));
                    result.runs.push(self.run_once(scenario, broker, split, round));
                    budget.has_run(nominal_s);
                }
            }
        }
        for broker in brokers {
            self.probe(scenario, broker, &mut result);
            budget.has_run(nominal_s * f64::from(self.probes(scenario, broker)));
        }
        result
    }

    /// What is to run of a scenario, as its budget sees it.
    fn plan(&self, scenario: &Scenario) -> Plan {
        let able = self.brokers.iter().filter(|broker| self.obstacle(broker, scenario).is_none());
        let (mut brokers, mut probes) = (0.0, 0);
        for broker in able {
            brokers += 1.0;
            probes += self.probes(scenario, broker);
        }
        let nominal_s = nominal_s(scenario, self.times);
        Plan {
            round_s: nominal_s * brokers * self.splits.len() as f64,
            rounds: self.rounds,
            probes_s: nominal_s * f64::from(probes),
        }
    }

    /// Runs of a broker besides the rounds.
    fn probes(&self, scenario: &Scenario, broker: &Definition) -> u32 {
        let wanted = u32::from(scenario.count_calls) + u32::from(self.profiled.contains(&broker.title));
        if self.perf_obstacle.is_none() { wanted } else { 0 }
    }

    fn obstacle(&self, broker: &Definition, scenario: &Scenario) -> Option<String> {
        if let Some(need) = scenario.unmet(&broker.lacks) {
            return Some(format!("it has no {need}"));
        }
        self.programs.find(&broker.command[0]).err().map(|error| error.to_string())
    }

    fn run_once(
        &self,
        scenario: &Scenario,
        broker: &Definition,
        split: &(CoreSet, CoreSet),
        round: u32,
    ) -> Run {
        let (broker_cores, load_cores) = split;
        let mut run = Run {
            broker: broker.title.clone(),
            round,
            broker_cores: broker_cores.to_string(),
            broker_core_count: broker_cores.count(),
            load_cores: load_cores.to_string(),
            shares_cores: broker_cores.overlaps(load_cores),
            ..Run::default()
        };
        let start = Instant::now();
        if let Err(error) = self.measure(scenario, broker, split, &mut run) {
            run.failure = Some(format!("{error:#}"));
            run.verdict.passed = false;
        }
        run.took_s = start.elapsed().as_secs_f64();
        run
    }

    fn measure(
        &self,
        scenario: &Scenario,
        broker: &Definition,
        split: &(CoreSet, CoreSet),
        run: &mut Run,
    ) -> anyhow::Result<()> {
        let mut running = Running::start(broker, &self.programs, &split.0)?;
        run.broker_command.clone_from(&running.command);
        let load = Load::new(scenario, self.times, &running, &self.programs, &split.1)?;
        run.load_command = load.to_string();
        let (output, mut seen) = self.load(scenario, &load, &running, split, Probe::None);
        let is_overloaded = seen.drain.take().is_some_and(|drain| drain.has_fired());
        if let Some(status) = running.has_ended().filter(|_| !is_overloaded) {
            bail!("the broker ended with {status}: {}", running.log_tail());
        }
        let output = output?;
        run.verdict = output.verdict();
        if is_overloaded {
            let seconds = DRAIN_MAX.as_secs();
            let note =
                format!("overloaded: stopped {seconds} s after the load had ended, with messages under way");
            run.verdict.notes.insert(0, note);
            run.is_overloaded = true;
        }
        run.figures = Some(figures(scenario, &output, &seen)?);
        Ok(())
    }

    fn load(
        &self,
        scenario: &Scenario,
        load: &Load,
        running: &Running,
        split: &(CoreSet, CoreSet),
        probe: Probe,
    ) -> (anyhow::Result<Output>, Seen) {
        let cores: Vec<usize> = split.0.iter().chain(split.1.iter()).collect();
        let begin = format!("{}-begin", scenario.interval());
        let end = format!("{}-end", scenario.interval());
        let mut seen = Seen::default();
        let output = load.run(&self.scratch, |phase| {
            if phase == "drain-begin" {
                seen.drain = Some(Watchdog::start(running.pid(), DRAIN_MAX));
            }
            if phase != begin && phase != end {
                return;
            }
            seen.cores.extend(CoreTimes::of(&cores));
            seen.metrics.extend(running.metrics.as_deref().and_then(|place| Metrics::read(place).ok()));
            if phase == begin && probe != Probe::None {
                seen.probe = Some(self.start_probe(probe, running.pid()));
            }
        });
        (output, seen)
    }

    fn start_probe(&self, probe: Probe, pid: u32) -> JoinHandle<anyhow::Result<Probed>> {
        let scratch = self.scratch.clone();
        let seconds = PROBE_SECONDS * PROBE_SHARE;
        std::thread::spawn(move || match probe {
            Probe::Profile => profile::record(pid, seconds, &scratch).map(Probed::Profile),
            _ => profile::count_system_calls(pid, seconds).map(|calls| Probed::SystemCalls(calls, seconds)),
        })
    }

    /// Runs of their own for system calls and profile, where they are wanted and possible.
    fn probe(&self, scenario: &Scenario, broker: &Definition, result: &mut ScenarioResult) {
        let is_profiled = self.profiled.contains(&broker.title);
        let wanted = [(Probe::SystemCalls, scenario.count_calls), (Probe::Profile, is_profiled)];
        for (probe, _) in wanted.iter().filter(|(_, is_wanted)| *is_wanted && self.perf_obstacle.is_none()) {
            (self.on_run)(&format!("{}: {}: {probe:?}", scenario.name, broker.title));
            match self.probe_once(scenario, broker, *probe) {
                Ok((Probed::SystemCalls(calls, seconds), rate)) if rate > 0.0 => {
                    result.system_calls.insert(broker.title.clone(), calls as f64 / seconds / rate);
                }
                Ok((Probed::Profile(tree), _)) => {
                    result.profiles.insert(broker.title.clone(), tree);
                }
                Ok(_) => {}
                Err(error) => {
                    let why = format!("{probe:?}: {error:#}");
                    result.skipped.push(Skipped { broker: broker.title.clone(), why });
                }
            }
        }
    }

    fn probe_once(
        &self,
        scenario: &Scenario,
        broker: &Definition,
        probe: Probe,
    ) -> anyhow::Result<(Probed, f64)> {
        let split = self.splits.first().context("no cores")?;
        let running = Running::start(broker, &self.programs, &split.0)?;
        let times = Times { seconds: Some(PROBE_SECONDS), ..self.times };
        let load = Load::new(scenario, times, &running, &self.programs, &split.1)?;
        let (output, seen) = self.load(scenario, &load, &running, split, probe);
        let probed = seen.probe.context("the load generator did not come to its measured interval")?;
        let probed = probed.join().map_err(|_| anyhow::anyhow!("the probe's thread panicked"))??;
        Ok((probed, output?.measured.delivered_per_second))
    }
}

fn runs_of<'a>(runs: &'a [Run], broker: &str, split: &(CoreSet, CoreSet)) -> Vec<&'a Run> {
    runs.iter().filter(|run| run.broker == broker && run.broker_core_count == split.0.count()).collect()
}

/// It cannot carry this load, and would say no more in another round.
fn is_known_to_be_overloaded(runs: &[&Run]) -> bool {
    runs.last().is_some_and(|run| run.is_overloaded)
}

/// Two rounds agree on the median cost. What failed in every round will not get better.
fn is_settled(runs: &[&Run]) -> bool {
    let costs: Vec<f64> = runs.iter().filter_map(|run| Some(run.figures.as_ref()?.cost)).collect();
    costs.is_empty() || median_gap(&costs) <= SETTLED_MAX
}

fn figures(scenario: &Scenario, output: &Output, seen: &Seen) -> anyhow::Result<Figures> {
    let mut figures = match &scenario.phase {
        None => measured_figures(output),
        Some(phase) => phase_figures(scenario, phase, output)?,
    };
    if figures.count == 0 {
        bail!("{}", nothing_done(scenario, &figures, &output.verdict()));
    }
    if let [before, after] = &seen.cores[..] {
        figures.steal_share = after.steal_share_since(before);
    }
    if let [before, after] = &seen.metrics[..] {
        figures.shards = after.since(before, figures.seconds);
    }
    Ok(figures)
}

/// Why a run without a single unit in its interval has no figures: a cost of nothing would pass for a very good one.
fn nothing_done(scenario: &Scenario, figures: &Figures, verdict: &Verdict) -> String {
    let what = format!("no {} in the measured {:.1} s", scenario.per, figures.seconds);
    let why: Vec<&str> = verdict.notes.iter().map(String::as_str).collect();
    if why.is_empty() { what } else { format!("{what}; {}", why.join("; ")) }
}

/// Of the messages delivered in the measured interval.
fn measured_figures(output: &Output) -> Figures {
    let measured = &output.measured;
    let broker = output.broker.clone().unwrap_or_default();
    Figures {
        cost: per(broker.cpu_ns, measured.delivered),
        count: measured.delivered,
        rate: measured.delivered_per_second,
        latency: output.latency(),
        load_cost: output.load_cost(),
        series: output.series(),
        connections: output.connect.connections,
        ..broker_figures(&broker, measured.elapsed_ns, measured.delivered)
    }
}

fn phase_figures(scenario: &Scenario, name: &str, output: &Output) -> anyhow::Result<Figures> {
    let phase = output.phase(name)?;
    let broker = phase.broker.clone().unwrap_or_default();
    let cost = match scenario.measure {
        Measure::Cpu => phase.broker_cpu_ns_per_unit,
        Measure::Memory => phase.broker_rss_bytes_per_unit,
    };
    Ok(Figures {
        cost: cost.with_context(|| format!("the load generator told no cost of '{name}'"))?,
        count: phase.count,
        rate: phase.per_second,
        // Other phases deliver what was stored before: that took as long as it was to take.
        latency: if name == "connect" { output.connect_latency() } else { None },
        connections: output.connect.connections,
        ..broker_figures(&broker, phase.elapsed_ns, phase.count)
    })
}

fn broker_figures(broker: &Broker, elapsed_ns: u64, count: u64) -> Figures {
    Figures {
        seconds: elapsed_ns as f64 / 1e9,
        cpu_ns: broker.cpu_ns,
        user_share: share(broker.user_ns, broker.system_ns),
        busy_cores: per(broker.cpu_ns, elapsed_ns),
        switches_per_message: per(broker.voluntary_switches + broker.involuntary_switches, count),
        rss_bytes: broker.rss_end_bytes,
        ..Figures::default()
    }
}

fn per(part: u64, whole: u64) -> f64 {
    if whole == 0 { 0.0 } else { part as f64 / whole as f64 }
}

fn share(user_ns: u64, system_ns: u64) -> Option<f64> {
    // Fewer than ten ticks say nothing.
    (user_ns + system_ns >= 100_000_000).then(|| per(user_ns, user_ns + system_ns))
}

/// Runs all scenarios, in order. `on_results` is given all results so far after each.
pub fn run_all(
    runner: &Runner,
    scenarios: &[Scenario],
    limit: Duration,
    mut on_results: impl FnMut(&[ScenarioResult]) -> anyhow::Result<()>,
) -> anyhow::Result<Vec<ScenarioResult>> {
    let start = Instant::now();
    let mut budget = Budget::new(limit, scenarios.iter().map(|scenario| runner.plan(scenario)));
    let mut results = Vec::new();
    for (index, scenario) in scenarios.iter().enumerate() {
        (runner.on_run)(&format!(
            "[{}/{}, {:.0} s] {}",
            index + 1,
            scenarios.len(),
            start.elapsed().as_secs_f64(),
            scenario.title
        ));
        budget.begin_scenario();
        results.push(runner.run(scenario, &mut budget, start));
        on_results(&results)?;
    }
    Ok(results)
}

/// What was wrong in these results: scenario, broker, what.
pub fn faults(results: &[ScenarioResult]) -> Vec<String> {
    let describe = |verdict: &Verdict| {
        let counted = verdict.faults().into_iter().filter(|(_, count)| *count > 0);
        let mut parts: Vec<String> = counted.map(|(what, count)| format!("{count} {what}")).collect();
        parts.extend(verdict.notes.iter().cloned());
        parts.join(", ")
    };
    let mut faults = Vec::new();
    for result in results {
        for run in &result.runs {
            let what = match &run.failure {
                Some(failure) => format!("failed: {failure}"),
                None if run.verdict.passed => continue,
                None => describe(&run.verdict),
            };
            faults.push(format!("{}: {}, round {}: {what}", result.scenario.name, run.broker, run.round + 1));
        }
    }
    faults
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::tests::result;

    /// A load generator's result with so many messages or units in its interval.
    fn output(count: u64) -> Output {
        let json = format!(
            r#"{{"measured": {{"elapsed_ns": 3000000000, "delivered": {count}}}, "first_error": "late",
                "phases": [{{"name": "store", "count": {count}, "broker_cpu_ns_per_unit": 0.0}}]}}"#
        );
        Output::parse(&json).unwrap()
    }

    #[test]
    fn an_interval_without_a_delivery_has_no_figures_but_a_reason() {
        let mut scenario = result("fan-in", vec![]).scenario;
        let error = figures(&scenario, &output(0), &Seen::default()).unwrap_err().to_string();
        assert_eq!(error, "no delivered message in the measured 3.0 s; first error: late");
        assert_eq!(figures(&scenario, &output(6), &Seen::default()).unwrap().count, 6);

        scenario.phase = Some("store".into());
        assert!(figures(&scenario, &output(0), &Seen::default()).is_err());
    }
}
