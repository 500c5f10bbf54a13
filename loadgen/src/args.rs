//! The command line.

use crate::tbmq::{Environment, InvalidFile, RunFile};
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgAction, Args, CommandFactory, FromArgMatches, Parser, Subcommand, ValueEnum};
use protocol::{QoS, Version};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::time::Duration;

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
}

impl Cli {
    /// Reads the command line and what the scenario takes from elsewhere. Ends the process if it is not valid.
    pub fn read() -> Cli {
        let matches = Cli::command().get_matches();
        let mut cli = Cli::from_arg_matches(&matches).unwrap_or_else(|error| error.exit());
        if let (Task::Scenario(Scenario::Tbmq(tbmq)), Some((_, given))) =
            (&mut cli.task, matches.subcommand())
        {
            let is_given = |name: &str| given.value_source(name) == Some(ValueSource::CommandLine);
            let environment = Environment::read(|name| std::env::var(name).ok());
            let environment = environment.unwrap_or_else(|error| usage_error(&error));
            tbmq.complete(&environment, is_given).unwrap_or_else(|error| usage_error(&error));
        }
        cli
    }
}

fn usage_error(error: &dyn std::error::Error) -> ! {
    Cli::command().error(ErrorKind::ValueValidation, error).exit()
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
}

#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub struct P2p {
    /// Pairs of publisher and subscriber
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub pairs: u32,
    #[command(flatten)]
    #[serde(flatten)]
    pub common: Common,
}

#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub struct FanOut {
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub publishers: u32,
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub subscribers: u32,
    #[command(flatten)]
    #[serde(flatten)]
    pub common: Common,
}

#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub struct FanIn {
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub publishers: u32,
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub subscribers: u32,
    #[command(flatten)]
    #[serde(flatten)]
    pub common: Common,
}

#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub struct Share {
    #[arg(long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..))]
    pub publishers: u32,
    /// Members of the group
    #[arg(long, default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..))]
    pub members: u32,
    #[command(flatten)]
    #[serde(flatten)]
    pub common: Common,
}

#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub struct Wildcard {
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..=100_000))]
    pub publishers: u32,
    /// Topics of each publisher
    #[arg(long, default_value_t = 4, value_parser = clap::value_parser!(u32).range(1..=1000))]
    pub topics: u32,
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u32).range(1..))]
    pub subscribers: u32,
    #[command(flatten)]
    #[serde(flatten)]
    pub common: Common,
}

#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub struct Conn {
    #[arg(short = 'c', long, default_value_t = 10_000, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub connections: u32,
    /// Hold them for so long
    #[arg(long, default_value = "5s", value_parser = parse_duration)]
    #[serde(with = "seconds")]
    pub hold: Duration,
    /// Ask the broker to keep the sessions
    #[arg(long)]
    pub keep_session: bool,
    #[command(flatten)]
    #[serde(flatten)]
    pub common: Common,
}

#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub struct Retained {
    /// Topics, each with one message
    #[arg(long, default_value_t = 100_000, value_parser = clap::value_parser!(u32).range(1..=100_000_000))]
    pub topics: u32,
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub publishers: u32,
    /// Each gets all through one wildcard filter
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u32).range(1..))]
    pub subscribers: u32,
    /// Leave the messages at the broker
    #[arg(long)]
    pub keep: bool,
    #[command(flatten)]
    #[serde(flatten)]
    pub common: Common,
}

#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub struct Offline {
    /// Persistent sessions, each with a topic of its own
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub sessions: u32,
    /// For each session
    #[arg(long, default_value_t = 1000, value_parser = clap::value_parser!(u64).range(1..))]
    pub messages: u64,
    #[arg(long, default_value_t = 10, value_parser = clap::value_parser!(u32).range(1..))]
    pub publishers: u32,
    /// Command line that restarts or crashes the broker; it is over when the broker is to be back
    #[arg(long)]
    pub hook: Option<String>,
    /// When to run it
    #[arg(long, value_enum, default_value = "queued")]
    pub hook_at: HookAt,
    /// For the hook and until the broker accepts connections
    #[arg(long, default_value = "60s", value_parser = parse_duration)]
    #[serde(with = "seconds")]
    pub hook_timeout: Duration,
    #[command(flatten)]
    #[serde(flatten)]
    pub common: Common,
}

