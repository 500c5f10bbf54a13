//! `shardmq-loadgen`: reads the command line, runs the scenario, reports.

use loadgen::args::Cli;
use std::process::ExitCode;

/// The run could not be carried out.
const EXIT_FAILED: u8 = 4;

fn main() -> ExitCode {
    let cli = Cli::read();
    match run(&cli) {
        Ok(code) => ExitCode::from(code),
        Err(error) => {
            eprintln!("shardmq-loadgen: {error:#}");
            ExitCode::from(EXIT_FAILED)
        }
    }
}

fn run(cli: &Cli) -> anyhow::Result<u8> {
    let report = loadgen::scenario::run(&cli.scenario)?;
    let common = cli.scenario.common();
    if !common.quiet {
        eprint!("{}", report.summary());
    }
    if let Some(path) = &common.json {
        report.write_json(path)?;
    }
    Ok(report.exit_code())
}
