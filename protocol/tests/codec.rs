//! Properties of the codec: what is encoded decodes to the same, however the stream is cut; nothing that arrives
//! makes it panic, allocate by a claimed length, or read on behind an error.

mod generator;

use std::alloc::{GlobalAlloc, Layout, System};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use generator::{Rng, VERSIONS, encoded, hostile, packet};
use proptest::prelude::*;
use protocol::{Decoder, Packet, PropertyId, Role, Version};

/// Notes the largest allocation of this thread's tests.
struct Watched;

static LARGEST: AtomicUsize = AtomicUsize::new(0);

// SAFETY: everything is handed to the system allocator unchanged.
unsafe impl GlobalAlloc for Watched {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        LARGEST.fetch_max(layout.size(), Ordering::Relaxed);
        // SAFETY: the caller's contract is the system allocator's.
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        // SAFETY: as above.
        unsafe { System.dealloc(pointer, layout) }
    }
}

#[global_allocator]
static ALLOCATOR: Watched = Watched;

const SIDES: [Role; 2] = [Role::Server, Role::Client];

fn decoder(role: Role, version: Version, packet: &Packet<'_>) -> Decoder {
    let version = if matches!(packet, Packet::Connect(_)) { None } else { Some(version) };
    Decoder { role, version, packet_size_max: u32::MAX }
}

/// A decoded PUBLISH has its whole section in `properties`: compares field by field.
fn assert_same(sent: &Packet<'_>, received: &Packet<'_>, version: Version) {
    let (Packet::Publish(sent), Packet::Publish(received)) = (sent, received) else {
        assert_eq!(sent, received);
        return;
    };
    let ids: Vec<u32> = received.properties.subscription_ids().collect();
    assert_eq!(ids, sent.subscription_ids);
    let mut forwarded = Vec::new();
    protocol::copy_forwarded(received.properties.raw(), &mut forwarded);
    assert_eq!(forwarded, sent.properties.raw());
    assert_eq!(received.properties.u32(PropertyId::MessageExpiryInterval), sent.message_expiry);
    let received = protocol::Publish {
        properties: sent.properties,
        subscription_ids: sent.subscription_ids,
        ..*received
    };
    assert_eq!(&received, sent, "{version:?}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(20_000))]

    #[test]
    fn what_is_encoded_decodes_to_the_same(seed in any::<u64>(), version in 0..3usize, side in 0..2usize) {
        let (version, role) = (VERSIONS[version], SIDES[side]);
        packet(&mut Rng(seed), version, role, |sent| {
            let mut bytes = Vec::new();
            sent.encode(version, &mut bytes);
            assert_eq!(bytes.len(), sent.encoded_len(version));
            let decoder = decoder(role, version, sent);
            let (received, used) = decoder.next_packet(&bytes).expect("it is valid").expect("it is complete");
            assert_eq!(used, bytes.len());
            assert_same(sent, &received, version);
            // A limit of its own size lets it pass, one byte less does not.
            let exact = Decoder { packet_size_max: bytes.len() as u32, ..decoder };
            assert!(exact.next_packet(&bytes).is_ok_and(|found| found.is_some()));
            let tight = Decoder { packet_size_max: bytes.len() as u32 - 1, ..decoder };
            assert!(tight.next_packet(&bytes).is_err());
        });
    }

    #[test]
    fn a_stream_gives_the_same_packets_however_it_is_cut(
        seed in any::<u64>(),
        version in 0..3usize,
        side in 0..2usize,
        cuts in prop::collection::vec(0..400usize, 0..12),
    ) {
        let (version, role) = (VERSIONS[version], SIDES[side]);
        let mut rng = Rng(seed);
        let mut packets: Vec<Vec<u8>> = Vec::new();
        while packets.len() < 6 {
            let bytes = encoded(&mut rng, version, role);
            // A second CONNECT is decoded without a version; the stream is one of a live connection.
            if bytes[0] != 0x10 {
                packets.push(bytes);
            }
        }
        let stream: Vec<u8> = packets.concat();
        let decoder = Decoder { role, version: Some(version), packet_size_max: u32::MAX };
        let (mut arrived, mut kept, mut found) = (0, Vec::new(), Vec::new());
        let mut ends: Vec<usize> = cuts.iter().map(|cut| cut % stream.len()).collect();
        ends.sort_unstable();
        ends.push(stream.len());
        for end in ends {
            kept.extend_from_slice(&stream[arrived..end]);
            arrived = end;
            while let Some((packet, used)) = decoder.next_packet(&kept).expect("it is valid") {
                let mut again = Vec::new();
                if !matches!(packet, Packet::Publish(_)) {
                    packet.encode(version, &mut again);
                    prop_assert_eq!(decoder.next_packet(&again).unwrap().map(|(same, _)| same), Some(packet));
                }
                found.push(kept[..used].to_vec());
                kept.drain(..used);
            }
        }
        prop_assert!(kept.is_empty());
        prop_assert_eq!(found, packets);
    }
}

/// Inputs of the hostile test; `just fuzz` asks for more.
const HOSTILE_INPUTS: u64 = 300_000;

#[test]
fn hostile_input_is_refused_or_understood() {
    let count = std::env::var("HOSTILE_INPUTS").map_or(HOSTILE_INPUTS, |n| n.parse().expect("a number"));
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || {
                for seed in (thread..count).step_by(threads as usize) {
                    throw(seed);
                }
            });
        }
    });
    // A megabyte is claimed all the time; the tests' own buffers are far smaller.
    assert!(LARGEST.load(Ordering::Relaxed) < 1 << 20, "something was allocated by a claimed length");
}

