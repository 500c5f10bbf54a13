//! What a process has used so far, from the kernel's own books: CPU time of all its threads, memory, context switches.
//! Two readings, subtracted, are the cost of what happened between them.

use std::fs;
use std::io;
use std::ops::Sub;

use serde::{Deserialize, Serialize};

/// Since the start of the process, except for the two sizes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Usage {
    /// User and system time of all threads, those that have ended included.
    pub cpu_ns: u64,
    /// The two parts in units of the kernel's tick (10 ms); only their ratio is meaningful.
    pub user_ticks: u64,
    pub system_ticks: u64,
    /// Of the threads that live now.
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
    pub rss_bytes: u64,
    pub rss_peak_bytes: u64,
    pub thread_count: u64,
}

impl Usage {
    pub fn of(pid: u32) -> io::Result<Usage> {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat"))?;
        let status = fs::read_to_string(format!("/proc/{pid}/status"))?;
        let (user_ticks, system_ticks) = ticks(&stat).ok_or_else(|| invalid("/proc/PID/stat"))?;
        let (voluntary_switches, involuntary_switches) = switches(pid)?;
        Ok(Usage {
            cpu_ns: cpu_ns(pid)?,
            user_ticks,
            system_ticks,
            voluntary_switches,
            involuntary_switches,
            rss_bytes: field(&status, "VmRSS:").unwrap_or(0) * 1024,
            rss_peak_bytes: field(&status, "VmHWM:").unwrap_or(0) * 1024,
            thread_count: field(&status, "Threads:").unwrap_or(0),
        })
    }

    /// Share of user time in all CPU time, 0 to 1; None if there were too few ticks to say.
    pub fn user_share(&self) -> Option<f64> {
        let ticks = self.user_ticks + self.system_ticks;
        (ticks >= 10).then(|| self.user_ticks as f64 / ticks as f64)
    }
}

/// The cost between two readings. The sizes are those of the later one.
impl Sub for Usage {
    type Output = Usage;

    fn sub(self, before: Usage) -> Usage {
        Usage {
            cpu_ns: self.cpu_ns.saturating_sub(before.cpu_ns),
            user_ticks: self.user_ticks.saturating_sub(before.user_ticks),
            system_ticks: self.system_ticks.saturating_sub(before.system_ticks),
            voluntary_switches: self.voluntary_switches.saturating_sub(before.voluntary_switches),
            involuntary_switches: self.involuntary_switches.saturating_sub(before.involuntary_switches),
            ..self
        }
    }
}

fn invalid(what: &str) -> io::Error {
    io::Error::new(io::ErrorKind::InvalidData, format!("{what} has not the expected form"))
}

/// The CPU clock of another process, in nanoseconds.
fn cpu_ns(pid: u32) -> io::Result<u64> {
    let mut clock: libc::clockid_t = 0;
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: both pointers are to live values of the right type.
    unsafe {
        match libc::clock_getcpuclockid(pid as libc::pid_t, &raw mut clock) {
            0 => {}
            error => return Err(io::Error::from_raw_os_error(error)),
        }
        if libc::clock_gettime(clock, &raw mut time) != 0 {
            return Err(io::Error::last_os_error());
        }
    }
    Ok(time.tv_sec as u64 * 1_000_000_000 + time.tv_nsec as u64)
}

/// User and system ticks of /proc/PID/stat. The command's name may hold anything, so fields count from its last ')'.
fn ticks(stat: &str) -> Option<(u64, u64)> {
    let mut fields = stat.rsplit_once(')')?.1.split_whitespace().skip(11);
    Some((fields.next()?.parse().ok()?, fields.next()?.parse().ok()?))
}

fn field(status: &str, name: &str) -> Option<u64> {
    let line = status.lines().find_map(|line| line.strip_prefix(name))?;
    line.split_whitespace().next()?.parse().ok()
}

