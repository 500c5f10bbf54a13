//! The protocol on nodes of one and of three shards, packet by packet.

mod support;

use protocol::{PropertyId, QoS, ReasonCode, SubscriptionOptions, Version, Will};
use shard::{AccessPolicy, AccessRule, Config, Envelope, Limits};
use support::Node;
use support::client::{Client, Received, options, properties};

use QoS::{AtLeastOnce, AtMostOnce, ExactlyOnce};
use Version::{V5, V31, V311};

/// Runs the case on one shard and on three, whose clients live on all of them.
fn on_nodes(case: impl Fn(&mut Node)) {
    for shards in [1, 3] {
        case(&mut Node::with_shards(shards));
    }
}

#[test]
fn publish_reaches_subscribers_of_all_versions_at_the_lower_qos() {
    on_nodes(|node| {
        for (i, version) in [V31, V311, V5].into_iter().enumerate() {
            for (j, from) in [V31, V311, V5].into_iter().enumerate() {
                for qos_sub in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
                    for qos_pub in [AtMostOnce, AtLeastOnce, ExactlyOnce] {
                        let mut subscriber = Client::connect(node, version, &format!("s{i}"));
                        let mut publisher = Client::connect(node, from, &format!("p{j}"));
                        subscriber.subscribe(node, &format!("a{i}/+"), qos_sub);
                        let id = publisher.publish(node, &format!("a{i}/b"), "hello", qos_pub, false);
                        let messages = subscriber.messages(node);
                        assert_eq!(messages.len(), 1);
                        assert_eq!(
                            (messages[0].topic.clone(), messages[0].text()),
                            (format!("a{i}/b"), "hello")
                        );
                        assert_eq!(messages[0].qos, qos_sub.min(qos_pub));
                        assert_eq!((messages[0].retain, messages[0].dup), (false, false));
                        match qos_pub {
                            AtMostOnce => assert_eq!(publisher.receive(node), []),
                            AtLeastOnce => {
                                assert_eq!(
                                    publisher.receive(node),
                                    [Received::PubAck(id, ReasonCode::Success)]
                                )
                            }
                            ExactlyOnce => {
                                assert_eq!(
                                    publisher.receive(node),
                                    [Received::PubRec(id, ReasonCode::Success)]
                                );
                                publisher.pubrel(node, id);
                                assert_eq!(
                                    publisher.receive(node),
                                    [Received::PubComp(id, ReasonCode::Success)]
                                );
                            }
                        }
                        let id = messages[0].packet_id;
                        match messages[0].qos {
                            AtMostOnce => {}
                            AtLeastOnce => subscriber.puback(node, id),
                            ExactlyOnce => {
                                subscriber.pubrec(node, id);
                                assert_eq!(
                                    subscriber.receive(node),
                                    [Received::PubRel(id, ReasonCode::Success)]
                                );
                                subscriber.pubcomp(node, id);
                            }
                        }
                        assert_eq!(
                            node.sum(|m| m.inflight_out),
                            0,
                            "{version:?} {from:?} {qos_sub:?} {qos_pub:?}"
                        );
                    }
                }
            }
        }
    });
}

#[test]
fn offline_messages_wait_in_order_and_in_flight_ones_are_repeated_with_dup() {
    on_nodes(|node| {
        let persistent = |id| support::client::Options { clean: false, ..options(V311, id) };
        let (mut subscriber, present) = Client::connect_with(node, persistent("s"));
        assert!(!present);
        subscriber.subscribe(node, "q/#", AtLeastOnce);
        let mut publisher = Client::connect(node, V5, "p");
        publisher.publish(node, "q/1", "first", AtLeastOnce, false);
        let first = subscriber.messages(node).remove(0);
        node.reset(subscriber.socket);
        for i in 0..5 {
            publisher.publish(node, "q/1", &format!("m{i}"), AtLeastOnce, false);
        }
        let (mut subscriber, present) = Client::connect_with(node, persistent("s"));
        assert!(present);
        let messages = subscriber.messages(node);
        let texts: Vec<&str> = messages.iter().map(|m| m.text()).collect();
        assert_eq!(texts, ["first", "m0", "m1", "m2", "m3", "m4"]);
        assert_eq!((messages[0].packet_id, messages[0].dup), (first.packet_id, true));
        assert!(messages[1..].iter().all(|message| !message.dup));
        for message in &messages {
            subscriber.puback(node, message.packet_id);
        }
        assert_eq!(node.sum(|m| m.stored_messages), 0);
        let (mut subscriber, present) =
            Client::connect_with(node, support::client::Options { clean: true, ..options(V311, "s") });
        assert!(!present);
        publisher.publish(node, "q/1", "nobody", AtLeastOnce, false);
        assert_eq!(subscriber.messages(node), []);
        assert_eq!(node.sum(|m| m.routes), 0);
    });
}

