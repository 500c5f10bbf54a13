//! What the machine lets this process use: cores, memory, files. Asked once at start.

use std::fs;
use std::path::{Path, PathBuf};

/// The cores of the process's affinity mask, in order.
pub fn cores() -> Vec<usize> {
    // SAFETY: the set is plain memory, and the call writes at most its size.
    let set = unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &mut set) != 0 {
            return (0..std::thread::available_parallelism().map_or(1, usize::from)).collect();
        }
        set
    };
    // SAFETY: the index is below the size of the set.
    (0..libc::CPU_SETSIZE as usize).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect()
}

/// Keeps the calling thread, and those that it starts, on some cores. A refusal changes nothing.
pub fn stay_on(cores: &[usize]) {
    // SAFETY: the set is plain memory; indices beyond it are left out.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        cores
            .iter()
            .filter(|&&core| core < libc::CPU_SETSIZE as usize)
            .for_each(|&core| libc::CPU_SET(core, &mut set));
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &set);
    }
}

/// Cores' worth of time that the control group grants, rounded up; None: no quota.
pub fn core_quota() -> Option<usize> {
    let quotas = control_group_files("cpu", "cpu.max").map(|text| {
        let (quota, period) = text.split_once(' ')?;
        Some((quota.parse::<u64>().ok()?, period.parse::<u64>().ok()?))
    });
    let quotas_v1 = control_group_directories("cpu").into_iter().map(|directory| {
        let number = |name| fs::read_to_string(directory.join(name)).ok()?.trim().parse::<i64>().ok();
        let (quota, period) = (number("cpu.cfs_quota_us")?, number("cpu.cfs_period_us")?);
        Some((quota.try_into().ok()?, period.try_into().ok()?))
    });
    let whole = |(quota, period): (u64, u64)| (period > 0).then(|| quota.div_ceil(period).max(1) as usize);
    quotas.chain(quotas_v1).flatten().filter_map(whole).min()
}

/// Bytes that the process may use: the machine's memory, or its control group's limit.
pub fn memory_bytes() -> Option<u64> {
    let machine = fs::read_to_string("/proc/meminfo").ok().and_then(|text| kib_of(&text, "MemTotal:"));
    let limits = control_group_files("memory", "memory.max")
        .chain(control_group_files("memory", "memory.limit_in_bytes"))
        .filter_map(|text| text.parse().ok());
    limits.chain(machine).min()
}

/// Resident bytes of this process, and the most that they ever were.
pub fn resident_bytes() -> Option<(u64, u64)> {
    let status = fs::read_to_string("/proc/self/status").ok()?;
    Some((kib_of(&status, "VmRSS:")?, kib_of(&status, "VmHWM:")?))
}

/// Processor time of this process so far, its own and the kernel's for it.
pub fn processor_seconds() -> Option<f64> {
    // SAFETY: the structure is plain numbers, for which zero is a value.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    // SAFETY: `usage` is a valid, writable rusage.
    let result = unsafe { libc::getrusage(libc::RUSAGE_SELF, &mut usage) };
    let seconds = |time: libc::timeval| time.tv_sec as f64 + time.tv_usec as f64 / 1e6;
    (result == 0).then(|| seconds(usage.ru_utime) + seconds(usage.ru_stime))
}

/// Files that this process has open.
pub fn open_files() -> Option<u64> {
    // The directory itself is open while it is read.
    fs::read_dir("/proc/self/fd").ok().map(|files| files.count().saturating_sub(1) as u64)
}

fn kib_of(text: &str, name: &str) -> Option<u64> {
    let line = text.lines().find_map(|line| line.strip_prefix(name))?;
    Some(line.trim().trim_end_matches(" kB").parse::<u64>().ok()? * 1024)
}

/// Files that the process may open once its soft limit is raised.
pub fn file_limit() -> u64 {
    let mut limit = libc::rlimit { rlim_cur: 0, rlim_max: 0 };
    // SAFETY: `limit` is a valid, writable rlimit.
    match unsafe { libc::getrlimit(libc::RLIMIT_NOFILE, &mut limit) } {
        0 => limit.rlim_max,
        _ => 1024,
    }
}

fn control_group_files(controller: &str, file: &str) -> impl Iterator<Item = String> {
    let directories = control_group_directories(controller).into_iter();
    let read = move |directory: PathBuf| fs::read_to_string(directory.join(file)).ok();
    directories.filter_map(read).map(|text| text.trim().to_owned()).collect::<Vec<_>>().into_iter()
}

/// The process's control group and those around it, in either hierarchy.
fn control_group_directories(controller: &str) -> Vec<PathBuf> {
    let groups = fs::read_to_string("/proc/self/cgroup").unwrap_or_default();
    let mut directories = Vec::new();
    for line in groups.lines() {
        let mut fields = line.splitn(3, ':').skip(1);
        let (Some(controllers), Some(group)) = (fields.next(), fields.next()) else { continue };
        let root = Path::new("/sys/fs/cgroup");
        let root = match controllers {
            "" => root.to_owned(),
            list if list.split(',').any(|name| name == controller) => root.join(list),
            _ => continue,
        };
        let mut directory = root.join(group.trim_start_matches('/'));
        while directory.starts_with(&root) {
            directories.push(directory.clone());
            directory.pop();
        }
    }
    directories
}

/// Keeps the allocator's memory in pages of 4 KiB. With transparent huge pages every size of block begins with 2 MiB: a
/// broker of 10,000 idle clients was twice as large, and not faster.
pub fn use_small_pages() {
    // SAFETY: no pointer is passed. Where the kernel refuses, memory is what it was.
    unsafe { libc::prctl(libc::PR_SET_THP_DISABLE, 1, 0, 0, 0) };
}

unsafe extern "C" {
    /// Of the allocator that the broker is linked with.
    fn mi_collect(force: bool);
}

/// Gives pages back to the system that have been free for a second. The allocator would wait for threads that allocate
/// for that: a broker that has become idle would keep all that its last burst needed.
pub fn return_memory() {
    // SAFETY: the function has no preconditions and may be called on any thread.
    unsafe { mi_collect(false) };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn this_machine_has_cores_memory_and_files() {
        assert!(!cores().is_empty());
        assert!(memory_bytes().is_some_and(|bytes| bytes > 1 << 20));
        assert!(resident_bytes().is_some_and(|(now, most)| 0 < now && now <= most));
        assert!(file_limit() > 0);
        assert!(processor_seconds().is_some_and(|seconds| seconds > 0.0));
        assert!(open_files().is_some_and(|files| files >= 3));
    }
}
