//! `$SYS` topics: figures as retained messages under `$SYS/broker/`, with the names that mosquitto's users know. A
//! round is made at each multiple of the interval on the wall clock, and says only what changed since the last one.

use std::collections::HashMap;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use shard::{Metrics, MetricsSnapshot};

use super::{Monitor, blocking};
use crate::machine;

const PREFIX: &str = "$SYS/broker";
/// Spans of the load averages.
const SPANS: [(&str, f64); 3] = [("1min", 60.0), ("5min", 300.0), ("15min", 900.0)];

/// Publishes until the process ends. The first round comes at once, so that nobody waits for the first figures.
pub async fn publish(monitor: Monitor, interval: Duration) {
    let mut rounds = Rounds::default();
    loop {
        let monitor = monitor.clone();
        let round = blocking(move || {
            publish_round(&monitor, &mut rounds);
            rounds
        });
        rounds = match round.await {
            Ok(rounds) => rounds,
            Err(error) => return tracing::error!(%error, "the `$SYS` topics end"),
        };
        let since_epoch = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        tokio::time::sleep(until_multiple(since_epoch, interval)).await;
    }
}

/// From that moment to the next one that is a multiple of the interval.
fn until_multiple(since_epoch: Duration, interval: Duration) -> Duration {
    let interval_ns = interval.as_nanos().max(1);
    Duration::from_nanos((interval_ns - since_epoch.as_nanos() % interval_ns) as u64)
}

fn publish_round(monitor: &Monitor, rounds: &mut Rounds) {
    // A sum without one of the shards would be taken for a fall.
    let Some(snapshots) = monitor.look().into_iter().collect::<Option<Vec<_>>>() else { return };
    let moment = Moment {
        at: Instant::now(),
        uptime: monitor.started.elapsed(),
        lag_max_ns: monitor.take_lag_max_ns(),
        resident_bytes: machine::resident_bytes(),
    };
    for (topic, payload) in rounds.next(&snapshots, moment) {
        monitor.shards.publish_system(&topic, payload.as_bytes());
    }
}

/// What a round needs beside the shards' figures.
struct Moment {
    at: Instant,
    uptime: Duration,
    lag_max_ns: Vec<u64>,
    resident_bytes: Option<(u64, u64)>,
}

/// What was told so far, and the averages that go on from round to round.
#[derive(Default)]
struct Rounds {
    told: HashMap<String, String>,
    loads: HashMap<&'static str, Load>,
    last_at: Option<Instant>,
    /// Busy and elapsed time of each shard at the last round.
    last_ns: Vec<(u64, u64)>,
}

impl Rounds {
    /// Topics whose payload is another one than in the last round.
    fn next(&mut self, snapshots: &[MetricsSnapshot], moment: Moment) -> Vec<(String, String)> {
        let mut topics = totals(snapshots, &moment);
        self.add_loads(snapshots, &moment, &mut topics);
        self.add_shards(snapshots, &moment, &mut topics);
        self.last_at = Some(moment.at);
        let mut changed = Vec::new();
        for (topic, payload) in topics {
            let topic = format!("{PREFIX}/{topic}");
            if self.told.get(&topic) != Some(&payload) {
                self.told.insert(topic.clone(), payload.clone());
                changed.push((topic, payload));
            }
        }
        changed
    }

    fn add_loads(
        &mut self,
        snapshots: &[MetricsSnapshot],
        moment: &Moment,
        topics: &mut Vec<(String, String)>,
    ) {
        let elapsed = self.last_at.map_or(moment.uptime, |last| moment.at - last);
        for (name, count) in rates() {
            let load = self.loads.entry(name).or_default();
            load.advance(sum(snapshots, count), elapsed);
            for ((span, _), average) in SPANS.iter().zip(load.averages) {
                topics.push((format!("load/{name}/{span}"), format!("{average:.2}")));
            }
        }
    }

    fn add_shards(
        &mut self,
        snapshots: &[MetricsSnapshot],
        moment: &Moment,
        topics: &mut Vec<(String, String)>,
    ) {
        self.last_ns.resize(snapshots.len(), (0, 0));
        for (shard, snapshot) in snapshots.iter().enumerate() {
            let (busy_ns, elapsed_ns) = self.last_ns[shard];
            self.last_ns[shard] = (snapshot.busy_ns, snapshot.elapsed_ns);
            let busy = snapshot.busy_ns.saturating_sub(busy_ns) as f64;
            let elapsed = snapshot.elapsed_ns.saturating_sub(elapsed_ns).max(1) as f64;
            let lag_ms = moment.lag_max_ns.get(shard).map_or(0.0, |ns| *ns as f64 / 1e6);
            let depth: u32 = snapshot.lane_depths.iter().sum();
            let mut tell = |name, payload| topics.push((format!("shards/{shard}/{name}"), payload));
            tell("utilization", format!("{:.2}", (busy / elapsed).min(1.0)));
            tell("loop_lag_ms", format!("{lag_ms:.1}"));
            tell("connections", snapshot.metrics.connection_count().to_string());
            tell("queue_depth", depth.to_string());
        }
    }
}

fn sum(snapshots: &[MetricsSnapshot], count: fn(&Metrics) -> u64) -> u64 {
    snapshots.iter().map(|snapshot| count(&snapshot.metrics)).sum()
}

fn dropped(metrics: &Metrics) -> u64 {
    metrics.publish_dropped.iter().flatten().sum()
}