/// Voluntary and involuntary context switches, summed over the threads.
fn switches(pid: u32) -> io::Result<(u64, u64)> {
    let mut sums = (0, 0);
    for thread in fs::read_dir(format!("/proc/{pid}/task"))? {
        // A thread may end while it is looked at.
        let Ok(status) = fs::read_to_string(thread?.path().join("status")) else { continue };
        sums.0 += field(&status, "voluntary_ctxt_switches:").unwrap_or(0);
        sums.1 += field(&status, "nonvoluntary_ctxt_switches:").unwrap_or(0);
    }
    Ok(sums)
}

/// Times of one core since boot, in ticks.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct CoreTimes {
    pub busy: u64,
    pub idle: u64,
    /// The hypervisor ran something else although the core had work.
    pub steal: u64,
}

impl CoreTimes {
    /// Of all cores together if `cores` is empty.
    pub fn of(cores: &[usize]) -> io::Result<CoreTimes> {
        Ok(sum_core_times(&fs::read_to_string("/proc/stat")?, cores))
    }

    /// Steal since an earlier reading, as a share of the time.
    pub fn steal_share_since(&self, before: &CoreTimes) -> f64 {
        let all = |times: &CoreTimes| times.busy + times.idle + times.steal;
        let elapsed = all(self).saturating_sub(all(before));
        if elapsed == 0 { 0.0 } else { self.steal.saturating_sub(before.steal) as f64 / elapsed as f64 }
    }
}

fn sum_core_times(stat: &str, cores: &[usize]) -> CoreTimes {
    let mut sum = CoreTimes::default();
    for line in stat.lines() {
        let mut fields = line.split_whitespace();
        let Some(number) = fields.next().and_then(|name| name.strip_prefix("cpu")) else { continue };
        let is_wanted = match number.parse() {
            Ok(core) => cores.contains(&core),
            Err(_) => cores.is_empty(),
        };
        if is_wanted {
            let times: Vec<u64> = fields.filter_map(|field| field.parse().ok()).collect();
            let at = |index: usize| times.get(index).copied().unwrap_or(0);
            sum.busy += at(0) + at(1) + at(2) + at(5) + at(6);
            sum.idle += at(3) + at(4);
            sum.steal += at(7);
        }
    }
    sum
}

#[cfg(test)]
mod tests {
    use std::hint::black_box;

    use super::*;

    #[test]
    fn work_is_seen_as_cpu_time_of_the_process() {
        let before = Usage::of(std::process::id()).unwrap();
        let mut sum = 0u64;
        while Usage::of(std::process::id()).unwrap().cpu_ns - before.cpu_ns < 20_000_000 {
            sum = (0..100_000).fold(sum, |sum, n| black_box(sum + n));
        }
        let used = Usage::of(std::process::id()).unwrap() - before;
        assert!(used.cpu_ns >= 20_000_000 && used.rss_bytes > 100_000 && used.thread_count >= 1, "{used:?}");
    }

    #[test]
    fn a_process_that_is_gone_is_an_error() {
        let mut child = std::process::Command::new("true").spawn().unwrap();
        child.wait().unwrap();
        assert!(Usage::of(child.id()).is_err());
    }

    #[test]
    fn ticks_are_found_behind_any_name() {
        let stat = "7 (a) b (c)) S 1 2 3 4 5 6 7 8 9 10 111 222 0 0 20";
        assert_eq!(ticks(stat), Some((111, 222)));
        assert_eq!(ticks("7 (cut) S 1"), None);
    }

    #[test]
    fn core_times_add_up() {
        let stat = "cpu 99 0 0 0\ncpu0 1 2 3 100 10 4 5 50 0 0\ncpu1 1 0 0 9 0 0 0 0 0 0\nintr 5\n";
        let one = sum_core_times(stat, &[0]);
        assert_eq!(one, CoreTimes { busy: 15, idle: 110, steal: 50 });
        assert_eq!(sum_core_times(stat, &[0, 1]).busy, 16);
        assert_eq!(sum_core_times(stat, &[]).busy, 99);
        let later = CoreTimes { busy: 25, idle: 160, steal: 90 };
        assert!((later.steal_share_since(&one) - 0.4).abs() < 1e-9);
    }
}
