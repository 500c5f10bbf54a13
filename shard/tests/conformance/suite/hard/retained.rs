//! HC-RET: retained messages.

use crate::suite::prelude::*;

pub fn cases() -> Vec<Case> {
    vec![
        case!(replaced_removed_or_never_there).hard("HC-RET-1"),
        case!(retain_flag_of_deliveries).hard("HC-RET-2"),
        case!(retain_handling).hard("HC-RET-3").versions(ONLY_V5),
        case!(overlapping_filters).hard("HC-RET-4"),
        case!(wildcards_and_sys).hard("HC-RET-5").core_only("the broker's own topics are set by hand"),
        case!(shared_subscriptions_get_none).hard("HC-RET-6"),
        case!(expiry).hard("HC-RET-7").versions(ONLY_V5).core_only("takes many seconds"),
        case!(a_hundred_thousand)
            .hard("HC-RET-8")
            .with(&[Set::InflightMax(10)])
            .core_only("needs 100,000 messages"),
        case!(set_and_cleared_by_two).hard("HC-RET-9").core_only("takes the steps in many orders"),
        case!(above_the_bounds).hard("HC-RET-10").with(&[Set::RetainedCountMax(2)]).alone(),
        case!(stopped_while_being_sent).hard("HC-RET-11").with(&[Set::InflightMax(3)]),
    ]
}

fn replaced_removed_or_never_there(scene: &mut Scene) {
    let mut live = scene.subscriber("live", "t/#", 2);
    let mut publisher = scene.connect("publisher");
    publisher.publish_retained("t/a", "at least once", 1);
    publisher.publish_retained("t/a", "at most once", 0);
    live.expect_texts(&["at least once", "at most once"]);
    let mut late = scene.subscriber("late", "t/#", 2);
    let message = late.expect_message();
    assert_eq!((message.text(), message.qos), ("at most once", 0));
    late.expect_silence();
    for qos in [0, 1, 2] {
        publisher.publish_retained("t/a", "again", qos);
        publisher.publish_retained("t/a", "", qos);
        publisher.publish_retained("t/never", "", qos);
        live.expect_texts(&["again", "", ""]);
        scene.subscriber("later", "t/#", 2).expect_silence();
    }
    // Without RETAIN an empty payload is a message like any other, and removes nothing.
    publisher.publish_retained("t/b", "stays", 1);
    publisher.publish("t/b", "", 1);
    live.expect_texts(&["stays", ""]);
    scene.subscriber("later", "t/#", 2).expect_texts(&["stays"]);
}

fn retain_flag_of_deliveries(scene: &mut Scene) {
    let mut publisher = scene.connect("publisher");
    let mut plain = scene.subscriber("plain", "t", 1);
    publisher.publish_retained("t", "m", 1);
    let message = plain.expect_message();
    assert!(!message.retain, "{message:?}");
    plain.acknowledge(&message);
    scene.subscriber("late", "t", 1).expect_retained("m");
    if !scene.is_v5() {
        return;
    }
    let as_published = SubscriptionOptions { retain_as_published: true, ..at(1) };
    let mut faithful = scene.connect("faithful");
    faithful.subscribe_with("t", as_published);
    faithful.expect_retained("m");
    publisher.publish_retained("t", "n", 1);
    faithful.expect_retained("n");
    publisher.publish("t", "o", 1);
    assert!(!faithful.expect_message().retain);
}

