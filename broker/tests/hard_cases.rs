//! Hard cases that need the real process: its memory and its descriptors (`docs/hard-cases.md`).

mod support;

use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::crowd::{
    VERSIONS, connect_as, connect_bytes, cpu_time, descriptors, expect_end, open, ping, raise_own_limit,
    resident,
};
use support::packets::{connect, read_packet};
use support::{Broker, eventually};

#[test]
fn hc_lim_2_claimed_lengths_cost_no_memory() {
    const COUNT: usize = 3_000;
    raise_own_limit();
    let broker = Broker::with_shards(2).start();
    let mut live: Vec<TcpStream> = (0..COUNT)
        .map(|number| connect_as(broker.address(), VERSIONS[number % 3], &format!("live-{number}")))
        .collect();
    let before = resident(broker.pid());
    let start = Instant::now();
    // Within the bounds: half a CONNECT of 60 KB, a PUBLISH of a megabyte that does not come.
    let mut silent = vec![];
    for stream in &mut live {
        let mut half = open(broker.address());
        half.write_all(&[0x10, 0xE0, 0xD4, 0x03, 0, 4, b'M']).expect("the broker reads");
        silent.push(half);
        stream.write_all(&[0x30, 0xC0, 0x84, 0x3D, 0, 1, b't']).expect("the broker reads");
    }
    // Far above them: 256 MiB.
    let mut greedy: Vec<TcpStream> = (0..COUNT)
        .map(|_| {
            let mut stream = open(broker.address());
            stream.write_all(&[0x10, 0xFF, 0xFF, 0xFF, 0x7F]).expect("the broker reads");
            stream
        })
        .collect();
    for stream in &mut greedy {
        assert!(expect_end(stream).is_empty());
    }
    let mut probe = connect(broker.address(), 4, "probe");
    ping(&mut probe);
    let grown = resident(broker.pid()).saturating_sub(before);
    assert!(grown <= 3 * COUNT as u64 * 4096, "{grown} bytes more for {} connections", 3 * COUNT);
    for stream in &mut silent {
        assert!(expect_end(stream).is_empty());
    }
    let taken = start.elapsed();
    assert!(taken >= Duration::from_secs(4), "the deadline of CONNECT is five seconds: {taken:?}");
    assert!(taken < Duration::from_secs(25), "{taken:?}");
    println!("{} connections claimed more than they sent: {grown} bytes, {taken:?}", 3 * COUNT);
    // Who is live and claims 256 MiB is told, in the version that can.
    for version in VERSIONS {
        let mut stream = connect_as(broker.address(), version, "claims");
        stream.write_all(&[0x30, 0xFF, 0xFF, 0xFF, 0x7F]).expect("the broker reads");
        let last = expect_end(&mut stream);
        let expected: &[u8] = if version.1 == 5 { &[0xE0, 2, 0x95, 0] } else { &[] };
        assert!(last == expected || last == [0xE0, 2, 0x95, 0], "{last:02x?}");
    }
}

#[test]
fn hc_lim_14_descriptors_run_out() {
    const LIMIT: u64 = 256;
    let broker = Broker::with_shards(1).descriptors_max(LIMIT).start();
    let mut served: Vec<TcpStream> = (0..10)
        .map(|number| connect_as(broker.address(), VERSIONS[number % 3], &format!("served-{number}")))
        .collect();
    // The kernel completes their handshakes; the broker cannot take them.
    let waiting: Vec<TcpStream> = (0..300)
        .map(|number| {
            let mut stream = open(broker.address());
            let bytes = connect_bytes(VERSIONS[number % 3], &format!("waiting-{number}"));
            stream.write_all(&bytes).expect("the kernel takes it");
            stream
        })
        .collect();
    broker.wait_for_log(|line| {
        line["message"].as_str().is_some_and(|text| text.contains("accepting is paused"))
    });
    assert!(descriptors(broker.pid()) < LIMIT, "some are kept for the process itself");
    assert_eq!(broker.get("/livez").0, 200);
    let (cpu, start) = (cpu_time(broker.pid()), Instant::now());
    while start.elapsed() < Duration::from_secs(3) {
        served.iter_mut().for_each(ping);
        std::thread::sleep(Duration::from_millis(200));
    }
    let busy = cpu_time(broker.pid()) - cpu;
    assert!(busy < start.elapsed() / 4, "{busy:?} of {:?}: it turns in a circle", start.elapsed());
    let log = broker.log_text();
    let lines = log.lines().filter(|line| line.contains("accepting is paused")).count();
    assert!((1..=6).contains(&lines), "{lines} lines in three seconds:\n{log}");
    // Others leave: new ones are let in, though one of them may still be turned away.
    drop(waiting);
    let mut late = eventually("a new client is served", || {
        let mut late = open(broker.address());
        late.write_all(&connect_bytes(VERSIONS[1], "late")).ok()?;
        let mut connack = [0; 4];
        late.read_exact(&mut connack).ok().map(|()| late)
    });
    ping(&mut late);
    served.iter_mut().for_each(ping);
}

#[test]
fn hc_sub_10_published_right_after_suback() {
    let broker = Broker::with_shards(2).start();
    let mut readers: Vec<TcpStream> =
        (0..4).map(|number| connect_as(broker.address(), VERSIONS[1], &format!("reader-{number}"))).collect();
    let mut writers: Vec<TcpStream> =
        (0..4).map(|number| connect_as(broker.address(), VERSIONS[1], &format!("writer-{number}"))).collect();
    for round in 0..2_000usize {
        let (reader, writer) = (&mut readers[round % 4], &mut writers[round / 4 % 4]);
        let topic = format!("race/{}", round % 97);
        let mut subscribe = vec![0x82, 5 + topic.len() as u8, 0, 1, 0, topic.len() as u8];
        subscribe.extend(topic.bytes());
        subscribe.push(0);
        reader.write_all(&subscribe).expect("the broker reads");
        assert_eq!(read_packet(reader), [0x90, 3, 0, 1, 0]);
        let mut publish = vec![0x30, 2 + topic.len() as u8 + 2, 0, topic.len() as u8];
        publish.extend(topic.bytes());
        publish.extend((round as u16).to_be_bytes());
        writer.write_all(&publish).expect("the broker reads");
        assert_eq!(read_packet(reader), publish, "round {round}");
        let mut unsubscribe = vec![0xA2, 4 + topic.len() as u8, 0, 2, 0, topic.len() as u8];
        unsubscribe.extend(topic.bytes());
        reader.write_all(&unsubscribe).expect("the broker reads");
        assert_eq!(read_packet(reader), [0xB0, 2, 0, 2]);
    }
}