/// Options that are given win over the environment variables of TBMQ's tool, and these over the file.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub struct Tbmq {
    /// Run file [default: TEST_RUN_CONFIGURATION_FILE, or pairs as TEST_RUN_DEFAULT_* say]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    pub common: Common,
    #[arg(skip)]
    pub run_file: Option<RunFile>,
}

impl Tbmq {
    /// Takes the environment and the file where no option is given. `is_given` tells which are.
    fn complete(
        &mut self,
        environment: &Environment,
        is_given: impl Fn(&str) -> bool,
    ) -> Result<(), InvalidFile> {
        let common = &mut self.common;
        self.file = self.file.take().or_else(|| environment.file.clone());
        let file = match &self.file {
            Some(path) => RunFile::read(path)?,
            None => environment.default_file.0.clone(),
        };
        file.check()?;
        if let (Some(hosts), false) = (&environment.hosts, is_given("host")) {
            common.host = hosts.clone();
        }
        if let (Some(port), false) = (environment.port, is_given("port")) {
            common.port = port;
        }
        if !is_given("keep_alive") {
            common.keep_alive = environment.keep_alive_secs.unwrap_or(600);
        }
        if let (Some(sources), None) = (&environment.sources, &common.source) {
            common.source = Some(parse_addresses(sources).map_err(InvalidFile::Inconsistent)?);
        }
        if !is_given("mqtt") {
            common.mqtt = Mqtt::V5;
        }
        if !is_given("qos") {
            common.qos = file.publisher_qos_value;
        }
        common.sub_qos.get_or_insert(file.subscriber_qos_value);
        if !is_given("size") {
            common.size = file.payload_bytes();
        }
        common.rate.get_or_insert(file.rate());
        if !is_given("duration") {
            common.duration = Duration::from_secs(file.seconds_to_run);
        }
        if !is_given("settle") {
            common.settle = common.settle.max(Duration::from_secs(file.additional_seconds_to_wait));
        }
        if !is_given("connecting") {
            common.connecting = file.max_concurrent_operations.max(1);
        }
        common.user.get_or_insert_with(|| "default".into());
        self.run_file = Some(file);
        Ok(())
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookAt {
    /// When all messages are acknowledged
    Queued,
    /// When half of them are
    Publishing,
}

/// What all scenarios take. Letters are those of emqtt-bench.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub struct Common {
    /// Broker addresses, taken in turn
    #[arg(short = 'h', long, default_value = "127.0.0.1", value_delimiter = ',')]
    pub host: Vec<String>,
    #[arg(short, long, default_value_t = 1883)]
    pub port: u16,
    /// Protocol version
    #[arg(short = 'V', long = "mqtt", value_enum, default_value = "3.1.1")]
    pub mqtt: Mqtt,
    /// QoS of publishers, and of subscribers unless --sub-qos says otherwise
    #[arg(short, long, default_value_t = 0, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub qos: u8,
    #[arg(long, value_parser = clap::value_parser!(u8).range(0..=2))]
    pub sub_qos: Option<u8>,
    /// Payload bytes, at least 24: they carry publisher, number and time
    #[arg(short, long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(24..=16_777_216))]
    pub size: u32,
    #[arg(short, long)]
    pub user: Option<String>,
    #[arg(short = 'P', long)]
    #[serde(skip)]
    pub password: Option<String>,
    /// Seconds; 0 = off
    #[arg(short, long, default_value_t = 0)]
    pub keep_alive: u16,
    /// Worker threads
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=256))]
    pub threads: u16,
    /// CPUs to bind the workers to, in turn: 1 or 1,3 or 4-7
    #[arg(long, value_parser = parse_cpus)]
    pub cpus: Option<Cpus>,
    /// Closed loop: messages of each publisher under way at most
    #[arg(long, default_value_t = 16, value_parser = clap::value_parser!(u32).range(1..=65535))]
    pub window: u32,
    /// Open loop: messages per second of all publishers together, due at fixed times
    #[arg(long, value_parser = parse_positive)]
    pub rate: Option<f64>,
    /// Open loop: the rate grows from nothing for so long
    #[arg(long, default_value = "0", value_parser = parse_duration)]
    #[serde(with = "seconds")]
    pub ramp: Duration,
    /// Measured interval: 10s, 500ms, 2m, or a number of seconds
    #[arg(long, default_value = "10s", value_parser = parse_duration)]
    #[serde(with = "seconds")]
    pub duration: Duration,
    /// Load before the measured interval [default: 1s, with --count 0]
    #[arg(long, value_parser = parse_duration)]
    #[serde(with = "some_seconds")]
    pub warmup: Option<Duration>,
    /// Publish so many messages in all, instead of for a duration
    #[arg(long, value_parser = clap::value_parser!(u64).range(1..))]
    pub count: Option<u64>,
    /// Connections begun per second [default: no limit]
    #[arg(short = 'R', long, value_parser = parse_positive)]
    pub connect_rate: Option<f64>,
    /// Connections being set up at once
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub connecting: u32,
    /// Source addresses, taken in turn: 127.0.0.2 or 127.0.0.2-127.0.0.40 or a list
    #[arg(long, visible_alias = "ifaddr", value_parser = parse_addresses)]
    pub source: Option<Addresses>,
    /// The same seed gives the same run
    #[arg(long, default_value_t = 1)]
    pub seed: u64,
    /// Client ids and topics begin with it
    #[arg(long, default_value = "load")]
    pub prefix: String,
    /// Give up on what did not come when nothing came for so long
    #[arg(long, default_value = "3s", value_parser = parse_duration)]
    #[serde(with = "seconds")]
    pub settle: Duration,
    /// Broker processes whose CPU time, memory and context switches are taken over the measured interval
    #[arg(long, value_delimiter = ',')]
    pub broker_pid: Vec<i32>,
    /// Listen here for runners, which are processes on this or other machines, and let them do the work
    #[arg(long, requires = "runners")]
    #[serde(skip)]
    pub orchestrator: Option<SocketAddr>,
    /// So many runners, each with --threads workers
    #[arg(long, default_value_t = 1, value_parser = clap::value_parser!(u16).range(1..=1000))]
    pub runners: u16,
    /// Tells the messages of this run from all others; all its processes have the same
    #[arg(skip)]
    #[serde(skip)]
    pub tag: Option<u32>,
    /// Write the result here; - is stdout
    #[arg(long)]
    #[serde(skip)]
    pub json: Option<PathBuf>,
    /// Write the latencies of each second here, in the log format of HdrHistogram
    #[arg(long)]
    #[serde(skip)]
    pub hlog: Option<PathBuf>,
    /// No progress and no summary
    #[arg(long)]
    #[serde(skip)]
    pub quiet: bool,
    #[arg(long, action = ArgAction::HelpLong)]
    #[serde(skip)]
    help: Option<bool>,
}

