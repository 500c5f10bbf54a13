//! Run files of TBMQ's performance tests, by file, by option and by environment variable.

use crate::double::{Double, Fault};
use crate::run::{self, scenario};
use std::net::TcpListener;
use std::path::PathBuf;
use std::process::{Command, Stdio};

const RUN: &str = r#"{
  "publisherGroups": [
    {"id": 1, "publishers": 20, "topicPrefix": "check/demo/", "clientIdPrefix": null, "isDebugEnabled": false},
    {"id": 2, "publishers": 10, "topicPrefix": "flux/void/", "clientIdPrefix": "flux_"}
  ],
  "subscriberGroups": [
    {"id": 1, "subscribers": 3, "topicFilter": "check/demo/+", "expectedPublisherGroups": [1],
     "persistentSessionInfo": {"clientType": "APPLICATION"}, "clientIdPrefix": null},
    {"id": 2, "subscribers": 2, "topicFilter": "flux/#", "expectedPublisherGroups": [2],
     "persistentSessionInfo": null, "clientIdPrefix": null}
  ],
  "dummyClients": 7, "secondsToRun": 1, "additionalSecondsToWait": 0, "maxMsgsPerPublisherPerSecond": 5,
  "publisherQosValue": 1, "subscriberQosValue": 1, "minPayloadSize": 1, "telemetryKeys": ["lat", "long"],
  "maxConcurrentOperations": 1000
}"#;

fn file(name: &str, text: &str) -> PathBuf {
    let path = std::env::temp_dir().join(format!("loadgen-{}-{name}.json", std::process::id()));
    std::fs::write(&path, text).expect("a temporary file");
    path
}

#[test]
fn a_run_file_runs_unchanged() {
    let path = file("run", RUN);
    let double = Double::start(Fault::None);
    let ran = scenario(double.port, &format!("tbmq {} --warmup 0 --threads 2", path.display()));
    std::fs::remove_file(&path).expect("it is ours");
    ran.assert_passed();
    assert_eq!(ran.number("clients"), 30 + 5 + 7);
    // Five each of thirty publishers, to three and to two subscribers.
    assert_eq!((ran.number("totals.sent"), ran.number("totals.delivered")), (150, 20 * 5 * 3 + 10 * 5 * 2));
    let line = ran.result["tbmq"].as_str().expect("their summary");
    assert!(line.contains("lost messages - 0") && line.contains("expected messages - 400"), "{line}");
    assert!(ran.stderr.contains(line));
}

/// Three processes as theirs: each has every third client of a group, the first one judges the whole.
#[test]
fn processes_share_the_clients_of_a_file() {
    let path = file("parallel", RUN);
    let double = Double::start(Fault::None);
    let (mqtt_port, port) = (double.port.to_string(), free_port());
    let url = format!("http://127.0.0.1:{port}");
    let process = |number: &str| {
        let mut command = Command::new(env!("CARGO_BIN_EXE_shardmq-loadgen"));
        command.arg("tbmq").arg(&path).args(["--warmup", "0", "--json", "-"]);
        command.env("MQTT_PORT", &mqtt_port).env("TEST_RUN_PARALLEL_TESTS_COUNT", "3");
        command.env("TEST_RUN_SEQUENTIAL_NUMBER", number).env("TEST_RUN_TEST_ORCHESTRATOR_URL", &url);
        command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("the binary starts")
    };
    let others = ["2", "1"].map(process);
    let ran = run::read(process("0").wait_with_output().expect("it ends"));
    for other in others {
        let output = other.wait_with_output().expect("it ends");
        assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    }
    std::fs::remove_file(&path).expect("it is ours");
    ran.assert_passed();
    assert_eq!((ran.number("totals.sent"), ran.number("totals.delivered")), (150, 400));
    let clocks = ran.result["clocks"].as_array().expect("one for each process");
    let names: Vec<&str> = clocks.iter().filter_map(|clock| clock["runner"].as_str()).collect();
    assert_eq!(names, ["0 (127.0.0.1)", "1 (127.0.0.1)", "2 (127.0.0.1)"]);
    assert!(ran.result["tbmq"].as_str().is_some_and(|line| line.contains("expected messages - 400")));
}

/// One that was free a moment ago.
fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|it| it.local_addr()).expect("loopback").port()
}

#[test]
fn what_a_file_lacks_is_said() {
    let path =
        file("bad", &RUN.replace("\"expectedPublisherGroups\": [2]", "\"expectedPublisherGroups\": [3]"));
    let output = run::raw(&format!("tbmq {}", path.display()));
    std::fs::remove_file(&path).expect("it is ours");
    assert_eq!(output.status.code(), Some(2));
    assert!(String::from_utf8_lossy(&output.stderr).contains("expects publisher group 3"));
    assert_eq!(run::raw("tbmq /nowhere/run.json").status.code(), Some(2));
}

#[test]
fn their_variables_stand_in_for_options() {
    let double = Double::start(Fault::None);
    let port = double.port.to_string();
    let ran = run::with_environment(
        "tbmq --warmup 0 --json -",
        &[
            ("MQTT_PORT", port.as_str()),
            ("TEST_RUN_DEFAULT_PUB_SUB_GROUPS_COUNT", "4"),
            ("TEST_RUN_DEFAULT_SECONDS_TO_RUN", "1"),
            ("TEST_RUN_DEFAULT_MAX_MSGS_PER_PUBLISHER_PER_SECOND", "10"),
            ("TEST_RUN_DEFAULT_PUBLISHER_QOS", "2"),
            ("TEST_RUN_DEFAULT_SUBSCRIBER_QOS", "1"),
        ],
    );
    ran.assert_passed();
    assert_eq!((ran.number("flows"), ran.number("totals.delivered"), ran.number("verdict.qos")), (4, 40, 1));
}
