//! An orderly stop under load (`docs/hard-cases.md`): who is told what, what still leaves, and that it ends in time.

mod support;

use std::collections::HashSet;
use std::io::Write;
use std::net::{SocketAddr, TcpStream};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::time::{Duration, Instant};

use protocol::{Connect, Decoder, Packet, Properties, PropertyId, PropertyWriter, QoS, Role, Version, Will};
use support::crowd::{VERSIONS, connect_as, connect_bytes, expect_end, full_or, open, ping, raise_own_limit};
use support::openmetrics::Exposition;
use support::packets::{field, packet, read_packet};
use support::{Broker, eventually};

/// Those of `crowd::VERSIONS`.
const DECODED: [Version; 3] = [Version::V31, Version::V311, Version::V5];
/// Drain time by default, and what the rest of the end takes on a busy machine.
const END_MAX: Duration = Duration::from_secs(12);

/// A client whose session outlives it and whose will waits an hour where the version has a delay.
fn connect_lasting(address: SocketAddr, version: Version, name: &str) -> TcpStream {
    let (mut expiry, mut delay) = (vec![], vec![]);
    if version == Version::V5 {
        PropertyWriter::new(&mut expiry).u32(PropertyId::SessionExpiryInterval, 3600);
        PropertyWriter::new(&mut delay).u32(PropertyId::WillDelayInterval, 3600);
    }
    let will = Will {
        qos: QoS::AtLeastOnce,
        retain: false,
        topic: "wills",
        payload: name.as_bytes(),
        properties: Properties::from_wire(&delay),
    };
    let connect = Connect {
        version,
        is_bridge: false,
        clean_start: false,
        keep_alive: 0,
        client_id: name,
        will: Some(will),
        user_name: None,
        password: None,
        properties: Properties::from_wire(&expiry),
    };
    let mut bytes = vec![];
    connect.encode(version, &mut bytes);
    let mut stream = open(address);
    stream.write_all(&bytes).expect("the broker reads");
    let connack = read_packet(&mut stream);
    assert_eq!((connack[0], connack[3]), (0x20, 0), "{connack:?}");
    stream
}

/// At QoS 1.
fn subscribe(stream: &mut TcpStream, version: Version, filter: &str) {
    let properties: &[u8] = if version == Version::V5 { &[0] } else { &[] };
    let body = [&[0, 1], properties, &field(filter), &[1]].concat();
    stream.write_all(&packet(0x82, &body)).expect("the broker reads");
    assert_eq!(read_packet(stream)[0], 0x90);
}

/// PUBLISHes of version 5 at QoS 1, with packet ids from 1 on.
fn publishes(topic: &str, count: u16) -> Vec<u8> {
    let publish = |packet_id: u16| {
        packet(0x32, &[&field(topic)[..], &packet_id.to_be_bytes(), &[0], b"message"].concat())
    };
    (1..=count).flat_map(publish).collect()
}

