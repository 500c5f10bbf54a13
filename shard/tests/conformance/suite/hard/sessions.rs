//! HC-SES: expiry, resumption, queues.

use shard::{DropReason, QueuePolicy};

use crate::suite::prelude::*;

pub fn cases() -> Vec<Case> {
    vec![
        case!(expiry).hard("HC-SES-1").versions(ONLY_V5).core_only("counts time exactly"),
        case!(expiry_above_the_maximum)
            .hard("HC-SES-1")
            .versions(ONLY_V5)
            .with(&[Set::SessionExpiryMax(100)]),
        case!(disconnect_changes_the_expiry)
            .hard("HC-SES-2")
            .versions(ONLY_V5)
            .core_only("counts time exactly"),
        case!(clean_session_0_1_0).hard("HC-SES-3").versions(V3),
        case!(resume_in_order).hard("HC-SES-4").with(&[Set::InflightMax(5)]),
        case!(expires_while_messages_are_routed).hard("HC-SES-5").core_only("holds the lanes"),
        case!(queue_bounds_drop_the_oldest)
            .hard("HC-SES-6")
            .core_with("sets a policy", |config| bounds(config, QueuePolicy::DropOldest)),
        case!(queue_bounds_drop_the_new)
            .hard("HC-SES-6")
            .core_with("sets a policy", |config| bounds(config, QueuePolicy::DropNew)),
        case!(queue_bounds_refuse)
            .hard("HC-SES-6")
            .core_with("sets a policy", |config| bounds(config, QueuePolicy::Refuse)),
        case!(queue_bound_of_bytes).hard("HC-SES-6").core_with("sets the bytes", |config| {
            config.limits.queue_bytes_max = 10_000;
        }),
        case!(qos_0_for_an_absent_session).hard("HC-SES-7"),
        case!(qos_0_for_an_absent_session_queued).hard("HC-SES-7").with(&[Set::Qos0Queued]),
        case!(fifty_thousand_queued)
            .hard("HC-SES-8")
            .with(&[Set::InflightMax(10), Set::QueueMessagesMax(100_000)])
            .core_only("needs 50,000 messages"),
        case!(reconnects_in_the_middle_of_qos_2)
            .hard("HC-SES-11")
            .core_only("reconnects a thousand times, and looks at the memory"),
        case!(deleted_by_an_administrator).hard("HC-SES-12").core_only("kicks"),
    ]
}

fn expiry(scene: &mut Scene) {
    let options = || id("c").resume().expiry(2);
    scene.reconnect(&options(), false).cut();
    scene.pass(1_900);
    scene.reconnect(&options(), true).cut();
    scene.pass(2_100);
    scene.reconnect(&options(), false).disconnect();
    // Never.
    scene.reconnect(&id("for good").resume().expiry(u32::MAX), false).cut();
    scene.reconnect(&id("none").resume(), false).cut();
    scene.pass(600_000);
    scene.reconnect(&id("for good").resume(), true).disconnect();
    scene.reconnect(&id("none").resume(), false).disconnect();
}

fn expiry_above_the_maximum(scene: &mut Scene) {
    for (asked, told) in [(99, None), (100, None), (101, Some(100)), (u32::MAX, Some(100))] {
        let mut peer = scene.try_connect(&id("c").expiry(asked));
        assert_eq!(peer.expect_connack_number(PropertyId::SessionExpiryInterval), told);
    }
    let mut peer = scene.try_connect(&id("c"));
    assert_eq!(peer.expect_connack_number(PropertyId::SessionExpiryInterval), None);
}

fn disconnect_changes_the_expiry(scene: &mut Scene) {
    let leave = |peer: &mut Peer, seconds: u32| {
        let expiry = properties(|w| w.u32(PropertyId::SessionExpiryInterval, seconds));
        peer.send(&protocol::Packet::Disconnect(protocol::Disconnect {
            reason: ReasonCode::Success,
            properties: protocol::Properties::from_wire(&expiry),
        }));
    };
    let mut peer = scene.reconnect(&id("c").resume().expiry(0), false);
    leave(&mut peer, 10);
    peer.expect_disconnect(ReasonCode::ProtocolError);
    let mut peer = scene.reconnect(&id("c").resume().expiry(10), false);
    leave(&mut peer, 0);
    peer.expect_end();
    let mut peer = scene.reconnect(&id("c").resume().expiry(10), false);
    scene.pass(5_000);
    leave(&mut peer, 20);
    peer.expect_end();
    scene.pass(19_900);
    let mut peer = scene.reconnect(&id("c").resume().expiry(10), true);
    leave(&mut peer, 20);
    peer.expect_end();
    scene.pass(20_100);
    scene.reconnect(&id("c").resume(), false).disconnect();
}