fn retain_handling(scene: &mut Scene) {
    scene.connect("publisher").publish_retained("t", "m", 1);
    let with = |handling, qos| SubscriptionOptions { retain_handling: handling, ..at(qos) };
    let expected = [
        (RetainHandling::SendAlways, [true, true, true, true]),
        (RetainHandling::SendIfNew, [true, false, false, false]),
        (RetainHandling::DoNotSend, [false, false, false, false]),
    ];
    for (handling, [new, existing, with_other_options, resumed]) in expected {
        let mut peer = scene.reconnect(&id("c").kept(), false);
        let expect = |peer: &mut Peer, options, is_sent| {
            peer.subscribe_with("t", options);
            match is_sent {
                true => peer.expect_retained("m"),
                false => peer.expect_silence(),
            }
        };
        expect(&mut peer, with(handling, 1), new);
        expect(&mut peer, with(handling, 1), existing);
        let other = SubscriptionOptions { retain_as_published: true, ..with(handling, 2) };
        expect(&mut peer, other, with_other_options);
        peer.cut();
        let mut peer = scene.reconnect(&id("c").kept(), true);
        peer.expect_silence();
        expect(&mut peer, with(handling, 1), resumed);
        // Gone and new again.
        peer.unsubscribe(&["t"]);
        expect(&mut peer, with(handling, 1), new);
        peer.disconnect();
        scene.connect("c").disconnect();
    }
}

fn overlapping_filters(scene: &mut Scene) {
    scene.connect("publisher").publish_retained("a/b", "m", 2);
    let identifier = properties(|w| w.varint(PropertyId::SubscriptionIdentifier, 7));
    let identifier: &[u8] = if scene.is_v5() { &identifier } else { &[] };
    let mut peer = scene.connect("c");
    let filters = [("a/b", at(0)), ("a/+", at(1)), ("#", at(2)), ("x/#", at(2))];
    assert_eq!(peer.subscribe_all(&filters, identifier), [0, 1, 2, 2]);
    let mut levels = vec![];
    for message in peer.take_messages() {
        assert!(message.retain && message.text() == "m");
        let expected: &[u32] = if scene.is_v5() { &[7] } else { &[] };
        assert_eq!(message.properties.numbers(PropertyId::SubscriptionIdentifier), expected);
        levels.push(message.qos);
    }
    levels.sort();
    assert_eq!(levels, [0, 1, 2], "once for each filter, at its QoS");
}

fn wildcards_and_sys(scene: &mut Scene) {
    scene.core(|core| core.publish_system("$SYS/x", "system"));
    scene.connect("publisher").publish_retained("a/x", "ordinary", 0);
    scene.subscriber("one", "#", 0).expect_texts(&["ordinary"]);
    scene.subscriber("two", "+/x", 0).expect_texts(&["ordinary"]);
    scene.subscriber("three", "+/#", 0).expect_texts(&["ordinary"]);
    scene.subscriber("four", "$SYS/#", 0).expect_texts(&["system"]);
    let mut live = scene.subscriber("five", "$SYS/+", 0);
    live.expect_texts(&["system"]);
    scene.core(|core| core.publish_system("$SYS/x", "newer"));
    live.expect_texts(&["newer"]);
}

fn shared_subscriptions_get_none(scene: &mut Scene) {
    let mut publisher = scene.connect("publisher");
    publisher.publish_retained("t", "m", 1);
    let mut member = scene.connect("member");
    if scene.is_v5() {
        for retain_handling in [RetainHandling::SendAlways, RetainHandling::SendIfNew] {
            member.subscribe_with("$share/g/t", SubscriptionOptions { retain_handling, ..at(1) });
            member.subscribe_with("$share/g/#", SubscriptionOptions { retain_handling, ..at(1) });
        }
        member.unsubscribe(&["$share/g/#"]);
    }
    member.subscribe("$share/g/t", 1);
    member.expect_silence();
    publisher.publish_retained("t", "live", 1);
    member.expect_texts(&["live"]);
}

fn expiry(scene: &mut Scene) {
    let mut publisher = scene.connect("publisher");
    let expiring = |topic: &str| message(topic, "m").qos(1).retain().expiry(10);
    publisher.publish_message(&expiring("t"));
    publisher.publish_message(&expiring("replaced"));
    scene.pass(5_000);
    let mut half = scene.subscriber("half", "t", 0);
    assert_eq!(half.expect_message().properties.number(PropertyId::MessageExpiryInterval), Some(5));
    publisher.publish_retained("replaced", "stays", 1);
    scene.pass(5_100);
    scene.subscriber("late", "t", 0).expect_silence();
    scene.pass(1_100);
    assert_eq!(scene.figure(|m| m.retained_messages), 1, "the expired one is freed");
    scene.pass(3_600_000);
    let mut later = scene.subscriber("later", "#", 0);
    let message = later.expect_message();
    assert_eq!(message.text(), "stays");
    assert!(!message.properties.has(PropertyId::MessageExpiryInterval));
}

