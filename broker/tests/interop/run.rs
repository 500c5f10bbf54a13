//! One library, in one version, against one broker.

use std::collections::HashMap;
use std::io::Read;
use std::process::Stdio;
use std::sync::OnceLock;
use std::time::{Duration, Instant};

use super::judges::{Judge, Version};
use super::support::Broker;

/// The most that a whole table may take; reached only when a library hangs.
const RUN_MAX: Duration = Duration::from_secs(100);

pub struct Run {
    judge: &'static Judge,
    version: Version,
    shards: usize,
    report: OnceLock<Report>,
}

struct Report {
    /// None: the row holds; otherwise why not.
    faults: HashMap<String, Option<String>>,
    stderr: String,
}

impl Report {
    fn verdict(&self, row: &str) -> Result<(), String> {
        match self.faults.get(row) {
            Some(None) => Ok(()),
            Some(Some(fault)) => Err(fault.clone()),
            None => Err(format!("the library did not report it; its errors:\n{}", self.stderr)),
        }
    }
}

impl Run {
    pub fn new(judge: &'static Judge, version: Version, shards: usize) -> Run {
        Run { judge, version, shards, report: OnceLock::new() }
    }

    /// The first row that is asked for runs the whole table, the others wait for it.
    pub fn verdict(&self, row: &str) -> Result<(), String> {
        self.report.get_or_init(|| self.make_report()).verdict(row)
    }

    fn make_report(&self) -> Report {
        let broker = Broker::with_shards(self.shards).start();
        let mut command = (self.judge.command)();
        command.arg(broker.port().to_string()).arg(self.version.to_string());
        command.stdin(Stdio::null()).stdout(Stdio::piped()).stderr(Stdio::piped());
        let mut child = command.spawn().unwrap_or_else(|error| panic!("{command:?}: {error}"));
        let stdout = read_all(child.stdout.take().expect("it is piped"));
        let stderr = read_all(child.stderr.take().expect("it is piped"));
        let until = Instant::now() + RUN_MAX;
        while child.try_wait().expect("it is our child").is_none() && Instant::now() < until {
            std::thread::sleep(Duration::from_millis(10));
        }
        let _ = child.kill();
        let _ = child.wait();
        let stdout = stdout.join().expect("a reader does not panic");
        let stderr = stderr.join().expect("a reader does not panic");
        Report { faults: stdout.lines().filter_map(parse).collect(), stderr }
    }
}

/// `ROW<TAB>ok` or `ROW<TAB>failed<TAB>why`.
fn parse(line: &str) -> Option<(String, Option<String>)> {
    let mut fields = line.splitn(3, '\t');
    let row = fields.next()?.to_owned();
    match (fields.next()?, fields.next()) {
        ("ok", None) => Some((row, None)),
        ("failed", why) => Some((row, Some(why.unwrap_or_default().to_owned()))),
        _ => None,
    }
}

fn read_all(mut stream: impl Read + Send + 'static) -> std::thread::JoinHandle<String> {
    std::thread::spawn(move || {
        let mut bytes = vec![];
        let _ = stream.read_to_end(&mut bytes);
        String::from_utf8_lossy(&bytes).into_owned()
    })
}
