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

mod accepting;
mod sockets;
mod stopping;

use std::collections::VecDeque;
use std::io;
use std::os::fd::{OwnedFd, RawFd};
use std::sync::Arc;
use std::time::{Duration, Instant};

use super::RuntimeOptions;
use super::mesh::{ControlRequest, Port, Stop, close_moved};
use super::ring::{Completion, Kind, Ring};
use super::sys;
use crate::chunked::ChunkedVec;
use crate::{
    Config, ConnectionId, Envelope, MetricsSnapshot, MovedConnection, Shard, ShardId, TURN_BOUNDS_NS, Time,
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
    /// Either, and its end was asked for.
    Cancelling,
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
    /// Key of the ring's buffer; `NONE`: nothing is being sent.
    sending: u32,
    receive: Receive,
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

    /// Until the orderly end. The thread is the shard's own: nothing else of the executor runs meanwhile.
    pub fn run(mut self) -> io::Result<()> {
        while !self.is_over() {
            // What ended a sleep is served first.
            if self.completions.is_empty() {
                self.ring.reap(&mut self.completions)?;
            }
            if !self.turn() && !self.ring.has_requests() {
                self.rest()?;
            }
        }
        self.wind_up();
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
                Kind::Cancel | Kind::Bell => {}
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

    // ---- deadlines ----

    fn serve_deadlines(&mut self) {
        let flushing = |socket: &Socket| matches!(socket.state, State::Flushing(_));
        while let Some(index) = pop_due(&mut self.flush_deadlines, &self.sockets, self.now, flushing) {
            self.abort(index);
        }
        let lingering = |socket: &Socket| matches!(socket.state, State::Lingering);
        while let Some(index) = pop_due(&mut self.linger_deadlines, &self.sockets, self.now, lingering) {
            self.abort(index);
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

    // ---- sleeping ----

    /// There was nothing to do: looks around for a while, then sleeps until there is.
    fn rest(&mut self) -> io::Result<()> {
        if self.busy_poll > Duration::ZERO && self.spin()? {
            return Ok(());
        }
        let time = match self.next_deadline() {
            Some(deadline) if deadline <= self.now => return Ok(()),
            Some(deadline) => Some(Duration::from_millis(deadline - self.now)),
            None => None,
        };
        // From here on whoever pushes rings.
        if self.port.try_park(self.stop) {
            self.ring.sleep(&mut self.completions, time)?;
            self.port.unpark();
            self.turn_began = Instant::now();
        }
        Ok(())
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

/// The next socket that still waits and whose time is over. Those that do not wait any more leave the list before their
/// time, or it would hold seconds of them.
fn pop_due(
    deadlines: &mut VecDeque<(Time, u32, u32)>,
    sockets: &ChunkedVec<Socket>,
    now: Time,
    is_waiting: impl Fn(&Socket) -> bool,
) -> Option<usize> {
    while let Some(&(at, index, generation)) = deadlines.front() {
        let socket = &sockets[index as usize];
        let is_waiting = socket.generation == generation && is_waiting(socket);
        if is_waiting && at > now {
            return None;
        }
        deadlines.pop_front();
        if is_waiting {
            return Some(index as usize);
        }
    }
    None
}