fn a_hundred_thousand(scene: &mut Scene) {
    let many = scene.full_or(100_000, 10_000);
    let mut publisher = scene.connect("publisher");
    for start in (0..many).step_by(1000) {
        let publish = |number: usize| {
            wire::publish(scene.version, 0x31, format!("many/{number:06}"), None, &[], number.to_string())
        };
        publisher.write(&(start..start + 1000).flat_map(publish).collect::<Vec<u8>>());
    }
    publisher.publish_retained("many/extra", "at QoS 2", 2);
    assert_eq!(scene.figure(|m| m.retained_messages), many as u64 + 1);
    let kept = scene.figure(|m| m.memory_bytes);

    let mut reader = scene.subscriber("reader", "many/#", 1);
    let mut seen = vec![0u8; many];
    let (mut count, mut is_live_seen) = (0, false);
    while let Some(received) = reader.poll() {
        let Received::Publish(message) = received else { panic!("{received:?}") };
        reader.acknowledge(&message);
        match message.text() {
            "at QoS 2" => assert_eq!(message.qos, 1),
            "changed" => {
                assert_eq!(message.topic, format!("many/{:06}", many - 1));
                is_live_seen = true;
            }
            text => {
                let number: usize = text.parse().expect("a number");
                assert!(!(is_live_seen && number == many - 1), "the old value after the new one");
                seen[number] += 1;
            }
        }
        count += 1;
        if count % (many / 10) == 0 {
            // It goes on being served, and holds little.
            reader.ping();
            let memory = scene.figure(|m| m.memory_bytes);
            assert!(memory < kept + 4 * 1024 * 1024, "{} bytes more", memory - kept);
        }
        if count == many / 5 {
            publisher.publish_retained(&format!("many/{:06}", many - 1), "changed", 1);
        }
    }
    assert!(is_live_seen);
    assert!(seen[..many - 1].iter().all(|times| *times == 1), "each once");
    assert!(seen[many - 1] <= 1);
}

fn set_and_cleared_by_two(scene: &mut Scene) {
    let mut publishers = [scene.connect("publisher-0"), scene.connect("publisher-1")];
    for round in 0..100u64 {
        let version = scene.version;
        let values: Vec<Vec<u8>> = (0..2)
            .map(|publisher| {
                let publish = |number: u32| {
                    let payload = match number % 4 {
                        3 => String::new(),
                        _ => format!("{publisher}-{number}"),
                    };
                    wire::publish(version, 0x31, "t", None, &[], payload)
                };
                // One round after the other, so that what an earlier one left is known as old.
                (round as u32 * 50..).take(50).flat_map(publish).collect()
            })
            .collect();
        let subscribe = wire::request(version, 0x82, 1, [&wire::field("t")[..], &[0]].concat());
        let mut readers: Vec<Peer> =
            (0..4).map(|number| scene.connect(&format!("reader-{number}"))).collect();
        scene.core(|core| {
            for (publisher, bytes) in publishers.iter().zip(&values) {
                core.write_later(publisher.socket(), bytes);
            }
            readers.iter().for_each(|reader| core.write_later(reader.socket(), &subscribe));
            core.run_shuffled(round);
        });
        let mut last = vec![];
        for reader in &mut readers {
            reader.wrote(&subscribe);
            let mut numbers = [None; 2];
            let mut state = None;
            for received in reader.take_packets() {
                let Received::Publish(message) = received else { continue };
                if let Some((publisher, number)) = message.text().split_once('-') {
                    let publisher: usize = publisher.parse().expect("a number");
                    let number: u32 = number.parse().expect("a number");
                    // The same may come as retained and live, but never an older one after a newer.
                    assert!(numbers[publisher] <= Some(number), "round {round}: {message:?}");
                    numbers[publisher] = Some(number);
                }
                state = Some(message.text().to_owned());
            }
            last.push(state.unwrap_or_default());
            reader.unsubscribe(&["t"]);
        }
        let mut after = scene.connect("after");
        after.subscribe("t", 0);
        let stored = after.poll().map(|received| match received {
            Received::Publish(message) => message.text().to_owned(),
            other => panic!("{other:?}"),
        });
        let stored = stored.unwrap_or_default();
        assert!(last.iter().all(|state| *state == stored), "round {round}: {last:?}, stored {stored:?}");
        publishers.iter_mut().for_each(|publisher| drop(publisher.take_packets()));
        readers.into_iter().for_each(Peer::cut);
        after.cut();
    }
}