/// A counter, and how to read it.
type Count = (&'static str, fn(&Metrics) -> u64);

/// What is told as it is, summed over the shards.
fn sums() -> [Count; 23] {
    [
        ("clients/total", |m| m.sessions),
        ("clients/connected", Metrics::connection_count),
        ("clients/active", Metrics::connection_count),
        ("clients/disconnected", |m| m.sessions.saturating_sub(m.connection_count())),
        ("clients/inactive", |m| m.sessions.saturating_sub(m.connection_count())),
        ("clients/maximum", |m| m.connections_max),
        ("clients/expired", |m| m.sessions_expired),
        ("messages/received", |m| m.packets_received.iter().sum()),
        ("messages/sent", |m| m.packets_sent.iter().sum()),
        ("messages/inflight", |m| m.inflight_in + m.inflight_out),
        ("messages/stored", |m| m.stored_messages + m.retained_messages),
        ("store/messages/count", |m| m.stored_messages + m.retained_messages),
        ("store/messages/bytes", |m| m.stored_bytes + m.retained_bytes),
        ("publish/messages/received", |m| m.publish_received.iter().sum()),
        ("publish/messages/sent", |m| m.publish_sent.iter().sum()),
        ("publish/messages/dropped", dropped),
        ("publish/bytes/received", |m| m.publish_received_bytes),
        ("publish/bytes/sent", |m| m.publish_sent_bytes),
        ("bytes/received", |m| m.bytes_received),
        ("bytes/sent", |m| m.bytes_sent),
        ("retained messages/count", |m| m.retained_messages),
        ("subscriptions/count", |m| m.subscriptions),
        ("shared_subscriptions/count", |m| m.shared_subscriptions),
    ]
}

/// What is told as averages per minute.
fn rates() -> [Count; 9] {
    [
        ("messages/received", |m| m.packets_received.iter().sum()),
        ("messages/sent", |m| m.packets_sent.iter().sum()),
        ("publish/received", |m| m.publish_received.iter().sum()),
        ("publish/sent", |m| m.publish_sent.iter().sum()),
        ("publish/dropped", dropped),
        ("bytes/received", |m| m.bytes_received),
        ("bytes/sent", |m| m.bytes_sent),
        ("connections", |m| m.connects),
        ("sockets", |m| m.connects + m.connect_rejected.iter().sum::<u64>()),
    ]
}

fn totals(snapshots: &[MetricsSnapshot], moment: &Moment) -> Vec<(String, String)> {
    let mut topics = vec![
        ("version".to_owned(), format!("shardmq version {}", env!("CARGO_PKG_VERSION"))),
        ("uptime".to_owned(), format!("{} seconds", moment.uptime.as_secs())),
    ];
    topics.extend(sums().map(|(name, count)| (name.to_owned(), sum(snapshots, count).to_string())));
    if let Some((now, most)) = moment.resident_bytes {
        topics.push(("heap/current".to_owned(), now.to_string()));
        topics.push(("heap/maximum".to_owned(), most.to_string()));
    }
    topics
}

/// Averages per minute of a counter, over some spans; what is older weighs less and less.
#[derive(Default)]
struct Load {
    counter: u64,
    averages: [f64; SPANS.len()],
}

impl Load {
    fn advance(&mut self, counter: u64, elapsed: Duration) {
        let seconds = elapsed.as_secs_f64();
        if seconds <= 0.0 {
            return;
        }
        let per_minute = counter.saturating_sub(self.counter) as f64 / seconds * 60.0;
        self.counter = counter;
        for (average, (_, span)) in self.averages.iter_mut().zip(SPANS) {
            *average += (per_minute - *average) * (1.0 - (-seconds / span).exp());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rounds_begin_at_multiples_of_the_interval() {
        let wait = |now_ms, interval_s| {
            until_multiple(Duration::from_millis(now_ms), Duration::from_secs(interval_s)).as_millis()
        };
        assert_eq!(wait(20_003, 10), 9_997);
        assert_eq!(wait(29_999, 10), 1);
        assert_eq!(wait(30_000, 10), 10_000);
    }

    #[test]
    fn a_steady_rate_becomes_the_average_soonest_in_the_shortest_span() {
        let mut load = Load::default();
        // 100 a second for five minutes.
        for round in 1..=30 {
            load.advance(round * 1000, Duration::from_secs(10));
        }
        let [one, five, fifteen] = load.averages;
        assert!((5_950.0..=6_000.0).contains(&one), "{one}");
        assert!(fifteen < five && five < one);
        // One e-th is missing after one span.
        assert!((five / 6_000.0 - (1.0 - (-1.0f64).exp())).abs() < 0.01, "{five}");
    }

    #[test]
    fn only_what_changed_is_told_again() {
        let mut rounds = Rounds::default();
        let start = Instant::now();
        let moment = |seconds| Moment {
            at: start + Duration::from_secs(seconds),
            uptime: Duration::from_secs(seconds),
            lag_max_ns: vec![2_500_000],
            resident_bytes: None,
        };
        let mut snapshot = MetricsSnapshot { lane_depths: vec![0], ..MetricsSnapshot::default() };
        let first = rounds.next(std::slice::from_ref(&snapshot), moment(10));
        let has = |topics: &[(String, String)], topic: &str, payload: &str| {
            topics.contains(&(format!("$SYS/broker/{topic}"), payload.to_owned()))
        };
        assert!(has(&first, "retained messages/count", "0") && has(&first, "shards/0/loop_lag_ms", "2.5"));

        snapshot.metrics.retained_messages = 3;
        (snapshot.busy_ns, snapshot.elapsed_ns) = (5, 10);
        let second = rounds.next(std::slice::from_ref(&snapshot), moment(20));
        assert!(has(&second, "retained messages/count", "3") && has(&second, "uptime", "20 seconds"));
        assert!(has(&second, "shards/0/utilization", "0.50"));
        assert!(!second.iter().any(|(topic, _)| topic.ends_with("version") || topic.ends_with("expired")));
    }
}
