//! One shard's event loop: sockets on one side, lanes on the other, the core in the middle. It owns the sockets of its
//! shard, from accept (or arrival from another shard) to close, and drives the core turn by turn:
//!
//! completions and envelopes in -> `Shard::end_turn` -> outputs out -> one system call that submits what was queued
//! and fetches what came -> next turn. Without work it looks around for `busy_poll_us`, then sleeps until the ring, a
//! neighbour, the control plane or a deadline wakes it.
//!
//! Invariants: a descriptor is closed only when no request on it is under way; each socket has at most one receive and
//! one send under way; the core's slot of a socket may be taken over by a successor in the same turn, so sockets have
//! a slab of their own and `by_slot` points to the present one.

use std::collections::VecDeque;
use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use glommio::io::BufferedFile;
use socket2::SockRef;

use super::RuntimeOptions;
use super::mesh::{ControlRequest, Port, Stop, close_moved};
use super::ring::{Completion, GENERATION_MASK, Kind, Ring, Token};
use super::sys;
use crate::chunked::ChunkedVec;
use crate::{
    Config, ConnectionId, Envelope, MetricsSnapshot, Move, MovedConnection, Shard, ShardId, TURN_BOUNDS_NS,
    Time,
};

/// Envelopes served from each lane, and requests of the control plane, in one turn.
const ENVELOPES_PER_TURN: usize = 64;
const CONTROL_PER_TURN: usize = 16;
/// A closing connection's last bytes have to be taken within this time,
const LAST_BYTES_MS: Time = 5_000;
/// and what the peer still sends is discarded for so long, or the kernel would answer it with a reset that destroys
/// our last bytes on their way.
const LINGER_MS: Time = 1_000;
/// Pause of accepting when descriptors have run out.
const ACCEPT_PAUSE_MS: Time = 100;
const ACCEPT_WARNING_EVERY_MS: Time = 1_000;
/// Most descriptors that `files_reserved` keeps free.
const DESCRIPTORS_RESERVED_MAX: u64 = 256;
/// Wait for cancelled requests at the end.
const QUIESCE: Duration = Duration::from_secs(1);
const NONE: u32 = u32::MAX;

/// Descriptors, of so many that the process may have, that connections do not get: for logs, files and the control plane.
pub fn files_reserved(limit: u64) -> u64 {
    (limit / 8).min(DESCRIPTORS_RESERVED_MAX)
}

/// What is under way on the receiving side of a socket.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Receive {
    No,
    Once,
    Multishot,
}

#[derive(Debug)]
enum State {
    /// The core knows it.
    Open,
    /// Goes to another shard as soon as no request is under way.
    Moving(ShardId, Box<MovedConnection>),
    /// The core has forgotten it; these bytes are still to be written, then the writing side is shut.
    Flushing(Vec<u8>),
    /// Input is discarded until the peer's end of stream.
    Lingering,
    /// To be closed as soon as no request is under way.
    Ending,
    /// The slot is free.
    Free,
}

struct Socket {
    descriptor: Option<OwnedFd>,
    state: State,
    id: ConnectionId,
    generation: u32,
    receive: Receive,
    is_cancelling: bool,
    is_sending: bool,
    /// CONNECT was served: a multishot receive pays.
    is_established: bool,
    /// False under backpressure.
    is_wanted: bool,
    /// The peer's end of stream was seen.
    is_ended: bool,
}

struct Listener {
    descriptor: Option<OwnedFd>,
    is_accepting: bool,
    is_cancelling: bool,
}

/// Figures of the loop itself.
#[derive(Default)]
struct Figures {
    turns: u64,
    turn_counts: [u64; TURN_BOUNDS_NS.len() + 1],
    busy_ns: u64,
    turn_max_ns: u64,
}

