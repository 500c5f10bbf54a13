//! The disk below the broker's data, swapping, and where a core dump would go.

use std::ffi::CString;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use super::finding::{Finding, State};
use super::system::{System, chosen};

const FREE_BYTES: u64 = 10 << 30;
const SWAPPINESS_MAX: u64 = 10;

pub fn findings(system: &System, data_dir: &Path) -> Vec<Finding> {
    let mut findings = vec![free_disk(data_dir), swappiness(system), core_dump(system)];
    findings.extend(file_system(system, data_dir));
    findings.extend(
        device_of(system, data_dir).map(|device| device_findings(system, &device)).unwrap_or_default(),
    );
    findings
}

fn free_disk(data_dir: &Path) -> Finding {
    let why = "a full disk stops messages of QoS 1 and 2 to sessions that persist";
    let Some(free) = free_bytes(data_dir) else { return Finding::unknown("free-disk", why) };
    let current = format!("{} GiB at {}", free >> 30, data_dir.display());
    Finding::new(
        "free-disk",
        current,
        format!("at least {} GiB", FREE_BYTES >> 30),
        why,
        "a larger disk, or another --data-dir",
    )
    .judged(State::pass_if(free >= FREE_BYTES, State::Warn))
}

fn free_bytes(path: &Path) -> Option<u64> {
    let path = CString::new(path.as_os_str().as_bytes()).ok()?;
    // SAFETY: the structure is plain numbers, for which zero is a value.
    let mut status: libc::statvfs = unsafe { std::mem::zeroed() };
    // SAFETY: the path ends with a zero byte, and `status` is valid and writable.
    let result = unsafe { libc::statvfs(path.as_ptr(), &mut status) };
    (result == 0).then(|| status.f_bavail * status.f_frsize)
}

fn swappiness(system: &System) -> Finding {
    let why = "a session that was swapped out answers only after a read from the disk";
    let Some(current) = system.setting_number("vm.swappiness") else {
        return Finding::unknown("swapping", why);
    };
    let has_swap = system.read("proc/swaps").is_some_and(|text| text.lines().count() > 1);
    let told = if has_swap { format!("vm.swappiness = {current}") } else { "no swap".to_owned() };
    let mut finding = Finding::new(
        "swapping",
        told,
        format!("no swap, or at most {SWAPPINESS_MAX}"),
        why,
        "sysctl -w vm.swappiness=1",
    );
    finding.revert = Some(format!("sysctl -w vm.swappiness={current}"));
    finding.judged(State::pass_if(!has_swap || current <= SWAPPINESS_MAX, State::Warn))
}

fn core_dump(system: &System) -> Finding {
    let why = "without a core dump a crash cannot be explained afterwards";
    let Some(pattern) = system.setting("kernel.core_pattern") else {
        return Finding::unknown("core-dump", why);
    };
    let is_kept = pattern.starts_with('/') || pattern.starts_with('|');
    let current = if pattern.is_empty() { "none".to_owned() } else { pattern.clone() };
    let mut finding = Finding::new(
        "core-dump",
        current,
        "a place of its own",
        why,
        "systemd-coredump, or sysctl -w kernel.core_pattern=/var/crash/%e.%p",
    );
    finding.revert = Some(format!("sysctl -w kernel.core_pattern='{pattern}'"));
    finding.judged(State::pass_if(is_kept, State::Warn))
}

fn file_system(system: &System, data_dir: &Path) -> Option<Finding> {
    let kind = mounted_kind(&system.read("proc/self/mounts")?, &fs::canonicalize(data_dir).ok()?)?;
    let is_well = matches!(kind.as_str(), "ext4" | "xfs");
    let why = "the journal was tested on these; others may lie about what reached the disk";
    Some(
        Finding::new("file-system", kind, "ext4 or xfs", why, "another --data-dir")
            .judged(State::pass_if(is_well, State::Warn)),
    )
}

/// The kind of the file system with the longest mount point above `path`.
fn mounted_kind(mounts: &str, path: &Path) -> Option<String> {
    let mounts = mounts.lines().filter_map(|line| {
        let mut fields = line.split_whitespace().skip(1);
        Some((fields.next()?, fields.next()?))
    });
    let above = mounts.filter(|(point, _)| path.starts_with(point));
    above.max_by_key(|(point, _)| point.len()).map(|(_, kind)| kind.to_owned())
}

