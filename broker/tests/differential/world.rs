//! A script's clients at one broker. Each step ends when nothing comes any more, and gives what came to each client.

use std::io::{ErrorKind, Read, Write};
use std::net::{SocketAddr, TcpStream};

use protocol::{
    Ack, Connect, Decoder, Disconnect, Packet, Properties, PropertyId, PropertyWriter, Publish, QoS,
    ReasonCode, Role, Subscribe, SubscribeFilters, Unsubscribe, UnsubscribeFilters, Version, Will,
};

use crate::script::{CLIENTS, Message, Script, Step, WillOptions};
use crate::support::PATIENCE;
use crate::support::barrier::Barrier;

/// What came to each client in one step, sorted: the order within a step is not prescribed between topics.
pub type Came = [Vec<String>; CLIENTS];

pub struct World {
    address: SocketAddr,
    versions: [Version; CLIENTS],
    root: String,
    peers: [Option<Peer>; CLIENTS],
    barrier: Barrier,
}

struct Peer {
    stream: TcpStream,
    input: Vec<u8>,
    version: Version,
    holds_acks: bool,
    next_id: u16,
    /// QoS 2 deliveries are handshakes of two turns.
    came: Vec<String>,
    pongs: u32,
    is_ended: bool,
}

impl World {
    pub fn new(address: SocketAddr, script: &Script, root: &str) -> World {
        let peers = Default::default();
        let barrier = Barrier::new(address);
        World { address, versions: script.versions, root: root.to_owned(), peers, barrier }
    }

    pub fn act(&mut self, client: usize, step: &Step) -> Came {
        let mut came = Came::default();
        let version = self.versions[client];
        match (step, &mut self.peers[client]) {
            (Step::Connect { clean_start, receive_maximum, will }, old) => {
                let mut peer = Peer::open(self.address, version);
                let client_id = format!("{}-{client}", self.root);
                peer.connect(&client_id, *clean_start, *receive_maximum, will.as_ref());
                peer.read_until(|peer| !peer.came.is_empty());
                if let Some(mut old) = old.replace(peer) {
                    old.read_until(|_| false);
                    came[client].extend(old.came.into_iter().map(|event| format!("old connection: {event}")));
                }
            }
            (_, None) => {}
            (Step::Subscribe { filters, identifier }, Some(peer)) => peer.subscribe(filters, *identifier),
            (Step::Unsubscribe { filters }, Some(peer)) => peer.unsubscribe(filters),
            (Step::Publish { messages }, Some(peer)) => peer.publish(messages),
            (Step::HoldAcks, Some(peer)) => peer.holds_acks = true,
            (Step::Disconnect { with_will }, Some(peer)) => {
                let reason = match *with_will && version == Version::V5 {
                    true => ReasonCode::DisconnectWithWill,
                    false => ReasonCode::Success,
                };
                peer.send(&Packet::Disconnect(Disconnect { reason, properties: Properties::EMPTY }));
                peer.read_until(|_| false);
            }
            (Step::Cut, peer) => *peer = None,
            (Step::StrayAck { kind }, Some(peer)) => {
                let ack = Ack::new(60_000, ReasonCode::Success);
                peer.send(&match kind {
                    0 => Packet::PubAck(ack),
                    1 => Packet::PubRec(ack),
                    2 => Packet::PubRel(ack),
                    _ => Packet::PubComp(ack),
                });
            }
        }
        self.settle();
        for (came, slot) in came.iter_mut().zip(&mut self.peers) {
            if let Some(peer) = slot {
                came.append(&mut peer.came);
                if peer.is_ended {
                    *slot = None;
                }
            }
            came.sort();
        }
        came
    }

    /// Lets the broker serve everything and reads what came, until nothing did and so nothing was answered.
    fn settle(&mut self) {
        let mut has_come = true;
        while has_come {
            self.barrier.pass();
            let before: usize = self.peers.iter().flatten().map(|peer| peer.came.len()).sum();
            for peer in self.peers.iter_mut().flatten().filter(|peer| !peer.is_ended) {
                let pongs = peer.pongs;
                peer.send(&Packet::PingReq);
                peer.read_until(|peer| peer.pongs > pongs);
            }
            let after: usize = self.peers.iter().flatten().map(|peer| peer.came.len()).sum();
            has_come = after > before;
        }
    }
}

