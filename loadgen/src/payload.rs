//! What a load message carries: who sent it, its number in that flow and when it was due. The rest is filler.
//!
//! ```text
//! full, from 24 bytes:  run tag (4) | flow (4) | sequence (8) | due, ns of CLOCK_MONOTONIC (8) | filler
//! compact, from 16:     sequence << 24 | flow (8) | due modulo 2^48 << 16 | run tag modulo 2^16 (8) | filler
//! below 16:             filler only: nobody can tell whose it is
//! ```
//! All numbers are little-endian, the filler is known from the seed. A payload with another tag was not sent by this
//! run, so a delivery from anybody else is told apart from a damaged one. The form follows from the size, so that both
//! ends know it.

use crate::clock;
use crate::random::Random;
use clap::ValueEnum;
use serde::{Deserialize, Serialize};

/// Bytes of a full stamp.
pub const FULL_LEN: usize = 24;
/// Bytes of a compact stamp: the smallest payload whose delivery can be judged.
pub const COMPACT_LEN: usize = 16;
/// A compact stamp has room for so many flows.
pub const COMPACT_FLOWS_MAX: usize = 1 << FLOW_BITS;

const FLOW_BITS: u32 = 24;
const DUE_BITS: u32 = 48;

/// How much of itself a payload can tell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    Anonymous,
    /// Everything, the tag cut to 16 bits and the due time to 78 hours around now.
    Compact,
    Full,
}

impl Form {
    /// Of a payload of `size` bytes.
    #[inline]
    pub fn of(size: usize) -> Form {
        match size {
            FULL_LEN.. => Form::Full,
            COMPACT_LEN.. => Form::Compact,
            _ => Form::Anonymous,
        }
    }

    /// Bytes before the filler.
    #[inline]
    pub fn stamp_len(self) -> usize {
        match self {
            Form::Full => FULL_LEN,
            Form::Compact => COMPACT_LEN,
            Form::Anonymous => 0,
        }
    }
}

/// The stamp of one message.
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
    /// Appends the stamp in this form.
    #[inline]
    pub fn append(&self, form: Form, out: &mut Vec<u8>) {
        match form {
            Form::Full => {
                let mut bytes = [0; FULL_LEN];
                bytes[0..4].copy_from_slice(&self.tag.to_le_bytes());
                bytes[4..8].copy_from_slice(&self.flow.to_le_bytes());
                bytes[8..16].copy_from_slice(&self.sequence.to_le_bytes());
                bytes[16..24].copy_from_slice(&self.due_ns.to_le_bytes());
                out.extend_from_slice(&bytes);
            }
            Form::Compact => {
                let who = self.sequence << FLOW_BITS | u64::from(self.flow);
                let when = self.due_ns << (64 - DUE_BITS) | u64::from(self.tag as u16);
                out.extend_from_slice(&who.to_le_bytes());
                out.extend_from_slice(&when.to_le_bytes());
            }
            Form::Anonymous => {}
        }
    }

    /// None if the payload is too short to be judged, or not of the run with this tag.
    #[inline]
    pub fn read(payload: &[u8], tag: u32, now_ns: u64) -> Option<Stamp> {
        let word = |at: usize| {
            let bytes = payload.get(at..at + 8)?;
            Some(u64::from_le_bytes(bytes.try_into().ok()?))
        };
        let (first, second) = (word(0)?, word(8)?);
        if Form::of(payload.len()) == Form::Full {
            let stamp =
                Stamp { tag: first as u32, flow: (first >> 32) as u32, sequence: second, due_ns: word(16)? };
            return (stamp.tag == tag).then_some(stamp);
        }
        if second as u16 != tag as u16 {
            return None;
        }
        // The nearest time with these bits: due times lie behind, and clocks of other machines a little ahead.
        let age = (now_ns << (64 - DUE_BITS)).wrapping_sub(second & !0xFFFF) as i64 >> (64 - DUE_BITS);
        Some(Stamp {
            tag,
            flow: (first & (COMPACT_FLOWS_MAX as u64 - 1)) as u32,
            sequence: first >> FLOW_BITS,
            due_ns: now_ns.wrapping_sub(age as u64),
        })
    }
}

/// What emqtt-bench puts before a payload, in the order that is asked for: eight bytes each, big-endian.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Header {
    /// The message's number, from 0.
    Cnt64,
    /// Milliseconds since 1970 when it was sent.
    Ts,
}

/// Bytes of one header.
pub const HEADER_LEN: usize = 8;

