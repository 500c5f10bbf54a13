//! What a figure depends on besides the broker: processor, kernel, limits, settings. Kept in every result, so that two
//! results can be told apart.

use std::collections::BTreeMap;
use std::fs;
use std::path::Path;
use std::process::Command;

use serde::{Deserialize, Serialize};

use crate::cores::CoreSet;

#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Host {
    pub cpu: String,
    pub cores_online: usize,
    /// Those that this process may use, such as `0-3`.
    pub cores_allowed: String,
    pub threads_per_core: Option<u64>,
    /// Empty on bare metal.
    pub hypervisor: String,
    pub governor: Option<String>,
    pub memory_bytes: u64,
    pub kernel: String,
    pub distribution: String,
    pub clock_source: Option<String>,
    pub transparent_hugepages: Option<String>,
    pub files_limit: u64,
    pub memlock_limit_bytes: u64,
    /// Share of the time since boot that the hypervisor took away, 0 to 1.
    pub steal_since_boot: f64,
    pub load_average: String,
    pub cpu_vulnerabilities: BTreeMap<String, String>,
    /// Kernel settings by their sysctl name.
    pub settings: BTreeMap<String, String>,
    /// Versions of the programs that were used to build and to measure.
    pub tools: BTreeMap<String, String>,
}

/// Settings that change what loopback traffic and many connections cost.
const SETTINGS: [&str; 15] = [
    "fs.file-max",
    "fs.nr_open",
    "kernel.io_uring_disabled",
    "kernel.perf_event_paranoid",
    "kernel.randomize_va_space",
    "net.core.default_qdisc",
    "net.core.netdev_max_backlog",
    "net.core.rmem_max",
    "net.core.somaxconn",
    "net.core.wmem_max",
    "net.ipv4.ip_local_port_range",
    "net.ipv4.tcp_congestion_control",
    "net.ipv4.tcp_max_syn_backlog",
    "net.ipv4.tcp_mem",
    "vm.swappiness",
];

const TOOLS: [(&str, &[&str]); 3] =
    [("rustc", &["--version"]), ("perf", &["--version"]), ("strace", &["--version"])];

impl Host {
    pub fn read() -> Host {
        let cpuinfo = read("/proc/cpuinfo").unwrap_or_default();
        let now = crate::core_times::CoreTimes::of(&[]).unwrap_or_default();
        Host {
            cpu: value_after(&cpuinfo, "model name", ':').unwrap_or_else(|| std::env::consts::ARCH.into()),
            cores_online: cpuinfo.lines().filter(|line| line.starts_with("processor")).count(),
            cores_allowed: CoreSet::allowed().map(|cores| cores.to_string()).unwrap_or_default(),
            threads_per_core: threads_per_core(),
            hypervisor: hypervisor(&cpuinfo),
            governor: read("/sys/devices/system/cpu/cpu0/cpufreq/scaling_governor"),
            memory_bytes: memory_bytes(),
            kernel: read("/proc/sys/kernel/osrelease").unwrap_or_default(),
            distribution: read("/etc/os-release")
                .and_then(|text| value_after(&text, "PRETTY_NAME", '='))
                .map(|name| name.trim_matches('"').to_owned())
                .unwrap_or_default(),
            clock_source: read("/sys/devices/system/clocksource/clocksource0/current_clocksource"),
            transparent_hugepages: read("/sys/kernel/mm/transparent_hugepage/enabled")
                .map(|text| chosen(&text)),
            files_limit: limit(libc::RLIMIT_NOFILE),
            memlock_limit_bytes: limit(libc::RLIMIT_MEMLOCK),
            steal_since_boot: now.steal_share_since(&Default::default()),
            load_average: read("/proc/loadavg").unwrap_or_default(),
            cpu_vulnerabilities: vulnerabilities(),
            settings: SETTINGS
                .iter()
                .filter_map(|name| Some((String::from(*name), setting(name)?)))
                .collect(),
            tools: TOOLS
                .iter()
                .map(|(name, arguments)| {
                    let line = first_line_of(name, arguments).unwrap_or_else(|| "not installed".into());
                    (String::from(*name), line)
                })
                .collect(),
        }
    }
}

