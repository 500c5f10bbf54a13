//! One connected client, of either version, whose packets come sorted by kind.

use std::sync::OnceLock;
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::time::Duration;

use rumqttc::v5::mqttbytes::v5::{
    ConnAckProperties, ConnectProperties, Filter, LastWill, Packet, Publish, PublishProperties,
    SubscribeProperties, SubscribeReasonCode, UnsubAckReason,
};
use rumqttc::{Outgoing, v5};
use tokio::runtime::Handle;
use tokio::task::JoinHandle;

use crate::judges::Version;

/// The most that anything may take; reached only when a row fails.
pub const PATIENCE: Duration = Duration::from_secs(5);
/// How long to look for something that must not come.
pub const DOUBT: Duration = Duration::from_millis(200);
/// Requests that wait in the library.
const REQUESTS_MAX: usize = 3000;
/// Bytes; the library refuses more than 10 KiB by default.
const PACKET_MAX: u32 = 2 << 20;
const KEPT_S: u32 = 3600;

pub struct Options {
    pub clean: bool,
    pub keep_alive: Duration,
    /// Its properties count in version 5.
    pub will: Option<LastWill>,
    pub manual_acks: bool,
    /// Of version 5. Without a session expiry a session that is not clean lives for an hour.
    pub properties: ConnectProperties,
}

impl Default for Options {
    fn default() -> Options {
        let properties = ConnectProperties { max_packet_size: Some(PACKET_MAX), ..ConnectProperties::new() };
        Options {
            clean: true,
            keep_alive: Duration::from_secs(60),
            will: None,
            manual_acks: false,
            properties,
        }
    }
}

impl Options {
    pub fn kept() -> Options {
        Options { clean: false, ..Options::default() }
    }
}

/// In version 3.1.1 without properties.
#[derive(Debug)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: u8,
    pub retain: bool,
    pub dup: bool,
    pub packet_id: u16,
    pub properties: PublishProperties,
}

impl Message {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("rows send UTF-8")
    }
}

enum Event {
    Connected(bool, Option<ConnAckProperties>),
    Message(Message),
    /// QoS 0: written; QoS 1 and 2: acknowledged to the end.
    Published,
    AckSent,
    /// Granted QoS, or 0x80 and above.
    Subscribed(u8),
    /// Codes, in version 5.
    Unsubscribed(Vec<UnsubAckReason>),
}

/// Ends of the channels that an [`Event`] goes into.
struct Sink {
    connected: Sender<(bool, Option<ConnAckProperties>)>,
    messages: Sender<Message>,
    published: Sender<()>,
    acks_sent: Sender<()>,
    subscribed: Sender<u8>,
    unsubscribed: Sender<Vec<UnsubAckReason>>,
    ends: Sender<String>,
}

impl Sink {
    /// Sending fails only when the peer is dropped, and then nobody asks.
    fn put(&self, event: Event) {
        let _ = match event {
            Event::Connected(present, properties) => self.connected.send((present, properties)).is_ok(),
            Event::Message(message) => self.messages.send(message).is_ok(),
            Event::Published => self.published.send(()).is_ok(),
            Event::AckSent => self.acks_sent.send(()).is_ok(),
            Event::Subscribed(code) => self.subscribed.send(code).is_ok(),
            Event::Unsubscribed(codes) => self.unsubscribed.send(codes).is_ok(),
        };
    }
}

enum Client {
    V311(rumqttc::AsyncClient),
    V5(v5::AsyncClient),
}

pub struct Peer {
    client: Client,
    task: Option<JoinHandle<()>>,
    messages: Receiver<Message>,
    published: Receiver<()>,
    acks_sent: Receiver<()>,
    subscribed: Receiver<u8>,
    unsubscribed: Receiver<Vec<UnsubAckReason>>,
    ends: Receiver<String>,
    pub session_present: bool,
    pub connack: ConnAckProperties,
}

impl Peer {
    #[track_caller]
    pub fn new(port: u16, version: Version, id: &str) -> Peer {
        Peer::with(port, version, id, Options::default())
    }

