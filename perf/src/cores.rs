//! Sets of cores, written as `0`, `0-3` or `0,2,4-7`, and the pinning of processes to them.

use std::fmt;
use std::io;
use std::str::FromStr;

/// Cores in ascending order, at least one.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct CoreSet(Vec<usize>);

#[derive(Debug, PartialEq, Eq, thiserror::Error)]
#[error("'{0}' is not a list of cores such as 0, 0-3 or 0,2,4-7")]
pub struct BadCoreSet(String);

impl CoreSet {
    /// Cores that this process may use.
    pub fn allowed() -> io::Result<CoreSet> {
        // SAFETY: an all-zero set is a valid value, and the size is that of the set.
        let set = unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            if libc::sched_getaffinity(0, size_of::<libc::cpu_set_t>(), &raw mut set) != 0 {
                return Err(io::Error::last_os_error());
            }
            set
        };
        // SAFETY: CPU_ISSET reads within the set for numbers below its size.
        Ok(CoreSet(
            (0..libc::CPU_SETSIZE as usize).filter(|&core| unsafe { libc::CPU_ISSET(core, &set) }).collect(),
        ))
    }

    /// Core 0 alone.
    pub fn first() -> CoreSet {
        CoreSet(vec![0])
    }

    pub fn new(mut cores: Vec<usize>) -> Option<CoreSet> {
        cores.sort_unstable();
        cores.dedup();
        (!cores.is_empty()).then_some(CoreSet(cores))
    }

    pub fn count(&self) -> usize {
        self.0.len()
    }

    pub fn iter(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().copied()
    }

    pub fn overlaps(&self, other: &CoreSet) -> bool {
        self.0.iter().any(|core| other.0.contains(core))
    }

    /// The first `broker_count` cores for the broker and the rest for the load. If no core is left, the load gets the
    /// last one of the broker's.
    pub fn split(&self, broker_count: usize) -> (CoreSet, CoreSet) {
        let broker_count = broker_count.clamp(1, self.0.len());
        let (broker, load) = self.0.split_at(broker_count);
        let load = if load.is_empty() { &self.0[self.0.len() - 1..] } else { load };
        (CoreSet(broker.to_vec()), CoreSet(load.to_vec()))
    }

    /// Pins the calling thread and what it starts from now on. Async-signal-safe.
    pub fn pin(&self) -> io::Result<()> {
        // SAFETY: an all-zero set is valid, CPU_SET ignores numbers that are too large, and the size is the set's.
        unsafe {
            let mut set: libc::cpu_set_t = std::mem::zeroed();
            for &core in &self.0 {
                libc::CPU_SET(core, &mut set);
            }
            match libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set) {
                0 => Ok(()),
                _ => Err(io::Error::last_os_error()),
            }
        }
    }
}

impl FromStr for CoreSet {
    type Err = BadCoreSet;

    fn from_str(text: &str) -> Result<CoreSet, BadCoreSet> {
        let bad = || BadCoreSet(text.to_owned());
        let mut cores = Vec::new();
        for part in text.split(',') {
            let (first, last) = part.split_once('-').unwrap_or((part, part));
            let first: usize = first.trim().parse().map_err(|_| bad())?;
            let last: usize = last.trim().parse().map_err(|_| bad())?;
            if first > last || last >= libc::CPU_SETSIZE as usize {
                return Err(bad());
            }
            cores.extend(first..=last);
        }
        CoreSet::new(cores).ok_or_else(bad)
    }
}

impl fmt::Display for CoreSet {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut separator = "";
        for run in self.0.chunk_by(|a, b| a + 1 == *b) {
            match run {
                [core] => write!(out, "{separator}{core}")?,
                [first, .., last] => write!(out, "{separator}{first}-{last}")?,
                [] => {}
            }
            separator = ",";
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lists_are_read_and_written() {
        for (text, cores, written) in
            [("0", vec![0], "0"), ("0-3", vec![0, 1, 2, 3], "0-3"), ("7,2,4-5", vec![2, 4, 5, 7], "2,4-5,7")]
        {
            let set: CoreSet = text.parse().unwrap();
            assert_eq!((set.iter().collect::<Vec<_>>(), set.to_string().as_str()), (cores, written));
        }
        for text in ["", "a", "3-1", "0-", "99999"] {
            assert!(text.parse::<CoreSet>().is_err(), "{text}");
        }
    }

    #[test]
    fn the_load_gets_what_the_broker_leaves() {
        let split = |cores: &str, broker| {
            let (broker, load) = cores.parse::<CoreSet>().unwrap().split(broker);
            (broker.to_string(), load.to_string(), broker.overlaps(&load))
        };
        assert_eq!(split("0-3", 1), ("0".into(), "1-3".into(), false));
        assert_eq!(split("0-3", 3), ("0-2".into(), "3".into(), false));
        assert_eq!(split("0-1", 2), ("0-1".into(), "1".into(), true));
    }

    #[test]
    fn pinning_is_seen_by_the_kernel() {
        let allowed = CoreSet::allowed().unwrap();
        let last = allowed.iter().last().unwrap();
        let seen = std::thread::spawn(move || {
            CoreSet::new(vec![last]).unwrap().pin().unwrap();
            CoreSet::allowed().unwrap()
        });
        assert_eq!(seen.join().unwrap(), CoreSet(vec![last]));
    }
}
