//! Garbage thrown at a live node: spoiled packets of every type and version, before and behind CONNECT, in any
//! chunks. No panic, no hang, no acknowledgement that nothing has asked for; a faultless client beside it is served,
//! and in the end the node holds nothing.

#[path = "../../protocol/tests/generator/mod.rs"]
mod generator;
mod support;

use std::time::{Duration, Instant};

use generator::{Rng, VERSIONS, hostile};
use protocol::{Decoder, Packet, QoS, Role, Version};
use shard::{Config, Limits};
use support::Node;
use support::client::{Client, options};

/// Inputs in an ordinary run; `just fuzz` asks for more.
const INPUTS: u64 = 60_000;
/// Hostile connections that one node sees.
const CONNECTIONS: u64 = 400;

#[test]
fn garbage_hurts_nobody() {
    let count = std::env::var("HOSTILE_INPUTS").map_or(INPUTS, |n| n.parse().expect("a number"));
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get() as u64);
    let nodes = count.div_ceil(CONNECTIONS * 3);
    std::thread::scope(|scope| {
        for thread in 0..threads {
            scope.spawn(move || (thread..nodes).step_by(threads as usize).for_each(besiege));
        }
    });
}

/// One node under fire.
fn besiege(seed: u64) {
    let mut rng = Rng(seed);
    let limits = Limits { session_expiry_max_s: 100, session_expiry_3x_s: 100, ..Limits::default() };
    let shard_count = 1 + rng.below(3) as u16;
    let mut node = Node::new(Config { shard_count, limits, ..Config::default() });
    let mut witness = Client::connect_with(&mut node, options(Version::V311, "witness")).0;
    witness.subscribe(&mut node, "witness/only", QoS::AtLeastOnce);
    for connection in 0..CONNECTIONS {
        attack(&mut node, &mut rng, seed, connection);
        if connection % 50 == 0 {
            let text = format!("{connection}");
            witness.publish(&mut node, "witness/only", &text, QoS::AtMostOnce, false);
            assert_eq!(witness.texts(&mut node), [text], "seed {seed}: the witness is not served");
        }
    }
    witness.disconnect(&mut node);
    for topic in RETAINED_TOPICS {
        let mut cleaner = Client::connect(&mut node, Version::V5, "cleaner");
        cleaner.publish(&mut node, topic, "", QoS::AtLeastOnce, true);
        cleaner.disconnect(&mut node);
    }
    node.advance(2_000_000);
    for (figure, value) in [
        ("connections", node.sum(|m| m.connection_count() + m.connections_pending)),
        ("sessions", node.sum(|m| m.sessions + m.sessions_persistent)),
        ("subscriptions", node.sum(|m| m.subscriptions + m.shared_subscriptions + m.routes)),
        ("messages", node.sum(|m| m.stored_messages + m.queue_messages + m.inflight_out)),
    ] {
        assert_eq!(value, 0, "seed {seed}: {value} {figure} are left");
    }
    for shard in &node.shards {
        assert!(shard.held().is_nothing(), "seed {seed}: {:?}", shard.held());
    }
}

/// Topics that the generator's packets use.
const RETAINED_TOPICS: [&str; 9] =
    ["a", "a/b", "a/b/c", "b/c", "/", "//", "$d/t", "sensors/öl/1", "x/y/z/u/v/w"];

/// One hostile connection: CONNECT (faultless or not), then garbage.
fn attack(node: &mut Node, rng: &mut Rng, seed: u64, connection: u64) {
    let version = rng.pick(&VERSIONS);
    let shard = rng.below(node.shards.len()) as u16;
    let Some(socket) = node.accept(shard) else { return };
    let began = Instant::now();
    let mut sent = Vec::new();
    if rng.chance(70) {
        let id = format!("guest-{}", rng.below(5));
        let clean = rng.chance(50);
        sent.extend(support::client::Options { clean, ..options(version, &id) }.encode());
    }
    for _ in 0..3 {
        sent.extend(hostile(rng, version, Role::Server));
    }
    let mut rest = &sent[..];
    while !rest.is_empty() {
        let len = if rng.chance(50) { rest.len() } else { 1 + rng.below(rest.len()) };
        node.write(socket, &rest[..len]);
        node.run();
        rest = &rest[len..];
    }
    let took = began.elapsed();
    assert!(took < Duration::from_millis(1000), "seed {seed}, connection {connection} takes {took:?}");
    check_answers(node, socket, version, &sent, seed);
    if rng.chance(90) {
        node.reset(socket);
    } else {
        node.advance(10);
    }
}

/// Every acknowledgement answers a packet that was there, and what the server says is MQTT.
fn check_answers(node: &Node, socket: usize, version: Version, sent: &[u8], seed: u64) {
    let asked = asked_for(version, sent);
    let mut at = 0;
    let bytes = &node.sockets[socket].to_client;
    let decoder = Decoder { role: Role::Client, version: Some(asked.version), packet_size_max: u32::MAX };
    while at < bytes.len() {
        let next = decoder.next_packet(&bytes[at..]);
        let Ok(Some((packet, used))) = next else { panic!("seed {seed}: the server sent {next:?}") };
        at += used;
        let (kind, id) = match &packet {
            Packet::PubAck(ack) => (4, ack.packet_id),
            Packet::PubRec(ack) => (5, ack.packet_id),
            Packet::PubComp(ack) => (7, ack.packet_id),
            Packet::SubAck(ack) => (9, ack.packet_id),
            Packet::UnsubAck(ack) => (11, ack.packet_id),
            _ => continue,
        };
        assert!(asked.answers.contains(&(kind, id)), "seed {seed}: {packet:?} answers nothing");
    }
}

struct Asked {
    version: Version,
    answers: Vec<(u8, u16)>,
}

/// What a reader of the same bytes would answer, up to the first fault.
fn asked_for(version: Version, sent: &[u8]) -> Asked {
    let mut asked = Asked { version, answers: Vec::new() };
    let mut decoder = Decoder { role: Role::Server, version: None, packet_size_max: 1 << 20 };
    let mut at = 0;
    while at < sent.len() {
        match decoder.next_packet(&sent[at..]) {
            Ok(Some((packet, used))) => {
                at += used;
                match packet {
                    Packet::Connect(connect) if decoder.version.is_none() => {
                        asked.version = connect.version;
                        decoder.version = Some(connect.version);
                    }
                    Packet::Publish(publish) if publish.qos == QoS::AtLeastOnce => {
                        asked.answers.push((4, publish.packet_id));
                    }
                    Packet::Publish(publish) if publish.qos == QoS::ExactlyOnce => {
                        asked.answers.push((5, publish.packet_id));
                    }
                    Packet::PubRel(ack) => asked.answers.push((7, ack.packet_id)),
                    Packet::Subscribe(subscribe) => asked.answers.push((9, subscribe.packet_id)),
                    Packet::Unsubscribe(unsubscribe) => asked.answers.push((11, unsubscribe.packet_id)),
                    _ => {}
                }
            }
            Ok(None) => break,
            Err(error) => {
                if let (None, Some(version)) = (decoder.version, error.version()) {
                    asked.version = version;
                }
                break;
            }
        }
    }
    asked
}
