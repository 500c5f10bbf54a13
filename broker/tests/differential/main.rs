//! The same random script to shardmq and to mosquitto: what comes back to every client has to be the same after every
//! step, but for the differences in `docs/mosquitto-differences.md`, which `known` explains one by one.
//!
//! `DIFF_SEEDS=5000 DIFF_FIRST=1000 cargo test -p shardmq --test differential` runs others than the usual seeds.

mod known;
mod mosquitto;
mod script;
#[path = "../support/mod.rs"]
mod support;
mod world;

use std::collections::BTreeMap;
use std::net::SocketAddr;

use mosquitto::Mosquitto;
use script::Script;
use support::Broker;
use world::World;

fn number(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().map_or(default, |text| text.parse().unwrap_or_else(|_| panic!("{name}={text}")))
}

/// Counts the explained differences; Err: one that is not.
fn compare(
    seed: u64,
    ours: SocketAddr,
    theirs: SocketAddr,
    explained: &mut BTreeMap<&'static str, u64>,
) -> Result<(), String> {
    let root = format!("d{seed}");
    let script = Script::new(seed, &root);
    let mut worlds = [ours, theirs].map(|address| World::new(address, &script, &root));
    let mut trace = format!("seed {seed}, versions {:?}\n", script.versions);
    for (client, step) in &script.steps {
        trace += &format!("client {client}: {step:?}\n");
        let [ours, theirs] = worlds.each_mut().map(|world| world.act(*client, step));
        for (receiver, (ours, theirs)) in ours.iter().zip(&theirs).enumerate() {
            let Some(names) = known::explain(ours, theirs) else {
                return Err(format!("{trace}to {receiver}:\n  shardmq   {ours:#?}\n  mosquitto {theirs:#?}"));
            };
            names.into_iter().for_each(|name| *explained.entry(name).or_default() += 1);
            trace += &ours.iter().map(|event| format!("    to {receiver}: {event}\n")).collect::<String>();
        }
    }
    Ok(())
}

fn differ_only_as_documented(shards: usize) {
    let broker = Broker::with_shards(shards).start();
    let mosquitto = Mosquitto::start();
    let first = number("DIFF_FIRST", 0);
    let mut explained = BTreeMap::new();
    let mut faults = vec![];
    for seed in first..first + number("DIFF_SEEDS", 150) {
        faults.extend(compare(seed, broker.address(), mosquitto.address(), &mut explained).err());
    }
    println!("{shards} shards, explained: {explained:?}");
    assert!(faults.is_empty(), "{} scripts differ; the first:\n{}", faults.len(), faults[0]);
}

#[test]
fn one_shard_differs_only_as_documented() {
    differ_only_as_documented(1);
}

#[test]
fn two_shards_differ_only_as_documented() {
    differ_only_as_documented(2);
}
