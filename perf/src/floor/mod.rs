//! The floor broker: the least work that forwards messages, so that a report can show the limit of the machine beside
//! the brokers. One thread; each connection is added to an edge-triggered epoll once; one read takes what is there; the
//! frames are copied as they came into the receivers' buffers; each receiver's buffer leaves with one send at the end
//! of a round of events, and many sends enter the kernel together.
//!
//! It is no broker: nothing is kept for absent clients, nothing is sent again, there is no keep-alive, no retained
//! message, no will, no limit of messages in flight, no authentication, and all clients must speak one version. What
//! does not fit into a receiver's buffer is dropped; the load generator's verdict tells.

mod batch;
mod packet;
mod routes;
mod sys;

use std::collections::VecDeque;
use std::io;
use std::net::{SocketAddr, TcpListener};
use std::os::fd::OwnedFd;

use slab::Slab;

use batch::{BATCH_MAX, Sender};
use packet::{Filters, Frame, Malformed, Publish};
use routes::{Receiver, RouteHint, Routes};
use sys::Epoll;

/// Bytes of one read. Large enough that a read is nearly always short, which tells that the socket is empty.
const READ_BYTES: usize = 256 * 1024;
/// Full reads of one connection in a row, until the others have their turn.
const READS_MAX: usize = 4;
const EVENTS_MAX: usize = 1024;
const ACCEPTS_PER_ROUND: usize = 256;
/// Bytes that wait for one receiver. What comes while there are more is dropped.
const OUT_BYTES_MAX: usize = 64 << 20;
/// Bytes of a packet that is not complete. A client with more is disconnected.
const PACKET_BYTES_MAX: usize = 16 << 20;

struct Connection {
    socket: OwnedFd,
    /// The start of a packet whose rest has not come.
    partial: Vec<u8>,
    out: Vec<u8>,
    /// Bytes of `out` that were sent.
    sent: usize,
    filters: Vec<Box<[u8]>>,
    route: RouteHint,
    last_packet_id: u16,
    is_v5: bool,
    is_connected: bool,
    is_dirty: bool,
    /// The socket is full: wait until epoll says that it can be written to.
    is_blocked: bool,
    is_closed: bool,
}

impl Connection {
    fn unsent(&self) -> &[u8] {
        &self.out[self.sent..]
    }

    fn on_sent(&mut self, taken: usize) {
        self.is_dirty = false;
        self.sent += taken;
        self.is_blocked = self.sent < self.out.len();
        if !self.is_blocked {
            self.out.clear();
            self.sent = 0;
        } else if self.sent > self.out.len() / 2 {
            self.out.drain(..self.sent);
            self.sent = 0;
        }
    }
}

pub struct Floor {
    listener: TcpListener,
    epoll: Epoll,
    sender: Sender,
    connections: Slab<Connection>,
    routes: Routes,
    /// Connections with something to send at the end of the round.
    dirty: Vec<u32>,
    /// Connections that may have more to read although epoll will not say so again.
    unread: VecDeque<u32>,
    /// Slots are free again only after the round, so that a late event of one cannot reach its next owner.
    closed: Vec<u32>,
    is_v5: Option<bool>,
}

impl Floor {
    pub fn bind(address: SocketAddr) -> io::Result<Floor> {
        let listener = sys::listen(address)?;
        let epoll = Epoll::new(EVENTS_MAX)?;
        epoll.add_listener(&listener)?;
        Ok(Floor {
            listener,
            epoll,
            sender: Sender::new(),
            connections: Slab::new(),
            routes: Routes::default(),
            dirty: Vec::new(),
            unread: VecDeque::new(),
            closed: Vec::new(),
            is_v5: None,
        })
    }

