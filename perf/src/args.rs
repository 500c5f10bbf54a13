//! The command line.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

use clap::{Args, Parser, Subcommand};

use crate::cores::CoreSet;
use crate::scenario;

#[derive(Debug, Parser)]
#[command(
    name = "shardmq-perf",
    version,
    about = "Measures MQTT brokers and explains the result",
    after_help = "Exit code: 0 all well, 1 error, 2 usage, 5 a run failed or a broker did not deliver what it should."
)]
pub struct Cli {
    #[command(subcommand)]
    pub command: Command,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run scenarios and write result.json and report.html
    Run(RunArgs),
    /// Run scenarios with one core for the broker, then with more, and plot the figures against the cores
    Sweep {
        /// Numbers of cores, such as 1..4 or 1,2,8
        #[arg(long, value_parser = parse_counts)]
        cores: Counts,
        #[command(flatten)]
        run: RunArgs,
    },
    /// Make the HTML report of a result again
    Report {
        result: PathBuf,
        #[arg(long, default_value = "report.html")]
        html: PathBuf,
    },
    /// Say what changed from one result to another beyond noise
    Diff {
        before: PathBuf,
        after: PathBuf,
        /// Also list the cost of every scenario and broker, and end with 5 if one differs by more than so many per cent
        #[arg(long, value_name = "PERCENT")]
        within: Option<f64>,
    },
    /// List the scenarios
    List {
        #[arg(long, default_value = "perf/scenarios")]
        scenarios: PathBuf,
    },
    /// Install a broker as its definition says
    Install {
        broker: String,
        #[arg(long, default_value = "perf/brokers")]
        brokers: PathBuf,
    },
    /// Tell what a result would keep of this machine
    Host,
    /// Serve as the floor broker: the least work that forwards messages, the limit to compare brokers with
    Floor {
        /// Address to listen on; port 0 takes a free one. The first line printed tells it
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
}

#[derive(Clone, Debug, Args)]
pub struct RunArgs {
    /// Names of scenarios, beginnings of names, or files; none: all
    pub names: Vec<String>,
    /// Brokers in the order of their turns: names of definitions, or NAME=COMMAND LINE with {port}
    #[arg(long = "broker", default_values = ["floor", "shardmq", "mosquitto", "rumqttd"])]
    pub brokers: Vec<String>,
    /// Rounds in which the brokers take turns
    #[arg(long, default_value_t = 2, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds: u32,
    /// Further rounds, up to so many in all, for brokers whose rounds disagree by more than 3 % in cost
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=100))]
    pub rounds_max: u32,
    /// Minutes for everything: rounds after the first are left out where the end would lie beyond
    #[arg(long, value_name = "MINUTES", default_value = "18", value_parser = parse_minutes)]
    pub budget: Duration,
    /// Measured seconds of each run, instead of the scenario's
    #[arg(long, value_parser = parse_seconds)]
    pub seconds: Option<f64>,
    /// Cores of the broker, such as 0 or 0-3 [default: the first half of the allowed ones]
    #[arg(long)]
    pub broker_cores: Option<CoreSet>,
    /// Cores of the load [default: those that the broker leaves]
    #[arg(long)]
    pub load_cores: Option<CoreSet>,
    /// Also take a CPU profile of this broker, as a flame graph
    #[arg(long)]
    pub profile: Vec<String>,
    /// Folder for result.json and report.html
    #[arg(long, default_value = "perf/out")]
    pub out: PathBuf,
    /// Folder of the scenarios
    #[arg(long, default_value = "perf/scenarios")]
    pub scenarios: PathBuf,
    /// Folder of the brokers' definitions
    #[arg(long, default_value = "perf/brokers")]
    pub definitions: PathBuf,
}

fn parse_minutes(text: &str) -> Result<Duration, String> {
    let minutes = text.parse::<f64>().map_err(|error| error.to_string())?;
    Duration::try_from_secs_f64(minutes * 60.0).map_err(|error| error.to_string())
}

fn parse_seconds(text: &str) -> Result<f64, String> {
    let seconds = text.parse::<f64>().map_err(|error| error.to_string())?;
    let known = scenario::SECONDS;
    match known.contains(&seconds) {
        true => Ok(seconds),
        false => Err(format!("must be {} to {}", known.start(), known.end())),
    }
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Counts(pub Vec<usize>);

fn parse_counts(text: &str) -> Result<Counts, String> {
    let bad = || format!("'{text}' is not 1..4 or 1,2,8");
    let number = |text: &str| text.trim().parse::<usize>().ok().filter(|count| *count > 0).ok_or_else(bad);
    let counts = match text.split_once("..") {
        Some((first, last)) => (number(first)?..=number(last)?).collect(),
        None => text.split(',').map(number).collect::<Result<Vec<usize>, _>>()?,
    };
    if counts.is_empty() { Err(bad()) } else { Ok(Counts(counts)) }
}

#[cfg(test)]
mod tests {
    use clap::CommandFactory;

    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }

    #[test]
    fn times_that_are_none_are_refused() {
        assert_eq!(parse_minutes("1.5"), Ok(Duration::from_secs(90)));
        assert_eq!(parse_seconds("0.5"), Ok(0.5));
        for text in ["-1", "NaN", "inf", "x"] {
            assert!(parse_minutes(text).is_err() && parse_seconds(text).is_err(), "{text}");
        }
    }

    #[test]
    fn core_counts() {
        assert_eq!(parse_counts("1..3"), Ok(Counts(vec![1, 2, 3])));
        assert_eq!(parse_counts("1,4"), Ok(Counts(vec![1, 4])));
        for text in ["", "0", "3..1", "1..x"] {
            assert!(parse_counts(text).is_err(), "{text}");
        }
    }
}