    #[track_caller]
    pub fn with(port: u16, version: Version, id: &str, options: Options) -> Peer {
        let (connected, connects) = channel();
        let (message_sink, messages) = channel();
        let (published_sink, published) = channel();
        let (ack_sink, acks_sent) = channel();
        let (subscribed_sink, subscribed) = channel();
        let (unsubscribed_sink, unsubscribed) = channel();
        let (end_sink, ends) = channel();
        let sink = Sink {
            connected,
            messages: message_sink,
            published: published_sink,
            acks_sent: ack_sink,
            subscribed: subscribed_sink,
            unsubscribed: unsubscribed_sink,
            ends: end_sink,
        };
        let (client, task) = match version {
            Version::V31 => panic!("rumqttc does not speak 3.1"),
            Version::V311 => {
                let (client, events) =
                    rumqttc::AsyncClient::new(options_311(port, id, options), REQUESTS_MAX);
                (Client::V311(client), runtime().spawn(follow_311(sink, events)))
            }
            Version::V5 => {
                let (client, events) = v5::AsyncClient::new(options_5(port, id, options), REQUESTS_MAX);
                (Client::V5(client), runtime().spawn(follow_5(sink, events)))
            }
        };
        let (session_present, connack) = match connects.recv_timeout(PATIENCE) {
            Ok(connected) => connected,
            Err(_) => panic!("no connection: {:?}", ends.try_recv()),
        };
        Peer {
            client,
            task: Some(task),
            messages,
            published,
            acks_sent,
            subscribed,
            unsubscribed,
            ends,
            session_present,
            connack: connack.unwrap_or(NO_PROPERTIES),
        }
    }

    #[track_caller]
    pub fn subscribe(&self, filter: &str, qos: u8) {
        match &self.client {
            Client::V311(client) => client.try_subscribe(filter, qos_311(qos)).expect("there is room"),
            Client::V5(client) => client.try_subscribe(filter, qos_5(qos)).expect("there is room"),
        }
        assert_eq!(self.subscribed.recv_timeout(PATIENCE), Ok(qos), "SUBACK");
    }

    /// With what only version 5 has.
    #[track_caller]
    pub fn subscribe_with(&self, filter: &str, qos: u8, change: impl FnOnce(&mut Filter), id: Option<usize>) {
        let Client::V5(client) = &self.client else { panic!("a row of version 5") };
        let mut filter = Filter::new(filter, qos_5(qos));
        change(&mut filter);
        match id {
            None => client.try_subscribe_many([filter]),
            Some(_) => {
                let properties = SubscribeProperties { id, user_properties: vec![] };
                client.try_subscribe_many_with_properties([filter], properties)
            }
        }
        .expect("there is room");
        assert_eq!(self.subscribed.recv_timeout(PATIENCE), Ok(qos), "SUBACK");
    }

    #[track_caller]
    pub fn unsubscribe(&self, filter: &str) -> Vec<UnsubAckReason> {
        match &self.client {
            Client::V311(client) => client.try_unsubscribe(filter).expect("there is room"),
            Client::V5(client) => client.try_unsubscribe(filter).expect("there is room"),
        }
        self.unsubscribed.recv_timeout(PATIENCE).expect("UNSUBACK")
    }

    /// Returns when it is acknowledged to the end.
    #[track_caller]
    pub fn publish(&self, topic: &str, payload: impl Into<Vec<u8>>, qos: u8, retain: bool) {
        let payload = payload.into();
        match &self.client {
            Client::V311(client) => {
                client.try_publish(topic, qos_311(qos), retain, payload).expect("there is room")
            }
            Client::V5(client) => {
                client.try_publish(topic, qos_5(qos), retain, payload).expect("there is room")
            }
        }
        self.published.recv_timeout(PATIENCE).expect("acknowledged");
    }

    /// At QoS 1.
    #[track_caller]
    pub fn publish_with(&self, topic: &str, payload: &str, properties: PublishProperties) {
        let Client::V5(client) = &self.client else { panic!("a row of version 5") };
        let payload = payload.to_owned();
        client
            .try_publish_with_properties(topic, qos_5(1), false, payload, properties)
            .expect("there is room");
        self.published.recv_timeout(PATIENCE).expect("acknowledged");
    }

    /// At QoS 1, one behind the other without waiting; returns when all are acknowledged.
    #[track_caller]
    pub fn publish_at_once(&self, topic: &str, count: usize) {
        let Client::V5(client) = &self.client else { panic!("a row of version 5") };
        for _ in 0..count {
            client.try_publish(topic, qos_5(1), false, "x").expect("there is room");
        }
        for _ in 0..count {
            self.published.recv_timeout(PATIENCE).expect("acknowledged");
        }
    }