fn clean_session_0_1_0(scene: &mut Scene) {
    let mut publisher = scene.connect("publisher");
    let mut first = scene.reconnect(&id("c").resume(), false);
    first.subscribe("t", 2);
    first.send_publish(&message("other", "m").qos(2).packet_id(9));
    first.expect_pubrec(9);
    publisher.publish("t", "in flight", 2);
    first.expect_message();
    first.cut();
    publisher.publish("t", "queued", 1);
    scene.reconnect(&id("c"), false).disconnect();
    let mut third = scene.reconnect(&id("c").resume(), false);
    third.expect_silence();
    publisher.publish("t", "m", 1);
    third.expect_silence();
    // Neither does it know the id of the first.
    let mut watcher = scene.subscriber("watcher", "other", 2);
    third.publish_message(&message("other", "new").qos(2).packet_id(9));
    watcher.expect_texts(&["new"]);
    third.disconnect();
    scene.connect("c").disconnect();
}

fn resume_in_order(scene: &mut Scene) {
    let options = || id("c").kept();
    let mut first = scene.reconnect(&options(), false);
    first.subscribe("t", 2);
    let mut publisher = scene.connect("publisher");
    for number in 0..8 {
        publisher.publish("t", &number.to_string(), 1 + number % 2);
    }
    for _ in 0..5 {
        first.expect_message();
    }
    first.cut();
    publisher.publish("t", "8", 2);
    // It sends before it has read anything.
    let mut second = scene.open();
    let publish = wire::publish(scene.version, 0x32, scene.topic("t"), Some(77), &[], "9");
    second.write(&[scene.encode(&options()), publish, vec![0xC0, 0]].concat());
    let connack = second.expect_connack();
    assert_eq!(connack.session_present, scene.version != Version::V31);
    let (mut texts, mut others) = (vec![], vec![]);
    while let Some(received) = second.poll() {
        match received {
            Received::Publish(message) => {
                assert_eq!(message.dup, texts.len() < 5, "{message:?}");
                match message.qos {
                    1 => second.puback(message.packet_id),
                    _ => second.pubrec(message.packet_id),
                }
                texts.push(message.text().parse::<u32>().expect("a number"));
            }
            Received::PubRel(ack) => second.pubcomp(ack.packet_id),
            other => others.push(other),
        }
    }
    assert_eq!(texts, (0..10).collect::<Vec<u32>>());
    assert_eq!(others.len(), 2, "PUBACK and PINGRESP: {others:?}");
}

fn expires_while_messages_are_routed(scene: &mut Scene) {
    let mut absent = vec![];
    for number in 0..6 {
        let options = id(&format!("absent-{number}")).resume().expiry(10);
        let mut peer = scene.reconnect(&options, false);
        peer.subscribe("t", 1);
        peer.cut();
        absent.push(options);
    }
    let mut publisher = scene.connect("publisher");
    scene.core(|core| core.hold_lanes(true));
    publisher.send_publish(&message("t", "m").qos(1));
    publisher.take_packets();
    // All of them end (3.x has a longer life) with the message in the lanes.
    scene.pass(7 * 24 * 3600 * 1000 + 1000);
    scene.core(|core| core.hold_lanes(false));
    assert_eq!(scene.figure(|m| m.sessions_expired), 6);
    assert_eq!(scene.figure(|m| m.queue_messages), 0);
    assert_eq!(scene.figure(|m| m.stored_messages), 0);
    assert_eq!(scene.figure(|m| m.routes), 0);
    let mut publisher = scene.connect("publisher");
    let code = publisher.publish("t", "nobody", 1);
    assert_eq!(code, if scene.is_v5() { 0x10 } else { 0 });
    for options in absent {
        scene.reconnect(&options, false).expect_silence();
    }
}

fn bounds(config: &mut shard::Config, policy: QueuePolicy) {
    config.queue_policy = policy;
    config.limits.queue_messages_max = 5;
    config.limits.inflight_max = 2;
}

