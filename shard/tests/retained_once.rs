//! A new subscription gets each retained message once, as state or live, in whatever order lanes are served
//! (`docs/adr/0004-retained-by-owner.md`). Three shards: the owner of the topic, the publisher's, the subscriber's.

mod support;

use protocol::{Packet, Properties, QoS, Subscribe, SubscribeFilters, SubscriptionOptions, Version};
use shard::{Config, Limits, ShardId};
use support::Node;
use support::client::{Client, Options, options};

use QoS::{AtLeastOnce, AtMostOnce};
use Version::V5;

const OWNER: ShardId = 0;
const PUBLISHERS: ShardId = 1;
const SUBSCRIBERS: ShardId = 2;

/// Bytes of a subscriber's output from which QoS 0 is dropped.
const OUTPUT_MAX: u32 = 4096;

fn node() -> Node {
    node_of(3)
}

fn node_of(shard_count: u16) -> Node {
    let limits = Limits { output_soft_bytes: OUTPUT_MAX, output_hard_bytes: OUTPUT_MAX, ..Limits::default() };
    Node::new(Config { shard_count, limits, ..Config::default() })
}

/// The first name with this beginning that the shard owns as a topic.
fn owned_topic(node: &Node, start: &str) -> String {
    (0..)
        .map(|number| format!("{start}{number}"))
        .find(|topic| node.topic_owner(topic) == OWNER)
        .expect("some topic is owned by each shard")
}

/// A client whose id lives on the shard.
fn client_on(node: &mut Node, home: ShardId, name: &str) -> Client {
    for number in 0.. {
        let client_id = format!("{name}{number}");
        let (mut client, _) = Client::connect_with(node, Options { shard: home, ..options(V5, &client_id) });
        if node.sockets[client.socket].shard == home {
            return client;
        }
        client.disconnect(node);
    }
    unreachable!("some id lives on each shard")
}

/// Sends SUBSCRIBE and waits for nothing.
fn subscribe(node: &mut Node, client: &mut Client, filter: &str) {
    let mut wire = vec![];
    SubscribeFilters::push(&mut wire, filter, SubscriptionOptions::new(AtLeastOnce));
    let subscribe = Subscribe {
        packet_id: client.next_id(),
        properties: Properties::EMPTY,
        filters: SubscribeFilters::from_wire(&wire),
    };
    client.send(node, &Packet::Subscribe(subscribe));
}

/// Serves all that is in a lane.
fn serve(node: &mut Node, from: ShardId, to: ShardId) {
    while node.deliver_one(from, to) {}
}

/// Announces the routes of the subscribers' shard and brings its confirmations, which let SUBACK out.
fn confirm_routes(node: &mut Node) {
    for peer in [OWNER, PUBLISHERS] {
        serve(node, SUBSCRIBERS, peer);
        serve(node, peer, SUBSCRIBERS);
    }
}

fn run_all(node: &mut Node) {
    node.are_lanes_held = false;
    node.run();
}

/// Payload and RETAIN of what came.
fn received(node: &mut Node, client: &mut Client) -> Vec<(String, bool)> {
    client.messages(node).iter().map(|message| (message.text().to_owned(), message.retain)).collect()
}

fn live(text: &str) -> (String, bool) {
    (text.to_owned(), false)
}

fn state(text: &str) -> (String, bool) {
    (text.to_owned(), true)
}

#[test]
fn a_message_behind_suback_comes_live_only() {
    for filter_of in [|topic: &str| topic.to_owned(), |_: &str| "#".to_owned()] {
        let mut node = node();
        let topic = owned_topic(&node, "t");
        let mut publisher = client_on(&mut node, PUBLISHERS, "pub");
        let mut subscriber = client_on(&mut node, SUBSCRIBERS, "sub");
        publisher.publish(&mut node, &topic, "old", AtLeastOnce, true);
        node.are_lanes_held = true;
        subscribe(&mut node, &mut subscriber, &filter_of(&topic));
        confirm_routes(&mut node);
        publisher.publish(&mut node, &topic, "new", AtLeastOnce, true);
        // The owner reads the publisher's lane before the question.
        serve(&mut node, PUBLISHERS, OWNER);
        run_all(&mut node);
        assert_eq!(received(&mut node, &mut subscriber), [live("new")]);
    }
}

#[test]
fn a_further_subscription_of_a_filter_gets_it_live_only() {
    let mut node = node();
    let topic = owned_topic(&node, "t");
    let mut publisher = client_on(&mut node, PUBLISHERS, "pub");
    let mut first = client_on(&mut node, SUBSCRIBERS, "first");
    let mut second = client_on(&mut node, SUBSCRIBERS, "second");
    first.subscribe(&mut node, &topic, AtLeastOnce);
    publisher.publish(&mut node, &topic, "old", AtLeastOnce, true);
    node.are_lanes_held = true;
    subscribe(&mut node, &mut second, &topic);
    publisher.publish(&mut node, &topic, "new", AtLeastOnce, true);
    serve(&mut node, PUBLISHERS, OWNER);
    run_all(&mut node);
    assert_eq!(received(&mut node, &mut first), [live("old"), live("new")]);
    assert_eq!(received(&mut node, &mut second), [live("new")]);
}