    #[track_caller]
    pub fn message(&self) -> Message {
        self.messages.recv_timeout(PATIENCE).expect("a message")
    }

    #[track_caller]
    pub fn messages(&self, count: usize) -> Vec<Message> {
        (0..count).map(|_| self.message()).collect()
    }

    /// What comes until nothing has come for a moment.
    pub fn burst(&self) -> Vec<Message> {
        std::iter::from_fn(|| self.messages.recv_timeout(DOUBT).ok()).collect()
    }

    /// These payloads in this order, and nothing behind them.
    #[track_caller]
    pub fn expect(&self, payloads: &[&str]) {
        for payload in payloads {
            assert_eq!(self.message().text(), *payload);
        }
        self.expect_nothing();
    }

    #[track_caller]
    pub fn expect_nothing(&self) {
        let further = self.messages.recv_timeout(DOUBT);
        assert!(matches!(further, Err(RecvTimeoutError::Timeout)), "further message: {further:?}");
    }

    /// Returns when PUBACK is written.
    #[track_caller]
    pub fn ack(&self, message: &Message) {
        match &self.client {
            Client::V311(client) => {
                let mut publish = rumqttc::Publish::new("", qos_311(1), []);
                publish.pkid = message.packet_id;
                client.try_ack(&publish).expect("there is room");
            }
            Client::V5(client) => {
                let publish = Publish { pkid: message.packet_id, qos: qos_5(1), ..Publish::default() };
                client.try_ack(&publish).expect("there is room");
            }
        }
        self.acks_sent.recv_timeout(PATIENCE).expect("PUBACK is written");
    }

    /// The library's word for why the connection has ended.
    #[track_caller]
    pub fn end(&self) -> String {
        self.ends.recv_timeout(PATIENCE).expect("the connection ends")
    }

    #[track_caller]
    pub fn disconnect(self) {
        match &self.client {
            Client::V311(client) => client.try_disconnect().expect("there is room"),
            Client::V5(client) => client.try_disconnect().expect("there is room"),
        }
        self.end();
    }

    /// The connection ends without DISCONNECT.
    pub fn cut(mut self) {
        self.stop();
    }

    fn stop(&mut self) {
        if let Some(task) = self.task.take() {
            task.abort();
            // Fails when the task has dropped its end, after its connection.
            while self.ends.recv().is_ok() {}
        }
    }
}

impl Drop for Peer {
    fn drop(&mut self) {
        self.stop();
    }
}

/// Runs the connections of all rows.
fn runtime() -> &'static Handle {
    static RUNTIME: OnceLock<Handle> = OnceLock::new();
    RUNTIME.get_or_init(|| {
        let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build().expect("a runtime");
        let handle = runtime.handle().clone();
        std::thread::spawn(move || runtime.block_on(std::future::pending::<()>()));
        handle
    })
}

fn options_311(port: u16, id: &str, options: Options) -> rumqttc::MqttOptions {
    let mut result = rumqttc::MqttOptions::new(id, "127.0.0.1", port);
    result.set_keep_alive(options.keep_alive).set_clean_session(options.clean);
    result.set_max_packet_size(PACKET_MAX as usize, PACKET_MAX as usize).set_manual_acks(options.manual_acks);
    if let Some(will) = options.will {
        let topic = String::from_utf8(will.topic.to_vec()).expect("rows send UTF-8");
        result.set_last_will(rumqttc::LastWill::new(
            topic,
            will.message,
            qos_311(will.qos as u8),
            will.retain,
        ));
    }
    result
}

fn options_5(port: u16, id: &str, options: Options) -> v5::MqttOptions {
    let mut result = v5::MqttOptions::new(id, "127.0.0.1", port);
    let mut properties = options.properties;
    if !options.clean {
        properties.session_expiry_interval.get_or_insert(KEPT_S);
    }
    result.set_keep_alive(options.keep_alive).set_clean_start(options.clean);
    result.set_connect_properties(properties).set_manual_acks(options.manual_acks);
    if let Some(will) = options.will {
        result.set_last_will(will);
    }
    result
}

