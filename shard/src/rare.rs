//! Collections that most clients have nothing in: they cost a pointer until they are used.

use std::collections::VecDeque;

/// A queue in a place of its own.
#[derive(Debug)]
#[expect(clippy::box_collection, reason = "a queue without elements is four words")]
pub(crate) struct RareQueue<T>(Option<Box<VecDeque<T>>>);

impl<T> Default for RareQueue<T> {
    fn default() -> Self {
        RareQueue(None)
    }
}

impl<T> RareQueue<T> {
    #[inline]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.0.as_ref().map_or(0, |queue| queue.len())
    }

    #[inline]
    pub fn front(&self) -> Option<&T> {
        self.0.as_ref()?.front()
    }

    pub fn get(&self, index: usize) -> Option<&T> {
        self.0.as_ref()?.get(index)
    }

    pub fn iter(&self) -> impl Iterator<Item = &T> {
        self.0.iter().flat_map(|queue| queue.iter())
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.0.iter_mut().flat_map(|queue| queue.iter_mut())
    }

    pub fn push_back(&mut self, value: T) {
        self.0.get_or_insert_default().push_back(value);
    }

    pub fn push_front(&mut self, value: T) {
        self.0.get_or_insert_default().push_front(value);
    }

    /// Keeps its place also when it is empty then.
    pub fn pop_front(&mut self) -> Option<T> {
        self.0.as_mut()?.pop_front()
    }

    pub fn retain(&mut self, is_kept: impl FnMut(&T) -> bool) {
        if let Some(queue) = &mut self.0 {
            queue.retain(is_kept);
        }
    }

    /// Gives the place back if nothing is in it.
    pub fn shrink(&mut self) {
        if self.is_empty() {
            self.0 = None;
        }
    }

    /// Takes everything out, and gives the place back.
    pub fn take(&mut self) -> impl Iterator<Item = T> + use<T> {
        self.0.take().into_iter().flat_map(|queue| queue.into_iter())
    }
}
