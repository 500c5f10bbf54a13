//! The memory budget of a shard: who is held back near it, and how clients get it free again.

mod support;

use protocol::{Properties, QoS, ReasonCode, Version, Will};
use shard::{Config, Limits};
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
