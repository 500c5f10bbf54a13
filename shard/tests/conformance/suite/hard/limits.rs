//! HC-LIM: framing, bounds, backpressure. What needs a real process is in `broker/tests/hard_limits.rs`.

use shard::DropReason;

use crate::suite::prelude::*;

pub fn cases() -> Vec<Case> {
    vec![
        case!(the_stream_cut_into_chunks).hard("HC-LIM-1"),
        case!(five_thousand_packets_in_a_segment).hard("HC-LIM-1"),
        case!(packet_types_of_nobody_or_of_servers).hard("HC-LIM-3"),
        case!(wrong_fixed_flags).hard("HC-LIM-4"),
        case!(empty_packets_with_a_body).hard("HC-LIM-4"),
        case!(trailing_bytes).hard("HC-LIM-5"),
        case!(short_forms_of_acks).hard("HC-LIM-6").versions(ONLY_V5),
        case!(subscriber_that_reads_nothing)
            .hard("HC-LIM-7")
            .core_with("stops a reader", |config| config.limits.queue_messages_max = 100),
        case!(lanes_are_full).hard("HC-LIM-8").core_only("makes the lanes narrow"),
        case!(two_that_fill_each_other).hard("HC-LIM-9").core_only("stops readers"),
        case!(memory_budget).hard("HC-LIM-10").core_with("sets a small budget", |config| {
            config.limits.memory_bytes_max = 1024 * 1024;
            config.limits.queue_messages_max = 1_000_000;
        }),
        case!(mirrors).hard("HC-LIM-11"),
        case!(data_then_the_end).hard("HC-LIM-12"),
        case!(oversized_pieces).hard("HC-LIM-13").core_only("measures time"),
    ]
}

/// A conversation in one piece, and the bytes that answer it.
fn conversation(scene: &Scene, name: &str) -> Vec<u8> {
    let version = scene.version;
    let entry = [&wire::field(scene.topic("t"))[..], &[2]].concat();
    let publish =
        |first, id, payload: &str| wire::publish(version, first, scene.topic("t"), id, &[], payload);
    [
        scene.encode(&id(name).keep_alive(60).will(will("w", "w"))),
        wire::request(version, 0x82, 1, &entry),
        vec![0xC0, 0],
        publish(0x30, None, "zero"),
        publish(0x32, Some(2), &"one ".repeat(100)),
        publish(0x34, Some(3), "two"),
        wire::ack(0x62, 3),
        wire::request(version, 0xA2, 4, wire::field(scene.topic("t"))),
        vec![0xC0, 0],
    ]
    .concat()
}

fn answers(scene: &mut Scene, name: &str, chunks: &[&[u8]]) -> Vec<String> {
    let mut peer = scene.open();
    for chunk in chunks {
        peer.write(chunk);
    }
    // Acks may pass deliveries, and a SUBACK may wait for other shards: the order between those is not promised.
    let mut answers: Vec<String> = peer.take_packets().iter().map(|packet| format!("{packet:?}")).collect();
    peer.disconnect();
    assert!(answers.len() >= 10, "{name}: {answers:?}");
    answers.sort();
    answers
}

fn the_stream_cut_into_chunks(scene: &mut Scene) {
    let bytes = conversation(scene, "chunks");
    let whole = answers(scene, "whole", &[&bytes]);
    let single: Vec<&[u8]> = bytes.chunks(1).collect();
    assert_eq!(answers(scene, "single bytes", &single), whole);
    let mut random = 1u64;
    for round in 0..10 {
        let mut chunks = vec![];
        let mut rest = &bytes[..];
        while !rest.is_empty() {
            random = random.wrapping_mul(0x5851_F42D_4C95_7F2D).wrapping_add(99);
            let (chunk, next) = rest.split_at(rest.len().min(1 + (random >> 33) as usize % 90));
            chunks.push(chunk);
            rest = next;
        }
        assert_eq!(answers(scene, "random", &chunks), whole, "round {round}");
    }
}

fn five_thousand_packets_in_a_segment(scene: &mut Scene) {
    let mut reader = scene.subscriber("reader", "t", 0);
    let mut peer = scene.connect("c");
    let ping = [0xC0, 0];
    peer.write(&ping.repeat(5000));
    for _ in 0..5000 {
        assert_eq!(peer.expect_packet(), Received::PingResp);
    }
    let publish = |number: u16| wire::publish(scene.version, 0x32, scene.topic("t"), Some(number), &[], "m");
    let count = (64 * 1024 / publish(1).len()) as u16;
    peer.write(&(1..=count).flat_map(publish).collect::<Vec<u8>>());
    for number in 1..=count {
        peer.expect_puback(number);
    }
    assert_eq!(reader.take_messages().len(), count as usize);
}

