//! A broker process for one test: the real binary on free ports, stopped when it is dropped.
//!
//! ```ignore
//! let broker = Broker::start();
//! let broker = Broker::with_shards(2).set("mqtt.receive_maximum", "5").start();
//! connect(broker.address());
//! ```

// Each test binary uses its part.
#![allow(dead_code)]

pub mod barrier;
pub mod client;
pub mod crowd;
pub mod logs;
pub mod openmetrics;
pub mod packets;

use std::ffi::OsString;
use std::io::{BufRead, BufReader, Read, Write};
use std::net::{SocketAddr, TcpStream};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Condvar, Mutex};
use std::time::{Duration, Instant};

use serde_json::Value;

/// The most that anything may take here; reached only when a test fails.
pub const PATIENCE: Duration = Duration::from_secs(30);

/// `shardmq` with those arguments, and nothing of our environment that configures it.
pub fn shardmq<I: AsRef<std::ffi::OsStr>>(arguments: impl IntoIterator<Item = I>) -> Command {
    let mut command = Command::new(env!("CARGO_BIN_EXE_shardmq"));
    for (name, _) in std::env::vars().filter(|(name, _)| name.starts_with("SHARDMQ_")) {
        command.env_remove(name);
    }
    command.args(arguments).stdin(Stdio::null());
    command
}

/// How a broker is started. Shards are not pinned, since tests share the cores.
pub struct BrokerBuilder {
    arguments: Vec<OsString>,
    listeners: Vec<String>,
    variables: Vec<(String, String)>,
    descriptors_max: Option<u64>,
    is_log_text: bool,
}

impl BrokerBuilder {
    pub fn set(self, option: &str, value: &str) -> BrokerBuilder {
        self.argument("--set").argument(format!("{option}={value}"))
    }

    pub fn argument(mut self, argument: impl Into<OsString>) -> BrokerBuilder {
        self.arguments.push(argument.into());
        self
    }

    /// In place of the one on 127.0.0.1.
    pub fn listeners(mut self, listeners: &[&str]) -> BrokerBuilder {
        self.listeners = listeners.iter().map(|listener| listener.to_string()).collect();
        self
    }

    pub fn variable(mut self, name: &str, value: &str) -> BrokerBuilder {
        self.variables.push((name.to_owned(), value.to_owned()));
        self
    }

    /// Open files of the process, at most.
    pub fn descriptors_max(self, count: u64) -> BrokerBuilder {
        BrokerBuilder { descriptors_max: Some(count), ..self }
    }

    /// Log lines for people in place of JSON. `Broker::wait_for_log` finds none of them.
    pub fn text_log(self) -> BrokerBuilder {
        BrokerBuilder { is_log_text: true, ..self }
    }

    /// Returns when the broker has said that it is ready.
    pub fn start(self) -> Broker {
        let listeners =
            self.listeners.iter().flat_map(|listener| ["--listener".to_owned(), listener.clone()]);
        let format = if self.is_log_text { "log.format=text" } else { "log.format=json" };
        let mut command = shardmq(["serve", "--admin", "127.0.0.1:0", "--set", format]);
        command.args(listeners).args(&self.arguments).envs(self.variables).stderr(Stdio::piped());
        if let Some(count) = self.descriptors_max {
            let limit = move || {
                let limit = libc::rlimit { rlim_cur: count, rlim_max: count };
                // SAFETY: `limit` outlives the call.
                match unsafe { libc::setrlimit(libc::RLIMIT_NOFILE, &limit) } {
                    0 => Ok(()),
                    _ => Err(std::io::Error::last_os_error()),
                }
            };
            // SAFETY: only a system call that is allowed between fork and exec.
            unsafe { command.pre_exec(limit) };
        }
        let mut child = command.spawn().expect("the binary was built");
        let log = Log::follow(child.stderr.take().expect("it is piped"));
        let ready = match self.is_log_text {
            true => log.find(ready_of_text),
            false => log.wait_for(|line| line["message"] == "ready"),
        };
        let ready = ready.unwrap_or_else(|| panic!("not ready; its log:\n{}", log.text()));
        Broker { child, log, ready }
    }
}

/// The fields of a line `ready` for people, as far as tests use them.
fn ready_of_text(line: &str) -> Option<Value> {
    let field = |name: &str| line.split(&format!("{name}=\"")).nth(1)?.split('"').next();
    let is_ready = line.contains(" ready ");
    is_ready.then(|| serde_json::json!({ "listeners": field("listeners"), "admin": field("admin") }))
}

pub struct Broker {
    child: Child,
    log: Log,
    ready: Value,
}

impl Broker {
    /// One shard, defaults.
    pub fn start() -> Broker {
        Broker::with_shards(1).start()
    }

    pub fn with_shards(shards: usize) -> BrokerBuilder {
        let builder = BrokerBuilder {
            arguments: Vec::new(),
            listeners: vec!["tcp://127.0.0.1:0".to_owned()],
            variables: Vec::new(),
            descriptors_max: None,
            is_log_text: false,
        };
        builder
            .argument("--cores")
            .argument(shards.to_string())
            .set("runtime.overprovisioned", "true")
            .set("runtime.memory", "1 GiB")
    }

    /// The fields of the line `ready`.
    pub fn ready(&self) -> &Value {
        &self.ready
    }

