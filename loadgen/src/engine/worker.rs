//! One thread's turn, again and again: take what the kernel and the coordinator have, react to every packet, then
//! write once to each connection that has something to say.

use super::client;
use super::connection::{Connection, Input, Phase};
use super::connector::Connector;
use super::context::Context;
use super::poller::Poller;
use super::publisher::{Allowance, Filled, Publisher};
use super::socket;
use super::subscriber::{ReceiverState, Subscriber};
use super::{Command, Shared};
use crate::clock::now_ns;
use crate::latency::Latencies;
use crate::pacing::{Pacer, Schedule};
use crate::plan::{Pace, Role};
use anyhow::{Context as _, Result};
use protocol::{Decoder, Role as Side};
use std::sync::Arc;

const DOORBELL: u64 = u64::MAX;
/// Read at once from one connection, and at least two of the largest packets.
const BUFFER_BYTES: usize = 256 * 1024;
/// Topic, fixed header and properties of a packet.
const PACKET_OVERHEAD_MAX: usize = 128 * 1024;
const PINGREQ: [u8; 2] = [0xC0, 0];
const DISCONNECT: [u8; 2] = [0xE0, 0];

/// What a worker knows at the end.
pub struct WorkerOutcome {
    /// Flow and messages sent.
    pub sent: Vec<(u32, u64)>,
    /// Flow and number of messages that were not acknowledged, or refused: nobody owes their delivery.
    pub unacked: Vec<(u32, u64)>,
    pub receivers: Vec<ReceiverState>,
    pub connect_latency: Latencies,
    pub ack_latency: Latencies,
}

struct Worker {
    context: Context,
    connections: Vec<Connection>,
    poller: Poller,
    buffer: Vec<u8>,
    decoder: Decoder,
    connector: Connector,
    pacer: Option<Pacer>,
    /// The kernel has more for these.
    again: Vec<u32>,
    dirty: Vec<u32>,
    commands: Vec<Command>,
    credits: Vec<(u32, u64)>,
    next_address: usize,
    is_over: bool,
}

/// The life of one worker thread.
pub fn run(shared: Arc<Shared>, index: usize, cpu: Option<usize>) -> Result<WorkerOutcome> {
    if let Some(cpu) = cpu {
        socket::pin_to(&[cpu]).with_context(|| format!("cannot run on CPU {cpu}"))?;
    }
    socket::wake_on_time();
    shared.port(index).set_thread_id(crate::clock::thread_id());
    let mut worker = Worker::new(shared, index)?;
    while !worker.is_over {
        worker.turn()?;
    }
    Ok(worker.into_outcome())
}

impl Worker {
    fn new(shared: Arc<Shared>, index: usize) -> Result<Worker> {
        let poller = Poller::new()?;
        poller.add(shared.port(index).doorbell.fd(), DOORBELL)?;
        let plan = &shared.plan;
        let mine = |worker: usize| worker == index;
        let connections: Vec<Connection> = (0..)
            .zip(&plan.clients)
            .filter(|(_, client)| mine(client.worker))
            .map(|(client, _)| Connection::new(client))
            .collect();
        let packet_max = plan.options.payload_size + PACKET_OVERHEAD_MAX;
        let mut worker = Worker {
            context: Context::new(shared.clone(), index, connections.len()),
            connections,
            poller,
            buffer: vec![0; BUFFER_BYTES.max(2 * packet_max)],
            decoder: Decoder {
                role: Side::Client,
                version: Some(plan.options.version),
                packet_size_max: packet_max as u32,
            },
            connector: Connector::new(shared.limits, index, plan.worker_count),
            pacer: None,
            again: vec![],
            dirty: vec![],
            commands: vec![],
            credits: vec![],
            next_address: index,
            is_over: false,
        };
        worker.prepare(&shared);
        Ok(worker)
    }

