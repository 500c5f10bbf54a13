//! Which messages of one flow a receiver got: the verdict of every delivery, in constant memory while all is well.
//!
//! A tracker holds the number that comes next and the gaps below it. Per flow a broker must keep the order, so the
//! next number is nearly always the one that arrives.

/// Gaps kept per flow and receiver. At the bound the oldest is given up as lost; what then still arrives of it
/// counts as duplicated.
const GAPS_MAX: usize = 4096;

/// What a delivery is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Delivery {
    InOrder,
    /// Later ones came first.
    OutOfOrder,
    /// It came before.
    Duplicate,
}

/// A range of sequence numbers: from, up to but not including.
type Gap = (u64, u64);

#[derive(Clone, Debug, Default)]
pub struct Tracker {
    next: u64,
    given_up: u64,
    gaps: Vec<Gap>,
}

impl Tracker {
    /// `sequence` came as the first; nothing before it is missed.
    pub fn behind(sequence: u64) -> Tracker {
        Tracker { next: sequence.saturating_add(1), ..Tracker::default() }
    }

    /// The number that comes next if all is well.
    pub fn next(&self) -> u64 {
        self.next
    }

    #[inline]
    pub fn on_delivery(&mut self, sequence: u64) -> Delivery {
        if sequence == self.next {
            self.next = sequence.saturating_add(1);
            return Delivery::InOrder;
        }
        self.on_jump(sequence)
    }

    #[cold]
    fn on_jump(&mut self, sequence: u64) -> Delivery {
        if sequence > self.next {
            let gaps = &mut self.gaps;
            if gaps.len() == GAPS_MAX {
                let (from, to) = gaps.remove(0);
                self.given_up = self.given_up.saturating_add(to - from);
            }
            gaps.push((self.next, sequence));
            self.next = sequence.saturating_add(1);
            return Delivery::InOrder;
        }
        let gaps = &mut self.gaps;
        let Some(at) = gaps.iter().position(|(from, to)| (*from..*to).contains(&sequence)) else {
            return Delivery::Duplicate;
        };
        let (from, to) = gaps[at];
        let parts = [(from, sequence), (sequence + 1, to)];
        gaps.splice(at..=at, parts.into_iter().filter(|(from, to)| from < to));
        Delivery::OutOfOrder
    }

    /// How many of the first `sent` messages never came; those in `excused` need not have come.
    pub fn lost(&self, sent: u64, excused: &[u64]) -> u64 {
        let tail = (self.next, sent.max(self.next));
        // What nobody sent is not missing, though a damaged number may have left a gap there.
        let length = |(from, to): &Gap| sent.min(*to).saturating_sub(*from);
        let missing: u64 = self.gaps.iter().chain([&tail]).map(length).sum();
        let is_missing = |sequence: &&u64| {
            let is_in = |(from, to): &Gap| (*from..*to).contains(*sequence);
            is_in(&tail) || self.gaps.iter().any(is_in)
        };
        let excused = excused.iter().filter(|sequence| **sequence < sent).filter(is_missing).count() as u64;
        self.given_up.saturating_add(missing - excused)
    }
}

#[cfg(test)]
mod tests {
    use super::Delivery::{Duplicate, InOrder, OutOfOrder};
    use super::*;

    fn feed(sequences: &[u64]) -> (Tracker, Vec<Delivery>) {
        let mut tracker = Tracker::default();
        let deliveries = sequences.iter().map(|sequence| tracker.on_delivery(*sequence)).collect();
        (tracker, deliveries)
    }

    #[test]
    fn all_in_order_is_clean() {
        let (tracker, deliveries) = feed(&[0, 1, 2, 3]);
        assert_eq!(deliveries, [InOrder; 4]);
        assert_eq!(tracker.lost(4, &[]), 0);
        assert_eq!(tracker.lost(6, &[]), 2);
        assert_eq!(tracker.lost(6, &[5]), 1);
    }

    #[test]
    fn a_swap_is_one_message_out_of_order_and_nothing_lost() {
        let (tracker, deliveries) = feed(&[0, 2, 1, 3]);
        assert_eq!(deliveries, [InOrder, InOrder, OutOfOrder, InOrder]);
        assert_eq!(tracker.lost(4, &[]), 0);
    }

    #[test]
    fn a_copy_is_a_duplicate_wherever_it_comes() {
        assert_eq!(feed(&[0, 0]).1[1], Duplicate);
        assert_eq!(feed(&[0, 3, 3]).1[2], Duplicate);
        assert_eq!(feed(&[0, 3, 1, 1]).1[3], Duplicate);
        assert_eq!(
            feed(&[0, 5, 2, 4, 3, 3]).1,
            [InOrder, InOrder, OutOfOrder, OutOfOrder, OutOfOrder, Duplicate]
        );
    }

    #[test]
    fn gaps_are_lost_whether_at_the_start_in_the_middle_or_at_the_end() {
        assert_eq!(feed(&[2, 3]).0.lost(4, &[]), 2);
        assert_eq!(feed(&[0, 2, 5]).0.lost(6, &[]), 3);
        assert_eq!(Tracker::default().lost(3, &[]), 3);
        assert_eq!(feed(&[0, 4, 2]).0.lost(5, &[3]), 1);
    }

    #[test]
    fn a_number_that_nobody_sent_leaves_nothing_missing_beyond_the_last() {
        let (tracker, _) = feed(&[0, 1, u64::MAX]);
        assert_eq!((tracker.lost(2, &[]), tracker.lost(5, &[]), tracker.lost(5, &[4, 7])), (0, 3, 2));
    }

    #[test]
    fn at_the_bound_the_oldest_gap_is_given_up() {
        let mut tracker = Tracker::default();
        for sequence in 0..=(GAPS_MAX as u64 + 1) {
            tracker.on_delivery(sequence * 2 + 1);
        }
        assert_eq!(tracker.lost(2 * (GAPS_MAX as u64 + 2), &[]), GAPS_MAX as u64 + 2);
        assert_eq!(tracker.on_delivery(0), Duplicate);
        assert_eq!(tracker.on_delivery(2 * GAPS_MAX as u64), OutOfOrder);
    }
}
