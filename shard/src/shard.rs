//! The shard: its state, the entry points that the runtime calls, and the one `match` over packets. What a packet
//! means is in `connect`, `publish`, `acknowledge` and `subscribe`.

use std::collections::{BTreeMap, VecDeque};
use std::net::SocketAddr;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Arc;

use protocol::{DecodeError, DecodeErrorKind, Decoder, Packet, ReasonCode};
use slab::Slab;

use crate::access::AccessPolicy;
use crate::buffer_pool::BufferPool;
use crate::chunked::{ChunkedSlab, ChunkedVec};
use crate::client_index::ClientIndex;
use crate::connection::{Connection, ConnectionId, Frames, Phase};
use crate::envelope::{Batch, Envelope, MovedConnection};
use crate::filter_index::{FilterIndex, TopicHasher};
use crate::message::MessageStore;
use crate::metrics::{EndReason, Metrics};
use crate::outputs::Outputs;
use crate::placement::Placement;
use crate::publish::Match;
use crate::rate_limit::RateLimit;
use crate::retained::RetainedStore;
use crate::retained_order::RetainedProgress;
use crate::routes::{LocalInterest, RouteTable};
use crate::session::Session;
use crate::shared_group::Groups;
use crate::storage::Wait;
use crate::subscribe::PendingSubAck;
use crate::subscribers::Subscribers;
use crate::timers::TimerWheel;
use crate::{Config, ShardId, Time};

/// What a timer is about. A connection and a session have one each at most, which ends with them.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(crate) enum TimerKey {
    /// CONNECT deadline, keep alive, slow consumer.
    Connection(ConnectionId),
    /// Session expiry and will delay; slot and the epoch that it was opened in.
    Session(u32, u32),
    RetainedExpiry,
}

/// Whether the connection goes on.
#[derive(Debug, PartialEq, Eq)]
pub(crate) enum Flow {
    /// The packet was served.
    Continue,
    /// The packet was not served: it stays unread, and the connection is paused.
    Pause,
    /// The connection ended.
    End,
}

/// Timers fired in one turn at most; the rest follows in the next.
const TIMERS_PER_TURN: usize = 256;
/// Slots and timers of expired retained messages looked at in one turn.
const RETAINED_EXPIRED_PER_TURN: usize = 256;
const RETAINED_EXPIRY_EVERY_MS: Time = 1000;
/// Memory in use (percent of the budget) from which publishers are not read, below which they go on again, from which
/// new clients are refused, and from which no PUBLISH is taken (`shortage.rs`).
pub(crate) const MEMORY_PAUSE_PERCENT: u64 = 85;
pub(crate) const MEMORY_RESUME_PERCENT: u64 = 80;
pub(crate) const MEMORY_REFUSE_PERCENT: u64 = 92;
pub(crate) const MEMORY_FULL_PERCENT: u64 = 100;

/// A confirmation of routes that another shard is owed (`Envelope::RouteAcked`); revision 0: none.
#[derive(Clone, Copy, Debug, Default)]
pub(crate) struct RouteAck {
    revision: u64,
    retained: u64,
}

/// What a shard holds for clients (`Shard::held`).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Held {
    pub connections: usize,
    pub sessions: usize,
    /// Shared groups, those without members here included.
    pub groups: usize,
    /// Acknowledgements that wait for storage.
    pub storage_waits: usize,
    pub pending_subacks: usize,
    pub retained_replays: usize,
    pub paused: usize,
    pub identifier_lists: usize,
    /// Timers of connections and sessions.
    pub timers: usize,
    pub output_bytes: u64,
}

impl Held {
    pub fn is_nothing(&self) -> bool {
        *self == Held::default()
    }
}