    /// Gives every connection what its client needs.
    fn prepare(&mut self, shared: &Shared) {
        let plan = &shared.plan;
        let mut receivers = vec![usize::MAX; plan.receivers.len()];
        for (index, receiver) in plan.receivers.iter().enumerate() {
            if receiver.worker == self.context.worker {
                receivers[index] = self.context.receivers.len();
                self.context.receivers.push(ReceiverState::new(index as u32, receiver));
            }
        }
        for (slot, connection) in (0..).zip(&mut self.connections) {
            let client = &plan.clients[connection.client as usize];
            if !client.flows.is_empty() {
                let publisher = Publisher::new(plan, client.flows.clone(), &shared.phases);
                connection.publisher = Some(Box::new(publisher));
                client.flows.clone().for_each(|flow| self.context.set_publisher(flow, slot));
            }
            if let Some(subscription) = &client.subscription {
                let index = subscription.receiver as usize;
                let subscriber = Subscriber::new(receivers[index], &plan.receivers[index]);
                connection.subscriber = Some(Box::new(subscriber));
            }
        }
    }

    fn turn(&mut self) -> Result<()> {
        let timeout = self.timeout_ns();
        let timeout = if self.context.port().fall_asleep() { timeout } else { Some(0) };
        let news = self.poller.wait(timeout).context("epoll")?;
        self.context.port().take_mail(&mut self.commands, &mut self.credits);
        let is_new_second = self.context.on_turn();
        let mut reading = Reading {
            connections: &mut self.connections,
            context: &mut self.context,
            buffer: &mut self.buffer,
            decoder: self.decoder,
        };
        for slot in std::mem::take(&mut self.again) {
            reading.read(slot, &mut self.again);
        }
        for readiness in news.filter(|readiness| readiness.token != DOORBELL) {
            let slot = readiness.token as u32;
            if readiness.is_writable {
                reading.on_writable(slot);
            }
            if readiness.is_readable {
                reading.read(slot, &mut self.again);
            }
        }
        for (flow, deliveries) in self.credits.drain(..) {
            self.context.credit(flow, deliveries);
        }
        let now = now_ns();
        for command in std::mem::take(&mut self.commands) {
            self.on_command(command, now);
        }
        if is_new_second {
            self.on_second(now);
        }
        self.pace(now);
        self.connect_due(now);
        self.flush_dirty(now);
        self.context.hand_over_credits();
        self.context.port().put_stats(&self.context.stats);
        Ok(())
    }

    /// How long nothing needs to be done unless something comes.
    fn timeout_ns(&self) -> Option<u64> {
        if self.context.has_dirty() || !self.again.is_empty() {
            return Some(0);
        }
        let due = self.pacer.as_ref().and_then(Pacer::next_due_ns);
        let connect = self.connector.next_due_ns(self.context.connecting);
        let next = due.into_iter().chain(connect).min()?;
        Some(next.saturating_sub(now_ns()))
    }

    fn on_command(&mut self, command: Command, now: u64) {
        match command {
            Command::Connect(role) => self.queue_connects(role, false, now),
            Command::Wipe(role) => self.queue_connects(role, true, now),
            Command::Fence(role) => self.fence(role),
            Command::ClearRetained => self.clear_retained(),
            Command::Disconnect(role) => self.disconnect(&self.slots_of(role)),
            Command::Publish { start_ns, limit } => self.start_publishing(start_ns, limit),
            Command::StopPublishing { at_ns } => self.stop_publishing(at_ns),
            Command::ExpectBreaks(expects) => {
                self.context.expects_breaks = expects;
                self.context.allows_repeats |= expects;
            }
            Command::Finish => {
                self.disconnect(&(0..self.connections.len() as u32).collect::<Vec<_>>());
                self.is_over = true;
            }
        }
    }

    fn queue_connects(&mut self, role: Role, is_wiping: bool, now: u64) {
        self.context.is_wiping = is_wiping;
        let slots = self.slots_of(role).into_iter();
        let closed = slots.filter(|slot| !self.connections[*slot as usize].is_open());
        self.connector.add(closed, now);
    }

