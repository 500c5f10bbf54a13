//! What holds over a whole connection, checked with every packet of every case: the order of packets, the limits that
//! the client announced, packet identifiers in flight, topic aliases, answers that fit their requests.

use std::collections::{BTreeMap, BTreeSet};

use protocol::{Decoder, Packet, PropertyId, Role, Version};

use super::received::{Message, Properties, Received, packet_len};

/// Both directions of one connection, as far as the broker's duties depend on them.
#[derive(Debug)]
pub struct Watch {
    version: Version,
    receive_maximum: u32,
    packet_size_max: usize,
    alias_max: u16,
    wants_problem_information: bool,
    wants_response_information: bool,
    has_method: bool,
    is_clean_start: bool,
    connack: Option<u8>,
    is_over: bool,
    session_present: bool,
    aliases: BTreeMap<u16, String>,
    /// Deliveries under way: packet identifier -> QoS.
    in_flight: BTreeMap<u16, u8>,
    /// Identifiers that this connection has used for a new message; a repetition comes before.
    used: BTreeSet<u16>,
    /// SUBSCRIBE and UNSUBSCRIBE without an answer: identifier -> filters.
    requests: BTreeMap<u16, usize>,
    /// QoS of the client's PUBLISHes by identifier.
    publishes: BTreeMap<u16, u8>,
    /// The start of a packet that the client has not finished.
    written: Vec<u8>,
}

impl Watch {
    pub fn new(version: Version) -> Watch {
        Watch {
            version,
            receive_maximum: u16::MAX as u32,
            packet_size_max: usize::MAX,
            alias_max: 0,
            wants_problem_information: true,
            wants_response_information: false,
            has_method: false,
            is_clean_start: false,
            connack: None,
            is_over: false,
            session_present: false,
            aliases: BTreeMap::new(),
            in_flight: BTreeMap::new(),
            used: BTreeSet::new(),
            requests: BTreeMap::new(),
            publishes: BTreeMap::new(),
            written: vec![],
        }
    }

    /// What the client wrote, up to the first fault in it.
    pub fn wrote(&mut self, bytes: &[u8]) {
        let mut written = std::mem::take(&mut self.written);
        written.extend_from_slice(bytes);
        let mut at = 0;
        while at < written.len() {
            // A CONNECT says the version by itself.
            let version = (written[at] >> 4 != 1).then_some(self.version);
            let decoder = Decoder { role: Role::Server, version, packet_size_max: u32::MAX };
            match decoder.next_packet(&written[at..]) {
                Ok(Some((packet, len))) => {
                    self.wrote_packet(&packet);
                    at += len;
                }
                Ok(None) => break,
                Err(_) => return,
            }
        }
        self.written = written.split_off(at);
    }

    fn wrote_packet(&mut self, packet: &Packet<'_>) {
        match packet {
            Packet::Connect(connect) if self.connack.is_none() => {
                let properties = &connect.properties;
                let flag = |id| properties.u8(id).map(|value| value == 1);
                self.receive_maximum = properties.u16(PropertyId::ReceiveMaximum).unwrap_or(u16::MAX).into();
                self.packet_size_max =
                    properties.u32(PropertyId::MaximumPacketSize).map_or(usize::MAX, |max| max as usize);
                self.alias_max = properties.u16(PropertyId::TopicAliasMaximum).unwrap_or(0);
                self.wants_problem_information = flag(PropertyId::RequestProblemInformation).unwrap_or(true);
                self.wants_response_information =
                    flag(PropertyId::RequestResponseInformation).unwrap_or(false);
                self.has_method = properties.str(PropertyId::AuthenticationMethod).is_some();
                self.is_clean_start = connect.clean_start;
            }
            Packet::PubAck(ack) if self.in_flight.get(&ack.packet_id) == Some(&1) => {
                self.in_flight.remove(&ack.packet_id);
            }
            Packet::PubRec(ack) if ack.reason.is_error() => {
                self.in_flight.remove(&ack.packet_id);
            }
            Packet::PubComp(ack) => {
                self.in_flight.remove(&ack.packet_id);
            }
            Packet::Publish(publish) if publish.packet_id != 0 => {
                self.publishes.insert(publish.packet_id, publish.qos as u8);
            }
            Packet::Subscribe(subscribe) => {
                self.requests.insert(subscribe.packet_id, subscribe.filters.count());
            }
            Packet::Unsubscribe(unsubscribe) => {
                self.requests.insert(unsubscribe.packet_id, unsubscribe.filters.count());
            }
            _ => {}
        }
    }