/// One core's world; see the crate's documentation.
pub struct Shard {
    /// What the runtime has to do after `end_turn`.
    pub outputs: Outputs,
    pub(crate) id: ShardId,
    pub(crate) config: Arc<Config>,
    pub(crate) now: Time,
    pub(crate) placement: Placement,
    pub(crate) hasher: TopicHasher,
    pub(crate) access: Arc<AccessPolicy>,
    pub(crate) publish_rate: Option<RateLimit>,
    pub(crate) connections: ChunkedVec<Option<Connection>>,
    free_connections: Vec<u32>,
    generations: Vec<u32>,
    pub(crate) sessions: ChunkedSlab<Session>,
    /// Counts uses of session slots, so that a late timer does not hit a successor.
    pub(crate) session_epochs: Vec<u32>,
    pub(crate) clients: ClientIndex,
    pub(crate) subscriptions: FilterIndex<Subscribers>,
    pub(crate) interest: LocalInterest,
    pub(crate) routes: RouteTable,
    pub(crate) groups: Groups,
    pub(crate) retained: RetainedStore,
    pub(crate) retained_progress: RetainedProgress,
    pub(crate) messages: MessageStore,
    pub(crate) timers: TimerWheel<TimerKey>,
    pub(crate) metrics: Metrics,
    /// Messages of this turn for each other shard.
    pub(crate) batches: Vec<Batch>,
    /// Message bytes of this turn for each other shard.
    pub(crate) turn_bytes: Vec<u64>,
    pub(crate) is_lane_full: Vec<bool>,
    pub(crate) full_lanes: u16,
    /// Last announcement of a route or group share by this shard.
    pub(crate) announced: u64,
    /// How far each shard has confirmed them.
    pub(crate) confirmed: Vec<u64>,
    /// What we owe to each shard (`Envelope::RouteAcked`).
    pub(crate) acks_due: Vec<RouteAck>,
    pub(crate) pending_subacks: VecDeque<PendingSubAck>,
    /// Acks that wait for storage, and the journal sequence that each local one waits for.
    pub(crate) waits: Slab<Wait>,
    pub(crate) stored_waits: VecDeque<(u64, u32)>,
    pub(crate) appended: u64,
    pub(crate) receipts: Vec<Vec<u32>>,
    /// Clients and topics published with RETAIN from here lately: their messages go by the owner (`retained_order.rs`).
    pub(crate) ordered_topics: hashbrown::HashMap<u64, Time, ahash::RandomState>,
    /// Retained replays that wait for a page of another shard: replay number -> session.
    pub(crate) replays: hashbrown::HashMap<u64, u32, ahash::RandomState>,
    pub(crate) replay_number: u64,
    /// Sessions whose replay goes on in the next turn.
    pub(crate) replays_due: VecDeque<(u32, u32)>,
    pub(crate) assigned_ids: u64,
    /// Connections that are not read, in the order in which they were stopped.
    pub(crate) paused: BTreeMap<u64, ConnectionId>,
    pub(crate) pause_number: u64,
    pub(crate) output_bytes: u64,
    pub(crate) is_draining: bool,
    /// Bytes of a client are with the decoder.
    is_decoding: bool,
    /// For outgoing bytes and batches.
    pub(crate) spare_buffers: BufferPool,
    /// For the beginnings of packets.
    spare_inputs: BufferPool,
    pub(crate) frames: Frames,
    pub(crate) matches: Vec<Match>,
    pub(crate) more_identifiers: Vec<(u32, u32)>,
    pub(crate) match_epoch: u32,
    pub(crate) matched_groups: Vec<u32>,
    pub(crate) properties_scratch: Vec<u8>,
}

