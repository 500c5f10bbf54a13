//! Everything that crosses cores. Lanes are FIFO for each (from, to) pair, so the order of two envelopes between the
//! same shards is the order in which they were made. Each variant says what happens when the lane is full.

use std::net::SocketAddr;
use std::sync::Arc;

use crate::access::AccessPolicy;
use crate::{ShardId, Time};

/// Messages for another shard, one frame after the other (`message::Message::write`).
#[derive(Debug, Default)]
pub struct Batch {
    pub bytes: Vec<u8>,
    pub count: u32,
    /// `RetainedProgress::routed` of the sending shard: up to this one, its retained messages for the receiver are in
    /// this batch or came before it.
    pub retained: u64,
}

/// A connection on the way to its home shard.
#[derive(Debug)]
pub struct MovedConnection {
    /// File descriptor of the socket; owned by this value (the runtime closes it if the envelope is never served).
    pub socket: i32,
    /// All bytes that were read from it, beginning with CONNECT.
    pub unread: Vec<u8>,
    pub listener: u16,
    pub peer: SocketAddr,
    /// When the connection was accepted; its CONNECT deadline keeps counting from there.
    pub accepted_at: Time,
}

/// A page of the retained messages that match a new subscription is wanted from their owner.
#[derive(Debug)]
pub struct RetainedQuery {
    /// Names the replay at the asking shard.
    pub replay: u64,
    pub filter: Box<str>,
    /// The topic after which the page begins; None: the first page.
    pub after: Option<String>,
    /// Messages of a higher number are left out: they come live (`retained_order.rs`). `u64::MAX`: none are.
    pub bound: u64,
    pub count_max: u32,
    pub bytes_max: u32,
}

/// The answer: messages in topic order; `next` is where the next page begins, None when this is the last.
#[derive(Debug)]
pub struct RetainedPage {
    pub replay: u64,
    /// As it was asked for, or `u64::MAX` if nothing is left out.
    pub bound: u64,
    pub batch: Batch,
    pub next: Option<String>,
}

/// What travels between shards. Only `Messages` can be many; the others are bounded by what clients do in a turn and
/// wait in the sender's backlog when the lane is full (they are never dropped).
#[derive(Debug)]
pub enum Envelope {
    /// Lane full: publishers of QoS 1 and 2 are not read; QoS 0 is gathered up to 1 MiB, then dropped and counted.
    Messages(Batch),
    Moved(Box<MovedConnection>),
    /// The first subscriber of `filter` on the sending shard. SUBACK waits for `RouteAcked` of every shard.
    RouteAdded {
        filter: Box<str>,
        revision: u64,
    },
    /// The last one left.
    RouteRemoved {
        filter: Box<str>,
    },
    /// All routes and group shares up to `revision` of the receiving shard are in the sender's tables.
    RouteAcked {
        revision: u64,
        /// `RetainedProgress::routed` of the sending shard when it had them.
        retained: u64,
    },
    /// The sending shard's part of a shared group (`filter` with `$share/group/`): members and those ready to receive.
    GroupShare {
        filter: Box<str>,
        members: u32,
        ready: u32,
        revision: u64,
    },
    RetainedQuery(Box<RetainedQuery>),
    RetainedPage(Box<RetainedPage>),
    /// Messages that asked for it are stored at the sending shard: tickets of the receiving shard's pending acks.
    Receipts(Vec<u32>),
    /// From the control plane.
    AccessChanged(Arc<AccessPolicy>),
    /// From the control plane: a retained `$SYS` message for its owner shard.
    System {
        topic: Box<str>,
        payload: Box<[u8]>,
    },
    /// From the control plane: end the connection and session of a client (0x98).
    Kick {
        client_id: Box<str>,
    },
}

const _: () = assert!(std::mem::size_of::<Envelope>() <= 48, "envelopes are moved through lanes by value");

/// Where an envelope goes or came from.
pub type Addressed = (ShardId, Envelope);
