//! The ring under every queue and window: small plain values, in order. Beside `VecDeque` it writes a new value field by
//! field straight into its place. One that is built elsewhere and copied stalls the core until all stores before it are
//! done, and here these are the messages themselves.

use std::ops::{Index, IndexMut};

/// Slots that stay allocated when the ring runs empty.
const KEPT: usize = 64;

#[derive(Debug)]
pub(crate) struct Fifo<T> {
    /// A power of two of them, or none. Those outside `head..head + len` hold old values.
    slots: Vec<T>,
    head: u32,
    len: u32,
}

impl<T> Default for Fifo<T> {
    fn default() -> Fifo<T> {
        Fifo { slots: Vec::new(), head: 0, len: 0 }
    }
}

impl<T: Copy> Fifo<T> {
    #[inline]
    pub fn len(&self) -> usize {
        self.len as usize
    }

    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len == 0
    }

    #[inline]
    fn slot(&self, at: u32) -> usize {
        (self.head.wrapping_add(at)) as usize & (self.slots.len() - 1)
    }

    #[inline(always)]
    pub fn push_back(&mut self, value: T) {
        if self.len() == self.slots.len() {
            self.grow(value);
        }
        let slot = self.slot(self.len);
        self.slots[slot] = value;
        self.len += 1;
    }

    pub fn push_front(&mut self, value: T) {
        if self.len() == self.slots.len() {
            self.grow(value);
        }
        self.head = self.head.wrapping_sub(1);
        let slot = self.slot(0);
        self.slots[slot] = value;
        self.len += 1;
    }

    #[inline]
    pub fn pop_front(&mut self) -> Option<T> {
        let value = *self.front()?;
        self.head = self.head.wrapping_add(1);
        self.len -= 1;
        if self.len == 0 && self.slots.len() > KEPT {
            *self = Fifo::default();
        }
        Some(value)
    }

    #[inline]
    pub fn front(&self) -> Option<&T> {
        self.get(0)
    }

    #[inline]
    pub fn get(&self, at: usize) -> Option<&T> {
        (at < self.len()).then(|| &self[at])
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        (0..self.len).map(|at| &self.slots[self.slot(at)])
    }

    pub fn for_each_mut(&mut self, mut change: impl FnMut(&mut T)) {
        for at in 0..self.len {
            let slot = self.slot(at);
            change(&mut self.slots[slot]);
        }
    }

    /// Where the value with that key stands, in a ring that ascends by it.
    pub fn find_by_key(&self, wanted: u32, key: impl Fn(&T) -> u32) -> Option<usize> {
        let (mut low, mut high) = (0, self.len);
        while low < high {
            let middle = (low + high) / 2;
            match key(&self.slots[self.slot(middle)]).cmp(&wanted) {
                std::cmp::Ordering::Less => low = middle + 1,
                std::cmp::Ordering::Equal => return Some(middle as usize),
                std::cmp::Ordering::Greater => high = middle,
            }
        }
        None
    }

    pub fn retain(&mut self, is_kept: impl Fn(&T) -> bool) {
        let mut kept = Fifo::default();
        self.iter().filter(|value| is_kept(value)).for_each(|value| kept.push_back(*value));
        *self = kept;
    }

    #[cold]
    #[inline(never)]
    fn grow(&mut self, filler: T) {
        let mut slots = Vec::with_capacity((self.slots.len() * 2).max(4));
        slots.extend(self.iter().copied());
        slots.resize(slots.capacity(), filler);
        // `Vec` may give more than was asked for.
        slots.truncate(1 << slots.len().ilog2());
        *self = Fifo { slots, head: 0, len: self.len };
    }
}

impl<T: Copy> Index<usize> for Fifo<T> {
    type Output = T;

    #[inline]
    fn index(&self, at: usize) -> &T {
        assert!(at < self.len(), "{at} of {}", self.len);
        &self.slots[self.slot(at as u32)]
    }
}

impl<T: Copy> IndexMut<usize> for Fifo<T> {
    #[inline]
    fn index_mut(&mut self, at: usize) -> &mut T {
        assert!(at < self.len(), "{at} of {}", self.len);
        let slot = self.slot(at as u32);
        &mut self.slots[slot]
    }
}

#[cfg(test)]
mod tests {
    use std::collections::VecDeque;

    use proptest::prelude::*;

    use super::*;

    proptest! {
        #[test]
        fn behaves_like_a_deque(ops in prop::collection::vec(0..10u8, 0..600)) {
            let (mut fifo, mut model) = (Fifo::default(), VecDeque::new());
            for (number, op) in ops.into_iter().enumerate() {
                let number = number as u32;
                match op {
                    0..=4 => {
                        fifo.push_back(number);
                        model.push_back(number);
                    }
                    5 => {
                        fifo.push_front(number);
                        model.push_front(number);
                    }
                    6 => {
                        fifo.retain(|value| value % 3 != 0);
                        model.retain(|value| value % 3 != 0);
                    }
                    7 => {
                        fifo.for_each_mut(|value| *value += 1);
                        model.iter_mut().for_each(|value| *value += 1);
                    }
                    _ => prop_assert_eq!(fifo.pop_front(), model.pop_front()),
                }
                prop_assert_eq!(fifo.len(), model.len());
                prop_assert!(fifo.iter().eq(model.iter()));
                prop_assert_eq!(fifo.get(model.len() / 2), model.get(model.len() / 2));
            }
        }

        #[test]
        fn finds_by_key(values in prop::collection::btree_set(0..500u32, 0..100), wanted in 0..500u32) {
            let mut fifo = Fifo::default();
            values.iter().for_each(|value| fifo.push_back(*value));
            prop_assert_eq!(
                fifo.find_by_key(wanted, |value| *value).map(|at| *fifo.get(at).unwrap()),
                values.get(&wanted).copied()
            );
        }
    }
}
