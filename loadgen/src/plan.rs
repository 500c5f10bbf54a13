//! What a run consists of: clients, the flows that they publish, and who must get them. A scenario builds a plan, the
//! engine carries it out, and the verdict is what differs from it.

use crate::payload::{Form, HEADER_LEN, Header, filler};
use protocol::{QoS, Version};
use serde::{Deserialize, Serialize};
use std::net::{IpAddr, SocketAddr};
use std::ops::Range;
use std::sync::Arc;

/// Everything that is the same for all clients.
#[derive(Clone, Debug)]
pub struct Options {
    pub targets: Vec<SocketAddr>,
    /// Source addresses in turn; empty: the system chooses.
    pub sources: Vec<IpAddr>,
    pub version: Version,
    pub keep_alive_secs: u16,
    pub user_name: Option<String>,
    pub password: Option<String>,
    /// Bytes of a payload; those below `payload::COMPACT_LEN` cannot be judged.
    pub payload_size: usize,
    /// What every payload is, instead of a stamp and filler.
    pub message: Option<Arc<[u8]>>,
    /// Before the payload.
    pub headers: Vec<Header>,
    pub retain: bool,
    pub seed: u64,
    /// Tells this run's messages from all others.
    pub tag: u32,
    pub pace: Pace,
    /// Unacknowledged messages of a publisher at most, whatever the server allows.
    pub inflight_max: u16,
    /// Of clients that keep their session.
    pub session_expiry_secs: u32,
    /// The plan knows both ends: deliveries are judged. Otherwise they are counted.
    pub is_judged: bool,
}

impl Options {
    /// How much of itself each payload tells.
    pub fn form(&self) -> Form {
        if self.message.is_some() { Form::Anonymous } else { Form::of(self.payload_size) }
    }

    /// What stands behind the stamp in each payload.
    pub fn filler(&self) -> Vec<u8> {
        self.message.as_ref().map_or_else(|| filler(self.seed, self.payload_size), |message| message.to_vec())
    }

    /// Bytes on the wire: headers and payload.
    pub fn wire_size(&self) -> usize {
        let payload = self.message.as_ref().map_or(self.payload_size, |message| message.len());
        self.headers.len() * HEADER_LEN + payload
    }
}

/// When messages are published.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Pace {
    /// As many as the window allows: messages of each flow that are not yet delivered and acknowledged.
    Window(u32),
    /// As many as acknowledgements allow, for receivers that come later: messages of each publisher that are not yet
    /// acknowledged. At QoS 0 as fast as the connection takes them.
    Unacknowledged(u32),
    /// At fixed times, whatever the broker does: nanoseconds between two messages of one flow.
    Interval { ns: u64, ramp_ns: u64 },
}

/// A client id without a string for each: prefix and number.
#[derive(Clone, Debug)]
pub struct ClientId {
    pub prefix: Arc<str>,
    pub number: u64,
}

impl std::fmt::Display for ClientId {
    fn fmt(&self, out: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(out, "{}{}", self.prefix, self.number)
    }
}

/// In which order clients connect, and whom a command means.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    Subscriber,
    Publisher,
    /// Only holds its connection.
    Idle,
}

#[derive(Clone, Debug)]
pub struct Client {
    pub id: ClientId,
    pub role: Role,
    /// Index of the worker whose thread owns it.
    pub worker: usize,
    pub clean_start: bool,
    pub subscription: Option<Subscription>,
    /// Flows that it publishes, indexes of `Plan::flows`.
    pub flows: Range<u32>,
}

#[derive(Clone, Debug)]
pub struct Subscription {
    pub filter: Arc<str>,
    pub qos: QoS,
    /// Index of `Plan::receivers`.
    pub receiver: u32,
}

/// One publisher's messages on one topic, numbered from 0.
#[derive(Clone, Debug)]
pub struct Flow {
    pub topic: Box<str>,
    pub qos: QoS,
    /// Worker of the publisher.
    pub worker: usize,
    /// Receivers that must get each message.
    pub copies: u32,
}

/// Who must get all messages of its flows exactly once: a subscriber, or the members of a `$share` group together.
#[derive(Clone, Debug)]
pub struct Receiver {
    pub flows: FlowSet,
    pub qos: QoS,
    /// Members share the messages: each keeps the order, but only together they get all.
    pub is_group: bool,
    /// Worker of the subscriber; all members of a group have the same.
    pub worker: usize,
}

