//! A node of pure shards for tests: sockets are byte queues, lanes are queues of envelopes, time is a number. By
//! default everything is delivered at once and in order; a simulation takes the steps itself.
#![allow(dead_code)]

pub mod client;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use shard::filter_index::TopicHasher;
use shard::{Append, AuthRequest, Config, ConnectionId, Envelope, MovedConnection, Shard, ShardId, Time};

/// A seeded sequence (xorshift64*), so that a run can be repeated.
#[derive(Clone, Debug)]
pub struct Random(pub u64);

impl Random {
    pub fn next(&mut self) -> u64 {
        let mut x = self.0.wrapping_add(0x9E37_79B9_7F4A_7C15);
        x ^= x >> 12;
        x ^= x << 25;
        x ^= x >> 27;
        self.0 = x;
        x.wrapping_mul(0x2545_F491_4F6C_DD1D) >> 16
    }

    /// A number from 0 to `end - 1`.
    pub fn below(&mut self, end: usize) -> usize {
        (self.next() % end as u64) as usize
    }
}

/// Names a socket of the node, also across a move.
pub type SocketId = usize;

#[derive(Debug)]
pub struct Socket {
    pub shard: ShardId,
    /// None while it moves and after its end.
    pub connection: Option<ConnectionId>,
    /// Bytes from the client that no shard has read.
    pub to_server: VecDeque<u8>,
    /// A buffer that the shard is writing.
    pub sending: Option<Vec<u8>>,
    sent: usize,
    /// Bytes to be written before the close.
    last: Option<Vec<u8>>,
    /// Bytes that arrived at the client.
    pub to_client: Vec<u8>,
    /// The server has closed (all its bytes are in `to_client`).
    pub is_closed: bool,
    /// The client's end is gone.
    pub is_client_gone: bool,
    pub is_reading: bool,
    /// The client takes no bytes; `run` leaves them where they are.
    pub is_stalled: bool,
}

pub struct Node {
    pub shards: Vec<Shard>,
    pub config: Arc<Config>,
    pub now: Time,
    pub sockets: Vec<Socket>,
    /// By (from, to).
    pub lanes: Vec<Vec<VecDeque<Envelope>>>,
    /// Envelopes that found their lane full.
    pub backlog: Vec<Vec<VecDeque<Envelope>>>,
    pub lane_capacity: usize,
    /// Sends complete and journal writes are durable as soon as they are asked for.
    pub is_immediate: bool,
    /// `run` leaves envelopes in their lanes.
    pub are_lanes_held: bool,
    /// Journal writes stay outstanding.
    pub is_storage_held: bool,
    pub appends: Vec<Vec<Append>>,
    pub auth_requests: Vec<(ShardId, AuthRequest)>,
    pub by_connection: Vec<std::collections::HashMap<ConnectionId, SocketId>>,
}

impl Node {
    pub fn new(config: Config) -> Node {
        let count = config.shard_count as usize;
        let config = Arc::new(config);
        let now = 1_000_000;
        let lanes = || (0..count).map(|_| (0..count).map(|_| VecDeque::new()).collect()).collect();
        Node {
            shards: (0..count).map(|id| Shard::new(id as ShardId, config.clone(), now)).collect(),
            now,
            sockets: Vec::new(),
            lanes: lanes(),
            backlog: lanes(),
            lane_capacity: usize::MAX,
            is_immediate: true,
            are_lanes_held: false,
            is_storage_held: false,
            appends: vec![Vec::new(); count],
            auth_requests: Vec::new(),
            by_connection: vec![Default::default(); count],
            config,
        }
    }

    pub fn with_shards(count: u16) -> Node {
        Node::new(Config { shard_count: count, ..Config::default() })
    }

    /// A client's TCP connection, accepted by the shard. None if it refuses.
    pub fn accept(&mut self, shard: ShardId) -> Option<SocketId> {
        let peer: SocketAddr = ([127, 0, 0, 1], 40_000).into();
        self.shards[shard as usize].begin_turn(self.now);
        let connection = self.shards[shard as usize].on_accepted(0, peer)?;
        let socket = self.sockets.len();
        self.sockets.push(Socket {
            shard,
            connection: Some(connection),
            to_server: VecDeque::new(),
            sending: None,
            sent: 0,
            last: None,
            to_client: Vec::new(),
            is_closed: false,
            is_client_gone: false,
            is_reading: true,
            is_stalled: false,
        });
        self.by_connection[shard as usize].insert(connection, socket);
        self.finish_turn(shard);
        Some(socket)
    }

    /// Bytes from the client; the node reads them when it runs.
    pub fn write(&mut self, socket: SocketId, bytes: &[u8]) {
        self.sockets[socket].to_server.extend(bytes);
    }

