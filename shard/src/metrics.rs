//! Counters and gauges of one shard: plain integers, written only by that shard. The runtime copies them into a
//! [`MetricsSnapshot`] when the control plane asks.

use protocol::{QoS, ReasonCode};

/// Why a message was not delivered (one copy each).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum DropReason {
    NoSubscriber,
    QueueFull,
    Expired,
    TooLarge,
    RateLimited,
    AccessDenied,
    NoLocal,
    /// The subscriber's outgoing bytes are above the hard bound (QoS 0).
    SlowConsumer,
    /// A lane was full (QoS 0).
    LaneFull,
    /// QoS 0 for a session that is not connected.
    Offline,
    /// The session ended with the message still waiting.
    SessionEnded,
    InvalidTopic,
    RetainedFull,
    /// The shard's memory is used up (QoS 0; v5 publishers at QoS 1 and 2 are told 0x97).
    MemoryFull,
}

impl DropReason {
    pub const ALL: [(DropReason, &'static str); 14] = [
        (DropReason::NoSubscriber, "no_subscriber"),
        (DropReason::QueueFull, "queue_full"),
        (DropReason::Expired, "expired"),
        (DropReason::TooLarge, "too_large"),
        (DropReason::RateLimited, "rate_limited"),
        (DropReason::AccessDenied, "acl"),
        (DropReason::NoLocal, "no_local"),
        (DropReason::SlowConsumer, "slow_consumer"),
        (DropReason::LaneFull, "lane_full"),
        (DropReason::Offline, "offline"),
        (DropReason::SessionEnded, "session_ended"),
        (DropReason::InvalidTopic, "invalid_topic"),
        (DropReason::RetainedFull, "retained_full"),
        (DropReason::MemoryFull, "memory_full"),
    ];
}

/// Why a connection ended, or a CONNECT was refused.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(usize)]
pub enum EndReason {
    /// DISCONNECT by the client.
    ClientDisconnect,
    /// End of stream or reset without DISCONNECT.
    ConnectionLost,
    KeepAliveTimeout,
    ConnectTimeout,
    Takeover,
    MalformedPacket,
    ProtocolError,
    PacketTooLarge,
    ReceiveMaximum,
    TopicAlias,
    NotAuthorized,
    BadCredentials,
    UnsupportedVersion,
    ClientIdInvalid,
    Quota,
    SlowConsumer,
    ServerShutdown,
    Administrative,
    /// The decoder panicked over its bytes, which is a bug of this broker.
    InternalError,
    Other,
}

impl EndReason {
    pub const ALL: [(EndReason, &'static str); 20] = [
        (EndReason::ClientDisconnect, "client_disconnect"),
        (EndReason::ConnectionLost, "connection_lost"),
        (EndReason::KeepAliveTimeout, "keepalive_timeout"),
        (EndReason::ConnectTimeout, "connect_timeout"),
        (EndReason::Takeover, "takeover"),
        (EndReason::MalformedPacket, "malformed_packet"),
        (EndReason::ProtocolError, "proto_error"),
        (EndReason::PacketTooLarge, "packet_too_large"),
        (EndReason::ReceiveMaximum, "receive_maximum"),
        (EndReason::TopicAlias, "topic_alias"),
        (EndReason::NotAuthorized, "not_authorized"),
        (EndReason::BadCredentials, "bad_credentials"),
        (EndReason::UnsupportedVersion, "unsupported_version"),
        (EndReason::ClientIdInvalid, "client_id_invalid"),
        (EndReason::Quota, "quota"),
        (EndReason::SlowConsumer, "slow_consumer"),
        (EndReason::ServerShutdown, "server_shutdown"),
        (EndReason::Administrative, "administrative"),
        (EndReason::InternalError, "internal_error"),
        (EndReason::Other, "other"),
    ];
}

impl EndReason {
    /// The reason that a code stands for.
    pub fn from_code(code: ReasonCode) -> EndReason {
        match code {
            ReasonCode::MalformedPacket => EndReason::MalformedPacket,
            ReasonCode::PacketTooLarge => EndReason::PacketTooLarge,
            ReasonCode::ReceiveMaximumExceeded => EndReason::ReceiveMaximum,
            ReasonCode::TopicAliasInvalid => EndReason::TopicAlias,
            ReasonCode::NotAuthorized | ReasonCode::Banned => EndReason::NotAuthorized,
            ReasonCode::BadUserNameOrPassword | ReasonCode::BadAuthenticationMethod => {
                EndReason::BadCredentials
            }
            ReasonCode::UnsupportedProtocolVersion => EndReason::UnsupportedVersion,
            ReasonCode::ClientIdentifierNotValid => EndReason::ClientIdInvalid,
            ReasonCode::QuotaExceeded | ReasonCode::ServerBusy => EndReason::Quota,
            ReasonCode::ServerShuttingDown => EndReason::ServerShutdown,
            ReasonCode::ProtocolError
            | ReasonCode::TopicNameInvalid
            | ReasonCode::QoSNotSupported
            | ReasonCode::RetainNotSupported => EndReason::ProtocolError,
            _ => EndReason::Other,
        }
    }
}

/// MQTT versions as second indices of `Metrics::connections`.
pub const VERSION_LABELS: [&str; 3] = ["3.1", "3.1.1", "5"];
/// Packet types by their number, as indices of the packet counters.
pub const PACKET_LABELS: [&str; 16] = [
    "reserved",
    "connect",
    "connack",
    "publish",
    "puback",
    "pubrec",
    "pubrel",
    "pubcomp",
    "subscribe",
    "suback",
    "unsubscribe",
    "unsuback",
    "pingreq",
    "pingresp",
    "disconnect",
    "auth",
];

/// One shard's figures. Counters only grow; gauges are marked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Metrics {
    /// Gauge: live connections, after CONNECT, by listener and version (`VERSION_LABELS`); up to the last listener
    /// that ever had one.
    pub connections: Vec<[u64; 3]>,
    /// Gauge: sockets that have not completed CONNECT.
    pub connections_pending: u64,
    /// Most `connections` at once since the start.
    pub connections_max: u64,
    pub connects: u64,
    pub connect_rejected: [u64; EndReason::ALL.len()],
    pub disconnects: [u64; EndReason::ALL.len()],
    /// Connections that moved to another shard, from it.
    pub connections_moved: u64,
    /// Gauges.
    pub sessions: u64,
    pub sessions_persistent: u64,
    pub sessions_expired: u64,
    pub session_takeovers: u64,
    pub session_resumes: u64,
    /// Gauges.
    pub subscriptions: u64,
    pub shared_subscriptions: u64,
    pub subscription_trie_nodes: u64,
    pub routes: u64,
    pub retained_messages: u64,
    pub retained_bytes: u64,
    pub packets_received: [u64; 16],
    pub packets_sent: [u64; 16],
    pub bytes_received: u64,
    pub bytes_sent: u64,
    pub publish_received: [u64; 3],
    pub publish_sent: [u64; 3],
    pub publish_received_bytes: u64,
    pub publish_sent_bytes: u64,
    /// By QoS, then `DropReason`.
    pub publish_dropped: [[u64; 14]; 3],
    /// QoS 1 PUBLISHes received with DUP on a live connection and delivered again.
    pub publish_duplicates: u64,
    /// Acks for unknown packet ids.
    pub acks_unknown: u64,
    /// Gauges: QoS 1 and 2 messages not yet completed.
    pub inflight_in: u64,
    pub inflight_out: u64,
    /// Gauges over all session and group queues.
    pub queue_messages: u64,
    pub queue_bytes: u64,
    /// Gauges: stored message copies and their bytes.
    pub stored_messages: u64,
    pub stored_bytes: u64,
    /// Gauge: bytes of messages, queues, retained messages and connection buffers (the figure the budget is held to).
    pub memory_bytes: u64,
    pub memory_limit_bytes: u64,
    /// Gauge: connections that are not read because of backpressure.
    pub paused_connections: u64,
    pub backpressure_events: u64,
    pub lane_messages: u64,
    pub lane_batches: u64,
    pub lane_full: u64,
    pub wills_published: u64,
}

impl Metrics {
    #[inline]
    pub fn dropped(&mut self, qos: QoS, reason: DropReason) {
        self.publish_dropped[qos as usize][reason as usize] += 1;
    }

