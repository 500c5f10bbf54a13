//! What becomes of clients when the broker's own code is wrong (O-5). Debug builds panic where `SHARDMQ_FAULT` says.

mod support;

use std::io::Write;
use std::net::TcpStream;

use support::BrokerBuilder;
use support::crowd::{VERSIONS, connect_as, expect_end, ping};
use support::packets::{field, packet, read_packet};
use support::{Broker, shardmq};

const VARIABLE: &str = "SHARDMQ_FAULT";

/// PUBLISH at QoS 1 with packet id 7.
fn publish(level: u8, topic: &str) -> Vec<u8> {
    let properties: &[u8] = if level == 5 { &[0] } else { &[] };
    packet(0x32, &[&field(topic)[..], &[0, 7], properties, b"payload"].concat())
}

fn expect_puback(stream: &mut TcpStream) {
    let puback = read_packet(stream);
    assert_eq!((puback[0], &puback[2..4]), (0x40, &[0, 7][..]), "{puback:?}");
}

#[cfg(debug_assertions)]
mod in_debug_builds {
    use std::time::{Duration, Instant};

    use support::crowd::{connect_bytes, open};
    use support::logs::{FORGERY, assert_no_forgery};
    use support::openmetrics::Exposition;

    use super::*;

    /// The shard says it at once; what remains is the backtrace of a debug build.
    const END_MAX: Duration = Duration::from_secs(10);

    #[test]
    fn hc_lim_15_a_panic_of_a_shard_ends_the_process_and_says_why() {
        for version in VERSIONS {
            let directory = tempfile::tempdir().expect("a directory");
            let start = |builder: BrokerBuilder| {
                // Another address than that of clients, so that nobody takes its port in between.
                let builder = builder.argument("--data-dir").argument(directory.path().join("data"));
                builder.variable(VARIABLE, "panic-on-topic=fault/core").start()
            };
            let mut broker = start(Broker::with_shards(2).listeners(&["tcp://127.0.0.2:0"]));
            let address = broker.address();
            let mut watcher = connect_as(address, version, "watcher");
            let mut publisher = connect_as(address, version, "publisher");
            publisher.write_all(&publish(version.1, "fault/none")).expect("the broker reads");
            expect_puback(&mut publisher);
            let start_of_end = Instant::now();
            publisher.write_all(&publish(version.1, "fault/core")).expect("the broker reads");
            for (name, stream) in [("publisher", &mut publisher), ("watcher", &mut watcher)] {
                let last = expect_end(stream);
                assert!(last.is_empty(), "{name}: a shard that failed says nothing more: {last:02x?}");
            }
            assert_eq!(broker.wait().code(), Some(70));
            assert!(start_of_end.elapsed() < END_MAX, "{:?}", start_of_end.elapsed());
            let cause = broker.wait_for_log(|line| line["message"] == "a thread panicked");
            let said = |field: &str, text: &str| {
                assert!(cause[field].as_str().is_some_and(|said| said.contains(text)), "{field}: {cause}");
            };
            said("thread", "shard-");
            said("panic", "a fault was asked for");
            said("place", "shard/src/");
            said("backtrace", "on_publish");
            let end = broker.wait_for_log(|line| line["panic"].is_string() && line["shard"].is_u64());
            assert_eq!(cause["thread"], format!("shard-{}", end["shard"]), "{end}");
            assert!(end["message"].as_str().is_some_and(|text| text.contains("the process exits")), "{end}");
            // What a supervisor does.
            let broker = start(Broker::with_shards(2).listeners(&[&format!("tcp://{address}")]));
            let mut publisher = connect_as(broker.address(), version, "publisher");
            publisher.write_all(&publish(version.1, "fault/none")).expect("the broker reads");
            expect_puback(&mut publisher);
        }
    }

