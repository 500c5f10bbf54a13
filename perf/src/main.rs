//! Measures MQTT brokers on this machine and explains the result; see README.md.

mod args;
mod broker;
mod budget;
mod core_times;
mod cores;
mod diff;
mod floor;
mod host;
mod load;
mod metrics;
mod profile;
mod report;
mod result;
mod runner;
mod scenario;
mod summary;

use std::fs;
use std::io::{self, Write};
use std::net::SocketAddr;
use std::path::Path;
use std::process::ExitCode;
use std::time::{Instant, UNIX_EPOCH};

use anyhow::{Context, bail};
use clap::Parser;

use args::{Cli, Command, RunArgs};
use broker::{Definition, Programs};
use cores::CoreSet;
use load::{Load, Times};
use result::{Report, ScenarioResult};
use runner::Runner;
use scenario::Scenario;

/// A run failed, or a broker did not deliver what it should.
const EXIT_FAULTS: u8 = 5;

fn main() -> ExitCode {
    match carry_out(Cli::parse().command) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("shardmq-perf: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn carry_out(command: Command) -> anyhow::Result<ExitCode> {
    match command {
        Command::Run(args) => return run(&args, &[]),
        Command::Sweep { cores, run: args } => return run(&args, &cores.0),
        Command::Report { result, html } => report::write_html(&Report::read(&result)?, &html)?,
        Command::Diff { before, after, within } => {
            let diff = diff::diff(&Report::read(&before)?, &Report::read(&after)?);
            print(&diff.to_string())?;
            if let Some(percent) = within {
                let costs = diff.costs();
                print(&costs.to_string())?;
                return Ok(ExitCode::from(if costs.are_within(percent / 100.0) { 0 } else { EXIT_FAULTS }));
            }
        }
        Command::List { scenarios } => print(&list(&scenario::read_folder(&scenarios)?))?,
        Command::Install { broker, brokers } => {
            Definition::read(&brokers.join(format!("{broker}.toml")))?.install(&Programs::new()?)?;
        }
        Command::Host => print(&(serde_json::to_string_pretty(&host::Host::read())? + "\n"))?,
        Command::Floor { listen } => serve_floor(listen)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn serve_floor(listen: SocketAddr) -> anyhow::Result<()> {
    raise_file_limit();
    let floor = floor::Floor::bind(listen).with_context(|| format!("listening on {listen}"))?;
    print(&format!("listening on {}\n", floor.address()?))?;
    floor.run().context("epoll")
}

/// A reader that has seen enough (`| head`) is no fault.
fn print(text: &str) -> io::Result<()> {
    let mut out = io::stdout().lock();
    match out.write_all(text.as_bytes()).and_then(|()| out.flush()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => Err(error),
        _ => Ok(()),
    }
}

fn list(scenarios: &[Scenario]) -> String {
    scenarios.iter().map(|scenario| format!("{:28} {}\n", scenario.name, scenario.title)).collect()
}

/// Runs the scenarios, with each number of cores if there are any, and writes result and report.
fn run(args: &RunArgs, core_counts: &[usize]) -> anyhow::Result<ExitCode> {
    let start = Instant::now();
    raise_file_limit();
    let scenarios = chosen_scenarios(args)?;
    let splits = splits(args, core_counts)?;
    let host = host::Host::read();
    // What we do ourselves must not disturb the broker.
    splits[0].1.pin().context("pinning to the cores of the load")?;
    let programs = Programs::new()?;
    let load_generator = Load::version(&programs)?;
    let brokers: Vec<Definition> = args
        .brokers
        .iter()
        .map(|broker| definition(broker, &args.definitions))
        .collect::<anyhow::Result<_>>()?;
    let scratch = std::env::temp_dir().join(format!("shardmq-perf-{}", std::process::id()));
    fs::create_dir_all(&scratch).with_context(|| format!("creating {}", scratch.display()))?;
    fs::create_dir_all(&args.out).with_context(|| format!("creating {}", args.out.display()))?;
    let runner = Runner {
        programs,
        brokers,
        splits,
        rounds: args.rounds,
        rounds_max: args.rounds_max,
        times: Times { seconds: args.seconds, warm_up_s: None },
        perf_obstacle: profile::obstacle(),
        profiled: args.profile.clone(),
        scratch: scratch.clone(),
        on_run: |what| eprintln!("{what}"),
    };
    let mut report = Report {
        schema: result::SCHEMA,
        version: env!("CARGO_PKG_VERSION").into(),
        load_generator,
        command: std::env::args().collect(),
        host,
        brokers: runner.brokers.iter().map(|broker| broker.facts(&runner.programs)).collect(),
        ..Report::default()
    };
    // After each scenario, so that an interruption leaves what there is.
    let ran = runner::run_all(&runner, &scenarios, args.budget, |results| {
        report.created = result::timestamp(UNIX_EPOCH.elapsed().unwrap_or_default().as_secs());
        report.took_s = start.elapsed().as_secs_f64();
        report.results = results.to_vec();
        report.remarks = remarks(&runner, results, scenarios.len());
        report.write(&args.out.join("result.json"))?;
        report::write_html(&report, &args.out.join("report.html"))
    });
    let _ = fs::remove_dir_all(&scratch);
    ran?;
    print(&report::text::text(&report))?;
    eprintln!("{}: {:.0} s", args.out.join("report.html").display(), report.took_s);
    let faults = runner::faults(&report.results);
    faults.iter().for_each(|fault| eprintln!("{fault}"));
    Ok(ExitCode::from(if faults.is_empty() { 0 } else { EXIT_FAULTS }))
}

fn remarks(runner: &Runner, results: &[ScenarioResult], scenario_count: usize) -> Vec<String> {
    let mut remarks: Vec<String> =
        runner.perf_obstacle.iter().map(|why| format!("no system calls, no profiles: {why}")).collect();
    if runner.splits.iter().any(|(broker, load)| broker.overlaps(load)) {
        remarks.push(
            "broker and load shared a core in some runs: there were too few, and those figures are too bad"
                .into(),
        );
    }
    if results.len() < scenario_count {
        remarks.push(format!("not complete: {} of {scenario_count} scenarios", results.len()));
    }
    let cut_short: Vec<String> = results
        .iter()
        .filter(|result| !result.cut_short.is_empty())
        .map(|result| {
            let brokers: Vec<&str> = result.cut_short.iter().map(String::as_str).collect();
            format!("{} ({})", result.scenario.name, brokers.join(", "))
        })
        .collect();
    if !cut_short.is_empty() {
        let what = cut_short.join(", ");
        remarks.push(format!("fewer rounds than were due, for lack of time (--budget): {what}"));
    }
    remarks
}

/// In the order of the report.
fn chosen_scenarios(args: &RunArgs) -> anyhow::Result<Vec<Scenario>> {
    let (files, names): (Vec<&String>, Vec<&String>) =
        args.names.iter().partition(|name| name.ends_with(".toml"));
    let mut chosen: Vec<Scenario> =
        files.iter().map(|file| Scenario::read(Path::new(file))).collect::<anyhow::Result<_>>()?;
    if !names.is_empty() || files.is_empty() {
        let all = scenario::read_folder(&args.scenarios)?;
        if let Some(unknown) =
            names.iter().find(|name| !all.iter().any(|scenario| scenario.name.starts_with(**name)))
        {
            bail!("no scenario is called {unknown}; there are:\n{}", list(&all));
        }
        // A whole name means that scenario only, even if others begin with it.
        let is_whole = |name: &str| all.iter().any(|scenario| scenario.name == name);
        let means = |name: &str, scenario: &Scenario| match is_whole(name) {
            true => scenario.name == name,
            false => scenario.name.starts_with(name),
        };
        let is_chosen =
            |scenario: &&Scenario| names.is_empty() || names.iter().any(|name| means(name, scenario));
        chosen.extend(all.iter().filter(is_chosen).cloned());
    }
    Ok(chosen)
}

fn definition(broker: &str, folder: &Path) -> anyhow::Result<Definition> {
    match broker.contains('=') {
        true => Definition::from_command_line(broker),
        false => Definition::read(&folder.join(format!("{broker}.toml"))),
    }
}

/// Cores of broker and load: as asked for, or one pair for each count of a sweep.
fn splits(args: &RunArgs, core_counts: &[usize]) -> anyhow::Result<Vec<(CoreSet, CoreSet)>> {
    let allowed = CoreSet::allowed()?;
    let pair = |count: usize| {
        let (broker, load) = allowed.split(count);
        (args.broker_cores.clone().unwrap_or(broker), args.load_cores.clone().unwrap_or(load))
    };
    if core_counts.is_empty() {
        return Ok(vec![pair(allowed.count() / 2)]);
    }
    if args.broker_cores.is_some() {
        bail!("a sweep chooses the broker's cores itself: leave --broker-cores out");
    }
    if let Some(count) = core_counts.iter().find(|count| **count > allowed.count()) {
        bail!("{count} cores are asked for, only {allowed} may be used");
    }
    Ok(core_counts.iter().map(|count| pair(*count)).collect())
}

/// Brokers and load generator inherit it. Root may go beyond the hard limit.
fn raise_file_limit() {
    let most = fs::read_to_string("/proc/sys/fs/nr_open").ok().and_then(|text| text.trim().parse().ok());
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointers are to a live value of the right type.
    unsafe {
        if libc::getrlimit(libc::RLIMIT_NOFILE, &raw mut limit) != 0 {
            return;
        }
        let hard = most.unwrap_or(limit.rlim_max).max(limit.rlim_max);
        let raised = libc::rlimit { rlim_cur: hard, rlim_max: hard };
        if libc::setrlimit(libc::RLIMIT_NOFILE, &raw const raised) != 0 {
            limit.rlim_cur = limit.rlim_max;
            libc::setrlimit(libc::RLIMIT_NOFILE, &raw const limit);
        }
    }
}
