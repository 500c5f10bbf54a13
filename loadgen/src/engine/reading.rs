//! One connection's turn: read and react, fill in what may be sent, and what a break means.

use super::client;
use super::connection::{Connection, Input, Phase};
use super::context::Context;
use super::poller::Readiness;
use super::publisher::Filled;
use crate::clock::now_ns;
use protocol::Decoder;

/// Adds the messages that a publisher may send now.
pub fn fill(connection: &mut Connection, context: &mut Context, now: u64) -> Filled {
    let Connection { publisher, out, phase, is_blocked, has_been_blocked, .. } = connection;
    let Some(publisher) = publisher else { return Filled::default() };
    if *phase != Phase::Ready || *is_blocked {
        return Filled::default();
    }
    let Some(material) = context.material(now) else { return Filled::default() };
    let filled = publisher.fill(out, &material, std::mem::take(has_been_blocked));
    context.stats.sent += filled.sent;
    context.stats.owed += filled.owed;
    context.stats.late += filled.late;
    filled
}

/// A connection ended that we did not end, or did not begin.
#[cold]
pub fn on_broken(connection: &mut Connection, slot: u32, context: &mut Context, why: &str) {
    let was_ready = connection.phase == Phase::Ready;
    context.connecting -= !was_ready as u64;
    connection.close();
    if context.expects_breaks {
        context.stats.broken += 1;
        context.broken.push(slot);
    } else if was_ready {
        context.stats.disconnected += 1;
        context.port().put_error(|| format!("connection broke: {why}"));
    } else {
        context.stats.connect_failed += 1;
        context.port().put_error(|| format!("connection not set up: {why}"));
    }
}

/// What reading needs, apart from the poller that tells where.
pub struct Reading<'a> {
    pub connections: &'a mut [Connection],
    pub context: &'a mut Context,
    pub buffer: &'a mut [u8],
    /// For whom the kernel has more.
    pub again: &'a mut Vec<u32>,
    pub decoder: Decoder,
}

impl Reading<'_> {
    pub fn on_readiness(&mut self, readiness: Readiness) {
        let slot = readiness.token as u32;
        if readiness.is_writable {
            self.on_writable(slot);
        }
        if readiness.is_readable {
            self.read(slot);
        }
    }

    fn on_writable(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        if std::mem::take(&mut connection.is_blocked) {
            self.context.mark_dirty(slot);
        }
    }

    /// Reads once and reacts to all complete packets.
    pub fn read(&mut self, slot: u32) {
        let buffer_len = self.buffer.len();
        let connection = &mut self.connections[slot as usize];
        let (bytes, has_more) = match connection.read(self.buffer) {
            Input::Bytes { bytes, has_more } => (bytes, has_more),
            Input::Nothing => return,
            Input::End(error) => return on_broken(connection, slot, self.context, &error.to_string()),
        };
        let now = now_ns();
        let mut rest = bytes;
        loop {
            match self.decoder.next_packet(rest) {
                Ok(Some((packet, len))) => {
                    rest = &rest[len..];
                    if let Err(fault) = client::on_packet(connection, slot, &packet, now, self.context) {
                        return on_broken(connection, slot, self.context, &fault.0);
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    self.context.stats.protocol_errors += 1;
                    return on_broken(connection, slot, self.context, &error.to_string());
                }
            }
        }
        self.context.stats.bytes_received += bytes.len() as u64;
        debug_assert!(rest.len() < buffer_len, "the decoder refuses larger packets");
        connection.keep_tail(rest);
        if has_more {
            self.again.push(slot);
        }
    }
}
