//! What a broker tells of its shards over HTTP, in the text form of Prometheus.

use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::TcpStream;
use std::time::Duration;

use anyhow::{Context, bail};

use crate::result::Shard;

const TIMEOUT: Duration = Duration::from_secs(5);
/// Counters of a shard that a report shows, summed over their other labels.
const COUNTERS: [&str; 6] = [
    "mqtt_publish_received_total",
    "mqtt_publish_sent_total",
    "mqtt_publish_dropped_total",
    "broker_xshard_messages_total",
    "broker_uring_enter_total",
    "broker_shard_stalls_total",
];
const BUSY: &str = "broker_shard_busy_seconds_total";

/// Values by shard and metric.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Metrics(BTreeMap<u32, BTreeMap<String, f64>>);

impl Metrics {
    /// From `host:port/path`.
    pub fn read(place: &str) -> anyhow::Result<Metrics> {
        let (address, path) = place.split_once('/').context("metrics are at host:port/path")?;
        let mut socket = TcpStream::connect(address).with_context(|| format!("connecting to {address}"))?;
        socket.set_read_timeout(Some(TIMEOUT))?;
        let request = format!("GET /{path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
        socket.write_all(request.as_bytes())?;
        let mut answer = String::new();
        socket.read_to_string(&mut answer)?;
        match answer.split_once("\r\n\r\n") {
            Some((head, body)) if head.contains(" 200 ") => Ok(Metrics::parse(body)),
            _ => bail!("{place}: {}", answer.lines().next().unwrap_or("no answer")),
        }
    }

    fn parse(text: &str) -> Metrics {
        let mut metrics = Metrics::default();
        for line in text.lines() {
            let Some((name, shard, value)) = parse_line(line) else { continue };
            if COUNTERS.contains(&name) || name == BUSY {
                *metrics.0.entry(shard).or_default().entry(name.to_owned()).or_default() += value;
            }
        }
        metrics
    }

    /// What each shard did between two readings that lie `seconds` apart.
    pub fn since(&self, before: &Metrics, seconds: f64) -> Vec<Shard> {
        let difference = |shard: &u32, name: &String, value: f64| {
            value - before.0.get(shard).and_then(|values| values.get(name)).copied().unwrap_or(0.0)
        };
        self.0
            .iter()
            .map(|(shard, values)| {
                let mut values: BTreeMap<String, f64> = values
                    .iter()
                    .map(|(name, value)| (name.clone(), difference(shard, name, *value)))
                    .collect();
                let utilization = values.remove(BUSY).map(|busy| busy / seconds);
                Shard { shard: *shard, utilization, values }
            })
            .collect()
    }
}

/// Name, shard and value of `name{shard="0",other="x"} 17`.
fn parse_line(line: &str) -> Option<(&str, u32, f64)> {
    let (name, rest) = line.split_once('{')?;
    let (labels, value) = rest.rsplit_once('}')?;
    let shard = labels.split(',').find_map(|label| label.trim().strip_prefix("shard=\""))?;
    Some((name, shard.trim_end_matches('"').parse().ok()?, value.split_whitespace().next()?.parse().ok()?))
}

#[cfg(test)]
mod tests {
    use std::net::TcpListener;

    use super::*;

    #[test]
    fn counters_are_summed_by_shard_and_subtracted() {
        let text = |received: f64| {
            format!(
                "# HELP x\nmqtt_publish_received_total{{shard=\"0\",qos=\"0\"}} {received}\n\
                 mqtt_publish_received_total{{shard=\"0\",qos=\"1\"}} 5\n\
                 broker_shard_busy_seconds_total{{shard=\"0\"}} {}\nother{{shard=\"0\"}} 9\nplain 1\n",
                received / 100.0
            )
        };
        let (before, after) = (Metrics::parse(&text(100.0)), Metrics::parse(&text(300.0)));
        let shards = after.since(&before, 4.0);
        assert_eq!(shards.len(), 1);
        assert_eq!((shards[0].shard, shards[0].utilization), (0, Some(0.5)));
        assert_eq!(shards[0].values, BTreeMap::from([("mqtt_publish_received_total".to_owned(), 200.0)]));
    }

    #[test]
    fn they_are_read_over_http() {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let address = listener.local_addr().unwrap();
        let server = std::thread::spawn(move || {
            for answer in ["200 OK", "503 Service Unavailable"] {
                let (mut socket, _) = listener.accept().unwrap();
                let mut request = [0; 1024];
                let length = socket.read(&mut request).unwrap();
                assert!(request[..length].starts_with(b"GET /metrics HTTP/1.1\r\n"));
                let body = "mqtt_publish_sent_total{shard=\"3\"} 7\n";
                write!(socket, "HTTP/1.1 {answer}\r\n\r\n{body}").unwrap();
            }
        });
        let place = format!("{address}/metrics");
        let shards = Metrics::read(&place).unwrap().since(&Metrics::default(), 1.0);
        assert_eq!((shards[0].shard, shards[0].values["mqtt_publish_sent_total"]), (3, 7.0));
        assert!(Metrics::read(&place).unwrap_err().to_string().contains("503"));
        server.join().unwrap();
    }
}