    /// Of the first listener.
    pub fn address(&self) -> SocketAddr {
        self.addresses().remove(0).1
    }

    pub fn port(&self) -> u16 {
        self.address().port()
    }

    /// Name and address of each listener.
    pub fn addresses(&self) -> Vec<(String, SocketAddr)> {
        let listeners = self.ready["listeners"].as_str().expect("`ready` names the listeners");
        let address = |listener: &str| {
            let (name, address) = listener.split_once('=')?;
            Some((name.to_owned(), address.split_once("://")?.1.parse().ok()?))
        };
        listeners.split(' ').map(|listener| address(listener).expect("NAME=KIND://ADDRESS")).collect()
    }

    pub fn admin(&self) -> SocketAddr {
        self.ready["admin"]
            .as_str()
            .and_then(|admin| admin.parse().ok())
            .expect("`ready` names the admin address")
    }

    /// GET on the admin address: status and body.
    pub fn get(&self, path: &str) -> (u16, String) {
        http_get(self.admin(), path)
    }

    /// The JSON log line that `is_meant`, once it is there.
    pub fn wait_for_log(&self, is_meant: impl Fn(&Value) -> bool) -> Value {
        let line = self.log.wait_for(is_meant);
        line.unwrap_or_else(|| panic!("no such line; the log:\n{}", self.log.text()))
    }

    pub fn log_text(&self) -> String {
        self.log.text()
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    pub fn terminate(&self) {
        self.signal(libc::SIGTERM);
    }

    pub fn signal(&self, signal: i32) {
        // SAFETY: no memory is passed; the process is our child and not waited for yet, so the id is its own.
        let result = unsafe { libc::kill(self.child.id() as libc::pid_t, signal) };
        assert_eq!(result, 0, "the broker runs");
    }

    /// Waits for the end of the process.
    pub fn wait(&mut self) -> ExitStatus {
        let status = wait_for_end(&mut self.child);
        status.unwrap_or_else(|| panic!("it does not end; its log:\n{}", self.log.text()))
    }
}

/// None: it still runs when patience ends.
pub fn wait_for_end(child: &mut Child) -> Option<ExitStatus> {
    let until = Instant::now() + PATIENCE;
    while Instant::now() < until {
        if let Some(status) = child.try_wait().expect("it is our child") {
            return Some(status);
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    None
}

impl Drop for Broker {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
        if std::thread::panicking() {
            eprintln!("the broker's log:\n{}", self.log.text());
        }
    }
}

/// What a process writes to standard error, line by line.
pub struct Log(Arc<(Mutex<LogState>, Condvar)>);

#[derive(Default)]
struct LogState {
    lines: Vec<String>,
    is_ended: bool,
}

impl Log {
    pub fn follow(stream: impl Read + Send + 'static) -> Log {
        let log = Log(Arc::default());
        let shared = log.0.clone();
        std::thread::spawn(move || {
            for line in BufReader::new(stream).lines().map_while(Result::ok) {
                shared.0.lock().expect("no reader panics").lines.push(line);
                shared.1.notify_all();
            }
            shared.0.lock().expect("no reader panics").is_ended = true;
            shared.1.notify_all();
        });
        log
    }

    /// None: the process ended, or patience did, without such a line. Lines that are no JSON are passed over.
    pub fn wait_for(&self, is_meant: impl Fn(&Value) -> bool) -> Option<Value> {
        self.find(|line| serde_json::from_str(line).ok().filter(&is_meant))
    }

    /// What is found in the first line that has it.
    pub fn find<T>(&self, wanted: impl Fn(&str) -> Option<T>) -> Option<T> {
        let until = Instant::now() + PATIENCE;
        let mut state = self.0.0.lock().expect("no reader panics");
        let mut seen = 0;
        loop {
            if let Some(found) = state.lines[seen..].iter().find_map(|line| wanted(line)) {
                return Some(found);
            }
            seen = state.lines.len();
            let left = until.saturating_duration_since(Instant::now());
            if state.is_ended || left.is_zero() {
                return None;
            }
            state = self.0.1.wait_timeout(state, left).expect("no reader panics").0;
        }
    }

    pub fn text(&self) -> String {
        self.0.0.lock().expect("no reader panics").lines.join("\n")
    }
}

/// Status and body of a GET.
pub fn http_get(address: SocketAddr, path: &str) -> (u16, String) {
    let mut stream = TcpStream::connect(address).expect("the admin endpoint listens");
    stream.set_read_timeout(Some(PATIENCE)).expect("a valid timeout");
    write!(stream, "GET {path} HTTP/1.1\r\nHost: test\r\nConnection: close\r\n\r\n").expect("it reads");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("it answers");
    let (head, body) = answer.split_once("\r\n\r\n").expect("head and body");
    let status = head.split(' ').nth(1).and_then(|status| status.parse().ok()).expect("a status");
    (status, body.to_owned())
}

/// Tries again until something holds.
pub fn eventually<T>(what: &str, mut attempt: impl FnMut() -> Option<T>) -> T {
    let until = Instant::now() + PATIENCE;
    loop {
        if let Some(result) = attempt() {
            return result;
        }
        assert!(Instant::now() < until, "{what}: not within {PATIENCE:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}