fn throw(seed: u64) {
    let mut rng = Rng(seed);
    let (version, role) = (rng.pick(&VERSIONS), rng.pick(&SIDES));
    let bytes = hostile(&mut rng, version, role);
    let known = if role == Role::Server && rng.chance(30) { None } else { Some(version) };
    let decoder = Decoder { role, version: known, packet_size_max: rng.pick(&[u32::MAX, 1 << 20, 200]) };
    let began = Instant::now();
    decode_all(&decoder, &bytes, seed);
    assert!(began.elapsed() < Duration::from_millis(100), "seed {seed} takes {:?}", began.elapsed());
}

/// Decodes to the end or the first error. What is accepted has to survive a round trip.
fn decode_all(decoder: &Decoder, bytes: &[u8], seed: u64) {
    let mut at = 0;
    while at < bytes.len() {
        let (packet, used) = match decoder.next_packet(&bytes[at..]) {
            Ok(Some(found)) => found,
            Ok(None) => {
                assert_ne!(Decoder::missing(&bytes[at..]), 0, "seed {seed}");
                break;
            }
            Err(error) => {
                assert!(error.reason().is_error(), "seed {seed}: {error} is no error");
                break;
            }
        };
        assert!(used >= 2 && used <= bytes.len() - at, "seed {seed}");
        assert_eq!(Decoder::missing(&bytes[at..]), 0, "seed {seed}");
        for begun in [0, 1, used - 1] {
            let missing = Decoder::missing(&bytes[at..at + begun]);
            assert!((1..=used - begun).contains(&missing), "seed {seed}: {missing} after {begun} of {used}");
        }
        assert_eq!(Decoder::missing(&bytes[at..at + used - 1]), 1, "seed {seed}");
        assert!(used as u64 <= decoder.packet_size_max as u64, "seed {seed}");
        at += used;
        let version = match &packet {
            Packet::Connect(connect) => connect.version,
            _ => decoder.version.expect("only CONNECT is decoded without a version"),
        };
        if matches!(packet, Packet::Publish(_)) {
            continue;
        }
        let mut again = Vec::new();
        packet.encode(version, &mut again);
        let open = Decoder { packet_size_max: u32::MAX, ..*decoder };
        let found =
            open.next_packet(&again).unwrap_or_else(|error| panic!("seed {seed}: {error} in {packet:?}"));
        assert_eq!(found.map(|(same, _)| same), Some(packet), "seed {seed}");
    }
}

/// Inputs that are kept: one a file, as hexadecimal text.
#[test]
fn the_corpus_is_refused_or_understood() {
    let mut count = 0;
    for (index, line) in include_str!("corpus.txt").lines().enumerate() {
        let hex = line.split('#').next().unwrap_or_default().replace(' ', "");
        if hex.is_empty() {
            continue;
        }
        let bytes: Vec<u8> = (0..hex.len() / 2)
            .map(|at| u8::from_str_radix(&hex[2 * at..2 * at + 2], 16).expect("hexadecimal"))
            .collect();
        count += 1;
        for role in SIDES {
            for version in [None, Some(Version::V31), Some(Version::V311), Some(Version::V5)] {
                if role == Role::Client && version.is_none() {
                    continue;
                }
                let decoder = Decoder { role, version, packet_size_max: 1 << 20 };
                for cut in 0..=bytes.len() {
                    decode_all(&decoder, &bytes[..cut], index as u64);
                }
            }
        }
    }
    assert!(count >= 20, "the corpus has {count} inputs");
}
