//! One client connection as a case drives it: verbs that write packets, expectations about what comes back. Topics and
//! filters are put below the scene's root on the way out and taken from it on the way in; bytes that a case writes by
//! hand go as they are.

use std::collections::VecDeque;
use std::rc::Rc;

use protocol::{
    Ack, Disconnect, Packet, Properties, PropertyId, ReasonCode, Subscribe, SubscribeFilters,
    SubscriptionOptions, Unsubscribe, UnsubscribeFilters, Version,
};

use super::options::{Outgoing, at, message};
use super::received::{ConnAck, Message, Properties as ReceivedProperties, Received};
use super::scene::{Input, Patience, SharedDriver, Socket, rooted};
use super::watch::Watch;

pub struct Peer {
    driver: SharedDriver,
    socket: Socket,
    pub version: Version,
    root: Rc<str>,
    watch: Watch,
    /// Bytes that are no whole packet yet.
    bytes: Vec<u8>,
    /// Packets that no expectation has taken yet.
    inbox: VecDeque<Received>,
    is_ended: bool,
    last_id: u16,
}

impl Peer {
    pub fn new(driver: SharedDriver, socket: Socket, version: Version, root: Rc<str>) -> Peer {
        Peer {
            driver,
            socket,
            version,
            root,
            watch: Watch::new(version),
            bytes: vec![],
            inbox: VecDeque::new(),
            is_ended: false,
            last_id: 0,
        }
    }

    pub fn socket(&self) -> Socket {
        self.socket
    }

    pub fn is_v5(&self) -> bool {
        self.version == Version::V5
    }

    // ---- writing ----

    pub fn write(&mut self, bytes: &[u8]) {
        self.watch.wrote(bytes);
        self.driver.borrow_mut().write(self.socket, bytes);
    }

    /// Bytes that the case has written by other means: the checks have to know of them.
    pub fn wrote(&mut self, bytes: &[u8]) {
        self.watch.wrote(bytes);
    }

    pub fn send(&mut self, packet: &Packet<'_>) {
        let mut out = vec![];
        packet.encode(self.version, &mut out);
        self.write(&out);
    }

    /// The next packet identifier that this client would use.
    pub fn next_id(&mut self) -> u16 {
        self.last_id = self.last_id % u16::MAX + 1;
        self.last_id
    }

    /// SUBSCRIBE with several filters and properties, answered: the codes.
    pub fn subscribe_all(&mut self, filters: &[(&str, SubscriptionOptions)], properties: &[u8]) -> Vec<u8> {
        let packet_id = self.send_subscribe(filters, properties);
        self.expect_suback(packet_id)
    }

    /// SUBSCRIBE without waiting for the answer: its identifier.
    pub fn send_subscribe(&mut self, filters: &[(&str, SubscriptionOptions)], properties: &[u8]) -> u16 {
        let packet_id = self.next_id();
        let mut wire = vec![];
        for (filter, options) in filters {
            SubscribeFilters::push(&mut wire, &rooted(&self.root, filter), *options);
        }
        self.send(&Packet::Subscribe(Subscribe {
            packet_id,
            properties: Properties::from_wire(properties),
            filters: SubscribeFilters::from_wire(&wire),
        }));
        packet_id
    }

    /// Subscribes with options; the filter has to be granted.
    pub fn subscribe_with(&mut self, filter: &str, options: SubscriptionOptions) {
        let codes = self.subscribe_all(&[(filter, options)], &[]);
        assert_eq!(codes, [options.qos as u8], "SUBACK for {filter}");
    }

    /// Subscribes at a QoS; it has to be granted.
    pub fn subscribe(&mut self, filter: &str, qos: u8) {
        self.subscribe_with(filter, at(qos));
    }

    /// UNSUBSCRIBE, answered: the codes (none in 3.x).
    pub fn unsubscribe(&mut self, filters: &[&str]) -> Vec<u8> {
        let packet_id = self.next_id();
        let mut wire = vec![];
        for filter in filters {
            UnsubscribeFilters::push(&mut wire, &rooted(&self.root, filter));
        }
        self.send(&Packet::Unsubscribe(Unsubscribe {
            packet_id,
            properties: Properties::EMPTY,
            filters: UnsubscribeFilters::from_wire(&wire),
        }));
        self.expect_unsuback(packet_id)
    }

    /// PUBLISH without waiting for the answer: its identifier, 0 at QoS 0. An empty topic stays empty (aliases).
    pub fn send_publish(&mut self, publish: &Outgoing) -> u16 {
        let packet_id = match (publish.qos, publish.packet_id) {
            (0, _) => 0,
            (_, Some(packet_id)) => packet_id,
            _ => self.next_id(),
        };
        let topic = if publish.topic.is_empty() { String::new() } else { rooted(&self.root, &publish.topic) };
        let bytes = publish.encode(self.version, &topic, packet_id);
        self.write(&bytes);
        packet_id
    }