    /// Gives up to `len` of the waiting bytes to the shard.
    pub fn read_some(&mut self, socket: SocketId, len: usize) -> bool {
        let state = &mut self.sockets[socket];
        let (Some(connection), true) = (state.connection, state.is_reading) else { return false };
        let len = len.min(state.to_server.len());
        if len == 0 {
            return false;
        }
        let bytes: Vec<u8> = state.to_server.drain(..len).collect();
        let shard = state.shard;
        self.shards[shard as usize].begin_turn(self.now);
        self.shards[shard as usize].on_bytes(connection, &bytes);
        self.finish_turn(shard);
        true
    }

    /// The client's end is gone; what it wrote and nobody read is lost.
    pub fn reset(&mut self, socket: SocketId) {
        let state = &mut self.sockets[socket];
        state.is_client_gone = true;
        state.to_server.clear();
        state.sending = None;
        let shard = state.shard;
        if let Some(connection) = state.connection.take() {
            self.by_connection[shard as usize].remove(&connection);
            self.shards[shard as usize].begin_turn(self.now);
            self.shards[shard as usize].on_closed(connection);
            self.finish_turn(shard);
        }
    }

    /// The network takes up to `len` bytes of what the shard is writing.
    pub fn send_some(&mut self, socket: SocketId, len: usize) -> bool {
        let state = &mut self.sockets[socket];
        let Some(buffer) = &state.sending else { return false };
        let end = (state.sent + len).min(buffer.len());
        if !state.is_client_gone {
            state.to_client.extend_from_slice(&buffer[state.sent..end]);
        }
        state.sent = end;
        if end < buffer.len() {
            return true;
        }
        let buffer = state.sending.take().expect("just seen");
        state.sent = 0;
        let (shard, connection) = (state.shard, state.connection);
        let core = &mut self.shards[shard as usize];
        core.recycle_buffer(buffer);
        if let Some(last) = state.last.take() {
            if !state.is_client_gone {
                state.to_client.extend_from_slice(&last);
            }
            state.is_closed = true;
        } else if let Some(connection) = connection {
            core.begin_turn(self.now);
            core.on_sent(connection);
            self.finish_turn(shard);
        }
        true
    }

    /// Hands the oldest envelope of a lane to its shard.
    pub fn deliver_one(&mut self, from: ShardId, to: ShardId) -> bool {
        let Some(envelope) = self.lanes[from as usize][to as usize].pop_front() else { return false };
        self.shards[to as usize].begin_turn(self.now);
        self.shards[to as usize].on_envelope(from, envelope);
        self.finish_turn(to);
        self.flush_lane(from, to);
        true
    }

    /// From the control plane.
    pub fn control(&mut self, shard: ShardId, envelope: Envelope) {
        self.shards[shard as usize].begin_turn(self.now);
        self.shards[shard as usize].on_envelope(ShardId::MAX, envelope);
        self.finish_turn(shard);
    }

    /// A turn without input: timers and what was left over.
    pub fn tick(&mut self, shard: ShardId) {
        self.shards[shard as usize].begin_turn(self.now);
        self.finish_turn(shard);
    }

    /// Runs any change of a shard as a turn of its own.
    pub fn turn(&mut self, shard: ShardId, act: impl FnOnce(&mut Shard)) {
        self.shards[shard as usize].begin_turn(self.now);
        act(&mut self.shards[shard as usize]);
        self.finish_turn(shard);
    }

    fn flush_lane(&mut self, from: ShardId, to: ShardId) {
        let (f, t) = (from as usize, to as usize);
        while self.lanes[f][t].len() < self.lane_capacity {
            let Some(envelope) = self.backlog[f][t].pop_front() else { break };
            self.lanes[f][t].push_back(envelope);
        }
        self.shards[f].set_lane_full(to, !self.backlog[f][t].is_empty());
    }

