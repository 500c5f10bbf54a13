//! Log lines on standard error, text or JSON, written by a thread of its own: who logs never waits. Lines that it
//! cannot take are dropped and counted.

use std::backtrace::Backtrace;
use std::io::Write;
use std::panic::PanicHookInfo;
use std::sync::atomic::{AtomicU32, Ordering};

use tracing_appender::non_blocking::{ErrorCounter, NonBlocking, NonBlockingBuilder, WorkerGuard};
use tracing_subscriber::EnvFilter;

use crate::config::{Log, LogFormat};

/// Lines that wait for standard error.
const LINES_MAX: usize = 16 * 1024;
/// Panics of this process that are logged with a backtrace: it costs the thread a tenth of a second, and a client may be
/// able to cause one panic after the other.
const BACKTRACES_MAX: u32 = 8;

/// Keep it until the end: what waits is written when it is dropped.
pub struct Logging {
    _writer: WorkerGuard,
    dropped: Dropped,
}

impl Logging {
    /// Must be called once, before anything is logged.
    pub fn start(config: &Log) -> Logging {
        let (writer, guard, dropped) = never_waiting(std::io::stderr());
        let lines = tracing_subscriber::fmt()
            .with_env_filter(EnvFilter::builder().parse_lossy(&config.level))
            .with_writer(writer)
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()));
        match config.format {
            LogFormat::Text => lines.init(),
            LogFormat::Json => lines.json().flatten_event(true).with_current_span(false).init(),
        }
        std::panic::set_hook(Box::new(log_panic));
        Logging { _writer: guard, dropped }
    }

    pub fn dropped(&self) -> Dropped {
        self.dropped.clone()
    }
}

/// Where a panic came from. What it does to the process is decided by who catches it.
fn log_panic(panic: &PanicHookInfo<'_>) {
    static LOGGED: AtomicU32 = AtomicU32::new(0);
    let thread = std::thread::current();
    let thread = thread.name().unwrap_or("(no name)");
    let place = panic.location().map_or_else(|| "(unknown)".to_owned(), ToString::to_string);
    let payload = panic.payload();
    let text = payload.downcast_ref::<&str>().copied();
    let text =
        text.or_else(|| payload.downcast_ref::<String>().map(String::as_str)).unwrap_or("(no message)");
    // It may hold what a client sent, which must not look like a line of its own.
    let text = text.escape_debug();
    if LOGGED.fetch_add(1, Ordering::Relaxed) < BACKTRACES_MAX {
        let backtrace = Backtrace::force_capture();
        tracing::error!(thread, place, panic = %text, %backtrace, "a thread panicked");
    } else {
        tracing::error!(thread, place, panic = %text, "a thread panicked");
    }
}

/// Gives lines to a thread that writes them, or drops and counts them.
fn never_waiting(out: impl Write + Send + 'static) -> (NonBlocking, WorkerGuard, Dropped) {
    let builder =
        NonBlockingBuilder::default().lossy(true).buffered_lines_limit(LINES_MAX).thread_name("log");
    let (writer, guard) = builder.finish(out);
    let dropped = Dropped(writer.error_counter());
    (writer, guard, dropped)
}

/// Counts the lines that were dropped. Clones share it.
#[derive(Clone)]
pub struct Dropped(ErrorCounter);

impl Dropped {
    pub fn count(&self) -> u64 {
        self.0.dropped_lines() as u64
    }
}

#[cfg(test)]
mod tests {
    use std::io;
    use std::sync::mpsc::{Receiver, channel};

    use super::*;

    /// Takes nothing until the other end is dropped.
    struct Stuck(Receiver<()>);

    impl Write for Stuck {
        fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
            let _ = self.0.recv();
            Ok(bytes.len())
        }

        fn flush(&mut self) -> io::Result<()> {
            Ok(())
        }
    }

    #[test]
    fn what_a_stuck_reader_does_not_take_is_dropped_and_counted() {
        let (release, stuck) = channel();
        let (mut writer, _guard, dropped) = never_waiting(Stuck(stuck));
        for _ in 0..LINES_MAX + 100 {
            writer.write_all(b"line\n").expect("it never fails");
        }
        // One line is with the reader.
        assert!((99..=100).contains(&dropped.count()), "{}", dropped.count());
        drop(release);
    }
}