    #[test]
    fn hc_lim_15_a_panic_of_the_decoder_costs_the_client_that_caused_it() {
        const VICTIMS: usize = 12;
        let broker = Broker::with_shards(2).variable(VARIABLE, "panic-in-decoder=spoilt").start();
        let address = broker.address();
        let mut others: Vec<TcpStream> =
            (0..4).map(|number| connect_as(address, VERSIONS[1], &format!("other-{number}"))).collect();
        for number in 0..VICTIMS {
            let version = VERSIONS[number % 3];
            let mut victim = connect_as(address, version, &format!("victim-{number}"));
            let spoilt = publish(version.1, "spoilt");
            // Also when its bytes come in two parts, of which the first is kept.
            let (first, second) = spoilt.split_at(if number % 2 == 0 { 0 } else { 5 });
            victim.write_all(&publish(version.1, "sound")).expect("the broker reads");
            victim.write_all(first).expect("the broker reads");
            expect_puback(&mut victim);
            victim.write_all(second).expect("the broker reads");
            let expected: &[u8] = if version.1 == 5 { &[0xE0, 2, 0x80, 0] } else { &[] };
            let last = expect_end(&mut victim);
            assert!(last == expected || last == expected[..expected.len().min(3)], "{last:02x?}");
            // It may come again, and the others have noticed nothing.
            let mut again = connect_as(address, version, &format!("victim-{number}"));
            again.write_all(&publish(version.1, "sound")).expect("the broker reads");
            expect_puback(&mut again);
            others.iter_mut().for_each(ping);
        }
        let mut stranger = open(address);
        stranger.write_all(&connect_bytes(VERSIONS[2], "spoilt")).expect("the broker reads");
        assert!(expect_end(&mut stranger).is_empty(), "no CONNACK for what could not be read");
        others.iter_mut().for_each(ping);
        let figures = Exposition::parse(&broker.get("/metrics").1);
        for (name, expected) in
            [("mqtt_disconnects_total", VICTIMS as f64), ("mqtt_connect_rejected_total", 1.0)]
        {
            assert_eq!(figures.sum(name, &["reason=\"internal_error\""]), expected, "{name}");
        }
        let cause = broker.wait_for_log(|line| line["message"] == "a thread panicked");
        for (field, text) in [("panic", "spoilt"), ("place", "shard/src/"), ("backtrace", "on_bytes")] {
            assert!(cause[field].as_str().is_some_and(|said| said.contains(text)), "{field}: {cause}");
        }
        let log = broker.log_text();
        let backtraces = log.lines().filter(|line| line.contains("\"backtrace\"")).count();
        assert_eq!(backtraces, 8, "the first ones only: they cost the shard's time");
    }

    #[test]
    fn hc_con_22_a_panic_over_what_a_client_sent_cannot_forge_log_lines() {
        let as_json: fn(BrokerBuilder) -> BrokerBuilder = |builder| builder;
        for format in [as_json, BrokerBuilder::text_log] {
            let fault = format!("panic-on-topic={FORGERY}");
            let mut broker = format(Broker::with_shards(1).variable(VARIABLE, &fault)).start();
            let mut publisher = connect_as(broker.address(), VERSIONS[1], "publisher");
            publisher.write_all(&publish(4, FORGERY)).expect("the broker reads");
            expect_end(&mut publisher);
            assert_eq!(broker.wait().code(), Some(70));
            let log = broker.log_text();
            assert!(log.contains("a fault was asked for"), "{log}");
            assert_no_forgery(&log);
        }
    }

    #[test]
    fn an_unknown_fault_is_refused() {
        let mut command = shardmq(["serve", "--admin", "off", "--listener", "tcp://127.0.0.1:0"]);
        let output = command.env(VARIABLE, "nonsense").output().expect("the binary was built");
        let log = String::from_utf8_lossy(&output.stderr).into_owned();
        assert_eq!(output.status.code(), Some(3), "{log}");
        assert!(log.contains(VARIABLE) && log.contains("panic-on-topic"), "{log}");
    }
}

#[cfg(not(debug_assertions))]
#[test]
fn a_release_build_has_no_faults() {
    let broker = Broker::with_shards(1).variable(VARIABLE, "panic-on-topic=fault/core").start();
    let mut publisher = connect_as(broker.address(), VERSIONS[1], "publisher");
    publisher.write_all(&publish(4, "fault/core")).expect("the broker reads");
    expect_puback(&mut publisher);
    ping(&mut publisher);
}