    fn fence(&mut self, role: Role) {
        for slot in self.slots_of(role) {
            let connection = &mut self.connections[slot as usize];
            if connection.phase == Phase::Ready {
                connection.is_fenced = true;
                connection.out.extend_from_slice(&PINGREQ);
                self.context.mark_dirty(slot);
            }
        }
    }

    fn clear_retained(&mut self) {
        let shared = self.context.shared.clone();
        for (slot, connection) in (0..).zip(&mut self.connections) {
            if let (Some(publisher), Phase::Ready) = (&connection.publisher, connection.phase) {
                publisher.write_clears(&shared.plan, &mut connection.out);
                self.context.mark_dirty(slot);
            }
        }
    }

    fn slots_of(&self, role: Role) -> Vec<u32> {
        let clients = &self.context.shared.plan.clients;
        let has_role = |(_, it): &(u32, &Connection)| clients[it.client as usize].role == role;
        (0..).zip(&self.connections).filter(has_role).map(|(slot, _)| slot).collect()
    }

    fn disconnect(&mut self, slots: &[u32]) {
        for slot in slots {
            let connection = &mut self.connections[*slot as usize];
            if connection.is_open() {
                connection.out.extend_from_slice(&DISCONNECT);
                // The socket is closed in any case; what it does not take is not needed.
                let _ = connection.flush();
                if connection.phase != Phase::Ready {
                    self.context.connecting -= 1;
                    self.context.stats.connect_failed += 1;
                }
                connection.close();
            }
        }
    }

    fn start_publishing(&mut self, start_ns: u64, limit: u64) {
        let shared = self.context.shared.clone();
        self.context.limit = limit;
        match shared.plan.options.pace {
            Pace::Window(window) => self.open_window(Allowance::Window(window)),
            Pace::Unacknowledged(window) => self.open_window(Allowance::Unacknowledged(window)),
            Pace::Interval { ns, ramp_ns } => {
                let schedule = Schedule { start_ns, interval_ns: ns, ramp_ns };
                let allowance = Allowance::Due { schedule, end_ns: u64::MAX };
                self.context.allowance = Some(allowance);
                let flows_of = |(slot, it): (u32, &Connection)| {
                    let flows = shared.plan.clients[it.client as usize].flows.clone();
                    flows.map(move |flow| (flow, slot))
                };
                let flows = (0..).zip(&self.connections).flat_map(flows_of);
                let phases = flows.map(|(flow, slot)| (shared.phases[flow as usize], slot)).collect();
                self.pacer = Some(Pacer::new(schedule, phases));
            }
        }
    }

    fn open_window(&mut self, allowance: Allowance) {
        self.context.allowance = Some(allowance);
        self.slots_of(Role::Publisher).into_iter().for_each(|slot| self.context.mark_dirty(slot));
    }

    fn stop_publishing(&mut self, at_ns: u64) {
        match &mut self.context.allowance {
            Some(Allowance::Due { end_ns, .. }) => *end_ns = at_ns,
            _ => self.context.allowance = None,
        }
    }

    fn on_second(&mut self, now: u64) {
        let now_secs = (now / 1_000_000_000) as u32;
        for (slot, connection) in (0..).zip(&mut self.connections) {
            // A quarter of the time is left for the way.
            let patience = connection.keep_alive_secs as u32 * 3 / 4;
            if patience > 0
                && connection.phase == Phase::Ready
                && now_secs - connection.sent_at_secs >= patience
            {
                connection.out.extend_from_slice(&PINGREQ);
                self.context.mark_dirty(slot);
            }
        }
        let is_closed_loop = matches!(self.context.allowance, Some(Allowance::Window(_)));
        if is_closed_loop {
            self.break_stalls();
        }
    }

    fn break_stalls(&mut self) {
        let mut written_off = vec![];
        for connection in &mut self.connections {
            if let Some(publisher) = &mut connection.publisher {
                let delivered = self.context.delivered();
                let stalls = publisher.break_stalls(delivered, |flow, count| written_off.push((flow, count)));
                self.context.stats.stalls += stalls;
            }
        }
        written_off.into_iter().for_each(|(flow, count)| self.context.credit(flow, count));
    }

