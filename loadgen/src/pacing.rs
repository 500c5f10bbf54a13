//! Open loop: messages are due at fixed times, whether or not the broker keeps up.
//!
//! Every flow has the same interval and a phase of its own, so that the load is even, not a burst at each tick. Due
//! times follow from the number of the message, so they need no queue: a worker walks its flows in the order of
//! their phases, again and again.

/// When the messages of a run are due.
#[derive(Clone, Copy, Debug)]
pub struct Schedule {
    /// Time of the first, nanoseconds of the monotonic clock.
    pub start_ns: u64,
    /// Between two messages of one flow.
    pub interval_ns: u64,
    /// The rate grows in a straight line from nothing for so long.
    pub ramp_ns: u64,
}

impl Schedule {
    /// Due time of message number `sequence` of a flow with this phase (0..interval).
    #[inline]
    pub fn due_ns(&self, sequence: u64, phase_ns: u64) -> u64 {
        let steady = sequence * self.interval_ns + phase_ns;
        self.start_ns + self.ramped(steady)
    }

    /// At full rate a message would be due after `steady` ns; the ramp delays it. The number of messages is the
    /// integral of the rate: t^2 / 2r during the ramp of length r, and then t - r / 2.
    #[inline]
    fn ramped(&self, steady: u64) -> u64 {
        if steady >= self.ramp_ns / 2 {
            return steady + self.ramp_ns / 2;
        }
        (2.0 * steady as f64 * self.ramp_ns as f64).sqrt() as u64
    }
}

/// Walks the flows of one worker in the order in which their messages are due.
#[derive(Clone, Debug)]
pub struct Pacer {
    schedule: Schedule,
    /// Phase and slot of the publisher, by phase.
    flows: Vec<(u64, u32)>,
    round: u64,
    at: usize,
}

impl Pacer {
    /// `flows`: phase and slot of each flow's publisher, in any order.
    pub fn new(schedule: Schedule, mut flows: Vec<(u64, u32)>) -> Pacer {
        flows.sort_unstable();
        Pacer { schedule, flows, round: 0, at: 0 }
    }

    /// When the next message is due.
    pub fn next_due_ns(&self) -> Option<u64> {
        let (phase, _) = self.flows.get(self.at)?;
        Some(self.schedule.due_ns(self.round, *phase))
    }

    /// Calls `publish` with the slot of every publisher that has a message due by now.
    pub fn advance(&mut self, now_ns: u64, mut publish: impl FnMut(u32)) {
        while let Some(due) = self.next_due_ns() {
            if due > now_ns {
                return;
            }
            publish(self.flows[self.at].1);
            self.at += 1;
            if self.at == self.flows.len() {
                self.at = 0;
                self.round += 1;
            }
        }
    }
}

/// The phase of each of `count` flows: evenly spread over the interval, in an order that the seed shuffles.
pub fn phases(count: usize, interval_ns: u64, seed: u64) -> Vec<u64> {
    let mut phases: Vec<u64> =
        (0..count).map(|at| (interval_ns as u128 * at as u128 / count as u128) as u64).collect();
    crate::random::Random::new(seed).shuffle(&mut phases);
    phases
}

#[cfg(test)]
mod tests {
    use super::*;

    fn walk(schedule: Schedule, phases: &[u64], until_ns: u64) -> Vec<u32> {
        let flows = phases.iter().zip(0..).map(|(phase, slot)| (*phase, slot)).collect();
        let mut slots = vec![];
        Pacer::new(schedule, flows).advance(until_ns, |slot| slots.push(slot));
        slots
    }

    #[test]
    fn flows_take_turns_by_phase() {
        let schedule = Schedule { start_ns: 1000, interval_ns: 100, ramp_ns: 0 };
        assert!(walk(schedule, &[50, 0], 999).is_empty());
        assert_eq!(walk(schedule, &[50, 0], 1000), [1]);
        assert_eq!(walk(schedule, &[50, 0], 1200), [1, 0, 1, 0, 1]);
        assert_eq!(schedule.due_ns(3, 50), 1350);
    }

    #[test]
    fn a_ramp_sends_half_as_many_in_its_time_and_goes_on_at_full_rate() {
        let schedule = Schedule { start_ns: 0, interval_ns: 10, ramp_ns: 10_000 };
        let half = walk(schedule, &[0], 5_000).len();
        let ramp = walk(schedule, &[0], 10_000).len();
        let after = walk(schedule, &[0], 11_000).len();
        assert!(half.abs_diff(125) <= 2 && ramp.abs_diff(500) <= 2 && after.abs_diff(600) <= 2);
        let dues: Vec<u64> = (0..1000).map(|sequence| schedule.due_ns(sequence, 3)).collect();
        assert!(dues.is_sorted());
    }

    #[test]
    fn phases_are_even_and_follow_the_seed() {
        let mut spread = phases(4, 1000, 1);
        assert_eq!(spread, phases(4, 1000, 1));
        spread.sort_unstable();
        assert_eq!(spread, [0, 250, 500, 750]);
    }
}
