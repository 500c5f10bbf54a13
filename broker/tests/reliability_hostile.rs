//! R-SEC-4 and R-SEC-5: clients that send what is legal but far too large, and clients that begin and do not end.
//! `docs/testing.md` has the figures; `just reliability` runs them at full size.

mod support;

use std::io::Write;
use std::net::TcpStream;
use std::time::{Duration, Instant};

use support::Broker;
use support::crowd::{
    VERSIONS, connect_as, connect_bytes, cpu_time, expect_end, full_or, open, ping, raise_own_limit, resident,
};
use support::packets::{field, packet, read_packet};

/// CONNECT of version 5 with these properties.
fn connect_5(properties: &[u8], client_id: &str) -> Vec<u8> {
    let mut body = b"\x00\x04MQTT\x05\x02\x00\x00".to_vec();
    // A packet without its first byte is a length and what it counts.
    body.extend(&packet(0, properties)[1..]);
    body.extend(field(client_id));
    packet(0x10, &body)
}

#[test]
fn r_sec_4_oversized_packets_are_refused_within_bounds() {
    const ROUNDS: u32 = 50;
    let user_properties = |count: usize| b"\x26\x00\x01n\x00\x01v".repeat(count);
    let publish = |topic: &str| packet(0x30, &[&field(topic)[..], &[0]].concat());
    let broker = Broker::start();
    // What it is, whether it is said before CONNECT, its bytes, and the code that answers it (0: none).
    let items = [
        ("CONNECT with 10,000 user properties", true, connect_5(&user_properties(10_000), "c"), 0),
        ("CONNECT with 9,000 user properties", true, connect_5(&user_properties(9_000), "c"), 0x82),
        ("client id of 65,535 bytes", true, connect_5(&[], &"x".repeat(65_535)), 0),
        ("client id of 65,000 bytes", true, connect_5(&[], &"x".repeat(65_000)), 0x85),
        ("topic of 65,536 levels", false, publish(&"/".repeat(65_535)), 0x90),
    ];
    let before = resident(broker.pid());
    for (name, is_first, bytes, code) in items {
        let (cpu, mut told) = (cpu_time(broker.pid()), 0);
        for round in 0..ROUNDS {
            let mut stream = match is_first {
                true => open(broker.address()),
                false => connect_as(broker.address(), VERSIONS[2], &format!("deep-{round}")),
            };
            // The broker may have closed before it is all written.
            let _ = stream.write_all(&bytes);
            let answer = expect_end(&mut stream);
            let found = match answer.first() {
                None => 0,
                Some(0x20) => answer[3],
                Some(_) => answer[2],
            };
            // A reset may overtake the answer.
            assert!(found == code || answer.is_empty(), "{name}: {answer:02x?}");
            told += u32::from(!answer.is_empty());
        }
        assert!(told > 0 || code == 0, "{name}: nobody is told");
        let each = (cpu_time(broker.pid()) - cpu) / ROUNDS;
        println!("{name}: {each:?} of processor time");
        assert!(
            each <= Duration::from_millis(if cfg!(debug_assertions) { 20 } else { 1 }),
            "{name}: {each:?}"
        );
    }
    let grown = resident(broker.pid()).saturating_sub(before);
    assert!(grown < 16 << 20, "{grown} bytes");
    ping(&mut connect_as(broker.address(), VERSIONS[2], "after"));
}

#[test]
fn r_sec_5_connections_that_do_not_finish_are_closed_in_time() {
    raise_own_limit();
    let count = full_or(8_000, 1_000);
    let deadline = Duration::from_secs(full_or(5, 2) as u64);
    let timeout = format!("{}s", deadline.as_secs());
    let broker = Broker::with_shards(2).set("mqtt.connect_timeout", &timeout).start();
    let start = Instant::now();
    let mut silent: Vec<TcpStream> = (0..count).map(|_| open(broker.address())).collect();
    let mut trickling: Vec<TcpStream> = (0..count).map(|_| open(broker.address())).collect();
    let opened = start.elapsed();
    let bytes = connect_bytes(VERSIONS[1], "a client that takes its time");
    let mut times = vec![];
    // A byte a second from each, and others who want to be served.
    for byte in bytes.iter().take(deadline.as_secs() as usize) {
        let next = Instant::now() + Duration::from_secs(1);
        for stream in &mut trickling {
            let _ = stream.write_all(&[*byte]);
        }
        while Instant::now() < next {
            let began = Instant::now();
            ping(&mut connect_as(broker.address(), VERSIONS[times.len() % 3], "legitimate"));
            times.push(began.elapsed());
            std::thread::sleep(Duration::from_millis(5));
        }
    }
    for stream in silent.iter_mut().chain(&mut trickling) {
        assert!(expect_end(stream).is_empty());
    }
    let closed = start.elapsed();
    times.sort();
    let p99 = times[times.len() * 99 / 100];
    println!(
        "{count} silent and {count} slow connections closed in {closed:?}; {} others: p99 {p99:?}",
        times.len()
    );
    assert!(closed < opened + deadline + Duration::from_secs(4), "{closed:?}, opened in {opened:?}");
    // A tenth of a second on a quiet machine.
    assert!(p99 < Duration::from_millis(500), "{p99:?}");
}

#[test]
fn r_sec_4_ten_thousand_deep_filters() {
    let count = 10_000usize;
    let broker = Broker::start();
    let mut reader = connect_as(broker.address(), VERSIONS[1], "reader");
    // 64 levels of `+`, of which the bits of the number make some `a`: all match.
    let filter = |number: usize| {
        let level = |at: usize| if number >> (at % 14) & 1 == 1 && at >= 50 { "a" } else { "+" };
        (0..64).map(level).collect::<Vec<_>>().join("/")
    };
    let cpu = cpu_time(broker.pid());
    for first in (0..count).step_by(1_000) {
        let filters = (first..first + 1_000).flat_map(|number| [&field(&filter(number))[..], &[0]].concat());
        let body: Vec<u8> = [0, 1].into_iter().chain(filters).collect();
        reader.write_all(&packet(0x82, &body)).expect("the broker reads");
        let suback = read_packet(&mut reader);
        assert!(suback[suback.len() - 1_000..].iter().all(|code| *code == 0));
    }
    let subscribed = (cpu_time(broker.pid()) - cpu) / count as u32;
    let mut writer = connect_as(broker.address(), VERSIONS[1], "writer");
    let publish = packet(0x30, &field(&["a"; 64].join("/")));
    let cpu = cpu_time(broker.pid());
    for _ in 0..20 {
        writer.write_all(&publish).expect("the broker reads");
        assert_eq!(read_packet(&mut reader), publish, "one copy");
    }
    let published = (cpu_time(broker.pid()) - cpu) / 20;
    println!(
        "{count} filters of 64 levels: {subscribed:?} each, {published:?} for a publish that matches all"
    );
    assert!(subscribed < Duration::from_millis(1), "{subscribed:?}");
    assert!(published < Duration::from_millis(250), "{published:?}");
    ping(&mut reader);
}
