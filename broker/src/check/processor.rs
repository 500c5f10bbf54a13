//! Clock, frequency, threads, stolen time: what makes the same work take different times.

use super::finding::{Finding, State};
use super::system::{System, chosen};

/// Stolen time beyond this share since boot makes figures of little worth.
const STEAL_MAX: f64 = 0.01;

pub fn findings(system: &System) -> Vec<Finding> {
    let mut findings = vec![clock_source(system), steal(system), hugepages(system)];
    findings.extend(governor(system));
    findings.extend(threads(system));
    findings.extend(clock_is_set(system));
    findings
}

fn clock_source(system: &System) -> Finding {
    let why = "others cost a system call or an exit of the virtual machine for each look at the clock";
    let Some(current) = system.read("sys/devices/system/clocksource/clocksource0/current_clocksource") else {
        return Finding::unknown("clock-source", why);
    };
    let fix = "echo tsc > /sys/devices/system/clocksource/clocksource0/current_clocksource, if available_clocksource has it";
    let is_well =
        ["tsc", "kvm-clock", "arch_sys_counter", "hyperv_clocksource_tsc_page"].contains(&current.as_str());
    Finding::new("clock-source", current, "tsc", why, fix).judged(State::pass_if(is_well, State::Warn))
}

/// Since boot, of all cores.
fn steal(system: &System) -> Finding {
    let why = "the hypervisor runs others on these cores; latencies then tell about them";
    let stat = system.read("proc/stat").unwrap_or_default();
    let times: Vec<f64> = stat
        .lines()
        .find_map(|line| line.strip_prefix("cpu "))
        .map(|times| times.split_whitespace().filter_map(|time| time.parse().ok()).collect())
        .unwrap_or_default();
    let all: f64 = times.iter().take(8).sum();
    let Some(stolen) = times.get(7).filter(|_| all > 0.0) else { return Finding::unknown("steal", why) };
    let share = stolen / all;
    Finding::new(
        "steal",
        format!("{:.2} % since boot", 100.0 * share),
        "below 1 %",
        why,
        "a machine with cores of its own",
    )
    .judged(State::pass_if(share < STEAL_MAX, State::Warn))
}

fn hugepages(system: &System) -> Finding {
    let why = "buffers of the event loops ask for large pages where it pays";
    let Some(text) = system.read("sys/kernel/mm/transparent_hugepage/enabled") else {
        return Finding::unknown("large-pages", why);
    };
    let current = chosen(&text).to_owned();
    let state = State::pass_if(matches!(current.as_str(), "madvise" | "always"), State::Warn);
    let mut finding = Finding::new(
        "large-pages",
        current.clone(),
        "madvise",
        why,
        "echo madvise > /sys/kernel/mm/transparent_hugepage/enabled",
    );
    finding.revert = Some(format!("echo {current} > /sys/kernel/mm/transparent_hugepage/enabled"));
    finding.judged(state)
}

/// Only where the kernel sets the frequency; a guest cannot.
fn governor(system: &System) -> Option<Finding> {
    let current = system.read("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor")?;
    let why = "the frequency follows the load otherwise, and with it every figure";
    let fix = "cpupower frequency-set -g performance";
    let state = State::pass_if(current == "performance", State::Warn);
    let mut finding = Finding::new("governor", current.clone(), "performance", why, fix);
    finding.revert = Some(format!("cpupower frequency-set -g {current}"));
    Some(finding.judged(state))
}

/// Two shards on one core share its units.
fn threads(system: &System) -> Option<Finding> {
    let siblings = system.read("sys/devices/system/cpu/cpu0/topology/thread_siblings_list")?;
    let is_shared = siblings.contains([',', '-']);
    let why = "two shards on the threads of one core get in each other's way; a sweep over cores then bends";
    let fix = "--cores with one thread of each core: the first of each /sys/devices/system/cpu/cpu*/topology/thread_siblings_list";
    let current =
        if is_shared { format!("core 0 has the threads {siblings}") } else { "one thread a core".to_owned() };
    Some(
        Finding::new("threads", current, "one shard on each core", why, fix)
            .judged(State::pass_if(!is_shared, State::Warn)),
    )
}

/// What systemd or chrony leave behind once the clock is set by the network.
fn clock_is_set(system: &System) -> Option<Finding> {
    let is_set = system.exists("run/systemd/timesync/synchronized")
        || ["chronyd", "ntpd"].iter().any(|name| system.runs(name));
    let why = "expiry, wills and tests over several machines go by the wall clock";
    let current = if is_set { "set by the network" } else { "nothing sets it" };
    Some(
        Finding::new("wall-clock", current, "set by the network", why, "chrony or systemd-timesyncd")
            .judged(State::pass_if(is_set, State::Warn)),
    )
}

#[cfg(test)]
mod tests {
    use super::super::system::made_of;
    use super::*;

    #[test]
    fn each_fact_is_judged() {
        let clock = "sys/devices/system/clocksource/clocksource0/current_clocksource";
        let well = [
            (clock, "tsc\n"),
            ("proc/stat", "cpu  1 2 3 990 0 0 0 4 0 0\ncpu0 1 1 1 1\n"),
            ("sys/kernel/mm/transparent_hugepage/enabled", "always [madvise] never"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "performance"),
            ("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0"),
            ("proc/17/comm", "chronyd\n"),
        ];
        let ill = [
            (clock, "hpet"),
            ("proc/stat", "cpu  1 2 3 900 0 0 0 94 0 0"),
            ("sys/kernel/mm/transparent_hugepage/enabled", "always madvise [never]"),
            ("sys/devices/system/cpu/cpu0/cpufreq/scaling_governor", "powersave"),
            ("sys/devices/system/cpu/cpu0/topology/thread_siblings_list", "0,4"),
        ];
        for (files, state) in [(&well[..], State::Pass), (&ill[..], State::Warn)] {
            let (_dir, system) = made_of(files);
            let findings = findings(&system);
            assert_eq!(findings.len(), 6);
            assert!(findings.iter().all(|finding| finding.state == state), "{findings:#?}");
        }
    }

    #[test]
    fn what_is_not_told_is_unknown() {
        let (_dir, system) = made_of(&[]);
        assert_eq!(clock_source(&system).state, State::Unknown);
        assert_eq!(steal(&system).state, State::Unknown);
        assert_eq!(governor(&system), None);
    }
}