pub(super) struct EventLoop {
    id: ShardId,
    shard: Shard,
    ring: Ring,
    port: Port,
    bell: BufferedFile,
    sockets: ChunkedVec<Socket>,
    free: Vec<u32>,
    /// The core's slots -> sockets.
    by_slot: Vec<u32>,
    listeners: Vec<Listener>,
    /// Sockets that may need a receive at the end of the turn.
    to_receive: Vec<u32>,
    /// Sockets whose peer ended, with their generation; closed after the outputs, which may still have last bytes for
    /// them, or may have closed them and given their place to a successor.
    ended: Vec<(u32, u32)>,
    /// Accepted in this turn: listener, socket.
    accepted: Vec<(u16, OwnedFd)>,
    /// Connections of other shards, served in the next turn.
    arriving: Vec<(ShardId, Envelope)>,
    completions: Vec<Completion>,
    /// (when, socket, generation), in order of time because the waits are constant.
    flush_deadlines: VecDeque<(Time, u32, u32)>,
    linger_deadlines: VecDeque<(Time, u32, u32)>,
    accept_again_at: Option<Time>,
    accept_warned_at: Option<Time>,
    descriptor_limit: RawFd,
    stop: Stop,
    drain_until: Option<Time>,
    drain_timeout_ms: Time,
    origin: Instant,
    started: Instant,
    /// Beginning of this turn: the end of the one before, or the moment of waking.
    turn_began: Instant,
    now: Time,
    busy_poll: Duration,
    figures: Figures,
}

impl EventLoop {
    /// Must run on the shard's thread, inside its executor.
    pub fn new(
        id: ShardId,
        options: &RuntimeOptions,
        listeners: Vec<OwnedFd>,
        config: Arc<Config>,
        port: Port,
    ) -> io::Result<EventLoop> {
        let bell = port.mesh().bell(id as usize);
        let ring = Ring::new(bell)?;
        let bell = sys::executor_file(bell.try_clone()?);
        let started = Instant::now();
        let now = (started - options.clock_origin).as_millis() as Time;
        let limit = sys::raise_limit(libc::RLIMIT_NOFILE)?;
        let reserved = files_reserved(limit);
        let listener =
            |descriptor| Listener { descriptor: Some(descriptor), is_accepting: false, is_cancelling: false };
        let mut event_loop = EventLoop {
            id,
            drain_timeout_ms: config.limits.drain_timeout_ms,
            shard: Shard::new(id, config, now),
            ring,
            port,
            bell,
            sockets: ChunkedVec::new(),
            free: Vec::new(),
            by_slot: Vec::new(),
            listeners: listeners.into_iter().map(listener).collect(),
            to_receive: Vec::new(),
            ended: Vec::new(),
            accepted: Vec::new(),
            arriving: Vec::new(),
            completions: Vec::new(),
            flush_deadlines: VecDeque::new(),
            linger_deadlines: VecDeque::new(),
            accept_again_at: None,
            accept_warned_at: None,
            descriptor_limit: (limit - reserved).min(RawFd::MAX as u64) as RawFd,
            stop: Stop::No,
            drain_until: None,
            origin: options.clock_origin,
            started,
            turn_began: started,
            now,
            busy_poll: Duration::from_micros(u64::from(options.busy_poll_us)),
            figures: Figures::default(),
        };
        event_loop.accept_on_all();
        Ok(event_loop)
    }

    pub async fn run(mut self) -> io::Result<()> {
        while !self.is_over() {
            self.ring.reap(&mut self.completions)?;
            let is_busy = self.turn();
            if is_busy || self.ring.has_requests() {
                continue;
            }
            if self.prepare_sleep()? {
                // The end of the sleep is known by the count alone; it was read and so reset.
                if let Err(error) = self.bell.read_at(0, 8).await {
                    return Err(io::Error::other(error.to_string()));
                }
                self.port.unpark();
                self.ring.on_awake();
                self.turn_began = Instant::now();
            }
        }
        self.wind_up();
        let _ = self.bell.close().await;
        Ok(())
    }

    // ---- the turn ----

