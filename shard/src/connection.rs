//! One socket as the core sees it: the phase, unread input, outgoing bytes, aliases and acknowledgements under way.
//! Owned by the shard's slab of connections; the session it serves outlives it.

use std::net::SocketAddr;

use protocol::{Decoder, Publish, QoS, ReasonCode, Role, Version};

use crate::Time;
use crate::message::Message;
use crate::rare::RareQueue;
use crate::timers::TimerId;

/// Names one socket of a shard. `slot` is dense and reused; `generation` tells the uses apart, so late completions of
/// a closed socket are recognised.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct ConnectionId {
    pub slot: u32,
    pub generation: u32,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Phase {
    /// CONNECT is awaited.
    Connecting,
    /// CONNECT was read; the authenticator has to say.
    Authenticating,
    /// CONNACK was sent.
    Live,
}

/// Why a connection is not read; a set of bits.
pub(crate) mod pause {
    pub const LANE: u8 = 1;
    pub const MEMORY: u8 = 2;
    /// Awaits the authenticator: later packets stay unread until CONNACK.
    pub const AUTHENTICATION: u8 = 4;
    /// A 3.x client, which knows no Receive Maximum, has sent as many QoS 1 messages as may wait to be acknowledged.
    pub const WINDOW: u8 = 8;
}

/// How the connection stands to a shortage of memory (`shortage.rs`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Shortage {
    None,
    /// A PUBLISH waits, at most until then.
    Held(Time),
    /// The next PUBLISH that is accepted may pass.
    Pass,
    /// PUBLISHes are passed over, and the connection is closed at that time.
    Leaving(Time),
}

/// PUBACK or PUBREC that may have to wait for storage; they leave in the order of their PUBLISHes.
#[derive(Clone, Copy, Debug)]
pub(crate) struct PendingAck {
    pub packet_id: u16,
    pub qos: QoS,
    pub reason: ReasonCode,
    /// The packet id is in use until PUBREL.
    pub is_kept: bool,
    /// Key of `Shard::waits`; None when it may leave.
    pub wait: Option<u32>,
}

/// Topics that the client named by alias. Few clients do, so it costs a pointer.
#[derive(Debug, Default)]
pub(crate) struct AliasesIn {
    topics: Option<Box<AliasedTopics>>,
}

#[derive(Debug, Default)]
struct AliasedTopics(Vec<Option<Box<str>>>);

impl AliasesIn {
    /// `alias` is between 1 and the announced maximum.
    pub fn set(&mut self, alias: u16, topic: &str) {
        let AliasedTopics(topics) = &mut **self.topics.get_or_insert_default();
        let at = alias as usize - 1;
        if topics.len() <= at {
            topics.resize(at + 1, None);
        }
        topics[at] = Some(topic.into());
    }

    pub fn get(&self, alias: u16) -> Option<&str> {
        self.topics.as_ref()?.0.get(alias as usize - 1)?.as_deref()
    }
}

/// Aliases that we set towards the client: the first topics get them and keep them for the connection's life.
#[derive(Debug)]
pub(crate) struct AliasesOut {
    by_topic: hashbrown::HashMap<Box<str>, u16, ahash::RandomState>,
    max: u16,
}

impl AliasesOut {
    pub fn new(max: u16, hash_seed: u64) -> AliasesOut {
        let hasher = ahash::RandomState::with_seeds(hash_seed, 5, 6, 7);
        AliasesOut { by_topic: hashbrown::HashMap::with_hasher(hasher), max }
    }
}