#[test]
fn a_message_before_the_route_comes_as_state_only() {
    let mut node = node();
    let topic = owned_topic(&node, "t");
    let mut publisher = client_on(&mut node, PUBLISHERS, "pub");
    let mut subscriber = client_on(&mut node, SUBSCRIBERS, "sub");
    node.are_lanes_held = true;
    subscribe(&mut node, &mut subscriber, &topic);
    publisher.publish(&mut node, &topic, "early", AtLeastOnce, true);
    serve(&mut node, PUBLISHERS, OWNER);
    run_all(&mut node);
    assert_eq!(received(&mut node, &mut subscriber), [state("early")]);
}

#[test]
fn each_route_of_a_turn_has_its_own_bound() {
    let mut node = node();
    let topic = owned_topic(&node, "t");
    let mut publisher = client_on(&mut node, PUBLISHERS, "pub");
    let mut subscriber = client_on(&mut node, SUBSCRIBERS, "sub");
    node.are_lanes_held = true;
    publisher.publish(&mut node, &topic, "between", AtLeastOnce, true);
    subscribe(&mut node, &mut subscriber, &topic);
    subscribe(&mut node, &mut subscriber, "#");
    node.open_turn(OWNER);
    for from in [SUBSCRIBERS, PUBLISHERS, SUBSCRIBERS] {
        assert!(node.deliver_one(from, OWNER));
    }
    node.close_turn();
    run_all(&mut node);
    // It found the first route in place and the second not.
    assert_eq!(received(&mut node, &mut subscriber), [live("between"), state("between")]);
}

#[test]
fn what_came_before_a_further_subscription_is_its_state() {
    let mut node = node();
    let topic = owned_topic(&node, "t");
    let mut publisher = client_on(&mut node, PUBLISHERS, "pub");
    let mut first = client_on(&mut node, SUBSCRIBERS, "first");
    let mut second = client_on(&mut node, SUBSCRIBERS, "second");
    first.subscribe(&mut node, &topic, AtLeastOnce);
    publisher.publish(&mut node, &topic, "old", AtLeastOnce, true);
    assert_eq!(received(&mut node, &mut first), [live("old")]);
    second.subscribe(&mut node, &topic, AtLeastOnce);
    assert_eq!(received(&mut node, &mut second), [state("old")]);
    // Asking again brings it again.
    second.subscribe(&mut node, &topic, AtLeastOnce);
    assert_eq!(received(&mut node, &mut second), [state("old")]);
}

#[test]
fn what_is_cleared_behind_suback_is_no_state() {
    let mut node = node();
    let topic = owned_topic(&node, "t");
    let mut publisher = client_on(&mut node, PUBLISHERS, "pub");
    let mut subscriber = client_on(&mut node, SUBSCRIBERS, "sub");
    publisher.publish(&mut node, &topic, "old", AtLeastOnce, true);
    node.are_lanes_held = true;
    subscribe(&mut node, &mut subscriber, &topic);
    confirm_routes(&mut node);
    for payload in ["", "again", ""] {
        publisher.publish(&mut node, &topic, payload, AtLeastOnce, true);
    }
    serve(&mut node, PUBLISHERS, OWNER);
    run_all(&mut node);
    assert_eq!(received(&mut node, &mut subscriber), [live(""), live("again"), live("")]);
}

#[test]
fn pages_that_are_read_later_leave_out_what_came_live() {
    for shards in [1, 3] {
        let mut node = node_of(shards);
        let mut publisher = Client::connect(&mut node, V5, "pub");
        let mut subscriber = Client::connect(&mut node, V5, "sub");
        let topics: Vec<String> = (0..1000).map(|number| format!("t/{number:04}")).collect();
        for topic in &topics {
            publisher.publish(&mut node, topic, topic, AtMostOnce, true);
        }
        // A full socket stops the pages until all is published.
        node.sockets[subscriber.socket].is_stalled = true;
        subscribe(&mut node, &mut subscriber, "t/#");
        let is_updated = |number: usize| number.is_multiple_of(3);
        for (_, topic) in topics.iter().enumerate().filter(|(number, _)| is_updated(*number)) {
            publisher.publish(&mut node, topic, "new", AtMostOnce, true);
        }
        node.sockets[subscriber.socket].is_stalled = false;
        node.run();
        let all = subscriber.messages(&mut node);
        let mut left_out = 0;
        for (number, topic) in topics.iter().enumerate() {
            let of_topic = all.iter().filter(|message| message.topic == *topic);
            let found: Vec<_> = of_topic.map(|m| (m.text().to_owned(), m.retain)).collect();
            let expected = [state(topic), live("new")];
            if is_updated(number) && found == expected[1..] {
                left_out += 1;
            } else {
                // Its state was read before it came live.
                assert_eq!(found, expected[..1 + is_updated(number) as usize]);
            }
        }
        assert!(left_out > 100, "{shards} shards: all pages were read before, but for {left_out} messages");
    }
}

