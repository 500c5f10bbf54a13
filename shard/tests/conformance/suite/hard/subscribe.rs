//! HC-SUB: filters, options, and what reaches a subscriber.

use crate::suite::prelude::*;

pub fn cases() -> Vec<Case> {
    vec![
        case!(requests_that_are_none).hard("HC-SUB-1"),
        case!(filters_that_are_none).hard("HC-SUB-2").versions(FROM_V311),
        case!(filters_that_are_none_close_3_1).hard("HC-SUB-2").versions(ONLY_V31),
        case!(filter_with_nul).hard("HC-SUB-2"),
        case!(empty_levels_count).hard("HC-SUB-3").alone(),
        case!(the_same_filter_again).hard("HC-SUB-4"),
        case!(overlap_once).hard("HC-SUB-5"),
        case!(overlap_per_subscription).hard("HC-SUB-5").with(&[Set::OverlapPerSubscription]),
        case!(identifiers).hard("HC-SUB-6").versions(ONLY_V5),
        case!(no_local).hard("HC-SUB-7").versions(ONLY_V5),
        case!(unsubscribe_compares_characters).hard("HC-SUB-8"),
        case!(unsubscribe_while_deliveries_wait).hard("HC-SUB-9").with(&[Set::InflightMax(2)]),
        case!(published_right_after_suback)
            .hard("HC-SUB-10")
            .core_only("takes the steps in many orders")
            .core_shards(&[4]),
        case!(the_last_leaves_while_another_joins)
            .hard("HC-SUB-11")
            .core_only("takes the steps in many orders")
            .core_shards(&[1, 4]),
        case!(a_hundred_thousand_subscriptions)
            .hard("HC-SUB-12")
            .core_only("needs 100,000 subscriptions, and looks at the memory"),
        case!(switched_off_wildcards).hard("HC-SUB-13").versions(ONLY_V5).with(&[Set::WildcardsUnavailable]),
        case!(switched_off_shared).hard("HC-SUB-13").versions(ONLY_V5).with(&[Set::SharedUnavailable]),
        case!(switched_off_identifiers)
            .hard("HC-SUB-13")
            .versions(ONLY_V5)
            .with(&[Set::SubscriptionIdsUnavailable]),
        case!(dollar_topics).hard("HC-SUB-14").core_with("sets the right to $SYS", |config| {
            let policy = shard::AccessPolicy { is_sys_subscribe_allowed: false, ..Default::default() };
            config.access = policy.into();
        }),
        case!(ten_thousand_deep_filters).hard("HC-SUB-15").core_only("measures time"),
    ]
}

fn requests_that_are_none(scene: &mut Scene) {
    let version = scene.version;
    let filter = wire::field(scene.topic("t"));
    let subscribe = |options: u8| [&filter[..], &[options]].concat();
    let mut table = vec![
        (ReasonCode::ProtocolError, wire::request(version, 0x82, 1, [])),
        (ReasonCode::ProtocolError, wire::request(version, 0xA2, 1, [])),
        (ReasonCode::MalformedPacket, wire::request(version, 0x82, 1, subscribe(0x03))),
        (ReasonCode::MalformedPacket, wire::request(version, 0x82, 1, subscribe(0x40))),
        (ReasonCode::MalformedPacket, wire::request(version, 0x82, 1, subscribe(0x80))),
        (ReasonCode::MalformedPacket, wire::request(version, 0x80, 1, subscribe(0))),
        (ReasonCode::MalformedPacket, wire::request(version, 0x83, 1, subscribe(0))),
        (ReasonCode::MalformedPacket, wire::request(version, 0xA0, 1, &filter)),
        (ReasonCode::ProtocolError, wire::request(version, 0x82, 0, subscribe(0))),
        (ReasonCode::ProtocolError, wire::request(version, 0xA2, 0, &filter)),
        // Without options.
        (ReasonCode::MalformedPacket, wire::request(version, 0x82, 1, &filter)),
    ];
    if scene.is_v5() {
        table.push((ReasonCode::ProtocolError, wire::request(version, 0x82, 1, subscribe(0x30))));
    } else {
        // What 5 made of the reserved bits is not known to 3.x.
        for options in [0x04, 0x08, 0x10, 0x20] {
            table.push((ReasonCode::MalformedPacket, wire::request(version, 0x82, 1, subscribe(options))));
        }
    }
    for (code, bytes) in table {
        scene.expect_faulty(&bytes, code);
    }
}