    /// Everything that came is served, everything that the core asks for is queued. False: there was nothing to do.
    fn turn(&mut self) -> bool {
        self.now = (self.turn_began - self.origin).as_millis() as Time;
        self.shard.begin_turn(self.now);
        self.obey_stop();
        self.port.send_backlogs();
        self.tell_room();

        let mut work = self.completions.len();
        // First what other shards have sent: whatever their clients were told, and did next, comes after it. But a
        // connection that arrives comes after what its client wrote on an earlier one, which the next reap has.
        let mut arriving = std::mem::take(&mut self.arriving);
        work += arriving.len() + self.serve_envelopes();
        self.serve_completions();
        for (from, envelope) in arriving.drain(..) {
            self.shard.on_envelope(from, envelope);
        }
        work += self.serve_control();
        self.shard.end_turn();
        work += self.serve_outputs();
        work += self.close_ended();
        self.serve_deadlines();
        work += self.take_accepted();
        self.start_receives();
        self.ring.publish_released();
        self.tell_room();
        self.port.ring_bells();

        self.account(work > 0);
        work > 0
    }

    /// The one look at the clock in a turn: its end is the beginning of the next.
    fn account(&mut self, is_busy: bool) {
        let end = Instant::now();
        if is_busy {
            let spent = (end - self.turn_began).as_nanos() as u64;
            self.figures.turns += 1;
            self.figures.turn_counts[TURN_BOUNDS_NS.partition_point(|bound| *bound < spent)] += 1;
            self.figures.busy_ns += spent;
            self.figures.turn_max_ns = self.figures.turn_max_ns.max(spent);
        }
        self.turn_began = end;
    }

    fn tell_room(&mut self) {
        let shard = &mut self.shard;
        self.port.take_room_changes(|to, is_full| shard.set_lane_full(to, is_full));
    }

    fn serve_completions(&mut self) {
        let mut completions = std::mem::take(&mut self.completions);
        for completion in completions.drain(..) {
            match completion.token.kind {
                Kind::Receive => self.on_received(completion),
                Kind::Send => self.on_sent(completion),
                Kind::Accept => self.on_accept(completion),
                Kind::Cancel | Kind::Timer => {}
            }
        }
        self.completions = completions;
    }

    fn serve_envelopes(&mut self) -> usize {
        let (port, shard, is_stopping) = (&mut self.port, &mut self.shard, self.stop != Stop::No);
        let arriving = &mut self.arriving;
        port.take_returned(|buffer| shard.recycle_buffer(buffer));
        port.receive(ENVELOPES_PER_TURN, |from, envelope| match envelope {
            Envelope::Moved(_) if is_stopping => close_moved(&envelope),
            Envelope::Moved(_) => arriving.push((from, envelope)),
            _ => shard.on_envelope(from, envelope),
        })
    }

    fn serve_control(&mut self) -> usize {
        for served in 0..CONTROL_PER_TURN {
            match self.port.take_control() {
                Some(ControlRequest::Envelope(envelope)) => self.shard.on_envelope(ShardId::MAX, envelope),
                Some(ControlRequest::Snapshot(answer)) => {
                    let snapshot = self.snapshot();
                    // Nobody may be waiting any more.
                    let _ = answer.try_send((self.id, snapshot));
                }
                None => return served,
            }
        }
        CONTROL_PER_TURN
    }

    fn snapshot(&mut self) -> MetricsSnapshot {
        MetricsSnapshot {
            metrics: self.shard.metrics().clone(),
            busy_ns: self.figures.busy_ns,
            elapsed_ns: (self.turn_began - self.started).as_nanos() as u64,
            turns: self.figures.turns,
            turn_counts: self.figures.turn_counts,
            ring_enters: self.ring.counters.enters,
            ring_sqes: self.ring.counters.sqes,
            turn_max_ns: std::mem::take(&mut self.figures.turn_max_ns),
            lane_depths: self.port.depths(),
            doorbells: self.port.rung_count(),
        }
    }

