//! Starts the binary and reads its result.

use serde_json::Value;
use std::process::{Command, Output};

pub struct Ran {
    pub code: i32,
    /// The JSON lines before the result.
    pub phases: Vec<Value>,
    /// Null if there is none.
    pub result: Value,
    pub stderr: String,
}

/// Runs with arguments separated by spaces.
pub fn raw(args: &str) -> Output {
    let binary = env!("CARGO_BIN_EXE_shardmq-loadgen");
    Command::new(binary).args(args.split_whitespace()).output().expect("the binary starts")
}

/// Runs a scenario against a port, with the result on stdout.
pub fn scenario(port: u16, args: &str) -> Ran {
    with_environment(&format!("{args} --port {port} --json -"), &[])
}

/// Runs with these variables.
pub fn with_environment(args: &str, variables: &[(&str, &str)]) -> Ran {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardmq-loadgen"));
    let output = command.args(args.split_whitespace()).envs(variables.iter().copied()).output();
    read(output.expect("the binary starts"))
}

/// What a finished process says.
pub fn read(output: Output) -> Ran {
    let stdout = String::from_utf8(output.stdout).expect("text");
    let mut lines: Vec<Value> =
        stdout.lines().map(|line| serde_json::from_str(line).expect("each line is JSON")).collect();
    let result = match lines.last() {
        Some(line) if line.get("schema").is_some() => lines.pop().expect("there is one"),
        _ => Value::Null,
    };
    let code = output.status.code().expect("it was not killed");
    Ran { code, phases: lines, result, stderr: String::from_utf8(output.stderr).expect("text") }
}

impl Ran {
    /// A number anywhere in the result, by its path with dots.
    pub fn number(&self, path: &str) -> u64 {
        let value = path.split('.').fold(&self.result, |value, name| &value[name]);
        value.as_u64().unwrap_or_else(|| panic!("no number at {path}: {}\n{}", self.result, self.stderr))
    }

    pub fn assert_passed(&self) {
        // On a machine that others use, the load generator may find itself late; the verdict stands.
        assert!([0, 3].contains(&self.code), "code {}: {}", self.code, self.stderr);
        assert_eq!(self.result["verdict"]["passed"], true, "{}", self.stderr);
        assert!(self.faults().is_empty(), "{:?}", self.faults());
    }

    /// The verdicts that are not 0.
    pub fn faults(&self) -> Vec<(String, u64)> {
        let verdict = self.result["verdict"].as_object().expect("a result has a verdict");
        let counted = verdict.iter().filter(|(name, _)| *name != "qos" && *name != "lost_max_of_one_flow");
        let numbers = counted.filter_map(|(name, value)| Some((name.clone(), value.as_u64()?)));
        numbers.filter(|(_, count)| *count > 0).collect()
    }

    /// Exactly these verdicts are not 0, and the exit code says so.
    pub fn assert_failed(&self, names: &[&str]) {
        assert_eq!(self.code, 1, "{}", self.stderr);
        assert_eq!(self.result["verdict"]["passed"], false);
        assert_eq!(self.result["is_valid"], false);
        let mut found: Vec<String> = self.faults().into_iter().map(|(name, _)| name).collect();
        let mut wanted: Vec<String> = names.iter().map(|name| name.to_string()).collect();
        found.sort();
        wanted.sort();
        assert_eq!(found, wanted, "{:?}\n{}", self.faults(), self.stderr);
    }
}