impl Common {
    pub fn publish_qos(&self) -> QoS {
        QoS::from_u8(self.qos).expect("checked by the parser")
    }

    pub fn subscribe_qos(&self) -> QoS {
        self.sub_qos.and_then(QoS::from_u8).unwrap_or(self.publish_qos())
    }

    pub fn warmup(&self) -> Duration {
        let default = if self.count.is_some() { 0 } else { 1 };
        self.warmup.unwrap_or(Duration::from_secs(default))
    }
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
pub enum Mqtt {
    #[value(name = "3.1", alias = "3")]
    #[serde(rename = "3.1")]
    V31,
    #[value(name = "3.1.1", alias = "4")]
    #[serde(rename = "3.1.1")]
    V311,
    #[value(name = "5", alias = "5.0")]
    #[serde(rename = "5")]
    V5,
}

impl From<Mqtt> for Version {
    fn from(mqtt: Mqtt) -> Version {
        match mqtt {
            Mqtt::V31 => Version::V31,
            Mqtt::V311 => Version::V311,
            Mqtt::V5 => Version::V5,
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Cpus(pub Vec<usize>);

#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(transparent)]
pub struct Addresses(pub Vec<IpAddr>);

/// `10s`, `500ms`, `2m`, `1h`, or seconds with a fraction.
pub fn parse_duration(text: &str) -> Result<Duration, String> {
    let unit_at = text.find(|c: char| c.is_ascii_alphabetic()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit_at);
    let factor = match unit {
        "" | "s" => 1.0,
        "ms" => 1e-3,
        "m" => 60.0,
        "h" => 3600.0,
        _ => return Err(format!("unknown unit `{unit}`: ms, s, m or h")),
    };
    let number: f64 = number.parse().map_err(|_| format!("`{number}` is not a number"))?;
    Duration::try_from_secs_f64(number * factor).map_err(|error| error.to_string())
}

/// A duration in JSON: seconds.
mod seconds {
    use serde::{Deserialize, Deserializer, Serializer};
    use std::time::Duration;

    pub fn serialize<S: Serializer>(duration: &Duration, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.serialize_f64(duration.as_secs_f64())
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<Duration, D::Error> {
        let seconds = f64::deserialize(deserializer)?;
        Duration::try_from_secs_f64(seconds).map_err(serde::de::Error::custom)
    }
}

/// The same, or null.
mod some_seconds {
    use serde::{Deserialize, Deserializer, Serialize, Serializer};
    use std::time::Duration;

    pub fn serialize<S: Serializer>(duration: &Option<Duration>, serializer: S) -> Result<S::Ok, S::Error> {
        duration.map(|duration| duration.as_secs_f64()).serialize(serializer)
    }

    pub fn deserialize<'a, D: Deserializer<'a>>(deserializer: D) -> Result<Option<Duration>, D::Error> {
        let seconds = Option::<f64>::deserialize(deserializer)?;
        seconds.map(Duration::try_from_secs_f64).transpose().map_err(serde::de::Error::custom)
    }
}

fn parse_positive(text: &str) -> Result<f64, String> {
    match text.parse::<f64>() {
        Ok(number) if number > 0.0 && number.is_finite() => Ok(number),
        _ => Err("a number above 0 is needed".into()),
    }
}

fn parse_cpus(text: &str) -> Result<Cpus, String> {
    let mut cpus = vec![];
    for part in text.split(',') {
        let (first, last) = part.split_once('-').unwrap_or((part, part));
        let number = |text: &str| text.parse::<usize>().map_err(|_| format!("`{text}` is not a CPU number"));
        let (first, last) = (number(first)?, number(last)?);
        if first > last || last >= libc::CPU_SETSIZE as usize {
            return Err(format!("`{part}` is not a range of CPUs"));
        }
        cpus.extend(first..=last);
    }
    Ok(Cpus(cpus))
}

fn parse_addresses(text: &str) -> Result<Addresses, String> {
    let mut addresses = vec![];
    for part in text.split(',') {
        let Some((first, last)) = part.split_once('-') else {
            addresses.push(part.parse().map_err(|_| format!("`{part}` is not an address"))?);
            continue;
        };
        let number = |text: &str| match text.parse::<Ipv4Addr>() {
            Ok(address) => Ok(u32::from(address)),
            Err(_) => Err(format!("`{text}` is not an IPv4 address")),
        };
        let (first, last) = (number(first)?, number(last)?);
        if first > last || last - first > 0xFFFF {
            return Err(format!("`{part}` is not a range of at most 65,536 addresses"));
        }
        addresses.extend((first..=last).map(|number| IpAddr::V4(number.into())));
    }
    Ok(Addresses(addresses))
}

/// A `tbmq` command line without options.
#[cfg(test)]
pub fn test_tbmq() -> Tbmq {
    match Cli::parse_from(["shardmq-loadgen", "tbmq"]).task {
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

    #[test]
    fn durations_have_units() {
        assert_eq!(parse_duration("1.5"), Ok(Duration::from_millis(1500)));
        assert_eq!(parse_duration("250ms"), Ok(Duration::from_millis(250)));
        assert_eq!(parse_duration("2m"), Ok(Duration::from_secs(120)));
        assert!(parse_duration("3 parsec").is_err() && parse_duration("-1").is_err());
    }

    #[test]
    fn lists_and_ranges() {
        assert_eq!(parse_cpus("1,4-6"), Ok(Cpus(vec![1, 4, 5, 6])));
        assert!(parse_cpus("6-4").is_err() && parse_cpus("x").is_err());
        let addresses = parse_addresses("127.0.0.9,127.0.0.254-127.0.1.1").unwrap().0;
        assert_eq!(addresses.len(), 5);
        assert_eq!(addresses[3].to_string(), "127.0.1.0");
        assert!(parse_addresses("127.0.0.9-127.0.0.1").is_err());
    }
}