const NO_FILTERS: [&str; 7] = ["a#", "a/#/b", "+a", "a+/b", "#/", "a/b+", "a/+b/c"];

fn filters_that_are_none(scene: &mut Scene) {
    let mut peer = scene.connect("c");
    let refused = if scene.is_v5() { 0x8F } else { 0x80 };
    let mut filters = vec![("good/1", at(1))];
    filters.extend(NO_FILTERS.map(|filter| (filter, at(1))));
    filters.push(("good/2", at(0)));
    let codes = peer.subscribe_all(&filters, &[]);
    let mut expected = vec![1];
    expected.extend([refused; 7]);
    expected.push(0);
    assert_eq!(codes, expected);
    // An empty one, as it is on the wire.
    peer.write(&wire::request(scene.version, 0x82, 99, [0, 0, 1]));
    assert_eq!(peer.expect_suback(99), [refused]);
    let mut publisher = scene.connect("publisher");
    publisher.publish("good/1", "one", 1);
    publisher.publish("good/2", "two", 1);
    peer.expect_texts(&["one", "two"]);
}

fn filters_that_are_none_close_3_1(scene: &mut Scene) {
    for filter in NO_FILTERS {
        let mut peer = scene.connect("c");
        peer.send_subscribe(&[("good", at(1)), (filter, at(1))], &[]);
        peer.expect_end();
    }
}

fn filter_with_nul(scene: &mut Scene) {
    let filter = wire::field(scene.topic("a\0b"));
    let subscribe = wire::request(scene.version, 0x82, 1, [&filter[..], &[0]].concat());
    scene.expect_faulty(&subscribe, ReasonCode::MalformedPacket);
    scene.expect_faulty(&wire::request(scene.version, 0xA2, 1, &filter), ReasonCode::MalformedPacket);
}

fn empty_levels_count(scene: &mut Scene) {
    let topics = ["/", "/a", "a", "a/", "//", "a//b", "a/b"];
    let table: [(&str, &[&str]); 9] = [
        ("/", &["/"]),
        ("//", &["//"]),
        ("+/+", &["/", "/a", "a/", "a/b"]),
        ("/+", &["/", "/a"]),
        ("a//b", &["a//b"]),
        ("+", &["a"]),
        ("a/#", &["a", "a/", "a//b", "a/b"]),
        ("/#", &["/", "/a", "//"]),
        ("+/+/+", &["//", "a//b"]),
    ];
    let mut publisher = scene.connect("publisher");
    for (filter, expected) in table {
        let mut peer = scene.subscriber("c", filter, 0);
        for topic in topics {
            publisher.publish(topic, "m", 0);
        }
        publisher.ping();
        let found: Vec<String> = peer.take_messages().into_iter().map(|message| message.topic).collect();
        assert_eq!(found, expected, "{filter}");
    }
}

fn the_same_filter_again(scene: &mut Scene) {
    let mut peer = scene.connect("c");
    let mut publisher = scene.connect("publisher");
    assert_eq!(peer.subscribe_all(&[("t", at(2)), ("t", at(0)), ("t", at(1))], &[]), [2, 0, 1]);
    publisher.publish("t", "m", 2);
    let message = peer.expect_message();
    assert_eq!(message.qos, 1, "the last options");
    peer.acknowledge(&message);
    for qos in [0, 2] {
        peer.subscribe("t", qos);
        publisher.publish("t", "m", 2);
        let message = peer.expect_message();
        assert_eq!(message.qos, qos);
        peer.acknowledge(&message);
        peer.expect_silence();
    }
    peer.unsubscribe(&["t"]);
    publisher.publish("t", "m", 2);
    peer.expect_silence();
}

