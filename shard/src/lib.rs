//! One core's world.
//!
//! A [`Shard`] owns a part of the clients: their connections, sessions, subscriptions, queues, wills and the retained
//! messages of the topics that hash to it. It is pure and synchronous: bytes, envelopes, the time and storage
//! completions go in through its `on_*` methods, and [`Outputs`] says what the runtime has to do. It knows no socket,
//! no clock and no other shard's memory, so a test can replay any schedule.
//!
//! The way of a PUBLISH: `Shard::on_bytes` (shard.rs) -> `on_publish` -> `route` -> `deliver` (publish.rs) ->
//! `Connection::append_publish` (connection.rs); to another shard the frame goes into the batch of its lane
//! (`Message::write`, message.rs) and enters there through `on_envelope` -> `deliver`.
//!
//! `runtime` (feature "runtime") drives shards with io_uring and glommio.

mod access;
mod acknowledge;
mod authenticate;
mod backpressure;
mod buffer_pool;
mod chunked;
mod client_index;
mod connect;
mod connection;
mod deadlines;
mod ends;
mod envelope;
#[cfg(debug_assertions)]
mod fault;
mod fifo;
pub mod filter_index;
mod inflight;
mod limits;
mod message;
mod metrics;
mod output;
mod outputs;
mod own_messages;
/// The park protocol for its loom test; the runtime has it as its own module.
#[cfg(feature = "loom-mesh")]
#[path = "runtime/parking.rs"]
pub mod parking;
mod placement;
mod publish;
mod queue;
mod rare;
mod rate_limit;
mod retained;
mod retained_order;
mod retained_replay;
mod routes;
#[cfg(feature = "runtime")]
pub mod runtime;
mod session;
mod shard;
mod shared_group;
mod shortage;
mod storage;
mod subscribe;
mod subscribers;
mod timers;
mod waiting;

pub use access::{AccessPolicy, AccessRule};
pub use authenticate::AuthVerdict;
pub use connection::ConnectionId;
pub use envelope::{Addressed, Batch, Envelope, MovedConnection, RetainedPage, RetainedQuery};
#[cfg(debug_assertions)]
pub use fault::Fault;
pub use limits::{
    Authentication, Config, DeniedPublish3x, Durability, Limits, ListenerConfig, OverlapDelivery, QueuePolicy,
};
pub use metrics::{
    DropReason, EndReason, Metrics, MetricsSnapshot, PACKET_LABELS, TURN_BOUNDS_NS, VERSION_LABELS,
};
pub use outputs::{Append, AuthRequest, Move, Outputs};
pub use placement::BUCKET_COUNT;
pub use rate_limit::RateLimit;
pub use routes::SHARDS_MAX;
pub use shard::{Held, Shard};

/// Milliseconds of one monotonic clock that all shards of a process share; 0 is the start of the process.
pub type Time = u64;
/// Index of a shard, 0 to `Config::shard_count - 1`.
pub type ShardId = u16;
