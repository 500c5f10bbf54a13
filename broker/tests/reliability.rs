//! Reliability bars that a black box can show; `docs/testing.md` has their figures. Sizes are those of CI, the full ones
//! come by `just reliability`.

mod support;

use std::collections::BTreeSet;
use std::io::Write;
use std::net::{Shutdown, TcpStream};
use std::time::{Duration, Instant};

use socket2::SockRef;
use support::crowd::{
    VERSIONS, connect_as, connect_bytes, descriptors, expect_end, full_or, open, ping, raise_own_limit,
    resident,
};
use support::packets::read_packet;
use support::{Broker, eventually};

#[test]
fn r_sec_3_qos_2_without_pubrel_is_bounded() {
    let broker = Broker::start();
    for version in VERSIONS {
        let mut client = connect_as(broker.address(), version, "flood");
        let before = resident(broker.pid());
        let mut flood = vec![];
        for packet_id in 1..=20_000u16 {
            let [high, low] = packet_id.to_be_bytes();
            let body: &[u8] = if version.1 == 5 {
                &[0, 1, b't', high, low, 0, b'm']
            } else {
                &[0, 1, b't', high, low, b'm']
            };
            flood.extend([0x34, body.len() as u8]);
            flood.extend(body);
        }
        // The broker may have closed before it is all written.
        let _ = client.write_all(&flood);
        let answers = expect_end(&mut client);
        let acks = answers.chunks_exact(4).take_while(|ack| ack[0] == 0x50 || ack[0] == 0x40).count();
        assert!(acks <= 2_000, "{acks} of 20,000 accepted");
        if version.1 == 5 && !answers.is_empty() {
            let tail: Vec<u8> = answers.iter().rev().take(4).rev().copied().collect();
            assert!(tail.contains(&0x93), "{tail:02x?}");
        }
        let grown = resident(broker.pid()).saturating_sub(before);
        assert!(grown < 4 * 1024 * 1024, "{grown} bytes");
    }
}

#[test]
fn d_9_takeovers_of_one_client_id() {
    let broker = Broker::with_shards(2).start();
    let count = full_or(6_000, 1_000);
    let mut times = vec![];
    let mut live = connect_as(broker.address(), VERSIONS[2], "same");
    for _ in 0..count {
        let start = Instant::now();
        let next = connect_as(broker.address(), VERSIONS[2], "same");
        times.push(start.elapsed());
        let last = expect_end(&mut live);
        assert!(last == [0xE0, 2, 0x8E, 0], "{last:02x?}");
        live = next;
    }
    ping(&mut live);
    times.sort();
    let p99 = times[count * 99 / 100];
    println!("{count} takeovers: p50 {:?}, p99 {p99:?}", times[count / 2]);
    // Ten milliseconds on a quiet machine.
    assert!(p99 < Duration::from_millis(500), "{p99:?}");
}

/// CONNECT (3.1.1) with the will `w/NUMBER` at QoS 0, whose payload is its number.
fn connect_with_will(number: usize) -> Vec<u8> {
    let mut body = b"\x00\x04MQTT\x04\x06\x00\x00".to_vec();
    for field in [format!("dying-{number}"), format!("w/{number}"), number.to_string()] {
        body.extend([0, field.len() as u8]);
        body.extend(field.bytes());
    }
    [&[0x10, body.len() as u8][..], &body].concat()
}

#[test]
fn d_13_wills_of_ten_thousand_clients() {
    raise_own_limit();
    let count = full_or(10_000, 3_000);
    let broker = Broker::with_shards(2).start();
    let mut watcher = connect_as(broker.address(), VERSIONS[1], "watcher");
    watcher.write_all(b"\x82\x08\x00\x01\x00\x03w/#\x00").expect("the broker reads");
    assert_eq!(read_packet(&mut watcher)[0], 0x90);
    let clients: Vec<TcpStream> = (0..count)
        .map(|number| {
            let mut stream = open(broker.address());
            stream.write_all(&connect_with_will(number)).expect("the broker reads");
            assert_eq!(read_packet(&mut stream), [0x20, 2, 0, 0]);
            // Its end is a reset.
            SockRef::from(&stream).set_linger(Some(Duration::ZERO)).expect("a TCP option");
            stream
        })
        .collect();
    let start = Instant::now();
    drop(clients);
    let mut seen = BTreeSet::new();
    while seen.len() < count {
        let publish = read_packet(&mut watcher);
        let topic_end = 4 + publish[3] as usize;
        let number = String::from_utf8_lossy(&publish[topic_end..]).parse::<usize>().expect("a number");
        assert!(seen.insert(number), "the will of {number} comes twice");
    }
    println!("{count} wills in {:?}", start.elapsed());
    assert!(start.elapsed() < Duration::from_secs(10));
    ping(&mut watcher);
}

#[test]
fn r_res_2_nothing_is_left_of_clients_that_have_gone() {
    raise_own_limit();
    let (cycles, count) = (full_or(100, 12), full_or(10_000, 500));
    let broker = Broker::with_shards(2).start();
    let own = descriptors(broker.pid());
    let mut sizes = vec![];
    for cycle in 0..cycles {
        let clients: Vec<TcpStream> = (0..count)
            .map(|number| {
                let mut stream = open(broker.address());
                let bytes = connect_bytes(VERSIONS[number % 3], &format!("c-{cycle}-{number}"));
                stream.write_all(&bytes).expect("the broker reads");
                stream
            })
            .collect();
        for mut stream in clients {
            assert_eq!(read_packet(&mut stream)[0], 0x20);
            // In order, and in the next cycle without a word.
            let _ =
                if cycle % 2 == 0 { stream.write_all(&[0xE0, 0]) } else { stream.shutdown(Shutdown::Both) };
        }
        eventually("all descriptors have gone", || (descriptors(broker.pid()) <= own).then_some(()));
        sizes.push(resident(broker.pid()));
    }
    let middle = |sizes: &[u64]| {
        let mut sizes = sizes.to_vec();
        sizes.sort();
        sizes[sizes.len() / 2]
    };
    let (baseline, last) = (middle(&sizes[cycles / 4..cycles / 2]), middle(&sizes[cycles * 3 / 4..]));
    let most = *sizes[cycles / 4..].iter().max().expect("some cycles");
    println!(
        "{cycles} cycles of {count}: median of {baseline} resident bytes in the second quarter, {last} in the last \
         (most after any cycle: {most})"
    );
    assert!(last <= baseline + baseline / 50, "{sizes:?}");
    // A megabyte more for what the allocator may hold for a moment.
    assert!(most <= baseline + baseline / 50 + 1024 * 1024, "{sizes:?}");
}
