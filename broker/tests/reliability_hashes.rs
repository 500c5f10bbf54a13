//! R-SEC-10: names that collide in a hash without a key, or live on one shard without one, are worth nothing to who
//! crafts them, because each process has keys of its own. `docs/testing.md` has the figures; `just reliability` runs
//! them at full size.

mod support;

use std::collections::HashMap;
use std::hash::Hasher;
use std::io::Write;
use std::net::TcpStream;
use std::path::Path;
use std::sync::LazyLock;
use std::time::Duration;

use serde_json::Value;
use siphasher::sip::SipHasher13;
use support::crowd::{VERSIONS, connect_as, connect_bytes, cpu_time, expect_end, full_or, open, ping};
use support::packets::{connect, field, packet, read_packet};
use support::{Broker, eventually};

/// FNV-1a of 64 bits, as hash tables without a seed use it.
fn fnv(state: u64, text: &str) -> u64 {
    text.bytes().fold(state, |state, byte| (state ^ u64::from(byte)).wrapping_mul(0x100_0000_01B3))
}

/// Names with the same low 32 bits of FNV-1a, so in one bucket of any table without a seed: parts that collide in pairs,
/// one behind the other, each chosen either way.
static COLLIDING: LazyLock<Vec<String>> = LazyLock::new(|| {
    const COUNT: usize = 100_000;
    const LOW: u64 = 0xFFFF_FFFF;
    let mut names = vec![String::new()];
    let mut state = 0xCBF2_9CE4_8422_2325;
    while names.len() < COUNT {
        let mut seen = HashMap::new();
        let (first, second) = (0u32..)
            .find_map(|number| {
                let text = format!("{number:05x}");
                let twin = seen.insert(fnv(state, &text) & LOW, text.clone());
                twin.map(|twin| (twin, text))
            })
            .expect("some collide");
        state = fnv(state, &first);
        names = names.iter().flat_map(|name| [format!("{name}{first}"), format!("{name}{second}")]).collect();
    }
    names.truncate(COUNT);
    names
});

/// As long and of the same parts, but for their beginning and end: they do not collide.
fn plain(names: &[String]) -> Vec<String> {
    names.iter().enumerate().map(|(number, name)| format!("{}{number:05x}", &name[5..])).collect()
}

/// Processor time for a subscription to each of the names.
fn subscription_cost(names: &[String]) -> Duration {
    let broker = Broker::start();
    let mut reader = connect_as(broker.address(), VERSIONS[1], "reader");
    let cpu = cpu_time(broker.pid());
    for chunk in names.chunks(400) {
        let entries = chunk.iter().flat_map(|name| [&field(name)[..], &[0]].concat());
        let body: Vec<u8> = [0, 1].into_iter().chain(entries).collect();
        reader.write_all(&packet(0x82, &body)).expect("the broker reads");
        assert_eq!(read_packet(&mut reader).len(), packet(0x90, &vec![0; 2 + chunk.len()]).len());
    }
    cpu_time(broker.pid()) - cpu
}

#[test]
fn r_sec_10_names_that_collide_without_a_seed_cost_no_more() {
    let low = fnv(0xCBF2_9CE4_8422_2325, &COLLIDING[0]) as u32;
    assert!(COLLIDING.iter().all(|name| fnv(0xCBF2_9CE4_8422_2325, name) as u32 == low));
    let (crafted, plain) = (subscription_cost(&COLLIDING), subscription_cost(&plain(&COLLIDING)));
    println!("100,000 topics: {crafted:?} for crafted ones, {plain:?} for others");
    assert!(crafted < plain * 2 + Duration::from_millis(100), "{crafted:?}, others {plain:?}");
}

/// Processor time for a session of each client id; each client says good-bye and leaves its session behind.
fn session_cost(client_ids: &[String]) -> Duration {
    let broker = Broker::start();
    let cpu = cpu_time(broker.pid());
    let come_and_go = |client_id: &String| {
        let mut stream = open(broker.address());
        let mut bytes = connect_bytes(VERSIONS[1], client_id);
        // Clean session 0.
        bytes[9] = 0;
        bytes.extend([0xE0, 0]);
        stream.write_all(&bytes).expect("the broker reads");
        stream
    };
    for together in client_ids.chunks(100) {
        let streams: Vec<TcpStream> = together.iter().map(come_and_go).collect();
        for mut stream in streams {
            assert_eq!(expect_end(&mut stream), [0x20, 2, 0, 0]);
        }
    }
    let taken = cpu_time(broker.pid()) - cpu;
    assert_eq!(per_shard(&broker, "mqtt_sessions"), [client_ids.len() as u64]);
    taken
}

