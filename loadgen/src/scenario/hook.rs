//! What the caller does to the broker in the middle of a run: a command line that restarts, crashes or moves it.

use super::run::Run;
use crate::clock;
use crate::interrupt;
use anyhow::{Context, Result, bail};
use std::net::{SocketAddr, TcpStream};
use std::process::{Command, Stdio};
use std::time::Duration;

/// Between two tries to reach the broker.
const RETRY: Duration = Duration::from_millis(20);

/// Runs the command line in a shell, while the load goes on, and waits until the broker accepts connections.
/// Returns the time from the end of the command to the first accepted connection.
pub fn run(run: &mut Run<'_>, command: &str, timeout: Duration) -> Result<Duration> {
    run.watch.phase("hook-begin");
    // Stdout is for the program that started us.
    let mut child = Command::new("sh")
        .args(["-c", command])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .spawn()
        .context("cannot start the hook")?;
    let deadline = clock::now_ns() + timeout.as_nanos() as u64;
    let status = loop {
        if let Some(status) = child.try_wait().context("hook")? {
            break status;
        }
        if clock::now_ns() > deadline || interrupt::is_interrupted() {
            child.kill().context("hook")?;
            bail!("the hook did not end within {timeout:?}");
        }
        let look = clock::now_ns() + RETRY.as_nanos() as u64;
        run.watch.sleep_until(&run.generator, look)?;
    };
    if !status.success() {
        bail!("the hook failed: {status}");
    }
    let ended_ns = clock::now_ns();
    let target = run.generator.plan().options.targets[0];
    while !accepts(target) {
        if clock::now_ns() > deadline || interrupt::is_interrupted() {
            bail!("{target} accepts no connections {timeout:?} after the hook began");
        }
        let look = clock::now_ns() + RETRY.as_nanos() as u64;
        run.watch.sleep_until(&run.generator, look)?;
    }
    run.watch.phase("hook-end");
    Ok(Duration::from_nanos(clock::now_ns() - ended_ns))
}

fn accepts(target: SocketAddr) -> bool {
    TcpStream::connect_timeout(&target, Duration::from_secs(1)).is_ok()
}