/// `a/+` at QoS 0, `a/b` at QoS 2, `#` at QoS 1 with identifiers 1, 2, 3 (5).
fn overlapping(scene: &mut Scene) -> Peer {
    let mut peer = scene.connect("c");
    for (identifier, (filter, qos)) in (1..).zip([("a/+", 0), ("a/b", 2), ("#", 1)]) {
        let identifier = properties(|w| w.varint(PropertyId::SubscriptionIdentifier, identifier));
        let identifier: &[u8] = if scene.is_v5() { &identifier } else { &[] };
        assert_eq!(peer.subscribe_all(&[(filter, at(qos))], identifier), [qos]);
    }
    peer
}

fn overlap_once(scene: &mut Scene) {
    let mut peer = overlapping(scene);
    scene.connect("publisher").publish("a/b", "m", 2);
    let message = peer.expect_message();
    peer.acknowledge(&message);
    assert_eq!(message.qos, 2);
    let mut identifiers = message.properties.numbers(PropertyId::SubscriptionIdentifier);
    identifiers.sort();
    let expected: &[u32] = if scene.is_v5() { &[1, 2, 3] } else { &[] };
    assert_eq!(identifiers, expected);
    peer.expect_silence();
}

fn overlap_per_subscription(scene: &mut Scene) {
    let mut peer = overlapping(scene);
    scene.connect("publisher").publish("a/b", "m", 2);
    let mut copies: Vec<(u8, Vec<u32>)> = peer
        .take_messages()
        .iter()
        .map(|message| (message.qos, message.properties.numbers(PropertyId::SubscriptionIdentifier)))
        .collect();
    copies.sort();
    let identifier = |number| if scene.is_v5() { vec![number] } else { vec![] };
    assert_eq!(copies, [(0, identifier(1)), (1, identifier(3)), (2, identifier(2))]);
}

fn identifiers(scene: &mut Scene) {
    let entry = [&wire::field(scene.topic("t"))[..], &[0]].concat();
    let subscribe = |identifier: &[u8]| {
        let section = wire::section([&[0x0B][..], identifier].concat());
        wire::packet(0x82, wire::join(&[&[0, 1], &section, &entry]))
    };
    scene.expect_faulty(&subscribe(&[0]), ReasonCode::ProtocolError);
    // 268,435,456 needs a fifth byte.
    scene.expect_faulty(&subscribe(&[0x80, 0x80, 0x80, 0x80, 0x01]), ReasonCode::MalformedPacket);
    let mut publisher = scene.connect("publisher");
    let mut peer = scene.connect("c");
    let largest = 268_435_455;
    for identifier in [Some(largest), Some(1), None, Some(largest)] {
        let property = match identifier {
            Some(number) => properties(|w| w.varint(PropertyId::SubscriptionIdentifier, number)),
            None => vec![],
        };
        peer.subscribe_all(&[("t", at(0))], &property);
        publisher.publish("t", "m", 0);
        let message = peer.expect_message();
        assert_eq!(message.properties.number(PropertyId::SubscriptionIdentifier), identifier);
    }
}

fn no_local(scene: &mut Scene) {
    let options = SubscriptionOptions { no_local: true, ..at(1) };
    let mut own = scene.reconnect(&id("own").kept(), false);
    own.subscribe_with("t", options);
    let mut other = scene.connect("other");
    for round in 0..4 {
        own.publish("t", "mine", 1);
        own.expect_silence();
        other.publish("t", &format!("yours {round}"), 1);
        own.expect_texts(&[&format!("yours {round}")]);
        // From each shard in turn.
        own.cut();
        own = scene.reconnect(&id("own").kept(), true);
    }
    let mut peer = scene.connect("c");
    peer.send_subscribe(&[("$share/g/t", options)], &[]);
    peer.expect_disconnect(ReasonCode::ProtocolError);
}