/// Until the connection ends: asked for more, the library would connect again.
async fn follow_311(sink: Sink, mut events: rumqttc::EventLoop) {
    loop {
        match events.poll().await {
            Ok(event) => event_311(event).into_iter().for_each(|event| sink.put(event)),
            Err(error) => {
                let _ = sink.ends.send(format!("{error:?}"));
                return;
            }
        }
    }
}

async fn follow_5(sink: Sink, mut events: v5::EventLoop) {
    loop {
        match events.poll().await {
            Ok(event) => event_5(event).into_iter().for_each(|event| sink.put(event)),
            Err(error) => {
                let _ = sink.ends.send(format!("{error:?}"));
                return;
            }
        }
    }
}

fn event_311(event: rumqttc::Event) -> Option<Event> {
    use rumqttc::Packet;
    Some(match event {
        rumqttc::Event::Outgoing(outgoing) => return event_out(outgoing),
        rumqttc::Event::Incoming(Packet::ConnAck(connack)) => Event::Connected(connack.session_present, None),
        rumqttc::Event::Incoming(Packet::Publish(publish)) => Event::Message(Message {
            topic: publish.topic,
            payload: publish.payload.to_vec(),
            qos: publish.qos as u8,
            retain: publish.retain,
            dup: publish.dup,
            packet_id: publish.pkid,
            properties: PublishProperties::default(),
        }),
        rumqttc::Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_)) => Event::Published,
        rumqttc::Event::Incoming(Packet::SubAck(suback)) => Event::Subscribed(match suback.return_codes[0] {
            rumqttc::SubscribeReasonCode::Success(qos) => qos as u8,
            rumqttc::SubscribeReasonCode::Failure => 0x80,
        }),
        rumqttc::Event::Incoming(Packet::UnsubAck(_)) => Event::Unsubscribed(vec![]),
        rumqttc::Event::Incoming(_) => return None,
    })
}

fn event_5(event: v5::Event) -> Option<Event> {
    Some(match event {
        v5::Event::Outgoing(outgoing) => return event_out(outgoing),
        v5::Event::Incoming(Packet::ConnAck(connack)) => {
            Event::Connected(connack.session_present, connack.properties)
        }
        v5::Event::Incoming(Packet::Publish(publish)) => Event::Message(Message {
            topic: String::from_utf8(publish.topic.to_vec()).expect("the broker sends UTF-8"),
            payload: publish.payload.to_vec(),
            qos: publish.qos as u8,
            retain: publish.retain,
            dup: publish.dup,
            packet_id: publish.pkid,
            properties: publish.properties.unwrap_or_default(),
        }),
        v5::Event::Incoming(Packet::PubAck(_) | Packet::PubComp(_)) => Event::Published,
        v5::Event::Incoming(Packet::SubAck(suback)) => Event::Subscribed(match suback.return_codes[0] {
            SubscribeReasonCode::Success(qos) => qos as u8,
            _ => 0x80,
        }),
        v5::Event::Incoming(Packet::UnsubAck(unsuback)) => Event::Unsubscribed(unsuback.reasons),
        v5::Event::Incoming(_) => return None,
    })
}

fn event_out(outgoing: Outgoing) -> Option<Event> {
    match outgoing {
        Outgoing::Publish(0) => Some(Event::Published),
        Outgoing::PubAck(_) => Some(Event::AckSent),
        _ => None,
    }
}

fn qos_311(qos: u8) -> rumqttc::QoS {
    [rumqttc::QoS::AtMostOnce, rumqttc::QoS::AtLeastOnce, rumqttc::QoS::ExactlyOnce][usize::from(qos)]
}

pub fn qos_5(qos: u8) -> v5::mqttbytes::QoS {
    use v5::mqttbytes::QoS;
    [QoS::AtMostOnce, QoS::AtLeastOnce, QoS::ExactlyOnce][usize::from(qos)]
}

/// What a CONNACK of 3.1.1 says.
const NO_PROPERTIES: ConnAckProperties = ConnAckProperties {
    session_expiry_interval: None,
    receive_max: None,
    max_qos: None,
    retain_available: None,
    max_packet_size: None,
    assigned_client_identifier: None,
    topic_alias_max: None,
    reason_string: None,
    user_properties: vec![],
    wildcard_subscription_available: None,
    subscription_identifiers_available: None,
    shared_subscription_available: None,
    server_keep_alive: None,
    response_information: None,
    server_reference: None,
    authentication_method: None,
    authentication_data: None,
};
