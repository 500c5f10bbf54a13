//! The figures of each second of the run.

use super::hlog::Hlog;
use crate::engine::{Interval, Stats};
use crate::latency::{self, Latencies, Percentiles};
use anyhow::Result;
use serde::Serialize;
use std::collections::BTreeMap;
use std::time::Duration;

/// Workers hand over the latencies of a second at most so many seconds later.
const OPEN_SECONDS: u64 = 2;

#[derive(Clone, Debug, Serialize)]
pub struct Second {
    /// End of the second, nanoseconds of the monotonic clock.
    pub monotonic_ns: u64,
    pub elapsed_ns: u64,
    pub ready: u64,
    pub sent: u64,
    pub acked: u64,
    pub delivered: u64,
    /// Of messages that were due in the measured interval and delivered in this second.
    pub latency_ns: Percentiles,
}

pub struct Series {
    pub seconds: Vec<Second>,
    pub total: Latencies,
    open: BTreeMap<u64, Latencies>,
    begin_ns: u64,
    last: (u64, Stats),
    hlog: Option<Hlog>,
}

impl Series {
    /// Begins now; what is complete also goes to `hlog`.
    pub fn new(hlog: Option<Hlog>) -> Series {
        let begin_ns = crate::clock::now_ns();
        let last = (begin_ns, Stats::default());
        Series { seconds: vec![], total: latency::histogram(), open: BTreeMap::new(), begin_ns, last, hlog }
    }

    /// A second ends at `now_ns` with these counters. `intervals`: what the workers handed over meanwhile.
    pub fn on_tick(&mut self, now_ns: u64, stats: &Stats, intervals: Vec<Interval>) {
        let since = stats.since(&self.last.1);
        self.seconds.push(Second {
            monotonic_ns: now_ns,
            elapsed_ns: now_ns - self.last.0,
            ready: stats.ready,
            sent: since.sent,
            acked: since.acked,
            delivered: since.delivered,
            latency_ns: Percentiles::default(),
        });
        self.last = (now_ns, *stats);
        self.add(intervals);
        self.close_until((self.seconds.len() as u64).saturating_sub(OPEN_SECONDS));
    }

    pub fn add(&mut self, intervals: Vec<Interval>) {
        for interval in intervals {
            let open = self.open.entry(interval.tick).or_insert_with(latency::histogram);
            open.add(interval.delivery).expect("all histograms have the same bounds");
        }
    }

    /// Nothing more will come.
    pub fn close(&mut self) -> Result<()> {
        self.close_until(u64::MAX);
        self.hlog.take().map_or(Ok(()), Hlog::finish)
    }

    fn close_until(&mut self, end: u64) {
        let still_open = self.open.split_off(&end);
        for (tick, latencies) in std::mem::replace(&mut self.open, still_open) {
            if let Some(second) = self.seconds.get_mut(tick as usize) {
                second.latency_ns = Percentiles::of(&latencies);
                if let Some(hlog) = &mut self.hlog {
                    let from = second.monotonic_ns - second.elapsed_ns - self.begin_ns;
                    let (from, length) =
                        (Duration::from_nanos(from), Duration::from_nanos(second.elapsed_ns));
                    hlog.write(from, length, &latencies);
                }
            }
            self.total.add(latencies).expect("all histograms have the same bounds");
        }
    }

    pub fn last(&self) -> Option<&Second> {
        self.seconds.last()
    }

    /// The latest second whose latencies are known.
    pub fn last_latency(&self) -> Option<&Percentiles> {
        self.seconds.iter().rev().map(|second| &second.latency_ns).find(|latency| latency.count > 0)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn interval(tick: u64, ns: u64) -> Interval {
        let mut delivery = latency::histogram();
        latency::record(&mut delivery, ns);
        Interval { tick, delivery }
    }

    #[test]
    fn latencies_go_to_their_second_and_to_the_total() {
        let mut series = Series::new(None);
        let start = series.last.0;
        for tick in 0..5 {
            let stats = Stats { delivered: (tick + 1) * 10, ..Stats::default() };
            // Two workers; the first hands over a second late.
            let late = tick.checked_sub(1).map(|before| interval(before, 1000 * tick));
            let intervals = late.into_iter().chain([interval(tick, 500)]).collect();
            series.on_tick(start + (tick + 1) * 1_000_000_000, &stats, intervals);
        }
        series.close().unwrap();
        let counts: Vec<u64> = series.seconds.iter().map(|second| second.latency_ns.count).collect();
        assert_eq!(counts, [2, 2, 2, 2, 1]);
        assert!(series.seconds.iter().all(|second| second.delivered == 10));
        assert_eq!(series.total.len(), 9);
    }
}
