//! What a message costs in the core, from received bytes to bytes that are ready to be written: 100 pairs, 16 messages
//! of a publisher in one read, and one publisher to 1,000 subscribers.

#[path = "../tests/support/cores.rs"]
mod cores;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use protocol::QoS;
use shard::{ConnectionId, ShardId};

use crate::cores::Cores;

const PAIRS: usize = 100;
const WINDOW: usize = 16;

/// Each publisher's bytes of one turn.
fn pairs(cores: &mut Cores, from: ShardId, to: ShardId, qos: QoS) -> Vec<(ConnectionId, Vec<u8>)> {
    (0..PAIRS)
        .map(|pair| {
            let topic = format!("pair/{pair}");
            let subscriber = cores.connect(to, &format!("subscriber-{pair}"), false);
            cores.subscribe(to, subscriber, &topic, qos);
            let publisher = cores.connect(from, &format!("publisher-{pair}"), false);
            (publisher, cores::publish(&topic, qos).repeat(WINDOW))
        })
        .collect()
}

fn one_turn(cores: &mut Cores, from: ShardId, batches: &[(ConnectionId, Vec<u8>)]) {
    cores.turn(from, |core| batches.iter().for_each(|(id, bytes)| core.on_bytes(*id, bytes)));
    cores.settle(|_, _| ());
}

fn publish_path(criterion: &mut Criterion) {
    let mut group = criterion.benchmark_group("core");
    group.throughput(Throughput::Elements((PAIRS * WINDOW) as u64));
    for (name, to) in [("p2p q0 local", 0), ("p2p q0 to another shard", 1)] {
        let mut cores = Cores::new(2);
        let batches = pairs(&mut cores, 0, to, QoS::AtMostOnce);
        group.bench_function(name, |bencher| bencher.iter(|| one_turn(&mut cores, 0, &batches)));
    }
    const SUBSCRIBERS: usize = 1000;
    group.throughput(Throughput::Elements(SUBSCRIBERS as u64));
    let mut cores = Cores::new(1);
    for n in 0..SUBSCRIBERS {
        let subscriber = cores.connect(0, &format!("subscriber-{n}"), false);
        cores.subscribe(0, subscriber, "news", QoS::AtMostOnce);
    }
    let publisher = cores.connect(0, "publisher", false);
    let batch = [(publisher, cores::publish("news", QoS::AtMostOnce))];
    group.bench_function("fan-out q0", |bencher| bencher.iter(|| one_turn(&mut cores, 0, &batch)));
    group.finish();
}

criterion_group!(benches, publish_path);
criterion_main!(benches);
