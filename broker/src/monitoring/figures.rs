//! The one table of what is known about a shard: names, meanings, and where each figure is read. `/metrics` and
//! `/api/v1/stats` are made of it.

use std::borrow::Cow;

use shard::{DropReason, EndReason, MetricsSnapshot, PACKET_LABELS, TURN_BOUNDS_NS, VERSION_LABELS};

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Only grows; `_total` is put to its name.
    Counter,
    Gauge,
    Histogram,
}

/// Figures of one name.
pub struct Family {
    /// Without `_total`.
    pub name: &'static str,
    pub help: &'static str,
    pub kind: Kind,
    read: fn(&Shown, &mut Vec<Sample>),
}

/// A shard's figures, and what their indices stand for.
pub struct Shown<'a> {
    /// Its number; None where it does not matter.
    pub shard: Option<usize>,
    pub snapshot: &'a MetricsSnapshot,
    pub listeners: &'a [ListenerLabels],
}

/// A listener in the labels of figures.
#[derive(Clone, Debug)]
pub struct ListenerLabels {
    pub name: String,
    pub kind: String,
}

/// One figure of a shard.
#[derive(Debug)]
pub struct Sample {
    /// Beside `shard`.
    pub labels: Vec<(&'static str, Cow<'static, str>)>,
    pub value: Number,
}

#[derive(Clone, Debug, PartialEq)]
pub enum Number {
    Whole(u64),
    Real(f64),
    Distribution { sum: f64, count: u64, buckets: Vec<(f64, u64)> },
}

impl Family {
    pub fn samples(&self, shown: &Shown) -> Vec<Sample> {
        let mut samples = Vec::new();
        (self.read)(shown, &mut samples);
        samples
    }
}

const QOS_LABELS: [&str; 3] = ["0", "1", "2"];
/// Types of packets that a client may send, and that a server sends.
const RECEIVED_TYPES: [usize; 11] = [1, 3, 4, 5, 6, 7, 8, 10, 12, 14, 15];
const SENT_TYPES: [usize; 11] = [2, 3, 4, 5, 6, 7, 9, 11, 13, 14, 15];
/// Lanes are told one by one up to so many shards, or there would be more lanes than other figures.
const LANES_BY_TARGET_MAX: usize = 16;
/// A turn that is longer is a stall.
const STALL_NS: u64 = 25_000_000;

fn sample(labels: &[(&'static str, &'static str)], value: Number) -> Sample {
    Sample { labels: labels.iter().map(|&(key, value)| (key, value.into())).collect(), value }
}

/// A family of one figure without labels of its own.
macro_rules! single {
    ($kind:ident $name:literal, $help:literal, $read:expr) => {
        Family {
            name: $name,
            help: $help,
            kind: Kind::$kind,
            read: |shown, samples| {
                let read: fn(&MetricsSnapshot) -> u64 = $read;
                samples.push(sample(&[], Number::Whole(read(shown.snapshot))));
            },
        }
    };
    (real $kind:ident $name:literal, $help:literal, $read:expr) => {
        Family {
            name: $name,
            help: $help,
            kind: Kind::$kind,
            read: |shown, samples| {
                let read: fn(&MetricsSnapshot) -> f64 = $read;
                samples.push(sample(&[], Number::Real(read(shown.snapshot))));
            },
        }
    };
}

/// A family with one label, whose values stand in a list beside an array of counts.
macro_rules! labelled {
    ($kind:ident $name:literal, $help:literal, $label:literal in $values:expr, $read:expr) => {
        Family {
            name: $name,
            help: $help,
            kind: Kind::$kind,
            read: |shown, samples| {
                for (index, value) in $values {
                    let counts = $read(shown.snapshot);
                    samples.push(sample(&[($label, value)], Number::Whole(counts[index])));
                }
            },
        }
    };
}

fn qos_levels() -> impl Iterator<Item = (usize, &'static str)> {
    QOS_LABELS.into_iter().enumerate()
}

fn end_reasons() -> impl Iterator<Item = (usize, &'static str)> {
    EndReason::ALL.into_iter().map(|(reason, label)| (reason as usize, label))
}