impl Shard {
    pub fn new(id: ShardId, config: Arc<Config>, now: Time) -> Shard {
        let shards = config.shard_count as usize;
        let hasher = TopicHasher::with_seed(config.hash_seed);
        let maps = || ahash::RandomState::with_seeds(config.hash_seed, 1, 2, 3);
        let mut timers = TimerWheel::new(now);
        timers.set(now + RETAINED_EXPIRY_EVERY_MS, TimerKey::RetainedExpiry);
        Shard {
            outputs: Outputs::default(),
            id,
            now,
            placement: Placement::new(config.placement_key, config.hash_seed, config.shard_count),
            access: config.access.clone(),
            publish_rate: config.client_publish_rate.clone(),
            connections: ChunkedVec::new(),
            free_connections: Vec::new(),
            generations: Vec::new(),
            sessions: ChunkedSlab::new(),
            session_epochs: Vec::new(),
            clients: ClientIndex::default(),
            subscriptions: FilterIndex::new(hasher.clone()),
            interest: LocalInterest::new(hasher.clone()),
            routes: RouteTable::new(hasher.clone()),
            groups: Groups::new(hasher.clone(), config.hash_seed),
            retained: RetainedStore::new(),
            retained_progress: RetainedProgress::new(config.shard_count),
            messages: MessageStore::default(),
            timers,
            metrics: Metrics { memory_limit_bytes: config.limits.memory_bytes_max, ..Metrics::default() },
            batches: (0..shards).map(|_| Batch::default()).collect(),
            turn_bytes: vec![0; shards],
            is_lane_full: vec![false; shards],
            full_lanes: 0,
            announced: 0,
            confirmed: vec![0; shards],
            acks_due: vec![RouteAck::default(); shards],
            pending_subacks: VecDeque::new(),
            waits: Slab::new(),
            stored_waits: VecDeque::new(),
            appended: 0,
            receipts: vec![Vec::new(); shards],
            ordered_topics: hashbrown::HashMap::with_hasher(maps()),
            replays: hashbrown::HashMap::with_hasher(maps()),
            replay_number: 0,
            replays_due: VecDeque::new(),
            assigned_ids: 0,
            paused: BTreeMap::new(),
            pause_number: 0,
            output_bytes: 0,
            is_draining: false,
            is_decoding: false,
            spare_buffers: BufferPool::new(1024, 64 * 1024, 4 * 1024 * 1024),
            spare_inputs: BufferPool::new(256, 4096, 1024 * 1024),
            frames: Frames::default(),
            matches: Vec::new(),
            more_identifiers: Vec::new(),
            match_epoch: 0,
            matched_groups: Vec::new(),
            properties_scratch: Vec::new(),
            hasher,
            config,
        }
    }

    /// First call of a turn: sets the time for all calls up to the next one and fires what is due.
    pub fn begin_turn(&mut self, now: Time) {
        debug_assert!(now >= self.now, "the clock is monotonic");
        self.now = now;
        self.timers.advance(now);
        for _ in 0..TIMERS_PER_TURN {
            let Some(key) = self.timers.pop_due() else { break };
            match key {
                TimerKey::Connection(id) => self.on_connection_timer(id),
                TimerKey::Session(session, epoch) => self.on_session_timer(session, epoch),
                TimerKey::RetainedExpiry => {
                    self.retained.expire(now, RETAINED_EXPIRED_PER_TURN);
                    self.timers.set(now + RETAINED_EXPIRY_EVERY_MS, TimerKey::RetainedExpiry);
                }
            }
        }
        self.turn_bytes.iter_mut().for_each(|bytes| *bytes = 0);
        self.resume_paused();
        for _ in 0..self.replays_due.len() {
            if let Some((session, epoch)) = self.replays_due.pop_front()
                && self.is_session(session, epoch)
            {
                self.pull(session);
            }
        }
    }

    /// Last call of a turn: everything gathered for other shards becomes envelopes.
    pub fn end_turn(&mut self) {
        self.announce_group_shares();
        for to in 0..self.config.shard_count {
            if to == self.id {
                continue;
            }
            // For a full lane it is gathered on.
            if !self.is_lane_full[to as usize] {
                self.close_batch(to);
            }
            self.send_owed_ack(to);
            if !self.receipts[to as usize].is_empty() {
                let tickets = std::mem::take(&mut self.receipts[to as usize]);
                self.outputs.envelopes.push((to, Envelope::Receipts(tickets)));
            }
        }
        self.outputs.is_drained = self.is_draining && self.connection_count() == 0;
    }

