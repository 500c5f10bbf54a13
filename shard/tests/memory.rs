//! The memory budget of a shard: who is held back near it, and how clients get it free again.

mod support;

use protocol::{Ack, Packet, Properties, Publish, QoS, ReasonCode, Version, Will};
use shard::{Config, EndReason, Limits};
use support::Node;
use support::client::{Client, Options, Received, options};

use QoS::AtLeastOnce;
use Version::{V5, V311};

const BUDGET: u64 = 64 * 1024;

fn small_node() -> Node {
    let limits = Limits { memory_bytes_max: BUDGET, ..Limits::default() };
    Node::new(Config { limits, ..Config::default() })
}

fn percent(node: &mut Node) -> u64 {
    node.sum(|metrics| metrics.memory_bytes) * 100 / BUDGET
}

/// Publishes wills of `size` bytes, which nobody can be made to wait with, until the share of the budget is reached.
fn fill(node: &mut Node, topic: &str, size: usize, wanted: u64) {
    let payload = vec![b'w'; size];
    while percent(node) < wanted {
        let will =
            Will { qos: AtLeastOnce, retain: false, topic, payload: &payload, properties: Properties::EMPTY };
        let (dying, _) = Client::connect_with(node, Options { will: Some(will), ..options(V311, "dying") });
        node.reset(dying.socket);
        node.run();
    }
}

fn kept(client_id: &str) -> Options<'_> {
    Options { clean: false, ..options(V311, client_id) }
}

fn is_refused(node: &mut Node, options: Options<'_>) -> bool {
    let (_, received) = Client::try_connect(node, options);
    match received[..] {
        [Received::ConnAck { reason, .. }, ..] => reason != ReasonCode::Success,
        _ => panic!("{received:?}"),
    }
}

/// Takes and acknowledges what there is until nothing comes any more.
fn take_all(node: &mut Node, client: &mut Client) -> usize {
    let mut count = 0;
    loop {
        let messages = client.messages(node);
        if messages.is_empty() {
            return count;
        }
        count += messages.len();
        messages.iter().for_each(|message| client.puback(node, message.packet_id));
    }
}

#[test]
fn a_client_that_comes_back_for_its_messages_is_let_in() {
    let mut node = small_node();
    let (mut absent, _) = Client::connect_with(&mut node, kept("absent"));
    absent.subscribe(&mut node, "t", AtLeastOnce);
    node.reset(absent.socket);
    fill(&mut node, "t", 1000, 92);
    assert!(is_refused(&mut node, options(V5, "new")));
    assert!(is_refused(&mut node, options(V311, "absent")), "a session that begins anew is a new one");
    let (mut absent, is_present) = Client::connect_with(&mut node, kept("absent"));
    assert!(is_present);
    assert!(take_all(&mut node, &mut absent) > 40);
    assert_eq!(percent(&mut node), 0);
    assert!(!is_refused(&mut node, options(V5, "new")));
}

/// A PUBLISH at QoS 1 to the client's own topic.
fn publish(client: &mut Client, topic: &str, size: usize) -> Vec<u8> {
    let publish = Publish {
        dup: false,
        qos: AtLeastOnce,
        retain: false,
        topic,
        packet_id: client.next_id(),
        topic_alias: None,
        message_expiry: None,
        subscription_ids: &[],
        properties: Properties::EMPTY,
        payload: &vec![b'p'; size],
    };
    let mut bytes = vec![];
    Packet::Publish(publish).encode(client.version, &mut bytes);
    bytes
}

/// PUBACKs of all that the client has got and not answered.
fn acks(node: &mut Node, client: &mut Client) -> Vec<u8> {
    let mut bytes = vec![];
    for message in client.messages(node) {
        Packet::PubAck(Ack::new(message.packet_id, ReasonCode::Success)).encode(client.version, &mut bytes);
    }
    bytes
}

