//! Brokers under test: how each is started (`perf/brokers/*.toml`, or a command line), and one that runs, pinned to its
//! cores, in a directory of its own that goes with it.

use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context, bail};
use serde::{Deserialize, Serialize};

use crate::cores::CoreSet;
use crate::host::first_line_of;

const START_TIMEOUT: Duration = Duration::from_secs(20);
const STOP_TIMEOUT: Duration = Duration::from_secs(10);
/// Bytes of a broker's output that are told when it fails.
const LOG_TAIL_BYTES: usize = 2000;

/// How to start a broker. Strings may hold `{port}`, `{port_v5}`, `{admin_port}`, `{dir}`, `{core_count}`, `{self}` and
/// `{peers}`.
#[derive(Clone, Debug, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Definition {
    #[serde(default)]
    pub title: String,
    #[serde(default)]
    pub about: String,
    pub command: Vec<String>,
    /// Prints the version in its first line.
    #[serde(default)]
    pub version: Vec<String>,
    /// Installs the broker.
    #[serde(default)]
    pub install: Vec<String>,
    /// What scenarios may need and this broker has not.
    #[serde(default)]
    pub lacks: Vec<String>,
    /// `host:port/path` of Prometheus metrics.
    pub metrics: Option<String>,
    /// Written into `{dir}` before the start.
    #[serde(default)]
    pub files: BTreeMap<String, String>,
}

/// What a result keeps of a broker.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct BrokerFacts {
    pub name: String,
    pub about: String,
    pub version: String,
    /// With the placeholders, as they differ from run to run.
    pub command: String,
    pub files: BTreeMap<String, String>,
}

impl Definition {
    pub fn read(path: &Path) -> anyhow::Result<Definition> {
        let text = fs::read_to_string(path).with_context(|| format!("reading {}", path.display()))?;
        let mut definition: Definition = toml::from_str(&text).with_context(|| path.display().to_string())?;
        if definition.title.is_empty() {
            definition.title = path.file_stem().unwrap_or_default().to_string_lossy().into_owned();
        }
        if definition.command.is_empty() {
            bail!("{}: the command is empty", path.display());
        }
        Ok(definition)
    }

    /// From `name=command line`, split at spaces.
    pub fn from_command_line(text: &str) -> anyhow::Result<Definition> {
        let (name, command) =
            text.split_once('=').context("a broker is NAME or NAME=COMMAND LINE with {port}")?;
        let command: Vec<String> = command.split_whitespace().map(str::to_owned).collect();
        if name.is_empty() || command.is_empty() {
            bail!("'{text}': a broker is NAME or NAME=COMMAND LINE with {{port}}");
        }
        Ok(Definition {
            title: name.into(),
            about: "given on the command line".into(),
            command,
            version: Vec::new(),
            install: Vec::new(),
            lacks: Vec::new(),
            metrics: None,
            files: BTreeMap::new(),
        })
    }

    pub fn facts(&self, programs: &Programs) -> BrokerFacts {
        let version = self
            .version
            .split_first()
            .and_then(|(program, arguments)| first_line_of(programs.find(program).ok()?, arguments));
        BrokerFacts {
            name: self.title.clone(),
            about: self.about.clone(),
            version: version.unwrap_or_else(|| "unknown".into()),
            command: self.command.join(" "),
            files: self
                .files
                .iter()
                .filter(|(_, text)| !text.is_empty())
                .map(|(k, v)| (k.clone(), v.clone()))
                .collect(),
        }
    }

    /// Runs the definition's own installation.
    pub fn install(&self, programs: &Programs) -> anyhow::Result<()> {
        let Some((program, arguments)) = self.install.split_first() else {
            bail!("{}: the definition does not say how to install it", self.title);
        };
        let peers = programs.peers.display().to_string();
        let arguments = arguments.iter().map(|argument| argument.replace("{peers}", &peers));
        let status =
            Command::new(program).args(arguments).status().with_context(|| format!("starting {program}"))?;
        match status.success() {
            true => Ok(()),
            false => bail!("installing {}: {status}", self.title),
        }
    }
}

