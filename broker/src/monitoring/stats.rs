//! `/api/v1/stats`: the figures of `/metrics` as JSON, in total and by shard. Figures with labels are objects, one
//! level for each label.

use serde_json::{Map, Value, json};
use shard::MetricsSnapshot;

use super::Monitor;
use super::figures::{FAMILIES, Family, Kind, ListenerLabels, Number, Shown};
use super::process::process_figures;

/// Blocks for a moment.
pub fn collect(monitor: &Monitor) -> Value {
    let snapshots = monitor.look();
    let answered: Vec<&MetricsSnapshot> = snapshots.iter().flatten().collect();
    let shards = snapshots.iter().enumerate().map(|(shard, snapshot)| match snapshot {
        Some(snapshot) => {
            let mut figures = sum(&[snapshot], monitor.listeners());
            figures.insert("shard".to_owned(), shard.into());
            Value::Object(figures)
        }
        None => json!({ "shard": shard, "error": "does not answer" }),
    });
    let shards: Vec<Value> = shards.collect();
    let process = process_figures(monitor).into_iter().filter(|figure| figure.labels.is_empty());
    let process: Map<String, Value> =
        process.map(|figure| (key(figure.name, figure.kind), json(&figure.value))).collect();
    json!({
        "version": env!("CARGO_PKG_VERSION"),
        "uptime_seconds": monitor.started.elapsed().as_secs(),
        "process": process,
        "totals": sum(&answered, monitor.listeners()),
        "shards": shards,
    })
}

fn sum(snapshots: &[&MetricsSnapshot], listeners: &[ListenerLabels]) -> Map<String, Value> {
    let shards: Vec<Shown> =
        snapshots.iter().map(|snapshot| Shown { shard: None, snapshot, listeners }).collect();
    FAMILIES.iter().map(|family| (key(family.name, family.kind), sum_family(family, &shards))).collect()
}

fn sum_family(family: &Family, shards: &[Shown]) -> Value {
    let mut total = Value::Null;
    for sample in shards.iter().flat_map(|shown| family.samples(shown)) {
        let mut place = &mut total;
        for (_, label) in sample.labels {
            if !place.is_object() {
                *place = json!({});
            }
            place = &mut place[&*label];
        }
        *place = add(place, &sample.value);
    }
    // Shares do not add up.
    if family.name.ends_with("_ratio")
        && let Some(sum) = total.as_f64()
    {
        total = json!(sum / shards.len().max(1) as f64);
    }
    total
}

fn add(sum: &Value, number: &Number) -> Value {
    match number {
        Number::Whole(value) => json!(sum.as_u64().unwrap_or(0) + value),
        Number::Real(value) => json!(sum.as_f64().unwrap_or(0.0) + value),
        Number::Distribution { sum: added_sum, count, .. } => json!({
            "sum": sum["sum"].as_f64().unwrap_or(0.0) + added_sum,
            "count": sum["count"].as_u64().unwrap_or(0) + count,
        }),
    }
}

fn json(number: &Number) -> Value {
    add(&Value::Null, number)
}

fn key(name: &str, kind: Kind) -> String {
    if kind == Kind::Counter { format!("{name}_total") } else { name.to_owned() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn shards_add_up_and_shares_are_averaged() {
        let snapshot = |messages, busy_ns| {
            let mut snapshot = MetricsSnapshot { busy_ns, elapsed_ns: 100, ..MetricsSnapshot::default() };
            snapshot.metrics.publish_received[1] = messages;
            snapshot.metrics.publish_dropped[0][0] = 1;
            snapshot
        };
        let (first, second) = (snapshot(3, 100), snapshot(4, 50));
        let totals = sum(&[&first, &second], &[]);
        assert_eq!(totals["mqtt_publish_received_total"], json!({ "0": 0, "1": 7, "2": 0 }));
        assert_eq!(totals["mqtt_publish_dropped_total"]["0"]["no_subscriber"], 2);
        assert_eq!(totals["broker_shard_utilization_ratio"], 0.75);
        assert_eq!(totals["broker_shard_loop_lag_seconds"]["count"], 0);
    }
}