fn above_the_bounds(scene: &mut Scene) {
    let mut live = scene.subscriber("live", "t/#", 1);
    let mut publisher = scene.connect("publisher");
    let mut codes = vec![];
    for number in 0..20 {
        codes.push(publisher.publish_retained(&format!("t/{number}"), "m", 1));
    }
    let live_count = live.take_messages().len();
    let refused = codes.iter().filter(|code| **code == ReasonCode::QuotaExceeded as u8).count();
    assert!(codes.iter().all(|code| matches!(code, 0 | 0x97)), "{codes:?}");
    // What could be told was not delivered; what could not was delivered live, and not stored.
    assert_eq!(live_count + refused, 20);
    match (scene.is_v5(), scene.shards()) {
        (true, 1) => assert_eq!(refused, 18),
        (true, _) => {}
        (false, _) => assert_eq!(refused, 0),
    }
    let count = |scene: &mut Scene| {
        let mut late = scene.subscriber("late", "t/#", 1);
        let count = late.take_messages().len();
        late.disconnect();
        count
    };
    // The bound is that of each shard in the core; the process divides its own among the shards.
    let kept = count(scene);
    assert!(kept == 2 || kept == 2 * scene.shards() as usize, "{kept}");
    // QoS 0 is delivered live all the same; what is stored may be replaced, and removed to make room.
    publisher.publish_retained("t/more", "m", 0);
    live.expect_texts(&["m"]);
    for number in 0..20 {
        publisher.publish_retained(&format!("t/{number}"), "", 1);
    }
    assert_eq!(count(scene), 0);
    assert_eq!(publisher.publish_retained("t/again", "m", 1), 0);
    assert_eq!(count(scene), 1);
    publisher.publish_retained("t/again", "", 1);
}

fn stopped_while_being_sent(scene: &mut Scene) {
    let mut publisher = scene.connect("publisher");
    for number in 0..300 {
        publisher.publish_retained(&format!("t/{number}"), &number.to_string(), 1);
    }
    let mut reader = scene.reconnect(&id("reader").kept(), false);
    reader.subscribe("t/#", 1);
    let begun: Vec<Message> = (0..3).map(|_| reader.expect_message()).collect();
    reader.unsubscribe(&["t/#"]);
    begun.iter().for_each(|message| reader.puback(message.packet_id));
    reader.expect_silence();
    // The same by a lost connection: what is in flight is completed by the next one, the rest is not sent.
    reader.subscribe("t/#", 1);
    let begun: Vec<Message> = (0..3).map(|_| reader.expect_message()).collect();
    reader.cut();
    let mut reader = scene.reconnect(&id("reader").kept(), true);
    for message in &begun {
        let again = reader.expect_message();
        assert_eq!(again, Message { dup: true, ..message.clone() });
        reader.acknowledge(&again);
    }
    reader.expect_silence();
    publisher.publish("t/0", "live", 1);
    reader.expect_texts(&["live"]);
    for number in 0..300 {
        publisher.publish_retained(&format!("t/{number}"), "", 0);
    }
}
