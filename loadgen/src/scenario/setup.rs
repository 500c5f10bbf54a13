//! From the command line to the options of a plan.

use crate::args::Common;
use crate::clock;
use crate::engine::ConnectLimits;
use crate::plan::{ClientId, Options, Pace, Plan};
use crate::random::Random;
use anyhow::{Context, Result};
use std::net::{SocketAddr, ToSocketAddrs};

/// A day: longer than any run.
const SESSION_EXPIRY_SECS: u32 = 86_400;

/// An empty plan. `flow_count` messages are due in each interval of the open loop.
pub fn plan(common: &Common, flow_count: usize) -> Result<Plan> {
    let pace = match common.rate {
        None => Pace::Window(common.window),
        Some(rate) => Pace::Interval {
            ns: (flow_count as f64 * 1e9 / rate).max(1.0) as u64,
            ramp_ns: common.ramp.as_nanos() as u64,
        },
    };
    let options = Options {
        targets: targets(common)?,
        sources: common.source.clone().unwrap_or_default().0,
        version: common.mqtt.into(),
        keep_alive_secs: common.keep_alive,
        user_name: common.user.clone(),
        password: common.password.clone(),
        payload_size: common.size as usize,
        message: None,
        headers: vec![],
        retain: false,
        seed: common.seed,
        // What an earlier run left behind must not pass for ours.
        tag: common.tag.unwrap_or_else(|| {
            Random::new(common.seed ^ clock::now_ns() ^ std::process::id() as u64).next_u64() as u32
        }),
        pace,
        inflight_max: u16::MAX,
        session_expiry_secs: SESSION_EXPIRY_SECS,
        is_judged: true,
    };
    Ok(Plan::new(options, common.threads as usize * common.runners as usize))
}

fn targets(common: &Common) -> Result<Vec<SocketAddr>> {
    let resolve = |host: &String| {
        let (name, port) = split_port(host).unwrap_or((host, common.port));
        let addresses = (name, port).to_socket_addrs();
        let addresses = addresses.with_context(|| format!("cannot resolve {host}"))?;
        // `localhost` is both, and few brokers listen on both.
        addresses.min_by_key(SocketAddr::is_ipv6).with_context(|| format!("{host} has no address"))
    };
    common.host.iter().map(resolve).collect()
}

/// `host:port`; an IPv6 address has more than one colon and no port.
fn split_port(host: &str) -> Option<(&str, u16)> {
    let (name, port) = host.rsplit_once(':')?;
    (!name.contains(':')).then_some((name, port.parse().ok()?))
}

pub fn connect_limits(common: &Common) -> ConnectLimits {
    ConnectLimits { per_second: common.connect_rate, at_once: common.connecting }
}

/// Numbers the clients of one kind.
pub fn ids(common: &Common, kind: &str) -> impl Fn(u32) -> ClientId + use<> {
    prefixed(&format!("{}-{kind}-", common.prefix))
}

/// Numbers clients whose ids begin like this.
pub fn prefixed(prefix: &str) -> impl Fn(u32) -> ClientId + use<> {
    let prefix: std::sync::Arc<str> = prefix.into();
    move |number| ClientId { prefix: prefix.clone(), number: number as u64 }
}
