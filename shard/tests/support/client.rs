//! A client of a test node: it writes packets and reads what came, as bytes on the wire.

use protocol::{
    Ack, Connect, Decoder, Packet, Properties, PropertyWriter, Publish, QoS, ReasonCode, Role, Subscribe,
    SubscribeFilters, SubscriptionOptions, Unsubscribe, UnsubscribeFilters, Version, Will,
};
use shard::ShardId;

use super::{Node, SocketId};

/// What came from the server, owned. Properties stay in wire form.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Received {
    ConnAck { session_present: bool, reason: ReasonCode, properties: Vec<u8> },
    Publish(Message),
    PubAck(u16, ReasonCode),
    PubRec(u16, ReasonCode),
    PubRel(u16, ReasonCode),
    PubComp(u16, ReasonCode),
    SubAck(u16, Vec<u8>),
    UnsubAck(u16, Vec<u8>),
    PingResp,
    Disconnect(ReasonCode),
    Auth(ReasonCode, Vec<u8>),
}

#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    pub topic: String,
    pub payload: Vec<u8>,
    pub qos: QoS,
    pub retain: bool,
    pub dup: bool,
    pub packet_id: u16,
    pub properties: Vec<u8>,
}

impl Message {
    pub fn text(&self) -> &str {
        std::str::from_utf8(&self.payload).expect("test payloads are text")
    }

    pub fn properties(&self) -> Properties<'_> {
        Properties::from_wire(&self.properties)
    }
}

pub struct Client {
    pub socket: SocketId,
    pub version: Version,
    read: usize,
    next_id: u16,
}

/// CONNECT options with the defaults of a test.
#[derive(Clone, Copy, Debug)]
pub struct Options<'a> {
    pub version: Version,
    pub client_id: &'a str,
    pub clean: bool,
    pub keep_alive: u16,
    pub will: Option<Will<'a>>,
    pub user_name: Option<&'a str>,
    pub password: Option<&'a [u8]>,
    pub properties: &'a [u8],
    pub shard: ShardId,
}

pub fn options(version: Version, client_id: &str) -> Options<'_> {
    Options {
        version,
        client_id,
        clean: true,
        keep_alive: 0,
        will: None,
        user_name: None,
        password: None,
        properties: &[],
        shard: 0,
    }
}

/// Properties for a test.
pub fn properties<R>(write: impl FnOnce(&mut PropertyWriter<'_>) -> R) -> Vec<u8> {
    let mut out = vec![];
    let _ = write(&mut PropertyWriter::new(&mut out));
    out
}

impl Options<'_> {
    pub fn encode(&self) -> Vec<u8> {
        let mut out = vec![];
        Connect {
            version: self.version,
            is_bridge: false,
            clean_start: self.clean,
            keep_alive: self.keep_alive,
            client_id: self.client_id,
            will: self.will,
            user_name: self.user_name,
            password: self.password,
            properties: Properties::from_wire(self.properties),
        }
        .encode(self.version, &mut out);
        out
    }
}

impl Client {
    /// A socket that has sent nothing yet.
    pub fn open(node: &mut Node, shard: ShardId, version: Version) -> Client {
        let socket = node.accept(shard).expect("the shard accepts");
        Client { socket, version, read: 0, next_id: 0 }
    }

    /// Connects and returns the CONNACK too.
    pub fn try_connect(node: &mut Node, options: Options<'_>) -> (Client, Vec<Received>) {
        let mut client = Client::open(node, options.shard, options.version);
        client.send_bytes(node, &options.encode());
        let received = client.receive(node);
        (client, received)
    }

    /// Connects; the session present flag is returned.
    pub fn connect_with(node: &mut Node, options: Options<'_>) -> (Client, bool) {
        let (client, received) = Client::try_connect(node, options);
        match received.first() {
            Some(Received::ConnAck { session_present, reason: ReasonCode::Success, .. }) => {
                let present = *session_present;
                let mut client = client;
                client.rewind_to_after_connack(node);
                (client, present)
            }
            other => panic!("not connected: {other:?}"),
        }
    }

