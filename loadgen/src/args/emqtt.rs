//! The parameters of emqtt-bench with its letters and its defaults. Letters of `Common` mean the same there.

use super::Common;
use super::values::Mqtt;
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

#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub struct Emqtt {
    #[arg(value_enum)]
    pub action: Action,
    /// Clients
    #[arg(short = 'c', long, default_value_t = 200, value_parser = clap::value_parser!(u32).range(1..=10_000_000))]
    pub clients: u32,
    /// Number of the first client
    #[arg(short = 'n', long, default_value_t = 0)]
    pub startnumber: u32,
    /// Milliseconds between two connects
    #[arg(short = 'i', long, default_value_t = 10)]
    pub interval: u32,
    /// Milliseconds between two messages of a client; 0: as many as -F allows
    #[arg(short = 'I', long, default_value_t = 1000)]
    pub interval_of_msg: u64,
    /// Topic; %i is the client's number, %c its id, %u the user name
    #[arg(short, long, default_value = "bench/%i")]
    pub topic: String,
    /// Messages of all clients together; 0: no limit
    #[arg(short = 'L', long, default_value_t = 0)]
    pub limit: u64,
    /// Messages of a client that are not acknowledged, at most
    #[arg(short = 'F', long, default_value_t = 65535, value_parser = clap::value_parser!(u16).range(1..))]
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
    #[command(flatten)]
    #[serde(flatten)]
    pub common: Common,
}

impl Emqtt {
    /// Its defaults where no option is given, and its meaning of intervals.
    pub(super) fn complete(&mut self, is_given: impl Fn(&str) -> bool) {
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
        if self.limit > 0 && self.action == Action::Pub {
            common.count = Some(self.limit);
        }
        // Publishers and subscribers of one seed know each other, though they are not of one run.
        common.tag = Some(0xE000_0000 | common.seed as u32 & 0x0FFF_FFFF);
    }
}
