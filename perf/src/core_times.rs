//! Where the time of cores went, from /proc/stat: above all how much of it the hypervisor took.

use std::fs;
use std::io;

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
    use super::*;

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