    /// The lists are swapped out and in so that they keep their memory.
    fn serve_outputs(&mut self) -> usize {
        let outputs = &mut self.shard.outputs;
        let work =
            outputs.dirty.len() + outputs.closing.len() + outputs.moves.len() + outputs.envelopes.len();

        let mut arrived = std::mem::take(&mut self.shard.outputs.arrived);
        let mut closing = std::mem::take(&mut self.shard.outputs.closing);
        let mut moves = std::mem::take(&mut self.shard.outputs.moves);
        if !arrived.is_empty() {
            // A slot that is given up here may belong to an arrival already: first those that are known.
            closing.retain_mut(|(id, bytes)| !self.on_closing(*id, bytes));
            moves.retain_mut(|(id, moved)| !self.on_move(*id, moved));
        }
        for (id, descriptor) in arrived.drain(..) {
            let Some(descriptor) = sys::adopt(descriptor) else { continue };
            self.open(id, descriptor);
            closing.retain_mut(|(closing, bytes)| *closing != id || !self.on_closing(id, bytes));
        }
        self.shard.outputs.arrived = arrived;

        let mut established = std::mem::take(&mut self.shard.outputs.established);
        for id in established.drain(..) {
            if let Some(index) = self.find(id) {
                self.sockets[index].is_established = true;
            }
        }
        self.shard.outputs.established = established;

        let mut reading = std::mem::take(&mut self.shard.outputs.reading);
        for (id, is_wanted) in reading.drain(..) {
            self.set_wanted(id, is_wanted);
        }
        self.shard.outputs.reading = reading;

        closing.retain_mut(|(id, bytes)| !self.on_closing(*id, bytes));
        closing.clear();
        self.shard.outputs.closing = closing;
        moves.retain_mut(|(id, moved)| !self.on_move(*id, moved));
        moves.clear();
        self.shard.outputs.moves = moves;

        let mut dirty = std::mem::take(&mut self.shard.outputs.dirty);
        for id in dirty.drain(..) {
            self.send_output(id);
        }
        self.shard.outputs.dirty = dirty;

        let mut envelopes = std::mem::take(&mut self.shard.outputs.envelopes);
        envelopes.drain(..).for_each(|(to, envelope)| self.port.send(to, envelope));
        self.shard.outputs.envelopes = envelopes;
        let mut emptied = std::mem::take(&mut self.shard.outputs.emptied);
        emptied.drain(..).for_each(|(to, buffer)| self.port.return_buffer(to, buffer));
        self.shard.outputs.emptied = emptied;
        work
    }

    // ---- sockets ----

    fn find(&self, id: ConnectionId) -> Option<usize> {
        let index = *self.by_slot.get(id.slot as usize)? as usize;
        self.sockets.get(index).filter(|socket| socket.id == id && matches!(socket.state, State::Open))?;
        Some(index)
    }

    fn open(&mut self, id: ConnectionId, descriptor: OwnedFd) -> usize {
        let index = self.free.pop().unwrap_or_else(|| {
            self.sockets.push(Socket {
                descriptor: None,
                state: State::Free,
                id,
                generation: 0,
                receive: Receive::No,
                is_cancelling: false,
                is_sending: false,
                is_established: false,
                is_wanted: true,
                is_ended: false,
            });
            (self.sockets.len() - 1) as u32
        });
        let socket = &mut self.sockets[index as usize];
        *socket = Socket {
            descriptor: Some(descriptor),
            state: State::Open,
            id,
            generation: socket.generation.wrapping_add(1) & GENERATION_MASK,
            receive: Receive::No,
            is_cancelling: false,
            is_sending: false,
            is_established: false,
            is_wanted: true,
            is_ended: false,
        };
        let slot = id.slot as usize;
        if self.by_slot.len() <= slot {
            self.by_slot.resize(slot + 1, NONE);
        }
        self.by_slot[slot] = index;
        self.to_receive.push(index);
        index as usize
    }

    fn open_count(&self) -> usize {
        self.sockets.len() - self.free.len()
    }

    fn token(&self, kind: Kind, index: usize) -> Token {
        Token::new(kind, self.sockets[index].generation, index as u32)
    }

    /// The socket that a completion belongs to. A stale one cannot come, because slots are kept until the last
    /// completion; should it come, it is ignored.
    fn of(&self, token: Token) -> Option<usize> {
        let index = token.index as usize;
        self.sockets.get(index).filter(|socket| socket.generation == token.generation)?;
        Some(index)
    }

