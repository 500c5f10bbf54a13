//! Bounds of connections, buffers and lanes.

use std::time::Duration;

use shard::RateLimit;

use super::table::options;
use super::value::{Auto, OrWord, Size};

options! {
    /// Bounds of connections, buffers and lanes.
    Limits as "limits" {
        /// Connections of the process; each shard takes an even part. `auto`: what the file limit permits, at
        /// most 1000000.
        /// Size: expected clients plus a tenth, because shards are not filled evenly; the file limit must be
        /// above it.
        /// At the bound: closed on accept, counted.
        connections_max: OrWord<u32, Auto> = "auto" in "1" ..= "4294967295";

        /// Sessions of the process, connected or not; each shard takes an even part.
        /// Size: expected clients plus a tenth.
        /// At the bound: CONNACK 0x97 (3.x: 3).
        sessions_max: u32 = "1000000" in "1" ..= "4294967295";

        /// Outgoing bytes of one connection above which its queue is not pulled any more.
        /// Size: bandwidth times delay of one client.
        /// At the bound: messages wait in the session's queue.
        output_soft: Size = "256 KiB" in "1 KiB" ..= "1 GiB";

        /// Outgoing bytes of one connection above which QoS 0 messages are dropped.
        /// Size: a burst of QoS 0 messages to one client; times connections it is memory.
        /// At the bound: QoS 0 is dropped, counted as `slow_consumer`.
        output_hard: Size = "1 MiB" in "1 KiB" ..= "1 GiB";

        /// How long a client may take nothing while bytes wait for it.
        /// Size: the longest stall of a healthy network.
        /// At the bound: closed, counted as `slow_consumer`.
        slow_consumer_timeout: Duration = "1m" in "100ms" ..= "1day";

        /// Bytes per second that an unfinished packet has to bring so that it counts as activity for the keep
        /// alive.
        /// Size: below the slowest link; large packets over it take `mqtt.packet_size_max` divided by this.
        /// At the bound: a client that is slower looks silent and is closed after 1.5 x its keep alive.
        packet_rate_min: Size = "4 KiB" in "0 B" ..= "1 GiB";

        /// Publish rate of one client, `MESSAGES:SECONDS` pairs such as `1000:1,50000:60`; empty: none.
        /// Size: the highest rate of an honest client, with its bursts.
        /// At the bound: 0x97 in the acknowledgement; QoS 0 is dropped, counted as `rate_limited`.
        client_publish_rate: String = "";

        /// Bytes of messages that are gathered for another shard before they are handed over.
        /// Size: some hundred messages; larger batches cost cache misses, smaller ones hand-overs.
        /// At the bound: the batch is handed over and the next one is begun.
        batch_bytes: Size = "64 KiB" in "1 KiB" ..= "16 MiB";

        /// Envelopes in the lane from one shard to another.
        /// Size: times `batch_bytes` and the number of lanes it is memory at the worst.
        /// At the bound: publishers of QoS 1 and 2 are not read until there is room; QoS 0 is gathered up to
        /// 1 MiB, then dropped and counted as `lane_full`.
        lane_envelopes_max: u32 = "256" in "1" ..= "65536";
    }
}

impl Limits {
    /// None: no limit. The error says what is expected.
    pub fn publish_rate(&self) -> Result<Option<RateLimit>, String> {
        if self.client_publish_rate.is_empty() {
            return Ok(None);
        }
        RateLimit::parse(&self.client_publish_rate).map(Some).map_err(|error| error.to_string())
    }
}
