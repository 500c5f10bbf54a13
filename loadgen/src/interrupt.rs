//! Ctrl-C ends the measured interval early: what was measured until then is reported. A second one ends the process.

use std::sync::atomic::{AtomicBool, Ordering};

static IS_INTERRUPTED: AtomicBool = AtomicBool::new(false);

/// From now on SIGINT and SIGTERM are noted.
pub fn watch() {
    for signal in [libc::SIGINT, libc::SIGTERM] {
        // SAFETY: the handler only touches an atomic and calls what is safe in a handler.
        unsafe { libc::signal(signal, on_signal as *const () as libc::sighandler_t) };
    }
}

pub fn is_interrupted() -> bool {
    IS_INTERRUPTED.load(Ordering::Relaxed)
}

extern "C" fn on_signal(signal: libc::c_int) {
    if IS_INTERRUPTED.swap(true, Ordering::Relaxed) {
        // SAFETY: restoring the default and ending is allowed in a handler.
        unsafe { libc::_exit(128 + signal) };
    }
}
