//! Log lines on standard error, text or JSON, written by a thread of its own: who logs never waits. Lines that it
//! cannot take are dropped and counted.

use tracing_appender::non_blocking::{ErrorCounter, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Lines that wait for standard error.
const LINES_MAX: usize = 16 * 1024;

/// Keep it until the end: what waits is written when it is dropped.
pub struct Logging {
    _writer: WorkerGuard,
    dropped: Dropped,
}

impl Logging {
    /// Must be called once, before anything is logged.
    pub fn start(config: &Log) -> Logging {
        let (writer, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(LINES_MAX)
            .thread_name("log")
            .finish(std::io::stderr());
        let dropped = Dropped(writer.error_counter());
        let lines = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::builder().parse_lossy(&config.level))
            .with_writer(writer)
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
        match config.format {
            LogFormat::Text => lines.init(),
            LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).init(),
        }
        Logging { _writer: guard, dropped }
    }

    pub fn dropped(&self) -> Dropped {
        self.dropped.clone()
    }
}

/// Counts the lines that were dropped. Clones share it.
#[derive(Clone)]
pub struct Dropped(ErrorCounter);

impl Dropped {
    pub fn count(&self) -> u64 {
        self.0.dropped_lines() as u64
    }
}