fn packet_types_of_nobody_or_of_servers(scene: &mut Scene) {
    let malformed = ReasonCode::MalformedPacket;
    scene.expect_faulty(&[0x00, 0], malformed);
    if !scene.is_v5() {
        scene.expect_faulty(&[0xF0, 0], malformed);
    }
    let bodies: [(u8, &[u8]); 4] = [(0x20, &[0, 0]), (0x90, &[0, 1, 0]), (0xB0, &[0, 1]), (0xD0, &[])];
    for (first, body) in bodies {
        scene.expect_faulty(&wire::packet(first, body), ReasonCode::ProtocolError);
    }
}

fn wrong_fixed_flags(scene: &mut Scene) {
    for first in [0x60, 0x61, 0x63, 0x66, 0x80, 0x81, 0x86, 0xA0, 0xA3, 0x41, 0x52, 0x71, 0xC1, 0xE8] {
        scene.expect_faulty(&wire::packet(first, [0, 1]), ReasonCode::MalformedPacket);
    }
}

fn empty_packets_with_a_body(scene: &mut Scene) {
    scene.expect_faulty(&[0xC0, 1, 0], ReasonCode::MalformedPacket);
    if !scene.is_v5() {
        scene.expect_faulty(&[0xE0, 1, 0], ReasonCode::MalformedPacket);
        scene.expect_faulty(&[0xE0, 2, 0, 0], ReasonCode::MalformedPacket);
    }
}

fn trailing_bytes(scene: &mut Scene) {
    let version = scene.version;
    let malformed = ReasonCode::MalformedPacket;
    let entry = [&wire::field(scene.topic("t"))[..], &[0]].concat();
    scene.expect_faulty(&wire::request(version, 0x82, 1, [&entry[..], &[0]].concat()), malformed);
    scene.expect_faulty(&wire::request(version, 0x82, 1, [&entry[..], &[0, 1]].concat()), malformed);
    let filter = wire::field(scene.topic("t"));
    scene.expect_faulty(&wire::request(version, 0xA2, 1, [&filter[..], &[9]].concat()), malformed);
    // In 5 a code and properties may follow; what follows those may not.
    let tail: &[u8] = if scene.is_v5() { &[0, 1, 0, 0, 0] } else { &[0, 1, 0] };
    for first in [0x40, 0x50, 0x62, 0x70] {
        scene.expect_faulty(&wire::packet(first, tail), malformed);
    }
    let payload = wire::join(&[&wire::field(scene.client_id("trailing")), &[0]]);
    scene.expect_refused(&wire::connect(version, wire::CLEAN, payload), malformed);
}

fn short_forms_of_acks(scene: &mut Scene) {
    let mut reader = scene.connect_with(&id("reader").receive_maximum(1));
    reader.subscribe("t", 2);
    let mut publisher = scene.connect("publisher");
    let tails: [&[u8]; 3] = [&[], &[0], &[0, 0]];
    for tail in tails {
        let ack = |first, id: u16| wire::packet(first, [&id.to_be_bytes()[..], tail].concat());
        publisher.publish("t", "one", 1);
        let message = reader.expect_message();
        reader.write(&ack(0x40, message.packet_id));
        publisher.publish("t", "two", 2);
        let message = reader.expect_message();
        reader.write(&ack(0x50, message.packet_id));
        reader.expect_pubrel(message.packet_id);
        reader.write(&ack(0x70, message.packet_id));
        reader.expect_silence();
        publisher.send_publish(&message_of_id(7));
        publisher.expect_pubrec(7);
        publisher.write(&ack(0x62, 7));
        assert_eq!(publisher.expect_pubcomp(7), 0);
    }
}

fn message_of_id(packet_id: u16) -> crate::suite::options::Outgoing {
    message("nobody", "m").qos(2).packet_id(packet_id)
}