    pub fn address(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until epoll fails.
    pub fn run(mut self) -> io::Result<()> {
        let mut buffer = vec![0; READ_BYTES];
        loop {
            self.round(&mut buffer)?;
        }
    }

    fn round(&mut self, buffer: &mut [u8]) -> io::Result<()> {
        let count = self.epoll.wait(self.unread.is_empty())?;
        for _ in 0..self.unread.len() {
            if let Some(index) = self.unread.pop_front() {
                self.read(index, buffer);
            }
        }
        for index in 0..count {
            let event = self.epoll.event(index);
            if event.token == sys::LISTENER {
                self.accept()?;
                continue;
            }
            let index = event.token as u32;
            if event.is_writable {
                self.on_writable(index);
            }
            if event.is_readable {
                self.read(index, buffer);
            }
        }
        self.flush()?;
        for index in self.closed.drain(..) {
            self.connections.remove(index as usize);
        }
        if self.connections.is_empty() {
            self.is_v5 = None;
        }
        Ok(())
    }

    fn accept(&mut self) -> io::Result<()> {
        for _ in 0..ACCEPTS_PER_ROUND {
            let socket = match sys::accept(&self.listener) {
                Ok(Some(socket)) => socket,
                Ok(None) => break,
                // Out of files: those in the queue wait until others leave.
                Err(error) if error.raw_os_error() == Some(libc::EMFILE) => break,
                Err(error) => return Err(error),
            };
            let slot = self.connections.vacant_entry();
            self.epoll.add_socket(&socket, slot.key() as u64)?;
            slot.insert(Connection {
                socket,
                partial: Vec::new(),
                out: Vec::new(),
                sent: 0,
                filters: Vec::new(),
                route: RouteHint::default(),
                last_packet_id: 0,
                is_v5: false,
                is_connected: false,
                is_dirty: false,
                is_blocked: false,
                is_closed: false,
            });
        }
        Ok(())
    }

    fn read(&mut self, index: u32, buffer: &mut [u8]) {
        for _ in 0..READS_MAX {
            let Some(connection) = self.connections.get(index as usize) else { return };
            if connection.is_closed {
                return;
            }
            let length = match sys::receive(&connection.socket, buffer) {
                Ok(Some(0)) | Err(_) => return self.close(index),
                Ok(Some(length)) => length,
                Ok(None) => return,
            };
            if self.on_bytes(index, &buffer[..length]).is_err() {
                return self.close(index);
            }
            if length < buffer.len() {
                return;
            }
        }
        self.unread.push_back(index);
    }

    fn on_bytes(&mut self, index: u32, bytes: &[u8]) -> Result<(), Malformed> {
        let mut partial = std::mem::take(&mut self.connections[index as usize].partial);
        if partial.is_empty() {
            let used = self.on_packets(index, bytes)?;
            partial.extend_from_slice(&bytes[used..]);
        } else {
            partial.extend_from_slice(bytes);
            let used = self.on_packets(index, &partial)?;
            partial.drain(..used);
        }
        if partial.len() > PACKET_BYTES_MAX {
            return Err(Malformed("packet too large"));
        }
        self.connections[index as usize].partial = partial;
        Ok(())
    }

    /// Handles the complete packets; returns their bytes.
    fn on_packets(&mut self, index: u32, bytes: &[u8]) -> Result<usize, Malformed> {
        let mut used = 0;
        while let Some(frame) = Frame::first_of(&bytes[used..])? {
            used += frame.bytes.len();
            self.on_packet(index, frame)?;
        }
        Ok(used)
    }

    #[inline]
    fn on_packet(&mut self, index: u32, frame: Frame) -> Result<(), Malformed> {
        match frame.packet_type() {
            3 => self.on_publish(index, Publish::parse(frame)?),
            4 | 7 => Ok(()),
            5 => self.answer(index, 0x62, frame.packet_id()?),
            6 => self.answer(index, 0x70, frame.packet_id()?),
            1 => self.on_connect(index, frame),
            8 => self.on_subscribe(index, frame),
            10 => self.on_unsubscribe(index, frame),
            12 => {
                self.append(index, &[0xd0, 0]);
                Ok(())
            }
            _ => Err(Malformed("closing")),
        }
    }

    fn on_connect(&mut self, index: u32, frame: Frame) -> Result<(), Malformed> {
        let is_v5 = packet::protocol_level(frame)? == 5;
        if *self.is_v5.get_or_insert(is_v5) != is_v5 {
            return Err(Malformed("clients of two versions"));
        }
        let connection = &mut self.connections[index as usize];
        (connection.is_connected, connection.is_v5) = (true, is_v5);
        match is_v5 {
            true => self.append(index, &[0x20, 3, 0, 0, 0]),
            false => self.append(index, &[0x20, 2, 0, 0]),
        }
        Ok(())
    }

    fn on_subscribe(&mut self, index: u32, frame: Frame) -> Result<(), Malformed> {
        let is_v5 = self.connections[index as usize].is_v5;
        let mut reasons = Vec::new();
        for filter in Filters::of(frame, is_v5)? {
            let (filter, options) = filter?;
            let qos = (options & 3).min(2);
            self.routes.subscribe(filter, Receiver { connection: index, qos });
            let filters = &mut self.connections[index as usize].filters;
            if !filters.iter().any(|held| **held == *filter) {
                filters.push(filter.into());
            }
            reasons.push(qos);
        }
        self.answer_filters(index, 0x90, frame.packet_id()?, &reasons);
        Ok(())
    }

    fn on_unsubscribe(&mut self, index: u32, frame: Frame) -> Result<(), Malformed> {
        let is_v5 = self.connections[index as usize].is_v5;
        let mut reasons = Vec::new();
        for filter in Filters::of(frame, is_v5)? {
            let (filter, _) = filter?;
            self.routes.unsubscribe(filter, index);
            self.connections[index as usize].filters.retain(|held| **held != *filter);
            reasons.push(0);
        }
        if !is_v5 {
            reasons.clear();
        }
        self.answer_filters(index, 0xb0, frame.packet_id()?, &reasons);
        Ok(())
    }

    /// SUBACK or UNSUBACK. A SUBSCRIBE with more than 120 filters would need a longer length than the one byte here.
    fn answer_filters(&mut self, index: u32, first: u8, packet_id: u16, reasons: &[u8]) {
        let [high, low] = packet_id.to_be_bytes();
        let properties: &[u8] = if self.connections[index as usize].is_v5 { &[0] } else { &[] };
        let reasons = &reasons[..reasons.len().min(120)];
        let length = (2 + properties.len() + reasons.len()) as u8;
        self.append(index, &[&[first, length, high, low][..], properties, reasons].concat());
    }

    fn answer(&mut self, index: u32, first: u8, packet_id: u16) -> Result<(), Malformed> {
        let [high, low] = packet_id.to_be_bytes();
        self.append(index, &[first, 2, high, low]);
        Ok(())
    }

    #[inline]
    fn on_publish(&mut self, index: u32, publish: Publish) -> Result<(), Malformed> {
        let publisher = &mut self.connections[index as usize];
        if !publisher.is_connected {
            return Err(Malformed("PUBLISH before CONNECT"));
        }
        let route = self.routes.find(publish.topic, publisher.route);
        publisher.route = route;
        if publish.qos > 0 {
            let [high, low] = publish.packet_id();
            self.append(index, &[if publish.qos == 1 { 0x40 } else { 0x50 }, 2, high, low]);
        }
        for target in 0..self.routes.target_count(route) {
            if let Some(receiver) = self.routes.receiver(route, target) {
                self.forward(receiver, &publish);
            }
        }
        Ok(())
    }

    #[inline]
    fn forward(&mut self, receiver: Receiver, publish: &Publish) {
        let connection = &mut self.connections[receiver.connection as usize];
        if connection.out.len() > OUT_BYTES_MAX {
            return;
        }
        let qos = receiver.qos.min(publish.qos);
        if qos > 0 {
            connection.last_packet_id = connection.last_packet_id.checked_add(1).unwrap_or(1);
        }
        publish.append(&mut connection.out, qos, connection.last_packet_id);
        self.mark_dirty(receiver.connection);
    }

    #[inline]
    fn append(&mut self, index: u32, bytes: &[u8]) {
        let connection = &mut self.connections[index as usize];
        if connection.out.len() <= OUT_BYTES_MAX {
            connection.out.extend_from_slice(bytes);
            self.mark_dirty(index);
        }
    }

    #[inline]
    fn mark_dirty(&mut self, index: u32) {
        let connection = &mut self.connections[index as usize];
        if !connection.is_dirty && !connection.is_blocked {
            connection.is_dirty = true;
            self.dirty.push(index);
        }
    }

    /// Epoll reports this also with each event of a socket that was never full.
    fn on_writable(&mut self, index: u32) {
        if let Some(connection) = self.connections.get_mut(index as usize)
            && connection.is_blocked
        {
            connection.is_blocked = false;
            self.mark_dirty(index);
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        let mut dirty = std::mem::take(&mut self.dirty);
        let mut results = Vec::with_capacity(BATCH_MAX.min(dirty.len()));
        for indexes in dirty.chunks(BATCH_MAX) {
            let batch: Vec<&Connection> =
                indexes.iter().map(|index| &self.connections[*index as usize]).collect();
            self.sender.send(&batch, &mut results)?;
            for (index, sent) in indexes.iter().zip(results.drain(..)) {
                match sent {
                    Ok(taken) => self.connections[*index as usize].on_sent(taken.unwrap_or(0)),
                    Err(_) => self.close(*index),
                }
            }
        }
        dirty.clear();
        self.dirty = dirty;
        Ok(())
    }

    fn close(&mut self, index: u32) {
        let connection = &mut self.connections[index as usize];
        if !std::mem::replace(&mut connection.is_closed, true) {
            for filter in std::mem::take(&mut connection.filters) {
                self.routes.unsubscribe(&filter, index);
            }
            self.closed.push(index);
        }
    }
}
