//! An orchestrator and runners, as processes of this machine.

use crate::double::{Double, Fault};
use crate::run::{self, Ran};
use std::io::{BufRead, BufReader, Read};
use std::process::{Child, ChildStderr, Command, Output, Stdio};

const BINARY: &str = env!("CARGO_BIN_EXE_shardmq-loadgen");

/// An orchestrator and the two runners that it waited for.
struct Fleet {
    orchestrator: Child,
    stderr: BufReader<ChildStderr>,
    runners: [Child; 2],
}

impl Fleet {
    fn start(port: u16, args: &str) -> Fleet {
        let args = format!("{args} --port {port} --json - --orchestrator 127.0.0.1:0 --runners 2");
        let mut orchestrator = Command::new(BINARY)
            .args(args.split_whitespace())
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            .spawn()
            .expect("the binary starts");
        let mut stderr = BufReader::new(orchestrator.stderr.take().expect("it is piped"));
        let mut line = String::new();
        stderr.read_line(&mut line).expect("text");
        let address = line.trim().rsplit(' ').next().expect("an address ends the line").to_string();
        let runner = || {
            let args = ["runner", "--orchestrator", address.as_str()];
            let mut command = Command::new(BINARY);
            command.args(args).stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("it starts")
        };
        Fleet { orchestrator, stderr, runners: [runner(), runner()] }
    }

    /// What the orchestrator says, and whether the runners ended well.
    fn finish(mut self) -> (Ran, [bool; 2]) {
        let mut stderr = vec![];
        self.stderr.read_to_end(&mut stderr).expect("it ends");
        let output = self.orchestrator.wait_with_output().expect("it ends");
        let ended = self.runners.map(|mut runner| runner.wait().expect("it ends").success());
        (run::read(Output { stderr, ..output }), ended)
    }
}

/// Runs a scenario with two runners.
fn with_two_runners(port: u16, args: &str) -> Ran {
    let (ran, ended) = Fleet::start(port, args).finish();
    assert_eq!(ended, [true; 2], "{}", ran.stderr);
    ran
}

#[test]
fn a_runner_that_is_gone_ends_the_run() {
    let double = Double::start(Fault::None);
    let mut fleet = Fleet::start(double.port, "p2p --pairs 4 --rate 100 --duration 60s");
    let mut stdout = BufReader::new(fleet.orchestrator.stdout.take().expect("it is piped"));
    let mut line = String::new();
    while !line.contains("warmup-begin") {
        line.clear();
        assert!(stdout.read_line(&mut line).expect("text") > 0);
    }
    fleet.runners[1].kill().expect("it runs");
    let (ran, ended) = fleet.finish();
    assert_eq!((ran.code, ended), (4, [false; 2]));
    assert!(ran.stderr.contains("runner"), "{}", ran.stderr);
}

#[test]
fn a_closed_loop_runs_on_both() {
    let double = Double::start(Fault::None);
    let ran = with_two_runners(double.port, "p2p --pairs 4 --count 400 -q 1 -V 5 -u me -P pw");
    ran.assert_passed();
    assert_eq!((ran.number("totals.delivered"), ran.number("generator.threads")), (400, 2));
    assert_eq!(ran.number("connect.latency_ns.count"), 8);
    assert_eq!(ran.number("latency_ns.count"), 400);
}

#[test]
fn losses_between_runners_are_found_and_clocks_measured() {
    let double = Double::start(Fault::Drops);
    let args = "fan-in --publishers 4 --subscribers 2 --rate 1000 --duration 300ms --warmup 0 --settle 400ms";
    let ran = with_two_runners(double.port, args);
    ran.assert_failed(&["lost"]);
    let owed = ran.number("totals.owed");
    assert_eq!(owed, 2 * ran.number("totals.sent"));
    assert_eq!(ran.number("verdict.lost"), owed / 10);
    assert_eq!(ran.number("verdict.lost") + ran.number("totals.delivered"), owed);
    let clocks = ran.result["clocks"].as_array().expect("one for each runner");
    assert_eq!(clocks.len(), 2);
    for clock in clocks {
        // One machine has one monotonic clock, so what is measured is the error.
        let (offset, error) = (clock["offset_ns"].as_i64().unwrap(), clock["error_ns"].as_u64().unwrap());
        assert!(error > 0 && offset.unsigned_abs() <= error, "{clock}");
    }
}

/// Publishers hear of deliveries in the other process, and faults there are found.
#[test]
fn a_closed_loop_reaches_across_runners() {
    for args in [
        "fan-in --publishers 5 --subscribers 2 --window 3",
        "fan-out --publishers 1 --subscribers 8 --window 2",
        "share --publishers 6 --members 3 --window 1",
        "wildcard --publishers 20 --subscribers 20 --window 4",
    ] {
        let double = Double::start(Fault::None);
        let ran = with_two_runners(double.port, &format!("{args} --count 600 --settle 20s"));
        ran.assert_passed();
        assert_eq!(ran.number("totals.delivered"), ran.number("totals.owed"), "{args}");
        // A window that nobody opens would do so, after a second each.
        assert_eq!(ran.number("totals.stalls"), 0, "{args}");
    }
    let double = Double::start(Fault::Doubles);
    let ran = with_two_runners(double.port, "fan-in --publishers 4 --count 400 --settle 400ms");
    ran.assert_failed(&["duplicated"]);
    assert_eq!(ran.number("verdict.duplicated"), 40);
}

#[test]
fn a_window_holds_across_runners() {
    let double = Double::start(Fault::None);
    let args = "fan-in --publishers 2 --subscribers 2 --window 1 --duration 300ms --warmup 0";
    let ran = with_two_runners(double.port, args);
    ran.assert_passed();
    // Of each publisher one message is under way at most.
    let (sent, delivered) = (ran.number("measured.sent"), ran.number("measured.delivered"));
    assert!(delivered > 20 && sent <= delivered / 2 + 3, "{sent} {delivered}");
}
