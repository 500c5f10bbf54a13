//! Rows of `docs/parity.md`: that the document names every row and only tests that exist, and those rows that no other
//! test shows from outside. Tests of rows are called `row_NN_..`.

mod support;

use std::collections::BTreeSet;
use std::path::{Path, PathBuf};
use std::time::Duration;

use protocol::{Properties, PropertyId, QoS, Version};
use support::Broker;
use support::client::{Came, Client, block_on, in_groups};

/// The rows of this stage.
fn rows() -> impl Iterator<Item = u32> {
    (1..=71).chain(79..=98).chain(102..=107).chain([113, 172])
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("..")
}

/// The text of all test sources below a directory.
fn sources(directory: &Path, text: &mut String) {
    for entry in std::fs::read_dir(directory).expect("a directory of the repository") {
        let path = entry.expect("an entry").path();
        if path.is_dir() {
            sources(&path, text);
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            *text += &std::fs::read_to_string(&path).expect("a source");
        }
    }
}

#[test]
fn the_document_has_every_row_and_names_tests_that_exist() {
    let document = std::fs::read_to_string(root().join("docs/parity.md")).expect("docs/parity.md");
    let mut tests = String::new();
    for directory in ["broker/tests", "shard/tests", "shard/src", "protocol/src"] {
        sources(&root().join(directory), &mut tests);
    }
    let mut found = vec![];
    for line in document.lines() {
        let cells: Vec<&str> = line.split('|').map(str::trim).collect();
        let Some(Ok(row)) = cells.get(1).map(|cell| cell.parse::<u32>()) else { continue };
        let [_, _, _, state, shown, _] = cells[..] else { panic!("row {row} has other columns: {line}") };
        found.push(row);
        assert!(["holds", "differs", "partly", "not yet"].contains(&state), "row {row}: {state}");
        let named: Vec<&str> = shown.split('`').skip(1).step_by(2).collect();
        assert!(state == "not yet" || !named.is_empty(), "row {row} {state} without a test");
        for name in named {
            let function = name.rsplit("::").next().expect("a last part");
            let is_there =
                [format!("fn {function}("), format!("(\"{function}\")"), format!("case!({function})")]
                    .iter()
                    .any(|definition| tests.contains(definition));
            assert!(is_there, "row {row} names {name}, which does not exist");
        }
    }
    let expected: BTreeSet<u32> = rows().collect();
    assert_eq!(found.len(), expected.len(), "each row once");
    assert_eq!(found.into_iter().collect::<BTreeSet<u32>>(), expected);
}

fn on_brokers(test: impl AsyncFn(&Broker)) {
    for shards in [1, 2] {
        let broker = Broker::with_shards(shards).start();
        block_on(test(&broker));
    }
}

#[test]
fn row_9_connack_tells_the_limits() {
    on_brokers(async |broker| {
        let (_, came) = Client::connect_as(broker.address(), Version::V5, "limits", false).await;
        let Came::Connected { properties, .. } = came else { panic!("{came:?}") };
        let properties = Properties::from_wire(&properties);
        assert_eq!(properties.u16(PropertyId::ReceiveMaximum), Some(1000));
        assert_eq!(properties.u32(PropertyId::MaximumPacketSize), Some(1 << 20));
        assert_eq!(properties.u16(PropertyId::TopicAliasMaximum), Some(10));
        // Keep alive 0 is replaced by the longest one.
        assert_eq!(properties.u16(PropertyId::ServerKeepAlive), Some(600));
    });
}

#[test]
fn row_23_and_27_thousands_arrive_in_order() {
    on_brokers(async |broker| {
        let mut subscriber = Client::connect(broker.address(), "order-sub").await;
        subscriber.subscribe("order/#", QoS::AtLeastOnce).await;
        let mut publisher = Client::connect(broker.address(), "order-pub").await;
        for number in 0..1_000u32 {
            publisher.publish("order/0", &number.to_be_bytes(), 0, false).await;
        }
        for number in 0..1_000u32 {
            assert_eq!(subscriber.message().await.payload, number.to_be_bytes());
        }
        // 500 under way at a time, and the acknowledgements in the order of the messages (row 29).
        for first in (0..10_000u32).step_by(500) {
            for number in first..first + 500 {
                publisher.publish("order/1", &number.to_be_bytes(), (number - first + 1) as u16, false).await;
            }
            for packet_id in 1..=500 {
                assert_eq!(publisher.next().await, Came::Acknowledged(packet_id, 0));
            }
            for number in first..first + 500 {
                assert_eq!(subscriber.message().await.payload, number.to_be_bytes());
            }
        }
    });
}

