//! The process around the shards: access, figures, logs, stopping.

use std::net::SocketAddr;
use std::time::Duration;

use super::table::options;
use super::value::{Off, OrWord, choice};

choice! {
    /// How log lines look.
    LogFormat { Text = "text", Json = "json" }
}

options! {
    /// Who may publish and subscribe what.
    Access as "access" {
        /// Clients may subscribe to `$SYS` topics.
        sys_subscribe: bool = "true";
    }
}

options! {
    /// The HTTP endpoint with figures and health.
    Admin as "admin" {
        /// IP address and port of `/metrics`, `/livez`, `/readyz`, `/startupz` and `/api/v1/stats`; port 0
        /// takes a free one, `off` serves none. It is not authenticated: other addresses than loopback belong
        /// behind a firewall.
        address: OrWord<SocketAddr, Off> = "127.0.0.1:8083";
    }
}

options! {
    /// What is logged to standard error. Writers never wait: lines beyond what standard error takes are
    /// dropped and counted.
    Log as "log" {
        /// `error`, `warn`, `info`, `debug` or `trace`, also by module: `info,shard=debug`.
        level: String = "info";

        /// `text` for people, `json` for machines: one object a line.
        format: LogFormat = "text";
    }
}

options! {
    /// The broker's figures as retained messages under `$SYS/broker/`.
    SysTopics as "sys_topics" {
        /// Time between two rounds, aligned to the wall clock. `0s`: no such messages.
        /// Size: how old a figure may be; only figures that changed are published.
        /// At the bound: at least 1s.
        interval: Duration = "10s" in "0s" ..= "1day";
    }
}

options! {
    /// How the broker stops at SIGTERM or SIGINT. A second signal skips what is left of the waiting.
    Drain as "drain" {
        /// Time between `/readyz` answering 503 and the first disconnect, in which load balancers turn away.
        /// Size: two periods of the load balancer's check; `0s` without one.
        /// At the bound: at most 10 minutes.
        delay: Duration = "0s" in "0s" ..= "10m";

        /// Time for clients to take their last bytes after DISCONNECT 0x8B.
        /// Size: the round trip of slow networks; below the service manager's stop timeout.
        /// At the bound: connections that are left are cut off.
        timeout: Duration = "10s" in "0s" ..= "1h";
    }
}