#[test]
fn retained_messages_by_exact_filter_and_by_wildcard() {
    on_nodes(|node| {
        let mut publisher = Client::connect(node, V5, "p");
        for i in 0..300 {
            publisher.publish(node, &format!("r/{i:03}"), &i.to_string(), AtLeastOnce, true);
        }
        publisher.publish(node, "r/005", "", AtMostOnce, true);
        let mut subscriber = Client::connect(node, V311, "s");
        subscriber.subscribe(node, "r/007", AtMostOnce);
        let messages = subscriber.messages(node);
        assert_eq!(messages.len(), 1);
        assert!(messages[0].retain && messages[0].qos == AtMostOnce && messages[0].text() == "7");
        subscriber.subscribe(node, "r/#", AtLeastOnce);
        let mut messages = subscriber.messages(node);
        assert_eq!(messages.len(), 299);
        messages.sort_by_key(|message| message.topic.clone());
        assert!(messages.iter().all(|message| message.retain && message.qos == AtLeastOnce));
        publisher.publish(node, "r/live", "x", AtMostOnce, true);
        let live = subscriber.messages(node);
        assert_eq!((live.len(), live[0].retain), (1, false));
    });
}

#[test]
fn a_small_window_paces_retained_messages() {
    on_nodes(|node| {
        let mut publisher = Client::connect(node, V5, "p");
        for i in 0..1000 {
            publisher.publish(node, &format!("r/{i}"), "x", AtLeastOnce, true);
        }
        let window = properties(|w| {
            w.u16(PropertyId::ReceiveMaximum, 10);
        });
        let (mut subscriber, _) =
            Client::connect_with(node, support::client::Options { properties: &window, ..options(V5, "s") });
        subscriber.subscribe(node, "r/+", AtLeastOnce);
        let mut count = 0;
        loop {
            let messages = subscriber.messages(node);
            assert!(messages.len() <= 10);
            if messages.is_empty() {
                break;
            }
            count += messages.len();
            for message in messages {
                subscriber.puback(node, message.packet_id);
            }
        }
        assert_eq!(count, 1000);
    });
}

#[test]
fn wills_are_published_after_a_loss_and_not_after_disconnect() {
    on_nodes(|node| {
        let mut watcher = Client::connect(node, V5, "w");
        watcher.subscribe(node, "will/#", ExactlyOnce);
        let delay = properties(|w| {
            w.u32(PropertyId::WillDelayInterval, 5);
        });
        let expiry = properties(|w| {
            w.u32(PropertyId::SessionExpiryInterval, 60);
        });
        let will = |properties| Will {
            qos: AtLeastOnce,
            retain: false,
            topic: "will/t",
            payload: b"gone",
            properties: protocol::Properties::from_wire(properties),
        };
        let with_will = |properties| support::client::Options {
            will: Some(will(properties)),
            properties: &expiry,
            ..options(V5, "c")
        };
        let (client, _) = Client::connect_with(node, with_will(&[]));
        node.reset(client.socket);
        node.run();
        assert_eq!(watcher.texts(node), ["gone"]);
        let (mut client, _) = Client::connect_with(node, with_will(&[]));
        client.disconnect(node);
        assert_eq!(watcher.texts(node), [] as [&str; 0]);
        let (client, _) = Client::connect_with(node, with_will(&delay));
        node.reset(client.socket);
        node.advance(4_900);
        assert_eq!(watcher.texts(node), [] as [&str; 0]);
        node.advance(200);
        assert_eq!(watcher.texts(node), ["gone"]);
        node.advance(100_000);
        assert_eq!(watcher.texts(node), [] as [&str; 0]);
    });
}

