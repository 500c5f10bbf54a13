//! Latencies in nanoseconds, to three significant digits, up to ten minutes.

use hdrhistogram::Histogram;
use serde::{Deserialize, Serialize};

/// Longer ones count as this: 10 minutes.
const NS_MAX: u64 = 600_000_000_000;

pub type Latencies = Histogram<u64>;

pub fn histogram() -> Latencies {
    Histogram::new_with_bounds(1, NS_MAX, 3).expect("the bounds are valid")
}

/// Records one latency; what lies above the bound counts as the bound.
#[inline]
pub fn record(latencies: &mut Latencies, ns: u64) {
    latencies.saturating_record(ns);
}

/// A distribution as reports give it. All but `count` in nanoseconds. `shardmq-perf` reads it and keeps it as it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct Percentiles {
    pub count: u64,
    pub min: u64,
    pub mean: u64,
    pub p50: u64,
    pub p90: u64,
    pub p95: u64,
    pub p99: u64,
    pub p999: u64,
    pub p9999: u64,
    pub max: u64,
}

impl Percentiles {
    pub fn of(latencies: &Latencies) -> Percentiles {
        let at = |quantile: f64| latencies.value_at_quantile(quantile);
        Percentiles {
            count: latencies.len(),
            min: latencies.min(),
            mean: latencies.mean() as u64,
            p50: at(0.5),
            p90: at(0.9),
            p95: at(0.95),
            p99: at(0.99),
            p999: at(0.999),
            p9999: at(0.9999),
            max: latencies.max(),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn percentiles_are_those_of_the_values() {
        let mut latencies = histogram();
        (1..=10_000).for_each(|us| record(&mut latencies, us * 1000));
        let percentiles = Percentiles::of(&latencies);
        let is_near = |got: u64, wanted: u64| got.abs_diff(wanted) * 500 < wanted;
        assert!(is_near(percentiles.p50, 5_000_000), "{percentiles:?}");
        assert!(is_near(percentiles.p9999, 9_999_000), "{percentiles:?}");
        assert_eq!(percentiles.count, 10_000);
    }

    #[test]
    fn beyond_the_bound_counts_as_the_bound() {
        let mut latencies = histogram();
        record(&mut latencies, u64::MAX);
        assert_eq!(latencies.len(), 1);
        assert!(latencies.max() >= NS_MAX);
    }
}