    fn on_received(&mut self, completion: Completion) {
        if let Some(index) = self.of(completion.token) {
            if !completion.has_more {
                self.sockets[index].receive = Receive::No;
                self.sockets[index].is_cancelling = false;
                self.to_receive.push(index as u32);
            }
            match (completion.result, completion.buffer) {
                (1.., Some(buffer)) => {
                    let bytes = self.ring.bytes(buffer, completion.result as usize);
                    let socket = &mut self.sockets[index];
                    match &mut socket.state {
                        State::Open => self.shard.on_bytes(socket.id, bytes),
                        State::Moving(_, moved) => moved.unread.extend_from_slice(bytes),
                        State::Flushing(_) | State::Lingering | State::Ending | State::Free => {}
                    }
                }
                (0, _) => self.on_end(index),
                // Out of buffers for a moment, or cancelled by us: to be received again if it is wanted.
                (error, _)
                    if matches!(-error, libc::ENOBUFS | libc::ECANCELED | libc::EINTR | libc::EAGAIN) => {}
                _ => self.on_end(index),
            }
            self.go_on(index);
        }
        if let Some(buffer) = completion.buffer {
            self.ring.release(buffer);
        }
    }

    /// End of stream or an error.
    fn on_end(&mut self, index: usize) {
        let socket = &mut self.sockets[index];
        socket.is_ended = true;
        match socket.state {
            State::Open => {
                self.shard.on_closed(socket.id);
                self.ended.push((index as u32, socket.generation));
            }
            State::Lingering => socket.state = State::Ending,
            // A moving socket's end is seen again by the shard that it goes to; the others end when they are done.
            State::Moving(..) | State::Flushing(_) | State::Ending | State::Free => {}
        }
    }

    fn on_sent(&mut self, completion: Completion) {
        let buffer = self.ring.take_sent(completion.token.index);
        let is_whole = completion.result >= 0 && completion.result as usize == buffer.len();
        self.shard.recycle_buffer(buffer);
        let Some(index) = self.of(completion.token) else { return };
        self.sockets[index].is_sending = false;
        let socket = &mut self.sockets[index];
        match socket.state {
            State::Open if is_whole => self.shard.on_sent(socket.id),
            State::Open => self.on_end(index),
            State::Flushing(_) if !is_whole => socket.state = State::Ending,
            _ => {}
        }
        self.go_on(index);
    }

    /// Takes the next step of a socket that is on its way out, if nothing that is under way forbids it.
    fn go_on(&mut self, index: usize) {
        let socket = &mut self.sockets[index];
        if matches!(socket.state, State::Open | State::Free) || socket.is_sending {
            return;
        }
        if let State::Flushing(bytes) = &mut socket.state {
            if !bytes.is_empty() {
                let bytes = std::mem::take(bytes);
                socket.is_sending = true;
                let descriptor = raw(socket);
                let token = self.token(Kind::Send, index);
                self.ring.send(descriptor, bytes, token);
                return;
            }
            if socket.is_ended {
                socket.state = State::Ending;
            } else {
                // The peer may be gone already: then the receive ends at once.
                let _ = shut_down(socket, Shutdown::Write);
                socket.state = State::Lingering;
                let deadline = (self.now + LINGER_MS, index as u32, socket.generation);
                self.linger_deadlines.push_back(deadline);
                self.to_receive.push(index as u32);
            }
        }
        let socket = &mut self.sockets[index];
        if !matches!(socket.state, State::Ending | State::Moving(..)) {
            return;
        }
        if socket.receive != Receive::No {
            self.cancel_receive(index);
            return;
        }
        let state = std::mem::replace(&mut socket.state, State::Free);
        let descriptor = socket.descriptor.take();
        self.free.push(index as u32);
        if let (State::Moving(to, mut moved), Some(descriptor)) = (state, descriptor)
            && self.stop == Stop::No
        {
            moved.socket = descriptor.into_raw_fd();
            self.port.send(to, Envelope::Moved(moved));
        }
    }

    fn cancel_receive(&mut self, index: usize) {
        let socket = &mut self.sockets[index];
        if socket.receive != Receive::No && !socket.is_cancelling {
            socket.is_cancelling = true;
            let token = self.token(Kind::Receive, index);
            self.ring.cancel(token);
        }
    }

