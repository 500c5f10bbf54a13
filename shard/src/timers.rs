//! The timer wheel of a shard: hierarchical, 8 ms ticks, O(1) to set and to cancel. A key fires never before its time
//! and at most one tick late. The timers are in lists through one table, so a wheel costs 32 bytes for each timer that
//! was set at one time, wherever they lie.

use std::num::NonZeroU32;

use crate::Time;
use crate::chunked::ChunkedVec;

const TICK_MS: u64 = 8;
const SLOT_BITS: u32 = 6;
const SLOTS: usize = 1 << SLOT_BITS;
/// 8 ms x 64^7 is 1,100 years since the clock's origin; later deadlines are taken for that.
const LEVELS: usize = 7;
const TICK_MAX: u64 = (1 << (SLOT_BITS * LEVELS as u32)) - 1;
/// The lists: the slots of each level, and what is due.
const DUE: usize = LEVELS * SLOTS;
/// The list of an entry that is not in use.
const UNUSED: u16 = u16::MAX;
const NONE: u32 = u32::MAX;

/// Names a timer that is set: its place in the table, from 1 on. Its owner forgets it when the key fires or is
/// cancelled; the name is used again.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) struct TimerId(NonZeroU32);

#[derive(Debug)]
struct Entry<K> {
    at: Time,
    key: K,
    list: u16,
    previous: u32,
    next: u32,
}

#[derive(Clone, Copy, Debug)]
struct List {
    first: u32,
    last: u32,
}

const EMPTY: List = List { first: NONE, last: NONE };

#[derive(Debug)]
pub(crate) struct TimerWheel<K> {
    /// Ticks that are completed.
    tick: u64,
    entries: ChunkedVec<Entry<K>>,
    /// First of the unused entries, which are in a list by `next`.
    free: u32,
    count: usize,
    lists: Box<[List; DUE + 1]>,
    /// Slots in use, one bit each.
    occupied: [u64; LEVELS],
}

/// The tick in which a deadline fires: the first that begins at or after it.
fn tick_of(at: Time) -> u64 {
    at.div_ceil(TICK_MS).min(TICK_MAX)
}

impl<K: Copy + PartialEq> TimerWheel<K> {
    pub fn new(now: Time) -> TimerWheel<K> {
        TimerWheel {
            tick: now / TICK_MS,
            entries: ChunkedVec::new(),
            free: NONE,
            count: 0,
            lists: Box::new([EMPTY; DUE + 1]),
            occupied: [0; LEVELS],
        }
    }

    /// Timers that are set.
    pub fn len(&self) -> usize {
        self.count
    }

    /// Fires `key` when the time has come; a past deadline is due at once.
    pub fn set(&mut self, at: Time, key: K) -> TimerId {
        let entry = Entry { at, key, list: UNUSED, previous: NONE, next: NONE };
        let index = match self.free {
            NONE => {
                self.entries.push(entry);
                (self.entries.len() - 1) as u32
            }
            free => {
                self.free = self.entries[free as usize].next;
                self.entries[free as usize] = entry;
                free
            }
        };
        self.count += 1;
        self.link(index);
        TimerId(NonZeroU32::MIN.saturating_add(index))
    }

    /// Takes back a timer that was set with that key and has not fired.
    pub fn cancel(&mut self, id: TimerId, key: K) {
        let index = id.0.get() - 1;
        debug_assert!(
            self.entries[index as usize].key == key && self.entries[index as usize].list != UNUSED,
            "a timer is cancelled by its owner, and once"
        );
        self.unlink(index);
        self.release(index);
    }

    /// When it fires.
    pub fn time_of(&self, id: TimerId) -> Time {
        self.entries[id.0.get() as usize - 1].at
    }

    fn release(&mut self, index: u32) {
        let entry = &mut self.entries[index as usize];
        (entry.list, entry.next) = (UNUSED, self.free);
        self.free = index;
        self.count -= 1;
    }

    /// The list for a deadline, as things stand.
    fn list_for(&self, at: Time) -> usize {
        let tick = tick_of(at);
        if tick <= self.tick {
            return DUE;
        }
        // The level is that of the highest digit in which the deadline differs from now.
        let level = (tick ^ self.tick).ilog2() / SLOT_BITS;
        level as usize * SLOTS + ((tick >> (SLOT_BITS * level)) as usize & (SLOTS - 1))
    }

