//! Where clients connect.

use std::net::SocketAddr;

use super::table::options;
use super::value::{Auto, OrWord, Size, choice};

choice! {
    /// What a listener speaks.
    ListenerKind { Tcp = "tcp" } " (\"tls\", \"ws\" and \"wss\" are not available yet in this version)"
}

options! {
    /// An address where clients connect; repeat the table for more of them. Without any, one listener on
    /// 127.0.0.1:1883.
    Listener as "listener" {
        /// Name of the listener in logs and figures, and in the keys of variables and flags
        /// (`listener.NAME.KEY`).
        /// Size: lower-case letters, digits and `-`.
        /// At the bound: two listeners of one name are refused at start.
        name: String = "tcp";

        /// What is spoken: `tcp` is MQTT over plain TCP. `tls`, `ws` and `wss` are not available yet in this
        /// version.
        kind: ListenerKind = "tcp";

        /// IP address and port; port 0 takes a free one, which the `ready` log line names.
        address: SocketAddr = "127.0.0.1:1883";

        /// Connections that the kernel completes before the broker accepts them.
        /// Size: the connects of about 100 ms in a storm; the kernel caps it at `net.core.somaxconn`.
        /// At the bound: further clients wait for their SYN to be repeated (1 s and more).
        backlog: u32 = "4096" in "1" ..= "2147483647";

        /// Largest packet from a client of this listener; `auto` takes `mqtt.packet_size_max`.
        /// Size: the largest payload that is wanted, plus topic and properties.
        /// At the bound: DISCONNECT 0x95 and close, counted as `packet_too_large`.
        packet_size_max: OrWord<Size, Auto> = "auto" in "32 B" ..= "256 MiB";

        /// Clients without credentials are let in from other machines. Loopback addresses never need it.
        allow_anonymous: bool = "false";
    }
}
