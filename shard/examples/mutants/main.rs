//! Mutation check: puts one deliberate fault at a time into a copy of the workspace and runs the core's tests on it.
//! Every fault has to be caught. `cargo run -p shardmq-shard --example mutants [PARTS OF NAMES]`; the copy and its
//! build are in `target/mutants`.

mod faults;

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Instant;

use anyhow::{Context, Result, bail, ensure};
use faults::{FAULTS, Fault};

fn main() -> Result<()> {
    let wanted: Vec<String> = std::env::args().skip(1).collect();
    let is_wanted =
        |fault: &Fault| wanted.is_empty() || wanted.iter().any(|part| fault.name.contains(part.as_str()));
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().context("the workspace")?.to_owned();
    let home = root.join("target/mutants");
    let copy = home.join("tree");
    copy_sources(&root, &copy)?;
    let bench = Bench { copy, build: home.join("build") };
    for fault in FAULTS {
        bench.check_place(fault)?;
    }
    ensure!(bench.run()?.is_none(), "the tests fail without any fault");
    let mut missed = Vec::new();
    for fault in FAULTS.iter().filter(|fault| is_wanted(fault)) {
        let began = Instant::now();
        let caught = bench.run_with(fault).with_context(|| format!("fault {}", fault.name))?;
        let seconds = began.elapsed().as_secs();
        match caught {
            Some(by) => println!("| {} | `{}` | {by} |  <!-- {seconds} s -->", fault.what, fault.file),
            None => {
                println!("| {} | `{}` | MISSED |  <!-- {} -->", fault.what, fault.file, fault.name);
                missed.push(fault.name);
            }
        }
    }
    ensure!(missed.is_empty(), "{} faults are missed: {missed:?}", missed.len());
    Ok(())
}

/// The files that git knows, as they are now.
fn copy_sources(root: &Path, copy: &Path) -> Result<()> {
    let listed =
        Command::new("git").args(["ls-files", "-co", "--exclude-standard"]).current_dir(root).output()?;
    ensure!(listed.status.success(), "git lists the sources");
    for name in String::from_utf8(listed.stdout)?.lines() {
        let (from, to) = (root.join(name), copy.join(name));
        let Ok(text) = fs::read(&from) else { continue };
        // What has not changed keeps its time, so that it is not built again.
        if fs::read(&to).is_ok_and(|known| known == text) {
            continue;
        }
        fs::create_dir_all(to.parent().context("a directory")?)?;
        fs::write(&to, text)?;
    }
    Ok(())
}

/// Tests one after the other, those first that take the least time to build and to run.
const STAGES: [&[&str]; 3] = [
    &["--lib", "--test", "basics", "--test", "lane_races", "--test", "memory", "--test", "passing"],
    &["--test", "conformance"],
    &["--test", "simulation"],
];

struct Bench {
    copy: PathBuf,
    build: PathBuf,
}

impl Bench {
    /// The code may have moved: that shall not be found out after an hour.
    fn check_place(&self, fault: &Fault) -> Result<()> {
        let text = fs::read_to_string(self.copy.join(fault.file))?;
        let places = text.matches(fault.search).count();
        ensure!(places == 1, "{}: `{}` stands {places} times in {}", fault.name, fault.search, fault.file);
        Ok(())
    }

    /// Runs the tests with the fault in place; the name of the test that caught it.
    fn run_with(&self, fault: &Fault) -> Result<Option<String>> {
        let path = self.copy.join(fault.file);
        let original = fs::read_to_string(&path)?;
        fs::write(&path, original.replacen(fault.search, fault.replace, 1))?;
        let result = self.run();
        fs::write(&path, original)?;
        result
    }

    fn run(&self) -> Result<Option<String>> {
        for tests in STAGES {
            if let Some(by) = self.run_tests(tests)? {
                return Ok(Some(by));
            }
        }
        Ok(None)
    }

    fn run_tests(&self, tests: &[&str]) -> Result<Option<String>> {
        let output = Command::new(env!("CARGO"))
            .args(["test", "-p", "shardmq-shard", "--no-default-features"])
            .args(tests)
            .env("CARGO_TARGET_DIR", &self.build)
            .env("RUST_BACKTRACE", "0")
            .env("SIM_SEEDS", "2000")
            .env("SIM_FIRST", "1")
            .current_dir(&self.copy)
            .output()?;
        if output.status.success() {
            return Ok(None);
        }
        let text =
            String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
        if text.contains("could not compile") {
            bail!("it does not compile:\n{text}");
        }
        let by = text.lines().find_map(|line| line.strip_prefix("test ")?.strip_suffix(" ... FAILED"));
        let why = text.lines().find(|line| line.starts_with("seed ")).unwrap_or_default();
        let why: String = why.split_once(": ").map_or("", |(_, why)| why).chars().take(70).collect();
        Ok(Some(format!(
            "{}{}",
            by.unwrap_or("a test").trim(),
            if why.is_empty() { why } else { format!(": {why}") }
        )))
    }
}
