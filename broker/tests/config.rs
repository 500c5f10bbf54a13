//! Configuration: the shipped texts, faults, layers, origins.

mod support;

use std::path::Path;

use support::{Broker, shardmq};

/// Exit code, standard output, standard error.
fn run(arguments: &[&str], variables: &[(&str, &str)]) -> (Option<i32>, String, String) {
    let output = shardmq(arguments).envs(variables.iter().copied()).output().unwrap();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    (output.status.code(), text(&output.stdout), text(&output.stderr))
}

fn printed(arguments: &[&str], variables: &[(&str, &str)]) -> String {
    let arguments: Vec<&str> = ["config", "print", "--origin"].iter().chain(arguments).copied().collect();
    let (code, out, faults) = run(&arguments, variables);
    assert_eq!(code, Some(0), "{faults}");
    out
}

fn faults_of(arguments: &[&str], variables: &[(&str, &str)]) -> Vec<String> {
    let arguments: Vec<&str> = ["config", "check"].iter().chain(arguments).copied().collect();
    let (code, out, faults) = run(&arguments, variables);
    assert_eq!((code, out.as_str()), (Some(3), ""), "{faults}");
    faults.lines().map(str::to_owned).collect()
}

fn repository(path: &str) -> String {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().expect("a workspace");
    std::fs::read_to_string(root.join(path)).expect(path)
}

struct File(tempfile::NamedTempFile);

impl File {
    fn new(text: &str) -> File {
        let file = tempfile::NamedTempFile::new().unwrap();
        std::fs::write(file.path(), text).unwrap();
        File(file)
    }

    fn path(&self) -> &str {
        self.0.path().to_str().unwrap()
    }
}

#[test]
fn the_shipped_file_and_the_manual_are_what_the_code_says() {
    let (_, commented, _) = run(&["config", "defaults"], &[]);
    assert!(
        commented == repository("deploy/shardmq.toml"),
        "run .ci/config-docs: deploy/shardmq.toml is old"
    );
    let (_, chapter, _) = run(&["config", "defaults", "--format", "markdown"], &[]);
    let manual = repository("docs/operations.md");
    let (_, rest) = manual.split_once("<!-- options: begin -->\n").unwrap();
    let (options, _) = rest.split_once("<!-- options: end -->").unwrap();
    assert!(chapter == options, "run .ci/config-docs: the options in docs/operations.md are old");
}

#[test]
fn the_shipped_file_with_its_comments_taken_away_is_the_defaults() {
    let uncommented: Vec<String> = repository("deploy/shardmq.toml")
        .lines()
        .map(|line| match line.strip_prefix('#') {
            Some(option) if !option.starts_with(' ') => option.to_owned(),
            _ => line.to_owned(),
        })
        .collect();
    let file = File::new(&uncommented.join("\n"));
    let (code, from_file, faults) = run(&["config", "print", "--config", file.path()], &[]);
    assert_eq!(code, Some(0), "{faults}");
    let (_, defaults, _) = run(&["config", "print"], &[]);
    assert_eq!(from_file, defaults);
}

#[test]
fn what_is_printed_is_a_file_that_says_the_same() {
    let arguments =
        ["--set", "mqtt.maximum_qos=1", "--cores", "2-2", "--listener", "tcp://[::1]:1", "--memory", "3 GB"];
    let first = printed(&arguments, &[("SHARDMQ_MQTT__RESPONSE_INFORMATION", "a \"quoted\" word")]);
    let file = File::new(&first);
    let second = printed(&["--config", file.path()], &[]);
    let values = |text: &str| -> Vec<String> {
        text.lines().map(|line| line.split("  # ").next().unwrap().to_owned()).collect()
    };
    assert_eq!(values(&first), values(&second));
}

