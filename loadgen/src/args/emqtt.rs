//! The parameters of emqtt-bench with its letters and its defaults. Letters of `Common` mean the same there.

use super::Common;
use super::values::Mqtt;
use crate::payload::Header;
use clap::{ArgAction, Args, ValueEnum};
use serde::{Deserialize, Serialize};
use std::time::Duration;

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum Action {
    Pub,
    Sub,
    Conn,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "kebab-case")]
pub enum LogTo {
    Console,
    Null,
}

#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub struct Emqtt {
    #[arg(value_enum)]
    pub action: Action,
    /// Clients
    #[arg(short = 'c', long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub clients: u32,
    /// Clients are numbered from the one behind it
    #[arg(short = 'n', long, default_value_t = 0)]
    pub startnumber: u32,
    /// Milliseconds between two connects
    #[arg(short = 'i', long, default_value_t = 10)]
    pub interval: u32,
    /// Milliseconds between two messages of a client; 0: as many as -F allows
    #[arg(short = 'I', long = "interval_of_msg", alias = "interval-of-msg", default_value_t = 1000)]
    pub interval_of_msg: u64,
    /// Topic; %i is the client's number, %c its id, %u the user name
    #[arg(short, long, default_value = "bench/%i")]
    pub topic: String,
    /// The payload, instead of -s bytes that say whose they are; then there is no latency
    #[arg(short, long)]
    pub message: Option<String>,
    /// Before the payload: cnt64, the message's number, and ts, milliseconds since 1970; `sub` reads them
    #[arg(long, value_enum, value_delimiter = ',')]
    pub payload_hdrs: Vec<Header>,
    /// Messages of all clients together; 0: no limit
    #[arg(short = 'L', long, default_value_t = 0)]
    pub limit: u64,
    /// Messages of a client that are not acknowledged, at most; 0: 65535
    #[arg(short = 'F', long, default_value_t = 1)]
    pub inflight: u16,
    /// Clean start
    #[arg(short = 'C', long, default_value_t = true, action = ArgAction::Set)]
    pub clean: bool,
    /// Session expiry in seconds
    #[arg(short = 'x', long, default_value_t = 0)]
    pub session_expiry: u32,
    /// Retained messages
    #[arg(short, long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub retain: bool,
    /// Client ids are the prefix, if one is given, and the number
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub shortids: bool,
    /// Publish when all have connected: always so here
    #[arg(short, long, default_value_t = true, num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    pub wait_before_publishing: bool,
    /// Little memory for each connection: always so here
    #[arg(short, long)]
    pub lowmem: bool,
    /// null: no progress and no summary
    #[arg(long = "log_to", value_enum, default_value = "console")]
    pub log_to: LogTo,
    #[command(flatten)]
    #[serde(skip)]
    transport: Transport,
    #[command(flatten)]
    #[serde(flatten)]
    pub common: Common,
}

/// Transports of emqtt-bench that are not there yet; told rather than unknown.
#[derive(Clone, Debug, Default, Args)]
struct Transport {
    /// TLS: not yet
    #[arg(short = 'S', long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    ssl: bool,
    #[arg(long, hide = true)]
    ssl_version: Option<String>,
    #[arg(long, hide = true)]
    cacertfile: Option<String>,
    #[arg(long, hide = true)]
    certfile: Option<String>,
    #[arg(long, hide = true)]
    keyfile: Option<String>,
    /// WebSocket: not yet
    #[arg(long, default_value_t = false, num_args = 0..=1, default_missing_value = "true", action = ArgAction::Set)]
    ws: bool,
    #[arg(long, hide = true, num_args = 0..=1, default_missing_value = "true")]
    quic: Option<String>,
}

impl Transport {
    /// None: plain TCP.
    fn unsupported(&self) -> Option<&'static str> {
        let files = [&self.ssl_version, &self.cacertfile, &self.certfile, &self.keyfile];
        if self.ssl || files.iter().any(|file| file.is_some()) {
            return Some("TLS (-S, --ssl-version, --cacertfile, --certfile, --keyfile)");
        }
        if self.ws {
            return Some("WebSocket (--ws)");
        }
        self.quic.as_ref().filter(|quic| *quic != "false").map(|_| "QUIC (--quic)")
    }
}

impl Emqtt {
    /// Its defaults where no option is given, and its meaning of intervals. Fails with what cannot be done.
    pub(super) fn complete(&mut self, is_given: impl Fn(&str) -> bool) -> Result<(), String> {
        if let Some(transport) = self.transport.unsupported() {
            return Err(format!(
                "{transport} cannot be used: the load generator speaks plain TCP, because shardmq has no listener for it yet"
            ));
        }
        if !self.wait_before_publishing {
            return Err("-w false cannot be done: here all have connected before the first publishes".into());
        }
        if self.message.as_ref().is_some_and(|message| message.starts_with("template://")) {
            return Err("-m template:// cannot be done: give the message itself, or -s for its size".into());
        }
        let common = &mut self.common;
        if !is_given("mqtt") {
            common.mqtt = Mqtt::V5;
        }
        if !is_given("size") {
            common.size = 256;
        }
        if !is_given("keep_alive") {
            common.keep_alive = 300;
        }
        if !is_given("connect_rate") && self.interval > 0 {
            common.connect_rate = Some(1000.0 / self.interval as f64);
        }
        if !is_given("rate") && self.interval_of_msg > 0 {
            common.rate = Some(self.clients as f64 * 1000.0 / self.interval_of_msg as f64);
        }
        if self.inflight == 0 {
            self.inflight = u16::MAX;
        }
        if !is_given("window") {
            common.window = self.inflight.into();
        }
        if !is_given("duration") {
            // It goes on until it is interrupted.
            common.duration = Duration::from_secs(u32::MAX.into());
        }
        if !is_given("warmup") {
            common.warmup = Some(Duration::ZERO);
        }
        if self.shortids && !is_given("prefix") {
            common.prefix = String::new();
        }
        if self.limit > 0 && self.action == Action::Pub {
            common.count = Some(self.limit);
        }
        common.quiet |= self.log_to == LogTo::Null;
        // Publishers and subscribers of one seed know each other, though they are not of one run.
        common.tag = Some(0xE000_0000 | common.seed as u32 & 0x0FFF_FFFF);
        Ok(())
    }
}