fn subscriber_that_reads_nothing(scene: &mut Scene) {
    let mut stalled = scene.subscriber("stalled", "t/#", 1);
    let mut other = scene.subscriber("other", "t/#", 1);
    let mut publisher = scene.connect("publisher");
    scene.core(|core| core.stall(stalled.socket(), true));
    let payload = "x".repeat(1000);
    let mut count = 0;
    for _ in 0..2000 {
        publisher.publish("t/0", &payload, 0);
        count += other.take_messages().len();
    }
    assert_eq!(count, 2000, "the other one is undisturbed");
    let dropped = |scene: &mut Scene, qos: usize, reason: DropReason| {
        scene.figure(move |m| m.publish_dropped[qos][reason as usize])
    };
    let slow = dropped(scene, 0, DropReason::SlowConsumer);
    assert!((900..1100).contains(&slow), "{slow} dropped above one MiB");
    for _ in 0..500 {
        assert_eq!(publisher.publish("t/1", &payload, 1), 0);
        count += other.take_messages().len();
    }
    assert_eq!(count, 2500);
    // Above the soft bound nothing is sent any more: its queue of a hundred, then the policy.
    assert_eq!(scene.figure(|m| m.queue_messages), 100);
    assert_eq!(dropped(scene, 1, DropReason::QueueFull), 400);
    assert!(scene.figure(|m| m.memory_bytes) < 2 * 1024 * 1024);
    // It reads again, and gets what was kept.
    scene.core(|core| core.stall(stalled.socket(), false));
    let messages = stalled.take_messages();
    assert_eq!(messages.iter().filter(|message| message.qos == 0).count() as u64, 2000 - slow);
    assert_eq!(messages.iter().filter(|message| message.qos == 1).count(), 100);
    assert_eq!(scene.figure(|m| m.queue_messages + m.stored_messages), 0);
}

fn lanes_are_full(scene: &mut Scene) {
    // Clients on every shard publish to every shard, and the lanes take next to nothing.
    let mut peers: Vec<Peer> = (0..9).map(|n| scene.subscriber(&format!("peer-{n}"), "t", 1)).collect();
    scene.core(|core| core.set_lane_capacity(1));
    for seed in 0..20u64 {
        let version = scene.version;
        let batches: Vec<Vec<u8>> = (0..peers.len())
            .map(|peer| {
                let publish = |number: u16| {
                    let reliable =
                        wire::publish(version, 0x32, "t", Some(number + 1), &[], format!("{peer}-{number}"));
                    let fleeting = wire::publish(version, 0x30, "t", None, &[], "fleeting");
                    [reliable, fleeting].concat()
                };
                (0..40).flat_map(publish).collect()
            })
            .collect();
        scene.core(|core| {
            core.hold_lanes(true);
            for (peer, bytes) in peers.iter().zip(&batches) {
                core.write_later(peer.socket(), bytes);
            }
            // The lanes fill, and the publishers of QoS 1 have to wait.
            core.run_shuffled(seed);
        });
        let paused = scene.figure(|m| m.paused_connections);
        assert_eq!(paused > 0, scene.shards() > 1, "seed {seed}");
        scene.core(|core| {
            core.hold_lanes(false);
            core.run_shuffled(seed);
        });
        assert_eq!(scene.figure(|m| m.paused_connections), 0, "seed {seed}: all go on");
        for (peer, bytes) in peers.iter_mut().zip(&batches) {
            peer.wrote(bytes);
        }
        for peer in &mut peers {
            let mut next = [0u16; 9];
            let mut acks = 0;
            while let Some(received) = peer.poll() {
                match received {
                    Received::Publish(message) if message.qos == 1 => {
                        peer.acknowledge(&message);
                        let (from, number) = message.text().split_once('-').expect("two numbers");
                        let from: usize = from.parse().expect("a number");
                        assert_eq!(number, next[from].to_string(), "in order, none missing");
                        next[from] += 1;
                    }
                    Received::PubAck(_) => acks += 1,
                    _ => {}
                }
            }
            assert_eq!((acks, next), (40, [40; 9]));
        }
    }
    // QoS 0 does not wait: a MiB is gathered for each full lane, the rest is dropped.
    let dropped =
        |scene: &mut Scene, reason: DropReason| scene.figure(|m| m.publish_dropped[0][reason as usize]);
    assert_eq!(dropped(scene, DropReason::LaneFull), 0);
    let large = wire::publish(scene.version, 0x30, "t", None, &[], "x".repeat(60_000));
    scene.core(|core| {
        core.hold_lanes(true);
        for turn in 0..40 {
            core.write_later(peers[0].socket(), &large);
            core.run_shuffled(turn);
        }
    });
    let lost = dropped(scene, DropReason::LaneFull);
    assert_eq!(lost > 0, scene.shards() > 1, "{lost} lost");
    scene.core(|core| {
        core.hold_lanes(false);
        core.run_shuffled(0);
    });
    let received: Vec<u64> = peers.iter_mut().map(|peer| peer.take_messages().len() as u64).collect();
    let slow = dropped(scene, DropReason::SlowConsumer);
    assert!(received.iter().all(|count| *count >= 17), "{received:?}");
    assert!(received.iter().sum::<u64>() + slow >= 9 * (40 - lost), "{received:?}, {lost} lost, {slow} slow");
}

