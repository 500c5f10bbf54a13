//! What a process has used so far, from /proc: CPU time, memory, context switches.

use crate::clock;
use serde::Serialize;
use std::fs;

/// The sum over the processes that are watched.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Usage {
    /// All threads, user and system, also of threads that ended.
    pub cpu_ns: u64,
    /// In steps of the kernel's tick, usually 10 ms.
    pub user_ns: u64,
    pub system_ns: u64,
    /// Of the threads that live.
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
    pub rss_bytes: u64,
    pub rss_peak_bytes: u64,
    pub threads: u64,
}

impl Usage {
    /// Processes that do not exist, or end meanwhile, count as nothing.
    pub fn of(pids: &[i32]) -> Usage {
        let mut sum = Usage::default();
        for pid in pids {
            sum.cpu_ns += clock::process_cpu_ns(*pid).unwrap_or(0);
            sum.add_stat(*pid);
            sum.add_status(*pid);
            sum.add_switches(*pid);
        }
        sum
    }

    fn add_stat(&mut self, pid: i32) {
        let stat = fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
        // The name may contain anything, but only it contains a parenthesis.
        let fields: Vec<&str> = stat.rsplit(')').next().unwrap_or("").split_whitespace().collect();
        let ticks = |at: usize| fields.get(at).and_then(|field| field.parse::<u64>().ok()).unwrap_or(0);
        let tick_ns = 1_000_000_000 / ticks_per_second();
        self.user_ns += ticks(11) * tick_ns;
        self.system_ns += ticks(12) * tick_ns;
        self.threads += ticks(17);
    }

    fn add_status(&mut self, pid: i32) {
        let status = fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
        self.rss_bytes += number(&status, "VmRSS:") * 1024;
        self.rss_peak_bytes += number(&status, "VmHWM:") * 1024;
    }

    fn add_switches(&mut self, pid: i32) {
        let Ok(threads) = fs::read_dir(format!("/proc/{pid}/task")) else { return };
        for thread in threads.flatten() {
            let status = fs::read_to_string(thread.path().join("status")).unwrap_or_default();
            self.voluntary_switches += number(&status, "voluntary_ctxt_switches:");
            self.involuntary_switches += number(&status, "nonvoluntary_ctxt_switches:");
        }
    }
}

/// The number behind a name at the start of a line; 0 if there is none.
fn number(text: &str, name: &str) -> u64 {
    let line = text.lines().find_map(|line| line.strip_prefix(name));
    line.and_then(|rest| rest.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

fn ticks_per_second() -> u64 {
    // SAFETY: the call takes no pointers.
    match unsafe { libc::sysconf(libc::_SC_CLK_TCK) } {
        ticks @ 1.. => ticks as u64,
        _ => 100,
    }
}

/// What the broker used in the measured interval.
#[derive(Clone, Debug, Serialize)]
pub struct BrokerReport {
    pub pids: Vec<i32>,
    pub threads: u64,
    pub cpu_ns: u64,
    pub user_ns: u64,
    pub system_ns: u64,
    /// Cores that were busy on average.
    pub cores: f64,
    pub cpu_ns_per_delivered: f64,
    pub voluntary_switches: u64,
    pub involuntary_switches: u64,
    pub switches_per_delivered: f64,
    pub rss_begin_bytes: u64,
    pub rss_end_bytes: u64,
    /// Since the process began.
    pub rss_peak_bytes: u64,
}

impl BrokerReport {
    pub fn new(pids: &[i32], begin: &Usage, end: &Usage, elapsed_ns: u64, delivered: u64) -> BrokerReport {
        let cpu_ns = end.cpu_ns.saturating_sub(begin.cpu_ns);
        let voluntary_switches = end.voluntary_switches.saturating_sub(begin.voluntary_switches);
        let involuntary_switches = end.involuntary_switches.saturating_sub(begin.involuntary_switches);
        BrokerReport {
            pids: pids.to_vec(),
            threads: end.threads,
            cpu_ns,
            user_ns: end.user_ns.saturating_sub(begin.user_ns),
            system_ns: end.system_ns.saturating_sub(begin.system_ns),
            cores: ratio(cpu_ns, elapsed_ns),
            cpu_ns_per_delivered: ratio(cpu_ns, delivered),
            voluntary_switches,
            involuntary_switches,
            switches_per_delivered: ratio(voluntary_switches + involuntary_switches, delivered),
            rss_begin_bytes: begin.rss_bytes,
            rss_end_bytes: end.rss_bytes,
            rss_peak_bytes: end.rss_peak_bytes,
        }
    }
}

/// 0 where there is nothing to divide by.
pub fn ratio(part: u64, whole: u64) -> f64 {
    match whole {
        0 => 0.0,
        _ => part as f64 / whole as f64,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_usage_is_seen_and_none_of_a_missing_process() {
        let usage = Usage::of(&[std::process::id() as i32]);
        assert!(usage.cpu_ns > 0 && usage.threads >= 1 && usage.rss_bytes > 100_000);
        assert!(usage.rss_peak_bytes >= usage.rss_bytes);
        assert_eq!(Usage::of(&[i32::MAX]), Usage::default());
    }

    #[test]
    fn numbers_are_found_by_the_whole_name() {
        let status = "nonvoluntary_ctxt_switches:\t7\nvoluntary_ctxt_switches:\t9\n";
        assert_eq!(number(status, "voluntary_ctxt_switches:"), 9);
        assert_eq!(number(status, "nonvoluntary_ctxt_switches:"), 7);
        assert_eq!(number(status, "VmRSS:"), 0);
    }
}