    /// When `begin_turn` has to be called at the latest.
    pub fn next_deadline(&self) -> Option<Time> {
        if !self.replays_due.is_empty() {
            return Some(self.now);
        }
        let freed = if self.paused.is_empty() { 0 } else { self.freed_pauses() };
        let is_waiting = |id: &ConnectionId| {
            self.connections[id.slot as usize]
                .as_ref()
                .is_some_and(|connection| connection.paused & freed != 0)
        };
        if freed != 0 && self.paused.values().any(is_waiting) {
            return Some(self.now);
        }
        self.timers.next_deadline()
    }

    /// The figures of this moment.
    pub fn metrics(&mut self) -> &Metrics {
        self.metrics.subscription_trie_nodes = self.subscriptions.node_count() as u64;
        self.metrics.routes = self.routes.len() as u64;
        self.metrics.retained_messages = self.retained.count();
        self.metrics.retained_bytes = self.retained.bytes();
        self.metrics.stored_messages = self.messages.count();
        self.metrics.stored_bytes = self.messages.bytes();
        self.metrics.memory_bytes = self.memory_bytes();
        self.metrics.paused_connections = self.paused.len() as u64;
        &self.metrics
    }

    /// What is held for clients beside the figures of `metrics`; nothing once all clients and their sessions are gone.
    pub fn held(&self) -> Held {
        Held {
            connections: self.connection_count(),
            sessions: self.sessions.len(),
            groups: self.groups.len(),
            storage_waits: self.waits.len(),
            pending_subacks: self.pending_subacks.len(),
            retained_replays: self.replays.len(),
            paused: self.paused.len(),
            identifier_lists: self.messages.identifier_lists(),
            // One is the shard's own.
            timers: self.timers.len() - 1,
            output_bytes: self.output_bytes,
        }
    }

    /// Bytes held for clients: waiting and retained messages, outgoing bytes, entries of queues and windows.
    pub(crate) fn memory_bytes(&self) -> u64 {
        const ENTRY: u64 = 24;
        self.messages.bytes()
            + self.retained.bytes()
            + self.output_bytes
            + (self.metrics.queue_messages + self.metrics.inflight_out) * ENTRY
    }

    /// Share of the memory budget in use, in percent.
    #[inline]
    pub(crate) fn memory_percent(&self) -> u64 {
        self.memory_bytes() * 100 / self.config.limits.memory_bytes_max.max(1)
    }

    // ---- connections ----

    fn connection_count(&self) -> usize {
        self.connections.len() - self.free_connections.len()
    }

    #[inline]
    pub(crate) fn connection(&mut self, id: ConnectionId) -> Option<&mut Connection> {
        match self.connections.get_mut(id.slot as usize) {
            Some(Some(connection)) if connection.generation == id.generation => Some(connection),
            _ => None,
        }
    }

    fn open_connection(&mut self, listener: u16, peer: SocketAddr, accepted_at: Time) -> ConnectionId {
        let slot = self.free_connections.pop().unwrap_or_else(|| {
            self.connections.push(None);
            self.generations.push(0);
            (self.connections.len() - 1) as u32
        });
        let generation = &mut self.generations[slot as usize];
        *generation = generation.wrapping_add(1);
        let id = ConnectionId { slot, generation: *generation };
        let limits = &self.config.limits;
        let connection =
            Connection::new(id.generation, listener, peer, accepted_at, limits.connect_packet_size_max);
        self.connections[slot as usize] = Some(connection);
        let deadline = accepted_at + limits.connect_timeout_ms;
        self.metrics.connections_pending += 1;
        self.set_connection_timer(id, deadline);
        id
    }

    /// Takes the connection out of the shard; its slot is free after this.
    pub(crate) fn remove_connection(&mut self, id: ConnectionId) -> Option<Connection> {
        self.connection(id)?;
        let connection = self.connections[id.slot as usize].take()?;
        self.free_connections.push(id.slot);
        if connection.phase != Phase::Live {
            self.metrics.connections_pending -= 1;
        }
        if connection.paused != 0 {
            self.paused.remove(&connection.pause_number);
        }
        self.cancel_timer(connection.timer, TimerKey::Connection(id));
        self.output_bytes -= connection.output_pending() as u64;
        Some(connection)
    }

