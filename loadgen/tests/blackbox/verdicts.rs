//! Every fault of a broker is reported, under its name and under no other.

use crate::double::{Double, Fault};
use crate::run::{Ran, scenario};

/// Two pairs, so that there is somebody else to misroute to. 500 messages, every tenth of which meets the fault.
fn pairs(fault: Fault, args: &str) -> Ran {
    let double = Double::start(fault);
    scenario(double.port, &format!("p2p --pairs 2 --count 500 --window 200 --settle 400ms {args}"))
}

#[test]
fn a_faultless_broker_passes_at_every_qos_and_version() {
    for version in ["3.1", "3.1.1", "5"] {
        for qos in 0..=2 {
            let ran = pairs(Fault::None, &format!("-q {qos} -V {version}"));
            ran.assert_passed();
            assert_eq!((ran.number("totals.sent"), ran.number("totals.delivered")), (500, 500));
            assert_eq!(ran.number("totals.acked"), if qos == 0 { 0 } else { 500 });
        }
    }
}

#[test]
fn payloads_of_sixteen_bytes_are_judged_as_well() {
    let ran = pairs(Fault::None, "-q 1 -s 16 --threads 2");
    ran.assert_passed();
    assert_eq!(ran.number("latency_ns.count"), 500);
    assert!(ran.number("latency_ns.max") < 60_000_000_000, "due times are whole");
    pairs(Fault::Drops, "-s 16").assert_failed(&["lost"]);
    pairs(Fault::Doubles, "-s 16").assert_failed(&["duplicated"]);
    pairs(Fault::Misroutes, "-s 20").assert_failed(&["foreign"]);
    pairs(Fault::Corrupts, "-s 20").assert_failed(&["corrupt", "lost"]);
}

#[test]
fn dropped_messages_are_lost() {
    let ran = pairs(Fault::Drops, "");
    ran.assert_failed(&["lost"]);
    assert_eq!(ran.number("verdict.lost"), 50);
    assert_eq!(pairs(Fault::Drops, "-q 1").number("verdict.lost"), 50);
}

#[test]
fn doubled_messages_are_duplicated() {
    let ran = pairs(Fault::Doubles, "-q 1");
    ran.assert_failed(&["duplicated"]);
    assert_eq!(ran.number("verdict.duplicated"), 50);
    assert_eq!(ran.number("totals.delivered"), 500);
}

#[test]
fn swapped_messages_are_out_of_order() {
    // The last one that is held back may have none behind it.
    let ran = pairs(Fault::Swaps, "");
    assert!(
        ran.faults().iter().all(|(name, _)| name == "out_of_order" || name == "lost"),
        "{:?}",
        ran.faults()
    );
    assert!(ran.number("verdict.out_of_order") >= 48 && ran.number("verdict.lost") <= 2);
    assert_eq!(ran.code, 1);
}

#[test]
fn misrouted_messages_are_foreign() {
    let ran = pairs(Fault::Misroutes, "-q 2");
    ran.assert_failed(&["foreign"]);
    assert_eq!(ran.number("verdict.foreign"), 50);
}

#[test]
fn messages_on_another_topic_are_foreign_and_lost() {
    pairs(Fault::Renames, "").assert_failed(&["foreign", "lost"]);
}

#[test]
fn changed_payloads_are_corrupt_and_lost() {
    let ran = pairs(Fault::Corrupts, "-s 100");
    ran.assert_failed(&["corrupt", "lost"]);
    assert_eq!(ran.number("verdict.corrupt"), 50);
}

#[test]
fn a_lower_qos_and_a_retain_flag_are_told() {
    pairs(Fault::Downgrades, "-q 1").assert_failed(&["wrong_qos"]);
    pairs(Fault::Retains, "").assert_failed(&["wrong_retain"]);
    // Delivered as subscribed, not as published.
    pairs(Fault::None, "-q 2 --sub-qos 1").assert_passed();
}

#[test]
fn missing_and_negative_acknowledgements_are_told_apart() {
    let ran = pairs(Fault::Ignores, "-q 1");
    ran.assert_failed(&["unacknowledged"]);
    assert_eq!(ran.number("verdict.unacknowledged"), 50);
    let ran = pairs(Fault::Refuses, "-q 1 -V 5");
    ran.assert_failed(&["refused"]);
    assert_eq!(ran.number("verdict.refused"), 50);
    assert!(ran.result["first_error"].as_str().unwrap().contains("QuotaExceeded"));
}

#[test]
fn acknowledgements_of_nothing_are_protocol_errors() {
    pairs(Fault::Invents, "-q 1").assert_failed(&["protocol_errors"]);
}

#[test]
fn a_connection_that_breaks_is_disconnected() {
    let ran = pairs(Fault::Hangs, "--rate 5000");
    assert_eq!(ran.number("verdict.disconnected"), 1);
    assert_eq!(ran.code, 1);
}

#[test]
fn a_group_is_judged_together() {
    let share = |fault: Fault| {
        let double = Double::start(fault);
        scenario(double.port, "share --publishers 3 --members 3 --count 600 --settle 400ms")
    };
    share(Fault::None).assert_passed();
    share(Fault::Drops).assert_failed(&["lost"]);
    share(Fault::Doubles).assert_failed(&["duplicated"]);
}

#[test]
fn every_receiver_of_a_fan_is_judged() {
    let double = Double::start(Fault::Drops);
    let ran = scenario(
        double.port,
        "fan-out --publishers 2 --subscribers 5 --count 100 --settle 400ms --threads 2",
    );
    ran.assert_failed(&["lost"]);
    assert_eq!(ran.number("verdict.lost"), 50);
    assert_eq!(ran.number("totals.owed"), 500);
}

#[test]
fn sessions_that_are_forgotten_are_lost_with_their_messages() {
    let double = Double::start(Fault::Forgets);
    let ran = scenario(double.port, "offline --sessions 3 --messages 20 --publishers 1 -q 1 --settle 400ms");
    ran.assert_failed(&["lost", "sessions_lost"]);
    assert_eq!((ran.number("verdict.lost"), ran.number("verdict.sessions_lost")), (60, 3));
}
