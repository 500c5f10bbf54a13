//! The broker's process: reads its arguments and configuration, runs the shards and what is around them, and says by
//! its exit code how it ended.

mod admin;
mod args;
mod bootstrap;
mod check;
mod config;
mod data_dir;
mod health;
mod logging;
mod machine;
mod monitoring;
mod plan;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Parser;

use crate::args::{Arguments, Command, ConfigArguments, ConfigCommand, DefaultsFormat};
use crate::config::Config;
use crate::logging::Logging;

/// Buffers are freed by another core than the one that made them, which the system's allocator makes slow.
#[global_allocator]
static ALLOCATOR: mimalloc::MiMalloc = mimalloc::MiMalloc;

/// The configuration is invalid, or the machine refuses.
const EXIT_CODE_REFUSED: u8 = 3;

fn main() -> ExitCode {
    let command = Arguments::parse().command;
    machine::use_small_pages();
    match command {
        Command::Serve(arguments) => with_config(arguments, serve),
        Command::Check(arguments) => check::run(&arguments),
        Command::Config(ConfigCommand::Check(arguments)) => with_config(arguments, |_| ExitCode::SUCCESS),
        Command::Config(ConfigCommand::Print { arguments, origin }) => {
            with_config(arguments, |config| print(&config::print::in_force(config, origin)))
        }
        Command::Config(ConfigCommand::Defaults { format: DefaultsFormat::Commented }) => {
            print(&config::print::commented())
        }
        Command::Config(ConfigCommand::Defaults { format: DefaultsFormat::Markdown }) => {
            print(&config::print::markdown())
        }
    }
}

fn with_config(arguments: ConfigArguments, work: impl FnOnce(&Config) -> ExitCode) -> ExitCode {
    match config::load(&arguments.sources()) {
        Ok(config) => work(&config),
        Err(faults) => {
            eprintln!("{faults}");
            ExitCode::from(EXIT_CODE_REFUSED)
        }
    }
}

fn serve(config: &Config) -> ExitCode {
    let logging = Logging::start(&config.log);
    match bootstrap::serve(config, &logging) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            tracing::error!("{error}");
            ExitCode::from(error.exit_code())
        }
    }
}

/// A reader that has seen enough (`| head`) is no fault.
fn print(text: &str) -> ExitCode {
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ => ExitCode::SUCCESS,
    }
}
