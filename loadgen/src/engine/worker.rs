//! One thread's turn, again and again: take what the kernel and the coordinator have, react to every packet, then
//! write once to each connection that has something to say.

use super::client;
use super::connection::Connection;
use super::connector::Connector;
use super::context::Context;
use super::poller::{Poller, Readiness};
use super::publisher::{Allowance, Publisher};
use super::reading::{Reading, fill, on_broken};
use super::socket;
use super::subscriber::{ReceiverState, Subscriber};
use super::{Command, Shared};
use crate::clock::now_ns;
use crate::latency::Latencies;
use crate::pacing::Pacer;
use anyhow::{Context as _, Result};
use protocol::{Decoder, Role as Side};
use std::sync::Arc;

const DOORBELL: u64 = u64::MAX;
/// Read at once from one connection, and at least two of the largest packets.
const BUFFER_BYTES: usize = 256 * 1024;
/// Topic, fixed header and properties of a packet.
const PACKET_OVERHEAD_MAX: usize = 128 * 1024;
/// Connections read between two looks at what is due.
const READS_BETWEEN_DUES: usize = 32;

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

pub(super) struct Worker {
    pub(super) context: Context,
    pub(super) connections: Vec<Connection>,
    pub(super) poller: Poller,
    pub(super) buffer: Vec<u8>,
    pub(super) decoder: Decoder,
    pub(super) connector: Connector,
    pub(super) pacer: Option<Pacer>,
    /// The kernel has more for these.
    pub(super) again: Vec<u32>,
    pub(super) dirty: Vec<u32>,
    pub(super) news: Vec<Readiness>,
    pub(super) commands: Vec<Command>,
    pub(super) credits: Vec<(u32, u64)>,
    pub(super) next_address: usize,
    pub(super) is_over: bool,
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
        let packet_max = plan.options.wire_size() + PACKET_OVERHEAD_MAX;
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
            news: vec![],
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
                self.context.receivers.push(ReceiverState::new(receiver));
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
        let mut news = std::mem::take(&mut self.news);
        news.extend(self.poller.wait(timeout).context("epoll")?.filter(|it| it.token != DOORBELL));
        self.context.port().take_mail(&mut self.commands, &mut self.credits);
        let is_new_second = self.context.on_turn();
        for slot in std::mem::take(&mut self.again) {
            self.reading().read(slot);
        }
        for some in news.chunks(READS_BETWEEN_DUES) {
            for readiness in some {
                self.reading().on_readiness(*readiness);
            }
            self.publish_due();
        }
        news.clear();
        self.news = news;
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

    fn reading(&mut self) -> Reading<'_> {
        Reading {
            connections: &mut self.connections,
            context: &mut self.context,
            buffer: &mut self.buffer,
            again: &mut self.again,
            decoder: self.decoder,
        }
    }

    /// In open loop a message leaves when it is due, also while there is much to read.
    fn publish_due(&mut self) {
        let now = now_ns();
        if self.pacer.as_ref().and_then(Pacer::next_due_ns).is_some_and(|due| due <= now) {
            self.pace(now);
            self.flush_dirty(now);
        }
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
