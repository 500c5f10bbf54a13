//! `shardmq check`: what of this machine would hinder the broker or spoil a measurement, and how to mend it. Reads only.
//!
//! Each finding compares a current value with the wanted one. Something that is not there (no NIC, no such file) is
//! left out or passes; something that cannot be told is said so.

mod finding;
mod limits;
mod network;
mod processor;
mod storage;
mod system;

use std::io::{self, Write};
use std::process::ExitCode;

use clap::Args;

use finding::{Finding, State};
use system::System;

/// Something fails: the broker or a test would suffer.
const EXIT_CODE_FAILED: u8 = 5;

#[derive(Debug, Args)]
pub struct CheckArguments {
    /// Connections that the machine is to hold.
    #[arg(long, default_value_t = 100_000)]
    connections: u64,
    /// For JSON: one object for each finding, in a list.
    #[arg(long)]
    json: bool,
    /// Directory whose file system is to hold the broker's data.
    #[arg(long, value_name = "DIR", default_value = ".")]
    data_dir: std::path::PathBuf,
}

pub fn run(arguments: &CheckArguments) -> ExitCode {
    let system = System::here();
    let mut findings = limits::findings(&system, arguments.connections);
    findings.extend(network::findings(&system, arguments.connections));
    findings.extend(processor::findings(&system));
    findings.extend(storage::findings(&system, &arguments.data_dir));
    let text = if arguments.json { as_json(&findings) } else { as_text(&findings) };
    match io::stdout().write_all(text.as_bytes()) {
        Err(error) if error.kind() != io::ErrorKind::BrokenPipe => ExitCode::FAILURE,
        _ if findings.iter().any(|finding| finding.state == State::Fail) => ExitCode::from(EXIT_CODE_FAILED),
        _ => ExitCode::SUCCESS,
    }
}

fn as_text(findings: &[Finding]) -> String {
    let mut text = String::new();
    for finding in findings {
        text += &format!("{:5} {:24} {}", finding.state.word(), finding.id, finding.current);
        if finding.state != State::Pass {
            text +=
                &format!("; wanted: {}\n      {}\n      fix: {}", finding.wanted, finding.why, finding.fix);
            if let Some(revert) = &finding.revert {
                text += &format!("\n      revert: {revert}");
            }
        }
        text.push('\n');
    }
    let count = |state| findings.iter().filter(|finding| finding.state == state).count();
    text + &format!(
        "{} passed, {} warnings, {} failed, {} unknown\n",
        count(State::Pass),
        count(State::Warn),
        count(State::Fail),
        count(State::Unknown)
    )
}

fn as_json(findings: &[Finding]) -> String {
    let list: Vec<serde_json::Value> = findings
        .iter()
        .map(|finding| {
            serde_json::json!({
                "id": finding.id, "state": finding.state.word().to_lowercase(), "current": finding.current,
                "wanted": finding.wanted, "why": finding.why, "fix": finding.fix, "revert": finding.revert,
            })
        })
        .collect();
    format!("{:#}\n", serde_json::Value::Array(list))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn text_explains_what_is_not_well_and_counts() {
        let findings = [
            Finding::new("a", "1", "1", "it matters", "do it").judged(State::Pass),
            Finding::new("b", "2", "at least 3", "it matters", "raise it").judged(State::Fail),
        ];
        let text = as_text(&findings);
        assert!(text.contains("b                        2; wanted: at least 3"), "{text}");
        assert!(text.contains("fix: raise it") && !text.contains("do it"), "{text}");
        assert!(text.ends_with("1 passed, 0 warnings, 1 failed, 0 unknown\n"), "{text}");
        let json: serde_json::Value = serde_json::from_str(&as_json(&findings)).unwrap();
        assert_eq!((json[1]["state"].as_str(), json[1]["fix"].as_str()), (Some("fail"), Some("raise it")));
    }

    #[test]
    fn this_machine_gets_a_finding_of_each_kind() {
        let system = System::here();
        let mut findings = limits::findings(&system, 1000);
        findings.extend(network::findings(&system, 1000));
        findings.extend(processor::findings(&system));
        findings.extend(storage::findings(&system, std::path::Path::new(".")));
        for id in ["files", "io-uring", "accept-queue", "port-range", "clock-source", "free-disk"] {
            assert!(findings.iter().any(|finding| finding.id == id), "{id}");
        }
    }
}