fn unsubscribe_compares_characters(scene: &mut Scene) {
    let mut peer = scene.connect("c");
    peer.subscribe("a/b", 0);
    peer.subscribe("$share/g/s", 0);
    let none = |codes: usize| if scene.is_v5() { vec![0x11; codes] } else { vec![] };
    let not_there = ["never", "a/+", "#", "a/B", "a/b/", "s", "$share/h/s", "$share/g/s/x"];
    let expected = none(not_there.len());
    assert_eq!(peer.unsubscribe(&not_there), expected);
    let mut publisher = scene.connect("publisher");
    publisher.publish("a/b", "plain", 0);
    publisher.publish("s", "shared", 0);
    let mut texts: Vec<String> = peer.take_messages().iter().map(|m| m.text().to_owned()).collect();
    texts.sort();
    assert_eq!(texts, ["plain", "shared"]);
    let is_v5 = scene.is_v5();
    let done = |codes: &[u8]| if is_v5 { codes.to_vec() } else { vec![] };
    assert_eq!(peer.unsubscribe(&["a/b", "a/b", "$share/g/s"]), done(&[0, 0x11, 0]));
    publisher.publish("a/b", "plain", 0);
    publisher.publish("s", "shared", 0);
    peer.expect_silence();
}

fn unsubscribe_while_deliveries_wait(scene: &mut Scene) {
    let mut peer = scene.connect("c");
    peer.subscribe("t", 2);
    let mut publisher = scene.connect("publisher");
    for number in 0..6 {
        publisher.publish("t", &number.to_string(), 1 + number % 2);
    }
    let begun = [peer.expect_message(), peer.expect_message()];
    peer.unsubscribe(&["t"]);
    publisher.publish("t", "after", 1);
    // What is in flight completes, and what was accepted before is still sent.
    begun.iter().for_each(|message| peer.acknowledge(message));
    peer.expect_texts(&["2", "3", "4", "5"]);
}

fn a_hundred_thousand_subscriptions(scene: &mut Scene) {
    let many = scene.full_or(100_000, 10_000);
    let figures = |scene: &mut Scene| {
        (
            scene.figure(|m| m.subscriptions),
            scene.figure(|m| m.routes),
            scene.figure(|m| m.subscription_trie_nodes),
            scene.figure(|m| m.sessions),
        )
    };
    let mut publisher = scene.connect("publisher");
    let before = figures(scene);
    let options = || id("many").kept();
    let name = |number: usize| match number % 2 {
        0 => format!("many/{number}"),
        _ => format!("many/{number}/+"),
    };
    let fill = |scene: &mut Scene| {
        let mut peer = scene.reconnect(&options(), false);
        let names: Vec<String> = (0..many).map(name).collect();
        for chunk in names.chunks(1000) {
            let filters: Vec<_> = chunk.iter().map(|filter| (filter.as_str(), at(1))).collect();
            assert_eq!(peer.subscribe_all(&filters, &[]), [1; 1000]);
        }
        if many == 100_000 {
            // One more is too many.
            let code = if scene.is_v5() { 0x97 } else { 0x80 };
            assert_eq!(peer.subscribe_all(&[("more", at(1))], &[]), [code]);
        }
        peer
    };
    // Ended by: a clean start, the expiry, an administrator.
    let first = fill(scene);
    drop(first);
    let mut second = scene.reconnect(&options(), true);
    publisher.publish("many/7777/x", "deep", 1);
    publisher.publish("many/9998", "exact", 1);
    second.expect_texts(&["deep", "exact"]);
    scene.reconnect(&id("many"), false).disconnect();
    assert_eq!(figures(scene), before, "cleaned");
    fill(scene).cut();
    scene.pass(7 * 24 * 3600 * 1000 + 1000);
    publisher = scene.connect("publisher");
    assert_eq!(scene.figure(|m| m.subscriptions), 0, "expired");
    fill(scene);
    scene.core(|core| core.kick("many"));
    assert_eq!(figures(scene), before, "kicked");
    publisher.ping();
}

fn switched_off_wildcards(scene: &mut Scene) {
    let mut peer = scene.try_connect(&id("c"));
    assert_eq!(peer.expect_connack_number(PropertyId::WildcardSubscriptionAvailable), Some(0));
    let filters = [("a/+", at(0)), ("#", at(0)), ("$share/g/a/#", at(0)), ("a", at(0))];
    assert_eq!(peer.subscribe_all(&filters, &[]), [0xA2, 0xA2, 0xA2, 0]);
}

fn switched_off_shared(scene: &mut Scene) {
    let mut peer = scene.try_connect(&id("c"));
    assert_eq!(peer.expect_connack_number(PropertyId::SharedSubscriptionAvailable), Some(0));
    assert_eq!(peer.subscribe_all(&[("$share/g/a", at(0)), ("a/#", at(0))], &[]), [0x9E, 0]);
}

