//! One TCP connection between a client and the node, as both ends have seen it: what the client wrote and how much of
//! it a shard has read, what the server wrote and how much of it has arrived.

use std::collections::VecDeque;

use protocol::{Decoder, Packet, QoS, ReasonCode, Role, Version};
use shard::Time;

use crate::plan::TOPICS;
use crate::support::SocketId;

/// Index of `World::links`.
pub type LinkId = usize;

/// The CONNECT of a link, as far as it matters.
#[derive(Clone, Debug)]
pub struct Offer {
    pub clean: bool,
    /// As the server will grant it.
    pub expiry_ms: u64,
    /// Deliveries at QoS 1 and 2 under way at most.
    pub window_max: u32,
    pub packet_size_max: usize,
    /// 1.5 times the keep alive in force.
    pub keep_alive_ms: u64,
    pub will: Option<WillOffer>,
}

#[derive(Clone, Copy, Debug)]
pub struct WillOffer {
    pub uid: u32,
    pub delay_ms: u64,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// CONNACK was not sent yet.
    Connecting,
    Live,
    Ended,
}

/// DISCONNECT of the client.
#[derive(Clone, Copy, Debug)]
pub struct Goodbye {
    /// Where it ends in the stream.
    pub end: u64,
    pub keeps_will: bool,
    pub expiry_ms: Option<u64>,
}

#[derive(Clone, Copy, Debug)]
pub struct SubscriptionRequest {
    pub filter: usize,
    pub qos: QoS,
    pub no_local: bool,
    pub retain_as_published: bool,
    pub identifier: u32,
}

/// SUBSCRIBE or UNSUBSCRIBE without its answer.
#[derive(Clone, Debug)]
pub struct Request {
    pub packet_id: u16,
    /// Of `Oracle::clock`, when it was written.
    pub written: u64,
    pub is_subscribe: bool,
    pub filters: Vec<SubscriptionRequest>,
}

/// A packet from the server, as the client will see it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Event {
    /// `is_resumed` is the truth, also where the version cannot say it.
    ConnAck {
        reason: ReasonCode,
        is_resumed: bool,
        incarnation: u32,
    },
    Publish {
        uid: u32,
        qos: QoS,
        packet_id: u16,
        dup: bool,
        retain: bool,
    },
    PubAck {
        packet_id: u16,
    },
    PubRec {
        packet_id: u16,
        is_error: bool,
    },
    PubRel {
        packet_id: u16,
    },
    PubComp {
        packet_id: u16,
    },
    SubAck {
        packet_id: u16,
    },
    UnsubAck {
        packet_id: u16,
    },
    PingResp,
    Disconnect {
        reason: ReasonCode,
    },
}

pub struct Link {
    pub socket: SocketId,
    pub client: usize,
    pub version: Version,
    pub offer: Offer,
    pub phase: Phase,
    pub is_resumed: bool,
    pub incarnation: u32,

    // client to server
    pub written: u64,
    pub fed: u64,
    packet_ends: VecDeque<u64>,
    /// Acknowledgements that complete a delivery: where they end, and the packet id.
    pub completions: VecDeque<(u64, u16)>,
    pub goodbye: Option<Goodbye>,
    /// PUBLISHes at QoS 1 and 2 without PUBACK or PUBREC on this link.
    pub publishes: VecDeque<(u16, QoS, u32)>,
    pub releases: VecDeque<u16>,
    pub requests: Vec<Request>,
    pub pings: u32,
    /// Topics by the alias that the client has set, from alias 1 on.
    pub aliases_set: Vec<usize>,
    /// A lower bound of when the server last saw a complete packet.
    pub packet_at: Time,
    pub was_paused: bool,

    // server to client
    decoder: Decoder,
    aliases: Vec<(u16, usize)>,
    events: VecDeque<(u64, Event)>,
    pub emitted: u64,
    pub received: u64,
    pub window: u32,
    /// Order of the last repeated delivery.
    pub resent: u32,
    /// Messages that were written before CONNACK arrived.
    pub unconfirmed: Vec<u32>,

    /// The client does not read.
    pub is_stalled: bool,
    /// The client has turned its back on it (another link, or the end).
    pub is_abandoned: bool,
    pub is_confirmed: bool,
}

/// A PUBLISH from the server, taken apart.
pub struct Incoming<'a> {
    pub publish: protocol::Publish<'a>,
    pub topic: usize,
    pub len: usize,
}

impl Link {
    pub fn new(socket: SocketId, client: usize, version: Version, offer: Offer, now: Time) -> Link {
        Link {
            socket,
            client,
            version,
            offer,
            phase: Phase::Connecting,
            is_resumed: false,
            incarnation: 0,
            written: 0,
            fed: 0,
            packet_ends: VecDeque::new(),
            completions: VecDeque::new(),
            goodbye: None,
            publishes: VecDeque::new(),
            releases: VecDeque::new(),
            requests: Vec::new(),
            pings: 0,
            aliases_set: Vec::new(),
            packet_at: now,
            was_paused: false,
            decoder: Decoder { role: Role::Client, version: Some(version), packet_size_max: u32::MAX },
            aliases: Vec::new(),
            events: VecDeque::new(),
            emitted: 0,
            received: 0,
            window: 0,
            resent: 0,
            unconfirmed: Vec::new(),
            is_stalled: false,
            is_abandoned: false,
            is_confirmed: false,
        }
    }

    /// A packet of `len` bytes was written.
    pub fn on_written(&mut self, len: usize) {
        self.written += len as u64;
        self.packet_ends.push_back(self.written);
    }

    /// A shard has read `len` bytes more.
    pub fn on_fed(&mut self, len: usize, now: Time, is_reading: bool) {
        self.fed += len as u64;
        self.was_paused |= !is_reading;
        let mut is_complete = false;
        while self.packet_ends.front().is_some_and(|end| *end <= self.fed) {
            self.packet_ends.pop_front();
            is_complete = true;
        }
        if is_complete {
            self.packet_at = now;
        }
    }

    /// The next packet of the server in `bytes`, with the alias resolved.
    pub fn decode<'a>(&mut self, bytes: &'a [u8]) -> Result<Option<(Decoded<'a>, usize)>, String> {
        let next =
            self.decoder.next_packet(bytes).map_err(|error| format!("the server sent garbage: {error}"))?;
        let Some((packet, len)) = next else { return Ok(None) };
        let Packet::Publish(publish) = packet else { return Ok(Some((Decoded::Other(packet), len))) };
        let topic = match publish.topic {
            "" => {
                let alias = publish.topic_alias.unwrap_or(0);
                let known = self.aliases.iter().find(|(known, _)| *known == alias);
                known.ok_or("an alias that the server did not set")?.1
            }
            name => {
                let topic = TOPICS.iter().position(|topic| *topic == name).ok_or("an unknown topic")?;
                if let Some(alias) = publish.topic_alias {
                    self.aliases.retain(|(known, _)| *known != alias);
                    self.aliases.push((alias, topic));
                }
                topic
            }
        };
        Ok(Some((Decoded::Publish(Incoming { publish, topic, len }), len)))
    }

    /// `event` is complete for the client at the current end of what was emitted.
    pub fn push_event(&mut self, event: Event) {
        self.events.push_back((self.emitted, event));
    }

    /// The next packet that has arrived completely.
    pub fn next_event(&mut self) -> Option<Event> {
        let (end, event) = *self.events.front()?;
        if end > self.received {
            return None;
        }
        self.events.pop_front();
        Some(event)
    }
}

pub enum Decoded<'a> {
    Publish(Incoming<'a>),
    Other(Packet<'a>),
}