#[derive(Debug)]
pub(crate) struct Connection {
    pub generation: u32,
    pub phase: Phase,
    pub version: Version,
    pub decoder: Decoder,
    /// Index of the session while live.
    pub session: u32,
    pub listener: u16,
    /// Until it is live.
    pub opening: Option<Box<Opening>>,
    /// When the last packet was complete; keep alive counts from here.
    pub packet_at: Time,
    /// Length of `input` when keep alive last let an unfinished packet count as activity.
    pub arrived: u32,
    /// 1.5 times the keep alive in force; 0 = none.
    pub keep_alive_ms: u32,
    /// Bytes that were read and not served yet: the start of a packet, or all of it while paused.
    pub input: Vec<u8>,
    /// `pause` bits.
    pub paused: u8,
    /// Its place in `Shard::paused`.
    pub pause_number: u64,
    pub shortage: Shortage,
    /// The peer is gone: what was read is served now or never, whatever the lanes say.
    pub is_input_final: bool,
    /// Bytes to be written.
    pub output: Vec<u8>,
    /// Bytes in the buffer that the runtime is writing.
    pub output_out: u32,
    /// When the runtime last took or finished a buffer.
    pub output_at: Time,
    pub is_dirty: bool,
    /// When the connection is looked at next.
    pub timer: Option<TimerId>,
    /// The slow consumer deadline is watched.
    pub is_stall_timer_set: bool,
    /// The client's Maximum Packet Size.
    pub packet_size_max: u32,
    /// Request Problem Information.
    pub wants_problem_information: bool,
    pub aliases_in: AliasesIn,
    pub aliases_out: Option<Box<AliasesOut>>,
    pub pending_acks: RareQueue<PendingAck>,
    /// QoS 2 PUBLISHes of this connection without PUBREL, and QoS 1 ones whose PUBACK waits: held to Receive Maximum.
    pub inbound_inflight: u32,
    pub auth: Option<Box<AuthExchange>>,
}

/// What is known of a connection before its client is.
#[derive(Debug)]
pub(crate) struct Opening {
    pub peer: SocketAddr,
    pub accepted_at: Time,
    /// CONNECT named a client that lives on this shard.
    pub moving_to: Option<crate::ShardId>,
}

/// An enhanced authentication (or a CONNECT that waits for the authenticator).
#[derive(Debug)]
pub(crate) struct AuthExchange {
    pub method: Option<String>,
    /// The CONNECT packet's bytes, served once the verdict is there.
    pub connect: Vec<u8>,
    /// The authenticator has not answered yet.
    pub is_asked: bool,
    pub is_reauthentication: bool,
}

impl Connection {
    pub fn new(
        generation: u32,
        listener: u16,
        peer: SocketAddr,
        now: Time,
        connect_packet_size_max: u32,
    ) -> Connection {
        Connection {
            generation,
            phase: Phase::Connecting,
            version: Version::V311,
            decoder: Decoder { role: Role::Server, version: None, packet_size_max: connect_packet_size_max },
            session: u32::MAX,
            listener,
            opening: Some(Box::new(Opening { peer, accepted_at: now, moving_to: None })),
            packet_at: now,
            arrived: 0,
            keep_alive_ms: 0,
            input: Vec::new(),
            paused: 0,
            pause_number: 0,
            shortage: Shortage::None,
            is_input_final: false,
            output: Vec::new(),
            output_out: 0,
            output_at: now,
            is_dirty: false,
            timer: None,
            is_stall_timer_set: false,
            packet_size_max: u32::MAX,
            wants_problem_information: true,
            aliases_in: AliasesIn::default(),
            aliases_out: None,
            pending_acks: RareQueue::default(),
            inbound_inflight: 0,
            auth: None,
        }
    }

    /// Bytes that the socket has not taken yet.
    #[inline]
    pub fn output_pending(&self) -> usize {
        self.output.len() + self.output_out as usize
    }

    /// Appends a delivery and returns where its packet id stands in `output`, or None if the client's Maximum Packet
    /// Size forbids it [MQTT-3.1.2-25]: nothing is appended then.
    #[inline]
    pub fn append_publish(
        &mut self,
        message: &Message<'_>,
        delivery: Delivery<'_>,
        now: Time,
        frames: &mut Frames,
    ) -> Option<usize> {
        let start = self.output.len();
        if self.aliases_out.is_some() {
            return self.append_with_alias(message, delivery, now);
        }
        let id_offset = match frames.find(self.version, &delivery) {
            Some((bytes, id_offset)) => {
                self.output.extend_from_slice(bytes);
                id_offset
            }
            None => {
                let publish = delivery.publish(message, self.version, message.topic, None, now);
                publish.encode(self.version, &mut self.output);
                let id_offset = publish.packet_id_offset(self.version);
                frames.keep(self.version, &delivery, &self.output[start..], id_offset);
                id_offset
            }
        };
        self.fits_or_undo(start, start + id_offset)
    }