    /// PUBLISH and the whole handshake. Error codes are not looked at: returns that of PUBACK or PUBREC.
    pub fn publish_message(&mut self, publish: &Outgoing) -> u8 {
        let packet_id = self.send_publish(publish);
        match publish.qos {
            0 => 0,
            1 => self.expect_puback(packet_id),
            _ => {
                let code = self.expect_pubrec(packet_id);
                if code < 0x80 {
                    self.pubrel(packet_id);
                    assert_eq!(self.expect_pubcomp(packet_id), 0, "PUBCOMP");
                }
                code
            }
        }
    }

    pub fn publish(&mut self, topic: &str, payload: &str, qos: u8) -> u8 {
        self.publish_message(&message(topic, payload).qos(qos))
    }

    /// Publishes with RETAIN; whoever subscribes after it finds the message stored.
    pub fn publish_retained(&mut self, topic: &str, payload: &str, qos: u8) -> u8 {
        let code = self.publish_message(&message(topic, payload).qos(qos).retain());
        self.settle();
        code
    }

    /// Waits until every shard has served what this client did before: SUBACK waits for all of them, acknowledgements
    /// of messages need not.
    pub fn settle(&mut self) {
        let filter = format!("settle/{}", self.socket);
        self.subscribe(&filter, 0);
        self.unsubscribe(&[&filter]);
    }

    pub fn puback(&mut self, packet_id: u16) {
        self.send(&Packet::PubAck(Ack::new(packet_id, ReasonCode::Success)));
    }

    pub fn pubrec(&mut self, packet_id: u16) {
        self.send(&Packet::PubRec(Ack::new(packet_id, ReasonCode::Success)));
    }

    pub fn pubrel(&mut self, packet_id: u16) {
        self.send(&Packet::PubRel(Ack::new(packet_id, ReasonCode::Success)));
    }

    pub fn pubcomp(&mut self, packet_id: u16) {
        self.send(&Packet::PubComp(Ack::new(packet_id, ReasonCode::Success)));
    }

    /// Acknowledges a delivery to the end.
    pub fn acknowledge(&mut self, message: &Message) {
        match message.qos {
            0 => {}
            1 => self.puback(message.packet_id),
            _ => {
                self.pubrec(message.packet_id);
                assert_eq!(self.expect_pubrel(message.packet_id), 0, "PUBREL");
                self.pubcomp(message.packet_id);
            }
        }
    }

    /// PINGREQ and its answer: everything that was sent before is served.
    pub fn ping(&mut self) {
        self.write(&[0xC0, 0]);
        self.expect_kind("PINGRESP", |received| (*received == Received::PingResp).then_some(()));
    }

    /// DISCONNECT 0x00, awaited until the broker has closed.
    pub fn disconnect(&mut self) {
        self.write(&[0xE0, 0]);
        self.expect_end();
    }

    /// DISCONNECT with a reason and properties (5), awaited.
    pub fn disconnect_with(&mut self, reason: ReasonCode, properties: &[u8]) {
        self.send(&Packet::Disconnect(Disconnect { reason, properties: Properties::from_wire(properties) }));
        self.expect_end();
    }

    /// The network connection ends without DISCONNECT.
    pub fn cut(mut self) {
        self.is_ended = true;
        self.driver.borrow_mut().close(self.socket);
    }

    // ---- expecting ----

    /// Reads until a packet is there; None: there is none.
    fn fill(&mut self, patience: Patience) -> bool {
        loop {
            while let Some((received, len)) = self.watch.read(&self.bytes) {
                self.bytes.drain(..len);
                let received = self.unrooted(received);
                self.inbox.push_back(received);
            }
            if !self.inbox.is_empty() || self.is_ended {
                return !self.inbox.is_empty();
            }
            let input = self.driver.borrow_mut().read(self.socket, &mut self.bytes, patience);
            match input {
                Input::Bytes => {}
                Input::Nothing => return false,
                Input::End => {
                    self.is_ended = true;
                    // Whole packets may stand before the end.
                    let is_whole = |bytes: &[u8]| super::received::packet_len(bytes).is_some();
                    assert!(self.bytes.is_empty() || is_whole(&self.bytes), "half a packet before the end");
                }
            }
        }
    }

