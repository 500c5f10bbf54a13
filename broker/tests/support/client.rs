//! A client of version 5 or 3.1.1 for many connections in one thread: asynchronous, through the crate's codec.

// Each test binary uses its part.
#![allow(dead_code)]

use std::net::SocketAddr;
use std::time::Duration;

use protocol::{
    Ack, Connect, Decoder, Packet, Properties, Publish, QoS, ReasonCode, Role, Subscribe, SubscribeFilters,
    SubscriptionOptions, Version,
};
use tokio::io::{AsyncReadExt, AsyncWriteExt};
use tokio::net::TcpStream;
use tokio::time::timeout;

use super::PATIENCE;

/// What a client read: a packet as far as tests look at it, or the end of the stream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Came {
    Connected { code: u8, session_present: bool, properties: Vec<u8> },
    Subscribed(Vec<u8>),
    Acknowledged(u16, u8),
    Message(Message),
    Disconnected(u8),
    Other,
    End,
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub payload: Vec<u8>,
    pub qos: QoS,
    pub retain: bool,
    pub packet_id: u16,
}

pub struct Client {
    stream: TcpStream,
    input: Vec<u8>,
    version: Version,
}

impl Client {
    pub async fn open(address: SocketAddr) -> Client {
        let until = std::time::Instant::now() + PATIENCE;
        // The backlog of the listener may be full for a moment.
        let stream = loop {
            match TcpStream::connect(address).await {
                Ok(stream) => break stream,
                Err(error) => assert!(std::time::Instant::now() < until, "{error}"),
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        };
        // An acknowledgement and a request behind it are two writes.
        stream.set_nodelay(true).expect("a socket");
        Client { stream, input: vec![], version: Version::V5 }
    }

    /// Version 5 with a clean session.
    pub async fn connect(address: SocketAddr, client_id: &str) -> Client {
        Client::connect_as(address, Version::V5, client_id, true).await.0
    }

    /// Sessions that are not clean are kept for an hour. The answer is CONNACK with success.
    pub async fn connect_as(
        address: SocketAddr,
        version: Version,
        client_id: &str,
        clean_start: bool,
    ) -> (Client, Came) {
        let mut client = Client::open(address).await;
        client.version = version;
        client.send_connect(client_id, clean_start).await;
        let came = client.next().await;
        assert!(matches!(came, Came::Connected { code: 0, .. }), "{client_id}: {came:?} instead of CONNACK");
        (client, came)
    }

    pub async fn send_connect(&mut self, client_id: &str, clean_start: bool) {
        // Session Expiry Interval: an hour.
        let properties = Properties::from_wire(if clean_start { &[] } else { &[0x11, 0, 0, 0x0E, 0x10] });
        self.send(&Packet::Connect(Box::new(Connect {
            version: self.version,
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

    pub async fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = vec![];
        packet.encode(self.version, &mut bytes);
        self.write(&bytes).await;
    }

    /// That the broker has closed is found by the next read.
    pub async fn write(&mut self, bytes: &[u8]) {
        let _ = self.stream.write_all(bytes).await;
    }

    /// The codes of SUBACK.
    pub async fn subscribe(&mut self, filter: &str, qos: QoS) -> Vec<u8> {
        let mut filters = vec![];
        SubscribeFilters::push(&mut filters, filter, SubscriptionOptions::new(qos));
        let filters = SubscribeFilters::from_wire(&filters);
        self.send(&Packet::Subscribe(Subscribe { packet_id: 1, properties: Properties::EMPTY, filters }))
            .await;
        match self.next().await {
            Came::Subscribed(codes) => codes,
            other => panic!("{other:?} instead of SUBACK"),
        }
    }

    /// PUBLISH, not acknowledged yet. `packet_id` 0: QoS 0, else QoS 1.
    pub async fn publish(&mut self, topic: &str, payload: &[u8], packet_id: u16, retain: bool) {
        self.send(&Packet::Publish(Publish {
            dup: false,
            qos: if packet_id == 0 { QoS::AtMostOnce } else { QoS::AtLeastOnce },
            retain,
            topic,
            packet_id,
            topic_alias: None,
            message_expiry: None,
            subscription_ids: &[],
            properties: Properties::EMPTY,
            payload,
        }))
        .await;
    }

    pub async fn puback(&mut self, packet_id: u16) {
        self.send(&Packet::PubAck(Ack::new(packet_id, ReasonCode::Success))).await;
    }

    /// The next message, acknowledged at QoS 1.
    pub async fn message(&mut self) -> Message {
        match self.next().await {
            Came::Message(message) => {
                if message.packet_id != 0 {
                    self.puback(message.packet_id).await;
                }
                message
            }
            other => panic!("{other:?} instead of a message"),
        }
    }

    pub async fn next(&mut self) -> Came {
        timeout(PATIENCE, self.read()).await.expect("the broker answers or closes")
    }

    /// None: nothing within the time.
    pub async fn next_within(&mut self, time: Duration) -> Option<Came> {
        timeout(time, self.read()).await.ok()
    }

    async fn read(&mut self) -> Came {
        loop {
            if let Some(came) = self.take() {
                return came;
            }
            match self.stream.read_buf(&mut self.input).await {
                Ok(1..) => {}
                _ => return Came::End,
            }
        }
    }

    fn take(&mut self) -> Option<Came> {
        let decoder = Decoder { role: Role::Client, version: Some(self.version), packet_size_max: 1 << 28 };
        let (packet, len) = decoder.next_packet(&self.input).expect("the broker's packets are valid")?;
        let came = match packet {
            Packet::ConnAck(connack) => Came::Connected {
                code: connack.reason as u8,
                session_present: connack.session_present,
                properties: connack.properties.raw().to_vec(),
            },
            Packet::SubAck(suback) => Came::Subscribed(suback.codes.to_vec()),
            Packet::PubAck(ack) => Came::Acknowledged(ack.packet_id, ack.reason as u8),
            Packet::Publish(publish) => Came::Message(Message {
                payload: publish.payload.to_vec(),
                qos: publish.qos,
                retain: publish.retain,
                packet_id: publish.packet_id,
            }),
            Packet::Disconnect(disconnect) => Came::Disconnected(disconnect.reason as u8),
            _ => Came::Other,
        };
        self.input.drain(..len);
        Some(came)
    }
}

/// Runs in this thread, with tasks that need not be `Send`.
pub fn block_on<T>(future: impl Future<Output = T>) -> T {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
    tokio::task::LocalSet::new().block_on(&runtime, future)
}

/// `count` clients, at most `group` at a time in their beginning.
pub async fn in_groups<F: Future<Output = T> + 'static, T: 'static>(
    count: usize,
    group: usize,
    client: impl Fn(usize) -> F,
) -> Vec<T> {
    let mut results = Vec::with_capacity(count);
    for first in (0..count).step_by(group) {
        let tasks: Vec<_> =
            (first..count.min(first + group)).map(|n| tokio::task::spawn_local(client(n))).collect();
        for task in tasks {
            results.push(task.await.expect("no client fails"));
        }
    }
    results
}
