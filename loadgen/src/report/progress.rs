//! The line that moves while a run goes on: only on a terminal, so that logs stay readable.

use super::series::Series;
use crate::engine::Stats;
use crate::process::ratio;
use std::io::{IsTerminal, Write};

pub struct Progress {
    is_shown: bool,
    has_line: bool,
}

impl Progress {
    pub fn new(is_quiet: bool) -> Progress {
        Progress { is_shown: !is_quiet && std::io::stderr().is_terminal(), has_line: false }
    }

    pub fn show(&mut self, series: &Series, stats: &Stats) {
        let (true, Some(second)) = (self.is_shown, series.last()) else { return };
        let per_second = |count: u64| ratio(count, second.elapsed_ns) * 1e9;
        let latency = series.last_latency().map_or(String::new(), |latency| {
            format!("  p50 {}  p99 {}", super::text::time(latency.p50), super::text::time(latency.p99))
        });
        let line = format!(
            "{} connections  {:.0} sent/s  {:.0} delivered/s{latency}",
            stats.ready.saturating_sub(stats.disconnected),
            per_second(second.sent),
            per_second(second.delivered),
        );
        // A terminal that went away is no reason to stop measuring.
        let _ = write!(std::io::stderr(), "\r\x1b[K{line}");
        self.has_line = true;
    }

    pub fn clear(&mut self) {
        if std::mem::take(&mut self.has_line) {
            let _ = write!(std::io::stderr(), "\r\x1b[K");
        }
    }
}