#[test]
fn a_will_needs_the_right_at_the_time_when_it_is_published() {
    on_nodes(|node| {
        let mut watcher = Client::connect(node, V5, "w");
        watcher.subscribe(node, "will/#", AtLeastOnce);
        let will = |topic| Will {
            qos: AtLeastOnce,
            retain: false,
            topic,
            payload: b"gone",
            properties: protocol::Properties::EMPTY,
        };
        let connect = |node: &mut Node, client_id, topic| {
            let options = support::client::Options { will: Some(will(topic)), ..options(V5, client_id) };
            Client::connect_with(node, options).0
        };
        let clients = [connect(node, "denied", "will/denied"), connect(node, "allowed", "will/allowed")];
        let denied =
            AccessRule { publish: vec!["will/denied".into()], is_deny: true, ..AccessRule::default() };
        let policy = AccessPolicy { rules: vec![denied], ..AccessPolicy::default() };
        for shard in 0..node.shards.len() as u16 {
            node.control(shard, Envelope::AccessChanged(policy.clone().into()));
        }
        for client in clients {
            node.reset(client.socket);
        }
        node.run();
        let topics: Vec<String> = watcher.messages(node).into_iter().map(|message| message.topic).collect();
        assert_eq!(topics, ["will/allowed"]);
    });
}

#[test]
fn takeover_ends_the_first_connection_and_keeps_the_session() {
    on_nodes(|node| {
        let expiry = properties(|w| {
            w.u32(PropertyId::SessionExpiryInterval, 60);
        });
        let persistent =
            |shard| support::client::Options { clean: false, properties: &expiry, shard, ..options(V5, "c") };
        let (mut first, _) = Client::connect_with(node, persistent(0));
        first.subscribe(node, "t", AtLeastOnce);
        let last = node.shards.len() as u16 - 1;
        let (mut second, present) = Client::connect_with(node, persistent(last));
        assert!(present);
        assert_eq!(first.receive(node), [Received::Disconnect(ReasonCode::SessionTakenOver)]);
        assert!(first.is_closed(node));
        let mut publisher = Client::connect(node, V5, "p");
        publisher.publish(node, "t", "x", AtLeastOnce, false);
        assert_eq!(second.texts(node), ["x"]);
    });
}

#[test]
fn an_expired_session_is_not_resumed_before_its_timer_fires() {
    let limits = Limits { session_expiry_3x_s: 1, ..Limits::default() };
    let mut node = Node::new(Config { limits, ..Config::default() });
    // Timers fire at multiples of 8 ms: the session is over 7 ms before that.
    let until_off_beat = 9 - node.now % 8;
    node.advance(until_off_beat);
    let kept = support::client::Options { clean: false, ..options(V311, "a") };
    let (client, _) = Client::connect_with(&mut node, kept);
    node.reset(client.socket);
    node.advance(1000 + 1);
    assert_eq!(node.sum(|m| m.sessions), 1, "the timer has not fired");
    let (_, is_present) = Client::connect_with(&mut node, kept);
    assert!(!is_present);
}

#[test]
fn session_expiry_is_exact() {
    on_nodes(|node| {
        let expiry = properties(|w| {
            w.u32(PropertyId::SessionExpiryInterval, 2);
        });
        let persistent =
            || support::client::Options { clean: false, properties: &expiry, ..options(V5, "c") };
        for (wait, expected) in [(1_900, true), (2_100, false)] {
            let (client, _) = Client::connect_with(node, persistent());
            node.reset(client.socket);
            node.advance(wait);
            let (mut client, present) = Client::connect_with(node, persistent());
            assert_eq!(present, expected, "after {wait} ms");
            client.disconnect(node);
        }
    });
}

#[test]
fn keep_alive_ends_silent_connections() {
    on_nodes(|node| {
        let (mut client, _) =
            Client::connect_with(node, support::client::Options { keep_alive: 2, ..options(V5, "c") });
        node.advance(2_000);
        client.send_bytes(node, &[0xC0, 0]);
        assert_eq!(client.receive(node), [Received::PingResp]);
        node.advance(2_990);
        assert!(!client.is_closed(node));
        node.advance(30);
        assert_eq!(client.receive(node), [Received::Disconnect(ReasonCode::KeepAliveTimeout)]);
        assert!(client.is_closed(node));
    });
}