    fn unrooted(&self, received: Received) -> Received {
        match received {
            Received::Publish(message) => {
                let topic = message.topic.strip_prefix(&*self.root).unwrap_or(&message.topic).to_owned();
                Received::Publish(Message { topic, ..message })
            }
            other => other,
        }
    }

    /// The next packet, if one comes.
    pub fn poll(&mut self) -> Option<Received> {
        self.fill(Patience::Doubting);
        self.inbox.pop_front()
    }

    /// All packets that come.
    pub fn take_packets(&mut self) -> Vec<Received> {
        std::iter::from_fn(|| self.poll()).collect()
    }

    /// The next packet.
    #[track_caller]
    pub fn expect_packet(&mut self) -> Received {
        if !self.fill(Patience::Expecting) {
            panic!(
                "a packet was expected; the connection is {}",
                if self.is_ended { "closed" } else { "silent" }
            );
        }
        self.inbox.pop_front().expect("just filled")
    }

    /// The first packet that `pick` takes; PUBLISHes before it stay for later, anything else before it is a fault.
    #[track_caller]
    fn expect_kind<T>(&mut self, what: &str, pick: impl Fn(&Received) -> Option<T>) -> T {
        let mut passed = VecDeque::new();
        loop {
            if !self.fill(Patience::Expecting) {
                let end = if self.is_ended { "closed" } else { "silent" };
                panic!("{what} was expected; the connection is {end}; before it came {passed:?}");
            }
            let received = self.inbox.pop_front().expect("just filled");
            if let Some(found) = pick(&received) {
                passed.append(&mut self.inbox);
                self.inbox = passed;
                return found;
            }
            assert!(matches!(received, Received::Publish(_)), "{what} was expected, {received:?} came");
            passed.push_back(received);
        }
    }

    #[track_caller]
    pub fn expect_connack(&mut self) -> ConnAck {
        match self.expect_packet() {
            Received::ConnAck(connack) => connack,
            other => panic!("CONNACK was expected, {other:?} came"),
        }
    }

    /// CONNACK with success: the session present flag (always false in 3.1, which has none).
    #[track_caller]
    pub fn expect_connected(&mut self) -> bool {
        let connack = self.expect_connack();
        assert_eq!(connack.code, 0, "{connack:?}");
        connack.session_present
    }

    /// The next packet is a delivery.
    #[track_caller]
    pub fn expect_message(&mut self) -> Message {
        match self.expect_packet() {
            Received::Publish(message) => message,
            other => panic!("PUBLISH was expected, {other:?} came"),
        }
    }

    /// Deliveries with these payloads, in this order, acknowledged to the end; then silence.
    #[track_caller]
    pub fn expect_texts(&mut self, texts: &[&str]) {
        for text in texts {
            let message = self.expect_message();
            assert_eq!(message.text(), *text, "{message:?}");
            self.acknowledge(&message);
        }
        self.expect_silence();
    }

    /// The next packet is a delivery with RETAIN and this payload; acknowledged.
    #[track_caller]
    pub fn expect_retained(&mut self, text: &str) {
        let message = self.expect_message();
        assert_eq!((message.text(), message.retain), (text, true), "{message:?}");
        self.acknowledge(&message);
    }

    /// All deliveries that come, acknowledged to the end.
    pub fn take_messages(&mut self) -> Vec<Message> {
        let mut messages = vec![];
        while let Some(received) = self.poll() {
            match received {
                Received::Publish(message) => {
                    self.acknowledge(&message);
                    messages.push(message);
                }
                other => panic!("PUBLISH was expected, {other:?} came"),
            }
        }
        messages
    }

    /// PUBACK: its code.
    #[track_caller]
    pub fn expect_puback(&mut self, packet_id: u16) -> u8 {
        self.expect_kind("PUBACK", |received| match received {
            Received::PubAck(ack) if ack.packet_id == packet_id => Some(ack.code),
            _ => None,
        })
    }

    /// PUBREC: its code.
    #[track_caller]
    pub fn expect_pubrec(&mut self, packet_id: u16) -> u8 {
        self.expect_kind("PUBREC", |received| match received {
            Received::PubRec(ack) if ack.packet_id == packet_id => Some(ack.code),
            _ => None,
        })
    }

    /// PUBREL: its code.
    #[track_caller]
    pub fn expect_pubrel(&mut self, packet_id: u16) -> u8 {
        self.expect_kind("PUBREL", |received| match received {
            Received::PubRel(ack) if ack.packet_id == packet_id => Some(ack.code),
            _ => None,
        })
    }

    /// PUBCOMP: its code.
    #[track_caller]
    pub fn expect_pubcomp(&mut self, packet_id: u16) -> u8 {
        self.expect_kind("PUBCOMP", |received| match received {
            Received::PubComp(ack) if ack.packet_id == packet_id => Some(ack.code),
            _ => None,
        })
    }

