//! What a case can do to the pure core and to no real process: hold bytes, lanes and storage back, take the steps in
//! another order, look at the figures. For cases that are marked as `core_only`.

use shard::{Metrics, ShardId};

use super::scene::Socket;

pub trait Core {
    /// Bytes of the client that nobody reads before the next run.
    fn write_later(&mut self, socket: Socket, bytes: &[u8]);
    /// Reads, writes and envelopes one by one, in chunks and an order that the seed decides, until nothing is left.
    fn run_shuffled(&mut self, seed: u64);
    /// The same, until a packet with this first byte has arrived at the client: the rest stays where it is.
    fn run_shuffled_until(&mut self, seed: u64, socket: Socket, first_byte: u8);
    /// The client's socket takes nothing (true), or goes on and takes what waited.
    fn stall(&mut self, socket: Socket, is_stalled: bool);
    /// A stalled socket takes that many bytes.
    fn take(&mut self, socket: Socket, bytes: usize);
    /// Envelopes stay in the lanes between the shards (true), or go on.
    fn hold_lanes(&mut self, are_held: bool);
    /// Envelopes that a lane takes before it is full.
    fn set_lane_capacity(&mut self, envelopes: usize);
    /// What the journal is given is not confirmed (true), or is.
    fn hold_storage(&mut self, is_held: bool);
    /// An administrator ends the client's session.
    fn kick(&mut self, client_id: &str);
    /// The process was told to stop.
    fn drain(&mut self);
    /// A retained message of the broker itself, as `$SYS/..`.
    fn publish_system(&mut self, topic: &str, payload: &str);
    /// Where the connection lives.
    fn shard_of(&self, socket: Socket) -> ShardId;
    /// A figure, summed over the shards.
    fn figure(&mut self, figure: &dyn Fn(&Metrics) -> u64) -> u64;
}
