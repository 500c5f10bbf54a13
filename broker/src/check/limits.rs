//! Files, locked memory, io_uring, memory: what the broker needs to start and to hold its connections.

use super::finding::{Finding, State, at_least};
use super::system::System;
use crate::machine;

/// Files beside the connections: listeners, journal, event loops.
const OTHER_FILES: u64 = 1024;
/// Wanted for each core; below, backpressure begins early.
const MEMORY_PER_CORE: u64 = 1 << 30;
/// Kernel and broker together, of an idle plain connection.
const BYTES_PER_CONNECTION: u64 = 6 * 1024;

pub fn findings(system: &System, connections: u64) -> Vec<Finding> {
    let files = connections + OTHER_FILES;
    vec![
        files_of_process(files),
        at_least(
            system,
            "files-per-process",
            "fs.nr_open",
            files,
            State::Fail,
            "caps what a limit on open files can be",
        ),
        at_least(
            system,
            "files-of-all",
            "fs.file-max",
            files,
            State::Fail,
            "each connection is an open file",
        ),
        io_uring(),
        kernel(system),
        memory_per_core(),
        memory_for(connections),
        quota(system),
    ]
}

fn files_of_process(wanted: u64) -> Finding {
    let limit = machine::file_limit();
    let fix = format!(
        "ulimit -Hn {wanted} in the shell that starts it; systemd: LimitNOFILE={wanted}; containers: --ulimit nofile={wanted}"
    );
    Finding::new(
        "files",
        format!("{limit}"),
        format!("at least {wanted}"),
        "each connection is an open file",
        fix,
    )
    .judged(State::pass_if(limit >= wanted, State::Fail))
}

/// Asks the kernel as the broker does at its start.
fn io_uring() -> Finding {
    let shards = machine::cores().len();
    let (current, state, fix) = match shard::runtime::probe(shards) {
        Ok(()) => ("works".to_owned(), State::Pass, String::new()),
        Err(error) => ("refused".to_owned(), State::Fail, error.to_string()),
    };
    Finding::new("io-uring", current, "works", "the shards do all their input and output through it", fix)
        .judged(state)
}

fn kernel(system: &System) -> Finding {
    let why = "older ones lack parts of io_uring that the event loop uses";
    let Some(release) = system.setting("kernel.osrelease") else { return Finding::unknown("kernel", why) };
    let mut parts =
        release.split(|byte: char| !byte.is_ascii_digit()).map(|part| part.parse::<u32>().unwrap_or(0));
    let version = (parts.next().unwrap_or(0), parts.next().unwrap_or(0));
    Finding::new("kernel", release.clone(), "6.1 or later", why, "a newer kernel")
        .judged(State::pass_if(version >= (6, 1), State::Fail))
}

fn memory_per_core() -> Finding {
    let why = "connections, queues and the kernel's socket buffers share it";
    let Some(memory) = machine::memory_bytes() else { return Finding::unknown("memory-per-core", why) };
    let each = memory / machine::cores().len().max(1) as u64;
    let fix = "more memory, or fewer cores for the broker (--cores)";
    Finding::new("memory-per-core", mib(each), format!("at least {}", mib(MEMORY_PER_CORE)), why, fix)
        .judged(State::pass_if(each >= MEMORY_PER_CORE, State::Warn))
}

fn memory_for(connections: u64) -> Finding {
    let why = "an idle connection takes some 6 KiB, most of it in the kernel";
    let Some(memory) = machine::memory_bytes() else {
        return Finding::unknown("memory-for-connections", why);
    };
    let wanted = connections * BYTES_PER_CONNECTION;
    Finding::new(
        "memory-for-connections",
        mib(memory),
        format!("at least {}", mib(wanted)),
        why,
        "more memory, or fewer connections",
    )
    .judged(State::pass_if(memory >= wanted, State::Fail))
}

/// A quota that is not a whole number of cores stops all shards for the rest of each period.
fn quota(system: &System) -> Finding {
    let why = "a quota stops the shards in the middle of their work, for up to 100 ms";
    let quota = system.read("sys/fs/cgroup/cpu.max").unwrap_or_else(|| "max".into());
    let mut parts = quota.split_whitespace().map(|part| part.parse::<u64>().ok());
    let fix =
        "a CPU set instead of a quota, or a quota of whole cores (Kubernetes: static CPU manager policy)";
    let state = match (parts.next().flatten(), parts.next().flatten()) {
        (Some(quota), Some(period)) if period > 0 => State::pass_if(quota % period == 0, State::Fail),
        _ => State::Pass,
    };
    Finding::new("cpu-quota", quota, "none, or of whole cores", why, fix).judged(state)
}

fn mib(bytes: u64) -> String {
    format!("{} MiB", bytes >> 20)
}

#[cfg(test)]
mod tests {
    use super::super::system::made_of;
    use super::*;

    #[test]
    fn kernels_are_compared_by_number() {
        for (release, state) in [
            ("6.1.0-13-amd64", State::Pass),
            ("6.18.4", State::Pass),
            ("5.15.0", State::Fail),
            ("6.0.9", State::Fail),
        ] {
            let (_dir, system) = made_of(&[("proc/sys/kernel/osrelease", release)]);
            assert_eq!(kernel(&system).state, state, "{release}");
        }
    }

    #[test]
    fn a_quota_of_part_of_a_core_fails() {
        for (text, state) in
            [("max 100000", State::Pass), ("200000 100000", State::Pass), ("150000 100000", State::Fail)]
        {
            let (_dir, system) = made_of(&[("sys/fs/cgroup/cpu.max", text)]);
            assert_eq!(quota(&system).state, state, "{text}");
        }
    }

    #[test]
    fn file_limits_count_the_connections() {
        let (_dir, system) = made_of(&[("proc/sys/fs/nr_open", "1048576")]);
        let state_of = |connections| {
            let findings = findings(&system, connections);
            findings.iter().find(|finding| finding.id == "files-per-process").unwrap().clone()
        };
        assert_eq!(state_of(1000).state, State::Pass);
        let failed = state_of(2_000_000);
        assert_eq!(
            (failed.state, failed.revert.as_deref()),
            (State::Fail, Some("sysctl -w fs.nr_open=1048576"))
        );
        assert!(failed.fix.starts_with("sysctl -w fs.nr_open=2001024"));
    }
}