#[test]
fn all_faults_are_told_at_once_each_with_its_place() {
    let file = File::new(
        "[mqtt]\n\
         packet_size = 5\n\
         maximum_qos = 3\n\
         queue_policy = \"refuse\"\n\
         \n\
         [sesion]\n\
         expiry_max = \"1h\"\n\
         \n\
         [[listener]]\n\
         name = \"Plant\"\n\
         kind = \"tls\"\n\
         adress = \"127.0.0.1:1883\"\n\
         [drain]\n\
         delay = 5\n",
    );
    let variables = [
        ("SHARDMQ_LIMITS__OUTPUT_SOFT", "2 MiB"),
        ("SHARDMQ_LOG__FORMAT", "xml"),
        ("SHARDMQ_SERVICE_HOST", "10.0.0.1"),
        ("SHARDMQ_A__B__C__D", "1"),
    ];
    let path = file.path();
    let arguments = [
        "--config",
        path,
        "--set",
        "sys_topics.interval=10ms",
        "--cores",
        "none",
        "--set",
        "listener.tpc.backlog=5",
    ];
    let faults = faults_of(&arguments, &variables);
    let expected = [
        (format!("{path}:2: "), "unknown option `mqtt.packet_size`; did you mean `packet_size_max`?"),
        (format!("{path}:3: "), "`mqtt.maximum_qos`: expected a whole number from 0 to 2"),
        (format!("{path}:4: "), "unknown option `mqtt.queue_policy`; did you mean `session.queue_policy`?"),
        (format!("{path}:6: "), "unknown section `sesion`; did you mean `session`?"),
        (format!("{path}:10: "), "lower-case"),
        (format!("{path}:11: "), "\"tls\", \"ws\" and \"wss\" are not available yet"),
        (format!("{path}:12: "), "unknown option `listener.adress`; did you mean `address`?"),
        (format!("{path}:14: "), "`drain.delay`: expected a duration"),
        ("SHARDMQ_LIMITS__OUTPUT_SOFT: ".to_owned(), "above `limits.output_hard`"),
        ("SHARDMQ_LOG__FORMAT: ".to_owned(), "expected \"text\" or \"json\""),
        ("SHARDMQ_A__B__C__D: ".to_owned(), "expected section.option"),
        ("--set sys_topics.interval: ".to_owned(), "at least 1s"),
        ("--cores: ".to_owned(), "expected \"auto\", a number"),
        ("--set listener.tpc.backlog: ".to_owned(), "there is no listener `tpc`"),
    ];
    for (place, message) in &expected {
        let is_told = faults.iter().any(|fault| fault.starts_with(place) && fault.contains(message));
        assert!(is_told, "{place}{message} is not in\n{}", faults.join("\n"));
    }
    assert_eq!(faults.len(), expected.len(), "{}", faults.join("\n"));
    let (code, _, log) = run(&[&["serve"], &arguments[..]].concat(), &variables);
    assert_eq!((code, log.lines().count()), (Some(3), expected.len()), "`serve` tells the same");
}

#[test]
fn files_that_are_no_toml_or_not_there() {
    let file = File::new("[mqtt]\nmaximum_qos = = 1\n");
    let faults = faults_of(&["--config", file.path(), "--cores", "none"], &[]);
    assert_eq!(faults.len(), 2, "{faults:?}");
    assert!(faults[0].starts_with(&format!("{}:2: ", file.path())), "{faults:?}");
    let faults = faults_of(&["--config", "/nonsense/shardmq.toml"], &[]);
    assert!(faults[0].starts_with("--config /nonsense/shardmq.toml: "), "{faults:?}");
    for text in ["mqtt = 3", "[listener]\nname = \"a\"", "[mqtt.deeper]\nx = 1", "[[mqtt]]\nmaximum_qos = 1"]
    {
        let file = File::new(text);
        let faults = faults_of(&["--config", file.path()], &[]);
        assert!(
            faults.len() == 1 && faults[0].starts_with(&format!("{}:1: ", file.path())),
            "{text}: {faults:?}"
        );
    }
}

#[test]
fn flags_go_before_variables_before_the_file_before_defaults() {
    let file = File::new("[mqtt]\nmaximum_qos = 0\nreceive_maximum = 10\ntopic_alias_max = 1\n");
    let variables = [("SHARDMQ_MQTT__MAXIMUM_QOS", "1"), ("SHARDMQ_MQTT__RECEIVE_MAXIMUM", "20")];
    let out = printed(&["--config", file.path(), "--set", "mqtt.maximum_qos=2"], &variables);
    for line in [
        "maximum_qos = 2  # --set mqtt.maximum_qos".to_owned(),
        "receive_maximum = 20  # SHARDMQ_MQTT__RECEIVE_MAXIMUM".to_owned(),
        format!("topic_alias_max = 1  # {}:4", file.path()),
        "inflight_max = 4096  # default".to_owned(),
    ] {
        assert!(out.lines().any(|printed| printed == line), "{line} is not in\n{out}");
    }
}