#[test]
fn overlapping_subscriptions_give_one_copy_with_all_identifiers() {
    on_nodes(|node| {
        let mut subscriber = Client::connect(node, V5, "s");
        for (filter, qos, id) in [("a/+", AtMostOnce, 1), ("a/b", ExactlyOnce, 2), ("#", AtLeastOnce, 3)] {
            let id = properties(|w| {
                w.varint(PropertyId::SubscriptionIdentifier, id);
            });
            subscriber.subscribe_all(node, &[(filter, SubscriptionOptions::new(qos))], &id);
        }
        let mut publisher = Client::connect(node, V5, "p");
        publisher.publish(node, "a/b", "x", ExactlyOnce, false);
        let messages = subscriber.messages(node);
        assert_eq!((messages.len(), messages[0].qos), (1, ExactlyOnce));
        let mut ids: Vec<u32> = messages[0].properties().subscription_ids().collect();
        ids.sort();
        assert_eq!(ids, [1, 2, 3]);
    });
}

#[test]
fn shared_groups_get_each_message_once_and_evenly() {
    on_nodes(|node| {
        let mut members: Vec<Client> = (0..4)
            .map(|i| Client::connect(node, if i % 2 == 0 { V5 } else { V311 }, &format!("m{i}")))
            .collect();
        for member in &mut members {
            member.subscribe(node, "$share/g/t/#", AtLeastOnce);
        }
        let mut other = Client::connect(node, V5, "o");
        other.subscribe(node, "$share/h/t/#", AtLeastOnce);
        let mut publisher = Client::connect(node, V5, "p");
        for i in 0..400 {
            publisher.publish(node, "t/1", &i.to_string(), AtLeastOnce, false);
        }
        let mut all: Vec<String> = vec![];
        for member in &mut members {
            let messages = member.messages(node);
            assert!((95..=105).contains(&messages.len()), "{}", messages.len());
            all.extend(messages.iter().map(|m| m.text().to_owned()));
        }
        all.sort();
        all.dedup();
        assert_eq!(all.len(), 400);
        assert_eq!(other.messages(node).len(), 400);
    });
}

#[test]
fn a_leaving_members_unacknowledged_messages_go_to_the_others() {
    on_nodes(|node| {
        let mut first = Client::connect(node, V5, "m1");
        let mut second = Client::connect(node, V5, "m2");
        first.subscribe(node, "$share/g/t", AtLeastOnce);
        second.subscribe(node, "$share/g/t", AtLeastOnce);
        let mut publisher = Client::connect(node, V5, "p");
        for i in 0..10 {
            publisher.publish(node, "t", &i.to_string(), AtLeastOnce, false);
        }
        let mut got = second.texts(node);
        assert_eq!(first.messages(node).len() + got.len(), 10);
        node.reset(first.socket);
        node.run();
        let moved = second.messages(node);
        assert!(moved.iter().all(|message| !message.dup));
        got.extend(moved.iter().map(|m| m.text().to_owned()));
        got.sort();
        assert_eq!(got.len(), 10, "{got:?}");
        got.dedup();
        assert_eq!(got.len(), 10);
    });
}

#[test]
fn receive_maximum_limits_what_is_in_flight() {
    on_nodes(|node| {
        let window = properties(|w| {
            w.u16(PropertyId::ReceiveMaximum, 3);
        });
        let (mut subscriber, _) =
            Client::connect_with(node, support::client::Options { properties: &window, ..options(V5, "s") });
        subscriber.subscribe(node, "t", AtLeastOnce);
        let mut publisher = Client::connect(node, V5, "p");
        for i in 0..10 {
            publisher.publish(node, "t", &i.to_string(), AtLeastOnce, false);
        }
        let messages = subscriber.messages(node);
        assert_eq!(messages.len(), 3);
        subscriber.puback(node, messages[1].packet_id);
        assert_eq!(subscriber.texts(node), ["3"]);
    });
}

#[test]
fn qos_2_is_delivered_once_across_a_reconnect_of_the_publisher() {
    on_nodes(|node| {
        let mut subscriber = Client::connect(node, V5, "s");
        subscriber.subscribe(node, "t", ExactlyOnce);
        let persistent = || support::client::Options { clean: false, ..options(V311, "p") };
        let (mut publisher, _) = Client::connect_with(node, persistent());
        let id = publisher.publish(node, "t", "x", ExactlyOnce, false);
        node.reset(publisher.socket);
        let (mut publisher, present) = Client::connect_with(node, persistent());
        assert!(present);
        publisher.send_bytes(node, &[0x3C, 6, 0, 1, b't', 0, id as u8, b'x']);
        assert_eq!(publisher.receive(node), [Received::PubRec(id, ReasonCode::Success)]);
        publisher.pubrel(node, id);
        assert_eq!(publisher.receive(node), [Received::PubComp(id, ReasonCode::Success)]);
        assert_eq!(subscriber.texts(node), ["x"]);
    });
}