#[test]
fn row_33_publishing_to_dollar_topics_can_be_refused() {
    let broker = Broker::with_shards(1).set("mqtt.dollar_publish_refused", "true").start();
    block_on(async {
        let mut client = Client::connect(broker.address(), "dollar").await;
        client.publish("$x/y", b"", 1, false).await;
        assert_eq!(client.next().await, Came::Acknowledged(1, 0x90));
    });
}

#[test]
fn row_47_the_window_of_3_x_is_kept() {
    let broker = Broker::with_shards(1).set("mqtt.inflight_max", "5").start();
    block_on(async {
        let (mut subscriber, _) =
            Client::connect_as(broker.address(), Version::V311, "window-sub", true).await;
        subscriber.subscribe("window", QoS::AtLeastOnce).await;
        let mut publisher = Client::connect(broker.address(), "window-pub").await;
        for packet_id in 1..=10 {
            publisher.publish("window", b"", packet_id, false).await;
        }
        let mut window = vec![];
        for _ in 0..5 {
            match subscriber.next().await {
                Came::Message(message) => window.push(message.packet_id),
                other => panic!("{other:?}"),
            }
        }
        assert_eq!(subscriber.next_within(Duration::from_millis(200)).await, None);
        subscriber.puback(window[0]).await;
        assert!(matches!(subscriber.next().await, Came::Message(_)), "one place, one message");
        assert_eq!(subscriber.next_within(Duration::from_millis(200)).await, None);
    });
}

#[test]
fn row_51_the_root_wildcard_can_be_refused() {
    let broker = Broker::with_shards(1).set("mqtt.root_wildcard_allowed", "false").start();
    block_on(async {
        let mut client = Client::connect(broker.address(), "root").await;
        assert_eq!(client.subscribe("#", QoS::AtMostOnce).await, [0xA2]);
        assert_eq!(client.subscribe("a/#", QoS::AtMostOnce).await, [0]);
    });
}

#[test]
fn row_65_and_66_a_group_of_both_versions_shares_evenly() {
    on_brokers(async |broker| {
        let address = broker.address();
        let members = in_groups(4, 4, |n| async move {
            let version = if n % 2 == 0 { Version::V5 } else { Version::V311 };
            let (mut member, _) = Client::connect_as(address, version, &format!("even-{n}"), true).await;
            member.subscribe("$share/group/even", QoS::AtLeastOnce).await;
            member
        })
        .await;
        let mut publisher = Client::connect(address, "even-pub").await;
        for number in 0..4_000u32 {
            publisher.publish("even", &number.to_be_bytes(), (number % 1_000 + 1) as u16, false).await;
            if number % 1_000 == 999 {
                for packet_id in 1..=1_000 {
                    assert_eq!(publisher.next().await, Came::Acknowledged(packet_id, 0));
                }
            }
        }
        let mut all = vec![];
        for mut member in members {
            let mut payloads = vec![];
            while let Some(Came::Message(message)) = member.next_within(Duration::from_millis(300)).await {
                member.puback(message.packet_id).await;
                payloads.push(message.payload);
            }
            assert!((950..=1050).contains(&payloads.len()), "{} of 4000 for one of four", payloads.len());
            all.extend(payloads);
        }
        all.sort();
        assert!(
            all.iter().map(Vec::as_slice).eq((0..4_000u32).map(u32::to_be_bytes).collect::<Vec<_>>()),
            "each once"
        );
    });
}

