//! Many connections: 10,000 at once, clients that come and go in the same instant, takeovers in a storm, a restart on
//! the same port.

mod support;

use std::time::{Duration, Instant};

use protocol::{QoS, Version};
use support::client::{Came, Client, block_on, in_groups};
use support::{Broker, eventually};

/// The figure in `/metrics`, summed up over shards and labels.
fn figure(broker: &Broker, name: &str) -> u64 {
    let (_, text) = broker.get("/metrics");
    let value = |line: &str| {
        let (key, value) = line.rsplit_once(' ')?;
        (key.split('{').next() == Some(name)).then(|| value.parse::<f64>().ok())?
    };
    text.lines().filter_map(value).sum::<f64>() as u64
}

fn ten_thousand_at_once(shards: usize) {
    const CLIENTS: usize = 10_000;
    let broker = Broker::with_shards(shards).start();
    let address = broker.address();
    block_on(async {
        let mut clients = in_groups(CLIENTS, 500, |n| async move {
            let mut client = Client::connect(address, &format!("many-{n}")).await;
            // A tenth of them have a topic of their own, so that there is traffic among the idle ones.
            if n % 10 == 0 {
                assert_eq!(client.subscribe(&format!("many/{n}"), QoS::AtLeastOnce).await, [1]);
            }
            client
        })
        .await;
        assert_eq!(figure(&broker, "mqtt_connections"), CLIENTS as u64);
        for n in (0..CLIENTS).step_by(10) {
            clients[n + 1].publish(&format!("many/{n}"), n.to_string().as_bytes(), 1, false).await;
        }
        for n in (0..CLIENTS).step_by(10) {
            assert_eq!(clients[n + 1].next().await, Came::Acknowledged(1, 0));
            assert_eq!(clients[n].message().await.payload, n.to_string().as_bytes());
        }
    });
    eventually("all have gone", || (figure(&broker, "mqtt_connections") == 0).then_some(()));
    eventually("and their sessions", || (figure(&broker, "mqtt_sessions") == 0).then_some(()));
}

#[test]
fn ten_thousand_at_once_on_one_shard() {
    ten_thousand_at_once(1);
}

#[test]
fn ten_thousand_at_once_on_two_shards() {
    ten_thousand_at_once(2);
}

/// DISCONNECT and the end of the stream arrive in the turn in which other connections arrive from another shard.
#[test]
fn clients_that_leave_at_once_do_not_take_newcomers_with_them() {
    let broker = Broker::with_shards(2).start();
    let address = broker.address();
    block_on(async {
        for round in 0..40 {
            in_groups(50, 50, |n| async move {
                let mut client = Client::connect(address, &format!("churn-{round}-{n}")).await;
                let topic = format!("churn/{n}");
                if n % 3 > 0 {
                    client.subscribe(&topic, QoS::AtMostOnce).await;
                    client.publish(&topic, b"x", 0, false).await;
                    assert_eq!(client.message().await.payload, b"x");
                }
                if n % 3 == 2 {
                    client.write(&[0xE0, 0]).await;
                }
            })
            .await;
        }
    });
}

/// 1,000 connections fight for ten client ids: the last one of each stays, all others are told.
#[test]
fn a_storm_of_takeovers_leaves_one_connection_for_each_client_id() {
    const IDS: usize = 10;
    for shards in [1, 2] {
        let broker = Broker::with_shards(shards).start();
        let address = broker.address();
        block_on(async {
            let clients = in_groups(1_000, 200, |n| async move {
                let mut client = Client::open(address).await;
                client.send_connect(&format!("taken-{}", n % IDS), false).await;
                client
            })
            .await;
            let fates = in_groups_of(clients, |mut client| async move {
                let connack = client.next().await;
                assert!(matches!(connack, Came::Connected { code: 0, .. }), "{connack:?}");
                match client.next_within(Duration::from_secs(2)).await {
                    None => Some(client),
                    Some(came) => {
                        assert_eq!(came, Came::Disconnected(0x8E));
                        assert_eq!(client.next().await, Came::End);
                        None
                    }
                }
            })
            .await;
            assert_eq!(fates.iter().flatten().count(), IDS, "{shards} shards");
            assert_eq!(figure(&broker, "mqtt_sessions"), IDS as u64);
        });
    }
}

async fn in_groups_of<F: Future<Output = T> + 'static, T: 'static>(
    clients: Vec<Client>,
    client: impl Fn(Client) -> F,
) -> Vec<T> {
    let tasks: Vec<_> = clients.into_iter().map(|c| tokio::task::spawn_local(client(c))).collect();
    let mut results = vec![];
    for task in tasks {
        results.push(task.await.expect("no client fails"));
    }
    results
}

/// The port is free at once, although connections of the old process linger in the kernel.
#[test]
fn a_restart_takes_the_same_port() {
    for signal in [libc::SIGTERM, libc::SIGKILL] {
        let mut broker = Broker::with_shards(2).start();
        let address = broker.address();
        block_on(async {
            let mut clients = in_groups(100, 100, |n| async move {
                Client::connect_as(address, Version::V5, &format!("restart-{n}"), false).await.0
            })
            .await;
            broker.signal(signal);
            for client in &mut clients {
                let expected = if signal == libc::SIGTERM { Came::Disconnected(0x8B) } else { Came::End };
                assert_eq!(client.next().await, expected);
            }
        });
        broker.wait();
        let began = Instant::now();
        let again = Broker::with_shards(2).listeners(&[&format!("tcp://{address}")]).start();
        assert_eq!(again.address(), address);
        block_on(async {
            in_groups(100, 100, |n| async move {
                let (_, connack) =
                    Client::connect_as(address, Version::V5, &format!("restart-{n}"), false).await;
                // Sessions live in memory.
                assert!(matches!(connack, Came::Connected { session_present: false, .. }), "{connack:?}");
            })
            .await;
        });
        assert!(began.elapsed() < Duration::from_secs(20), "a restart took {:?}", began.elapsed());
    }
}
