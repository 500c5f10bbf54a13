//! In the steady state a delivered message costs no allocation, on its own shard and across shards. The shards are
//! driven as the runtime does it, with lists that keep their memory; every allocation inside is counted. The clock
//! stands still: what timers cost once a second is not a cost of messages.

use std::alloc::{GlobalAlloc, Layout, System};
use std::cell::Cell;

use std::sync::Arc;

use protocol::{
    Ack, Connect, Packet, Properties, Publish, QoS, ReasonCode, Subscribe, SubscribeFilters,
    SubscriptionOptions, Version,
};
use shard::{Config, ConnectionId, Envelope, Shard, ShardId, Time};

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

/// Shards with the smallest runtime that keeps its buffers.
struct Cores {
    shards: Vec<Shard>,
    now: Time,
    in_lane: Vec<(ShardId, ShardId, Envelope)>,
    /// What each socket was sent last.
    written: Vec<(ShardId, ConnectionId, Vec<u8>)>,
}

impl Cores {
    fn new(count: u16) -> Cores {
        let config = Arc::new(Config { shard_count: count, ..Config::default() });
        Cores {
            shards: (0..count).map(|id| Shard::new(id, config.clone(), 0)).collect(),
            now: 1,
            in_lane: Vec::new(),
            written: Vec::new(),
        }
    }

    fn turn(&mut self, shard: ShardId, act: impl FnOnce(&mut Shard)) {
        let core = &mut self.shards[shard as usize];
        core.begin_turn(self.now);
        act(core);
        core.end_turn();
        let mut dirty = std::mem::take(&mut core.outputs.dirty);
        for id in dirty.drain(..) {
            if let Some(buffer) = core.take_output(id) {
                self.written.push((shard, id, buffer));
            }
        }
        core.outputs.dirty = dirty;
        let mut envelopes = std::mem::take(&mut core.outputs.envelopes);
        self.in_lane.extend(envelopes.drain(..).map(|(to, envelope)| (shard, to, envelope)));
        core.outputs.envelopes = envelopes;
        core.outputs.established.clear();
        let mut emptied = std::mem::take(&mut core.outputs.emptied);
        emptied.drain(..).for_each(|(to, buffer)| self.shards[to as usize].recycle_buffer(buffer));
        self.shards[shard as usize].outputs.emptied = emptied;
    }

    /// Envelopes and writes until there are none; `see` gets what each socket was sent.
    fn settle(&mut self, mut see: impl FnMut(ShardId, &[u8])) {
        loop {
            if let Some((from, to, envelope)) = self.in_lane.pop() {
                self.turn(to, |core| core.on_envelope(from, envelope));
            } else if let Some((shard, id, buffer)) = self.written.pop() {
                see(shard, &buffer);
                self.shards[shard as usize].recycle_buffer(buffer);
                self.turn(shard, |core| core.on_sent(id));
            } else {
                return;
            }
        }
    }

    /// A client whose id lives on that shard.
    fn connect(&mut self, shard: ShardId, name: &str, is_persistent: bool) -> ConnectionId {
        for attempt in 0.. {
            let client_id = format!("{name}-{attempt}");
            let mut bytes = Vec::new();
            let connect = Connect {
                version: Version::V311,
                is_bridge: false,
                clean_start: !is_persistent,
                keep_alive: 60,
                client_id: &client_id,
                will: None,
                user_name: None,
                password: None,
                properties: Properties::EMPTY,
            };
            Packet::Connect(Box::new(connect)).encode(Version::V311, &mut bytes);
            let core = &mut self.shards[shard as usize];
            core.begin_turn(self.now);
            let id = core.on_accepted(0, ([127, 0, 0, 1], 1).into()).expect("accepted");
            core.on_bytes(id, &bytes);
            core.end_turn();
            if core.outputs.moves.is_empty() {
                self.turn(shard, |_| ());
                self.settle(|_, _| ());
                return id;
            }
            core.outputs.moves.clear();
        }
        unreachable!("some id lives there")
    }
}

fn encoded(packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(Version::V311, &mut bytes);
    bytes
}

/// Allocations of 1,000 messages after a warm-up of 1,000, with acknowledgements in both directions.
fn allocations(publisher_shard: ShardId, subscriber_shard: ShardId, qos: QoS, is_persistent: bool) -> u64 {
    let mut cores = Cores::new(2);
    let subscriber = cores.connect(subscriber_shard, "subscriber", is_persistent);
    let publisher = cores.connect(publisher_shard, "publisher", false);
    let mut filters = Vec::new();
    SubscribeFilters::push(&mut filters, "plant/+/temperature", SubscriptionOptions::new(qos));
    let subscribe = encoded(&Packet::Subscribe(Subscribe {
        packet_id: 1,
        properties: Properties::EMPTY,
        filters: SubscribeFilters::from_wire(&filters),
    }));
    cores.turn(subscriber_shard, |core| core.on_bytes(subscriber, &subscribe));
    cores.settle(|_, _| ());

    let publish = encoded(&Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic: "plant/7/temperature",
        packet_id: if qos == QoS::AtMostOnce { 0 } else { 1 },
        topic_alias: None,
        message_expiry: None,
        subscription_ids: &[],
        properties: Properties::EMPTY,
        payload: &[42; 64],
    }));
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