/// Who subscribes behind PUBACK gets that state; what is published behind SUBACK comes live, and not as state too.
#[test]
fn row_79_the_state_and_what_follows_come_once() {
    for shards in 1..=4 {
        let broker = Broker::with_shards(shards).start();
        block_on(async {
            let mut publisher = Client::connect(broker.address(), "state-pub").await;
            let mut subscribers = vec![];
            for number in 0..4 {
                let client_id = format!("state-sub-{number}");
                subscribers.push(Client::connect(broker.address(), &client_id).await);
            }
            for round in 0..150 {
                let topic = format!("state/{round}");
                publisher.publish(&topic, b"old", 1, true).await;
                assert!(matches!(publisher.next().await, Came::Acknowledged(1, _)));
                for subscriber in &mut subscribers {
                    assert_eq!(subscriber.subscribe(&topic, QoS::AtLeastOnce).await, [1]);
                }
                publisher.publish(&topic, b"new", 2, true).await;
                for subscriber in &mut subscribers {
                    let mut found = subscriber.message().await;
                    if found.payload == b"old" {
                        assert!(found.retain, "{shards} shards, round {round}: {found:?}");
                        found = subscriber.message().await;
                    }
                    assert_eq!((found.payload.as_slice(), found.retain), (&b"new"[..], false));
                }
                assert!(matches!(publisher.next().await, Came::Acknowledged(2, _)));
                for subscriber in &mut subscribers {
                    // Whatever an owner still had for it would come before.
                    subscriber.subscribe(&format!("state/probe/{round}"), QoS::AtMostOnce).await;
                }
            }
        });
    }
}

#[test]
fn row_81_a_thousand_retained_messages_by_wildcard() {
    on_brokers(async |broker| {
        let mut publisher = Client::connect(broker.address(), "thousand-pub").await;
        for number in 0..1_000u16 {
            publisher.publish(&format!("thousand/{number}"), b"x", number + 1, true).await;
        }
        for packet_id in 1..=1_000 {
            assert!(matches!(publisher.next().await, Came::Acknowledged(id, _) if id == packet_id));
        }
        let mut subscriber = Client::connect(broker.address(), "thousand-sub").await;
        subscriber.subscribe("thousand/#", QoS::AtLeastOnce).await;
        for _ in 0..1_000 {
            assert!(subscriber.message().await.retain);
        }
        assert_eq!(subscriber.next_within(Duration::from_millis(200)).await, None);
    });
}

/// A reader that stops costs its bounds, not more; others are served meanwhile, and it goes on when it reads again.
#[test]
fn row_172_a_reader_that_stops_is_bounded() {
    let resident = |broker: &Broker| {
        let status = std::fs::read_to_string(format!("/proc/{}/status", broker.pid())).expect("it runs");
        let line =
            status.lines().find(|line| line.starts_with("VmRSS")).expect("a process has memory").to_owned();
        line.split_whitespace().nth(1).and_then(|kib| kib.parse::<u64>().ok()).expect("a number") * 1024
    };
    on_brokers(async |broker| {
        const PAYLOAD: usize = 16 * 1024;
        const MESSAGES: u32 = 4_000;
        let mut stopped = Client::connect(broker.address(), "stopped").await;
        stopped.subscribe("flood", QoS::AtMostOnce).await;
        let mut other = Client::connect(broker.address(), "other").await;
        other.subscribe("trickle", QoS::AtLeastOnce).await;
        let before = resident(broker);
        let mut publisher = Client::connect(broker.address(), "flooder").await;
        for number in 0..MESSAGES {
            publisher.publish("flood", &[number as u8; PAYLOAD], 0, false).await;
            if number % 400 == 0 {
                publisher.publish("trickle", &number.to_be_bytes(), 1, false).await;
                assert_eq!(publisher.next().await, Came::Acknowledged(1, 0));
                assert_eq!(other.message().await.payload, number.to_be_bytes());
            }
        }
        let grown = resident(broker).saturating_sub(before);
        assert!(grown < 32 << 20, "{grown} bytes more for a flood of {} bytes", MESSAGES as usize * PAYLOAD);
        // Everything before this was served.
        publisher.publish("trickle", b"", 1, false).await;
        assert_eq!(publisher.next().await, Came::Acknowledged(1, 0));
        let mut read = 0;
        while let Some(Came::Message(_)) = stopped.next_within(Duration::from_millis(500)).await {
            read += 1;
        }
        let (_, metrics) = broker.get("/metrics");
        let lines = metrics.lines().filter(|line| line.starts_with("mqtt_publish_dropped_total{"));
        let dropped: f64 = lines.filter_map(|line| line.rsplit_once(' ')?.1.parse::<f64>().ok()).sum();
        assert!(dropped > 0.0, "a flood of this size does not fit");
        assert_eq!(read + dropped as u32, MESSAGES, "{read} read and {dropped} dropped");
        publisher.publish("flood", b"new", 0, false).await;
        while stopped.message().await.payload != b"new" {}
    });
}
