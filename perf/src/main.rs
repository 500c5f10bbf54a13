//! Measures MQTT brokers on this machine and explains the result; see README.md.

mod broker;
mod cores;
mod diff;
mod floor;
mod host;
mod profile;
mod report;
mod result;
mod scenario;
mod summary;
mod usage;

use std::io::Write;
use std::net::SocketAddr;

use anyhow::Context;
use clap::Parser;

#[derive(Parser)]
#[command(name = "shardmq-perf", version, about)]
enum Args {
    /// Serve as the floor broker: the least work that forwards messages, the limit to compare brokers with.
    Floor {
        /// Address to listen on; port 0 takes a free one. The first line printed tells it.
        #[arg(long, default_value = "127.0.0.1:0")]
        listen: SocketAddr,
    },
}

fn main() -> anyhow::Result<()> {
    match Args::parse() {
        Args::Floor { listen } => serve_floor(listen),
    }
}

fn serve_floor(listen: SocketAddr) -> anyhow::Result<()> {
    let floor = floor::Floor::bind(listen).with_context(|| format!("listening on {listen}"))?;
    let mut out = std::io::stdout();
    writeln!(out, "listening on {}", floor.address()?)?;
    out.flush()?;
    floor.run().context("epoll")
}
