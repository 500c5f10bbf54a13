//! Figures and logs: what they say about real traffic, and that they keep their formats.

mod support;

use std::collections::HashMap;
use std::io::Read;
use std::path::Path;
use std::process::Stdio;
use std::time::Duration;

use rumqttc::v5::mqttbytes::QoS;
use rumqttc::v5::mqttbytes::v5::{Packet, PublishProperties, SubscribeReasonCode};
use rumqttc::v5::{Client, Connection, Event, MqttOptions};
use serde_json::Value;
use support::openmetrics::Exposition;
use support::packets::connect;
use support::{Broker, PATIENCE, eventually, shardmq};

/// A client of another make. Its events have to be asked for, or nothing happens.
fn client(broker: &Broker, id: &str) -> (Client, Connection) {
    let mut options = MqttOptions::new(id, "127.0.0.1", broker.port());
    options.set_keep_alive(Duration::from_secs(60));
    Client::new(options, 100)
}

/// The next packet from the broker that is meant.
fn wait_for<T>(connection: &mut Connection, mut is_meant: impl FnMut(&Packet) -> Option<T>) -> T {
    loop {
        match connection.recv_timeout(PATIENCE).expect("in time").expect("the connection stands") {
            Event::Incoming(packet) => {
                if let Some(result) = is_meant(&packet) {
                    return result;
                }
            }
            Event::Outgoing(_) => {}
        }
    }
}

fn subscribe(client: &Client, connection: &mut Connection, filter: &str) -> SubscribeReasonCode {
    client.subscribe(filter, QoS::AtLeastOnce).expect("the client runs");
    wait_for(connection, |packet| match packet {
        Packet::SubAck(suback) => Some(suback.return_codes[0]),
        _ => None,
    })
}

fn scrape(broker: &Broker) -> Exposition {
    let (status, text) = broker.get("/metrics");
    assert_eq!(status, 200);
    Exposition::parse(&text)
}

/// Twenty messages at QoS 1 of ten bytes from many publishers to one subscriber, so that some cross shards.
fn exchange(broker: &Broker) -> (Client, Connection) {
    let (subscriber, mut received) = client(broker, "subscriber");
    assert!(matches!(subscribe(&subscriber, &mut received, "t/#"), SubscribeReasonCode::Success(_)));
    for n in 0..10 {
        let (publisher, mut sent) = client(broker, &format!("publisher-{n}"));
        for _ in 0..2 {
            let properties = PublishProperties::default();
            publisher
                .publish_with_properties("t/x", QoS::AtLeastOnce, false, &b"0123456789"[..], properties)
                .unwrap();
            wait_for(&mut sent, |packet| matches!(packet, Packet::PubAck(_)).then_some(()));
        }
        publisher.disconnect().unwrap();
        while sent.recv_timeout(PATIENCE).is_ok_and(|event| event.is_ok()) {}
    }
    for _ in 0..20 {
        wait_for(&mut received, |packet| matches!(packet, Packet::Publish(_)).then_some(()));
    }
    (subscriber, received)
}

#[test]
fn metrics_keep_the_format_and_tell_what_happened() {
    let broker = Broker::with_shards(2).set("sys_topics.interval", "0s").start();
    let before = scrape(&broker);
    let _subscriber = exchange(&broker);
    let after = eventually("acknowledged", || {
        let after = scrape(&broker);
        (after.sum("mqtt_inflight_messages", &[]) == 0.0 && after.sum("mqtt_connections", &[]) == 1.0)
            .then_some(after)
    });
    for (name, labels, expected) in [
        ("mqtt_publish_received_total", &["qos=\"1\""][..], 20.0),
        ("mqtt_publish_sent_total", &["qos=\"1\""], 20.0),
        ("mqtt_publish_received_bytes_total", &[], 200.0),
        ("mqtt_publish_dropped_total", &[], 0.0),
        ("mqtt_connects_total", &[], 11.0),
        ("mqtt_disconnects_total", &["reason=\"client_disconnect\""], 10.0),
        ("mqtt_connections", &["listener=\"tcp\"", "proto=\"tcp\"", "version=\"5\""], 1.0),
        ("mqtt_subscriptions", &[], 1.0),
        ("mqtt_packets_received_total", &["type=\"publish\""], 20.0),
        ("mqtt_packets_sent_total", &["type=\"puback\""], 20.0),
        ("broker_build_info", &["cores=\"2\""], 1.0),
        ("broker_log_lines_dropped_total", &[], 0.0),
    ] {
        assert_eq!(after.sum(name, labels), expected, "{name} {labels:?}");
    }
    assert!(after.sum("broker_xshard_messages_total", &[]) > 0.0, "ten publishers are not all on one shard");
    assert!(after.sum("process_cpu_seconds_total", &[]) > 0.0);
    assert!(after.sum("broker_shard_loop_lag_seconds_count", &[]) > 0.0);
    assert_eq!(after.lost_since(&before), Vec::<String>::new());
}

#[test]
fn every_figure_that_the_documents_name_exists() {
    let broker = Broker::start();
    let exposition = scrape(&broker);
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).parent().unwrap();
    let mut named = 0;
    for document in ["README.md", "docs/operations.md"] {
        let text = std::fs::read_to_string(root.join(document)).unwrap();
        for quoted in text.split('`').skip(1).step_by(2) {
            let words = quoted.split(|c: char| !c.is_ascii_alphanumeric() && c != '_');
            for word in
                words.filter(|word| ["mqtt_", "broker_", "process_"].iter().any(|p| word.starts_with(p)))
            {
                // `mqtt_*` speaks of all of them.
                assert!(word.ends_with('_') || exposition.knows(word), "{document} names {word}");
                named += 1;
            }
        }
    }
    assert!(named >= 5, "the documents name figures");
}