impl Peer {
    fn open(address: SocketAddr, version: Version) -> Peer {
        let stream = TcpStream::connect(address).expect("the broker listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a valid timeout");
        stream.set_nodelay(true).expect("a TCP socket");
        Peer {
            stream,
            input: vec![],
            version,
            holds_acks: false,
            next_id: 0,
            came: vec![],
            pongs: 0,
            is_ended: false,
        }
    }

    fn send(&mut self, packet: &Packet<'_>) {
        let mut bytes = vec![];
        packet.encode(self.version, &mut bytes);
        // If the broker has closed, the next read finds it.
        let _ = self.stream.write_all(&bytes);
    }

    fn id(&mut self) -> u16 {
        self.next_id += 1;
        self.next_id
    }

    fn connect(
        &mut self,
        client_id: &str,
        clean_start: bool,
        receive_maximum: u16,
        will: Option<&WillOptions>,
    ) {
        let mut properties = vec![];
        let mut writer = PropertyWriter::new(&mut properties);
        writer.u32(PropertyId::SessionExpiryInterval, 3600);
        if receive_maximum > 0 {
            writer.u16(PropertyId::ReceiveMaximum, receive_maximum);
        }
        self.send(&Packet::Connect(Box::new(Connect {
            version: self.version,
            is_bridge: false,
            clean_start,
            keep_alive: 300,
            client_id,
            will: will.map(|will| Will {
                qos: will.qos,
                retain: will.retain,
                topic: &will.topic,
                payload: b"will",
                properties: Properties::EMPTY,
            }),
            user_name: None,
            password: None,
            properties: Properties::from_wire(&properties),
        })));
    }

    fn subscribe(&mut self, filters: &[(String, protocol::SubscriptionOptions)], identifier: u32) {
        let (mut wire, mut properties) = (vec![], vec![]);
        for (filter, options) in filters {
            let plain = protocol::SubscriptionOptions::new(options.qos);
            let options = if self.version == Version::V5 { *options } else { plain };
            SubscribeFilters::push(&mut wire, filter, options);
        }
        if identifier > 0 {
            PropertyWriter::new(&mut properties).varint(PropertyId::SubscriptionIdentifier, identifier);
        }
        let packet_id = self.id();
        self.send(&Packet::Subscribe(Subscribe {
            packet_id,
            properties: Properties::from_wire(&properties),
            filters: SubscribeFilters::from_wire(&wire),
        }));
    }

    fn unsubscribe(&mut self, filters: &[String]) {
        let mut wire = vec![];
        filters.iter().for_each(|filter| UnsubscribeFilters::push(&mut wire, filter));
        let packet_id = self.id();
        let filters = UnsubscribeFilters::from_wire(&wire);
        self.send(&Packet::Unsubscribe(Unsubscribe { packet_id, properties: Properties::EMPTY, filters }));
    }

    fn publish(&mut self, messages: &[Message]) {
        let mut bytes = vec![];
        for message in messages {
            let mut properties = vec![];
            if message.has_properties {
                PropertyWriter::new(&mut properties)
                    .str(PropertyId::ContentType, "text")
                    .str(PropertyId::ResponseTopic, "answer")
                    .user_property("k", "1")
                    .user_property("k", "2");
            }
            Publish {
                dup: false,
                qos: message.qos,
                retain: message.retain,
                topic: &message.topic,
                packet_id: if message.qos == QoS::AtMostOnce { 0 } else { self.id() },
                topic_alias: None,
                message_expiry: message.has_expiry.then_some(1_000_000),
                subscription_ids: &[],
                properties: Properties::from_wire(&properties),
                payload: message.payload.as_bytes(),
            }
            .encode(self.version, &mut bytes);
        }
        let _ = self.stream.write_all(&bytes);
    }

