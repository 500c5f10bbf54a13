//! Parameters that all scenarios have.

use super::values::{
    Addresses, Cpus, Mqtt, parse_addresses, parse_cpus, parse_duration, parse_positive, seconds, some_seconds,
};
use clap::{ArgAction, Args};
use protocol::QoS;
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;
use std::path::PathBuf;
use std::time::Duration;

/// What all scenarios take. Letters are those of emqtt-bench.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub struct Common {
    /// Broker addresses, taken in turn; with a port of its own: host:port
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
    /// Payload bytes, at least 16: they carry publisher, number and time
    #[arg(short, long, default_value_t = 64, value_parser = clap::value_parser!(u32).range(0..=16_777_216))]
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
    #[arg(short = 'R', long, alias = "connrate", value_parser = parse_positive)]
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
    /// The orchestrator is the first runner, too
    #[arg(skip)]
    #[serde(skip)]
    pub own_runner: bool,
    /// How long to wait for each runner; none: until it comes
    #[arg(skip)]
    #[serde(skip)]
    pub runner_patience: Option<Duration>,
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
