//! What waits is not passed by what comes later, and goes to nobody who may not have it.

mod support;

use protocol::{PropertyId, QoS, Version};
use support::Node;
use support::client::{Client, Message, Options, options, properties};

use QoS::{AtLeastOnce, AtMostOnce};
use Version::V5;

/// A client that takes one message at QoS 1 at a time.
fn one_at_a_time(node: &mut Node, client_id: &str) -> Client {
    let window = properties(|w| {
        w.u16(PropertyId::ReceiveMaximum, 1);
    });
    Client::connect_with(node, Options { properties: &window, ..options(V5, client_id) }).0
}

/// The one message that has come.
fn only(client: &mut Client, node: &mut Node) -> Message {
    let messages = client.messages(node);
    assert_eq!(messages.len(), 1, "{messages:?}");
    messages.into_iter().next().expect("just counted")
}

/// Acknowledges the message and returns the next one.
fn next_after(client: &mut Client, node: &mut Node, message: &Message) -> Message {
    client.puback(node, message.packet_id);
    only(client, node)
}

#[test]
fn a_live_message_follows_retained_ones_that_were_fetched_before_it() {
    for shards in [1, 3] {
        let node = &mut Node::with_shards(shards);
        let mut publisher = Client::connect(node, V5, "publisher");
        for number in 0..3 {
            publisher.publish(node, &format!("r/{number}"), "retained", AtLeastOnce, true);
        }
        let mut subscriber = one_at_a_time(node, "subscriber");
        subscriber.subscribe(node, "r/#", AtLeastOnce);
        let first = only(&mut subscriber, node);
        // At QoS 0 it needs no place in the window.
        publisher.publish(node, "r/live", "live", AtMostOnce, false);
        assert_eq!(subscriber.texts(node), [] as [&str; 0], "it waits behind what was fetched");
        let second = next_after(&mut subscriber, node, &first);
        assert_eq!(second.text(), "retained");
        subscriber.puback(node, second.packet_id);
        let rest = subscriber.messages(node);
        assert_eq!(rest.iter().map(Message::text).collect::<Vec<_>>(), ["retained", "live"]);
    }
}

#[test]
fn what_waits_for_a_group_waits_for_a_member_that_has_its_qos_and_is_not_passed() {
    for shards in [1, 3] {
        let node = &mut Node::with_shards(shards);
        let mut publisher = Client::connect(node, V5, "publisher");
        let mut reliable = one_at_a_time(node, "reliable");
        reliable.subscribe(node, "$share/group/work", AtLeastOnce);
        publisher.publish(node, "work", "first", AtLeastOnce, false);
        publisher.publish(node, "work", "second", AtLeastOnce, false);
        let first = only(&mut reliable, node);
        assert_eq!(first.text(), "first");
        // Has room, but would have it at QoS 0.
        let mut fast = Client::connect(node, V5, "fast");
        fast.subscribe(node, "$share/group/work", AtMostOnce);
        // Room in its output is a reason to look for what waits.
        fast.subscribe(node, "own", AtMostOnce);
        publisher.publish(node, "own", "own", AtMostOnce, false);
        assert_eq!(fast.texts(node), ["own"], "the second was accepted for QoS 1");
        reliable.puback(node, first.packet_id);
        let second = only(&mut reliable, node);
        assert_eq!((second.text(), second.qos), ("second", AtLeastOnce));
    }
}

#[test]
fn a_message_for_a_group_does_not_pass_what_waits_for_it() {
    let node = &mut Node::with_shards(1);
    let mut publisher = Client::connect(node, V5, "publisher");
    let mut reliable = one_at_a_time(node, "reliable");
    reliable.subscribe(node, "$share/group/work", AtLeastOnce);
    publisher.publish(node, "work", "first", AtLeastOnce, false);
    publisher.publish(node, "work", "second", AtLeastOnce, false);
    let first = only(&mut reliable, node);
    let mut fast = Client::connect(node, V5, "fast");
    fast.subscribe(node, "$share/group/work", AtMostOnce);
    publisher.publish(node, "work", "third", AtLeastOnce, false);
    assert_eq!(fast.texts(node), [] as [&str; 0], "the second comes before the third");
    let second = next_after(&mut reliable, node, &first);
    assert_eq!(second.text(), "second");
    assert_eq!(next_after(&mut reliable, node, &second).text(), "third");
}