    /// Gives up a socket whatever is under way.
    fn abort(&mut self, index: usize) {
        let socket = &mut self.sockets[index];
        if socket.is_sending {
            // Ends the send.
            let _ = shut_down(socket, Shutdown::Both);
        }
        socket.state = State::Ending;
        self.go_on(index);
    }

    /// From the core: write this, then close. False: the id is not (yet) known.
    fn on_closing(&mut self, id: ConnectionId, bytes: &mut Vec<u8>) -> bool {
        let Some(index) = self.find(id) else { return false };
        let socket = &mut self.sockets[index];
        socket.state = State::Flushing(std::mem::take(bytes));
        self.flush_deadlines.push_back((self.now + LAST_BYTES_MS, index as u32, socket.generation));
        self.go_on(index);
        true
    }

    /// From the core: the connection continues on another shard. False: the id is not known.
    fn on_move(&mut self, id: ConnectionId, to: &mut Move) -> bool {
        let Some(index) = self.find(id) else { return false };
        let moved = MovedConnection {
            socket: -1,
            unread: std::mem::take(&mut to.unread),
            listener: to.listener,
            peer: to.peer,
            accepted_at: to.accepted_at,
        };
        self.sockets[index].state = State::Moving(to.to, Box::new(moved));
        self.go_on(index);
        true
    }

    fn send_output(&mut self, id: ConnectionId) {
        let Some(index) = self.find(id) else { return };
        if self.sockets[index].is_sending {
            return;
        }
        if let Some(buffer) = self.shard.take_output(id) {
            let socket = &mut self.sockets[index];
            socket.is_sending = true;
            let descriptor = raw(socket);
            let token = self.token(Kind::Send, index);
            self.ring.send(descriptor, buffer, token);
        }
    }

    fn set_wanted(&mut self, id: ConnectionId, is_wanted: bool) {
        let Some(index) = self.find(id) else { return };
        self.sockets[index].is_wanted = is_wanted;
        if is_wanted {
            self.to_receive.push(index as u32);
        } else if self.sockets[index].receive == Receive::Multishot {
            // What still comes goes to the core, which keeps it.
            self.cancel_receive(index);
        }
    }

    /// Sockets that ended and that the core had no last bytes for.
    fn close_ended(&mut self) -> usize {
        let mut ended = std::mem::take(&mut self.ended);
        let count = ended.len();
        for (index, generation) in ended.drain(..) {
            let socket = &self.sockets[index as usize];
            if socket.generation == generation && matches!(socket.state, State::Open) {
                self.abort(index as usize);
            }
        }
        self.ended = ended;
        count
    }

    /// At the end of a turn, when it is known which sockets stay, are paused, or became established.
    fn start_receives(&mut self) {
        let mut to_receive = std::mem::take(&mut self.to_receive);
        for index in to_receive.drain(..) {
            let index = index as usize;
            let socket = &mut self.sockets[index];
            let is_wanted = match socket.state {
                State::Open => socket.is_wanted,
                State::Flushing(_) | State::Lingering => true,
                State::Moving(..) | State::Ending | State::Free => false,
            };
            if !is_wanted || socket.is_ended || socket.receive != Receive::No {
                continue;
            }
            let is_multishot = socket.is_established && matches!(socket.state, State::Open);
            socket.receive = if is_multishot { Receive::Multishot } else { Receive::Once };
            let descriptor = raw(socket);
            let token = self.token(Kind::Receive, index);
            if is_multishot {
                self.ring.receive_multishot(descriptor, token);
            } else {
                self.ring.receive_once(descriptor, token);
            }
        }
        self.to_receive = to_receive;
    }

    // ---- accepting ----

