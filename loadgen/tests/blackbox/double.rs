//! A small broker that does what it should, except for one fault that it is asked for: a thread for each connection,
//! all state behind one lock.

use protocol::topic;
use protocol::{
    Ack, ConnAck, Connect, Decoder, Packet, Properties, Publish, QoS, ReasonCode, Role, SubAck, Subscribe,
    Version,
};
use std::collections::BTreeMap;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::sync::{Arc, Mutex, MutexGuard};
use std::thread;

/// How often a fault happens: every so many deliveries, or messages.
const EVERY: u64 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    None,
    /// A delivery does not happen.
    Drops,
    /// A delivery happens twice.
    Doubles,
    /// A delivery comes behind the next one to the same client.
    Swaps,
    /// Another client gets a copy, too.
    Misroutes,
    /// The topic of a delivery is another one.
    Renames,
    /// The last byte of a payload is another one.
    Corrupts,
    /// QoS 0 instead of what is due.
    Downgrades,
    /// RETAIN on a live message.
    Retains,
    /// A message is delivered but not acknowledged.
    Ignores,
    /// A message is refused and not delivered.
    Refuses,
    /// A connection is closed after so many messages.
    Hangs,
    /// Sessions end with their connection.
    Forgets,
    /// CONNECT is refused.
    Rejects,
    /// An acknowledgement for a message that nobody sent.
    Invents,
}

pub struct Double {
    pub port: u16,
    state: Arc<Mutex<State>>,
}

/// One client: its subscriptions outlive the connection if it asked for that.
struct Session {
    version: Version,
    is_clean: bool,
    out: Option<TcpStream>,
    connection: u64,
    subscriptions: Vec<(String, QoS)>,
    /// Deliveries while it is away.
    queue: Vec<Outgoing>,
    /// A delivery that is to come behind the next.
    held: Option<Outgoing>,
    next_id: u16,
}

#[derive(Clone)]
struct Outgoing {
    topic: String,
    payload: Vec<u8>,
    qos: QoS,
    retain: bool,
}

struct State {
    fault: Fault,
    sessions: BTreeMap<String, Session>,
    retained: BTreeMap<String, Outgoing>,
    /// Publishes of QoS 2 between PUBLISH and PUBREL.
    unreleased: BTreeMap<(String, u16), ()>,
    deliveries: u64,
    messages: u64,
    turns: usize,
    connections: u64,
    kept_sessions_max: usize,
    seen_clients: Vec<String>,
}

impl Double {
    pub fn start(fault: Fault) -> Double {
        let listener = TcpListener::bind("127.0.0.1:0").expect("loopback");
        let port = listener.local_addr().expect("it is bound").port();
        let state = Arc::new(Mutex::new(State {
            fault,
            sessions: BTreeMap::new(),
            retained: BTreeMap::new(),
            unreleased: BTreeMap::new(),
            deliveries: 0,
            messages: 0,
            turns: 0,
            connections: 0,
            kept_sessions_max: 0,
            seen_clients: vec![],
        }));
        let shared = state.clone();
        thread::spawn(move || {
            for stream in listener.incoming().flatten() {
                let state = state.clone();
                thread::spawn(move || serve(stream, &state));
            }
        });
        Double { port, state: shared }
    }

    /// The payload of the retained message on a topic.
    pub fn retained(&self, topic: &str) -> Option<Vec<u8>> {
        lock(&self.state).retained.get(topic).map(|message| message.payload.clone())
    }

    /// Client ids that connected, in their order.
    pub fn seen_clients(&self) -> Vec<String> {
        lock(&self.state).seen_clients.clone()
    }

    /// Sessions that outlive their connection, now and at most so far.
    pub fn kept_sessions(&self) -> usize {
        lock(&self.state).kept_sessions()
    }

    pub fn kept_sessions_max(&self) -> usize {
        lock(&self.state).kept_sessions_max
    }
}

fn serve(mut stream: TcpStream, state: &Mutex<State>) {
    stream.set_nodelay(true).expect("a socket");
    let mut decoder = Decoder { role: Role::Server, version: None, packet_size_max: 1 << 24 };
    let (mut bytes, mut buffer) = (vec![], vec![0; 65536]);
    let mut who: Option<(String, u64)> = None;
    'reading: while let Ok(len @ 1..) = stream.read(&mut buffer) {
        bytes.extend_from_slice(&buffer[..len]);
        let mut used = 0;
        while let Some((packet, len)) = decoder.next_packet(&bytes[used..]).expect("clients send packets") {
            let mut state = lock(state);
            let goes_on = match (&who, packet) {
                (None, Packet::Connect(connect)) => {
                    decoder.version = Some(connect.version);
                    let connection = state.on_connect(&connect, &stream);
                    who = connection.map(|connection| (connect.client_id.to_string(), connection));
                    who.is_some()
                }
                (Some((id, _)), packet) => state.on_packet(id, packet),
                (None, _) => false,
            };
            if !goes_on {
                break 'reading;
            }
            used += len;
        }
        bytes.drain(..used);
    }
    let _ = stream.shutdown(std::net::Shutdown::Both);
    if let Some((id, connection)) = who {
        lock(state).on_close(&id, connection);
    }
}