/// `sys/block/DEVICE` of the disk that holds a directory.
fn device_of(system: &System, path: &Path) -> Option<PathBuf> {
    let device = fs::metadata(path).ok()?.dev();
    let (major, minor) = (libc::major(device), libc::minor(device));
    let wanted = format!("{major}:{minor}");
    let block = Path::new("sys/block");
    system.names(block).into_iter().map(|name| block.join(name)).find(|disk| {
        let is_wanted = |folder: &Path| system.read(folder.join("dev")).as_deref() == Some(&wanted);
        is_wanted(disk) || system.names(disk).iter().any(|partition| is_wanted(&disk.join(partition)))
    })
}

fn device_findings(system: &System, disk: &Path) -> Vec<Finding> {
    let name = disk.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let queue = disk.join("queue");
    let read = |file: &str| system.read(queue.join(file));
    let set = |file: &str, value: &str| format!("echo {value} > /sys/block/{name}/queue/{file}");
    let mut findings = Vec::new();
    if let Some(text) = read("scheduler") {
        let current = chosen(&text).to_owned();
        let why = "the journal writes in its own order; sorting again only delays";
        let mut finding = Finding::new(
            "disk-scheduler",
            format!("{name}: {current}"),
            "none",
            why,
            set("scheduler", "none"),
        );
        finding.revert = Some(set("scheduler", &current));
        findings.push(finding.judged(State::pass_if(current == "none", State::Warn)));
    }
    if let Some(current) = read("nomerges") {
        let why = "the journal's writes are large already; looking for neighbours costs time";
        let mut finding =
            Finding::new("disk-merges", format!("{name}: {current}"), "2", why, set("nomerges", "2"));
        finding.revert = Some(set("nomerges", &current));
        findings.push(finding.judged(State::pass_if(current == "2", State::Warn)));
    }
    if let Some(current) = read("write_cache") {
        let why = "with a volatile cache each commit waits for a flush; it is safe, but it is what the latency shows";
        let fix = "a disk with power-loss protection, which says write through";
        findings.push(
            Finding::new("disk-write-cache", format!("{name}: {current}"), "write through", why, fix)
                .judged(State::pass_if(current == "write through", State::Warn)),
        );
    }
    findings
}

#[cfg(test)]
mod tests {
    use super::super::system::made_of;
    use super::*;

    #[test]
    fn the_longest_mount_point_counts() {
        let mounts =
            "a / ext4 rw 0 0\nb /data xfs rw 0 0\nc /data/tmp tmpfs rw 0 0\nd /database btrfs rw 0 0";
        for (path, kind) in
            [("/data/x", "xfs"), ("/data/tmp/y", "tmpfs"), ("/home", "ext4"), ("/database", "btrfs")]
        {
            assert_eq!(mounted_kind(mounts, Path::new(path)).as_deref(), Some(kind));
        }
    }

    #[test]
    fn a_disk_is_judged_by_its_queue() {
        let (_dir, system) = made_of(&[
            ("sys/block/vdz/queue/scheduler", "none [mq-deadline] bfq"),
            ("sys/block/vdz/queue/nomerges", "2"),
            ("sys/block/vdz/queue/write_cache", "write back"),
        ]);
        let findings = device_findings(&system, Path::new("sys/block/vdz"));
        let states: Vec<_> = findings.iter().map(|finding| (finding.id, finding.state)).collect();
        assert_eq!(
            states,
            [
                ("disk-scheduler", State::Warn),
                ("disk-merges", State::Pass),
                ("disk-write-cache", State::Warn)
            ]
        );
        assert_eq!(findings[0].revert.as_deref(), Some("echo mq-deadline > /sys/block/vdz/queue/scheduler"));
    }

    #[test]
    fn swapping_matters_only_with_swap() {
        let swaps = "Filename Type Size Used Priority";
        for (swaps, state) in
            [(swaps.to_owned(), State::Pass), (format!("{swaps}\n/dev/x partition 1 0 -2"), State::Warn)]
        {
            let (_dir, system) = made_of(&[("proc/sys/vm/swappiness", "60"), ("proc/swaps", &swaps)]);
            assert_eq!(super::swappiness(&system).state, state);
        }
    }
}