/// Where programs are looked for: beside this one, among the installed peers, then in PATH.
#[derive(Clone, Debug)]
pub struct Programs {
    pub own: PathBuf,
    pub peers: PathBuf,
}

impl Programs {
    /// Peers are installed beside the build: `target/peers` for a program in `target/release`.
    pub fn new() -> io::Result<Programs> {
        let own = std::env::current_exe()?;
        let target = own.parent().and_then(Path::parent).unwrap_or(Path::new("."));
        let peers = target.join("peers");
        Ok(Programs { own, peers })
    }

    pub fn find(&self, program: &str) -> anyhow::Result<PathBuf> {
        if program == "{self}" {
            return Ok(self.own.clone());
        }
        if program.contains('/') {
            return Ok(program.into());
        }
        let beside = self.own.parent().map(Path::to_owned);
        let path = std::env::var_os("PATH").unwrap_or_default();
        // Debian keeps servers where an ordinary user's PATH does not reach.
        let system = ["/usr/sbin", "/usr/local/sbin"].map(PathBuf::from);
        let folders = beside
            .into_iter()
            .chain([self.peers.join("bin")])
            .chain(std::env::split_paths(&path))
            .chain(system);
        let mut candidates = folders.map(|folder| folder.join(program));
        candidates
            .find(|candidate| candidate.is_file())
            .with_context(|| format!("{program} is not installed"))
    }
}

/// A broker that serves. It ends with this value.
pub struct Running {
    process: Child,
    dir: PathBuf,
    pub address: SocketAddr,
    /// Where version 5 is served, for a broker with a listener of its own for it.
    pub address_v5: SocketAddr,
    pub metrics: Option<String>,
    pub command: String,
}

impl Running {
    /// Starts it on `cores` and waits until it accepts connections.
    pub fn start(definition: &Definition, programs: &Programs, cores: &CoreSet) -> anyhow::Result<Running> {
        let has_v5_port =
            definition.files.values().chain(&definition.command).any(|text| text.contains("{port_v5}"));
        let [port, port_v5, admin_port] = free_ports()?;
        let port_v5 = if has_v5_port { port_v5 } else { port };
        let dir = make_dir()?;
        let places = [
            ("{port}", port.to_string()),
            ("{port_v5}", port_v5.to_string()),
            ("{admin_port}", admin_port.to_string()),
            ("{dir}", dir.display().to_string()),
            ("{core_count}", cores.count().to_string()),
            ("{self}", programs.own.display().to_string()),
            ("{peers}", programs.peers.display().to_string()),
        ];
        let fill =
            |text: &str| places.iter().fold(text.to_owned(), |text, (name, value)| text.replace(name, value));
        for (name, text) in &definition.files {
            fs::write(dir.join(name), fill(text)).with_context(|| format!("writing {name}"))?;
        }
        let log = fs::File::create(dir.join("log"))?;
        let program = programs.find(&definition.command[0])?;
        let arguments: Vec<String> = definition.command[1..].iter().map(|argument| fill(argument)).collect();
        let mut command = Command::new(&program);
        command.args(&arguments).stdin(Stdio::null()).stdout(log.try_clone()?).stderr(log).current_dir(&dir);
        pin_child(&mut command, cores);
        let process = command.spawn().with_context(|| format!("starting {}", program.display()))?;
        let mut running = Running {
            process,
            dir,
            address: SocketAddr::from(([127, 0, 0, 1], port)),
            address_v5: SocketAddr::from(([127, 0, 0, 1], port_v5)),
            metrics: definition.metrics.as_deref().map(fill),
            command: format!("taskset -c {cores} {} {}", program.display(), arguments.join(" ")),
        };
        running.await_listening().with_context(|| format!("{}: {}", definition.title, running.command))?;
        Ok(running)
    }

    pub fn pid(&self) -> u32 {
        self.process.id()
    }

    fn await_listening(&mut self) -> anyhow::Result<()> {
        let start = Instant::now();
        for address in [self.address, self.address_v5] {
            while TcpStream::connect_timeout(&address, Duration::from_secs(1)).is_err() {
                if let Some(status) = self.process.try_wait()? {
                    bail!("it ended with {status}: {}", self.log_tail());
                }
                if start.elapsed() > START_TIMEOUT {
                    bail!(
                        "does not listen on {address} after {} s: {}",
                        START_TIMEOUT.as_secs(),
                        self.log_tail()
                    );
                }
                std::thread::sleep(Duration::from_millis(5));
            }
        }
        Ok(())
    }

