//! HC-SHR: shared subscriptions.

use std::collections::BTreeMap;

use crate::suite::prelude::*;

pub fn cases() -> Vec<Case> {
    vec![
        case!(names_that_are_none).hard("HC-SHR-1").alone(),
        case!(groups_and_plain_subscribers).hard("HC-SHR-2"),
        case!(plain_and_shared_of_one_client).hard("HC-SHR-3"),
        case!(members_everywhere_one_stalls).hard("HC-SHR-4").core_only("stops a reader, in many orders"),
        case!(member_leaves_with_qos_1_unacknowledged).hard("HC-SHR-5"),
        case!(member_leaves_with_qos_2_in_flight).hard("HC-SHR-6").core_only("ends sessions by expiry"),
        case!(member_refuses).hard("HC-SHR-7").versions(ONLY_V5),
        case!(all_members_offline).hard("HC-SHR-8"),
        case!(last_member_unsubscribes).hard("HC-SHR-9").core_only("looks at the figures"),
        case!(members_of_each_qos).hard("HC-SHR-10"),
        case!(order_for_a_single_member).hard("HC-SHR-11"),
        case!(two_hundred_publishers).hard("HC-SHR-12"),
    ]
}

fn names_that_are_none(scene: &mut Scene) {
    let refused = if scene.is_v5() { 0x8F } else { 0x80 };
    for filter in ["$share/g", "$share//f", "$share/g/", "$share", "$share/", "$share//"] {
        let mut peer = scene.connect("c");
        assert_eq!(peer.subscribe_all(&[(filter, at(0)), ("good", at(0))], &[]), [refused, 0], "{filter}");
    }
    for filter in ["$share/+/f", "$share/#/f", "$share/g+/f", "$share/a#/f", "$share/g/a#"] {
        let mut peer = scene.connect("c");
        // No filter at all in 3.1, which can only close.
        if scene.version == Version::V31 && !protocol::topic::is_valid_filter(filter) {
            peer.send_subscribe(&[(filter, at(0))], &[]);
            peer.expect_end();
        } else {
            assert_eq!(peer.subscribe_all(&[(filter, at(0))], &[]), [refused], "{filter}");
        }
    }
    // An ordinary one.
    let mut peer = scene.connect("c");
    peer.subscribe("$shared/g/f", 0);
    peer.publish("$shared/g/f", "m", 0);
    peer.expect_texts(&["m"]);
}

fn groups_and_plain_subscribers(scene: &mut Scene) {
    let mut plain: Vec<Peer> = (0..3).map(|n| scene.subscriber(&format!("plain-{n}"), "t", 1)).collect();
    let mut groups: Vec<Vec<Peer>> = vec![];
    for group in ["g", "h"] {
        let filter = format!("$share/{group}/t");
        groups.push((0..3).map(|n| scene.subscriber(&format!("{group}-{n}"), &filter, 1)).collect());
    }
    let mut publisher = scene.connect("publisher");
    let expected: Vec<String> = (0..12).map(|number| number.to_string()).collect();
    for text in &expected {
        publisher.publish("t", text, 1);
    }
    for peer in &mut plain {
        let texts: Vec<String> = peer.take_messages().iter().map(|m| m.text().to_owned()).collect();
        assert_eq!(texts, expected);
    }
    for members in &mut groups {
        let mut numbers: Vec<u32> = members.iter_mut().flat_map(numbers).collect();
        numbers.sort();
        assert_eq!(numbers, (0..12).collect::<Vec<u32>>());
    }
}

/// Payloads of the deliveries that come, acknowledged.
fn numbers(peer: &mut Peer) -> Vec<u32> {
    peer.take_messages().iter().map(|message| message.text().parse().expect("a number")).collect()
}

