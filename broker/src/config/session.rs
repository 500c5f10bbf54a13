//! Sessions, their queues, and retained messages.

use std::time::Duration;

use super::table::options;
use super::value::{Size, choice};

choice! {
    /// A session's queue is full.
    QueuePolicy { DropOldest = "drop-oldest", DropNew = "drop-new", Refuse = "refuse" }
}

options! {
    /// How long sessions live, and the messages that wait in them.
    Session as "session" {
        /// Longest session expiry; a longer wish is lowered to it, and version 5 clients are told.
        /// Size: the longest absence after which a client may still resume.
        /// At the bound: the value is lowered, nothing is refused.
        expiry_max: Duration = "7days" in "0s" ..= "100years";

        /// Lifetime of sessions of 3.x clients with clean session 0 after they have left.
        /// Size: as `expiry_max`; 3.x has no field for it.
        /// At the bound: the session ends with its subscriptions and waiting messages.
        expiry_3x: Duration = "7days" in "0s" ..= "100years";

        /// Subscriptions of one session.
        /// Size: what the largest back end subscribes to; about 200 bytes each.
        /// At the bound: SUBACK 0x97 (3.x: 0x80).
        subscriptions_max: u32 = "100000";

        /// Messages that wait for one session or one shared group.
        /// Size: message rate of the session times the absence to be bridged.
        /// At the bound: `queue_policy`, counted as `queue_full`.
        queue_messages_max: u32 = "10000" in "1" ..= "4294967295";

        /// Bytes that wait for one session or one shared group.
        /// Size: `queue_messages_max` times the usual message size, within the memory of the process.
        /// At the bound: `queue_policy`, counted as `queue_full`.
        queue_bytes_max: Size = "16 MiB" in "1 KiB" ..= "1 TiB";

        /// At the bound: `drop-oldest` drops the oldest waiting message, `drop-new` the new one, `refuse` the
        /// new one and tells a version 5 publisher at QoS 1 or 2 (0x97).
        queue_policy: QueuePolicy = "drop-oldest";

        /// QoS 0 messages wait for absent clients too.
        queue_qos0: bool = "false";
    }
}

options! {
    /// Retained messages of the process. They are spread over the shards by topic, and each shard takes an
    /// even part of a bound.
    Retained as "retained" {
        /// Retained messages of the process.
        /// Size: topics that keep a last value; with few topics the parts of the shards are uneven, so leave
        /// room.
        /// At the bound: 0x97 (QoS 0 and 3.x: delivered but not retained), counted as `retained_full`.
        messages_max: u64 = "1000000";

        /// Bytes of the retained messages of the process.
        /// Size: `messages_max` times the usual size; they count as memory of the process.
        /// At the bound: as `messages_max`.
        bytes_max: Size = "1 GiB";
    }
}