fn switched_off_identifiers(scene: &mut Scene) {
    let mut peer = scene.try_connect(&id("c"));
    assert_eq!(peer.expect_connack_number(PropertyId::SubscriptionIdentifierAvailable), Some(0));
    let identifier = properties(|w| w.varint(PropertyId::SubscriptionIdentifier, 1));
    assert_eq!(peer.subscribe_all(&[("a", at(0))], &identifier), [0xA1]);
    assert_eq!(peer.subscribe_all(&[("a", at(0))], &[]), [0]);
}

fn dollar_topics(scene: &mut Scene) {
    let refused = if scene.is_v5() { ReasonCode::NotAuthorized as u8 } else { 0x80 };
    let mut peer = scene.connect("c");
    let own = ["$queue/a", "$exclusive/a", "$delayed/1/a"];
    let filters = [("$SYS/#", at(0)), ("$SYS", at(0)), ("$share/g/$SYS/#", at(0))];
    assert_eq!(peer.subscribe_all(&filters, &[]), [refused; 3]);
    own.iter().for_each(|filter| peer.subscribe(filter, 0));
    // `#` is allowed, and does not reach what begins with `$`.
    let mut all = scene.subscriber("all", "#", 0);
    scene.core(|core| core.publish_system("$SYS/x", "system"));
    let mut publisher = scene.connect("publisher");
    for topic in own {
        publisher.publish(topic, topic, 0);
    }
    publisher.publish("a", "a", 0);
    peer.expect_texts(&own);
    all.expect_texts(&["a"]);
}

fn ten_thousand_deep_filters(scene: &mut Scene) {
    // Every level `+` or `a`, so that each filter matches, by ways that part and never meet again.
    let filter = |number: u64| {
        let mut bits = number.wrapping_mul(0x9E37_79B9_7F4A_7C15);
        let level = |_| {
            bits = bits.rotate_left(7).wrapping_mul(0x2545_F491_4F6C_DD1D).wrapping_add(number);
            if bits >> 63 == 0 { "+" } else { "a" }
        };
        (0..64).map(level).collect::<Vec<_>>().join("/")
    };
    let filters: std::collections::BTreeSet<String> = (1..=10_000).map(filter).collect();
    assert!(filters.len() > 9_900);
    let mut peer = scene.connect("c");
    for chunk in filters.iter().collect::<Vec<_>>().chunks(1000) {
        let chunk: Vec<_> = chunk.iter().map(|filter| (filter.as_str(), at(0))).collect();
        assert!(peer.subscribe_all(&chunk, &[]).iter().all(|code| *code == 0));
    }
    peer.subscribe(&["+"; 64].join("/"), 0);
    let mut publisher = scene.connect("publisher");
    let start = super::cpu_time();
    for _ in 0..10 {
        publisher.publish(&["a"; 64].join("/"), "m", 0);
        publisher.publish(&["b"; 64].join("/"), "n", 0);
    }
    let each = (super::cpu_time() - start) / 20;
    // Debug builds, and the walk through 640,000 nodes at most.
    assert!(each < std::time::Duration::from_millis(250), "{each:?}");
    assert_eq!(peer.take_messages().len(), 20, "one copy each");
    let refused = if scene.is_v5() { 0x8F } else { 0x80 };
    assert_eq!(
        peer.subscribe_all(&[(&["+"; 129].join("/"), at(0)), (&["+"; 128].join("/"), at(0))], &[]),
        [refused, 0]
    );
}

/// A SUBSCRIBE to one filter at QoS 1, by hand: the case writes it when nothing runs.
fn subscribe(scene: &Scene, filter: &str) -> Vec<u8> {
    wire::request(scene.version, 0x82, 1, [&wire::field(filter)[..], &[1]].concat())
}

fn publish(scene: &Scene, topic: &str, packet_id: u16, text: &str) -> Vec<u8> {
    wire::publish(scene.version, 0x32, topic, Some(packet_id), &[], text)
}

