//! CPU profiles and system call counts of a broker, taken with `perf` from outside while it serves. Both disturb what
//! they look at, so they belong to runs whose other figures are not used.

use std::path::Path;
use std::process::{Command, Stdio};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

/// Samples each second; odd, so that it does not beat with timers.
const FREQUENCY: u32 = 499;
/// Deeper stacks are cut, at the leaf.
const DEPTH_MAX: usize = 64;
/// Frames below this share of all samples are left out of a result.
const SHARE_MIN: f64 = 0.002;

/// A function and what it called: a node of a flame graph.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Frame {
    pub name: String,
    /// Samples in it and below.
    pub samples: u64,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub children: Vec<Frame>,
}

/// Why `perf` cannot be used here; None if it can.
pub fn obstacle() -> Option<String> {
    let output =
        Command::new("perf").args(["stat", "-x,", "-e", "raw_syscalls:sys_enter", "--", "true"]).output();
    match output {
        Err(error) => Some(format!("perf cannot be started: {error} (Debian: linux-perf)")),
        Ok(output) if !output.status.success() => {
            let text = String::from_utf8_lossy(&output.stderr);
            let line = text.lines().find(|line| !line.trim().is_empty()).unwrap_or("no reason given");
            Some(format!("perf is not allowed to trace: {line} (root, or kernel.perf_event_paranoid=-1)"))
        }
        Ok(_) => None,
    }
}

/// System calls that a process enters during `seconds`.
pub fn count_system_calls(pid: u32, seconds: f64) -> anyhow::Result<u64> {
    let output = Command::new("perf")
        .args([
            "stat",
            "-x,",
            "-e",
            "raw_syscalls:sys_enter",
            "-p",
            &pid.to_string(),
            "--",
            "sleep",
            &seconds.to_string(),
        ])
        .stdin(Stdio::null())
        .output()
        .context("starting perf")?;
    let text = String::from_utf8_lossy(&output.stderr);
    parse_count(&text).with_context(|| format!("perf stat said: {}", text.trim()))
}

/// The number in `1234,,raw_syscalls:sys_enter,...`.
fn parse_count(text: &str) -> Option<u64> {
    let line = text.lines().find(|line| line.contains("raw_syscalls:sys_enter"))?;
    line.split(',').next()?.trim().parse().ok()
}

/// Where a process spends its CPU time during `seconds`. `scratch` is a folder for perf's data.
pub fn record(pid: u32, seconds: f64, scratch: &Path) -> anyhow::Result<Frame> {
    let data = scratch.join("perf.data");
    let status = Command::new("perf")
        .args(["record", "--quiet", "--event", "cpu-clock", "--call-graph", "dwarf,16384"])
        .args(["--freq", &FREQUENCY.to_string(), "--pid", &pid.to_string(), "--output"])
        .arg(&data)
        .args(["--", "sleep", &seconds.to_string()])
        .stdin(Stdio::null())
        .output()
        .context("starting perf")?;
    if !status.status.success() {
        bail!("perf record: {}", String::from_utf8_lossy(&status.stderr).trim());
    }
    let script = Command::new("perf")
        .args(["script", "--no-inline", "--fields", "comm,ip,sym", "--input"])
        .arg(&data)
        .stdin(Stdio::null())
        .output()
        .context("starting perf script")?;
    let _ = std::fs::remove_file(&data);
    let tree = fold(&String::from_utf8_lossy(&script.stdout));
    match tree.samples {
        0 => bail!("perf took no samples: {}", String::from_utf8_lossy(&script.stderr).trim()),
        _ => Ok(tree),
    }
}

/// From the text of `perf script`: samples are separated by empty lines, each a line with the thread's name and then
/// its frames, innermost first.
fn fold(script: &str) -> Frame {
    let mut root = Frame { name: "all".into(), ..Frame::default() };
    for sample in script.split("\n\n") {
        let mut lines = sample.lines().filter(|line| !line.trim().is_empty());
        let Some(thread) = lines.next() else { continue };
        let mut stack: Vec<&str> = lines.map(function_name).collect();
        stack.push(thread.trim());
        root.samples += 1;
        let mut node = &mut root;
        for name in stack.iter().rev().take(DEPTH_MAX) {
            node = child(node, name);
            node.samples += 1;
        }
    }
    let samples_min = (root.samples as f64 * SHARE_MIN).ceil() as u64;
    prune(&mut root, samples_min);
    root
}

fn child<'a>(node: &'a mut Frame, name: &str) -> &'a mut Frame {
    let index = match node.children.iter().position(|child| child.name == name) {
        Some(index) => index,
        None => {
            node.children.push(Frame { name: name.to_owned(), ..Frame::default() });
            node.children.len() - 1
        }
    };
    &mut node.children[index]
}

fn prune(node: &mut Frame, samples_min: u64) {
    node.children.retain(|child| child.samples >= samples_min);
    node.children.sort_by_key(|child| std::cmp::Reverse(child.samples));
    for child in &mut node.children {
        prune(child, samples_min);
    }
}

/// Without the address before it and the compiler's hash behind it.
fn function_name(line: &str) -> &str {
    let name = line.trim().split_once(' ').map_or("[unknown]", |(_, name)| name.trim());
    let is_hash =
        |suffix: &str| suffix.len() == 17 && suffix[1..].bytes().all(|byte| byte.is_ascii_hexdigit());
    match name.rsplit_once("::") {
        Some((path, suffix)) if suffix.starts_with('h') && is_hash(suffix) => path,
        _ => name,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn samples_are_folded_into_a_tree() {
        let script = "shard-0 \n\t  ffff tcp_sendmsg\n\t 1234 shard::turn::h0123456789abcdef\n\n\
                      shard-0 \n\t  ffff tcp_sendmsg\n\t 1234 shard::turn::h0123456789abcdef\n\n\
                      shard-0 \n\t 1240 shard::turn::h0123456789abcdef\n\nother \n\t 99 [unknown]\n\n";
        let root = fold(script);
        assert_eq!((root.samples, root.children.len()), (4, 2));
        let shard = &root.children[0];
        assert_eq!((shard.name.as_str(), shard.samples), ("shard-0", 3));
        let turn = &shard.children[0];
        assert_eq!((turn.name.as_str(), turn.samples), ("shard::turn", 3));
        assert_eq!((turn.children[0].name.as_str(), turn.children[0].samples), ("tcp_sendmsg", 2));
    }

    #[test]
    fn rare_frames_are_left_out() {
        let common = "t \n\t 1 often\n\n".repeat(1000);
        let root = fold(&format!("{common}t \n\t 2 once\n\n"));
        assert_eq!(root.samples, 1001);
        assert_eq!(root.children[0].children.len(), 1);
    }

    #[test]
    fn counts_are_read_from_perf_stat() {
        assert_eq!(parse_count("4711,,raw_syscalls:sys_enter,500,100.00,,\n"), Some(4711));
        assert_eq!(parse_count("<not counted>,,raw_syscalls:sys_enter,0,100.00,,\n"), None);
    }
}
