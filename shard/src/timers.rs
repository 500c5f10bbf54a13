//! The timer wheel of a shard: hierarchical, 8 ms ticks, O(1) to set. Nothing is cancelled; owners check their own
//! deadline when a key fires. A key fires never before its time and at most one tick late.

use crate::Time;

const TICK_MS: u64 = 8;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// 8 ms x 64^7 is 1,100 years since the clock's origin; later deadlines are taken for that.
const LEVELS: usize = 7;
const TICK_MAX: u64 = (1 << (SLOT_BITS * LEVELS as u32)) - 1;

#[derive(Debug)]
pub(crate) struct TimerWheel<K> {
    /// Ticks that are completed.
    tick: u64,
    levels: Vec<[Vec<(Time, K)>; SLOTS]>,
    /// Slots in use, one bit each.
    occupied: [u64; LEVELS],
    /// Due keys that a bounded `pop_due` has left over.
    due: Vec<(Time, K)>,
}

/// The tick in which a deadline fires: the first that begins at or after it.
fn tick_of(at: Time) -> u64 {
    at.div_ceil(TICK_MS).min(TICK_MAX)
}

impl<K: Copy> TimerWheel<K> {
    pub fn new(now: Time) -> TimerWheel<K> {
        TimerWheel {
            tick: now / TICK_MS,
            levels: (0..LEVELS).map(|_| std::array::from_fn(|_| Vec::new())).collect(),
            occupied: [0; LEVELS],
            due: Vec::new(),
        }
    }

    #[cfg(test)]
    fn len(&self) -> usize {
        self.due.len() + self.levels.iter().flatten().map(Vec::len).sum::<usize>()
    }

    /// Fires `key` when the time has come; a past deadline fires with the next `pop_due`.
    pub fn set(&mut self, at: Time, key: K) {
        self.insert(at, key);
    }

    fn insert(&mut self, at: Time, key: K) {
        let tick = tick_of(at);
        if tick <= self.tick {
            self.due.push((at, key));
            return;
        }
        // The level is that of the highest digit in which the deadline differs from now.
        let differing = (tick ^ self.tick).ilog2() / SLOT_BITS;
        let level = differing as usize;
        let slot = (tick >> (SLOT_BITS * differing)) as usize & (SLOTS - 1);
        self.levels[level][slot].push((at, key));
        self.occupied[level] |= 1 << slot;
    }

    /// A time that is not after the next deadline.
    pub fn next_deadline(&self) -> Option<Time> {
        if !self.due.is_empty() {
            return Some(self.tick * TICK_MS);
        }
        (0..LEVELS).filter_map(|level| self.next_slot(level)).min().map(|tick| tick * TICK_MS)
    }

    /// The tick in which the next occupied slot of a level begins.
    fn next_slot(&self, level: usize) -> Option<u64> {
        if self.occupied[level] == 0 {
            return None;
        }
        let shift = SLOT_BITS * level as u32;
        let position = self.tick >> shift;
        let current = (position & (SLOTS as u64 - 1)) as u32;
        // Slots from the one after the current on, in the order of time.
        let ahead =
            self.occupied[level].rotate_right((current + 1) % SLOTS as u32).trailing_zeros() as u64 + 1;
        Some((position + ahead) << shift)
    }

    /// Moves keys that are due at `now` to `out`, at most `max`; true if more are due.
    pub fn pop_due(&mut self, now: Time, max: usize, out: &mut Vec<K>) -> bool {
        let target = now / TICK_MS;
        while self.tick < target {
            let Some(next) =
                (0..LEVELS).filter_map(|level| self.next_slot(level)).min().filter(|tick| *tick <= target)
            else {
                self.tick = target;
                break;
            };
            self.tick = next;
            for level in (0..LEVELS).rev() {
                let slot = (next >> (SLOT_BITS * level as u32)) as usize & (SLOTS - 1);
                if self.occupied[level] & (1 << slot) != 0 {
                    self.occupied[level] &= !(1 << slot);
                    let entries = std::mem::take(&mut self.levels[level][slot]);
                    for (at, key) in entries {
                        self.insert(at, key);
                    }
                }
            }
        }
        let count = self.due.len().min(max);
        out.extend(self.due.drain(..count).map(|(_, key)| key));
        !self.due.is_empty()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn far_deadlines_fire_in_their_tick() {
        let mut wheel = TimerWheel::new(1000);
        for at in [1001, 2000, 61_000, 3_600_000, 86_400_000 * 7, 86_400_000 * 365 * 30] {
            wheel.set(at, at);
        }
        let mut now = 1000;
        let mut fired = vec![];
        while let Some(next) = wheel.next_deadline() {
            assert!(next >= now);
            now = next.max(now + 1);
            let mut out = vec![];
            wheel.pop_due(now, 10, &mut out);
            fired.extend(out.into_iter().inspect(|&at| {
                assert!(at <= now && now < at + 2 * TICK_MS, "{at} fired at {now}");
            }));
        }
        assert_eq!(fired.len(), 6);
    }

    #[test]
    fn a_bounded_pop_leaves_the_rest_for_later() {
        let mut wheel = TimerWheel::new(0);
        for key in 0..100 {
            wheel.set(16, key);
        }
        let mut out = vec![];
        assert!(wheel.pop_due(16, 60, &mut out));
        assert!(wheel.next_deadline().is_some_and(|at| at <= 16));
        assert!(!wheel.pop_due(16, 60, &mut out));
        assert_eq!(out, (0..100).collect::<Vec<_>>());
        assert_eq!(wheel.len(), 0);
    }

    proptest! {
        #[test]
        fn fires_like_a_sorted_list(steps in prop::collection::vec((0u64..200_000, 0u64..5_000_000), 1..200)) {
            let mut wheel = TimerWheel::new(0);
            let mut model: Vec<(Time, usize)> = vec![];
            let mut now = 0;
            for (key, (advance, ahead)) in steps.into_iter().enumerate() {
                wheel.set(now + ahead, key);
                model.push((now + ahead, key));
                let earliest = model.iter().map(|(at, _)| *at).min();
                prop_assert!(wheel.next_deadline() <= earliest.map(|at| tick_of(at).max(now / TICK_MS) * TICK_MS));
                now += advance;
                let mut out = vec![];
                prop_assert!(!wheel.pop_due(now, usize::MAX, &mut out));
                for key in &out {
                    let at = model.iter().position(|(_, other)| other == key).unwrap();
                    prop_assert!(model[at].0 <= now, "before its time");
                    model.remove(at);
                }
                for (at, _) in &model {
                    prop_assert!(*at + TICK_MS > now, "more than a tick late");
                }
                prop_assert_eq!(wheel.len(), model.len());
            }
        }
    }
}