    fn pace(&mut self, now: u64) {
        let Some(pacer) = &mut self.pacer else { return };
        let context = &mut self.context;
        pacer.advance(now, |slot| context.mark_dirty(slot));
        if let Some(Allowance::Due { end_ns, .. }) = context.allowance
            && pacer.next_due_ns().is_none_or(|due| due >= end_ns)
        {
            self.pacer = None;
        }
    }

    fn connect_due(&mut self, now: u64) {
        while let Some((slot, due)) = self.connector.next(now, self.context.connecting) {
            self.context.stats.connects += 1;
            self.context.connecting += 1;
            if let Err(error) = self.connect(slot, due) {
                on_broken(&mut self.connections[slot as usize], slot, &mut self.context, &error.to_string());
            }
        }
        for slot in std::mem::take(&mut self.context.broken) {
            self.connector.retry(slot, now);
        }
    }

    fn connect(&mut self, slot: u32, due: u64) -> std::io::Result<()> {
        use std::os::fd::AsRawFd;
        let plan = &self.context.shared.plan;
        let options = &plan.options;
        let at = self.next_address;
        self.next_address += plan.worker_count;
        let target = options.targets[at % options.targets.len()];
        let source = (!options.sources.is_empty()).then(|| options.sources[at % options.sources.len()]);
        let socket = socket::connect(target, source)?;
        let connection = &mut self.connections[slot as usize];
        self.poller.add(socket.as_raw_fd(), slot as u64)?;
        connection.open(socket, due);
        client::write_connect(connection, plan, self.context.is_wiping);
        Ok(())
    }

    fn flush_dirty(&mut self, now: u64) {
        let mut dirty = std::mem::take(&mut self.dirty);
        self.context.take_dirty(&mut dirty);
        for slot in dirty.drain(..) {
            let connection = &mut self.connections[slot as usize];
            let filled = fill(connection, &mut self.context, now);
            match connection.flush() {
                Ok(0) => {}
                Ok(written) => {
                    connection.sent_at_secs = (now / 1_000_000_000) as u32;
                    self.context.stats.bytes_sent += written as u64;
                }
                Err(error) => on_broken(connection, slot, &mut self.context, &error.to_string()),
            }
            if filled.has_more && !connection.is_blocked {
                self.context.mark_dirty(slot);
            }
        }
        self.dirty = dirty;
    }

    fn into_outcome(mut self) -> WorkerOutcome {
        self.context.port().put_stats(&self.context.stats);
        self.context.end_interval(u64::MAX);
        let mut sent = vec![];
        let mut unacked = std::mem::take(&mut self.context.refused);
        for publisher in self.connections.iter().filter_map(|connection| connection.publisher.as_ref()) {
            sent.extend(publisher.sent());
            let unfinished = publisher.inflight.unfinished().into_iter();
            unacked.extend(unfinished.map(|(_, sent, _)| (publisher.flow_at(sent.place), sent.sequence)));
        }
        WorkerOutcome {
            sent,
            unacked,
            receivers: self.context.receivers,
            connect_latency: self.context.connect_latency,
            ack_latency: self.context.ack_latency,
        }
    }
}

/// Adds the messages that a publisher may send now.
fn fill(connection: &mut Connection, context: &mut Context, now: u64) -> Filled {
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
fn on_broken(connection: &mut Connection, slot: u32, context: &mut Context, why: &str) {
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
struct Reading<'a> {
    connections: &'a mut [Connection],
    context: &'a mut Context,
    buffer: &'a mut [u8],
    decoder: Decoder,
}

impl Reading<'_> {
    fn on_writable(&mut self, slot: u32) {
        let connection = &mut self.connections[slot as usize];
        if std::mem::take(&mut connection.is_blocked) {
            self.context.mark_dirty(slot);
        }
    }

    /// Reads once and reacts to all complete packets.
    fn read(&mut self, slot: u32, again: &mut Vec<u32>) {
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
            again.push(slot);
        }
    }
}