fn codes(node: &mut Node, client: &mut Client) -> Vec<ReasonCode> {
    let code = |received| match received {
        Received::PubAck(_, code) => Some(code),
        _ => None,
    };
    client.receive(node).into_iter().filter_map(code).collect()
}

/// A client that has got messages for `percent` of the budget and acknowledges them behind three PUBLISHes of 1000
/// bytes to `topic`.
fn publishing_reader(node: &mut Node, version: Version, percent: u64, topic: &str) -> Client {
    // Session Expiry Interval of 600 s, so that what it has got is kept until it acknowledges it.
    let properties: &[u8] = if version == V5 { &[17, 0, 0, 2, 88] } else { &[] };
    let reader = Options { version, properties, ..kept("reader") };
    let (mut reader, _) = Client::connect_with(node, reader);
    reader.subscribe(node, "t", AtLeastOnce);
    // Below 92 % each dying client is let in, and its will may take the rest.
    fill(node, "t", 500, percent.min(91));
    fill(node, "t", 9_000, percent);
    let answers = acks(node, &mut reader);
    let mut bytes: Vec<u8> = (0..3).flat_map(|_| publish(&mut reader, topic, 1000)).collect();
    bytes.extend(answers);
    reader.send_bytes(node, &bytes);
    reader
}

#[test]
fn acknowledgements_behind_a_publish_are_reached() {
    for version in [V5, V311] {
        let mut node = small_node();
        let mut reader = publishing_reader(&mut node, version, 86, "else");
        assert_eq!(node.sum(|m| m.paused_connections), 1);
        node.advance(990);
        assert_eq!(codes(&mut node, &mut reader).len(), 0);
        node.advance(1020);
        assert_eq!(codes(&mut node, &mut reader).len(), 2, "one each second");
        assert!(percent(&mut node) >= 85);
        node.advance(1000);
        assert_eq!(codes(&mut node, &mut reader).len(), 1);
        assert_eq!((percent(&mut node), node.sum(|m| m.paused_connections)), (0, 0));
    }
}

#[test]
fn without_any_memory_v5_publishers_are_told() {
    let mut node = small_node();
    let mut reader = publishing_reader(&mut node, V5, 100, "t");
    let full = percent(&mut node);
    assert_eq!(codes(&mut node, &mut reader), []);
    node.advance(1010);
    assert_eq!(codes(&mut node, &mut reader), [ReasonCode::QuotaExceeded; 3]);
    assert!(full >= 100 && percent(&mut node) == 0);
    let again = publish(&mut reader, "t", 10);
    reader.send_bytes(&mut node, &again);
    assert_eq!(codes(&mut node, &mut reader), [ReasonCode::Success]);
}

#[test]
fn without_any_memory_3x_publishers_have_to_come_again() {
    let mut node = small_node();
    let (mut bystander, _) = Client::connect_with(&mut node, kept("bystander"));
    let mut reader = publishing_reader(&mut node, V311, 100, "t");
    let waiting = publish(&mut bystander, "t", 10);
    bystander.send_bytes(&mut node, &waiting);
    assert_eq!(codes(&mut node, &mut bystander), [], "it holds nothing that it could free");
    node.advance(1010);
    assert_eq!(percent(&mut node), 0, "the acknowledgements were read");
    let late = publish(&mut reader, "t", 10);
    reader.send_bytes(&mut node, &late);
    assert_eq!(codes(&mut node, &mut reader), [], "it would pass those that were not taken");
    assert!(!reader.is_closed(&node));
    node.advance(1010);
    assert!(reader.is_closed(&node));
    assert_eq!(codes(&mut node, &mut bystander), [ReasonCode::Success]);
    assert_eq!(node.sum(|m| m.disconnects[EndReason::Quota as usize]), 1);
    let (mut reader, is_present) = Client::connect_with(&mut node, kept("reader"));
    assert!(is_present);
    let again = publish(&mut reader, "t", 1000);
    reader.send_bytes(&mut node, &again);
    assert_eq!(codes(&mut node, &mut reader), [ReasonCode::Success]);
}