fn lock(state: &Mutex<State>) -> MutexGuard<'_, State> {
    state.lock().expect("no thread panicked")
}

impl State {
    fn on_connect(&mut self, connect: &Connect<'_>, stream: &TcpStream) -> Option<u64> {
        self.connections += 1;
        self.seen_clients.push(connect.client_id.into());
        // A session that ends with its connection also ends when another takes it over.
        let kept = self.sessions.remove(connect.client_id);
        let kept = kept.filter(|session| !connect.clean_start && !session.is_clean);
        let is_rejected = self.fault == Fault::Rejects;
        let ack = ConnAck {
            session_present: kept.is_some(),
            reason: if is_rejected { ReasonCode::NotAuthorized } else { ReasonCode::Success },
            properties: Properties::EMPTY,
        };
        let mut out = vec![];
        ack.encode(connect.version, &mut out);
        (&*stream).write_all(&out).ok()?;
        if is_rejected {
            return None;
        }
        let mut session = kept.unwrap_or(Session {
            version: connect.version,
            is_clean: connect.clean_start,
            out: None,
            connection: 0,
            subscriptions: vec![],
            queue: vec![],
            held: None,
            next_id: 0,
        });
        session.connection = self.connections;
        session.out = stream.try_clone().ok();
        let queue = std::mem::take(&mut session.queue);
        queue.into_iter().for_each(|message| session.send(message));
        self.sessions.insert(connect.client_id.into(), session);
        self.kept_sessions_max = self.kept_sessions_max.max(self.kept_sessions());
        Some(self.connections)
    }

    fn kept_sessions(&self) -> usize {
        self.sessions.values().filter(|session| !session.is_clean).count()
    }

    fn on_close(&mut self, id: &str, connection: u64) {
        let Some(session) = self.sessions.get_mut(id).filter(|it| it.connection == connection) else {
            return;
        };
        session.out = None;
        if session.is_clean || self.fault == Fault::Forgets {
            self.sessions.remove(id);
        }
    }

    /// False closes the connection.
    fn on_packet(&mut self, id: &str, packet: Packet<'_>) -> bool {
        match packet {
            Packet::Publish(publish) => return self.on_publish(id, &publish),
            Packet::Subscribe(subscribe) => self.on_subscribe(id, &subscribe),
            Packet::PubRel(ack) => {
                self.unreleased.remove(&(id.to_string(), ack.packet_id));
                self.answer(id, |version, out| success(ack.packet_id).encode_pubcomp(version, out));
            }
            Packet::PubRec(ack) => {
                self.answer(id, |version, out| success(ack.packet_id).encode_pubrel(version, out));
            }
            Packet::PingReq => self.answer(id, |version, out| Packet::PingResp.encode(version, out)),
            Packet::Disconnect(_) => return false,
            _ => {}
        }
        true
    }

    fn answer(&mut self, id: &str, encode: impl FnOnce(Version, &mut Vec<u8>)) {
        let session = self.sessions.get_mut(id).expect("it is connected");
        let mut out = vec![];
        encode(session.version, &mut out);
        session.write(&out);
    }

    fn on_publish(&mut self, id: &str, publish: &Publish<'_>) -> bool {
        self.messages += 1;
        let is_faulty = self.messages.is_multiple_of(EVERY);
        if self.fault == Fault::Hangs && self.messages == 5 * EVERY {
            return false;
        }
        let is_refused = is_faulty && self.fault == Fault::Refuses;
        let is_ignored = is_faulty && self.fault == Fault::Ignores;
        let reason = if is_refused { ReasonCode::QuotaExceeded } else { ReasonCode::Success };
        let ack = Ack::new(publish.packet_id, reason);
        let is_new = publish.qos != QoS::ExactlyOnce
            || self.unreleased.insert((id.to_string(), publish.packet_id), ()).is_none();
        match publish.qos {
            _ if is_ignored => {}
            QoS::AtMostOnce => {}
            QoS::AtLeastOnce => self.answer(id, |version, out| ack.encode_puback(version, out)),
            QoS::ExactlyOnce => self.answer(id, |version, out| ack.encode_pubrec(version, out)),
        }
        if is_faulty && self.fault == Fault::Invents {
            self.answer(id, |version, out| success(60_000).encode_puback(version, out));
        }
        if is_new && !is_refused {
            self.store(publish);
            self.route(publish);
        }
        true
    }