    /// Reads the first whole packet of `bytes`, checks it and returns it with its length. Aliases are resolved.
    pub fn read(&mut self, bytes: &[u8]) -> Option<(Received, usize)> {
        let len = packet_len(bytes)?;
        let mut received = super::received::read(&bytes[..len], self.version);
        assert!(!self.is_over, "{received:?} after the last packet of the connection");
        assert!(len <= self.packet_size_max, "{len} bytes exceed the Maximum Packet Size: {received:?}");
        self.check(&mut received);
        Some((received, len))
    }

    fn check(&mut self, received: &mut Received) {
        let is_connected = self.connack == Some(0);
        match &*received {
            Received::ConnAck(_) => assert!(self.connack.is_none(), "a second CONNACK"),
            Received::Auth(auth) => {
                assert!(self.has_method, "AUTH without a method in CONNECT");
                assert!(is_connected || auth.code == 0x18, "AUTH before CONNACK has to continue: {auth:?}");
            }
            other => assert!(is_connected, "{other:?} without a CONNACK that says success"),
        }
        match received {
            Received::ConnAck(connack) => {
                self.connack = Some(connack.code);
                self.is_over = connack.code != 0;
                self.session_present = connack.session_present;
                let properties = &connack.properties;
                assert!(!self.is_clean_start || !connack.session_present, "session present with clean start");
                assert!(
                    self.wants_response_information || !properties.has(PropertyId::ResponseInformation),
                    "Response Information that was not asked for"
                );
                assert!(
                    self.has_method || !properties.has(PropertyId::AuthenticationMethod),
                    "a method that the client did not name"
                );
                let maximum_qos = properties.number(PropertyId::MaximumQoS);
                assert!(maximum_qos.is_none_or(|max| max < 2), "Maximum QoS is 0 or 1 where it is sent");
            }
            Received::Publish(message) => self.check_publish(message),
            Received::PubAck(ack) => {
                let qos = self.publishes.remove(&ack.packet_id);
                assert_eq!(qos, Some(1), "PUBACK without its PUBLISH: {ack:?}");
                self.check_problem_information(&ack.properties.clone());
            }
            Received::PubRec(ack) => {
                let qos = self.publishes.get(&ack.packet_id).copied();
                assert_eq!(qos, Some(2), "PUBREC without its PUBLISH: {ack:?}");
                self.check_problem_information(&ack.properties.clone());
            }
            Received::PubRel(ack) | Received::PubComp(ack) => {
                self.check_problem_information(&ack.properties.clone());
            }
            Received::SubAck(answer) => {
                let filters = self.requests.remove(&answer.packet_id);
                assert_eq!(filters, Some(answer.codes.len()), "SUBACK does not fit its request: {answer:?}");
                self.check_problem_information(&answer.properties.clone());
            }
            Received::UnsubAck(answer) => {
                let filters = self.requests.remove(&answer.packet_id);
                let codes = if self.version == Version::V5 { Some(answer.codes.len()) } else { filters };
                assert!(filters.is_some() && filters == codes, "UNSUBACK does not fit: {answer:?}");
                self.check_problem_information(&answer.properties.clone());
            }
            Received::Auth(auth) => self.check_problem_information(&auth.properties.clone()),
            Received::Disconnect(_) => self.is_over = true,
            Received::PingResp => {}
        }
    }

    /// Request Problem Information 0 leaves reason strings and user properties to CONNACK, DISCONNECT and PUBLISH.
    fn check_problem_information(&self, properties: &Properties) {
        let has = properties.has(PropertyId::ReasonString) || properties.has(PropertyId::UserProperty);
        assert!(self.wants_problem_information || !has, "problem information that was not wanted");
    }

    fn check_publish(&mut self, message: &mut Message) {
        if let Some(alias) = message.properties.number(PropertyId::TopicAlias) {
            let alias = alias as u16;
            assert!(alias <= self.alias_max, "alias {alias} of at most {}", self.alias_max);
            if message.topic.is_empty() {
                let known = self.aliases.get(&alias);
                message.topic = known.expect("an alias is set before it is used").clone();
            } else {
                self.aliases.insert(alias, message.topic.clone());
            }
        }
        if message.qos == 0 {
            return;
        }
        let id = message.packet_id;
        assert!(!self.in_flight.contains_key(&id), "identifier {id} is in flight already");
        if message.dup {
            // 3.1 does not tell whether there is one.
            let may_resume = self.session_present || (self.version == Version::V31 && !self.is_clean_start);
            assert!(may_resume, "DUP in a new session");
            assert!(!self.used.contains(&id), "DUP for a message of this connection");
        }
        self.used.insert(id);
        self.in_flight.insert(id, message.qos);
        let count = self.in_flight.len() as u32;
        assert!(count <= self.receive_maximum, "{count} in flight exceed Receive Maximum");
    }

    /// Nothing may follow.
    pub fn is_over(&self) -> bool {
        self.is_over
    }
}