fn two_that_fill_each_other(scene: &mut Scene) {
    let mut pair = [scene.connect("left"), scene.connect("right")];
    pair[0].subscribe("to/left", 1);
    pair[1].subscribe("to/right", 1);
    for peer in &pair {
        scene.core(|core| core.stall(peer.socket(), true));
    }
    let batch = |scene: &Scene, topic: &str| -> Vec<u8> {
        let publish = |number: u16| {
            wire::publish(scene.version, 0x32, topic, Some(number + 1), &[], format!("{number:0>1000}"))
        };
        (0..3000).flat_map(publish).collect()
    };
    let (to_right, to_left) = (batch(scene, "to/right"), batch(scene, "to/left"));
    pair[0].write(&to_right);
    pair[1].write(&to_left);
    assert!(scene.figure(|m| m.memory_bytes) < 16 * 1024 * 1024);
    // One of them reads: its own messages and the acks for what it sent come.
    for at in [0, 1] {
        scene.core(|core| core.stall(pair[at].socket(), false));
        let (mut messages, mut acks) = (0, 0);
        while let Some(received) = pair[at].poll() {
            match received {
                Received::Publish(message) => {
                    messages += 1;
                    pair[at].acknowledge(&message);
                }
                Received::PubAck(_) => acks += 1,
                other => panic!("{other:?}"),
            }
        }
        assert_eq!((messages, acks), (3000, 3000));
    }
    assert_eq!(scene.figure(|m| m.queue_messages + m.stored_messages), 0);
}

fn memory_budget(scene: &mut Scene) {
    let mut absent = scene.reconnect(&id("absent").kept(), false);
    absent.subscribe("t", 1);
    absent.cut();
    let mut publisher = scene.connect("publisher");
    let mut answered = 0;
    let mut sent = 0;
    // Until it is not read any more.
    for number in 0..1200u16 {
        let text = format!("{number:0>1000}");
        let publish = wire::publish(scene.version, 0x32, "t", Some(number + 1), &[], text);
        publisher.write(&publish);
        sent += 1;
    }
    answered += publisher.take_packets().len();
    let is_same_shard = scene.figure(|m| m.paused_connections) == 1;
    assert!(is_same_shard || scene.shards() > 1);
    if !is_same_shard {
        // Each shard has its own budget: the one of the absent client fills, the publisher's does not.
        return;
    }
    assert!(answered < sent && answered > 500, "{answered} of {sent}");
    let limit = 1024 * 1024;
    assert!(scene.figure(|m| m.memory_bytes) < limit);
    // Others are served, and new ones let in until 92 %.
    let mut other = scene.connect("other");
    other.ping();
    other.subscribe("else", 0);
    // Room again: it goes on by itself, to the end.
    let mut absent = scene.reconnect(&id("absent").kept(), true);
    let mut received = absent.take_messages().len();
    answered += publisher.take_packets().len();
    received += absent.take_messages().len();
    assert_eq!((received, answered), (1200, 1200));
    assert_eq!(scene.figure(|m| m.paused_connections), 0);
    // Above 92 %, by what nobody can be made to wait for: CONNECT is refused.
    absent.cut();
    for number in 0..30 {
        let big = "x".repeat(60_000);
        let mut peer = scene.try_connect(&id(&format!("w-{number}")).will(will("t", &big).qos(1)));
        let is_refused = peer.expect_connack().code != 0;
        peer.cut();
        if is_refused {
            break;
        }
    }
    let refused = if scene.is_v5() { ReasonCode::QuotaExceeded as u8 } else { 3 };
    let mut codes: Vec<u8> = vec![];
    for number in 0..10 {
        let mut new = scene.try_connect(&id(&format!("new-{number}")));
        codes.push(new.expect_connack().code);
    }
    assert!(codes.contains(&refused), "on the shard that is full: {codes:?}");
    assert!(codes.iter().all(|code| *code == refused || *code == 0), "{codes:?}");
    assert!(scene.shards() > 1 || codes == [refused; 10], "{codes:?}");
    other.ping();
}