    fn store(&mut self, publish: &Publish<'_>) {
        if publish.retain && publish.payload.is_empty() {
            self.retained.remove(publish.topic);
        } else if publish.retain {
            self.retained.insert(publish.topic.into(), outgoing(publish, publish.qos, true));
        }
    }

    fn route(&mut self, publish: &Publish<'_>) {
        let mut groups: BTreeMap<String, Vec<(String, QoS)>> = BTreeMap::new();
        let mut receivers = vec![];
        for (id, session) in &self.sessions {
            for (filter, qos) in &session.subscriptions {
                match topic::parse_shared(filter).expect("filters were valid") {
                    Some(shared) if topic::matches(shared.filter, publish.topic) => {
                        groups.entry(filter.clone()).or_default().push((id.clone(), *qos));
                    }
                    None if topic::matches(filter, publish.topic) => receivers.push((id.clone(), *qos)),
                    _ => {}
                }
            }
        }
        for members in groups.into_values() {
            self.turns += 1;
            receivers.push(members[self.turns % members.len()].clone());
        }
        for (id, qos) in receivers {
            self.deliver(&id, outgoing(publish, publish.qos.min(qos), false));
        }
    }

    /// Where the faults happen.
    fn deliver(&mut self, id: &str, mut message: Outgoing) {
        self.deliveries += 1;
        let fault = if self.deliveries.is_multiple_of(EVERY) { self.fault } else { Fault::None };
        match fault {
            Fault::Drops => return,
            Fault::Renames => message.topic.push('x'),
            Fault::Corrupts => *message.payload.last_mut().expect("it has a header") ^= 1,
            Fault::Downgrades => message.qos = QoS::AtMostOnce,
            Fault::Retains => message.retain = true,
            Fault::Misroutes => {
                let other = self
                    .sessions
                    .iter_mut()
                    .find(|(other, it)| other.as_str() != id && !it.subscriptions.is_empty());
                other.expect("there are two subscribers").1.send(message.clone());
            }
            _ => {}
        }
        let session = self.sessions.get_mut(id).expect("it has a subscription");
        if fault == Fault::Swaps {
            session.held = Some(message);
            return;
        }
        session.send(message.clone());
        if fault == Fault::Doubles {
            session.send(message);
        }
        if let Some(held) = session.held.take() {
            session.send(held);
        }
    }

    fn on_subscribe(&mut self, id: &str, subscribe: &Subscribe<'_>) {
        let codes: Vec<u8> = subscribe.filters.iter().map(|(_, options)| options.qos as u8).collect();
        let ack = SubAck { packet_id: subscribe.packet_id, properties: Properties::EMPTY, codes: &codes };
        self.answer(id, |version, out| ack.encode(version, out));
        let session = self.sessions.get_mut(id).expect("it is connected");
        for (filter, options) in subscribe.filters.iter() {
            session.subscriptions.push((filter.into(), options.qos));
            let matching = self.retained.iter().filter(|(topic, _)| topic::matches(filter, topic));
            for (_, message) in matching {
                session.send(Outgoing { qos: message.qos.min(options.qos), ..message.clone() });
            }
        }
    }
}

fn success(packet_id: u16) -> Ack<'static> {
    Ack::new(packet_id, ReasonCode::Success)
}

fn outgoing(publish: &Publish<'_>, qos: QoS, retain: bool) -> Outgoing {
    Outgoing { topic: publish.topic.into(), payload: publish.payload.into(), qos, retain }
}

impl Session {
    fn send(&mut self, message: Outgoing) {
        if self.out.is_none() {
            self.queue.push(message);
            return;
        }
        self.next_id = self.next_id % 50_000 + 1;
        let publish = Publish {
            dup: false,
            qos: message.qos,
            retain: message.retain,
            topic: &message.topic,
            packet_id: if message.qos == QoS::AtMostOnce { 0 } else { self.next_id },
            topic_alias: None,
            message_expiry: None,
            subscription_ids: &[],
            properties: Properties::EMPTY,
            payload: &message.payload,
        };
        let mut out = vec![];
        publish.encode(self.version, &mut out);
        self.write(&out);
    }

    /// A client that is gone is noticed by its own thread.
    fn write(&mut self, bytes: &[u8]) {
        if let Some(out) = &mut self.out {
            let _ = out.write_all(bytes);
        }
    }
}