/// The packets of what came until the end, handed on one by one.
fn for_each_packet(version: Version, bytes: &[u8], mut look: impl FnMut(Packet<'_>)) {
    let decoder = Decoder { role: Role::Client, version: Some(version), packet_size_max: 1 << 20 };
    let mut at = 0;
    while let Some((packet, len)) = decoder.next_packet(&bytes[at..]).expect("the broker's packets are valid")
    {
        look(packet);
        at += len;
    }
    assert_eq!(at, bytes.len(), "whole packets");
}

/// Version 5 is told why, as its last word; 3.x has no word for it.
fn expect_told(version: Version, bytes: &[u8]) {
    let mut disconnects = 0;
    for_each_packet(version, bytes, |packet| {
        assert_eq!(disconnects, 0, "nothing follows DISCONNECT: {packet:?}");
        if let Packet::Disconnect(disconnect) = packet {
            assert_eq!(disconnect.reason as u8, 0x8B);
            disconnects += 1;
        }
    });
    assert_eq!(disconnects, u32::from(version == Version::V5), "{bytes:02x?}");
}

fn gauge(broker: &Broker, name: &str) -> f64 {
    Exposition::parse(&broker.get("/metrics").1).sum(name, &[])
}

#[test]
fn hc_shu_1_an_orderly_stop_with_thousands() {
    const QUEUES: usize = 30;
    const IN_FLIGHT: usize = 30;
    const WAITING: u16 = 50;
    const ACKS: u16 = 500;
    raise_own_limit();
    let count = full_or(10_000, 3_000);
    let mut broker = Broker::with_shards(2).start();
    let address = broker.address();
    let idle: Vec<(Version, TcpStream)> = (0..count)
        .map(|number| {
            let (version, name) = (number % 3, format!("idle-{number}"));
            let stream = match number % 2 {
                0 => connect_as(address, VERSIONS[version], &name),
                _ => connect_lasting(address, DECODED[version], &name),
            };
            (DECODED[version], stream)
        })
        .collect();
    // Queues of clients that are away; some of them have left a will that waits.
    for number in 0..QUEUES {
        let version = DECODED[number % 3];
        let mut stream = connect_lasting(address, version, &format!("away-{number}"));
        subscribe(&mut stream, version, "work");
        let goodbye: &[u8] = if number % 2 == 0 { &[0xE0, 0] } else { &[] };
        stream.write_all(goodbye).expect("the broker reads");
    }
    eventually("all of them are away", || (gauge(&broker, "mqtt_connections") == count as f64).then_some(()));
    // Clients that never acknowledge.
    let in_flight: Vec<(Version, TcpStream)> = (0..IN_FLIGHT)
        .map(|number| {
            let version = DECODED[number % 3];
            let mut stream = connect_lasting(address, version, &format!("silent-{number}"));
            subscribe(&mut stream, version, "work");
            (version, stream)
        })
        .collect();
    let mut watcher = connect_as(address, VERSIONS[2], "watcher");
    subscribe(&mut watcher, Version::V5, "wills");
    let mut worker = connect_as(address, VERSIONS[2], "worker");
    worker.write_all(&publishes("work", WAITING)).expect("the broker reads");
    eventually("the messages wait", || {
        let waits = gauge(&broker, "mqtt_queue_messages") >= QUEUES as f64 * f64::from(WAITING);
        let is_sent = gauge(&broker, "mqtt_inflight_messages") >= IN_FLIGHT as f64 * f64::from(WAITING);
        (waits && is_sent).then_some(())
    });
    // A publisher whose acknowledgements nobody has read yet; that all of it has been taken, another client sees.
    let mut witness = connect_as(address, VERSIONS[2], "witness");
    subscribe(&mut witness, Version::V5, "acknowledged");
    let mut publisher = connect_as(address, VERSIONS[2], "publisher");
    publisher.write_all(&publishes("acknowledged", ACKS)).expect("the broker reads");
    for _ in 0..ACKS {
        assert_eq!(read_packet(&mut witness)[0] & 0xF0, 0x30);
    }

    let start = Instant::now();
    broker.terminate();
    for (version, mut stream) in idle.into_iter().chain(in_flight) {
        expect_told(version, &expect_end(&mut stream));
    }
    let last = expect_end(&mut publisher);
    expect_told(Version::V5, &last);
    let mut acknowledged = vec![];
    for_each_packet(Version::V5, &last, |packet| {
        if let Packet::PubAck(ack) = packet {
            acknowledged.push(ack.packet_id);
        }
    });
    assert_eq!(acknowledged, (1..=ACKS).collect::<Vec<_>>(), "what was taken is acknowledged first");
    // Wills that are due may still reach who is connected, each once; those that wait do not.
    let last = expect_end(&mut watcher);
    expect_told(Version::V5, &last);
    let mut wills = HashSet::new();
    for_each_packet(Version::V5, &last, |packet| {
        if let Packet::Publish(publish) = packet {
            let name = String::from_utf8(publish.payload.to_vec()).expect("a name");
            let number: usize = name.rsplit('-').next().and_then(|text| text.parse().ok()).expect("a number");
            assert_ne!(DECODED[number % 3], Version::V5, "{name}: its will waits for an hour");
            assert!(wills.insert(name.clone()), "{name}: twice");
        }
    });
    assert_eq!(broker.wait().code(), Some(0));
    let taken = start.elapsed();
    assert!(taken < END_MAX, "{taken:?}");
    println!("{count} clients were told in {taken:?}; {} wills came before the end", wills.len());
}

#[test]
fn hc_shu_1_a_second_signal_hurries_also_with_wills_and_queues() {
    for version in DECODED {
        let mut broker = Broker::with_shards(2).set("drain.delay", "10m").start();
        let mut client = connect_lasting(broker.address(), version, "client");
        subscribe(&mut client, version, "work");
        let mut worker = connect_as(broker.address(), VERSIONS[2], "worker");
        worker.write_all(&publishes("work", 50)).expect("the broker reads");
        ping_behind_acks(&mut worker, 50);
        broker.terminate();
        broker.wait_for_log(|line| line["message"] == "stopping");
        let start = Instant::now();
        broker.terminate();
        assert_eq!(broker.wait().code(), Some(0));
        assert!(start.elapsed() < Duration::from_secs(4), "{:?}", start.elapsed());
        expect_end(&mut client);
    }
}

fn ping_behind_acks(stream: &mut TcpStream, count: u16) {
    for packet_id in 1..=count {
        let ack = read_packet(stream);
        assert_eq!((ack[0], u16::from_be_bytes([ack[2], ack[3]])), (0x40, packet_id));
    }
    ping(stream);
}

#[test]
fn hc_shu_2_a_stop_amid_connects_and_takeovers() {
    for version in VERSIONS {
        let mut broker = Broker::with_shards(2).start();
        let address = broker.address();
        let (is_over, served) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU32::new(0)));
        let threads: Vec<_> = (0..4)
            .map(|thread| {
                let (is_over, served) = (is_over.clone(), served.clone());
                std::thread::spawn(move || {
                    let mut kept = vec![];
                    for number in 0.. {
                        if is_over.load(Ordering::Relaxed) {
                            return;
                        }
                        let Ok(mut stream) = TcpStream::connect(address) else { continue };
                        // Half of them fight for few ids.
                        let name = match number % 2 {
                            0 => format!("same-{}", number % 6),
                            _ => format!("own-{thread}-{number}"),
                        };
                        let is_sent = stream.write_all(&connect_bytes(version, &name)).is_ok();
                        served.fetch_add(is_sent as u32, Ordering::Relaxed);
                        kept.push(stream);
                        if kept.len() > 100 {
                            kept.clear();
                        }
                    }
                })
            })
            .collect();
        eventually("it is in the middle of it", || (served.load(Ordering::Relaxed) > 500).then_some(()));
        broker.terminate();
        let status = broker.wait();
        is_over.store(true, Ordering::Relaxed);
        for thread in threads {
            thread.join().expect("no client panics");
        }
        assert_eq!(status.code(), Some(0), "{version:?}");
    }
}
