//! Matching a topic of five levels against wildcard filters of four shapes, and against exact filters.

use std::hint::black_box;

use criterion::{Criterion, Throughput, criterion_group, criterion_main};
use shard::filter_index::{FilterIndex, TopicHasher};

fn filled(hasher: &TopicHasher, filters: impl Iterator<Item = String>) -> FilterIndex<u32> {
    let mut index = FilterIndex::new(hasher.clone());
    for (n, filter) in filters.enumerate() {
        *index.get_or_insert_with(&filter, || 0) = n as u32;
    }
    index
}

fn matches(index: &FilterIndex<u32>, hasher: &TopicHasher, topics: &[String]) -> u32 {
    let mut count = 0;
    for topic in topics {
        index.for_each_match(topic, hasher.hash(topic), |_| count += 1);
    }
    count
}

fn filter_index(criterion: &mut Criterion) {
    let hasher = TopicHasher::with_seed(1);
    let topics: Vec<String> =
        (0..1000).map(|n| format!("site/{}/line/{}/sensor-{}", n % 25, n % 40, n)).collect();
    let wildcards = (0..1000).map(|n| match n % 4 {
        0 => format!("site/{}/#", n % 25),
        1 => format!("site/+/line/{}/#", n % 40),
        2 => format!("site/{}/line/+/sensor-{n}", n % 25),
        _ => format!("site/+/+/+/sensor-{n}"),
    });
    let mut group = criterion.benchmark_group("match");
    group.throughput(Throughput::Elements(topics.len() as u64));
    for (name, index) in [
        ("1000 wildcard filters", filled(&hasher, wildcards)),
        ("1000 exact filters", filled(&hasher, topics.iter().cloned())),
        (
            "100000 exact filters",
            filled(&hasher, (0..100_000).map(|n| format!("exact/{n}")).chain(topics.clone())),
        ),
    ] {
        assert!(matches(&index, &hasher, &topics) >= 1000, "each topic is subscribed");
        group.bench_function(name, |bencher| {
            bencher.iter(|| black_box(matches(&index, &hasher, black_box(&topics))));
        });
    }
    group.finish();
}

criterion_group!(benches, filter_index);
criterion_main!(benches);