#[test]
fn statistics_are_the_same_figures_as_json() {
    let broker = Broker::with_shards(2).set("sys_topics.interval", "0s").start();
    let _subscriber = exchange(&broker);
    let (status, text) = broker.get("/api/v1/stats");
    assert_eq!(status, 200);
    let stats: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(stats["totals"]["mqtt_publish_received_total"]["1"], 20);
    let shards = stats["shards"].as_array().unwrap();
    let by_shard = shards.iter().map(|shard| shard["mqtt_publish_received_total"]["1"].as_u64().unwrap());
    assert_eq!((shards.len(), by_shard.sum::<u64>()), (2, 20));
    assert!(stats["process"]["process_resident_memory_bytes"].as_u64().is_some_and(|bytes| bytes > 1 << 20));
}

#[test]
fn sys_topics_tell_a_client_what_changes() {
    let broker = Broker::with_shards(2).set("sys_topics.interval", "1s").start();
    let (observer, mut received) = client(&broker, "observer");
    assert!(matches!(subscribe(&observer, &mut received, "$SYS/broker/#"), SubscribeReasonCode::Success(_)));
    let mut told: HashMap<String, String> = HashMap::new();
    let mut wait_until = |what: &str, is_told: &dyn Fn(&HashMap<String, String>) -> bool| {
        while !is_told(&told) {
            let (topic, payload) = wait_for(&mut received, |packet| match packet {
                Packet::Publish(publish) => Some((publish.topic.clone(), publish.payload.clone())),
                _ => None,
            });
            let topic = String::from_utf8(topic.to_vec()).expect(what);
            let topic = topic.strip_prefix("$SYS/broker/").expect("what was subscribed to").to_owned();
            told.insert(topic, String::from_utf8(payload.to_vec()).expect(what));
        }
    };
    let is = |name: &'static str, payload: &'static str| {
        move |told: &HashMap<String, String>| told.get(name).is_some_and(|told| told == payload)
    };
    wait_until("its own connection", &is("clients/connected", "1"));
    // What mosquitto's users look at.
    for name in [
        "version",
        "uptime",
        "clients/total",
        "clients/maximum",
        "messages/received",
        "publish/messages/dropped",
        "publish/bytes/sent",
        "bytes/received",
        "store/messages/bytes",
        "retained messages/count",
        "subscriptions/count",
        "shared_subscriptions/count",
        "heap/current",
        "load/messages/received/1min",
        "load/publish/sent/5min",
        "load/connections/15min",
        "load/sockets/15min",
        "shards/0/utilization",
        "shards/1/loop_lag_ms",
        "shards/1/connections",
        "shards/0/queue_depth",
    ] {
        wait_until(name, &|told| told.contains_key(name));
    }
    let _second = connect(broker.address(), 4, "second");
    wait_until("another connection", &is("clients/connected", "2"));
    wait_until("the maximum", &is("clients/maximum", "2"));
}

#[test]
fn sys_topics_can_be_kept_from_clients_or_left_out() {
    let broker = Broker::with_shards(1).set("access.sys_subscribe", "false").start();
    let (observer, mut received) = client(&broker, "observer");
    assert_eq!(subscribe(&observer, &mut received, "$SYS/#"), SubscribeReasonCode::NotAuthorized);

    let broker = Broker::with_shards(1).set("sys_topics.interval", "0s").start();
    assert_eq!(scrape(&broker).sum("mqtt_retained_messages", &[]), 0.0);
}

#[test]
fn json_log_lines_are_objects_with_the_usual_fields() {
    let mut broker = Broker::with_shards(1).set("log.level", "trace").start();
    broker.terminate();
    broker.wait();
    let log = broker.log_text();
    for line in log.lines() {
        let line: Value = serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}"));
        for field in ["timestamp", "level", "message", "target"] {
            assert!(line[field].is_string(), "{field}: {line}");
        }
    }
    let ready = log.lines().filter(|line| line.contains("\"message\":\"ready\"")).count();
    assert_eq!(ready, 1, "{log}");
    for field in ["version", "listeners", "admin"] {
        assert!(broker.ready()[field].is_string(), "{field}");
    }
    assert!(broker.ready()["memory_bytes"].as_u64().is_some_and(|bytes| bytes > 0));
}

#[test]
fn text_log_lines_are_for_people() {
    let arguments = [
        "serve",
        "--listener",
        "tcp://127.0.0.1:0",
        "--admin",
        "off",
        "--set",
        "runtime.overprovisioned=true",
    ];
    let mut child = shardmq(arguments).stderr(Stdio::piped()).spawn().unwrap();
    let mut text = Vec::new();
    let mut stream = child.stderr.take().unwrap();
    let mut buffer = [0; 4096];
    while !String::from_utf8_lossy(&text)
        .lines()
        .any(|line| line.contains(" ready ") && line.contains("admin=\"off\""))
    {
        let length = stream.read(&mut buffer).unwrap();
        assert_ne!(length, 0, "not ready: {}", String::from_utf8_lossy(&text));
        text.extend(&buffer[..length]);
    }
    // Nobody reads its log any more: it goes on.
    drop(stream);
    // SAFETY: our child, not waited for yet.
    unsafe { libc::kill(child.id() as i32, libc::SIGTERM) };
    assert_eq!(child.wait().unwrap().code(), Some(0));
    assert!(!String::from_utf8_lossy(&text).contains('\u{1b}'), "no colours where no terminal is");
}