/// Those that can refuse a CONNECT: the others end connections that were accepted.
fn refusal_reasons() -> impl Iterator<Item = (usize, &'static str)> {
    const LIVE_ONLY: [EndReason; 5] = [
        EndReason::KeepAliveTimeout,
        EndReason::Takeover,
        EndReason::SlowConsumer,
        EndReason::ReceiveMaximum,
        EndReason::TopicAlias,
    ];
    end_reasons().filter(|(reason, _)| !LIVE_ONLY.iter().any(|live| *live as usize == *reason))
}

fn packet_types(types: [usize; 11]) -> impl Iterator<Item = (usize, &'static str)> {
    types.into_iter().map(|number| (number, PACKET_LABELS[number]))
}

fn seconds(nanoseconds: u64) -> f64 {
    nanoseconds as f64 / 1e9
}

/// Share of the time in which the shard had work, since it started.
pub fn utilization(snapshot: &MetricsSnapshot) -> f64 {
    snapshot.busy_ns as f64 / snapshot.elapsed_ns.max(1) as f64
}

pub static FAMILIES: &[Family] = &[
    // Connections and sessions.
    Family {
        name: "mqtt_connections",
        help: "Live connections",
        kind: Kind::Gauge,
        read: |shown, samples| {
            for (index, listener) in shown.listeners.iter().enumerate() {
                // A shard knows the listeners that ever had a client.
                let counts = shown.snapshot.metrics.connections.get(index).copied().unwrap_or_default();
                for (count, version) in counts.into_iter().zip(VERSION_LABELS) {
                    let labels = vec![
                        ("listener", listener.name.clone().into()),
                        ("proto", listener.kind.clone().into()),
                        ("version", version.into()),
                    ];
                    samples.push(Sample { labels, value: Number::Whole(count) });
                }
            }
        },
    },
    single!(Gauge "mqtt_connections_pending", "Sockets that have not completed CONNECT",
        |s| s.metrics.connections_pending),
    single!(Gauge "mqtt_connections_max", "Most live connections at once since the start",
        |s| s.metrics.connections_max),
    single!(Counter "mqtt_connects", "Connections that completed CONNECT", |s| s.metrics.connects),
    labelled!(Counter "mqtt_connect_rejected", "Refused CONNECTs", "reason" in refusal_reasons(),
        |s: &MetricsSnapshot| s.metrics.connect_rejected),
    labelled!(Counter "mqtt_disconnects", "Ended connections", "reason" in end_reasons(),
        |s: &MetricsSnapshot| s.metrics.disconnects),
    single!(Counter "broker_connections_moved", "Connections that went to their home shard from this one",
        |s| s.metrics.connections_moved),
    single!(Gauge "mqtt_sessions", "Sessions, connected or not", |s| s.metrics.sessions),
    single!(Gauge "mqtt_sessions_persistent", "Sessions that outlive their connection",
        |s| s.metrics.sessions_persistent),
    single!(Counter "mqtt_sessions_expired", "Sessions that ended by their expiry", |s| s.metrics.sessions_expired),
    single!(Counter "mqtt_session_takeovers", "Connections that took a session over from another one",
        |s| s.metrics.session_takeovers),
    single!(Counter "mqtt_session_resumes", "Connections that found their session", |s| s.metrics.session_resumes),
    single!(Counter "mqtt_wills_published", "Published wills", |s| s.metrics.wills_published),
    // Subscriptions and retained messages.
    single!(Gauge "mqtt_subscriptions", "Subscriptions", |s| s.metrics.subscriptions),
    single!(Gauge "mqtt_shared_subscriptions", "Shared subscriptions", |s| s.metrics.shared_subscriptions),
    single!(Gauge "mqtt_subscription_trie_nodes", "Nodes of the subscription tree",
        |s| s.metrics.subscription_trie_nodes),
    single!(Gauge "broker_routes", "Filters that other shards want", |s| s.metrics.routes),
    single!(Gauge "mqtt_retained_messages", "Retained messages", |s| s.metrics.retained_messages),
    single!(Gauge "mqtt_retained_bytes", "Bytes of the retained messages", |s| s.metrics.retained_bytes),
    // Packets and messages.
    labelled!(Counter "mqtt_packets_received", "Packets from clients", "type" in packet_types(RECEIVED_TYPES),
        |s: &MetricsSnapshot| s.metrics.packets_received),
    labelled!(Counter "mqtt_packets_sent", "Packets to clients", "type" in packet_types(SENT_TYPES),
        |s: &MetricsSnapshot| s.metrics.packets_sent),
    single!(Counter "mqtt_bytes_received", "Bytes from clients", |s| s.metrics.bytes_received),
    single!(Counter "mqtt_bytes_sent", "Bytes to clients", |s| s.metrics.bytes_sent),
    labelled!(Counter "mqtt_publish_received", "Messages from clients", "qos" in qos_levels(),
        |s: &MetricsSnapshot| s.metrics.publish_received),
    labelled!(Counter "mqtt_publish_sent", "Message copies to clients", "qos" in qos_levels(),
        |s: &MetricsSnapshot| s.metrics.publish_sent),
    single!(Counter "mqtt_publish_received_bytes", "Payload bytes of messages from clients",
        |s| s.metrics.publish_received_bytes),
    single!(Counter "mqtt_publish_sent_bytes", "Payload bytes of message copies to clients",
        |s| s.metrics.publish_sent_bytes),
    Family {
        name: "mqtt_publish_dropped",
        help: "Message copies that were not delivered",
        kind: Kind::Counter,
        read: |shown, samples| {
            for (qos, qos_label) in qos_levels() {
                for (reason, reason_label) in DropReason::ALL {
                    let count = shown.snapshot.metrics.publish_dropped[qos][reason as usize];
                    let labels = [("qos", qos_label), ("reason", reason_label)];
                    samples.push(sample(&labels, Number::Whole(count)));
                }
            }
        },
    },
    single!(Counter "mqtt_publish_duplicates", "Messages at QoS 1 that came again on a live connection",
        |s| s.metrics.publish_duplicates),
    single!(Counter "mqtt_acks_unknown", "Acknowledgements of packet ids that are not in use",
        |s| s.metrics.acks_unknown),
    Family {
        name: "mqtt_inflight_messages",
        help: "Messages at QoS 1 and 2 that are not completed: from clients (in) and to them (out)",
        kind: Kind::Gauge,
        read: |shown, samples| {
            let metrics = &shown.snapshot.metrics;
            samples.push(sample(&[("dir", "in")], Number::Whole(metrics.inflight_in)));
            samples.push(sample(&[("dir", "out")], Number::Whole(metrics.inflight_out)));
        },
    },
    single!(Gauge "mqtt_queue_messages", "Messages that wait for a session or a shared group",
        |s| s.metrics.queue_messages),
    single!(Gauge "mqtt_queue_bytes", "Bytes that wait for a session or a shared group", |s| s.metrics.queue_bytes),
    single!(Gauge "mqtt_stored_messages", "Messages that are kept for delivery, each once",
        |s| s.metrics.stored_messages),
    single!(Gauge "mqtt_stored_bytes", "Bytes of the messages that are kept for delivery",
        |s| s.metrics.stored_bytes),
    // The event loop.
    single!(real Gauge "broker_shard_utilization_ratio", "Share of the time since the start in which the shard had work",
        utilization),
    single!(real Counter "broker_shard_busy_seconds", "Time in which the shard had work", |s| seconds(s.busy_ns)),
    single!(real Counter "broker_shard_elapsed_seconds", "Time since the shard started", |s| seconds(s.elapsed_ns)),
    Family {
        name: "broker_shard_loop_lag_seconds",
        help: "Turns of the event loop that had work, by their length: what came meanwhile waited for so long",
        kind: Kind::Histogram,
        read: |shown, samples| {
            let bounds = TURN_BOUNDS_NS.into_iter().map(seconds).chain([f64::INFINITY]);
            let snapshot = shown.snapshot;
            let value = Number::Distribution {
                sum: seconds(snapshot.busy_ns),
                count: snapshot.turn_counts.iter().sum(),
                buckets: bounds.zip(snapshot.turn_counts).collect(),
            };
            samples.push(sample(&[], value));
        },
    },
    single!(Counter "broker_shard_stalls", "Turns of the event loop that took longer than 25 ms", |s| {
        s.turn_counts[TURN_BOUNDS_NS.partition_point(|bound| *bound <= STALL_NS)..].iter().sum()
    }),
    single!(Counter "broker_shard_wakes", "Times that the shard slept and was woken by another thread",
        |s| s.doorbells),
    single!(Counter "broker_uring_enter", "System calls on the socket ring", |s| s.ring_enters),
    single!(Counter "broker_uring_sqe", "Requests on the socket ring", |s| s.ring_sqes),
    // Between shards.
    Family {
        name: "broker_xshard_queue_depth",
        help: "Envelopes that wait in the lane to another shard",
        kind: Kind::Gauge,
        read: |shown, samples| {
            let depths = &shown.snapshot.lane_depths;
            if depths.len() > LANES_BY_TARGET_MAX {
                let sum = depths.iter().map(|&depth| u64::from(depth)).sum();
                return samples.push(sample(&[("to", "all")], Number::Whole(sum)));
            }
            // A shard has no lane to itself.
            let others = depths.iter().enumerate().filter(|(to, _)| Some(*to) != shown.shard);
            let samples_by_target = others.map(|(to, &depth)| Sample {
                labels: vec![("to", to.to_string().into())],
                value: Number::Whole(u64::from(depth)),
            });
            samples.extend(samples_by_target);
        },
    },
    single!(Counter "broker_xshard_messages", "Messages that went to another shard", |s| s.metrics.lane_messages),
    single!(Counter "broker_xshard_batches", "Batches of messages that went to another shard",
        |s| s.metrics.lane_batches),
    single!(Counter "broker_xshard_full", "Times that a lane was full", |s| s.metrics.lane_full),
    // Memory.
    single!(Gauge "broker_memory_bytes", "Memory of messages, queues, retained messages and buffers of connections",
        |s| s.metrics.memory_bytes),
    single!(Gauge "broker_memory_limit_bytes", "The shard's part of the memory", |s| s.metrics.memory_limit_bytes),
    single!(Gauge "broker_backpressure_paused_connections", "Publishers that are not read because memory or a lane is full",
        |s| s.metrics.paused_connections),
    single!(Counter "broker_backpressure_events", "Times that reading of publishers was paused",
        |s| s.metrics.backpressure_events),
];

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_are_unique_and_say_their_kind() {
        let names: HashSet<&str> = FAMILIES.iter().map(|family| family.name).collect();
        assert_eq!(names.len(), FAMILIES.len());
        for family in FAMILIES {
            assert!(
                ["mqtt_", "broker_"].iter().any(|prefix| family.name.starts_with(prefix)),
                "{}",
                family.name
            );
            assert!(!family.name.ends_with("_total") && !family.help.ends_with('.'), "{}", family.name);
        }
    }

    #[test]
    fn sixteen_shards_and_two_listeners_stay_below_three_thousand_series() {
        let snapshot = MetricsSnapshot { lane_depths: vec![0; 16], ..MetricsSnapshot::default() };
        let listeners = ["tcp", "ws"];
        let listeners = listeners.map(|name| ListenerLabels { name: name.to_owned(), kind: name.to_owned() });
        let shown = Shown { shard: Some(0), snapshot: &snapshot, listeners: &listeners };
        let series: usize = FAMILIES.iter().map(|family| family.samples(&shown).len()).sum();
        // The histogram has its buckets, sum and count.
        assert!((series + TURN_BOUNDS_NS.len() + 2) * 16 <= 3_000, "{series} series a shard");
    }

    #[test]
    fn stalls_are_the_turns_above_25_ms() {
        let mut snapshot = MetricsSnapshot::default();
        for ns in [1, 24_999_999, 25_000_000, 25_000_001, 2_000_000_000] {
            snapshot.turn_counts[TURN_BOUNDS_NS.partition_point(|bound| *bound < ns)] += 1;
        }
        let stalls = FAMILIES.iter().find(|family| family.name == "broker_shard_stalls").unwrap();
        assert_eq!(
            stalls.samples(&Shown { shard: None, snapshot: &snapshot, listeners: &[] })[0].value,
            Number::Whole(2)
        );
    }
}