    fn accept_on_all(&mut self) {
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            if let Some(descriptor) = &listener.descriptor
                && !listener.is_accepting
            {
                listener.is_accepting = true;
                self.ring.accept(descriptor.as_raw_fd(), Token::new(Kind::Accept, 0, index as u32));
            }
        }
    }

    fn on_accept(&mut self, completion: Completion) {
        let index = completion.token.index;
        if !completion.has_more
            && let Some(listener) = self.listeners.get_mut(index as usize)
        {
            listener.is_accepting = false;
            listener.is_cancelling = false;
            if self.stop != Stop::No {
                listener.descriptor = None;
            }
        }
        match sys::adopt(completion.result) {
            Some(descriptor) if descriptor.as_raw_fd() >= self.descriptor_limit => {
                drop(descriptor);
                self.pause_accepting("descriptors are nearly used up");
            }
            Some(descriptor) => {
                self.accepted.push((index as u16, descriptor));
                if !completion.has_more {
                    self.accept_again_at.get_or_insert(self.now);
                }
            }
            None => match -completion.result {
                libc::ECANCELED if self.stop != Stop::No => {}
                libc::ECONNABORTED | libc::EINTR | libc::EPROTO => {
                    self.accept_again_at.get_or_insert(self.now);
                }
                // Cancelled to pause: the moment to go on is set.
                libc::ECANCELED => {
                    self.accept_again_at.get_or_insert(self.now + ACCEPT_PAUSE_MS);
                }
                error => self.pause_accepting(&io::Error::from_raw_os_error(error).to_string()),
            },
        }
    }

    /// Clients wait in the backlog of the kernel meanwhile.
    fn pause_accepting(&mut self, reason: &str) {
        self.accept_again_at = Some(self.now + ACCEPT_PAUSE_MS);
        for (index, listener) in self.listeners.iter_mut().enumerate() {
            if listener.is_accepting && !listener.is_cancelling {
                listener.is_cancelling = true;
                self.ring.cancel(Token::new(Kind::Accept, 0, index as u32));
            }
        }
        let is_due = self.accept_warned_at.is_none_or(|at| self.now >= at + ACCEPT_WARNING_EVERY_MS);
        if is_due {
            self.accept_warned_at = Some(self.now);
            tracing::warn!(
                shard = self.id,
                connections = self.open_count(),
                reason,
                "accepting is paused; raise the limit on open files (`ulimit -n`, systemd: LimitNOFILE=)"
            );
        }
    }

    /// Last in a turn: only now have the core's freed slots lost their sockets, so that a new one finds its place.
    fn take_accepted(&mut self) -> usize {
        let mut accepted = std::mem::take(&mut self.accepted);
        let count = accepted.len();
        for (listener, descriptor) in accepted.drain(..) {
            // A peer that is gone again has no address.
            let peer = SockRef::from(&descriptor).peer_addr().ok().and_then(|peer| peer.as_socket());
            if let Some(peer) = peer
                && self.stop == Stop::No
                && let Some(id) = self.shard.on_accepted(listener, peer)
            {
                self.open(id, descriptor);
            }
        }
        self.accepted = accepted;
        count
    }

    // ---- deadlines and stopping ----

    fn serve_deadlines(&mut self) {
        while let Some((index, generation)) = pop_due(&mut self.flush_deadlines, self.now) {
            let socket = &self.sockets[index as usize];
            if socket.generation == generation && matches!(socket.state, State::Flushing(_)) {
                self.abort(index as usize);
            }
        }
        while let Some((index, generation)) = pop_due(&mut self.linger_deadlines, self.now) {
            let socket = &self.sockets[index as usize];
            if socket.generation == generation && matches!(socket.state, State::Lingering) {
                self.abort(index as usize);
            }
        }
        if self.stop == Stop::No && self.accept_again_at.is_some_and(|at| at <= self.now) {
            self.accept_again_at = None;
            self.accept_on_all();
        }
    }

    fn next_deadline(&self) -> Option<Time> {
        let deadlines = [
            self.shard.next_deadline(),
            self.flush_deadlines.front().map(|due| due.0),
            self.linger_deadlines.front().map(|due| due.0),
            self.accept_again_at,
            self.drain_until,
        ];
        deadlines.into_iter().flatten().min()
    }

    fn obey_stop(&mut self) {
        let stop = self.port.mesh().stopping();
        if stop == self.stop {
            return;
        }
        if self.stop == Stop::No {
            self.drain_until = Some(self.now + self.drain_timeout_ms);
            self.accept_again_at = None;
            self.shard.begin_drain();
            for (index, listener) in self.listeners.iter_mut().enumerate() {
                if !listener.is_accepting {
                    listener.descriptor = None;
                } else if !listener.is_cancelling {
                    listener.is_cancelling = true;
                    self.ring.cancel(Token::new(Kind::Accept, 0, index as u32));
                }
            }
        }
        self.stop = stop;
    }

    fn is_over(&mut self) -> bool {
        match self.stop {
            Stop::No => false,
            Stop::Hurry => true,
            Stop::Drain => {
                if self.shard.outputs.is_drained && self.open_count() == 0 && !self.port.has_backlog() {
                    self.port.declare_drained();
                }
                self.port.is_all_drained() || self.drain_until.is_some_and(|until| until <= self.now)
            }
        }
    }

    /// Ends all requests, so that no buffer is in the kernel's hands when it is freed.
    fn wind_up(&mut self) {
        for (index, listener) in self.listeners.iter().enumerate() {
            if listener.is_accepting {
                self.ring.cancel(Token::new(Kind::Accept, 0, index as u32));
            }
        }
        self.shard.outputs.closing.clear();
        self.arriving.drain(..).for_each(|(_, envelope)| close_moved(&envelope));
        for index in 0..self.sockets.len() {
            if !matches!(self.sockets[index].state, State::Free) {
                self.abort(index);
            }
        }
        let until = Instant::now() + QUIESCE;
        while self.ring.under_way() > 0 && Instant::now() < until {
            if let Err(error) = self.ring.reap(&mut self.completions) {
                tracing::warn!(shard = self.id, %error, "the socket ring failed while it was closed");
                return;
            }
            if self.completions.is_empty() {
                std::thread::sleep(Duration::from_micros(100));
            }
            self.serve_completions();
            self.accepted.clear();
            self.to_receive.clear();
            self.ring.publish_released();
        }
    }

    // ---- sleeping ----

    /// True when everything was looked at, nobody can push without ringing, and the deadline's timer is set.
    fn prepare_sleep(&mut self) -> io::Result<bool> {
        if self.busy_poll > Duration::ZERO && self.spin()? {
            return Ok(false);
        }
        if let Some(deadline) = self.next_deadline() {
            if deadline <= self.now {
                return Ok(false);
            }
            self.ring.set_timer(deadline, Duration::from_millis(deadline - self.now));
        }
        if !self.port.try_park(self.stop) {
            return Ok(false);
        }
        self.ring.reap_before_sleep(&mut self.completions)?;
        // The kernel stops submitting at a request that it refuses; what is behind it must not wait for the bell.
        if self.completions.is_empty() && !self.ring.has_requests() {
            return Ok(true);
        }
        self.port.unpark();
        self.ring.on_awake();
        Ok(false)
    }

    /// Looks for work for a while; true when some came.
    fn spin(&mut self) -> io::Result<bool> {
        let began = self.turn_began;
        loop {
            self.ring.reap(&mut self.completions)?;
            let now = Instant::now();
            if !self.completions.is_empty() || self.port.is_busy(self.stop) {
                self.turn_began = now;
                return Ok(true);
            }
            if now - began >= self.busy_poll {
                return Ok(false);
            }
            std::hint::spin_loop();
        }
    }
}

fn pop_due(deadlines: &mut VecDeque<(Time, u32, u32)>, now: Time) -> Option<(u32, u32)> {
    deadlines.front().filter(|due| due.0 <= now)?;
    deadlines.pop_front().map(|(_, index, generation)| (index, generation))
}

fn raw(socket: &Socket) -> RawFd {
    socket.descriptor.as_ref().map_or(-1, AsRawFd::as_raw_fd)
}

fn shut_down(socket: &Socket, how: Shutdown) -> io::Result<()> {
    match &socket.descriptor {
        Some(descriptor) => SockRef::from(descriptor).shutdown(how),
        None => Ok(()),
    }
}