fn plain_and_shared_of_one_client(scene: &mut Scene) {
    let mut peer = scene.connect("c");
    for (identifier, filter) in [(1, "t"), (2, "$share/g/t")] {
        let identifier = properties(|w| w.varint(PropertyId::SubscriptionIdentifier, identifier));
        let identifier: &[u8] = if scene.is_v5() { &identifier } else { &[] };
        assert_eq!(peer.subscribe_all(&[(filter, at(1))], identifier), [1]);
    }
    scene.connect("publisher").publish("t", "m", 1);
    let mut identifiers: Vec<Vec<u32>> = peer
        .take_messages()
        .iter()
        .map(|message| message.properties.numbers(PropertyId::SubscriptionIdentifier))
        .collect();
    identifiers.sort();
    assert_eq!(identifiers, if scene.is_v5() { [vec![1], vec![2]] } else { [vec![], vec![]] });
}

fn members_everywhere_one_stalls(scene: &mut Scene) {
    for seed in 0..20u64 {
        let mut members = vec![];
        for number in 0..6u16 {
            let options = id(&format!("member-{number}")).receive_maximum(1 + number * 3);
            let mut member = scene.connect_with(&options);
            member.subscribe("$share/g/t", 1);
            members.push(member);
        }
        scene.core(|core| core.stall(members[0].socket(), true));
        let mut publishers: Vec<Peer> = (0..3).map(|n| scene.connect(&format!("publisher-{n}"))).collect();
        let batches: Vec<Vec<u8>> = (0..3u32)
            .map(|publisher| {
                let publish = |number: u32| {
                    let (packet_id, text) = (Some(number as u16 + 1), (publisher * 100 + number).to_string());
                    wire::publish(scene.version, 0x32, "t", packet_id, &[], text)
                };
                (0..100).flat_map(publish).collect()
            })
            .collect();
        scene.core(|core| {
            for (publisher, bytes) in publishers.iter().zip(&batches) {
                core.write_later(publisher.socket(), bytes);
            }
            core.run_shuffled(seed);
        });
        for (publisher, bytes) in publishers.iter_mut().zip(&batches) {
            publisher.wrote(bytes);
            assert_eq!(publisher.take_packets().len(), 100, "every one is acknowledged");
        }
        let mut found: Vec<u32> = vec![];
        let mut before = usize::MAX;
        while before != found.len() {
            before = found.len();
            members[1..].iter_mut().for_each(|member| found.extend(numbers(member)));
        }
        assert!(found.len() >= 200, "the others get nearly all: {}", found.len());
        scene.core(|core| core.stall(members[0].socket(), false));
        while before != found.len() || before == 0 {
            before = found.len();
            members.iter_mut().for_each(|member| found.extend(numbers(member)));
        }
        members.iter_mut().for_each(|member| found.extend(numbers(member)));
        found.sort();
        assert_eq!(found, (0..300).collect::<Vec<u32>>(), "seed {seed}: each once");
        members.into_iter().chain(publishers).for_each(Peer::cut);
    }
}

fn member_leaves_with_qos_1_unacknowledged(scene: &mut Scene) {
    for is_kept in [false, true] {
        let options = if is_kept { id("leaver").kept() } else { id("leaver") };
        let mut leaver = scene.reconnect(&options, false);
        leaver.subscribe("$share/g/t", 1);
        let mut publisher = scene.connect("publisher");
        for number in 0..3 {
            publisher.publish("t", &number.to_string(), 1);
        }
        let begun: Vec<Message> = (0..3).map(|_| leaver.expect_message()).collect();
        let mut other = scene.subscriber("other", "$share/g/t", 1);
        leaver.cut();
        if is_kept {
            // They stay its own until its session ends.
            other.expect_silence();
            let mut leaver = scene.reconnect(&options, true);
            for message in &begun {
                assert_eq!(leaver.expect_message(), Message { dup: true, ..message.clone() });
            }
            other.expect_silence();
            leaver.cut();
            scene.reconnect(&id("leaver"), false).disconnect();
        }
        for message in &begun {
            let given = other.expect_message();
            assert_eq!((given.text(), given.dup, given.qos), (message.text(), false, 1));
            other.acknowledge(&given);
        }
        other.expect_silence();
        other.disconnect();
    }
}

