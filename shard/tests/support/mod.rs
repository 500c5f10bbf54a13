//! A node of pure shards for tests: sockets are byte queues, lanes are queues of envelopes, time is a number. By
//! default everything is delivered at once and in order; a simulation takes the steps itself. Each input is a turn of
//! its own unless the caller opened one (`open_turn`), as the event loop serves many inputs in a turn.
#![allow(dead_code)]

pub mod client;

use std::collections::VecDeque;
use std::net::SocketAddr;
use std::sync::Arc;

use shard::filter_index::TopicHasher;
use shard::{
    Append, AuthRequest, Config, ConnectionId, Envelope, MovedConnection, Outputs, Shard, ShardId, Time,
};

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
    pub sent: usize,
    /// Bytes to be written before the close.
    pub last: Option<Vec<u8>>,
    /// `sending` are the last bytes.
    pub is_closing: bool,
    /// Bytes that arrived at the client.
    pub to_client: Vec<u8>,
    /// The server has closed (all its bytes are in `to_client`).
    pub is_closed: bool,
    /// The client's end is gone.
    pub is_client_gone: bool,
    /// The client will write no more; the shard hears of it behind the last byte.
    pub is_finished: bool,
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
    /// Sockets of each shard by connection slot, with the generation they belong to.
    by_slot: Vec<Vec<(u32, SocketId)>>,
    /// Who took new output and who was closed by a shard, in order; kept only if somebody looks (`is_observed`).
    pub news: Vec<News>,
    pub is_observed: bool,
    turn: Option<ShardId>,
    /// Calls of a shard's `on_*` methods and empty turns.
    pub steps: u64,
    spare: Outputs,
    chunk: Vec<u8>,
}