/// Ten messages for a reader with a window of two and five places in its queue: the codes for the publisher, and what
/// the reader gets in the end.
fn overflow(scene: &mut Scene) -> (Vec<u8>, Vec<u32>) {
    let mut reader = scene.subscriber("reader", "t", 2);
    let mut publisher = scene.connect("publisher");
    let codes: Vec<u8> =
        (0..10).map(|number| publisher.publish("t", &number.to_string(), 1 + number % 2)).collect();
    assert_eq!(scene.figure(|m| m.queue_messages), 5);
    let dropped =
        scene.figure(|m| m.publish_dropped.iter().map(|by| by[DropReason::QueueFull as usize]).sum());
    assert_eq!(dropped, 3);
    let texts = reader.take_messages().iter().map(|m| m.text().parse().expect("a number")).collect();
    assert_eq!(scene.figure(|m| m.queue_messages + m.queue_bytes + m.stored_messages), 0);
    (codes, texts)
}

fn queue_bounds_drop_the_oldest(scene: &mut Scene) {
    let (codes, texts) = overflow(scene);
    // In flight is never dropped.
    assert_eq!(texts, [0, 1, 5, 6, 7, 8, 9]);
    assert_eq!(codes, [0; 10]);
}

fn queue_bounds_drop_the_new(scene: &mut Scene) {
    let (codes, texts) = overflow(scene);
    assert_eq!(texts, [0, 1, 2, 3, 4, 5, 6]);
    assert_eq!(codes, [0; 10]);
}

fn queue_bounds_refuse(scene: &mut Scene) {
    let (codes, texts) = overflow(scene);
    assert_eq!(texts, [0, 1, 2, 3, 4, 5, 6]);
    // The publisher can be told where it lives on the same shard.
    let refused = if scene.is_v5() { 0x97 } else { 0 };
    assert!(codes[7..] == [refused; 3] || (scene.shards() > 1 && codes[7..] == [0; 3]), "{codes:?}");
    assert_eq!(codes[..7], [0; 7]);
}

fn queue_bound_of_bytes(scene: &mut Scene) {
    let mut reader = scene.reconnect(&id("reader").kept(), false);
    reader.subscribe("t", 1);
    reader.cut();
    let mut publisher = scene.connect("publisher");
    for number in 0..50 {
        publisher.publish("t", &format!("{number:0>960}"), 1);
    }
    let bytes = scene.figure(|m| m.queue_bytes);
    assert!((9_000..=10_000).contains(&bytes), "{bytes}");
    // A message above the bound still has its place in an empty queue.
    publisher.publish("t", &"9".repeat(20_000), 1);
    assert_eq!(scene.figure(|m| m.queue_messages), 1);
    let mut reader = scene.reconnect(&id("reader").kept(), true);
    assert_eq!(reader.expect_message().payload.len(), 20_000);
}

fn qos_0_for_an_absent_session(scene: &mut Scene) {
    absent_session(scene, &["QoS 1"]);
}

fn qos_0_for_an_absent_session_queued(scene: &mut Scene) {
    absent_session(scene, &["QoS 0", "QoS 1", "for QoS 0"]);
}

fn absent_session(scene: &mut Scene, expected: &[&str]) {
    let mut peer = scene.reconnect(&id("c").kept(), false);
    peer.subscribe("t", 1);
    peer.subscribe("least", 0);
    peer.cut();
    let mut publisher = scene.connect("publisher");
    publisher.publish("t", "QoS 0", 0);
    publisher.publish("t", "QoS 1", 1);
    publisher.publish("least", "for QoS 0", 1);
    publisher.ping();
    scene.reconnect(&id("c").kept(), true).expect_texts(expected);
}

fn fifty_thousand_queued(scene: &mut Scene) {
    let many = scene.full_or(50_000, 5_000);
    let mut reader = scene.reconnect(&id("reader").kept(), false);
    reader.subscribe("t", 1);
    reader.cut();
    let mut publisher = scene.connect("publisher");
    for start in (0..many).step_by(500) {
        let publish = |number: usize| {
            let packet_id = Some((number % 60_000) as u16 + 1);
            wire::publish(scene.version, 0x32, "t", packet_id, &[], number.to_string())
        };
        publisher.write(&(start..start + 500).flat_map(publish).collect::<Vec<u8>>());
    }
    publisher.take_packets();
    assert_eq!(scene.figure(|m| m.queue_messages), many as u64);
    let mut reader = scene.reconnect(&id("reader").kept(), true);
    let (mut count, mut added) = (0, many);
    while let Some(Received::Publish(message)) = reader.poll() {
        assert_eq!(message.text(), count.to_string(), "in order, old before new");
        reader.acknowledge(&message);
        count += 1;
        if count % 100 == 0 && added < many + many / 10 {
            for _ in 0..20 {
                publisher.publish("t", &added.to_string(), 1);
                added += 1;
            }
        }
    }
    assert_eq!(count, added);
    assert_eq!(scene.figure(|m| m.queue_messages + m.stored_messages + m.inflight_out), 0);
}

