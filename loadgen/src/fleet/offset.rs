//! How far a runner's clock is from ours: measured by asking it, not assumed.
//!
//! Each question gives an estimate that is wrong by at most half its round trip. The shortest round trip of many
//! gives the best one, and its half is what the offset may be wrong by.

use super::link::Link;
use super::message::{Request, Response};
use crate::clock;
use anyhow::{Context, Result, bail};
use serde::Serialize;

const QUESTIONS: usize = 100;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Offset {
    /// Added to the runner's clock it gives ours.
    pub to_ours_ns: i64,
    pub error_ns: u64,
}

/// What the report says about one runner's clock.
#[derive(Clone, Debug, Serialize)]
pub struct ClockReport {
    pub runner: String,
    pub offset_ns: i64,
    /// The offset may be wrong by so much, and with it each latency between this runner and another.
    pub error_ns: u64,
    /// How much further the clocks were apart at the end.
    pub drift_ns: i64,
}

impl Offset {
    pub fn measure(link: &mut Link) -> Result<Offset> {
        let mut samples = vec![];
        for _ in 0..QUESTIONS {
            let asked_ns = clock::own_ns();
            link.send(&Request::Clock)?;
            let Some(Response::Clock(theirs_ns)) = link.receive()? else { bail!("the runner tells no time") };
            samples.push((asked_ns, theirs_ns, clock::own_ns()));
        }
        Offset::estimate(&samples).context("no samples of the runner's clock")
    }

    /// From times of question (ours), answer (theirs) and receipt (ours).
    fn estimate(samples: &[(u64, u64, u64)]) -> Option<Offset> {
        let (asked, theirs, received) = samples.iter().min_by_key(|(asked, _, received)| received - asked)?;
        let error_ns = (received - asked).div_ceil(2);
        Some(Offset { to_ours_ns: (asked + error_ns).wrapping_sub(*theirs) as i64, error_ns })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_shortest_round_trip_counts() {
        // The runner's clock is 1000 ahead; the way there takes 10 or 500, the way back 20.
        let slow = (5_000, 6_500, 5_520);
        let fast = (9_000, 10_010, 9_030);
        let offset = Offset::estimate(&[slow, fast, slow]).unwrap();
        assert_eq!(offset.error_ns, 15);
        assert!((offset.to_ours_ns + 1000).unsigned_abs() <= offset.error_ns);
        assert_eq!(Offset::estimate(&[]), None);
    }
}
