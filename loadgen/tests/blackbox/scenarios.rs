//! Every scenario does what its name says, against a broker without faults.

use crate::double::{Double, Fault};
use crate::run::{Ran, scenario};

fn faultless(args: &str) -> Ran {
    let ran = scenario(Double::start(Fault::None).port, args);
    ran.assert_passed();
    ran
}

fn phase<'a>(ran: &'a Ran, name: &str) -> &'a serde_json::Value {
    let phases = ran.result["phases"].as_array().unwrap();
    phases.iter().find(|phase| phase["name"] == name).expect("the phase is reported")
}

#[test]
fn fans_deliver_to_all() {
    let ran = faultless("fan-in --publishers 5 --subscribers 2 --count 500 --threads 2 -q 1");
    assert_eq!((ran.number("totals.sent"), ran.number("totals.delivered")), (500, 1000));
    let ran = faultless("fan-out --publishers 1 --subscribers 20 --count 50 -q 2 -V 5");
    assert_eq!((ran.number("totals.sent"), ran.number("totals.delivered")), (50, 1000));
}

#[test]
fn wildcards_deliver_to_all_that_match() {
    let ran = faultless("wildcard --publishers 20 --topics 2 --subscribers 40 --count 200");
    assert_eq!(ran.number("totals.owed"), ran.number("totals.delivered"));
    assert!(ran.number("totals.owed") > 200);
}

#[test]
fn subscribers_may_be_persistent_and_leave_no_session_behind() {
    let double = Double::start(Fault::None);
    for args in [
        "p2p --pairs 4",
        "fan-in --publishers 4",
        "fan-out --publishers 2 --subscribers 3",
        "share --publishers 4",
    ] {
        // What the first run would leave behind were foreign to the second.
        for _ in 0..2 {
            let ran = scenario(double.port, &format!("{args} --persistent --count 80 -q 1"));
            ran.assert_passed();
            assert_eq!(ran.result["scenario"]["persistent"], true);
            assert_eq!(ran.number("totals.delivered"), ran.number("totals.owed"));
        }
    }
    assert_eq!(double.kept_sessions(), 0);
}

#[test]
fn persistent_subscribers_ask_for_a_session() {
    // A broker that keeps what is asked for has it while the run goes on.
    let double = Double::start(Fault::None);
    scenario(double.port, "p2p --pairs 3 --persistent --count 30").assert_passed();
    assert_eq!(double.kept_sessions_max(), 3);
    scenario(double.port, "p2p --pairs 5 --count 30").assert_passed();
    assert_eq!(double.kept_sessions_max(), 3);
}

#[test]
fn an_open_loop_sends_at_its_rate() {
    let ran = faultless("p2p --pairs 10 --rate 2000 --duration 1s --warmup 100ms --threads 2");
    // By due time it is exact, however busy the machine is.
    assert_eq!(ran.number("latency_ns.count"), 2000);
}

#[test]
fn a_closed_loop_keeps_its_window() {
    // A window of one message per pair: what is sent is what was delivered, or one more.
    let ran = faultless("p2p --pairs 3 --window 1 --duration 300ms --warmup 0");
    assert!(ran.number("measured.delivered") > 30);
    assert!(ran.number("measured.sent") <= ran.number("measured.delivered") + 3);
}

#[test]
fn connections_are_counted_and_paced() {
    let ran = faultless("conn -c 200 --connect-rate 1000 --hold 100ms --source 127.0.0.2-127.0.0.4");
    assert_eq!((ran.number("connect.connections"), ran.number("connect.latency_ns.count")), (200, 200));
    assert!(phase(&ran, "connect")["elapsed_ns"].as_u64().unwrap() >= 190_000_000);
    assert_eq!(phase(&ran, "hold")["count"], 200);
}

#[test]
fn retained_messages_are_delivered_once_and_cleared() {
    let double = Double::start(Fault::None);
    let keep = "retained --topics 300 --publishers 2 --subscribers 2 -q 1";
    for _ in 0..2 {
        // What the first run would leave behind were foreign to the second.
        let ran = scenario(double.port, keep);
        ran.assert_passed();
        assert_eq!(phase(&ran, "store")["count"], 300);
        assert_eq!(phase(&ran, "deliver")["count"], 600);
    }
}

#[test]
fn queues_are_drained_after_the_hook() {
    let marker = std::env::temp_dir().join(format!("loadgen-hook-{}", std::process::id()));
    // Without a space, because arguments are separated by them.
    let hook = format!(":>{}", marker.display());
    for (at, qos) in [("queued", 1), ("publishing", 2)] {
        let args = format!(
            "offline --sessions 5 --messages 40 --publishers 2 -q {qos} --hook {hook} --hook-at {at}"
        );
        let double = Double::start(Fault::None);
        let ran = scenario(double.port, &args);
        ran.assert_passed();
        assert_eq!(phase(&ran, "queue")["count"], 200);
        assert_eq!(phase(&ran, "drain")["count"], 200);
        assert!(ran.phases.iter().any(|line| line["phase"] == "hook-end"));
        std::fs::remove_file(&marker).expect("the hook made it");
    }
}