    /// A socket was accepted. None: the connection limit is reached (or the shard drains), close it.
    pub fn on_accepted(&mut self, listener: u16, peer: SocketAddr) -> Option<ConnectionId> {
        if self.is_draining || self.connection_count() >= self.config.limits.connections_max as usize {
            self.metrics.connect_rejected[EndReason::Quota as usize] += 1;
            return None;
        }
        Some(self.open_connection(listener, peer, self.now))
    }

    /// The session of a live connection.
    #[inline]
    pub(crate) fn session_of(&mut self, id: ConnectionId) -> Option<u32> {
        self.connection(id)
            .filter(|connection| connection.phase == Phase::Live)
            .map(|connection| connection.session)
    }

    /// The peer closed or the socket failed.
    pub fn on_closed(&mut self, id: ConnectionId) {
        if let Some(connection) = self.connection(id) {
            // What was read completely is served, also if backpressure had stopped it [bounded by one packet and one
            // read].
            if connection.phase == Phase::Live && !connection.input.is_empty() {
                connection.is_input_final = true;
                self.unpause(id, u8::MAX);
            }
            self.end_connection(id, EndReason::ConnectionLost, None);
            // The socket is gone: there is nothing left to write.
            self.outputs.closing.retain(|(closing, _)| *closing != id);
        }
    }

    // ---- input ----

    /// Bytes from the socket: serves the complete packets in order and keeps the rest. The one dispatch over packets. A
    /// panic of the decoder, which has no state, ends this connection alone; any other one goes on, because the shard
    /// may be half updated.
    pub fn on_bytes(&mut self, id: ConnectionId, bytes: &[u8]) {
        let served = catch_unwind(AssertUnwindSafe(|| {
            self.metrics.bytes_received += bytes.len() as u64;
            let Some(connection) = self.connection(id) else { return };
            if connection.paused != 0 {
                connection.input.extend_from_slice(bytes);
                return;
            }
            if !connection.input.is_empty() {
                return self.complete_kept(id, bytes);
            }
            let mut used = 0;
            while let Some(connection) = self.connection(id)
                && connection.paused == 0
            {
                let decoder = connection.decoder;
                self.is_decoding = true;
                #[cfg(debug_assertions)]
                if let Some(fault) = &self.config.fault {
                    fault.on_decode(&bytes[used..]);
                }
                let decoded = decoder.next_packet(&bytes[used..]);
                self.is_decoding = false;
                let (packet, len) = match decoded {
                    Ok(Some(found)) => found,
                    Ok(None) => break,
                    Err(error) => return self.on_decode_error(id, &error),
                };
                let now = self.now;
                let Some(connection) = self.connection(id) else { return };
                connection.packet_at = now;
                connection.arrived = 0;
                let flow = match &packet {
                    _ if connection.phase != Phase::Live => {
                        self.on_early_packet(id, &packet, &bytes[used..used + len])
                    }
                    Packet::Publish(publish) => self.on_publish(id, publish),
                    Packet::PubAck(ack) => self.on_puback(id, ack),
                    Packet::PubRec(ack) => self.on_pubrec(id, ack),
                    Packet::PubRel(ack) => self.on_pubrel(id, ack),
                    Packet::PubComp(ack) => self.on_pubcomp(id, ack),
                    Packet::Subscribe(subscribe) => self.on_subscribe(id, subscribe),
                    Packet::Unsubscribe(unsubscribe) => self.on_unsubscribe(id, unsubscribe),
                    Packet::PingReq => self.on_pingreq(id),
                    Packet::Disconnect(disconnect) => self.on_disconnect(id, disconnect),
                    Packet::Auth(auth) => self.on_auth(id, auth),
                    Packet::Connect(_)
                    | Packet::ConnAck(_)
                    | Packet::SubAck(_)
                    | Packet::UnsubAck(_)
                    | Packet::PingResp => self.fail(id, EndReason::ProtocolError, ReasonCode::ProtocolError),
                };
                if flow == Flow::Pause {
                    break;
                }
                self.metrics.packets_received[packet.packet_type() as usize] += 1;
                if flow == Flow::End {
                    return;
                }
                used += len;
            }
            if used < bytes.len() {
                self.keep(id, &bytes[used..]);
            }
        }));
        if let Err(panic) = served {
            if !std::mem::take(&mut self.is_decoding) {
                resume_unwind(panic);
            }
            self.end_connection(id, EndReason::InternalError, Some(ReasonCode::UnspecifiedError));
        }
    }

