//! Log lines on standard error, text or JSON, written by a thread of its own: who logs never waits. Lines that it
//! cannot take are dropped.

use tracing_appender::non_blocking::{NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Lines that wait for standard error.
const LINES_MAX: usize = 16 * 1024;

/// Keep it until the end: what waits is written when it is dropped.
pub struct Logging {
    _writer: WorkerGuard,
}

impl Logging {
    /// Must be called once, before anything is logged.
    pub fn start(config: &Log) -> Logging {
        let (writer, guard) = NonBlockingBuilder::default()
            .lossy(true)
            .buffered_lines_limit(LINES_MAX)
            .thread_name("log")
            .finish(std::io::stderr());
        let lines = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::builder().parse_lossy(&config.level))
            .with_writer(writer)
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
        match config.format {
            LogFormat::Text => lines.init(),
            LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).init(),
        }
        Logging { _writer: guard }
    }
}
