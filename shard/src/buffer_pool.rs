//! Byte buffers that are used again, so that a busy shard allocates nothing for what it reads and writes.

/// A stack of empty buffers: the last one used is the next, and what is not needed in the long run stays untouched.
#[derive(Debug)]
pub(crate) struct BufferPool {
    spare: Vec<Vec<u8>>,
    /// Their capacities.
    bytes: usize,
    count_max: usize,
    capacity_max: usize,
    bytes_max: usize,
}

impl BufferPool {
    /// Keeps at most so many buffers, each of at most `capacity_max` bytes, of `bytes_max` bytes together.
    pub fn new(count_max: usize, capacity_max: usize, bytes_max: usize) -> BufferPool {
        BufferPool { spare: Vec::new(), bytes: 0, count_max, capacity_max, bytes_max }
    }

    /// An empty buffer, with the capacity of an earlier use if there is one.
    #[inline]
    pub fn take(&mut self) -> Vec<u8> {
        let buffer = self.spare.pop().unwrap_or_default();
        self.bytes -= buffer.capacity();
        buffer
    }

    /// Keeps the buffer for `take`; above the bounds it is freed.
    #[inline]
    pub fn put(&mut self, mut buffer: Vec<u8>) {
        let capacity = buffer.capacity();
        let has_room = self.spare.len() < self.count_max && self.bytes + capacity <= self.bytes_max;
        if capacity > 0 && capacity <= self.capacity_max && has_room {
            buffer.clear();
            self.bytes += capacity;
            self.spare.push(buffer);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_last_buffer_is_the_next_and_bounds_hold() {
        let mut pool = BufferPool::new(3, 1000, 1500);
        for capacity in [100, 800, 1001, 0, 900, 300, 200] {
            pool.put(Vec::with_capacity(capacity));
        }
        let capacities: Vec<usize> = (0..4).map(|_| pool.take().capacity()).collect();
        assert_eq!(capacities, [300, 800, 100, 0], "1001 is too large, 900 one too much, 200 the fourth");
        pool.put(vec![1; 10]);
        assert!(pool.take().is_empty());
    }
}