    pub fn connect(node: &mut Node, version: Version, client_id: &str) -> Client {
        Client::connect_with(node, options(version, client_id)).0
    }

    /// What came behind the CONNACK is read again by the next `receive`.
    fn rewind_to_after_connack(&mut self, node: &mut Node) {
        let bytes = &node.sockets[self.socket].to_client;
        let (_, used) = self.decoder().next_packet(bytes).expect("valid").expect("complete");
        self.read = used;
    }

    fn decoder(&self) -> Decoder {
        Decoder { role: Role::Client, version: Some(self.version), packet_size_max: u32::MAX }
    }

    /// Writes bytes and lets the node run.
    pub fn send_bytes(&mut self, node: &mut Node, bytes: &[u8]) {
        node.write(self.socket, bytes);
        node.run();
    }

    pub fn send(&mut self, node: &mut Node, packet: &Packet<'_>) {
        let mut out = vec![];
        packet.encode(self.version, &mut out);
        self.send_bytes(node, &out);
    }

    pub fn next_id(&mut self) -> u16 {
        self.next_id = self.next_id % u16::MAX + 1;
        self.next_id
    }

    /// SUBSCRIBE with several filters; returns the codes.
    pub fn subscribe_all(
        &mut self,
        node: &mut Node,
        filters: &[(&str, SubscriptionOptions)],
        properties: &[u8],
    ) -> Vec<u8> {
        let packet_id = self.next_id();
        let mut wire = vec![];
        for (filter, options) in filters {
            SubscribeFilters::push(&mut wire, filter, *options);
        }
        let subscribe = Subscribe {
            packet_id,
            properties: Properties::from_wire(properties),
            filters: SubscribeFilters::from_wire(&wire),
        };
        self.send(node, &Packet::Subscribe(subscribe));
        let begin = self.read;
        for received in self.receive(node) {
            if let Received::SubAck(id, codes) = received
                && id == packet_id
            {
                // Retained messages and the like behind it are read again.
                self.read = begin;
                self.skip_suback(node, packet_id);
                return codes;
            }
        }
        panic!("no SUBACK");
    }

    fn skip_suback(&mut self, node: &mut Node, packet_id: u16) {
        let bytes = &mut node.sockets[self.socket].to_client;
        let decoder = Decoder { role: Role::Client, version: Some(self.version), packet_size_max: u32::MAX };
        let mut at = self.read;
        while let Ok(Some((packet, used))) = decoder.next_packet(&bytes[at..]) {
            if matches!(packet, Packet::SubAck(suback) if suback.packet_id == packet_id) {
                bytes.drain(at..at + used);
                return;
            }
            at += used;
        }
    }

    pub fn subscribe(&mut self, node: &mut Node, filter: &str, qos: QoS) {
        let codes = self.subscribe_all(node, &[(filter, SubscriptionOptions::new(qos))], &[]);
        assert_eq!(codes, [qos as u8], "{filter}");
    }

    pub fn unsubscribe(&mut self, node: &mut Node, filters: &[&str]) -> Vec<u8> {
        let packet_id = self.next_id();
        let mut wire = vec![];
        for filter in filters {
            UnsubscribeFilters::push(&mut wire, filter);
        }
        let unsubscribe = Unsubscribe {
            packet_id,
            properties: Properties::EMPTY,
            filters: UnsubscribeFilters::from_wire(&wire),
        };
        self.send(node, &Packet::Unsubscribe(unsubscribe));
        let found = self.receive(node).into_iter().find_map(|received| match received {
            Received::UnsubAck(id, codes) if id == packet_id => Some(codes),
            _ => None,
        });
        found.expect("UNSUBACK")
    }

    /// PUBLISH; returns the packet id (0 at QoS 0).
    pub fn publish(&mut self, node: &mut Node, topic: &str, payload: &str, qos: QoS, retain: bool) -> u16 {
        self.publish_with(node, topic, payload.as_bytes(), qos, retain, &[])
    }