    /// SUBACK: its codes.
    #[track_caller]
    pub fn expect_suback(&mut self, packet_id: u16) -> Vec<u8> {
        self.expect_kind("SUBACK", |received| match received {
            Received::SubAck(answer) if answer.packet_id == packet_id => Some(answer.codes.clone()),
            _ => None,
        })
    }

    /// UNSUBACK: its codes.
    #[track_caller]
    pub fn expect_unsuback(&mut self, packet_id: u16) -> Vec<u8> {
        self.expect_kind("UNSUBACK", |received| match received {
            Received::UnsubAck(answer) if answer.packet_id == packet_id => Some(answer.codes.clone()),
            _ => None,
        })
    }

    /// DISCONNECT with the code and its properties, then the end.
    #[track_caller]
    pub fn expect_disconnect(&mut self, code: ReasonCode) -> ReceivedProperties {
        let reason = self.expect_kind("DISCONNECT", |received| match received {
            Received::Disconnect(reason) => Some(reason.clone()),
            _ => None,
        });
        assert_eq!(reason.code, code as u8, "DISCONNECT has another code: {reason:?}");
        self.expect_end();
        reason.properties
    }

    /// The broker ends the connection for a fault of the client: DISCONNECT with the code (5), close.
    #[track_caller]
    pub fn expect_fault(&mut self, code: ReasonCode) {
        if self.is_v5() {
            self.expect_disconnect(code);
        } else {
            self.expect_end();
        }
    }

    /// Deliveries, then the end as `expect_fault` has it.
    #[track_caller]
    pub fn take_messages_before_fault(&mut self, code: ReasonCode) -> Vec<Message> {
        let mut messages = vec![];
        while self.fill(Patience::Expecting) && matches!(self.inbox.front(), Some(Received::Publish(_))) {
            messages.push(self.expect_message());
        }
        self.expect_fault(code);
        messages
    }

    /// The broker ends the connection, whatever code it gives.
    #[track_caller]
    pub fn expect_end_or_disconnect(&mut self) {
        if self.is_v5() {
            let last = self.expect_packet();
            assert!(matches!(last, Received::Disconnect(_)), "the end was expected, {last:?} came");
        }
        self.expect_end();
    }

    /// The broker has closed, as far as was read.
    pub fn is_ended(&self) -> bool {
        self.is_ended
    }

    /// The broker refuses the CONNECT: CONNACK with the code (3.x: the return code that says it, if there is one),
    /// close.
    #[track_caller]
    pub fn expect_refusal(&mut self, code: ReasonCode) {
        let expected = if self.is_v5() { Some(code as u8) } else { code.connack_code_v3() };
        if let Some(expected) = expected {
            let connack = self.expect_connack();
            assert_eq!((connack.code, connack.session_present), (expected, false), "{connack:?}");
        }
        self.expect_end();
    }

    /// The broker closes, and sends nothing before.
    #[track_caller]
    pub fn expect_end(&mut self) {
        self.fill(Patience::Expecting);
        assert!(self.inbox.is_empty(), "the end was expected, {:?} came", self.inbox);
        assert!(self.is_ended, "the end was expected, the connection is silent");
    }

    /// Nothing comes, and the connection stays open.
    #[track_caller]
    pub fn expect_silence(&mut self) {
        self.fill(Patience::Doubting);
        assert!(self.inbox.is_empty(), "silence was expected, {:?} came", self.inbox);
        assert!(!self.is_ended, "silence was expected, the broker has closed");
    }

    /// Exactly these bytes come next.
    #[track_caller]
    pub fn expect_bytes(&mut self, expected: &[u8]) {
        assert!(self.inbox.is_empty(), "packets came before: {:?}", self.inbox);
        while self.bytes.len() < expected.len() {
            let input = self.driver.borrow_mut().read(self.socket, &mut self.bytes, Patience::Expecting);
            assert_eq!(input, Input::Bytes, "{expected:02x?} was expected, {:02x?} came", self.bytes);
        }
        let len = expected.len();
        assert_eq!(&self.bytes[..len], expected, "{:02x?}", self.bytes);
        while let Some((_, len)) = self.watch.read(&self.bytes) {
            self.bytes.drain(..len);
        }
    }

    /// The value of a numeric property that the next CONNACK carries.
    pub fn expect_connack_number(&mut self, id: PropertyId) -> Option<u32> {
        let connack = self.expect_connack();
        assert_eq!(connack.code, 0, "{connack:?}");
        connack.properties.number(id)
    }
}