#[test]
fn listeners_are_set_by_name_all_together_or_replaced() {
    let file = File::new(
        "[[listener]]\nname = \"plant-1\"\naddress = \"127.0.0.1:1001\"\n\
         [[listener]]\nname = \"plant-2\"\naddress = \"127.0.0.1:1002\"\n",
    );
    let variables =
        [("SHARDMQ_LISTENER__PLANT_2__BACKLOG", "7"), ("SHARDMQ_LISTENER__PACKET_SIZE_MAX", "1 KiB")];
    let out = printed(&["--config", file.path(), "--set", "listener.plant-1.backlog=8"], &variables);
    assert!(out.contains("backlog = 7  # SHARDMQ_LISTENER__PLANT_2__BACKLOG"), "{out}");
    assert!(out.contains("backlog = 8  # --set listener.plant-1.backlog"), "{out}");
    assert_eq!(out.matches("packet_size_max = \"1 KiB\"").count(), 2, "{out}");

    let replaced =
        ["--config", file.path(), "--listener", "tcp://127.0.0.1:5", "--listener", "tcp://127.0.0.1:6"];
    let out = printed(&replaced, &[]);
    assert!(!out.contains("plant"), "{out}");
    assert!(out.contains("name = \"tcp\"  # --listener tcp://127.0.0.1:5"), "{out}");
    assert!(out.contains("name = \"tcp-2\"  # --listener tcp://127.0.0.1:6"), "{out}");

    for (listener, message) in [
        ("127.0.0.1:1", "expected KIND://"),
        ("wss://127.0.0.1:1", "not available yet"),
        ("tcp://localhost:1", "expected an IP address"),
    ] {
        let faults = faults_of(&["--listener", listener], &[]);
        assert!(faults.len() == 1 && faults[0].contains(message), "{faults:?}");
    }
    let twice = faults_of(&["--listener", "tcp://127.0.0.1:5", "--listener", "tcp://127.0.0.1:5"], &[]);
    assert!(twice[0].contains("another listener has 127.0.0.1:5"), "{twice:?}");
    let same_name =
        File::new("[[listener]]\nname = \"a\"\n[[listener]]\nname = \"a\"\naddress = \"127.0.0.1:1\"\n");
    let faults = faults_of(&["--config", same_name.path()], &[]);
    assert!(
        faults.len() == 1 && faults[0].contains(":3: ") && faults[0].contains("two listeners"),
        "{faults:?}"
    );
}

#[test]
fn strangers_are_let_in_only_where_that_is_said() {
    for address in ["0.0.0.0:0", "[::]:0", "10.1.2.3:1883", "[::ffff:10.1.2.3]:1883"] {
        let listener = format!("tcp://{address}");
        let faults = faults_of(&["--listener", &listener], &[]);
        assert!(faults.len() == 1 && faults[0].contains("allow_anonymous = true"), "{faults:?}");
        let allowed = ["config", "check", "--listener", &listener, "--set", "listener.allow_anonymous=true"];
        assert_eq!(run(&allowed, &[]).0, Some(0));
    }
    for address in ["127.0.0.1:1", "127.8.9.1:1", "[::1]:1"] {
        assert_eq!(run(&["config", "check", "--listener", &format!("tcp://{address}")], &[]).0, Some(0));
    }
    let broker = Broker::with_shards(1)
        .listeners(&["tcp://0.0.0.0:0"])
        .set("listener.allow_anonymous", "true")
        .start();
    support::packets::connect(([127, 0, 0, 1], broker.port()).into(), 4, "stranger");
}

#[test]
fn a_reader_that_has_seen_enough_is_no_fault() {
    let mut child = shardmq(["config", "defaults"]).stdout(std::process::Stdio::piped()).spawn().unwrap();
    drop(child.stdout.take());
    assert_eq!(child.wait().unwrap().code(), Some(0));
}