    /// Keeps bytes that are not served now, for `complete_kept` or the shard where the client lives.
    fn keep(&mut self, id: ConnectionId, bytes: &[u8]) {
        if self.connection(id).is_some() {
            let mut input = self.spare_inputs.take();
            input.extend_from_slice(bytes);
            if let Some(connection) = self.connection(id) {
                connection.input = input;
            }
            self.finish_move(id);
        }
    }

    /// Serves what is kept, the beginning of a packet, together with the bytes that complete it, then the others, which
    /// need no copy; or what waited for the end of a pause.
    fn complete_kept(&mut self, id: ConnectionId, mut bytes: &[u8]) {
        let Some(connection) = self.connection(id) else { return };
        let mut kept = std::mem::take(&mut connection.input);
        if connection.phase == Phase::Live {
            loop {
                let missing = Decoder::missing(&kept).min(bytes.len());
                if missing == 0 {
                    break;
                }
                kept.extend_from_slice(&bytes[..missing]);
                bytes = &bytes[missing..];
            }
        } else {
            // CONNECT may take the connection to another shard, with all that was read.
            kept.extend_from_slice(std::mem::take(&mut bytes));
        }
        let decoder = connection.decoder;
        self.is_decoding = true;
        let is_incomplete = matches!(decoder.next_packet(&kept), Ok(None));
        self.is_decoding = false;
        if is_incomplete {
            if let Some(connection) = self.connection(id) {
                connection.input = kept;
            }
            return;
        }
        // They were counted when they came.
        self.metrics.bytes_received -= (kept.len() + bytes.len()) as u64;
        self.on_bytes(id, &kept);
        self.spare_inputs.put(kept);
        if !bytes.is_empty() {
            self.on_bytes(id, bytes);
        }
    }

    /// A packet before CONNACK. `bytes` is the packet as it came.
    fn on_early_packet(&mut self, id: ConnectionId, packet: &Packet<'_>, bytes: &[u8]) -> Flow {
        let phase = self.connection(id).map(|connection| connection.phase);
        match (packet, phase) {
            (Packet::Connect(connect), Some(Phase::Connecting)) => self.on_connect(id, connect, bytes),
            (Packet::Auth(auth), Some(Phase::Authenticating)) => self.on_auth(id, auth),
            // The client gives the exchange up.
            (Packet::Disconnect(_), Some(Phase::Authenticating)) => {
                self.end_connection(id, EndReason::ClientDisconnect, None);
                Flow::End
            }
            // A refusal before CONNACK is a CONNACK or nothing, never a DISCONNECT [MQTT-3.14.0-1].
            _ => self.refuse_connect(id, ReasonCode::ProtocolError),
        }
    }

    fn on_pingreq(&mut self, id: ConnectionId) -> Flow {
        self.metrics.packets_sent[13] += 1;
        self.write(id, |version, out| Packet::PingResp.encode(version, out));
        Flow::Continue
    }

    fn on_decode_error(&mut self, id: ConnectionId, error: &DecodeError) {
        let reason = error.reason();
        let Some(connection) = self.connection(id) else { return };
        if connection.phase == Phase::Live {
            let end = EndReason::from_code(reason);
            self.fail(id, end, reason);
            return;
        }
        match error.version() {
            _ if error.kind() == DecodeErrorKind::NotConnect => {
                self.end_connection(id, EndReason::ProtocolError, None)
            }
            // The peer said which MQTT it speaks: it gets its CONNACK.
            Some(version) => {
                connection.version = version;
                self.refuse_connect(id, reason);
            }
            None => self.end_connection(id, EndReason::from_code(reason), None),
        }
    }

