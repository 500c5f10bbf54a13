//! Races between lanes: what a message may meet that goes by another shard than its neighbours do.

mod support;

use protocol::{
    Packet, Properties, QoS, RetainHandling, Subscribe, SubscribeFilters, SubscriptionOptions, Unsubscribe,
    UnsubscribeFilters, Version,
};
use support::Node;
use support::client::Client;

/// A client whose home is that shard.
fn client_of(node: &mut Node, shard: u16, name: &str) -> Client {
    for number in 0.. {
        let client = Client::connect(node, Version::V5, &format!("{name}-{number}"));
        if node.sockets[client.socket].shard == shard {
            return client;
        }
    }
    unreachable!("clients live on all shards");
}

/// Messages with RETAIN go by the owner of their topic, and so does what the same client publishes there soon after.
/// Another client of the same shard, which has published there directly, goes on to do so: by the owner its next
/// message could overtake the one before.
#[test]
fn retain_of_one_client_leaves_the_way_of_another_one() {
    const PUBLISHERS: u16 = 0;
    const OWNER: u16 = 1;
    const SUBSCRIBER: u16 = 2;
    for qos in [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce] {
        let mut node = Node::with_shards(3);
        let mut topics = (0..).map(|number| format!("t/{number}"));
        let topic = topics.find(|topic| node.topic_owner(topic) == OWNER).expect("each shard owns some");
        let mut retaining = client_of(&mut node, PUBLISHERS, "retaining");
        let mut direct = client_of(&mut node, PUBLISHERS, "direct");
        let mut subscriber = client_of(&mut node, SUBSCRIBER, "subscriber");
        subscriber.subscribe(&mut node, &topic, qos);
        node.are_lanes_held = true;
        direct.publish(&mut node, &topic, "first", qos, false);
        retaining.publish(&mut node, &topic, "retained", qos, true);
        direct.publish(&mut node, &topic, "second", qos, false);
        // The way by the owner is the faster one.
        for (from, to) in [(PUBLISHERS, OWNER), (OWNER, SUBSCRIBER), (PUBLISHERS, SUBSCRIBER)] {
            while node.deliver_one(from, to) {}
        }
        node.run();
        assert_eq!(subscriber.texts(&mut node), ["retained", "first", "second"], "{qos:?}");
    }
}

fn subscribe(client: &mut Client, node: &mut Node, filter: &str, retain_handling: RetainHandling) {
    let packet_id = client.next_id();
    let mut filters = vec![];
    let options = SubscriptionOptions { retain_handling, ..SubscriptionOptions::new(QoS::AtLeastOnce) };
    SubscribeFilters::push(&mut filters, filter, options);
    let filters = SubscribeFilters::from_wire(&filters);
    client.send(node, &Packet::Subscribe(Subscribe { packet_id, properties: Properties::EMPTY, filters }));
}

fn unsubscribe(client: &mut Client, node: &mut Node, filter: &str) {
    let packet_id = client.next_id();
    let mut filters = vec![];
    UnsubscribeFilters::push(&mut filters, filter);
    let filters = UnsubscribeFilters::from_wire(&filters);
    client
        .send(node, &Packet::Unsubscribe(Unsubscribe { packet_id, properties: Properties::EMPTY, filters }));
}

/// A SUBACK waits for the routes; what the client does meanwhile holds for what comes behind it.
#[test]
fn retained_messages_of_a_subscription_that_went_before_its_suback_do_not_come() {
    let mut node = Node::with_shards(3);
    let mut publisher = Client::connect(&mut node, Version::V5, "publisher");
    publisher.publish(&mut node, "t", "retained", QoS::AtLeastOnce, true);
    let mut subscriber = Client::connect(&mut node, Version::V5, "subscriber");
    node.are_lanes_held = true;
    subscribe(&mut subscriber, &mut node, "t", RetainHandling::SendAlways);
    unsubscribe(&mut subscriber, &mut node, "t");
    // Again, and now without what is retained.
    subscribe(&mut subscriber, &mut node, "t", RetainHandling::DoNotSend);
    node.are_lanes_held = false;
    node.run();
    assert_eq!(subscriber.texts(&mut node), [] as [&str; 0]);
    publisher.publish(&mut node, "t", "live", QoS::AtLeastOnce, false);
    assert_eq!(subscriber.texts(&mut node), ["live"], "the second subscription stands");
}