fn mirrors(scene: &mut Scene) {
    // Two clients send back to the broker whatever they see, as bridges without care do.
    let mut mirrors = [scene.connect("mirror-0"), scene.connect("mirror-1")];
    let is_v5 = scene.is_v5();
    for mirror in &mut mirrors {
        let options = SubscriptionOptions { no_local: is_v5, ..at(0) };
        mirror.subscribe_with("#", options);
    }
    let mut publisher = scene.connect("publisher");
    publisher.publish("t", "echo", 0);
    let mut count = 0;
    for _ in 0..20 {
        for mirror in &mut mirrors {
            let messages = mirror.take_messages();
            for message in messages.iter().take(50) {
                mirror.publish(&message.topic, message.text(), 0);
                count += 1;
            }
        }
        // Whatever they do, others are served.
        publisher.ping();
    }
    assert!(count >= 20, "the loop goes round by the other mirror: {count}");
    if is_v5 {
        assert!(count <= 100, "each copy comes back once, not to its sender: {count}");
    }
    for mirror in mirrors {
        mirror.cut();
    }
    publisher.ping();
}

fn data_then_the_end(scene: &mut Scene) {
    let mut watcher = scene.subscriber("watcher", "#", 2);
    for level in 0..3u8 {
        let mut peer = scene.connect_with(&id("c").will(will("will", "lost")));
        let id = (level > 0).then_some(1);
        let publish =
            wire::publish(scene.version, 0x30 | level << 1, scene.topic("t"), id, &[], "last words");
        // The beginning of another packet is lost.
        peer.write(&[&publish[..], &publish[..3]].concat());
        peer.cut();
        watcher.expect_texts(&["last words", "lost"]);
    }
}

fn oversized_pieces(scene: &mut Scene) {
    let version = scene.version;
    let mut packets = vec![
        wire::publish(version, 0x32, "/".repeat(65_535), Some(1), &[], ""),
        wire::publish(version, 0x32, "x".repeat(65_535), Some(1), &[], ""),
        wire::publish(version, 0x32, "a/".repeat(2_000), Some(1), &[], ""),
    ];
    if scene.is_v5() {
        let pairs: Vec<u8> = (0..10_000).flat_map(|_| properties(|w| w.user_property("n", "v"))).collect();
        packets.push(wire::publish(version, 0x32, "t", Some(1), &pairs, ""));
    }
    for packet in packets {
        let mut peer = scene.connect("c");
        let start = super::cpu_time();
        peer.write(&packet);
        let taken = super::cpu_time() - start;
        peer.expect_end_or_disconnect();
        assert!(taken < std::time::Duration::from_millis(20), "{taken:?}, and that in a debug build");
    }
    let filters = ["+/".repeat(3_000) + "+", "/".repeat(4_000), "x".repeat(4_097)];
    for filter in filters {
        let mut peer = scene.connect("c");
        peer.send_subscribe(&[(&filter, at(0))], &[]);
        match (version, peer.poll()) {
            (_, Some(Received::SubAck(answer))) => assert!(answer.codes[0] >= 0x80),
            (_, other) => panic!("{other:?}"),
        }
    }
    // A CONNECT above its bound is closed without an answer; a client id above its bound is told.
    let mut peer = scene.try_connect(&id(&"x".repeat(65_000)));
    peer.expect_refusal(ReasonCode::ClientIdentifierNotValid);
    let mut peer = scene.try_connect(&id(&"x".repeat(65_535)));
    peer.expect_end();
    if scene.is_v5() {
        let section: Vec<u8> = (0..9_000).flat_map(|_| properties(|w| w.user_property("n", "v"))).collect();
        let bytes = wire::connect_with(version, wire::CLEAN, &section, wire::field("c"));
        let start = super::cpu_time();
        scene.expect_refused(&bytes, ReasonCode::ProtocolError);
        let taken = super::cpu_time() - start;
        assert!(taken < std::time::Duration::from_millis(20), "{taken:?}");
    }
}