    /// Ends a live connection for a fault of the client: DISCONNECT with the code (v5), close, will.
    pub(crate) fn fail(&mut self, id: ConnectionId, end: EndReason, code: ReasonCode) -> Flow {
        self.end_connection(id, end, Some(code));
        Flow::End
    }

    // ---- other shards ----

    /// An envelope from a lane, or from the control plane (`from` = `ShardId::MAX`).
    pub fn on_envelope(&mut self, from: ShardId, envelope: Envelope) {
        match envelope {
            Envelope::Messages(batch) => self.on_messages(from, batch),
            Envelope::Moved(moved) => self.on_moved(*moved),
            Envelope::RouteAdded { filter, revision } => {
                self.routes.add(&filter, from);
                self.owe_ack(from, revision);
            }
            Envelope::RouteRemoved { filter } => self.routes.remove(&filter, from),
            Envelope::RouteAcked { revision, retained } => self.on_route_acked(from, revision, retained),
            Envelope::GroupShare { filter, members, ready, revision } => {
                self.on_group_share(from, &filter, members, ready);
                self.owe_ack(from, revision);
            }
            Envelope::RetainedQuery(query) => self.on_retained_query(from, *query),
            Envelope::RetainedPage(page) => self.on_retained_page(from, *page),
            Envelope::Receipts(tickets) => tickets.into_iter().for_each(|ticket| self.wait_done(ticket - 1)),
            Envelope::AccessChanged(policy) => self.set_access(policy),
            Envelope::System { topic, payload } => self.publish_system(&topic, &payload),
            Envelope::Kick { client_id } => self.kick(&client_id),
        }
    }

    fn on_moved(&mut self, moved: MovedConnection) {
        let id = self.open_connection(moved.listener, moved.peer, moved.accepted_at);
        self.outputs.arrived.push((id, moved.socket));
        self.on_bytes(id, &moved.unread);
    }

    fn owe_ack(&mut self, to: ShardId, revision: u64) {
        let retained = self.retained_progress.routed;
        if self.acks_due[to as usize].retained != retained {
            // What we routed in between went by the earlier routes already: each ack has its own number.
            self.send_owed_ack(to);
        }
        let due = &mut self.acks_due[to as usize];
        *due = RouteAck { revision: revision.max(due.revision), retained };
    }

    fn send_owed_ack(&mut self, to: ShardId) {
        let RouteAck { revision, retained } = std::mem::take(&mut self.acks_due[to as usize]);
        if revision > 0 {
            self.send(to, Envelope::RouteAcked { revision, retained });
        }
    }

    /// Sends an envelope behind all messages gathered for that shard so far.
    pub(crate) fn send(&mut self, to: ShardId, envelope: Envelope) {
        self.close_batch(to);
        self.outputs.envelopes.push((to, envelope));
    }

    /// Makes the gathered messages an envelope.
    pub(crate) fn close_batch(&mut self, to: ShardId) {
        if self.batches[to as usize].count > 0 {
            let bytes = self.spare_buffers.take();
            let next = Batch { bytes, ..Batch::default() };
            let mut batch = std::mem::replace(&mut self.batches[to as usize], next);
            batch.retained = self.retained_progress.routed;
            self.metrics.lane_messages += batch.count as u64;
            self.metrics.lane_batches += 1;
            self.outputs.envelopes.push((to, Envelope::Messages(batch)));
        }
    }

    /// The other shards.
    pub(crate) fn peers(&self) -> impl Iterator<Item = ShardId> + use<> {
        let id = self.id;
        (0..self.config.shard_count).filter(move |peer| *peer != id)
    }

    // ---- shutdown ----

    /// Orderly stop: every client is told (0x8B) and closed, wills are published, nobody is accepted any more.
    pub fn begin_drain(&mut self) {
        self.is_draining = true;
        for slot in 0..self.connections.len() as u32 {
            if let Some(connection) = &self.connections[slot as usize] {
                let id = ConnectionId { slot, generation: connection.generation };
                self.end_connection(id, EndReason::ServerShutdown, Some(ReasonCode::ServerShuttingDown));
            }
        }
    }
}