fn published_right_after_suback(scene: &mut Scene) {
    let tries = std::env::var("HARD_TRIES").ok().and_then(|tries| tries.parse().ok()).unwrap_or(5_000u32);
    let mut peers: Vec<Peer> = (0..8).map(|number| scene.connect(&format!("peer-{number}"))).collect();
    for round in 0..tries {
        let (reader, writer) = (round as usize % 8, (round as usize / 8 + round as usize + 1) % 8);
        let filter =
            if round % 3 == 0 { format!("t/{}/+", round % 100) } else { format!("t/{}/x", round % 100) };
        let wants = subscribe(scene, &filter);
        let topic = format!("t/{}/x", round % 100);
        let sends = publish(scene, &topic, 1, &round.to_string());
        let (reading, writing) = (peers[reader].socket(), peers[writer].socket());
        scene.core(|core| {
            core.write_later(reading, &wants);
            // SUBACK is there, whatever else is still on its way: published at that moment.
            core.run_shuffled_until(round.into(), reading, 0x90);
            core.write_later(writing, &sends);
            core.run_shuffled(round.into());
        });
        peers[reader].wrote(&wants);
        peers[writer].wrote(&sends);
        let mut texts = vec![];
        for received in peers[reader].take_packets() {
            if let Received::Publish(message) = received {
                peers[reader].acknowledge(&message);
                texts.push(message.text().to_owned());
            }
        }
        assert_eq!(texts, [round.to_string()], "round {round}");
        peers[writer].take_packets();
        peers[reader].unsubscribe(&[&filter]);
    }
    assert_eq!(scene.figure(|m| m.routes + m.subscriptions), 0);
}

fn the_last_leaves_while_another_joins(scene: &mut Scene) {
    // Two clients of one shard, and publishers everywhere.
    let mut peers: Vec<Peer> = (0..8).map(|number| scene.connect(&format!("peer-{number}"))).collect();
    let shard = scene.core(|core| core.shard_of(peers[0].socket()));
    let other = (1..8).find(|at| scene.core(|core| core.shard_of(peers[*at].socket())) == shard);
    let other = other.expect("two of eight live on one shard");
    peers.swap(1, other);
    peers[0].subscribe("t/x", 1);
    for round in 0..1_000u32 {
        let (leaver, joiner) = (round as usize % 2, 1 - round as usize % 2);
        let leaves = wire::request(scene.version, 0xA2, 2, wire::field("t/x"));
        let joins = subscribe(scene, "t/x");
        let before: Vec<Vec<u8>> =
            (2..8).map(|at| publish(scene, "t/x", 1, &format!("before {at}"))).collect();
        let after: Vec<Vec<u8>> = (2..8).map(|at| publish(scene, "t/x", 2, &format!("after {at}"))).collect();
        scene.core(|core| {
            core.write_later(peers[leaver].socket(), &leaves);
            core.write_later(peers[joiner].socket(), &joins);
            for (at, bytes) in (2..8).zip(&before) {
                core.write_later(peers[at].socket(), bytes);
            }
            core.run_shuffled_until(round.into(), peers[joiner].socket(), 0x90);
        });
        peers[leaver].wrote(&leaves);
        peers[joiner].wrote(&joins);
        for (at, bytes) in (2..8).zip(&before) {
            peers[at].wrote(bytes);
        }
        scene.core(|core| {
            for (at, bytes) in (2..8).zip(&after) {
                core.write_later(peers[at].socket(), bytes);
            }
            core.run_shuffled(round.into());
        });
        for (at, bytes) in (2..8).zip(&after) {
            peers[at].wrote(bytes);
            peers[at].take_packets();
        }
        let mut texts = vec![];
        for received in peers[joiner].take_packets() {
            if let Received::Publish(message) = received {
                peers[joiner].acknowledge(&message);
                texts.push(message.text().to_owned());
            }
        }
        for at in 2..8 {
            assert_eq!(
                texts.iter().filter(|text| **text == format!("after {at}")).count(),
                1,
                "{round}: {texts:?}"
            );
        }
        for received in peers[leaver].take_packets() {
            if let Received::Publish(message) = received {
                peers[leaver].acknowledge(&message);
            }
        }
    }
    for peer in &mut peers {
        peer.unsubscribe(&["t/x"]);
    }
    assert_eq!(scene.figure(|m| m.routes + m.subscriptions), 0);
}
