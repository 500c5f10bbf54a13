//! The letters of emqtt-bench: two processes that know each other by nothing but the topic.

use crate::double::{Double, Fault};
use crate::run::{self, Ran, scenario};
use std::io::{BufRead, BufReader, Read};
use std::process::{Command, Output, Stdio};

#[test]
fn publishers_stop_at_their_limit() {
    let double = Double::start(Fault::None);
    let ran = scenario(double.port, "emqtt pub -c 4 -I 10 -i 1 -t bench/%i -q 1 -s 32 -L 40 -F 5");
    ran.assert_passed();
    assert_eq!((ran.number("totals.sent"), ran.number("totals.acked")), (40, 40));
    assert_eq!(ran.number("ack_latency_ns.count"), 40);
    let scenario = &ran.result["scenario"];
    assert_eq!((&scenario["mqtt"], &scenario["keep_alive"]), (&"5".into(), &300.into()));
}

/// Subscribers run until they are interrupted, and then report what they got and how late it was.
#[test]
fn subscribers_count_until_they_are_interrupted() {
    let double = Double::start(Fault::None);
    let (published, ran) = publish_to(&double, "-c 2 -i 0 -t bench/#", "-c 3 -I 1 -i 0 -L 30");
    published.assert_passed();
    ran.assert_passed();
    assert_eq!((ran.number("totals.delivered"), ran.number("latency_ns.count")), (60, 60));
}

/// Starts subscribers, lets publishers run against them, and interrupts the subscribers.
fn publish_to(double: &Double, subscribers: &str, publishers: &str) -> (Ran, Ran) {
    let args = format!("emqtt sub {subscribers} -p {} --json -", double.port);
    let mut child = Command::new(env!("CARGO_BIN_EXE_shardmq-loadgen"))
        .args(args.split(' '))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdout = BufReader::new(child.stdout.take().expect("it is piped"));
    let mut lines = String::new();
    while !lines.contains("measure-begin") {
        assert!(stdout.read_line(&mut lines).expect("text") > 0, "{lines}");
    }
    let published = scenario(double.port, &format!("emqtt pub {publishers}"));
    Command::new("sh").args(["-c", &format!("kill -INT {}", child.id())]).status().expect("kill");
    stdout.read_to_string(&mut lines).expect("text");
    let output = child.wait_with_output().expect("it ends");
    (published, run::read(Output { stdout: lines.into_bytes(), ..output }))
}

#[test]
fn headers_of_a_payload_tell_what_was_lost_doubled_and_swapped() {
    let through = |fault: Fault| {
        let headers = "--payload-hdrs cnt64,ts -t bench/%i -i 0";
        let double = Double::start(fault);
        // Another seed, so that only the headers tell.
        let publishers = format!("-c 2 -I 1 -L 200 --seed 9 -s 5 {headers}");
        let (published, subscribed) = publish_to(&double, &format!("-c 2 {headers}"), &publishers);
        published.assert_passed();
        subscribed
    };
    let ran = through(Fault::None);
    ran.assert_passed();
    assert_eq!((ran.number("totals.delivered"), ran.number("latency_ns.count")), (200, 200));
    // The last that is dropped may have none behind it that tells.
    let ran = through(Fault::Drops);
    assert!((18..=20).contains(&ran.number("verdict.lost")), "{:?}", ran.faults());
    through(Fault::Doubles).assert_failed(&["duplicated"]);
    let ran = through(Fault::Swaps);
    assert!(
        ran.number("verdict.out_of_order") >= 18 && ran.number("verdict.lost") <= 2,
        "{:?}",
        ran.faults()
    );
}

#[test]
fn a_message_and_short_ids_are_as_they_are_given() {
    let double = Double::start(Fault::None);
    let publishers = "-c 1 -I 1 -L 3 -m hello -r --shortids --prefix me -w -l --log_to null";
    let ran = scenario(double.port, &format!("emqtt pub {publishers}"));
    ran.assert_passed();
    assert!(ran.stderr.is_empty(), "{}", ran.stderr);
    assert_eq!(double.retained("bench/1"), Some(b"hello".to_vec()));
    assert_eq!(double.seen_clients(), ["me1"]);
}

#[test]
fn transports_that_are_not_there_are_refused_by_name() {
    for (args, told) in [
        ("-S", "TLS"),
        ("-S true", "TLS"),
        ("--cacertfile ca.pem", "TLS"),
        ("--ws", "WebSocket"),
        ("--quic", "QUIC"),
        ("-w false", "-w false"),
    ] {
        let output = run::raw(&format!("emqtt conn -c 1 {args}"));
        assert_eq!(output.status.code(), Some(2), "{args}");
        let text = String::from_utf8_lossy(&output.stderr).into_owned();
        assert!(text.contains(told), "{args}: {text}");
    }
    assert!(String::from_utf8_lossy(&run::raw("emqtt conn -S").stderr).contains("no listener"));
}

#[test]
fn a_topic_that_is_none_is_refused() {
    let output = run::raw("emqtt pub -c 1 -t bench/+");
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not a topic name"));
}
