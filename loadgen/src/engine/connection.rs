//! One non-blocking connection: bytes in, bytes out, and what it knows as publisher and as subscriber.

use super::publisher::Publisher;
use super::subscriber::Subscriber;
use socket2::Socket;
use std::io::{self, ErrorKind, Read, Write};

/// An idle connection keeps no larger output buffer than this.
const OUT_KEPT_BYTES: usize = 16 * 1024;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Phase {
    /// Not begun, or over.
    Closed,
    AwaitsConnAck,
    AwaitsSubAck,
    Ready,
}

pub struct Connection {
    /// Index of the client in the plan.
    pub client: u32,
    pub phase: Phase,
    /// The kernel took less than there was: wait until it reports the socket writable.
    pub is_blocked: bool,
    /// It was so since the last look: messages may be late because of the broker.
    pub has_been_blocked: bool,
    socket: Option<Socket>,
    /// When the connection was due to begin.
    pub begun_ns: u64,
    /// Second of the run in which bytes were last sent.
    pub sent_at_secs: u32,
    /// The broker has, or should have, a session of this client.
    pub has_session: bool,
    /// An answer to PINGREQ is awaited that says that all before it was handled.
    pub is_fenced: bool,
    pub keep_alive_secs: u16,
    /// The beginning of a packet whose rest has not come.
    tail: Vec<u8>,
    pub out: Vec<u8>,
    pub publisher: Option<Box<Publisher>>,
    pub subscriber: Option<Box<Subscriber>>,
}

/// What one read brought.
pub enum Input<'a> {
    /// All bytes since the last complete packet; `has_more` if the kernel may have further ones.
    Bytes {
        bytes: &'a [u8],
        has_more: bool,
    },
    Nothing,
    End(io::Error),
}

impl Connection {
    pub fn new(client: u32) -> Connection {
        Connection {
            client,
            phase: Phase::Closed,
            is_blocked: false,
            has_been_blocked: false,
            socket: None,
            begun_ns: 0,
            sent_at_secs: 0,
            has_session: false,
            is_fenced: false,
            keep_alive_secs: 0,
            tail: vec![],
            out: vec![],
            publisher: None,
            subscriber: None,
        }
    }

    /// Takes a socket whose TCP connection is under way.
    pub fn open(&mut self, socket: Socket, begun_ns: u64) {
        self.socket = Some(socket);
        self.begun_ns = begun_ns;
        self.phase = Phase::AwaitsConnAck;
        self.is_blocked = true;
    }

    /// Closes the socket and forgets what was under way on it; publisher and subscriber keep what they know.
    pub fn close(&mut self) {
        self.socket = None;
        self.phase = Phase::Closed;
        self.is_blocked = false;
        self.tail = vec![];
        self.out = vec![];
    }

    pub fn is_open(&self) -> bool {
        self.socket.is_some()
    }

    /// Reads once into `buffer`, behind what is left of earlier reads.
    pub fn read<'a>(&mut self, buffer: &'a mut [u8]) -> Input<'a> {
        let Some(socket) = &mut self.socket else { return Input::Nothing };
        let tail_len = self.tail.len();
        buffer[..tail_len].copy_from_slice(&self.tail);
        match socket.read(&mut buffer[tail_len..]) {
            Ok(0) => Input::End(ErrorKind::UnexpectedEof.into()),
            Ok(len) => {
                self.tail.clear();
                let end = tail_len + len;
                // A read that came back short has taken all that there was.
                Input::Bytes { bytes: &buffer[..end], has_more: end == buffer.len() }
            }
            Err(error) if error.kind() == ErrorKind::WouldBlock => Input::Nothing,
            Err(error) => Input::End(error),
        }
    }

    /// Keeps the bytes behind the last complete packet.
    pub fn keep_tail(&mut self, tail: &[u8]) {
        match tail.is_empty() {
            // Most connections stay without a buffer.
            true => self.tail = vec![],
            false => self.tail.extend_from_slice(tail),
        }
    }

    /// Writes what there is with one call. Returns the number of bytes that the kernel took.
    pub fn flush(&mut self) -> io::Result<usize> {
        let Some(socket) = &mut self.socket else { return Ok(0) };
        if self.out.is_empty() || self.is_blocked {
            return Ok(0);
        }
        let written = match socket.write(&self.out) {
            Ok(written) => written,
            Err(error) if error.kind() == ErrorKind::WouldBlock => 0,
            Err(error) => return Err(error),
        };
        if written == self.out.len() {
            self.out.clear();
            if self.out.capacity() > OUT_KEPT_BYTES {
                self.out.shrink_to(OUT_KEPT_BYTES);
            }
        } else {
            self.out.drain(..written);
            self.is_blocked = true;
            self.has_been_blocked = true;
        }
        Ok(written)
    }
}
