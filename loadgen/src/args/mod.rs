//! The command line.

mod common;
mod emqtt;
mod scenarios;
mod tbmq;
mod values;

pub use common::Common;
pub use emqtt::{Action, Emqtt};
pub use scenarios::{Conn, FanIn, FanOut, HookAt, Offline, P2p, Persistence, Retained, Share, Wildcard};
pub use tbmq::Tbmq;
pub use values::{Addresses, Cpus, Mqtt, parse_duration};

use crate::payload::COMPACT_LEN;
use crate::tbmq::{Environment, Part};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{Args, CommandFactory, FromArgMatches, Parser, Subcommand};
use serde::{Deserialize, Serialize};
use std::ffi::OsString;
use std::net::{SocketAddr, ToSocketAddrs};
use std::time::Duration;
use values::{parse_addresses, parse_cpus};

#[derive(Debug, Parser)]
#[command(name = "shardmq-loadgen", version, about = "MQTT load generator: every delivery is checked")]
#[command(
    after_help = "Exit code: 0 all well, 1 a verdict failed, 2 usage, 3 the load generator was the limit, \
                        4 the run could not be carried out."
)]
pub struct Cli {
    #[command(subcommand)]
    pub task: Task,
}

#[derive(Clone, Debug, Subcommand)]
#[allow(clippy::large_enum_variant, reason = "there is one")]
pub enum Task {
    #[command(flatten)]
    Scenario(Scenario),
    /// Does what an orchestrator says
    Runner(RunnerArgs),
}

#[derive(Clone, Debug, Args)]
pub struct RunnerArgs {
    /// Address of the orchestrator
    #[arg(long)]
    pub orchestrator: SocketAddr,
    /// CPUs to bind the workers to, in turn, on this machine
    #[arg(long, value_parser = parse_cpus)]
    pub cpus: Option<Cpus>,
    /// Source addresses of this machine
    #[arg(long, visible_alias = "ifaddr", value_parser = parse_addresses)]
    pub source: Option<Addresses>,
    /// Give up when the orchestrator is not there for so long
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    pub patience: Duration,
    /// Be this one of the runners, from 0 [default: in the order in which they come]
    #[arg(long)]
    pub index: Option<usize>,
}

impl RunnerArgs {
    fn of_part(part: &Part, tbmq: &Tbmq) -> clap::error::Result<RunnerArgs> {
        let place = (part.orchestrator_host.as_str(), part.orchestrator_port);
        let mut addresses = place.to_socket_addrs().map_err(|error| {
            usage_error(format!("TEST_RUN_TEST_ORCHESTRATOR_URL: cannot resolve {}: {error}", place.0))
        })?;
        let missing = || usage_error(format!("TEST_RUN_TEST_ORCHESTRATOR_URL: {} has no address", place.0));
        Ok(RunnerArgs {
            orchestrator: addresses.find(SocketAddr::is_ipv4).ok_or_else(missing)?,
            cpus: tbmq.common.cpus.clone(),
            source: tbmq.common.source.clone(),
            patience: part.patience,
            index: Some(part.number.into()),
        })
    }
}

impl Cli {
    /// Reads the command line and what the scenario takes from elsewhere. Ends the process if it is not valid.
    pub fn read() -> Cli {
        Cli::parse_from(std::env::args_os()).unwrap_or_else(|error| error.exit())
    }

    /// The same from any arguments, the first of which is the program's name.
    pub fn parse_from(
        arguments: impl IntoIterator<Item = impl Into<OsString> + Clone>,
    ) -> clap::error::Result<Cli> {
        let matches = Cli::command().try_get_matches_from(arguments)?;
        let mut cli = Cli::from_arg_matches(&matches)?;
        let Some((_, given)) = matches.subcommand() else { return Ok(cli) };
        let is_given = |name: &str| given.value_source(name) == Some(ValueSource::CommandLine);
        match &mut cli.task {
            Task::Scenario(Scenario::Tbmq(tbmq)) => {
                let environment = Environment::read(|name| std::env::var(name).ok()).map_err(usage_error)?;
                match environment.part.as_ref().filter(|part| part.number > 0) {
                    // The first process has the file, and tells the others.
                    Some(part) => cli.task = Task::Runner(RunnerArgs::of_part(part, tbmq)?),
                    None => tbmq.complete(&environment, is_given).map_err(usage_error)?,
                }
            }
            Task::Scenario(Scenario::Emqtt(emqtt)) => emqtt.complete(is_given).map_err(usage_error)?,
            Task::Scenario(scenario) if (scenario.common().size as usize) < COMPACT_LEN => {
                let size = scenario.common().size;
                return Err(usage_error(format!(
                    "a payload of {size} bytes cannot say whose it is: at least {COMPACT_LEN} are needed"
                )));
            }
            _ => {}
        }
        Ok(cli)
    }
}

fn usage_error(error: impl std::fmt::Display) -> clap::Error {
    Cli::command().error(ErrorKind::ValueValidation, error)
}

#[derive(Clone, Debug, Subcommand, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case", tag = "name")]
pub enum Scenario {
    /// Pairs of one publisher and one subscriber, each with a topic of its own
    #[command(disable_help_flag = true)]
    P2p(P2p),
    /// Every subscriber gets the messages of all publishers
    #[command(disable_help_flag = true)]
    FanOut(FanOut),
    /// Many publishers with a topic each, few subscribers that get all through one wildcard filter
    #[command(disable_help_flag = true)]
    FanIn(FanIn),
    /// Many publishers, one $share group of subscribers
    #[command(disable_help_flag = true)]
    Share(Share),
    /// 1000 wildcard filters of four shapes over topics of five levels
    #[command(disable_help_flag = true)]
    Wildcard(Wildcard),
    /// Connections: set up at a rate, then held idle
    #[command(disable_help_flag = true)]
    Conn(Conn),
    /// Many retained messages, stored and then delivered to who subscribes later
    #[command(disable_help_flag = true)]
    Retained(Retained),
    /// Messages queued for sessions that are away, perhaps through a crash, and drained
    #[command(disable_help_flag = true)]
    Offline(Offline),
    /// A run file of TBMQ's performance tests, unchanged; also its environment variables
    #[command(disable_help_flag = true)]
    Tbmq(Tbmq),
    /// The load and the letters of emqtt-bench: publishers, subscribers or connections, each by itself
    #[command(disable_help_flag = true)]
    Emqtt(Emqtt),
}

/// A `tbmq` command line without options.
#[cfg(test)]
pub fn test_tbmq() -> Tbmq {
    match <Cli as Parser>::parse_from(["shardmq-loadgen", "tbmq"]).task {
        Task::Scenario(Scenario::Tbmq(tbmq)) => tbmq,
        other => panic!("{other:?}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn options_win_over_variables_and_these_over_the_file() {
        let lookup = |name: &str| (name == "MQTT_PORT").then(|| "1999".to_string());
        let environment = Environment::read(lookup).unwrap();
        let mut tbmq = test_tbmq();
        tbmq.complete(&environment, |_| false).unwrap();
        assert_eq!((tbmq.common.port, tbmq.common.keep_alive), (1999, 600));
        assert_eq!((tbmq.common.rate, tbmq.common.duration), (Some(100.0), Duration::from_secs(30)));
        let mut tbmq = test_tbmq();
        tbmq.complete(&environment, |name| name == "port" || name == "duration").unwrap();
        assert_eq!((tbmq.common.port, tbmq.common.duration), (1883, Duration::from_secs(10)));
    }
}
