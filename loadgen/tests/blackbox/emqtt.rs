//! The letters of emqtt-bench: two processes that know each other by nothing but the topic.

use crate::double::{Double, Fault};
use crate::run::{self, scenario};
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
    let args = format!("emqtt sub -c 2 -i 0 -t bench/# -p {} --json -", double.port);
    let mut subscribers = Command::new(env!("CARGO_BIN_EXE_shardmq-loadgen"))
        .args(args.split(' '))
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .expect("the binary starts");
    let mut stdout = BufReader::new(subscribers.stdout.take().expect("it is piped"));
    let mut lines = String::new();
    while !lines.contains("measure-begin") {
        assert!(stdout.read_line(&mut lines).expect("text") > 0, "{lines}");
    }
    scenario(double.port, "emqtt pub -c 3 -I 1 -i 0 -L 30").assert_passed();
    Command::new("sh").args(["-c", &format!("kill -INT {}", subscribers.id())]).status().expect("kill");
    stdout.read_to_string(&mut lines).expect("text");
    let output = subscribers.wait_with_output().expect("it ends");
    let ran = run::read(Output { stdout: lines.into_bytes(), ..output });
    ran.assert_passed();
    assert_eq!((ran.number("totals.delivered"), ran.number("latency_ns.count")), (60, 60));
}

#[test]
fn a_topic_that_is_none_is_refused() {
    let output = run::raw("emqtt pub -c 1 -t bench/+");
    assert_eq!(output.status.code(), Some(4));
    assert!(String::from_utf8_lossy(&output.stderr).contains("not a topic name"));
}
