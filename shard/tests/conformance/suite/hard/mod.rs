//! Hard cases: situations in which brokers in the field go wrong. `docs/hard-cases.md` lists them with what has to
//! happen; each has its cases here, named by its id, one file for each chapter of the list.

mod auth;
mod connect;
mod limits;
mod publish;
mod retained;
mod sessions;
mod shared;
mod subscribe;
mod takeover;
mod will;

use super::case::Case;

pub fn cases() -> Vec<Case> {
    [
        auth::cases(),
        connect::cases(),
        limits::cases(),
        publish::cases(),
        retained::cases(),
        sessions::cases(),
        shared::cases(),
        subscribe::cases(),
        takeover::cases(),
        will::cases(),
    ]
    .concat()
}

/// Processor time of this thread.
pub(crate) fn cpu_time() -> std::time::Duration {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` outlives the call, which fills it.
    let result = unsafe { libc::clock_gettime(libc::CLOCK_THREAD_CPUTIME_ID, &mut time) };
    assert_eq!(result, 0, "the clock exists");
    std::time::Duration::new(time.tv_sec as u64, time.tv_nsec as u32)
}