    /// `end_turn`, then everything that the runtime would do with the outputs.
    fn finish_turn(&mut self, shard: ShardId) {
        let at = shard as usize;
        self.shards[at].end_turn();
        let outputs = std::mem::take(&mut self.shards[at].outputs);
        let mut dead = vec![];
        for (connection, fd) in outputs.arrived {
            let socket = fd as SocketId;
            self.by_connection[at].insert(connection, socket);
            self.sockets[socket].shard = shard;
            self.sockets[socket].connection = Some(connection);
            if self.sockets[socket].is_client_gone {
                // It died on the way.
                self.sockets[socket].connection = None;
                self.by_connection[at].remove(&connection);
                dead.push(connection);
            }
        }
        for (connection, reading) in outputs.reading {
            if let Some(socket) = self.by_connection[at].get(&connection) {
                self.sockets[*socket].is_reading = reading;
            }
        }
        for connection in outputs.dirty {
            let Some(socket) = self.by_connection[at].get(&connection).copied() else { continue };
            if self.sockets[socket].sending.is_none()
                && let Some(buffer) = self.shards[at].take_output(connection)
            {
                self.sockets[socket].sending = Some(buffer);
            }
        }
        for (connection, moved) in outputs.moves {
            let socket = self.by_connection[at].remove(&connection).expect("a moved connection has a socket");
            self.sockets[socket].connection = None;
            let envelope = Envelope::Moved(Box::new(MovedConnection {
                socket: socket as i32,
                unread: moved.unread,
                listener: moved.listener,
                peer: moved.peer,
                accepted_at: moved.accepted_at,
            }));
            self.backlog[at][moved.to as usize].push_back(envelope);
        }
        for (connection, last) in outputs.closing {
            let Some(socket) = self.by_connection[at].remove(&connection) else { continue };
            let state = &mut self.sockets[socket];
            state.connection = None;
            state.to_server.clear();
            if state.sending.is_some() {
                state.last = Some(last);
            } else {
                if !state.is_client_gone {
                    state.to_client.extend_from_slice(&last);
                }
                state.is_closed = true;
            }
        }
        for (to, envelope) in outputs.envelopes {
            self.backlog[at][to as usize].push_back(envelope);
        }
        for (to, buffer) in outputs.emptied {
            if to != ShardId::MAX {
                self.shards[to as usize].recycle_buffer(buffer);
            }
        }
        self.appends[at].extend(outputs.appends);
        self.auth_requests.extend(outputs.auth_requests.into_iter().map(|request| (shard, request)));
        for to in 0..self.shards.len() {
            self.flush_lane(shard, to as ShardId);
        }
        if self.is_immediate
            && !self.is_storage_held
            && let Some(last) = self.appends[at].last()
        {
            let sequence = last.sequence;
            self.appends[at].clear();
            self.turn(shard, |core| core.on_stored(sequence));
        }
        for connection in dead {
            self.turn(shard, |core| core.on_closed(connection));
        }
    }

    /// Runs until nothing is left to do at this time.
    pub fn run(&mut self) {
        loop {
            let mut has_worked = false;
            for socket in 0..self.sockets.len() {
                has_worked |= self.read_some(socket, usize::MAX);
                if self.is_immediate && !self.sockets[socket].is_stalled {
                    has_worked |= self.send_some(socket, usize::MAX);
                }
            }
            for from in 0..self.shards.len() as ShardId {
                for to in 0..self.shards.len() as ShardId {
                    while !self.are_lanes_held && self.deliver_one(from, to) {
                        has_worked = true;
                    }
                }
                if self.shards[from as usize].next_deadline().is_some_and(|at| at <= self.now) {
                    self.tick(from);
                    has_worked = true;
                }
            }
            if !has_worked {
                return;
            }
        }
    }

    /// The shard that keeps the retained message of a topic.
    pub fn topic_owner(&self, topic: &str) -> ShardId {
        let hash = TopicHasher::with_seed(self.config.hash_seed).hash(topic);
        ((hash >> 32) % self.shards.len() as u64) as ShardId
    }

    /// Reads, writes and envelopes, one at a time, in an order and in chunks that the seed decides, until none of them
    /// is left. Stalled sockets and held lanes stay as they are.
    pub fn run_shuffled(&mut self, seed: u64) {
        enum Step {
            Read(SocketId),
            Send(SocketId),
            Deliver(ShardId, ShardId),
        }
        let mut random = Random(seed);
        let mut steps = vec![];
        loop {
            for (id, socket) in self.sockets.iter().enumerate() {
                if socket.connection.is_some() && socket.is_reading && !socket.to_server.is_empty() {
                    steps.push(Step::Read(id));
                }
                if socket.sending.is_some() && !socket.is_stalled {
                    steps.push(Step::Send(id));
                }
            }
            let shards = self.shards.len() as ShardId;
            for (from, to) in (0..shards).flat_map(|from| (0..shards).map(move |to| (from, to))) {
                if !self.are_lanes_held && !self.lanes[from as usize][to as usize].is_empty() {
                    steps.push(Step::Deliver(from, to));
                }
            }
            if steps.is_empty() {
                return;
            }
            let len = 1 + random.below(2000);
            match steps[random.below(steps.len())] {
                Step::Read(socket) => drop(self.read_some(socket, len)),
                Step::Send(socket) => drop(self.send_some(socket, len)),
                Step::Deliver(from, to) => drop(self.deliver_one(from, to)),
            }
            steps.clear();
        }
    }

    /// Lets the time pass, stopping at each deadline.
    pub fn advance(&mut self, ms: Time) {
        let end = self.now + ms;
        self.run();
        while self.now < end {
            let next = self.shards.iter().filter_map(Shard::next_deadline).min().unwrap_or(end);
            self.now = next.clamp(self.now + 1, end);
            for shard in 0..self.shards.len() as ShardId {
                self.tick(shard);
            }
            self.run();
        }
    }

    /// Sum of a figure over the shards.
    pub fn sum(&mut self, figure: impl Fn(&shard::Metrics) -> u64) -> u64 {
        self.shards.iter_mut().map(|shard| figure(shard.metrics())).sum()
    }
}
