//! The coordinator's eyes: waits for what the workers reach, keeps the figures of each second, and shows them.

use crate::clock;
use crate::engine::{Interval, Stats};
use crate::generator::Generator;
use crate::interrupt;
use crate::report::hlog::Hlog;
use crate::report::progress::Progress;
use crate::report::series::Series;
use anyhow::Result;
use serde_json::json;
use std::io::IsTerminal;
use std::path::Path;
use std::time::Duration;

const SECOND_NS: u64 = 1_000_000_000;
/// Between two looks whether the user wants to end.
const INTERRUPT_LOOK_NS: u64 = 100_000_000;

pub struct Watch {
    series: Series,
    progress: Progress,
    next_tick_ns: u64,
}

impl Watch {
    /// `hlog`: where to write the latencies of each second.
    pub fn new(progress: Progress, hlog: Option<&Path>) -> Result<Watch> {
        let series = Series::new(hlog.map(Hlog::create).transpose()?);
        Ok(Watch { series, progress, next_tick_ns: clock::now_ns() + SECOND_NS })
    }

    /// Tells the program that started us where the run is, so that it can sample the broker itself. People have the
    /// progress.
    pub fn phase(&mut self, name: &str) {
        if std::io::stdout().is_terminal() {
            return;
        }
        self.progress.clear();
        let line = json!({"phase": name, "monotonic_ns": clock::now_ns(), "unix_ms": clock::unix_ms()});
        crate::report::print_line(&line.to_string());
    }

    /// A new second begins now.
    pub fn tick(&mut self, generator: &Generator) {
        let now = clock::now_ns();
        let stats = generator.stats();
        let intervals = generator.tick();
        self.series.on_tick(now, &stats, intervals);
        self.progress.show(&self.series, &stats);
        self.next_tick_ns = now + SECOND_NS;
    }

    pub fn sleep_until(&mut self, generator: &Generator, until_ns: u64) -> Result<()> {
        loop {
            let now = clock::now_ns();
            if now >= until_ns || interrupt::is_interrupted() {
                return Ok(());
            }
            if now >= self.next_tick_ns {
                self.tick(generator);
                generator.check()?;
            }
            let next = until_ns.min(self.next_tick_ns).min(now + INTERRUPT_LOOK_NS);
            std::thread::sleep(Duration::from_nanos(next.saturating_sub(clock::now_ns())));
        }
    }

    /// Waits until `is_done`, as long as `progress` of the counters changes at least once in `patience`. False if it
    /// no longer did.
    pub fn wait(
        &mut self,
        generator: &Generator,
        patience: Duration,
        progress: impl Fn(&Stats) -> u64,
        is_done: impl Fn(&Stats) -> bool,
    ) -> Result<bool> {
        let mut seen = (progress(&generator.stats()), clock::now_ns());
        loop {
            let (stats, now) = (generator.stats(), clock::now_ns());
            if is_done(&stats) {
                return Ok(true);
            }
            if progress(&stats) != seen.0 {
                seen = (progress(&stats), now);
            }
            if now - seen.1 > patience.as_nanos() as u64 {
                return Ok(false);
            }
            if now >= self.next_tick_ns {
                self.tick(generator);
            }
            generator.check()?;
            std::thread::sleep(generator.look());
        }
    }

    /// The run is over: the figures of all seconds, and all latencies.
    pub fn into_series(mut self) -> Series {
        self.progress.clear();
        self.series
    }
}

/// Latencies that came after the last second.
pub fn add_rest(series: &mut Series, intervals: Vec<Interval>) -> Result<()> {
    series.add(intervals);
    series.close()
}
