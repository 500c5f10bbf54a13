//! Opens connections: so many a second, and so many being set up at once.

use std::collections::VecDeque;

/// From a break to the next try: a broker that is away is asked twenty times a second.
const RETRY_NS: u64 = 50_000_000;

/// For the whole process.
#[derive(Clone, Copy, Debug)]
pub struct ConnectLimits {
    /// Connections begun per second; None: no limit.
    pub per_second: Option<f64>,
    /// Connections being set up at once; a worker has its share, at least one.
    pub at_once: u32,
}

/// The connections that one worker is to open.
pub struct Connector {
    queue: VecDeque<u32>,
    /// Broken ones, with the time when each is tried again.
    retries: VecDeque<(u64, u32)>,
    at_once: u64,
    /// Nanoseconds between two; 0: no limit.
    interval_ns: u64,
    next_ns: u64,
}

impl Connector {
    pub fn new(limits: ConnectLimits, worker: usize, worker_count: usize) -> Connector {
        let worker_count = worker_count as u64;
        let share = limits.at_once as u64 / worker_count
            + (limits.at_once as u64 % worker_count > worker as u64) as u64;
        let interval_ns = limits.per_second.map_or(0, |rate| (worker_count as f64 * 1e9 / rate) as u64);
        // Workers take turns.
        let next_ns = interval_ns / worker_count * worker as u64;
        Connector {
            queue: VecDeque::new(),
            retries: VecDeque::new(),
            at_once: share.max(1),
            interval_ns,
            next_ns,
        }
    }

    pub fn add(&mut self, slots: impl Iterator<Item = u32>, now_ns: u64) {
        if self.queue.is_empty() {
            self.next_ns = self.next_ns.max(now_ns);
        }
        self.queue.extend(slots);
    }

    /// Tries again a little later.
    pub fn retry(&mut self, slot: u32, now_ns: u64) {
        self.retries.push_back((now_ns + RETRY_NS, slot));
    }

    /// The next connection to begin now and when it was due, if `connecting` ones leave room for it.
    pub fn next(&mut self, now_ns: u64, connecting: u64) -> Option<(u32, u64)> {
        if connecting >= self.at_once {
            return None;
        }
        if let Some((due, slot)) = self.retries.front().copied().filter(|(due, _)| *due <= now_ns) {
            self.retries.pop_front();
            return Some((slot, due));
        }
        if self.next_ns > now_ns {
            return None;
        }
        let slot = self.queue.pop_front()?;
        if self.interval_ns == 0 {
            return Some((slot, now_ns));
        }
        let due = self.next_ns;
        self.next_ns += self.interval_ns;
        Some((slot, due))
    }

    /// When the next one is due.
    pub fn next_due_ns(&self, connecting: u64) -> Option<u64> {
        if connecting >= self.at_once {
            return None;
        }
        let retry = self.retries.front().map(|(due, _)| *due);
        let queued = (!self.queue.is_empty()).then_some(self.next_ns);
        retry.into_iter().chain(queued).min()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_more_at_once_than_allowed() {
        let mut connector = Connector::new(ConnectLimits { per_second: None, at_once: 3 }, 0, 2);
        connector.add(0..5, 100);
        assert_eq!(connector.next(100, 0), Some((0, 100)));
        assert_eq!(connector.next(100, 1), Some((1, 100)));
        assert_eq!(connector.next(100, 2), None);
        assert_eq!(connector.next_due_ns(2), None);
        assert_eq!(connector.next(200, 1), Some((2, 200)));
    }

    #[test]
    fn a_broken_one_is_tried_again_later() {
        let mut connector = Connector::new(ConnectLimits { per_second: None, at_once: 1 }, 0, 1);
        connector.retry(7, 100);
        assert_eq!(connector.next(100 + RETRY_NS - 1, 0), None);
        assert_eq!((connector.next_due_ns(0), connector.next_due_ns(1)), (Some(100 + RETRY_NS), None));
        assert_eq!(connector.next(100 + RETRY_NS, 0), Some((7, 100 + RETRY_NS)));
        assert_eq!(connector.next_due_ns(0), None);
    }

    #[test]
    fn a_rate_spaces_them_and_dues_do_not_slip() {
        let limits = ConnectLimits { per_second: Some(1e6), at_once: 100 };
        let mut connector = Connector::new(limits, 0, 1);
        connector.add(0..5, 10_000);
        assert_eq!(connector.next(10_000, 0), Some((0, 10_000)));
        assert_eq!(connector.next(10_999, 0), None);
        assert_eq!(connector.next_due_ns(0), Some(11_000));
        assert_eq!(connector.next(12_500, 0), Some((1, 11_000)));
        assert_eq!(connector.next(12_500, 0), Some((2, 12_000)));
        assert_eq!(connector.next(12_500, 0), None);
    }
}
