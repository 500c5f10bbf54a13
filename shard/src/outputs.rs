//! What the core asks of its runtime. Filled by the `on_*` calls of a turn; the runtime drains all of it after
//! `Shard::end_turn`.

use std::net::SocketAddr;

use crate::connection::ConnectionId;
use crate::envelope::Envelope;
use crate::{ShardId, Time};

/// A connection that has to continue on its home shard.
#[derive(Debug)]
pub struct Move {
    pub to: ShardId,
    /// Bytes that the core holds of it, beginning with CONNECT; what the runtime read since comes behind them.
    pub unread: Vec<u8>,
    pub listener: u16,
    pub peer: SocketAddr,
    pub accepted_at: Time,
}

/// A record for the journal; `Shard::on_stored(sequence)` says that it and all before it are durable.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Append {
    pub sequence: u64,
    pub client_id: Box<str>,
    /// The message frame (`message::Message::write`).
    pub message: Vec<u8>,
}

/// A CONNECT or AUTH that the authenticator has to decide; the answer is `Shard::on_auth_verdict`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct AuthRequest {
    pub connection: ConnectionId,
    pub client_id: String,
    pub user_name: Option<String>,
    pub password: Option<Vec<u8>>,
    /// Authentication Method and Authentication Data (v5).
    pub method: Option<String>,
    pub data: Option<Vec<u8>>,
    /// True for AUTH 0x19 and what follows it on a live connection.
    pub is_reauthentication: bool,
}

/// See the module. Ids in `dirty` may belong to connections that were closed later in the same turn: ignore those.
#[derive(Debug, Default)]
pub struct Outputs {
    /// Connections with bytes to write (`Shard::take_output`), each at most once.
    pub dirty: Vec<ConnectionId>,
    /// Connections whose CONNECT was served: from now on they are read with a multishot receive.
    pub established: Vec<ConnectionId>,
    /// Connections that the core has forgotten, with the bytes still to be written before the close (after a buffer
    /// that is being written). Then: shut down for writing, discard input until its end or a second, close.
    pub closing: Vec<(ConnectionId, Vec<u8>)>,
    /// Connections that leave for another shard; the core has forgotten them.
    pub moves: Vec<(ConnectionId, Move)>,
    /// Connections that came with `Envelope::Moved` and the socket that belongs to each; they are to be read.
    pub arrived: Vec<(ConnectionId, i32)>,
    /// To be pushed to the lanes in this order; what does not fit waits in the runtime (`Shard::set_lane_full`).
    pub envelopes: Vec<(ShardId, Envelope)>,
    /// Emptied batch buffers, to be returned to the shard that filled them.
    pub emptied: Vec<(ShardId, Vec<u8>)>,
    /// Backpressure: false stops reading the socket, true resumes it.
    pub reading: Vec<(ConnectionId, bool)>,
    /// For the journal, in sequence.
    pub appends: Vec<Append>,
    pub auth_requests: Vec<AuthRequest>,
    /// Set when a drain is complete: no connection is left.
    pub is_drained: bool,
}