fn reconnects_in_the_middle_of_qos_2(scene: &mut Scene) {
    let rounds = scene.full_or(1000, 200);
    let mut random = 0x5EED_u64;
    let mut below = move |end: u64| {
        random = random.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(0x1405_7B7E_F767_814F);
        (random >> 33) % end
    };
    // One client publishes, another reads; both leave whenever it comes to it.
    let mut reader = scene.reconnect(&id("reader").kept(), false);
    reader.subscribe("t", 2);
    let mut writer = scene.reconnect(&id("writer").kept(), false);
    let (mut sent, mut received) = (0u32, vec![]);
    // What the writer has not finished: its message number and whether PUBREC came. It uses one id again and again.
    let mut open: Option<(u32, bool)> = None;
    // Deliveries that the reader has answered with PUBREC: known by their id.
    let mut begun = std::collections::BTreeSet::new();
    for _ in 0..rounds {
        for _ in 0..=below(3) {
            let (number, is_received) = *open.get_or_insert_with(|| {
                sent += 1;
                (sent, false)
            });
            let publish = message("t", number.to_string()).qos(2).packet_id(1);
            if !is_received {
                writer.send_publish(&publish);
                if below(2) == 0 {
                    break;
                }
                writer.expect_pubrec(1);
                open = Some((number, true));
            }
            if below(3) == 0 {
                break;
            }
            writer.pubrel(1);
            if below(3) == 0 {
                // The PUBCOMP is lost, if it is lost: PUBREL again after the reconnect.
                break;
            }
            writer.expect_pubcomp(1);
            open = None;
        }
        for _ in 0..below(6) {
            match reader.poll() {
                Some(Received::Publish(message)) => {
                    if begun.insert(message.packet_id) {
                        received.push(message.text().parse::<u32>().expect("a number"));
                    }
                    if below(2) == 0 {
                        reader.pubrec(message.packet_id);
                    }
                }
                Some(Received::PubRel(ack)) => {
                    if below(3) > 0 {
                        begun.remove(&ack.packet_id);
                        reader.pubcomp(ack.packet_id);
                    }
                }
                _ => break,
            }
        }
        if below(2) == 0 {
            reader.cut();
            reader = scene.reconnect(&id("reader").kept(), true);
        }
        if below(2) == 0 {
            writer.cut();
            writer = scene.reconnect(&id("writer").kept(), true);
        }
        writer.take_packets();
    }
    if let Some((number, is_received)) = open {
        if !is_received {
            writer.send_publish(&message("t", number.to_string()).qos(2).packet_id(1).dup());
            writer.expect_pubrec(1);
        }
        writer.pubrel(1);
        writer.take_packets();
    }
    reader.cut();
    let mut reader = scene.reconnect(&id("reader").kept(), true);
    while let Some(packet) = reader.poll() {
        match packet {
            Received::Publish(message) => {
                if begun.insert(message.packet_id) {
                    received.push(message.text().parse::<u32>().expect("a number"));
                }
                reader.pubrec(message.packet_id);
            }
            Received::PubRel(ack) => {
                begun.remove(&ack.packet_id);
                reader.pubcomp(ack.packet_id);
            }
            other => panic!("{other:?}"),
        }
    }
    assert_eq!(received, (1..=sent).collect::<Vec<u32>>(), "each once, in order");
    assert_eq!(scene.figure(|m| m.inflight_out + m.queue_messages + m.stored_messages + m.stored_bytes), 0);
}

fn deleted_by_an_administrator(scene: &mut Scene) {
    let mut watcher = scene.subscriber("watcher", "will", 0);
    let options = id("c").kept().receive_maximum(1).will(will("will", "gone").delay(60));
    let mut live = scene.reconnect(&options, false);
    live.subscribe("t", 1);
    let mut publisher = scene.connect("publisher");
    for _ in 0..3 {
        publisher.publish("t", "m", 1);
    }
    scene.core(|core| core.kick("c"));
    live.take_messages_before_fault(ReasonCode::AdministrativeAction);
    watcher.expect_texts(&["gone"]);
    assert_eq!(scene.figure(|m| m.queue_messages + m.stored_messages + m.inflight_out), 0);
    scene.reconnect(&id("c").kept(), false).cut();
    // The same while it is away.
    scene.core(|core| core.kick("c"));
    scene.reconnect(&id("c").resume(), false).expect_silence();
}