/// A set of flows with the place of each in it.
#[derive(Clone, Debug)]
pub enum FlowSet {
    Range(Range<u32>),
    /// In ascending order.
    Sorted(Arc<[u32]>),
}

impl FlowSet {
    pub fn len(&self) -> usize {
        match self {
            FlowSet::Range(range) => range.len(),
            FlowSet::Sorted(flows) => flows.len(),
        }
    }

    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }

    #[inline]
    pub fn place(&self, flow: u32) -> Option<usize> {
        match self {
            FlowSet::Range(range) if range.contains(&flow) => Some((flow - range.start) as usize),
            FlowSet::Range(_) => None,
            FlowSet::Sorted(flows) => flows.binary_search(&flow).ok(),
        }
    }

    pub fn iter(&self) -> impl Iterator<Item = u32> + '_ {
        let (range, sorted) = match self {
            FlowSet::Range(range) => (range.clone(), &[][..]),
            FlowSet::Sorted(flows) => (0..0, &flows[..]),
        };
        range.chain(sorted.iter().copied())
    }
}

/// A run, before it runs.
#[derive(Clone, Debug)]
pub struct Plan {
    pub options: Options,
    /// Of all processes together.
    pub worker_count: usize,
    /// The workers of this process.
    pub local: Range<usize>,
    pub clients: Vec<Client>,
    pub flows: Vec<Flow>,
    pub receivers: Vec<Receiver>,
}

impl Plan {
    pub fn new(options: Options, worker_count: usize) -> Plan {
        Plan {
            options,
            worker_count,
            local: 0..worker_count,
            clients: vec![],
            flows: vec![],
            receivers: vec![],
        }
    }

    /// Subscribers have sessions that outlive their connections.
    pub fn keep_sessions(&mut self) {
        let subscribers = self.clients.iter_mut().filter(|client| client.role == Role::Subscriber);
        subscribers.for_each(|client| client.clean_start = false);
    }

    /// In closed loop a publisher must hear of its deliveries: whether some happen in other processes, if each has so
    /// many workers.
    pub fn credits_cross_processes(&self, workers_of_a_process: usize) -> bool {
        let process = |worker: usize| worker / workers_of_a_process;
        let is_elsewhere = |receiver: &Receiver| {
            let here = process(receiver.worker);
            receiver.flows.iter().any(|flow| process(self.flows[flow as usize].worker) != here)
        };
        matches!(self.options.pace, Pace::Window(_)) && self.receivers.iter().any(is_elsewhere)
    }

    /// Adds a publisher of these topics; each becomes a flow. Returns their indexes.
    pub fn add_publisher(&mut self, id: ClientId, worker: usize, topics: &[String], qos: QoS) -> Range<u32> {
        let first = self.flows.len() as u32;
        let flow = |topic: &String| Flow { topic: topic.as_str().into(), qos, worker, copies: 0 };
        self.flows.extend(topics.iter().map(flow));
        let flows = first..self.flows.len() as u32;
        self.clients.push(Client {
            id,
            role: Role::Publisher,
            worker,
            clean_start: true,
            subscription: None,
            flows: flows.clone(),
        });
        flows
    }

    /// Adds who must get the messages of these flows. Returns its index.
    pub fn add_receiver(&mut self, flows: FlowSet, qos: QoS, worker: usize, is_group: bool) -> u32 {
        flows.iter().for_each(|flow| self.flows[flow as usize].copies += 1);
        self.receivers.push(Receiver { flows, qos, is_group, worker });
        self.receivers.len() as u32 - 1
    }

    /// Adds a subscriber on whose behalf `receiver` counts.
    pub fn add_subscriber(&mut self, id: ClientId, filter: &Arc<str>, receiver: u32) -> &mut Client {
        let Receiver { qos, worker, .. } = self.receivers[receiver as usize];
        self.clients.push(Client {
            id,
            role: Role::Subscriber,
            worker,
            clean_start: true,
            subscription: Some(Subscription { filter: filter.clone(), qos, receiver }),
            flows: 0..0,
        });
        self.clients.last_mut().expect("one was pushed")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn both_kinds_of_sets_agree() {
        let range = FlowSet::Range(3..6);
        let sorted = FlowSet::Sorted([3, 4, 5].into());
        assert_eq!(range.iter().collect::<Vec<_>>(), sorted.iter().collect::<Vec<_>>());
        for flow in 0..8 {
            assert_eq!(range.place(flow), sorted.place(flow));
        }
        assert_eq!((range.len(), range.place(4), range.place(6)), (3, Some(1), None));
    }
}
