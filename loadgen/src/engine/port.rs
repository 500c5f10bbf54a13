//! What a worker shares with the coordinator and with the other workers: commands in, counters and credits out.

use super::Command;
use super::poller::Doorbell;
use super::stats::Stats;
use crate::latency::Latencies;
use std::io;
use std::sync::atomic::{AtomicBool, AtomicI32, AtomicU64, Ordering};
use std::sync::{Mutex, MutexGuard, PoisonError};

/// Latencies of one second.
pub struct Interval {
    pub tick: u64,
    pub delivery: Latencies,
}

pub struct Port {
    pub doorbell: Doorbell,
    commands: Mutex<Vec<Command>>,
    /// Flow index and deliveries, from the workers of its receivers to that of its publisher.
    credits: Mutex<Vec<(u32, u64)>>,
    stats: Mutex<Stats>,
    intervals: Mutex<Vec<Interval>>,
    first_error: Mutex<Option<String>>,
    /// Waits for the doorbell: whoever gives it something must ring.
    is_asleep: AtomicBool,
    has_mail: AtomicBool,
    thread_id: AtomicI32,
}

impl Port {
    pub fn new() -> io::Result<Port> {
        Ok(Port {
            doorbell: Doorbell::new()?,
            commands: Mutex::default(),
            credits: Mutex::default(),
            stats: Mutex::default(),
            intervals: Mutex::default(),
            first_error: Mutex::default(),
            is_asleep: AtomicBool::new(false),
            has_mail: AtomicBool::new(false),
            thread_id: AtomicI32::new(0),
        })
    }

    pub fn command(&self, command: Command) {
        lock(&self.commands).push(command);
        self.on_mail();
    }

    pub fn credit(&self, credits: impl Iterator<Item = (u32, u64)>) {
        lock(&self.credits).extend(credits);
        self.on_mail();
    }

    fn on_mail(&self) {
        self.has_mail.store(true, Ordering::SeqCst);
        if self.is_asleep.load(Ordering::SeqCst) {
            self.doorbell.ring();
        }
    }

    /// The worker is about to wait. False if there is mail: it must not.
    pub fn fall_asleep(&self) -> bool {
        self.is_asleep.store(true, Ordering::SeqCst);
        !self.has_mail.load(Ordering::SeqCst)
    }

    /// The worker is awake and takes its mail.
    pub fn take_mail(&self, commands: &mut Vec<Command>, credits: &mut Vec<(u32, u64)>) {
        self.is_asleep.store(false, Ordering::SeqCst);
        if self.has_mail.swap(false, Ordering::SeqCst) {
            commands.append(&mut lock(&self.commands));
            credits.append(&mut lock(&self.credits));
        }
    }

    pub fn put_stats(&self, stats: &Stats) {
        *lock(&self.stats) = *stats;
    }

    pub fn stats(&self) -> Stats {
        *lock(&self.stats)
    }

    pub fn put_interval(&self, interval: Interval) {
        lock(&self.intervals).push(interval);
    }

    pub fn take_intervals(&self) -> Vec<Interval> {
        std::mem::take(&mut lock(&self.intervals))
    }

    /// Keeps the first error for the report.
    pub fn put_error(&self, error: impl FnOnce() -> String) {
        lock(&self.first_error).get_or_insert_with(error);
    }

    pub fn first_error(&self) -> Option<String> {
        lock(&self.first_error).clone()
    }

    pub fn set_thread_id(&self, id: i32) {
        self.thread_id.store(id, Ordering::Relaxed);
    }

    /// CPU time of the worker's thread so far.
    pub fn cpu_ns(&self) -> u64 {
        crate::clock::sibling_cpu_ns(self.thread_id.load(Ordering::Relaxed)).unwrap_or(0)
    }
}

/// What they guard stays valid when a thread panics in between; the panic itself is reported by its join.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The interval of the run in which latencies are taken, by due time. Empty at first.
pub struct Measured {
    from_ns: AtomicU64,
    to_ns: AtomicU64,
}

impl Measured {
    pub fn new() -> Measured {
        Measured { from_ns: AtomicU64::new(u64::MAX), to_ns: AtomicU64::new(u64::MAX) }
    }

    pub fn set(&self, range: std::ops::Range<u64>) {
        self.to_ns.store(range.end, Ordering::Relaxed);
        self.from_ns.store(range.start, Ordering::Relaxed);
    }

    pub fn range(&self) -> std::ops::Range<u64> {
        self.from_ns.load(Ordering::Relaxed)..self.to_ns.load(Ordering::Relaxed)
    }
}