    /// How it ended, if it did although nobody told it to.
    pub fn has_ended(&mut self) -> Option<ExitStatus> {
        self.process.try_wait().ok().flatten()
    }

    pub fn log_tail(&self) -> String {
        let log = fs::read(self.dir.join("log")).unwrap_or_default();
        let tail = &log[log.len().saturating_sub(LOG_TAIL_BYTES)..];
        String::from_utf8_lossy(tail).trim().to_owned()
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // SAFETY: the process is our child and not yet waited for, so the number is still its own.
        unsafe { libc::kill(self.process.id() as libc::pid_t, libc::SIGTERM) };
        let start = Instant::now();
        while start.elapsed() < STOP_TIMEOUT && !matches!(self.process.try_wait(), Ok(Some(_)) | Err(_)) {
            std::thread::sleep(Duration::from_millis(5));
        }
        let _ = self.process.kill();
        let _ = self.process.wait();
        let _ = fs::remove_dir_all(&self.dir);
    }
}

/// Pins a child before it runs, and lets it die with us.
pub fn pin_child(command: &mut Command, cores: &CoreSet) {
    let cores = cores.clone();
    // SAFETY: between fork and exec there are only system calls, on values that exist already.
    unsafe {
        command.pre_exec(move || {
            libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
            cores.pin()
        });
    }
}

/// Ports that were free a moment ago.
fn free_ports<const N: usize>() -> io::Result<[u16; N]> {
    let mut held = Vec::new();
    let mut ports = [0; N];
    for port in &mut ports {
        let listener = TcpListener::bind("127.0.0.1:0")?;
        *port = listener.local_addr()?.port();
        held.push(listener);
    }
    Ok(ports)
}

fn make_dir() -> io::Result<PathBuf> {
    let stamp = std::time::UNIX_EPOCH.elapsed().unwrap_or_default().as_nanos();
    let dir = std::env::temp_dir().join(format!("shardmq-perf-{}-{stamp}", std::process::id()));
    fs::create_dir_all(&dir)?;
    Ok(dir)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn programs() -> Programs {
        Programs { own: "/nowhere/shardmq-perf".into(), peers: "/nowhere/peers".into() }
    }

    #[test]
    fn the_shipped_definitions_are_valid() {
        let folder = Path::new(env!("CARGO_MANIFEST_DIR")).join("brokers");
        let mut titles = Vec::new();
        for entry in fs::read_dir(folder).unwrap() {
            let definition = Definition::read(&entry.unwrap().path()).unwrap();
            assert!(!definition.about.is_empty() && !definition.version.is_empty(), "{definition:?}");
            titles.push(definition.title);
        }
        titles.sort();
        assert_eq!(titles, ["floor", "mosquitto", "rumqttd", "shardmq"]);
    }

    #[test]
    fn a_command_line_defines_a_broker() {
        let definition = Definition::from_command_line("mine=/opt/mine --port {port}").unwrap();
        assert_eq!((definition.title.as_str(), definition.command.len()), ("mine", 3));
        for text in ["mine", "=cmd", "mine="] {
            assert!(Definition::from_command_line(text).is_err(), "{text}");
        }
    }

    #[test]
    fn a_broker_that_ends_at_once_is_reported_with_what_it_said() {
        let mut definition = Definition::from_command_line("bad=sh").unwrap();
        definition.command.extend(["-c".into(), "echo the reason is {port} >&2; exit 3".into()]);
        let cores = CoreSet::allowed().unwrap();
        let error =
            format!("{:#}", Running::start(&definition, &programs(), &cores).err().expect("an error"));
        assert!(error.contains("the reason is ") && error.contains("exit status: 3"), "{error}");
    }

    #[test]
    fn a_missing_program_is_named() {
        let error = programs().find("no-such-broker").unwrap_err();
        assert_eq!(error.to_string(), "no-such-broker is not installed");
    }
}