    /// Serves what comes until something holds or the connection ends.
    fn read_until(&mut self, holds: impl Fn(&Peer) -> bool) {
        while !holds(self) && !self.is_ended {
            let mut buffer = [0; 4096];
            match self.stream.read(&mut buffer) {
                Ok(0) => self.end(),
                Ok(len) => {
                    self.input.extend_from_slice(&buffer[..len]);
                    self.serve();
                }
                Err(error) if error.kind() == ErrorKind::ConnectionReset => self.end(),
                Err(error) => panic!("nothing comes: {error}; came: {:?}", self.came),
            }
        }
    }

    fn end(&mut self) {
        self.came.push("end".into());
        self.is_ended = true;
    }

    fn serve(&mut self) {
        let decoder = Decoder { role: Role::Client, version: Some(self.version), packet_size_max: u32::MAX };
        let input = std::mem::take(&mut self.input);
        let mut used = 0;
        while let Some((packet, len)) =
            decoder.next_packet(&input[used..]).expect("a broker's packets are valid")
        {
            used += len;
            self.on_packet(&packet);
        }
        self.input = input[used..].to_vec();
    }

    fn on_packet(&mut self, packet: &Packet<'_>) {
        let event = match packet {
            Packet::PingResp => {
                self.pongs += 1;
                return;
            }
            Packet::Publish(publish) => {
                let answer = match publish.qos {
                    QoS::AtMostOnce => None,
                    QoS::AtLeastOnce => {
                        Some(Packet::PubAck(Ack::new(publish.packet_id, ReasonCode::Success)))
                    }
                    QoS::ExactlyOnce => {
                        Some(Packet::PubRec(Ack::new(publish.packet_id, ReasonCode::Success)))
                    }
                };
                if let Some(answer) = answer.filter(|_| !self.holds_acks) {
                    self.send(&answer);
                }
                describe(publish)
            }
            Packet::PubRec(ack) => {
                if !ack.reason.is_error() {
                    self.send(&Packet::PubRel(Ack::new(ack.packet_id, ReasonCode::Success)));
                }
                format!("PUBREC {} {:?}", ack.packet_id, ack.reason)
            }
            Packet::PubRel(ack) => {
                if !self.holds_acks {
                    self.send(&Packet::PubComp(Ack::new(ack.packet_id, ReasonCode::Success)));
                }
                // The broker's own identifier.
                format!("PUBREL {:?}", ack.reason)
            }
            Packet::ConnAck(connack) => {
                format!("CONNACK {:?} session present {}", connack.reason, connack.session_present)
            }
            Packet::PubAck(ack) => format!("PUBACK {} {:?}", ack.packet_id, ack.reason),
            Packet::PubComp(ack) => format!("PUBCOMP {} {:?}", ack.packet_id, ack.reason),
            Packet::SubAck(suback) => format!("SUBACK {} {:02x?}", suback.packet_id, suback.codes),
            Packet::UnsubAck(unsuback) => format!("UNSUBACK {} {:02x?}", unsuback.packet_id, unsuback.codes),
            Packet::Disconnect(disconnect) => format!("DISCONNECT {:?}", disconnect.reason),
            other => format!("{other:?}"),
        };
        self.came.push(event);
    }
}

/// All that has to be the same at both brokers: not the packet id, the order of the properties, and the second of the
/// expiry.
fn describe(publish: &Publish<'_>) -> String {
    let properties = publish.properties;
    let mut ids: Vec<u32> = properties.subscription_ids().collect();
    ids.sort_unstable();
    format!(
        "PUBLISH {} {:?} qos {} retain {} dup {} ids {ids:?} type {:?} response {:?} user {:?} expires {}",
        publish.topic,
        String::from_utf8_lossy(publish.payload),
        publish.qos as u8,
        publish.retain,
        publish.dup,
        properties.str(PropertyId::ContentType),
        properties.str(PropertyId::ResponseTopic),
        properties.user_properties().collect::<Vec<_>>(),
        publish.message_expiry.is_some(),
    )
}