#[test]
fn acks_wait_for_storage_and_leave_in_order() {
    for shards in [1, 3] {
        let mut node = Node::new(Config {
            shard_count: shards,
            durability: shard::Durability::Stored,
            ..Config::default()
        });
        let node = &mut node;
        node.is_immediate = true;
        let (mut subscriber, _) =
            Client::connect_with(node, support::client::Options { clean: false, ..options(V311, "s1") });
        subscriber.subscribe(node, "kept", AtLeastOnce);
        let mut publisher = Client::connect(node, V5, "p");
        for (i, appends) in node.appends.iter().enumerate() {
            assert!(appends.is_empty(), "{i}");
        }
        // Storage stalls: only the ack of the message that nobody keeps could leave, and it stands behind.
        node.is_immediate = false;
        publisher.publish(node, "kept", "1", AtLeastOnce, false);
        publisher.publish(node, "gone", "2", AtLeastOnce, false);
        for socket in 0..node.sockets.len() {
            node.send_some(socket, usize::MAX);
        }
        assert_eq!(publisher.receive(node), []);
        let keeper = node.appends.iter().position(|appends| !appends.is_empty()).expect("one shard keeps it");
        let sequence = node.appends[keeper][0].sequence;
        node.turn(keeper as u16, |core| core.on_stored(sequence));
        node.is_immediate = true;
        node.run();
        assert_eq!(
            publisher.receive(node),
            [
                Received::PubAck(1, ReasonCode::Success),
                Received::PubAck(2, ReasonCode::NoMatchingSubscribers)
            ]
        );
    }
}

#[test]
fn queue_bounds_drop_the_oldest_and_count_it() {
    let limits = Limits { queue_messages_max: 5, ..Limits::default() };
    let node = &mut Node::new(Config { limits, ..Config::default() });
    let persistent = || support::client::Options { clean: false, ..options(V311, "s") };
    let (mut subscriber, _) = Client::connect_with(node, persistent());
    subscriber.subscribe(node, "t", AtLeastOnce);
    node.reset(subscriber.socket);
    let mut publisher = Client::connect(node, V5, "p");
    for i in 0..8 {
        publisher.publish(node, "t", &i.to_string(), AtLeastOnce, false);
    }
    let (mut subscriber, _) = Client::connect_with(node, persistent());
    assert_eq!(subscriber.texts(node), ["3", "4", "5", "6", "7"]);
    assert_eq!(node.sum(|m| m.publish_dropped[1][shard::DropReason::QueueFull as usize]), 3);
}

#[test]
fn what_is_appended_during_a_send_leaves_after_it() {
    on_nodes(|node| {
        let mut subscriber = Client::connect(node, V5, "s");
        subscriber.subscribe(node, "t", AtLeastOnce);
        let mut publisher = Client::connect(node, V5, "p");
        node.is_immediate = false;
        for text in ["1", "2", "3"] {
            publisher.publish(node, "t", text, AtMostOnce, false);
        }
        assert_eq!(subscriber.texts(node), [""; 0], "the first is being written");
        while node.send_some(subscriber.socket, usize::MAX) {}
        assert_eq!(subscriber.texts(node), ["1", "2", "3"]);
    });
}

/// An old client knows no Receive Maximum: it is made to wait for acknowledgements that come late, not ended.
#[test]
fn a_burst_of_retained_messages_of_an_old_client_is_acknowledged_in_order() {
    on_nodes(|node| {
        let mut publisher = Client::connect(node, V311, "burst");
        let mut bytes = vec![];
        for n in 1..=3000u16 {
            let topic = format!("burst/{}", n % 7);
            let publish = protocol::Publish {
                dup: false,
                qos: AtLeastOnce,
                retain: true,
                topic: &topic,
                packet_id: n,
                topic_alias: None,
                message_expiry: None,
                subscription_ids: &[],
                properties: protocol::Properties::EMPTY,
                payload: b"x",
            };
            protocol::Packet::Publish(publish).encode(V311, &mut bytes);
        }
        publisher.send_bytes(node, &bytes);
        let expected: Vec<Received> = (1..=3000).map(|n| Received::PubAck(n, ReasonCode::Success)).collect();
        assert_eq!(publisher.receive(node), expected);
    });
}
