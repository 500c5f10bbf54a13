//! The sockets of a shard from `open` to their descriptor's end: receiving, sending, moving to another shard, closing.

use std::io;
use std::net::Shutdown;
use std::os::fd::{AsRawFd, IntoRawFd, OwnedFd, RawFd};

use socket2::SockRef;

use super::{EventLoop, LAST_BYTES_MS, LINGER_MS, NONE, Receive, Socket, State};
use crate::runtime::mesh::Stop;
use crate::runtime::ring::{Completion, GENERATION_MASK, Kind, Token};
use crate::{ConnectionId, Envelope, Move, MovedConnection};

impl EventLoop {
    pub(super) fn find(&self, id: ConnectionId) -> Option<usize> {
        let index = *self.by_slot.get(id.slot as usize)? as usize;
        self.sockets.get(index).filter(|socket| socket.id == id && matches!(socket.state, State::Open))?;
        Some(index)
    }

    pub(super) fn open(&mut self, id: ConnectionId, descriptor: OwnedFd) -> usize {
        let index = self.free.pop().unwrap_or_else(|| {
            self.sockets.push(Socket {
                descriptor: None,
                state: State::Free,
                id,
                generation: 0,
                sending: NONE,
                receive: Receive::No,
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
            sending: NONE,
            receive: Receive::No,
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

    pub(super) fn open_count(&self) -> usize {
        self.sockets.len() - self.free.len()
    }

    pub(super) fn token(&self, kind: Kind, index: usize) -> Token {
        Token::new(kind, self.sockets[index].generation, index as u32)
    }

    /// The socket that a completion belongs to. A stale one cannot come, because slots are kept until the last
    /// completion; should it come, it is ignored.
    pub(super) fn of(&self, token: Token) -> Option<usize> {
        let index = token.index as usize;
        self.sockets.get(index).filter(|socket| socket.generation == token.generation)?;
        Some(index)
    }

    pub(super) fn on_received(&mut self, completion: Completion) {
        if let Some(index) = self.of(completion.token) {
            if !completion.has_more {
                self.sockets[index].receive = Receive::No;
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
    pub(super) fn on_end(&mut self, index: usize) {
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

    pub(super) fn on_sent(&mut self, completion: Completion) {
        let Some(index) = self.of(completion.token) else { return };
        let socket = &mut self.sockets[index];
        let buffer = self.ring.take_sent(std::mem::replace(&mut socket.sending, NONE));
        let is_whole = completion.result >= 0 && completion.result as usize == buffer.len();
        self.shard.recycle_buffer(buffer);
        match socket.state {
            State::Open if is_whole => self.shard.on_sent(socket.id),
            State::Open => self.on_end(index),
            State::Flushing(_) if !is_whole => socket.state = State::Ending,
            _ => {}
        }
        self.go_on(index);
    }

    /// Takes the next step of a socket that is on its way out, if nothing that is under way forbids it.
    pub(super) fn go_on(&mut self, index: usize) {
        let socket = &mut self.sockets[index];
        if matches!(socket.state, State::Open | State::Free) || socket.sending != NONE {
            return;
        }
        if let State::Flushing(bytes) = &mut socket.state {
            if !bytes.is_empty() {
                let bytes = std::mem::take(bytes);
                self.send(index, bytes);
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

    pub(super) fn cancel_receive(&mut self, index: usize) {
        let socket = &mut self.sockets[index];
        if matches!(socket.receive, Receive::Once | Receive::Multishot) {
            socket.receive = Receive::Cancelling;
            let token = self.token(Kind::Receive, index);
            self.ring.cancel(token);
        }
    }

    /// Gives up a socket whatever is under way.
    pub(super) fn abort(&mut self, index: usize) {
        let socket = &mut self.sockets[index];
        if socket.sending != NONE {
            // Ends the send.
            let _ = shut_down(socket, Shutdown::Both);
        }
        socket.state = State::Ending;
        self.go_on(index);
    }

    /// From the core: write this, then close. False: the id is not (yet) known.
    pub(super) fn on_closing(&mut self, id: ConnectionId, bytes: &mut Vec<u8>) -> bool {
        let Some(index) = self.find(id) else { return false };
        let socket = &mut self.sockets[index];
        socket.state = State::Flushing(std::mem::take(bytes));
        self.flush_deadlines.push_back((self.now + LAST_BYTES_MS, index as u32, socket.generation));
        self.go_on(index);
        true
    }

    /// From the core: the connection continues on another shard. False: the id is not known.
    pub(super) fn on_move(&mut self, id: ConnectionId, to: &mut Move) -> bool {
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

    pub(super) fn send_output(&mut self, id: ConnectionId) {
        let Some(index) = self.find(id) else { return };
        if self.sockets[index].sending == NONE
            && let Some(buffer) = self.shard.take_output(id)
        {
            self.send(index, buffer);
        }
    }

    fn send(&mut self, index: usize, buffer: Vec<u8>) {
        let token = self.token(Kind::Send, index);
        let socket = &mut self.sockets[index];
        socket.sending = self.ring.send(raw(socket), buffer, token);
    }

    pub(super) fn set_wanted(&mut self, id: ConnectionId, is_wanted: bool) {
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
    pub(super) fn close_ended(&mut self) -> usize {
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
    pub(super) fn start_receives(&mut self) {
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
