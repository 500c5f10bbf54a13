//! The server's part of MQTT.

use std::time::Duration;

use super::table::options;
use super::value::{Size, choice};

choice! {
    /// Several matching subscriptions of one session.
    Overlap { Once = "once", PerSubscription = "per-subscription" }
}

choice! {
    /// A refused publish where the version has no reason code for it.
    DeniedPublish { Acknowledge = "acknowledge", Close = "close" }
}

options! {
    /// What MQTT leaves to the server; announced to version 5 clients in CONNACK where the standard has a
    /// property for it.
    Mqtt as "mqtt" {
        /// Largest packet from a client, announced as Maximum Packet Size.
        /// Size: the largest payload that is wanted, plus topic and properties; a connection buffers at most
        /// this much input.
        /// At the bound: DISCONNECT 0x95 and close, counted as `packet_too_large`.
        packet_size_max: Size = "1 MiB" in "32 B" ..= "256 MiB";

        /// Largest CONNECT, whose sender is not known yet.
        /// Size: the largest will payload plus client id, user name and password.
        /// At the bound: closed without an answer.
        connect_packet_size_max: Size = "64 KiB" in "32 B" ..= "256 MiB";

        /// Time from accepting a connection to its complete CONNECT.
        /// Size: a few round trips of the slowest network.
        /// At the bound: closed, counted as `connect_timeout`.
        connect_timeout: Duration = "5s" in "10ms" ..= "1h";

        /// Longest client id in bytes.
        /// Size: what the devices use; ids are kept for as long as the session.
        /// At the bound: CONNACK 0x85 (3.x: 2).
        client_id_bytes_max: u32 = "1024" in "23" ..= "65535";

        /// Longest topic name or filter in bytes.
        /// Size: the longest topic in use; retained topics and filters are kept in memory.
        /// At the bound: 0x90 for names, 0x8F for filters.
        topic_bytes_max: u32 = "4096" in "1" ..= "65535";

        /// Most levels of a topic name or filter.
        /// Size: the deepest topic in use; matching walks level by level.
        /// At the bound: 0x90 for names, 0x8F for filters.
        topic_levels_max: u32 = "128" in "1" ..= "1024";

        /// Longest keep alive; a longer one and 0 are replaced by it (version 5 is told Server Keep Alive).
        /// `0s`: no cap.
        /// Size: how late a vanished client may be noticed (1.5 x this).
        /// At the bound: the value is lowered, nothing is refused.
        keep_alive_max: Duration = "10m" in "0s" ..= "18h";

        /// Receive Maximum: QoS 1 and 2 messages of one client that are not completed yet.
        /// Size: round-trip time times the message rate wanted from one client.
        /// At the bound: DISCONNECT 0x93 and close.
        receive_maximum: u16 = "1000" in "1" ..= "65535";

        /// QoS 1 and 2 deliveries under way to one client (version 5: at most the client's own Receive
        /// Maximum).
        /// Size: round-trip time times the message rate wanted to one client.
        /// At the bound: further messages wait in the session's queue.
        inflight_max: u16 = "4096" in "1" ..= "65535";

        /// Topic aliases that a client may set.
        /// Size: topics that one publisher uses in turns; each keeps its topic in memory. 0: none.
        /// At the bound: DISCONNECT 0x94 and close.
        topic_alias_max: u16 = "10";

        /// Topic aliases that the server sets towards one client (at most the client's Topic Alias Maximum).
        /// Size: topics that one subscriber receives most. 0: none.
        /// At the bound: full topic names are sent.
        topic_alias_out_max: u16 = "10";

        /// Highest QoS that publishers may use: 0, 1 or 2.
        /// Size: 2 unless a QoS must be forbidden.
        /// At the bound: DISCONNECT 0x9B and close.
        maximum_qos: u8 = "2" in "0" ..= "2";

        /// Retained messages are served.
        retain_available: bool = "true";

        /// Filters with `+` and `#` are served.
        wildcards_available: bool = "true";

        /// Filters that begin with `$share/` are served.
        shared_subscriptions_available: bool = "true";

        /// Subscription identifiers are served.
        subscription_ids_available: bool = "true";

        /// The filter `#` may be subscribed to; if not, it gets 0xA2.
        root_wildcard_allowed: bool = "true";

        /// Every publish to a topic that begins with `$` is refused, not only to `$SYS`, `$share` and
        /// `$CONTROL`.
        dollar_publish_refused: bool = "false";

        /// Payloads marked as UTF-8 are checked to be UTF-8; if one is not, 0x99.
        payload_format_checked: bool = "false";

        /// Response Information for version 5 clients that ask for it; empty: none.
        response_information: String = "";

        /// Messages that match several subscriptions of one session: `once` sends one copy at the highest QoS
        /// with all identifiers, `per-subscription` one copy for each.
        overlap: Overlap = "once";

        /// A publish of a 3.x client that access rules refuse: `acknowledge` (and drop, counted as `acl`) or
        /// `close`.
        denied_publish_3x: DeniedPublish = "acknowledge";
    }
}