/// What a turn did to a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum News {
    /// `Socket::sending` has a new buffer.
    Output(SocketId),
    /// The shard has forgotten the connection; its last bytes are in `Socket::sending` or `Socket::last`.
    Closed(SocketId),
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
            by_slot: vec![Vec::new(); count],
            news: Vec::new(),
            is_observed: false,
            turn: None,
            steps: 0,
            spare: Outputs::default(),
            chunk: Vec::new(),
            config,
        }
    }

    pub fn with_shards(count: u16) -> Node {
        Node::new(Config { shard_count: count, ..Config::default() })
    }

    // ---- turns ----

    /// Begins a turn that lasts over several inputs of one shard, until `close_turn`.
    pub fn open_turn(&mut self, shard: ShardId) {
        self.enter(shard);
        self.turn = Some(shard);
    }

    pub fn close_turn(&mut self) {
        let shard = self.turn.take().expect("a turn is open");
        self.leave(shard);
    }

    fn enter(&mut self, shard: ShardId) {
        self.steps += 1;
        if self.turn == Some(shard) {
            return;
        }
        debug_assert_eq!(self.turn, None, "one shard at a time");
        let at = shard as usize;
        self.shards[at].begin_turn(self.now);
        for to in 0..self.shards.len() {
            if to != at {
                self.flush_lane(at, to);
            }
        }
    }

    /// Pushes what waits, as far as there is room, and says so.
    fn flush_lane(&mut self, from: usize, to: usize) {
        let (lane, backlog) = (&mut self.lanes[from][to], &mut self.backlog[from][to]);
        while lane.len() < self.lane_capacity {
            let Some(envelope) = backlog.pop_front() else { break };
            lane.push_back(envelope);
        }
        let is_full = !backlog.is_empty();
        self.shards[from].set_lane_full(to as ShardId, is_full);
    }

    /// `end_turn`, then everything that the runtime would do with the outputs.
    fn leave(&mut self, shard: ShardId) {
        if self.turn == Some(shard) {
            return;
        }
        let at = shard as usize;
        self.shards[at].end_turn();
        let mut outputs = std::mem::replace(&mut self.shards[at].outputs, std::mem::take(&mut self.spare));
        // A slot that is given up here may belong to an arrival already: first those that are known.
        outputs.closing.retain_mut(|(connection, last)| !self.close(shard, *connection, last));
        let mut moves = std::mem::take(&mut outputs.moves);
        moves.retain_mut(|(connection, moved)| {
            let Some(socket) = self.socket_of(shard, *connection) else { return true };
            self.sockets[socket].connection = None;
            let envelope = Envelope::Moved(Box::new(MovedConnection {
                socket: socket as i32,
                unread: std::mem::take(&mut moved.unread),
                listener: moved.listener,
                peer: moved.peer,
                accepted_at: moved.accepted_at,
            }));
            self.backlog[at][moved.to as usize].push_back(envelope);
            false
        });
        let mut lost = Vec::new();
        for (connection, fd) in outputs.arrived.drain(..) {
            let socket = fd as SocketId;
            self.assign(shard, connection, socket);
            self.sockets[socket].shard = shard;
            self.sockets[socket].connection = Some(connection);
            // The slot may belong to a later arrival already.
            let mut is_closed = false;
            outputs.closing.retain_mut(|(closing, last)| {
                let is_it = *closing == connection;
                is_closed |= is_it && self.close(shard, connection, last);
                !is_it
            });
            if self.sockets[socket].is_client_gone && !is_closed {
                lost.push((socket, connection));
            }
        }
        outputs.closing.clear();
        for (connection, is_reading) in outputs.reading.drain(..) {
            if let Some(socket) = self.socket_of(shard, connection) {
                self.sockets[socket].is_reading = is_reading;
            }
        }
        for connection in outputs.dirty.drain(..) {
            let Some(socket) = self.socket_of(shard, connection) else { continue };
            if let Some(buffer) = self.shards[at].take_output(connection) {
                self.sockets[socket].sending = Some(buffer);
                self.tell(News::Output(socket));
            }
        }
        for (to, envelope) in outputs.envelopes.drain(..) {
            self.backlog[at][to as usize].push_back(envelope);
        }
        for (to, buffer) in outputs.emptied.drain(..) {
            if to != ShardId::MAX {
                self.shards[to as usize].recycle_buffer(buffer);
            }
        }
        self.appends[at].append(&mut outputs.appends);
        self.auth_requests.extend(outputs.auth_requests.drain(..).map(|request| (shard, request)));
        outputs.established.clear();
        outputs.moves = moves;
        outputs.moves.clear();
        self.spare = outputs;
        for to in 0..self.shards.len() {
            if to != at {
                self.flush_lane(at, to);
            }
        }
        if self.is_immediate
            && !self.is_storage_held
            && let Some(last) = self.appends[at].last()
        {
            let sequence = last.sequence;
            self.appends[at].clear();
            self.turn(shard, |core| core.on_stored(sequence));
        }
        for (socket, connection) in lost {
            // It died on the way.
            self.sockets[socket].connection = None;
            self.tell(News::Closed(socket));
            self.turn(shard, |core| core.on_closed(connection));
        }
    }

    /// Runs any change of a shard as a turn of its own.
    pub fn turn(&mut self, shard: ShardId, act: impl FnOnce(&mut Shard)) {
        self.enter(shard);
        act(&mut self.shards[shard as usize]);
        self.leave(shard);
    }

    /// A turn without input: timers and what was left over.
    pub fn tick(&mut self, shard: ShardId) {
        self.turn(shard, |_| ());
    }

    fn tell(&mut self, news: News) {
        if self.is_observed {
            self.news.push(news);
        }
    }

    fn assign(&mut self, shard: ShardId, connection: ConnectionId, socket: SocketId) {
        let slots = &mut self.by_slot[shard as usize];
        let slot = connection.slot as usize;
        if slots.len() <= slot {
            slots.resize(slot + 1, (0, SocketId::MAX));
        }
        slots[slot] = (connection.generation, socket);
    }

    fn socket_of(&self, shard: ShardId, connection: ConnectionId) -> Option<SocketId> {
        let &(generation, socket) = self.by_slot[shard as usize].get(connection.slot as usize)?;
        let is_current =
            generation == connection.generation && self.sockets.get(socket)?.connection == Some(connection);
        is_current.then_some(socket)
    }

    /// The shard has closed the connection; false if it is not known (yet).
    fn close(&mut self, shard: ShardId, connection: ConnectionId, last: &mut Vec<u8>) -> bool {
        let Some(socket) = self.socket_of(shard, connection) else { return false };
        let last = std::mem::take(last);
        let is_observed = self.is_observed;
        let state = &mut self.sockets[socket];
        state.connection = None;
        state.to_server.clear();
        if state.is_client_gone {
            state.last = is_observed.then_some(last);
            state.is_closed = true;
        } else if state.sending.is_some() {
            state.last = Some(last);
        } else if is_observed && !last.is_empty() {
            state.sending = Some(last);
            state.is_closing = true;
        } else {
            state.to_client.extend_from_slice(&last);
            state.is_closed = true;
        }
        self.tell(News::Closed(socket));
        true
    }

    // ---- sockets ----

    /// A client's TCP connection, accepted by the shard. None if it refuses.
    pub fn accept(&mut self, shard: ShardId) -> Option<SocketId> {
        let peer: SocketAddr = ([127, 0, 0, 1], 40_000).into();
        self.enter(shard);
        let connection = self.shards[shard as usize].on_accepted(0, peer);
        let socket = self.sockets.len();
        if let Some(connection) = connection {
            self.sockets.push(Socket {
                shard,
                connection: Some(connection),
                to_server: VecDeque::new(),
                sending: None,
                sent: 0,
                last: None,
                is_closing: false,
                to_client: Vec::new(),
                is_closed: false,
                is_client_gone: false,
                is_finished: false,
                is_reading: true,
                is_stalled: false,
            });
        }
        // Its slot may have been given up in this very turn.
        self.leave(shard);
        self.assign(shard, connection?, socket);
        Some(socket)
    }

    /// Bytes from the client; the node reads them when it runs.
    pub fn write(&mut self, socket: SocketId, bytes: &[u8]) {
        self.sockets[socket].to_server.extend(bytes);
    }

    /// Gives up to `len` of the waiting bytes to the shard; behind the last byte the end of the stream, if the client
    /// has finished. False if there was nothing to do.
    pub fn read_some(&mut self, socket: SocketId, len: usize) -> bool {
        let state = &mut self.sockets[socket];
        let (Some(connection), true) = (state.connection, state.is_reading) else { return false };
        let len = len.min(state.to_server.len());
        let shard = state.shard;
        if len == 0 {
            if !state.is_finished {
                return false;
            }
            self.lose(socket);
            return true;
        }
        let mut chunk = std::mem::take(&mut self.chunk);
        chunk.clear();
        let (first, second) = state.to_server.as_slices();
        let from_first = len.min(first.len());
        chunk.extend_from_slice(&first[..from_first]);
        chunk.extend_from_slice(&second[..len - from_first]);
        state.to_server.drain(..len);
        self.enter(shard);
        self.shards[shard as usize].on_bytes(connection, &chunk);
        self.leave(shard);
        self.chunk = chunk;
        true
    }

    /// The client's end is gone; what it wrote and nobody read is lost.
    pub fn reset(&mut self, socket: SocketId) {
        let state = &mut self.sockets[socket];
        state.is_client_gone = true;
        state.to_server.clear();
        self.lose(socket);
    }

    /// The client has written its last byte (a half-close): the shard hears of it behind what it has not read yet.
    pub fn finish(&mut self, socket: SocketId) {
        self.sockets[socket].is_finished = true;
    }

    fn lose(&mut self, socket: SocketId) {
        let state = &mut self.sockets[socket];
        (state.sending, state.last) = (None, None);
        let shard = state.shard;
        if let Some(connection) = state.connection.take() {
            state.is_client_gone = true;
            state.to_server.clear();
            self.enter(shard);
            self.tell(News::Closed(socket));
            self.shards[shard as usize].on_closed(connection);
            self.leave(shard);
        }
    }

    /// The network takes up to `len` bytes of what the shard is writing.
    pub fn send_some(&mut self, socket: SocketId, len: usize) -> bool {
        let is_observed = self.is_observed;
        let state = &mut self.sockets[socket];
        let Some(buffer) = &state.sending else { return false };
        let end = state.sent.saturating_add(len).min(buffer.len());
        if !state.is_client_gone && !is_observed {
            state.to_client.extend_from_slice(&buffer[state.sent..end]);
        }
        state.sent = end;
        if end < buffer.len() {
            return true;
        }
        let buffer = state.sending.take().expect("just seen");
        state.sent = 0;
        let (shard, connection) = (state.shard, state.connection);
        if let Some(last) = state.last.take() {
            if last.is_empty() || !is_observed {
                state.to_client.extend_from_slice(&last);
                state.is_closed = true;
            } else {
                state.sending = Some(last);
                state.is_closing = true;
            }
        } else if state.is_closing {
            state.is_closed = true;
        }
        self.shards[shard as usize].recycle_buffer(buffer);
        if let Some(connection) = connection {
            self.enter(shard);
            self.shards[shard as usize].on_sent(connection);
            self.leave(shard);
        }
        true
    }

    // ---- what else comes to a shard ----

    /// Hands the oldest envelope of a lane to its shard.
    pub fn deliver_one(&mut self, from: ShardId, to: ShardId) -> bool {
        let Some(envelope) = self.lanes[from as usize][to as usize].pop_front() else { return false };
        self.enter(to);
        self.shards[to as usize].on_envelope(from, envelope);
        self.leave(to);
        true
    }

    /// From the control plane.
    pub fn control(&mut self, shard: ShardId, envelope: Envelope) {
        self.turn(shard, |core| core.on_envelope(ShardId::MAX, envelope));
    }

    /// An envelope waits for room that is there.
    pub fn is_lane_awaited(&self, from: ShardId) -> bool {
        let from = from as usize;
        self.backlog[from]
            .iter()
            .zip(&self.lanes[from])
            .any(|(backlog, lane)| !backlog.is_empty() && lane.len() < self.lane_capacity)
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
                let is_due = self.shards[from as usize].next_deadline().is_some_and(|at| at <= self.now);
                if is_due || self.is_lane_awaited(from) {
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
    /// is left or `is_enough`. Stalled sockets and held lanes stay as they are.
    pub fn run_shuffled(&mut self, seed: u64, mut is_enough: impl FnMut(&Node) -> bool) {
        enum Step {
            Read(SocketId),
            Send(SocketId),
            Deliver(ShardId, ShardId),
            Push(ShardId),
        }
        let mut random = Random(seed);
        let mut steps = vec![];
        while !is_enough(self) {
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
            steps.extend((0..shards).filter(|from| self.is_lane_awaited(*from)).map(Step::Push));
            if steps.is_empty() {
                return;
            }
            let len = 1 + random.below(2000);
            match steps[random.below(steps.len())] {
                Step::Read(socket) => drop(self.read_some(socket, len)),
                Step::Send(socket) => drop(self.send_some(socket, len)),
                Step::Deliver(from, to) => drop(self.deliver_one(from, to)),
                Step::Push(from) => self.tick(from),
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
