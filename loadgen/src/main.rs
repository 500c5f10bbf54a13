//! `shardmq-loadgen`: reads the command line, runs the scenario, reports.

use loadgen::args::{Cli, Scenario, Task};
use std::process::ExitCode;

/// The run could not be carried out.
const EXIT_FAILED: u8 = 4;

fn main() -> ExitCode {
    loadgen::interrupt::watch();
    let done = match Cli::read().task {
        Task::Scenario(scenario) => run(&scenario),
        Task::Runner(args) => loadgen::fleet::run_runner(&args).map(|()| 0),
    };
    match done {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("shardmq-loadgen: {error:#}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn run(scenario: &Scenario) -> anyhow::Result<u8> {
    let report = loadgen::scenario::run(scenario)?;
    let common = scenario.common();
    if !common.quiet {
        eprint!("{}", report.summary());
    }
    if let Some(path) = &common.json {
        report.write_json(path)?;
    }
    Ok(report.exit_code())
}