#[test]
fn a_message_that_passed_the_owner_is_not_followed_by_a_former_state() {
    let mut node = node();
    let topic = owned_topic(&node, "t");
    let mut publisher = client_on(&mut node, PUBLISHERS, "pub");
    let mut first = client_on(&mut node, SUBSCRIBERS, "first");
    let mut second = client_on(&mut node, SUBSCRIBERS, "second");
    publisher.publish(&mut node, &topic, "old", AtLeastOnce, true);
    node.now += 60_000;
    first.subscribe(&mut node, &topic, AtLeastOnce);
    // From now on its messages to the topic go to subscribers directly.
    publisher.publish(&mut node, &topic, "plain", AtLeastOnce, false);
    node.are_lanes_held = true;
    subscribe(&mut node, &mut second, &topic);
    publisher.publish(&mut node, &topic, "new", AtLeastOnce, true);
    serve(&mut node, PUBLISHERS, SUBSCRIBERS);
    // The owner reads the question before it is told to store the message.
    serve(&mut node, SUBSCRIBERS, OWNER);
    run_all(&mut node);
    assert_eq!(received(&mut node, &mut first), [state("old"), live("plain"), live("new")]);
    assert_eq!(received(&mut node, &mut second), [live("new")]);
}

#[test]
fn a_copy_that_was_dropped_at_a_full_lane_comes_as_state() {
    let mut node = node();
    let topic = owned_topic(&node, "t");
    let mut publisher = client_on(&mut node, PUBLISHERS, "pub");
    let mut neighbour = client_on(&mut node, OWNER, "near");
    let mut subscriber = client_on(&mut node, SUBSCRIBERS, "sub");
    let mut sink = client_on(&mut node, SUBSCRIBERS, "sink");
    sink.subscribe(&mut node, "bulk", AtMostOnce);
    subscriber.subscribe(&mut node, "other", AtMostOnce);
    node.are_lanes_held = true;
    subscribe(&mut node, &mut subscriber, &topic);
    confirm_routes(&mut node);
    publisher.publish(&mut node, &topic, "first", AtMostOnce, true);
    serve(&mut node, PUBLISHERS, OWNER);
    serve(&mut node, OWNER, SUBSCRIBERS);
    publisher.publish(&mut node, &topic, "new", AtMostOnce, true);
    node.lane_capacity = 0;
    neighbour.publish(&mut node, "other", "fills the lane", AtMostOnce, false);
    assert_eq!(node.sum(|metrics| metrics.lane_full), 1);
    // What is gathered for a full lane is bounded, too.
    for _ in 0..2 {
        neighbour.publish(&mut node, "bulk", &"x".repeat(600_000), AtMostOnce, false);
    }
    serve(&mut node, PUBLISHERS, OWNER);
    node.lane_capacity = usize::MAX;
    run_all(&mut node);
    assert_eq!(received(&mut node, &mut subscriber), [live("first"), live("fills the lane"), state("new")]);
}

#[test]
fn a_copy_that_was_dropped_at_a_full_socket_comes_as_state() {
    let mut node = node();
    let topic = owned_topic(&node, "t");
    let mut publisher = client_on(&mut node, PUBLISHERS, "pub");
    let mut neighbour = client_on(&mut node, SUBSCRIBERS, "near");
    let mut subscriber = client_on(&mut node, SUBSCRIBERS, "sub");
    subscriber.subscribe(&mut node, "other", AtMostOnce);
    node.are_lanes_held = true;
    subscribe(&mut node, &mut subscriber, &topic);
    confirm_routes(&mut node);
    publisher.publish(&mut node, &topic, "new", AtMostOnce, true);
    node.sockets[subscriber.socket].is_stalled = true;
    let large = "x".repeat(OUTPUT_MAX as usize);
    neighbour.publish(&mut node, "other", &large, AtMostOnce, false);
    serve(&mut node, PUBLISHERS, OWNER);
    run_all(&mut node);
    let slow = shard::DropReason::SlowConsumer as usize;
    assert_eq!(node.sum(|metrics| metrics.publish_dropped[0][slow]), 1);
    node.sockets[subscriber.socket].is_stalled = false;
    node.run();
    assert_eq!(received(&mut node, &mut subscriber), [live(&large), state("new")]);
}