/// The first line that a program prints; None if it cannot be started or prints nothing.
pub fn first_line_of(
    program: impl AsRef<std::ffi::OsStr>,
    arguments: &[impl AsRef<std::ffi::OsStr>],
) -> Option<String> {
    let output = Command::new(program).args(arguments).output().ok()?;
    let text = if output.stdout.is_empty() { output.stderr } else { output.stdout };
    let text = String::from_utf8_lossy(&text).into_owned();
    text.lines().map(str::trim).find(|line| !line.is_empty()).map(str::to_owned)
}

fn read(path: impl AsRef<Path>) -> Option<String> {
    Some(fs::read_to_string(path).ok()?.trim().to_owned())
}

fn setting(name: &str) -> Option<String> {
    let text = read(format!("/proc/sys/{}", name.replace('.', "/")))?;
    Some(text.split_whitespace().collect::<Vec<_>>().join(" "))
}

fn value_after(text: &str, name: &str, separator: char) -> Option<String> {
    let line = text.lines().find(|line| line.starts_with(name))?;
    Some(line.split_once(separator)?.1.trim().to_owned())
}

/// The one in brackets of `always [madvise] never`.
fn chosen(text: &str) -> String {
    let inner = text.split_once('[').and_then(|(_, rest)| rest.split_once(']'));
    inner.map_or(text, |(inner, _)| inner).to_owned()
}

fn threads_per_core() -> Option<u64> {
    let siblings: crate::cores::CoreSet =
        read("/sys/devices/system/cpu/cpu0/topology/thread_siblings_list")?.parse().ok()?;
    Some(siblings.count() as u64)
}

fn hypervisor(cpuinfo: &str) -> String {
    let has_flag = cpuinfo.lines().any(|line| line.starts_with("flags") && line.contains(" hypervisor"));
    match (has_flag, read("/sys/class/dmi/id/sys_vendor")) {
        (false, _) => String::new(),
        (true, Some(vendor)) => vendor,
        (true, None) => "virtual machine".into(),
    }
}

fn memory_bytes() -> u64 {
    let kib = read("/proc/meminfo")
        .and_then(|text| value_after(&text, "MemTotal", ':'))
        .and_then(|value| value.split_whitespace().next()?.parse::<u64>().ok());
    kib.unwrap_or(0) * 1024
}

/// The hard limit of this process, which children raise theirs to.
fn limit(resource: libc::__rlimit_resource_t) -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: the pointer is to a live value of the right type.
    match unsafe { libc::getrlimit(resource, &raw mut limit) } {
        0 => limit.rlim_max,
        _ => 0,
    }
}

fn vulnerabilities() -> BTreeMap<String, String> {
    let Ok(entries) = fs::read_dir("/sys/devices/system/cpu/vulnerabilities") else { return BTreeMap::new() };
    entries
        .filter_map(|entry| {
            let entry = entry.ok()?;
            let state = read(entry.path())?;
            (state != "Not affected").then(|| (entry.file_name().to_string_lossy().into_owned(), state))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_is_described() {
        let host = Host::read();
        assert!(host.cores_online >= 1 && host.memory_bytes > 1 << 20 && host.files_limit > 0, "{host:?}");
        assert!(
            !host.cpu.is_empty()
                && !host.kernel.is_empty()
                && host.settings.contains_key("net.core.somaxconn")
        );
    }

    #[test]
    fn values_are_cut_out_of_their_files() {
        assert_eq!(chosen("always [madvise] never"), "madvise");
        assert_eq!(chosen("none"), "none");
        assert_eq!(value_after("a: 1\nname\t: The CPU\n", "name", ':').as_deref(), Some("The CPU"));
        assert_eq!(first_line_of("sh", &["-c", "echo; echo one; echo two"]).as_deref(), Some("one"));
        assert_eq!(first_line_of("/no/such/program", &[""; 0]), None);
    }
}
