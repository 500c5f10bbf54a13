//! Tables that grow by chunks: a shard with a million clients never copies one to a larger place, which would stop it
//! for as long and need the memory twice.

use std::ops::{Index, IndexMut};

const CHUNK_BITS: u32 = 8;
const CHUNK: usize = 1 << CHUNK_BITS;

/// A vector that grows without moving its elements.
#[derive(Debug)]
pub(crate) struct ChunkedVec<T> {
    chunks: Vec<Vec<T>>,
    len: usize,
}

impl<T> Default for ChunkedVec<T> {
    fn default() -> Self {
        ChunkedVec { chunks: Vec::new(), len: 0 }
    }
}

impl<T> ChunkedVec<T> {
    pub fn new() -> ChunkedVec<T> {
        ChunkedVec::default()
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.len
    }

    pub fn push(&mut self, value: T) {
        if self.len == self.chunks.len() << CHUNK_BITS {
            self.chunks.push(Vec::with_capacity(CHUNK));
        }
        self.chunks[self.len >> CHUNK_BITS].push(value);
        self.len += 1;
    }

    #[inline]
    pub fn get(&self, index: usize) -> Option<&T> {
        self.chunks.get(index >> CHUNK_BITS)?.get(index & (CHUNK - 1))
    }

    #[inline]
    pub fn get_mut(&mut self, index: usize) -> Option<&mut T> {
        self.chunks.get_mut(index >> CHUNK_BITS)?.get_mut(index & (CHUNK - 1))
    }

    pub fn iter_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.chunks.iter_mut().flatten()
    }
}

impl<T> Index<usize> for ChunkedVec<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: usize) -> &T {
        &self.chunks[index >> CHUNK_BITS][index & (CHUNK - 1)]
    }
}

impl<T> IndexMut<usize> for ChunkedVec<T> {
    #[inline]
    fn index_mut(&mut self, index: usize) -> &mut T {
        &mut self.chunks[index >> CHUNK_BITS][index & (CHUNK - 1)]
    }
}

/// Values with stable indices that are used again.
#[derive(Debug)]
pub(crate) struct ChunkedSlab<T> {
    slots: ChunkedVec<Option<T>>,
    free: Vec<u32>,
}

impl<T> ChunkedSlab<T> {
    pub fn new() -> ChunkedSlab<T> {
        ChunkedSlab { slots: ChunkedVec::new(), free: Vec::new() }
    }

    #[inline]
    pub fn len(&self) -> usize {
        self.slots.len() - self.free.len()
    }

    pub fn insert(&mut self, value: T) -> usize {
        match self.free.pop() {
            Some(index) => {
                self.slots[index as usize] = Some(value);
                index as usize
            }
            None => {
                self.slots.push(Some(value));
                self.slots.len() - 1
            }
        }
    }

    /// Panics when there is no value: the caller knows its indices.
    pub fn remove(&mut self, index: usize) -> T {
        let value = self.slots[index].take().expect("a value that is removed exists");
        self.free.push(index as u32);
        value
    }

    #[inline]
    pub fn contains(&self, index: usize) -> bool {
        matches!(self.slots.get(index), Some(Some(_)))
    }

    pub fn values_mut(&mut self) -> impl Iterator<Item = &mut T> {
        self.slots.iter_mut().flatten()
    }
}

impl<T> Index<usize> for ChunkedSlab<T> {
    type Output = T;

    #[inline]
    fn index(&self, index: usize) -> &T {
        self.slots[index].as_ref().expect("a value that is looked up exists")
    }
}

impl<T> IndexMut<usize> for ChunkedSlab<T> {
    #[inline]
    fn index_mut(&mut self, index: usize) -> &mut T {
        self.slots[index].as_mut().expect("a value that is looked up exists")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn elements_keep_their_place_while_it_grows() {
        let mut vec = ChunkedVec::new();
        vec.push(0usize);
        let first: *const usize = &vec[0];
        for n in 1..3 * CHUNK + 5 {
            vec.push(n);
        }
        assert_eq!(first, &raw const vec[0]);
        assert_eq!(vec.len(), 3 * CHUNK + 5);
        assert!((0..vec.len()).all(|n| vec[n] == n && vec.get(n) == Some(&n)));
        assert_eq!(vec.get(vec.len()), None);
        vec[CHUNK] = 7;
        assert_eq!(vec.iter_mut().filter(|n| **n == 7).count(), 2);
    }

    #[test]
    fn indices_are_used_again() {
        let mut slab = ChunkedSlab::new();
        let indices: Vec<usize> = (0..300).map(|n| slab.insert(n)).collect();
        assert_eq!(slab.remove(indices[17]), 17);
        assert!(!slab.contains(indices[17]) && slab.contains(indices[18]));
        assert_eq!(slab.len(), 299);
        assert_eq!(slab.insert(1000), indices[17]);
        assert_eq!(slab[indices[17]], 1000);
        assert_eq!(slab.values_mut().count(), 300);
    }
}