fn member_leaves_with_qos_2_in_flight(scene: &mut Scene) {
    let options = || id("leaver").resume().expiry(60);
    for ends in [false, true] {
        let mut leaver = scene.reconnect(&options(), false);
        leaver.subscribe("$share/g/t", 2);
        let mut publisher = scene.connect("publisher");
        for number in 0..3 {
            publisher.publish("t", &number.to_string(), 2);
        }
        let begun: Vec<Message> = (0..3).map(|_| leaver.expect_message()).collect();
        let mut other = scene.subscriber("other", "$share/g/t", 2);
        leaver.pubrec(begun[1].packet_id);
        leaver.expect_pubrel(begun[1].packet_id);
        leaver.cut();
        if ends {
            let how = if scene.is_v5() { 61_000 } else { 7 * 24 * 3600 * 1000 + 1000 };
            scene.pass(how);
            // Begun with that client: nobody else may get it.
            if scene.is_v5() {
                other.take_packets();
            }
            assert_eq!(scene.figure(|m| m.inflight_out), 0);
            assert_eq!(scene.figure(|m| m.stored_messages), 0);
            return;
        }
        other.expect_silence();
        let mut leaver = scene.reconnect(&options(), true);
        assert_eq!(leaver.expect_message(), Message { dup: true, ..begun[0].clone() });
        leaver.expect_pubrel(begun[1].packet_id);
        assert_eq!(leaver.expect_message(), Message { dup: true, ..begun[2].clone() });
        leaver.pubcomp(begun[1].packet_id);
        leaver.acknowledge(&begun[0]);
        leaver.acknowledge(&begun[2]);
        other.expect_silence();
        leaver.disconnect();
        scene.connect("leaver").disconnect();
        other.disconnect();
    }
}

fn member_refuses(scene: &mut Scene) {
    let mut refusing = scene.subscriber("refusing", "$share/g/t", 2);
    let mut publisher = scene.connect("publisher");
    publisher.publish("t", "one", 1);
    publisher.publish("t", "two", 2);
    let (one, two) = (refusing.expect_message(), refusing.expect_message());
    let mut other = scene.subscriber("other", "$share/g/t", 2);
    refusing.write(&wire::ack_with(0x40, one.packet_id, 0x97));
    refusing.write(&wire::ack_with(0x50, two.packet_id, 0x80));
    other.expect_silence();
    refusing.expect_silence();
    refusing.cut();
    other.expect_silence();
    publisher.publish("t", "three", 2);
    other.expect_texts(&["three"]);
}

fn all_members_offline(scene: &mut Scene) {
    let options = |name: &str| id(name).kept().receive_maximum(3);
    for name in ["a", "b"] {
        let mut member = scene.reconnect(&options(name), false);
        member.subscribe("$share/g/t", 1);
        member.cut();
    }
    let mut publisher = scene.connect("publisher");
    for number in 0..10 {
        assert_eq!(publisher.publish("t", &number.to_string(), 1), 0);
    }
    // First come, first served.
    let mut a = scene.reconnect(&options("a"), true);
    let first: Vec<Message> = (0..3).map(|_| a.expect_message()).collect();
    let mut c = scene.subscriber("c", "$share/g/t", 1);
    let mut found: Vec<u32> = first.iter().map(|message| message.text().parse().expect("a number")).collect();
    assert_eq!(found, [0, 1, 2]);
    first.iter().for_each(|message| a.acknowledge(message));
    found.extend(numbers(&mut a));
    found.extend(numbers(&mut c));
    found.sort();
    assert_eq!(found, (0..10).collect::<Vec<u32>>());
    scene.reconnect(&options("b"), true).expect_silence();
}