    /// Live connections of all listeners and versions.
    pub fn connection_count(&self) -> u64 {
        self.connections.iter().flatten().sum()
    }

    /// Live connections of one listener and version.
    pub(crate) fn connections_of(&mut self, listener: u16, version: usize) -> &mut u64 {
        let listener = listener as usize;
        if self.connections.len() <= listener {
            self.connections.resize(listener + 1, [0; 3]);
        }
        &mut self.connections[listener][version]
    }
}

/// Upper bounds of the classes of turns by their length, in nanoseconds; one more class is for the longer ones.
pub const TURN_BOUNDS_NS: [u64; 12] = [
    50_000,
    100_000,
    200_000,
    500_000,
    1_000_000,
    2_000_000,
    5_000_000,
    10_000_000,
    25_000_000,
    50_000_000,
    100_000_000,
    1_000_000_000,
];

/// What a shard answers to the control plane: the core's figures and those of its event loop.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MetricsSnapshot {
    pub metrics: Metrics,
    /// Nanoseconds in which the loop had work.
    pub busy_ns: u64,
    /// Nanoseconds since the loop started.
    pub elapsed_ns: u64,
    /// Turns that had work.
    pub turns: u64,
    /// The same by their length (`TURN_BOUNDS_NS`): for so long did others wait.
    pub turn_counts: [u64; TURN_BOUNDS_NS.len() + 1],
    pub ring_enters: u64,
    pub ring_sqes: u64,
    /// Longest turn since the last snapshot, in nanoseconds.
    pub turn_max_ns: u64,
    /// Envelopes that wait in the lane to each shard (this shard is the sender).
    pub lane_depths: Vec<u32>,
    /// Times the shard slept and was woken by another core.
    pub doorbells: u64,
}
