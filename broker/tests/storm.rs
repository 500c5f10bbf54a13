//! Many connections: 10,000 at once, clients that come and go in the same instant, takeovers in a storm, a restart on
//! the same port.

mod support;

use std::net::SocketAddr;
use std::time::Duration;

use protocol::{
    Connect, Decoder, Packet, Properties, Publish, QoS, Role, Subscribe, SubscribeFilters,
    SubscriptionOptions, Version,
};
use support::{Broker, PATIENCE};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

/// What a client read: the kind of a packet, or the end of the stream.
#[derive(Debug, PartialEq, Eq)]
enum Came {
    Connected { session_present: bool },
    Subscribed,
    Message(Vec<u8>),
    Disconnected(u8),
    Other,
    End,
}

/// A version 5 client that speaks through the codec.
struct Client {
    stream: TcpStream,
    input: Vec<u8>,
}

impl Client {
    async fn open(address: SocketAddr) -> Client {
        // The backlog of the listener may be full for a moment.
        let stream = loop {
            match TcpStream::connect(address).await {
                Ok(stream) => break stream,
                Err(_) => tokio::time::sleep(Duration::from_millis(20)).await,
            }
        };
        Client { stream, input: vec![] }
    }

    async fn connect(address: SocketAddr, client_id: &str, clean_start: bool) -> Client {
        let mut client = Client::open(address).await;
        client.send_connect(client_id, clean_start).await;
        let came = client.next().await;
        assert!(matches!(came, Came::Connected { .. }), "{client_id}: {came:?} instead of CONNACK");
        client
    }

    async fn send_connect(&mut self, client_id: &str, clean_start: bool) {
        // Session Expiry Interval: an hour.
        let properties = Properties::from_wire(if clean_start { &[] } else { &[0x11, 0, 0, 0x0E, 0x10] });
        self.send(&Packet::Connect(Box::new(Connect {
            version: Version::V5,
            is_bridge: false,
            clean_start,
            keep_alive: 0,
            client_id,
            will: None,
            user_name: None,
            password: None,
            properties,
        })))
        .await;
    }

    async fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = vec![];
        packet.encode(Version::V5, &mut bytes);
        self.write(&bytes).await;
    }

    /// A broker that has closed is found by the next read.
    async fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    async fn subscribe(&mut self, filter: &str) {
        let mut filters = vec![];
        SubscribeFilters::push(&mut filters, filter, SubscriptionOptions::new(QoS::AtLeastOnce));
        let filters = SubscribeFilters::from_wire(&filters);
        self.send(&Packet::Subscribe(Subscribe { packet_id: 1, properties: Properties::EMPTY, filters }))
            .await;
        assert_eq!(self.next().await, Came::Subscribed);
    }

    async fn publish(&mut self, topic: &str, payload: &[u8]) {
        self.send(&Packet::Publish(Publish {
            dup: false,
            qos: QoS::AtMostOnce,
            retain: false,
            topic,
            packet_id: 0,
            topic_alias: None,
            message_expiry: None,
            subscription_ids: &[],
            properties: Properties::EMPTY,
            payload,
        }))
        .await;
    }

    async fn next(&mut self) -> Came {
        let decoder = Decoder { role: Role::Client, version: Some(Version::V5), packet_size_max: 1 << 20 };
        loop {
            if let Some((packet, len)) =
                decoder.next_packet(&self.input).expect("the broker's packets are valid")
            {
                let came = match packet {
                    Packet::ConnAck(connack) => {
                        assert!(!connack.reason.is_error(), "refused: {connack:?}");
                        Came::Connected { session_present: connack.session_present }
                    }
                    Packet::SubAck(_) => Came::Subscribed,
                    Packet::Publish(publish) => Came::Message(publish.payload.to_vec()),
                    Packet::Disconnect(disconnect) => Came::Disconnected(disconnect.reason as u8),
                    _ => Came::Other,
                };
                self.input.drain(..len);
                return came;
            }
            let read = timeout(PATIENCE, self.stream.read_buf(&mut self.input)).await;
            match read.expect("the broker answers or closes") {
                Ok(1..) => {}
                _ => return Came::End,
            }
        }
    }
}

fn run(storm: impl Future<Output = ()>) {
    tokio::runtime::Builder::new_current_thread().enable_all().build().unwrap().block_on(storm);
}

/// As many clients at a time as a storm of reconnects has, without filling the listener's backlog.
async fn in_groups<F: Future<Output = T> + 'static, T: 'static>(
    count: usize,
    group: usize,
    client: impl Fn(usize) -> F,
) -> Vec<T> {
    let local = tokio::task::LocalSet::new();
    let mut results = vec![];
    local
        .run_until(async {
            for first in (0..count).step_by(group) {
                let tasks: Vec<_> =
                    (first..count.min(first + group)).map(|n| tokio::task::spawn_local(client(n))).collect();
                for task in tasks {
                    results.push(task.await.expect("no client fails"));
                }
            }
        })
        .await;
    results
}

/// DISCONNECT and the end of the stream arrive in the turn in which other connections arrive from another shard.
#[test]
fn clients_that_leave_at_once_do_not_take_newcomers_with_them() {
    let broker = Broker::with_shards(2).start();
    let address = broker.address();
    run(async {
        for round in 0..40 {
            in_groups(50, 50, |n| async move {
                let mut client = Client::connect(address, &format!("churn-{round}-{n}"), true).await;
                let topic = format!("churn/{n}");
                if n % 3 > 0 {
                    client.subscribe(&topic).await;
                    client.publish(&topic, b"x").await;
                    assert_eq!(client.next().await, Came::Message(b"x".to_vec()));
                }
                if n % 3 == 2 {
                    client.write(&[0xE0, 0]).await;
                }
            })
            .await;
        }
    });
}
