//! Shards driven as the runtime does it, by the smallest runtime that keeps its buffers: for counting what a message
//! costs. Used by the allocation test and by the benchmarks.
#![allow(dead_code)]

use std::sync::Arc;

use protocol::{
    Connect, Packet, Properties, Publish, QoS, Subscribe, SubscribeFilters, SubscriptionOptions, Version,
};
use shard::{Config, ConnectionId, Envelope, Shard, ShardId, Time};

/// Shards with the smallest runtime that keeps its buffers.
pub struct Cores {
    pub shards: Vec<Shard>,
    pub now: Time,
    in_lane: Vec<(ShardId, ShardId, Envelope)>,
    /// What each socket was sent last.
    written: Vec<(ShardId, ConnectionId, Vec<u8>)>,
}

impl Cores {
    pub fn new(count: u16) -> Cores {
        let config = Arc::new(Config { shard_count: count, ..Config::default() });
        Cores {
            shards: (0..count).map(|id| Shard::new(id, config.clone(), 0)).collect(),
            now: 1,
            in_lane: Vec::new(),
            written: Vec::new(),
        }
    }

    pub fn turn(&mut self, shard: ShardId, act: impl FnOnce(&mut Shard)) {
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
    pub fn settle(&mut self, mut see: impl FnMut(ShardId, &[u8])) {
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

    /// Subscribes, and waits for the route to be everywhere.
    pub fn subscribe(&mut self, shard: ShardId, id: ConnectionId, filter: &str, qos: QoS) {
        let mut filters = Vec::new();
        SubscribeFilters::push(&mut filters, filter, SubscriptionOptions::new(qos));
        let subscribe = encoded(&Packet::Subscribe(Subscribe {
            packet_id: 1,
            properties: Properties::EMPTY,
            filters: SubscribeFilters::from_wire(&filters),
        }));
        self.turn(shard, |core| core.on_bytes(id, &subscribe));
        self.settle(|_, _| ());
    }

    /// A client whose id lives on that shard.
    pub fn connect(&mut self, shard: ShardId, name: &str, is_persistent: bool) -> ConnectionId {
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

pub fn encoded(packet: &Packet<'_>) -> Vec<u8> {
    let mut bytes = Vec::new();
    packet.encode(Version::V311, &mut bytes);
    bytes
}

/// A PUBLISH of 64 bytes, packet id 1 above QoS 0.
pub fn publish(topic: &str, qos: QoS) -> Vec<u8> {
    encoded(&Packet::Publish(Publish {
        dup: false,
        qos,
        retain: false,
        topic,
        packet_id: if qos == QoS::AtMostOnce { 0 } else { 1 },
        topic_alias: None,
        message_expiry: None,
        subscription_ids: &[],
        properties: Properties::EMPTY,
        payload: &[42; 64],
    }))
}