    /// PUBLISH with properties as they are.
    pub fn publish_with(
        &mut self,
        node: &mut Node,
        topic: &str,
        payload: &[u8],
        qos: QoS,
        retain: bool,
        properties: &[u8],
    ) -> u16 {
        let packet_id = if qos == QoS::AtMostOnce { 0 } else { self.next_id() };
        let publish = Publish {
            dup: false,
            qos,
            retain,
            topic,
            packet_id,
            topic_alias: None,
            message_expiry: None,
            subscription_ids: &[],
            properties: Properties::from_wire(properties),
            payload,
        };
        self.send(node, &Packet::Publish(publish));
        packet_id
    }

    pub fn puback(&mut self, node: &mut Node, packet_id: u16) {
        self.send(node, &Packet::PubAck(Ack::new(packet_id, ReasonCode::Success)));
    }

    pub fn pubrec(&mut self, node: &mut Node, packet_id: u16) {
        self.send(node, &Packet::PubRec(Ack::new(packet_id, ReasonCode::Success)));
    }

    pub fn pubrel(&mut self, node: &mut Node, packet_id: u16) {
        self.send(node, &Packet::PubRel(Ack::new(packet_id, ReasonCode::Success)));
    }

    pub fn pubcomp(&mut self, node: &mut Node, packet_id: u16) {
        self.send(node, &Packet::PubComp(Ack::new(packet_id, ReasonCode::Success)));
    }

    pub fn disconnect(&mut self, node: &mut Node) {
        self.send_bytes(node, &[0xE0, 0]);
    }

    /// All complete packets that came since the last call.
    pub fn receive(&mut self, node: &mut Node) -> Vec<Received> {
        let bytes = &node.sockets[self.socket].to_client;
        let decoder = self.decoder();
        let mut all = vec![];
        while let Some((packet, used)) =
            decoder.next_packet(&bytes[self.read..]).expect("the server sends valid packets")
        {
            self.read += used;
            all.push(owned(&packet));
        }
        all
    }

    /// The PUBLISHes among what came.
    pub fn messages(&mut self, node: &mut Node) -> Vec<Message> {
        self.receive(node)
            .into_iter()
            .filter_map(|received| match received {
                Received::Publish(message) => Some(message),
                _ => None,
            })
            .collect()
    }

    /// Payloads of the PUBLISHes that came.
    pub fn texts(&mut self, node: &mut Node) -> Vec<String> {
        self.messages(node).iter().map(|message| message.text().to_owned()).collect()
    }

    pub fn is_closed(&self, node: &Node) -> bool {
        node.sockets[self.socket].is_closed
    }
}

fn owned(packet: &Packet<'_>) -> Received {
    match packet {
        Packet::ConnAck(connack) => Received::ConnAck {
            session_present: connack.session_present,
            reason: connack.reason,
            properties: connack.properties.raw().to_vec(),
        },
        Packet::Publish(publish) => Received::Publish(Message {
            topic: publish.topic.to_owned(),
            payload: publish.payload.to_vec(),
            qos: publish.qos,
            retain: publish.retain,
            dup: publish.dup,
            packet_id: publish.packet_id,
            properties: publish.properties.raw().to_vec(),
        }),
        Packet::PubAck(ack) => Received::PubAck(ack.packet_id, ack.reason),
        Packet::PubRec(ack) => Received::PubRec(ack.packet_id, ack.reason),
        Packet::PubRel(ack) => Received::PubRel(ack.packet_id, ack.reason),
        Packet::PubComp(ack) => Received::PubComp(ack.packet_id, ack.reason),
        Packet::SubAck(suback) => Received::SubAck(suback.packet_id, suback.codes.to_vec()),
        Packet::UnsubAck(unsuback) => Received::UnsubAck(unsuback.packet_id, unsuback.codes.to_vec()),
        Packet::PingResp => Received::PingResp,
        Packet::Disconnect(disconnect) => Received::Disconnect(disconnect.reason),
        Packet::Auth(auth) => Received::Auth(auth.reason, auth.properties.raw().to_vec()),
        other => panic!("a server does not send {other:?}"),
    }
}
