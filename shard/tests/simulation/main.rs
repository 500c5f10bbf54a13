//! Deterministic simulation of a node: a seed decides shards, limits, clients, the network and every schedule. The
//! oracle judges what shards emit. `just sim SEED` replays one seed with its trace; `SIM_SEEDS=n SIM_FIRST=s` lives n
//! seeds from s on (`just sims` takes fresh ones).

#[path = "../support/mod.rs"]
mod support;

mod network;
mod oracle;
mod plan;
mod rng;
mod workload;
mod world;

use std::cell::RefCell;
use std::collections::VecDeque;
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::rc::Rc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Instant;

use world::{Outcome, Trace};

/// Seeds that have found something once; they stay.
const REGRESSIONS: &str = include_str!("regressions.txt");
/// Seeds of an ordinary run, from 1 on.
const SEEDS: u64 = 3_000;
/// Lines of the trace that a failure shows.
const LAST_LINES: usize = 120;

/// One world; a panic of the core is a finding like any other.
fn live(seed: u64, trace: Option<Trace>) -> Result<Outcome, String> {
    match catch_unwind(AssertUnwindSafe(|| world::run(seed, trace))) {
        Ok(outcome) => outcome,
        Err(panic) => {
            let text = panic.downcast_ref::<String>().map(String::as_str);
            let text = text.or_else(|| panic.downcast_ref::<&str>().copied());
            Err(format!("panic: {}", text.unwrap_or("without a message")))
        }
    }
}

/// Replays a failing seed and shows how it came to it.
fn explain(seed: u64, error: &str, lines_max: usize) -> String {
    let trace: Trace = Rc::new(RefCell::new(VecDeque::new()));
    let again = live(seed, Some(trace.clone()));
    let trace = trace.borrow();
    let skipped = trace.len().saturating_sub(lines_max);
    let lines: Vec<&str> = trace.iter().skip(skipped).map(String::as_str).collect();
    let stable =
        if again.is_err() { "" } else { "\n(the replay did not fail: the world is not deterministic)" };
    format!("{}\n\nseed {seed}: {error}{stable}\n\nreplay: just sim {seed}", lines.join("\n"))
}

#[test]
fn regressions_stay_mended() {
    for line in REGRESSIONS.lines() {
        let text = line.split('#').next().unwrap_or_default().trim();
        if text.is_empty() {
            continue;
        }
        let seed = text.parse().expect("a seed is a number");
        if let Err(error) = live(seed, None) {
            panic!("{}", explain(seed, &error, LAST_LINES));
        }
    }
}

#[test]
fn a_seed_decides_everything() {
    for seed in 1..=20 {
        let first = live(seed, None);
        let second = live(seed, None);
        assert_eq!(first, second, "seed {seed}");
        assert!(first.is_ok_and(|outcome| outcome.steps > 100), "seed {seed} hardly does anything");
    }
    assert_ne!(live(1, None).map(|o| o.hash), live(2, None).map(|o| o.hash), "the hash tells worlds apart");
}

#[test]
fn seeds() {
    if let Some(seed) = number("SEED") {
        let trace: Trace = Rc::new(RefCell::new(VecDeque::new()));
        let result = live(seed, Some(trace.clone()));
        for line in trace.borrow().iter() {
            println!("{line}");
        }
        println!("seed {seed}: {result:?}");
        assert!(result.is_ok(), "seed {seed} fails: {}", result.err().unwrap_or_default());
        return;
    }
    let count = number("SIM_SEEDS").unwrap_or(SEEDS);
    let first = number("SIM_FIRST").unwrap_or(1);
    let threads = std::thread::available_parallelism().map_or(1, |n| n.get());
    let (next, steps, messages) = (AtomicU64::new(0), AtomicU64::new(0), AtomicU64::new(0));
    let (began, cpu_began) = (Instant::now(), cpu_seconds());
    let work = || {
        let mut failed = Vec::new();
        loop {
            let index = next.fetch_add(1, Ordering::Relaxed);
            if index >= count || failed.len() >= 10 {
                return failed;
            }
            match live(first + index, None) {
                Ok(outcome) => {
                    steps.fetch_add(outcome.steps, Ordering::Relaxed);
                    messages.fetch_add(outcome.messages, Ordering::Relaxed);
                }
                Err(error) => failed.push((first + index, error)),
            }
        }
    };
    let failed: Vec<(u64, String)> = std::thread::scope(|scope| {
        let workers: Vec<_> = (0..threads).map(|_| scope.spawn(work)).collect();
        workers.into_iter().flat_map(|worker| worker.join().expect("workers do not panic")).collect()
    });
    let (steps, seconds) = (steps.into_inner(), began.elapsed().as_secs_f64());
    println!(
        "{count} seeds from {first}: {steps} core steps, {} messages, {seconds:.1} s on {threads} threads, {:.0} steps for each second of CPU time",
        messages.into_inner(),
        steps as f64 / (cpu_seconds() - cpu_began)
    );
    if let Some((seed, error)) = failed.first() {
        let others: Vec<String> = failed
            .iter()
            .map(|(seed, error)| format!("{seed}  # {}", error.lines().next().unwrap_or_default()))
            .collect();
        panic!(
            "{}\n\n{} seeds fail:\n{}",
            explain(*seed, error, LAST_LINES),
            failed.len(),
            others.join("\n")
        );
    }
}

/// CPU time of this process.
fn cpu_seconds() -> f64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: the pointer is to a live timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_PROCESS_CPUTIME_ID, &mut time) };
    time.tv_sec as f64 + time.tv_nsec as f64 / 1e9
}

fn number(variable: &str) -> Option<u64> {
    std::env::var(variable).ok().map(|text| text.trim().parse().expect("a number"))
}