fn last_member_unsubscribes(scene: &mut Scene) {
    let mut publisher = scene.connect("publisher");
    for is_shared_by_two in [false, true] {
        let mut members = vec![];
        for name in ["a", "b"].into_iter().take(1 + is_shared_by_two as usize) {
            let mut member = scene.reconnect(&id(name).kept(), false);
            member.subscribe("$share/g/t", 1);
            member.cut();
            members.push(name);
        }
        for number in 0..20 {
            publisher.publish("t", &number.to_string(), 1);
        }
        assert_eq!(scene.figure(|m| m.queue_messages), 20);
        for name in members {
            scene.connect(name).disconnect();
        }
        assert_eq!(scene.figure(|m| m.queue_messages), 0);
        assert_eq!(scene.figure(|m| m.queue_bytes), 0);
        assert_eq!(scene.figure(|m| m.stored_messages), 0);
        assert_eq!(scene.figure(|m| m.shared_subscriptions), 0);
        let code = publisher.publish("t", "nobody", 1);
        assert_eq!(code, if scene.is_v5() { 0x10 } else { 0 });
    }
    // By UNSUBSCRIBE, with a window that lets the rest wait.
    let mut member = scene.connect_with(&id("c").receive_maximum(1));
    member.subscribe("$share/g/t", 1);
    for number in 0..5 {
        publisher.publish("t", &number.to_string(), 1);
    }
    member.unsubscribe(&["$share/g/t"]);
    assert_eq!(scene.figure(|m| m.queue_messages), 0);
    let begun = member.expect_message();
    member.acknowledge(&begun);
    member.take_messages();
    assert_eq!(scene.figure(|m| m.stored_messages), 0);
    let mut late = scene.subscriber("late", "$share/g/t", 1);
    late.expect_silence();
}

fn members_of_each_qos(scene: &mut Scene) {
    let mut members: Vec<Peer> =
        (0..3).map(|qos| scene.subscriber(&format!("member-{qos}"), "$share/g/t", qos)).collect();
    let mut publisher = scene.connect("publisher");
    for number in 0..36 {
        publisher.publish("t", &number.to_string(), number % 3);
    }
    let mut count = 0;
    for (granted, member) in members.iter_mut().enumerate() {
        for message in member.take_messages() {
            let published = message.text().parse::<u8>().expect("a number") % 3;
            assert_eq!(message.qos, published.min(granted as u8), "{message:?}");
            count += 1;
        }
    }
    assert_eq!(count, 36);
}

fn order_for_a_single_member(scene: &mut Scene) {
    let mut member = scene.connect_with(&id("member").receive_maximum(2));
    member.subscribe("$share/g/t", 2);
    let mut publisher = scene.connect("publisher");
    for number in 0..50 {
        publisher.publish("t", &number.to_string(), 1 + number % 2);
    }
    assert_eq!(numbers(&mut member), (0..50).collect::<Vec<u32>>());
    // With two there is no order, but all of them come.
    let mut other = scene.connect_with(&id("other").receive_maximum(2));
    other.subscribe("$share/g/t", 2);
    for number in 0..50 {
        publisher.publish("t", &number.to_string(), 1 + number % 2);
    }
    let mut found = vec![];
    for _ in 0..10 {
        found.extend(numbers(&mut member));
        found.extend(numbers(&mut other));
    }
    found.sort();
    assert_eq!(found, (0..50).collect::<Vec<u32>>());
}

fn two_hundred_publishers(scene: &mut Scene) {
    let mut members: Vec<Peer> =
        (0..5).map(|n| scene.subscriber(&format!("member-{n}"), "$share/g/t", 0)).collect();
    let mut publishers: Vec<Peer> = (0..200).map(|n| scene.connect(&format!("publisher-{n}"))).collect();
    for publisher in &mut publishers {
        let publish = |_| wire::publish(scene.version, 0x30, scene.topic("t"), None, &[], "1");
        publisher.write(&(0..50).flat_map(publish).collect::<Vec<u8>>());
    }
    publishers.iter_mut().for_each(Peer::ping);
    let mut shares = BTreeMap::new();
    for (number, member) in members.iter_mut().enumerate() {
        shares.insert(number, numbers(member).len());
    }
    assert_eq!(shares.values().sum::<usize>(), 10_000);
    for share in shares.values() {
        assert!((1900..=2100).contains(share), "not even within 5 %: {shares:?}");
    }
}
