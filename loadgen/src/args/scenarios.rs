//! Parameters of each scenario.

use super::Common;
use super::values::{parse_duration, seconds};
use clap::{Args, ValueEnum};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Copy, Debug, Args, Serialize, Deserialize)]
pub struct Persistence {
    /// Subscribers have sessions that outlive their connections; none is left from before, and none is left behind
    #[arg(long)]
    pub persistent: bool,
}

#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub struct P2p {
    /// Pairs of publisher and subscriber
    #[arg(long, default_value_t = 100, value_parser = clap::value_parser!(u32).range(1..))]
    pub pairs: u32,
    #[command(flatten)]
    #[serde(flatten)]
    pub persistence: Persistence,
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
    pub persistence: Persistence,
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
    pub persistence: Persistence,
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
    pub persistence: Persistence,
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
    pub persistence: Persistence,
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

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum HookAt {
    /// When all messages are acknowledged
    Queued,
    /// When half of them are
    Publishing,
}