    /// Puts an entry at the end of its list.
    fn link(&mut self, index: u32) {
        let at = self.list_for(self.entries[index as usize].at);
        let previous = std::mem::replace(&mut self.lists[at].last, index);
        match previous {
            NONE => self.lists[at].first = index,
            _ => self.entries[previous as usize].next = index,
        }
        if at < DUE {
            self.occupied[at / SLOTS] |= 1 << (at % SLOTS);
        }
        let entry = &mut self.entries[index as usize];
        (entry.list, entry.previous, entry.next) = (at as u16, previous, NONE);
    }

    fn unlink(&mut self, index: u32) {
        let &Entry { list, previous, next, .. } = &self.entries[index as usize];
        let at = list as usize;
        match previous {
            NONE => self.lists[at].first = next,
            _ => self.entries[previous as usize].next = next,
        }
        match next {
            NONE => self.lists[at].last = previous,
            _ => self.entries[next as usize].previous = previous,
        }
        if at < DUE && self.lists[at].first == NONE {
            self.occupied[at / SLOTS] &= !(1 << (at % SLOTS));
        }
    }

    /// A time that is not after the next deadline.
    pub fn next_deadline(&self) -> Option<Time> {
        if self.lists[DUE].first != NONE {
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

    /// Sees what is due at `now`; `pop_due` gives it out.
    pub fn advance(&mut self, now: Time) {
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
                    let mut list = std::mem::replace(&mut self.lists[level * SLOTS + slot], EMPTY);
                    while list.first != NONE {
                        let index = list.first;
                        list.first = self.entries[index as usize].next;
                        self.link(index);
                    }
                }
            }
        }
    }

    /// The next key that is due; its timer is no more.
    pub fn pop_due(&mut self) -> Option<K> {
        let index = self.lists[DUE].first;
        if index == NONE {
            return None;
        }
        self.unlink(index);
        self.release(index);
        Some(self.entries[index as usize].key)
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
            wheel.advance(now);
            fired.extend(std::iter::from_fn(|| wheel.pop_due()).inspect(|&at| {
                assert!(at <= now && now < at + 2 * TICK_MS, "{at} fired at {now}");
            }));
        }
        assert_eq!(fired.len(), 6);
    }

    #[test]
    fn what_is_due_together_fires_in_its_order_and_what_was_cancelled_does_not() {
        let mut wheel = TimerWheel::new(0);
        let timers: Vec<TimerId> = (0..100).map(|key| wheel.set(16, key)).collect();
        for key in [0, 50, 99] {
            wheel.cancel(timers[key], key);
        }
        assert_eq!(wheel.len(), 97);
        wheel.advance(16);
        let mut fired: Vec<usize> = std::iter::from_fn(|| wheel.pop_due()).take(60).collect();
        assert!(wheel.next_deadline().is_some_and(|at| at <= 16), "the rest is for later");
        // One that is due already.
        wheel.cancel(timers[98], 98);
        fired.extend(std::iter::from_fn(|| wheel.pop_due()));
        assert_eq!(fired, (1..98).filter(|key| *key != 50).collect::<Vec<_>>());
        assert_eq!((wheel.len(), wheel.next_deadline()), (0, None));
        assert_eq!(wheel.set(5_000, 7), timers[97], "places are used again");
        assert_eq!(wheel.time_of(timers[97]), 5_000);
    }

    proptest! {
        #[test]
        fn fires_like_a_sorted_list(steps in prop::collection::vec((0u64..200_000, 0u64..5_000_000, any::<bool>()), 1..200)) {
            let mut wheel = TimerWheel::new(0);
            let mut model: Vec<(Time, usize, TimerId)> = vec![];
            let mut now = 0;
            for (key, (advance, ahead, is_cancelling)) in steps.into_iter().enumerate() {
                model.push((now + ahead, key, wheel.set(now + ahead, key)));
                if is_cancelling {
                    let (at, key, timer) = model.swap_remove(ahead as usize % model.len());
                    prop_assert_eq!(wheel.time_of(timer), at);
                    wheel.cancel(timer, key);
                }
                let earliest = model.iter().map(|(at, ..)| *at).min();
                prop_assert_eq!(wheel.next_deadline().is_some(), earliest.is_some());
                prop_assert!(wheel.next_deadline() <= earliest.map(|at| tick_of(at).max(now / TICK_MS) * TICK_MS));
                now += advance;
                wheel.advance(now);
                while let Some(key) = wheel.pop_due() {
                    let at = model.iter().position(|(_, other, _)| *other == key).unwrap();
                    prop_assert!(model[at].0 <= now, "before its time");
                    model.remove(at);
                }
                for (at, ..) in &model {
                    prop_assert!(*at + TICK_MS > now, "more than a tick late");
                }
                prop_assert_eq!(wheel.len(), model.len());
            }
        }
    }
}
