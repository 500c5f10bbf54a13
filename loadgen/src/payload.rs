//! What a load message carries: who sent it, its number in that flow and when it was due. The rest is filler.
//!
//! ```text
//! run tag (4) | flow (4) | sequence (8) | due, ns of CLOCK_MONOTONIC (8) | filler, known from the seed
//! ```
//! All numbers are little-endian. A payload with another tag was not sent by this run, so a delivery from anybody
//! else is told apart from a damaged one.

use crate::random::Random;

/// Bytes before the filler: the smallest payload.
pub const HEADER_LEN: usize = 24;

/// The header of one message.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    pub tag: u32,
    /// Index of the flow (publisher and topic) in the plan.
    pub flow: u32,
    /// Counts from 0 within the flow.
    pub sequence: u64,
    /// Nanoseconds of the monotonic clock.
    pub due_ns: u64,
}

impl Stamp {
    /// Writes over the first [`HEADER_LEN`] bytes of `payload`.
    #[inline]
    pub fn write(&self, payload: &mut [u8]) {
        payload[0..4].copy_from_slice(&self.tag.to_le_bytes());
        payload[4..8].copy_from_slice(&self.flow.to_le_bytes());
        payload[8..16].copy_from_slice(&self.sequence.to_le_bytes());
        payload[16..24].copy_from_slice(&self.due_ns.to_le_bytes());
    }

    /// None if the payload is too short to be ours.
    #[inline]
    pub fn read(payload: &[u8]) -> Option<Stamp> {
        let (header, _) = payload.split_first_chunk::<HEADER_LEN>()?;
        let u32_at =
            |at: usize| u32::from_le_bytes([header[at], header[at + 1], header[at + 2], header[at + 3]]);
        let u64_at = |at: usize| u32_at(at) as u64 | (u32_at(at + 4) as u64) << 32;
        Some(Stamp { tag: u32_at(0), flow: u32_at(4), sequence: u64_at(8), due_ns: u64_at(16) })
    }
}

/// The filler of every payload of `size` bytes in a run with this seed.
pub fn filler(seed: u64, size: usize) -> Vec<u8> {
    let mut random = Random::new(seed ^ 0x66_69_6c_6c);
    (HEADER_LEN..size).map(|_| b' ' + (random.below(95)) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_stamp_reads_back() {
        let stamp = Stamp { tag: 0xdead_beef, flow: 7, sequence: u64::MAX - 1, due_ns: 1 << 40 };
        let mut payload = [0u8; 30];
        stamp.write(&mut payload);
        assert_eq!(Stamp::read(&payload), Some(stamp));
        assert_eq!(Stamp::read(&payload[..HEADER_LEN - 1]), None);
    }

    #[test]
    fn filler_is_printable_and_follows_the_seed() {
        assert_eq!(filler(1, 100).len(), 100 - HEADER_LEN);
        assert!(filler(1, 100).iter().all(|byte| (b' '..=b'~').contains(byte)));
        assert_eq!(filler(1, 100), filler(1, 100));
        assert_ne!(filler(1, 100), filler(2, 100));
        assert!(filler(1, 10).is_empty());
    }
}