    /// An alias is set by the packet that carries the topic too; the output is FIFO, so it is never used before that
    /// packet was on the wire.
    fn append_with_alias(
        &mut self,
        message: &Message<'_>,
        delivery: Delivery<'_>,
        now: Time,
    ) -> Option<usize> {
        let start = self.output.len();
        let aliases = self.aliases_out.as_mut()?;
        let known = aliases.by_topic.get(message.topic).copied();
        let free = (aliases.by_topic.len() < aliases.max as usize).then(|| aliases.by_topic.len() as u16 + 1);
        let topic = if known.is_some() { "" } else { message.topic };
        let publish = delivery.publish(message, self.version, topic, known.or(free), now);
        publish.encode(self.version, &mut self.output);
        let id_at = start + publish.packet_id_offset(self.version);
        let fits = self.fits_or_undo(start, id_at);
        if let (Some(_), None, Some(alias), Some(aliases)) = (fits, known, free, self.aliases_out.as_mut()) {
            aliases.by_topic.insert(message.topic.into(), alias);
        }
        fits
    }

    #[inline]
    fn fits_or_undo(&mut self, start: usize, id_at: usize) -> Option<usize> {
        if self.output.len() - start > self.packet_size_max as usize {
            self.output.truncate(start);
            return None;
        }
        Some(id_at)
    }

    /// Writes the packet id of the delivery that was appended at `id_at`.
    #[inline]
    pub fn patch_packet_id(&mut self, id_at: usize, packet_id: u16) {
        self.output[id_at..id_at + 2].copy_from_slice(&packet_id.to_be_bytes());
    }
}

/// What differs between deliveries of one message.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Delivery<'a> {
    pub qos: QoS,
    pub retain: bool,
    pub dup: bool,
    pub identifiers: &'a [u32],
}

impl<'a> Delivery<'a> {
    /// The PUBLISH, with packet id 1 in place of the one that is patched in later.
    fn publish(
        &self,
        message: &Message<'a>,
        version: Version,
        topic: &'a str,
        topic_alias: Option<u16>,
        now: Time,
    ) -> Publish<'a> {
        let has_properties = version.has_properties();
        Publish {
            dup: self.dup,
            qos: self.qos,
            retain: self.retain,
            topic,
            packet_id: if self.qos == QoS::AtMostOnce { 0 } else { 1 },
            topic_alias,
            message_expiry: if has_properties { message.expiry_left(now) } else { None },
            subscription_ids: if has_properties { self.identifiers } else { &[] },
            properties: protocol::Properties::from_wire(if has_properties {
                message.properties
            } else {
                &[]
            }),
            payload: message.payload,
        }
    }
}

/// Encoded forms of the message that is being delivered to many: one for each shape (version, QoS, retain,
/// identifier). Only kept when a second receiver is to be expected.
#[derive(Debug, Default)]
pub(crate) struct Frames {
    is_enabled: bool,
    shapes: Vec<Shape>,
    bytes: Vec<u8>,
}

#[derive(Debug, Clone, Copy)]
struct Shape {
    key: (Version, QoS, bool, u32),
    start: u32,
    end: u32,
    id_offset: u32,
}

/// Shapes kept for one message; further ones are encoded each time.
const SHAPES_MAX: usize = 8;

impl Frames {
    /// Forgets the last message; `receivers` decides whether encoded forms are worth keeping.
    #[inline]
    pub fn begin(&mut self, receivers: usize) {
        self.is_enabled = receivers > 1;
        self.shapes.clear();
        self.bytes.clear();
    }

    #[inline]
    fn key(version: Version, delivery: &Delivery<'_>) -> Option<(Version, QoS, bool, u32)> {
        let identifier = match (version, delivery.identifiers) {
            (Version::V5, [id]) => *id,
            (Version::V5, [_, _, ..]) => return None,
            _ => 0,
        };
        (!delivery.dup).then_some((version, delivery.qos, delivery.retain, identifier))
    }

    #[inline]
    fn find(&self, version: Version, delivery: &Delivery<'_>) -> Option<(&[u8], usize)> {
        if !self.is_enabled {
            return None;
        }
        let key = Frames::key(version, delivery)?;
        let shape = self.shapes.iter().find(|shape| shape.key == key)?;
        Some((&self.bytes[shape.start as usize..shape.end as usize], shape.id_offset as usize))
    }

    #[inline]
    fn keep(&mut self, version: Version, delivery: &Delivery<'_>, encoded: &[u8], id_offset: usize) {
        if !self.is_enabled || self.shapes.len() == SHAPES_MAX {
            return;
        }
        if let Some(key) = Frames::key(version, delivery) {
            let start = self.bytes.len() as u32;
            self.bytes.extend_from_slice(encoded);
            self.shapes.push(Shape { key, start, end: self.bytes.len() as u32, id_offset: id_offset as u32 });
        }
    }
}
