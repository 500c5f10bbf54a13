//! In the steady state a delivered message costs no allocation, on its own shard and across shards. The shards are
//! driven as the runtime does it, with lists that keep their memory; every allocation inside is counted. The clock
//! stands still: what timers cost once a second is not a cost of messages.

#[path = "support/cores.rs"]
mod cores;

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use protocol::{Ack, Packet, QoS, ReasonCode};
use shard::ShardId;

use crate::cores::{Cores, encoded};

struct Counting;

thread_local! {
    static ALLOCATIONS: Cell<u64> = const { Cell::new(0) };
}

// SAFETY: the calls go to the system's allocator unchanged; the counter is a plain thread-local cell.
unsafe impl GlobalAlloc for Counting {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        unsafe { System.alloc(layout) }
    }

    unsafe fn dealloc(&self, pointer: *mut u8, layout: Layout) {
        unsafe { System.dealloc(pointer, layout) }
    }

    unsafe fn realloc(&self, pointer: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        ALLOCATIONS.with(|count| count.set(count.get() + 1));
        unsafe { System.realloc(pointer, layout, size) }
    }
}

#[global_allocator]
static ALLOCATOR: Counting = Counting;

/// Allocations of 1,000 messages after a warm-up of 1,000, with acknowledgements in both directions.
fn allocations(publisher_shard: ShardId, subscriber_shard: ShardId, qos: QoS, is_persistent: bool) -> u64 {
    let mut cores = Cores::new(2);
    let subscriber = cores.connect(subscriber_shard, "subscriber", is_persistent);
    let publisher = cores.connect(publisher_shard, "publisher", false);
    cores.subscribe(subscriber_shard, subscriber, "plant/+/temperature", qos);
    let publish = cores::publish("plant/7/temperature", qos);
    let mut before = 0;
    let mut deliveries = 0;
    for round in 0..2_000u32 {
        if round == 1_000 {
            before = ALLOCATIONS.with(Cell::get);
        }
        cores.turn(publisher_shard, |core| core.on_bytes(publisher, &publish));
        let mut packet_id = 0;
        cores.settle(|shard, bytes| {
            if shard == subscriber_shard && bytes.first().is_some_and(|first| first >> 4 == 3) {
                deliveries += 1;
                let at = 2 + 2 + "plant/7/temperature".len();
                packet_id = u16::from_be_bytes([bytes[at], bytes[at + 1]]);
            }
        });
        if qos == QoS::AtLeastOnce {
            let mut ack = [0x40, 2, 0, 0];
            ack[2..].copy_from_slice(&packet_id.to_be_bytes());
            debug_assert_eq!(ack[..], encoded_ack(packet_id)[..]);
            cores.turn(subscriber_shard, |core| core.on_bytes(subscriber, &ack));
            cores.settle(|_, _| ());
        }
    }
    assert_eq!(deliveries, 2_000, "every message arrived");
    ALLOCATIONS.with(Cell::get) - before
}

/// Only compared in debug builds, outside the count.
fn encoded_ack(packet_id: u16) -> Vec<u8> {
    let before = ALLOCATIONS.with(Cell::get);
    let bytes = encoded(&Packet::PubAck(Ack::new(packet_id, ReasonCode::Success)));
    ALLOCATIONS.with(|count| count.set(before));
    bytes
}

#[test]
fn a_local_delivery_allocates_nothing() {
    assert_eq!(allocations(0, 0, QoS::AtMostOnce, false), 0, "QoS 0");
    assert_eq!(allocations(0, 0, QoS::AtLeastOnce, false), 0, "QoS 1");
    assert_eq!(allocations(0, 0, QoS::AtLeastOnce, true), 0, "QoS 1, persistent session");
}

#[test]
fn a_delivery_to_another_shard_allocates_nothing() {
    assert_eq!(allocations(0, 1, QoS::AtMostOnce, false), 0, "QoS 0");
    assert_eq!(allocations(0, 1, QoS::AtLeastOnce, false), 0, "QoS 1");
    assert_eq!(allocations(1, 0, QoS::AtLeastOnce, true), 0, "QoS 1, persistent session");
}

#[test]
fn the_counter_counts() {
    let before = ALLOCATIONS.with(Cell::get);
    drop(std::hint::black_box(vec![0u8; 100]));
    assert_eq!(ALLOCATIONS.with(Cell::get), before + 1);
}
