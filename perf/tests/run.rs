//! `shardmq-perf run` from outside: a tiny scenario against the floor and shardmq, and what it leaves behind.

use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::time::SystemTime;

const SCENARIO: &str = r#"
title = "tiny"
group = "test"
order = 1
about = "Ten pairs."
load = "p2p --pairs 10 --qos 1 --window 4"
seconds = 0.3
warm_up_s = 0.1
count_calls = true

[[published]]
who = "another"
machine = "another one"
source = "a page"
rate = 1000
"#;

fn perf() -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardmq-perf"));
    // The folders of scenarios and brokers are found from the top of the repository.
    command.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace"));
    command
}

/// The programs of the other crates, beside ours. `cargo test --workspace` builds them; `-p shardmq-perf` may leave old
/// ones there.
fn build_programs() {
    let folder = Path::new(env!("CARGO_BIN_EXE_shardmq-perf")).parent().expect("a folder");
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("the workspace");
    let sources = ["protocol", "shard", "broker", "loadgen"].map(|crate_| workspace.join(crate_).join("src"));
    let newest = sources.iter().filter_map(|folder| newest_change(folder)).max().expect("sources");
    let is_fresh = |program: &str| {
        folder.join(program).metadata().and_then(|data| data.modified()).is_ok_and(|at| at > newest)
    };
    if ["shardmq", "shardmq-loadgen"].into_iter().all(is_fresh) {
        return;
    }
    let status = Command::new(env!("CARGO"))
        .args(["build", "--quiet", "--locked", "-p", "shardmq", "-p", "shardmq-loadgen"])
        .status()
        .expect("cargo");
    assert!(status.success());
}

fn newest_change(folder: &Path) -> Option<SystemTime> {
    let entries = std::fs::read_dir(folder).ok()?.flatten();
    let changes = entries.filter_map(|entry| match entry.file_type().ok()?.is_dir() {
        true => newest_change(&entry.path()),
        false => entry.metadata().ok()?.modified().ok(),
    });
    changes.max()
}

fn run(dir: &Path, arguments: &[&str]) -> Output {
    let scenario = dir.join("tiny.toml");
    std::fs::write(&scenario, SCENARIO).expect("a file");
    let out = dir.join("out");
    perf()
        .arg("run")
        .arg(&scenario)
        .arg("--out")
        .arg(&out)
        .args(["--rounds", "2", "--rounds-max", "2"])
        .args(arguments)
        .output()
        .expect("the program")
}

fn result_of(dir: &Path) -> (PathBuf, serde_json::Value) {
    let path = dir.join("out/result.json");
    let text = std::fs::read_to_string(&path).expect("a result");
    (path, serde_json::from_str(&text).expect("JSON"))
}

fn told(output: &Output) -> String {
    String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr)
}

#[test]
fn floor_and_shardmq_are_measured_and_reported() {
    build_programs();
    let dir = tempfile::tempdir().expect("a folder");
    let output = run(dir.path(), &["--broker", "floor", "--broker", "shardmq"]);
    assert!(output.status.success(), "{}", told(&output));

    let (path, result) = result_of(dir.path());
    let runs = result["results"][0]["runs"].as_array().expect("runs");
    let order: Vec<_> = runs.iter().map(|run| (run["broker"].as_str(), run["round"].as_u64())).collect();
    let turns = [("floor", 0), ("shardmq", 0), ("floor", 1), ("shardmq", 1)];
    assert_eq!(order, turns.map(|(broker, round)| (Some(broker), Some(round))));
    for run in runs {
        let number = |name: &str| run["figures"][name].as_f64().unwrap_or(0.0);
        assert!(number("cost") > 50.0 && number("rate") > 100.0 && number("rss_bytes") > 1e5, "{run}");
        assert_eq!((&run["verdict"]["passed"], &run["verdict"]["lost"]), (&true.into(), &0.into()), "{run}");
        assert!(
            run["load_command"].as_str().is_some_and(|command| command.contains("p2p --pairs 10")),
            "{run}"
        );
    }
    assert_eq!(runs[1]["figures"]["shards"][0]["shard"], 0, "per-shard figures of shardmq");
    assert!(result["host"]["kernel"].is_string() && result["brokers"][1]["version"] != "unknown");

    let page = std::fs::read_to_string(dir.path().join("out/report.html")).expect("a page");
    assert!(page.contains("Ten pairs.") && page.contains("another one"));
    let diff = perf().arg("diff").args([&path, &path]).output().expect("the program");
    assert!(told(&diff).contains("0 figures changed beyond noise, 10 did not"), "{}", told(&diff));
}

#[test]
fn a_broker_that_fails_is_reported_and_the_exit_code_tells() {
    build_programs();
    let dir = tempfile::tempdir().expect("a folder");
    let brokers = ["--broker", "broken=sh -c exit", "--broker", "absent=no-such-program {port}"];
    let output = run(dir.path(), &brokers);
    assert_eq!(output.status.code(), Some(5), "{}", told(&output));
    assert!(told(&output).contains("broken, round 2: failed"), "{}", told(&output));
    let (_, result) = result_of(dir.path());
    assert_eq!(result["results"][0]["skipped"][0]["why"], "no-such-program is not installed");
}

/// What an interruption in the second scenario would leave: its broker keeps what it finds when it is started.
#[test]
fn a_result_is_there_after_each_scenario() {
    build_programs();
    let dir = tempfile::tempdir().expect("a folder");
    let path = |name: &str| dir.path().join(name).display().to_string();
    std::fs::write(path("second.toml"), SCENARIO).expect("a file");
    let script = format!(
        "cp {} {}; cp {} {}",
        path("out/result.json"),
        path("kept.json"),
        path("out/report.html"),
        path("kept.html")
    );
    std::fs::write(path("keep.sh"), script).expect("a file");
    let broker = format!("keeper=sh {}", path("keep.sh"));
    let output = run(dir.path(), &[&path("second.toml"), "--broker", &broker]);
    assert_eq!(output.status.code(), Some(5), "{}", told(&output));

    let kept: serde_json::Value =
        serde_json::from_str(&std::fs::read_to_string(path("kept.json")).expect("a result")).expect("JSON");
    assert_eq!(kept["results"].as_array().map(Vec::len), Some(1));
    assert_eq!(kept["remarks"][0], "not complete: 1 of 2 scenarios");
    assert!(std::fs::read_to_string(path("kept.html")).expect("a page").contains("not complete: 1 of 2"));
    let (_, result) = result_of(dir.path());
    assert_eq!(result["results"].as_array().map(Vec::len), Some(2));
    assert!(!result["remarks"].to_string().contains("not complete"));
}

#[test]
fn rounds_without_time_are_left_out_and_told() {
    build_programs();
    let dir = tempfile::tempdir().expect("a folder");
    let output = run(dir.path(), &["--broker", "floor", "--budget", "0"]);
    assert!(output.status.success(), "{}", told(&output));
    let (_, result) = result_of(dir.path());
    assert_eq!(result["results"][0]["runs"].as_array().map(Vec::len), Some(1));
    assert!(told(&output).contains("for lack of time (--budget): tiny (floor)"), "{}", told(&output));
}

#[test]
fn unknown_names_are_refused() {
    let output = perf().args(["run", "no-such-scenario"]).output().expect("the program");
    assert_eq!(output.status.code(), Some(1));
    assert!(
        told(&output).contains("no scenario is called no-such-scenario; there are:\np2p-q0 "),
        "{}",
        told(&output)
    );
}
