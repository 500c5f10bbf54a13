//! Figures of the process as a whole.

use std::borrow::Cow;
use std::time::{SystemTime, UNIX_EPOCH};

use super::Monitor;
use super::figures::{Kind, Number};
use crate::machine;

pub struct ProcessFigure {
    /// Without `_total`.
    pub name: &'static str,
    pub help: &'static str,
    pub kind: Kind,
    pub labels: Vec<(&'static str, Cow<'static, str>)>,
    pub value: Number,
}

/// What this machine does not tell is left out.
pub fn process_figures(monitor: &Monitor) -> Vec<ProcessFigure> {
    let shards = monitor.shards.shard_count();
    let build = vec![
        ("version", env!("CARGO_PKG_VERSION").into()),
        ("profile", if cfg!(debug_assertions) { "debug" } else { "release" }.into()),
        ("cores", shards.to_string().into()),
    ];
    let started = SystemTime::now().checked_sub(monitor.started.elapsed());
    let started = started.and_then(|started| started.duration_since(UNIX_EPOCH).ok());
    let whole = |value: u64| Some(Number::Whole(value));
    let resident = machine::resident_bytes();
    use Kind::{Counter, Gauge};
    let figures = [
        ("broker_build_info", "What runs", Gauge, build, whole(1)),
        (
            "broker_log_lines_dropped",
            "Log lines that standard error did not take",
            Counter,
            vec![],
            whole(monitor.log_lines_dropped.count()),
        ),
        (
            "process_start_time_seconds",
            "When the broker was ready, in seconds since 1970",
            Gauge,
            vec![],
            started.map(|started| Number::Real(started.as_secs_f64())),
        ),
        (
            "process_cpu_seconds",
            "Processor time of all threads, in the system too",
            Counter,
            vec![],
            machine::processor_seconds().map(Number::Real),
        ),
        (
            "process_resident_memory_bytes",
            "Memory in use",
            Gauge,
            vec![],
            resident.map(|(now, _)| Number::Whole(now)),
        ),
        (
            "process_resident_memory_max_bytes",
            "Most memory in use at once since the start",
            Gauge,
            vec![],
            resident.map(|(_, most)| Number::Whole(most)),
        ),
        ("process_open_fds", "Open files", Gauge, vec![], machine::open_files().map(Number::Whole)),
        ("process_max_fds", "Files that may be open at once", Gauge, vec![], whole(machine::file_limit())),
    ];
    let known = figures.into_iter().filter_map(|(name, help, kind, labels, value)| {
        value.map(|value| ProcessFigure { name, help, kind, labels, value })
    });
    known.collect()
}
