//! What workers count. A worker counts in plain integers and hands them over once a turn.

use serde::{Deserialize, Serialize};

macro_rules! stats {
    ($($(#[$doc:meta])* $name:ident),+ $(,)?) => {
        /// Counters of one worker, or of all together. They only grow.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
        pub struct Stats { $($(#[$doc])* pub $name: u64),+ }

        impl Stats {
            pub fn add(&mut self, other: &Stats) {
                $(self.$name += other.$name;)+
            }

            /// What was added since `earlier`; nothing if these are counters of a part that is gone.
            pub fn since(&self, earlier: &Stats) -> Stats {
                Stats { $($name: self.$name.saturating_sub(earlier.$name)),+ }
            }
        }
    };
}

stats! {
    /// Connections begun.
    connects,
    /// Connections that became ready: CONNACK, and SUBACK where there is a subscription.
    ready,
    /// Refused or broken before they were ready.
    connect_failed,
    /// Broken afterwards, not by us.
    disconnected,
    /// Broken, or not set up, where the scenario expects it; tried again.
    broken,
    /// Messages handed to the kernel or its queue.
    sent,
    /// Deliveries that must come of these.
    owed,
    /// PUBACK or PUBCOMP received with success.
    acked,
    /// PUBACK or PUBREC with an error.
    refused,
    /// Deliveries of owed messages, each counted once.
    delivered,
    duplicated,
    /// Copies with the DUP flag after a reconnect, which QoS 1 allows, and repeated QoS 2 packets.
    redelivered,
    out_of_order,
    /// Numbers of `cnt64` headers that were left out, and those that came later.
    skipped,
    filled,
    /// Nobody of this run sent it to this receiver.
    foreign,
    /// It is ours, but its payload is not what was sent.
    corrupt,
    /// Delivered at another QoS than the lower of publisher and subscription.
    wrong_qos,
    /// Delivered with RETAIN although it was published to a subscription that existed, or without where it was stored.
    wrong_retain,
    /// Sessions that the broker should have kept.
    sessions_lost,
    /// Connections whose broker answered everything that was sent before a fence.
    fenced,
    /// Packets that break the protocol.
    protocol_errors,
    /// Publishers whose window was opened again because nothing came back for a second.
    stalls,
    /// Messages sent more than a millisecond after they were due although the broker took all that there was.
    late,
    bytes_sent,
    bytes_received,
}