impl Header {
    pub fn append(self, sequence: u64, out: &mut Vec<u8>) {
        let value = match self {
            Header::Cnt64 => sequence,
            Header::Ts => clock::unix_ms(),
        };
        out.extend_from_slice(&value.to_be_bytes());
    }
}

/// The values of these headers, and the payload behind them. None if it is too short for them.
pub fn split_headers<'a>(headers: &[Header], payload: &'a [u8]) -> Option<(HeaderValues, &'a [u8])> {
    let (mut values, mut rest) = (HeaderValues::default(), payload);
    for header in headers {
        let (bytes, behind) = rest.split_first_chunk::<HEADER_LEN>()?;
        let value = Some(u64::from_be_bytes(*bytes));
        match header {
            Header::Cnt64 => values.count = value,
            Header::Ts => values.sent_unix_ms = value,
        }
        rest = behind;
    }
    Some((values, rest))
}

#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct HeaderValues {
    pub count: Option<u64>,
    pub sent_unix_ms: Option<u64>,
}

/// The filler of every payload of `size` bytes in a run with this seed.
pub fn filler(seed: u64, size: usize) -> Vec<u8> {
    let mut random = Random::new(seed ^ 0x66_69_6c_6c);
    (Form::of(size).stamp_len()..size).map(|_| b' ' + (random.below(95)) as u8).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn payload(stamp: Stamp, size: usize) -> Vec<u8> {
        let mut out = vec![];
        stamp.append(Form::of(size), &mut out);
        out.extend(filler(1, size));
        assert_eq!(out.len(), size);
        out
    }

    #[test]
    fn a_full_stamp_reads_back() {
        let stamp = Stamp { tag: 0xdead_beef, flow: 7, sequence: u64::MAX - 1, due_ns: 1 << 60 };
        assert_eq!(Stamp::read(&payload(stamp, 30), stamp.tag, 5), Some(stamp));
        assert_eq!(Stamp::read(&payload(stamp, 24), stamp.tag, 5), Some(stamp));
        assert_eq!(Stamp::read(&payload(stamp, 30), 1, 5), None);
    }

    #[test]
    fn a_compact_stamp_reads_back_whenever_it_was_due() {
        let tag = 0xdead_beef;
        let hour_ns = 3_600_000_000_000u64;
        // Up for a hundred days, which is far beyond what its bits hold.
        let now_ns = 2400 * hour_ns + 12_345;
        for due_ns in [now_ns, now_ns - 1, now_ns - 30 * hour_ns, now_ns + 1000, 0xFFFF_FFFF_FFFF] {
            let stamp = Stamp { tag, flow: (1 << 24) - 1, sequence: (1 << 40) - 1, due_ns };
            let now_ns = if due_ns < now_ns / 2 { due_ns + 5 } else { now_ns };
            assert_eq!(Stamp::read(&payload(stamp, 16), tag, now_ns), Some(stamp));
            assert_eq!(Stamp::read(&payload(stamp, 23), tag, now_ns), Some(stamp));
            assert_eq!(Stamp::read(&payload(stamp, 16), 1, now_ns), None);
        }
    }

    #[test]
    fn short_payloads_are_anonymous() {
        let stamp = Stamp { tag: 0, flow: 0, sequence: 0, due_ns: 0 };
        for size in 0..COMPACT_LEN {
            assert_eq!(Stamp::read(&payload(stamp, size), 0, 0), None);
        }
    }

    #[test]
    fn headers_are_eight_big_endian_bytes_in_their_order() {
        let mut payload = vec![];
        Header::Ts.append(7, &mut payload);
        Header::Cnt64.append(7, &mut payload);
        assert_eq!(payload[8..], [0, 0, 0, 0, 0, 0, 0, 7]);
        payload.push(b'x');
        let (values, rest) = split_headers(&[Header::Ts, Header::Cnt64], &payload).unwrap();
        assert_eq!((values.count, rest), (Some(7), &b"x"[..]));
        assert!(clock::unix_ms() - values.sent_unix_ms.unwrap() < 60_000);
        assert_eq!(split_headers(&[Header::Cnt64; 3], &payload), None);
    }

    #[test]
    fn filler_is_printable_and_follows_the_seed() {
        assert_eq!((filler(1, 100).len(), filler(1, 20).len(), filler(1, 3).len()), (76, 4, 3));
        assert!(filler(1, 100).iter().all(|byte| (b' '..=b'~').contains(byte)));
        assert_eq!(filler(1, 100), filler(1, 100));
        assert_ne!(filler(1, 100), filler(2, 100));
    }
}
