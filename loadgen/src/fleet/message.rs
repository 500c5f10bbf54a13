//! What orchestrator and runner say to each other: one response to each request.

use crate::args::Scenario;
use crate::engine::{Command, Ended, Interval, PerFlow, Stats};
use crate::latency::{self, Latencies};
use serde::{Deserialize, Serialize};
use std::net::SocketAddr;

#[derive(Serialize, Deserialize)]
pub enum Request {
    /// Who the runner is.
    Hello,
    /// Answered with the runner's own clock.
    Clock,
    Start(Box<Start>),
    Command(Command),
    Stats,
    Cpu,
    Measure {
        from_ns: u64,
        to_ns: u64,
    },
    Tick,
    FirstError,
    /// Stop all workers.
    End,
    /// What all processes sent: flow and count, flow and number.
    Judge {
        sent: PerFlow,
        unacked: PerFlow,
    },
}

#[derive(Serialize, Deserialize)]
pub struct Start {
    pub scenario: Scenario,
    pub password: Option<String>,
    pub tag: u32,
    /// Which of the runners this is.
    pub index: usize,
    /// From the runner's clock to the orchestrator's.
    pub offset_ns: i64,
    /// Where each runner takes credits, if windows are opened by other processes than the publisher's; else empty.
    pub peers: Vec<SocketAddr>,
}

#[derive(Serialize, Deserialize)]
pub enum Response {
    Done,
    /// `index`: which of the runners it wants to be. `credit_port`: where it takes credits of the others.
    Hello {
        index: Option<usize>,
        credit_port: u16,
    },
    Clock(u64),
    Stats(Stats),
    Cpu(Vec<u64>),
    Intervals(Vec<SentInterval>),
    FirstError(Option<String>),
    Ended(Box<SentEnd>),
    /// Flow and deliveries.
    Lost(PerFlow),
    Failed(String),
}

/// A histogram: each value with its count.
#[derive(Serialize, Deserialize)]
pub struct Counts(Vec<(u64, u64)>);

impl From<&Latencies> for Counts {
    fn from(latencies: &Latencies) -> Counts {
        Counts(latencies.iter_recorded().map(|it| (it.value_iterated_to(), it.count_at_value())).collect())
    }
}

impl From<Counts> for Latencies {
    fn from(counts: Counts) -> Latencies {
        let mut latencies = latency::histogram();
        counts.0.into_iter().for_each(|(value, count)| latencies.saturating_record_n(value, count));
        latencies
    }
}

#[derive(Serialize, Deserialize)]
pub struct SentInterval {
    tick: u64,
    delivery: Counts,
}

impl From<Interval> for SentInterval {
    fn from(interval: Interval) -> SentInterval {
        SentInterval { tick: interval.tick, delivery: Counts::from(&interval.delivery) }
    }
}

impl From<SentInterval> for Interval {
    fn from(sent: SentInterval) -> Interval {
        Interval { tick: sent.tick, delivery: sent.delivery.into() }
    }
}

/// What a runner tells of its [`Ended`]; who got what stays with the runner, which judges it.
#[derive(Serialize, Deserialize)]
pub struct SentEnd {
    pub sent: PerFlow,
    pub unacked: PerFlow,
    pub connect_latency: Counts,
    pub ack_latency: Counts,
    pub intervals: Vec<SentInterval>,
}

impl SentEnd {
    pub fn of(ended: &mut Ended) -> SentEnd {
        SentEnd {
            sent: ended.sent.clone(),
            unacked: ended.unacked.clone(),
            connect_latency: Counts::from(&ended.connect_latency),
            ack_latency: Counts::from(&ended.ack_latency),
            intervals: std::mem::take(&mut ended.intervals).into_iter().map(SentInterval::from).collect(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_histogram_comes_over_whole() {
        let mut latencies = latency::histogram();
        (1..5000u64).for_each(|at| latency::record(&mut latencies, at * at * 37));
        let text = serde_json::to_string(&Counts::from(&latencies)).unwrap();
        let back = Latencies::from(serde_json::from_str::<Counts>(&text).unwrap());
        assert_eq!(back, latencies);
    }
}