#[test]
fn r_sec_10_client_ids_that_collide_without_a_seed_cost_no_more() {
    let count = full_or(100_000, 10_000);
    let crafted = &COLLIDING[..count];
    let (crafted, plain) = (session_cost(crafted), session_cost(&plain(crafted)));
    println!("{count} client ids: {crafted:?} for crafted ones, {plain:?} for others");
    assert!(crafted < plain * 3 / 2 + Duration::from_millis(200), "{crafted:?}, others {plain:?}");
}

/// A figure of each shard.
fn per_shard(broker: &Broker, figure: &str) -> Vec<u64> {
    let stats: Value = serde_json::from_str(&broker.get("/api/v1/stats").1).expect("JSON");
    let shards = stats["shards"].as_array().expect("figures of shards");
    shards.iter().map(|shard| sum(&shard[figure])).collect()
}

/// Of all labels.
fn sum(value: &Value) -> u64 {
    match value {
        Value::Object(parts) => parts.values().map(sum).sum(),
        value => value.as_u64().unwrap_or_else(|| panic!("a number and not {value}")),
    }
}

fn two_shards(directory: Option<&Path>) -> Broker {
    let builder = Broker::with_shards(2).set("sys_topics.interval", "0s");
    match directory {
        Some(directory) => builder.argument("--data-dir").argument(directory).start(),
        None => builder.start(),
    }
}

/// The home of a client if the placement key were 0.
fn home_without_key(client_id: &str) -> u64 {
    let mut hasher = SipHasher13::new_with_keys(0, 0);
    hasher.write(client_id.as_bytes());
    hasher.finish() % u64::from(shard::BUCKET_COUNT) % 2
}

#[test]
fn r_sec_10_clients_crafted_for_one_shard_spread_over_all() {
    const COUNT: usize = 500;
    let crafted: Vec<String> = (0..)
        .map(|number| format!("c-{number}"))
        .filter(|id| home_without_key(id) == 0)
        .take(COUNT)
        .collect();
    let homes = |broker: &Broker| {
        let clients: Vec<_> = crafted.iter().map(|id| connect(broker.address(), 4, id)).collect();
        let homes = per_shard(broker, "mqtt_connections");
        drop(clients);
        homes
    };
    // A key that is known is one that can be crafted for.
    let directory = tempfile::tempdir().expect("a directory");
    std::fs::write(directory.path().join("placement-key"), "0000000000000000\n").expect("it is ours");
    assert_eq!(homes(&two_shards(Some(directory.path()))), [COUNT as u64, 0]);
    // Binomial, so seven standard deviations from the middle.
    let homes = homes(&two_shards(None));
    assert!(homes.iter().all(|count| (172..=328).contains(count)), "{homes:?}");
}

/// Which of two shards takes each of some clients.
fn placements(broker: &Broker) -> Vec<bool> {
    let mut clients = vec![];
    let mut before = 0;
    let place = |number: usize| {
        clients.push(connect(broker.address(), 4, &format!("client-{number}")));
        let now = per_shard(broker, "mqtt_connections")[0];
        now > std::mem::replace(&mut before, now)
    };
    (0..48).map(place).collect()
}

/// Which of two shards keeps the retained message of each of some topics: the hash of topics decides.
fn owners(broker: &Broker) -> Vec<bool> {
    let mut publisher = connect_as(broker.address(), VERSIONS[1], "publisher");
    let mut before = 0;
    let place = |number: u64| {
        let publish = packet(0x31, &[&field(&format!("topic/{number}"))[..], b"kept"].concat());
        publisher.write_all(&publish).expect("the broker reads");
        ping(&mut publisher);
        let counts = eventually("stored", || {
            let counts = per_shard(broker, "mqtt_retained_messages");
            (counts.iter().sum::<u64>() == number + 1).then_some(counts)
        });
        counts[0] > std::mem::replace(&mut before, counts[0])
    };
    (0..48).map(place).collect()
}

#[test]
fn r_sec_10_every_process_has_keys_of_its_own() {
    let (first, second) = (two_shards(None), two_shards(None));
    assert_ne!(placements(&first), placements(&second), "the key of client ids");
    assert_ne!(owners(&first), owners(&second), "the seed of hash tables");
}

#[test]
fn r_sec_10_a_data_directory_keeps_the_key_of_placement_alone() {
    let directory = tempfile::tempdir().expect("a directory");
    let look = || {
        let broker = two_shards(Some(directory.path()));
        (placements(&broker), owners(&broker))
    };
    let (first, second) = (look(), look());
    assert_eq!(first.0, second.0, "clients find their shard again");
    assert_ne!(first.1, second.1, "the seed of hash tables");
}
