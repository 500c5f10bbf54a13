//! Flags, exit codes, what is printed, and that the documentation of the result is complete.

use crate::double::{Double, Fault};
use crate::run::{raw, scenario};
use serde_json::Value;
use std::collections::BTreeSet;

fn names(value: &Value, into: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            for (name, value) in fields {
                into.insert(name.clone());
                // Parameters are named like their options, and counters are documented where they are used.
                if name != "scenario" && name != "totals" {
                    names(value, into);
                }
            }
        }
        Value::Array(items) => items.iter().for_each(|item| names(item, into)),
        _ => {}
    }
}

#[test]
fn usage_errors_are_2_and_an_unreachable_broker_is_4() {
    for args in ["p2p --pairs 0", "p2p -s 10", "p2p -q 3", "p2p --cpus 9-1", "p2p --rate -1", "nonsense", ""]
    {
        assert_eq!(raw(args).status.code(), Some(2), "{args}");
    }
    let rejects = Double::start(Fault::Rejects);
    let ran = scenario(rejects.port, "p2p --pairs 3 --count 10");
    assert_eq!(ran.code, 4);
    assert!(
        ran.stderr.contains("3 of 3 connections") && ran.stderr.contains("NotAuthorized"),
        "{}",
        ran.stderr
    );
}

#[test]
fn letters_are_those_of_emqtt_bench() {
    let double = Double::start(Fault::None);
    let ran = scenario(
        double.port,
        "p2p --pairs 2 --count 20 -h localhost -V 5 -q 1 -s 100 -u me -P pw -k 30 -R 500",
    );
    ran.assert_passed();
    let scenario = &ran.result["scenario"];
    assert_eq!(
        (&scenario["mqtt"], &scenario["qos"], &scenario["size"]),
        (&"5".into(), &1.into(), &100.into())
    );
    assert_eq!((&scenario["user"], &scenario["keep_alive"]), (&"me".into(), &30.into()));
    // Nobody reads a password in a result.
    assert!(scenario.get("password").is_none());
}

#[test]
fn phases_are_printed_in_order_and_enclose_the_measured_interval() {
    let double = Double::start(Fault::None);
    let ran = scenario(double.port, "p2p --pairs 2 --duration 200ms --warmup 50ms");
    let names: Vec<&str> = ran.phases.iter().map(|line| line["phase"].as_str().unwrap()).collect();
    let wanted = [
        "connect-begin",
        "connect-end",
        "warmup-begin",
        "measure-begin",
        "measure-end",
        "drain-begin",
        "drain-end",
    ];
    assert_eq!(names, wanted);
    let at = |index: usize| ran.phases[index]["monotonic_ns"].as_u64().unwrap();
    assert!(at(3) >= ran.number("measured.begin_ns") && at(4) >= ran.number("measured.end_ns"));
    // It begins when the coordinator wakes, and ends on time.
    assert!((100_000_000..1_000_000_000).contains(&ran.number("measured.elapsed_ns")));
}

#[test]
fn the_broker_is_sampled_over_the_measured_interval() {
    let double = Double::start(Fault::None);
    // The double lives in this process.
    let pid = std::process::id();
    let ran = scenario(double.port, &format!("p2p --pairs 2 --duration 300ms --broker-pid {pid}"));
    assert_eq!(ran.result["broker"]["pids"][0], pid);
    assert!(ran.number("broker.cpu_ns") > 1_000_000 && ran.number("broker.rss_end_bytes") > 1_000_000);
    assert!(ran.result["broker"]["cpu_ns_per_delivered"].as_f64().unwrap() > 100.0);
}

#[test]
fn every_field_of_the_result_is_documented() {
    let double = Double::start(Fault::None);
    let pid = std::process::id();
    let ran = scenario(double.port, &format!("conn -c 2 --hold 0 --broker-pid {pid}"));
    let mut found = BTreeSet::new();
    names(&ran.result, &mut found);
    let readme = include_str!("../../README.md");
    let missing: Vec<&String> = found.iter().filter(|name| !readme.contains(&format!("`{name}`"))).collect();
    assert!(missing.is_empty(), "not in README.md: {missing:?}");
}

#[test]
fn the_log_of_latencies_reads_back() {
    use hdrhistogram::serialization::interval_log::{IntervalLogIterator, LogEntry};
    let double = Double::start(Fault::None);
    let path = std::env::temp_dir().join(format!("loadgen-{}.hlog", std::process::id()));
    let args = format!("p2p --pairs 5 --rate 500 --duration 1200ms --warmup 0 --hlog {}", path.display());
    let ran = scenario(double.port, &args);
    let log = std::fs::read(&path).expect("it was written");
    std::fs::remove_file(&path).expect("it is ours");
    let mut deserializer = hdrhistogram::serialization::Deserializer::new();
    let mut count = 0;
    for entry in IntervalLogIterator::new(&log) {
        if let LogEntry::Interval(interval) = entry.expect("the log is valid") {
            let bytes = base64(interval.encoded_histogram());
            let histogram: hdrhistogram::Histogram<u64> =
                deserializer.deserialize(&mut bytes.as_slice()).expect("a histogram");
            count += histogram.len();
        }
    }
    assert_eq!(count, ran.number("latency_ns.count"));
    assert!(count >= 590, "{count}");
}

fn base64(text: &str) -> Vec<u8> {
    let digit = |c: u8| match c {
        b'A'..=b'Z' => Some(c - b'A'),
        b'a'..=b'z' => Some(c - b'a' + 26),
        b'0'..=b'9' => Some(c - b'0' + 52),
        b'+' => Some(62),
        b'/' => Some(63),
        _ => None,
    };
    let bits = text.bytes().filter_map(digit).flat_map(|digit| (0..6).rev().map(move |bit| digit >> bit & 1));
    let bits: Vec<u8> = bits.collect();
    bits.chunks_exact(8).map(|byte| byte.iter().fold(0, |byte, bit| byte << 1 | bit)).collect()
}
