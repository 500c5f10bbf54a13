//! CLOCK_MONOTONIC in nanoseconds: the same clock for all processes of one machine.

use std::sync::atomic::{AtomicI64, Ordering};
use std::time::{SystemTime, UNIX_EPOCH};

/// Largest process id of Linux.
const PID_MAX: i32 = 1 << 22;

/// What is added to the monotonic clock of this machine: 0, or the way to the clock of the orchestrator.
static OFFSET_NS: AtomicI64 = AtomicI64::new(0);

/// Nanoseconds of the run's monotonic clock: that of this machine, or of the orchestrator.
#[inline]
pub fn now_ns() -> u64 {
    own_ns().wrapping_add_signed(OFFSET_NS.load(Ordering::Relaxed))
}

/// Nanoseconds of the monotonic clock of this machine.
#[inline]
pub fn own_ns() -> u64 {
    read(libc::CLOCK_MONOTONIC).expect("every system has a monotonic clock")
}

/// From now on this process counts time as the orchestrator does.
pub fn set_offset_ns(offset: i64) {
    OFFSET_NS.store(offset, Ordering::Relaxed);
}

/// CPU time of another thread of this process; None if it is over.
pub fn sibling_cpu_ns(thread_id: i32) -> Option<u64> {
    // Linux names the CPU clock of a thread by the complement of its id, CPUCLOCK_PERTHREAD and CPUCLOCK_SCHED.
    read(!thread_id << 3 | 4 | 2)
}

/// The kernel's id of the calling thread.
pub fn thread_id() -> i32 {
    // SAFETY: the call takes no pointers.
    unsafe { libc::gettid() }
}

/// CPU time of a process, all its threads, also those that ended; None if there is no such process.
pub fn process_cpu_ns(pid: i32) -> Option<u64> {
    // Larger ones, which cannot exist, would overflow the clock's number; 0 would be our own.
    if !(1..=PID_MAX).contains(&pid) {
        return None;
    }
    let mut clock = 0;
    // SAFETY: `clock` is valid for the call.
    match unsafe { libc::clock_getcpuclockid(pid, &mut clock) } {
        0 => read(clock),
        _ => None,
    }
}

/// Milliseconds since 1970.
pub fn unix_ms() -> u64 {
    SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |since| since.as_millis() as u64)
}

#[inline]
fn read(clock: libc::clockid_t) -> Option<u64> {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: `time` is valid for the call.
    match unsafe { libc::clock_gettime(clock, &mut time) } {
        0 => Some(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64),
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_process_has_used_cpu_and_a_missing_one_has_none() {
        let before = process_cpu_ns(std::process::id() as i32).unwrap();
        // By its own clock: a busy machine may let us wait.
        let deadline = now_ns() + 30_000_000_000;
        while sibling_cpu_ns(thread_id()).unwrap() < 2_000_000 {
            assert!(now_ns() < deadline, "the thread's clock stands still");
        }
        assert!(process_cpu_ns(std::process::id() as i32).unwrap() > before);
        assert_eq!(process_cpu_ns(i32::MAX), None);
    }
}
