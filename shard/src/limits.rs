//! Every bound of a shard in one place, each with what happens when it is reached, and the configuration that the core
//! reads. Built once by the process, shared by all shards behind an `Arc`, never changed while they run.

use protocol::QoS;

use crate::access::AccessPolicy;
use crate::rate_limit::RateLimit;

/// Bounds. Sizes are bytes, durations milliseconds unless the name says otherwise.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Largest packet accepted from a client; announced in CONNACK. Above: DISCONNECT 0x95 and close.
    pub packet_size_max: u32,
    /// Largest CONNECT. Above: close without an answer (the peer is unknown yet).
    pub connect_packet_size_max: u32,
    /// Time from accept to a complete CONNECT. Above: close, counted as `connect_timeout`.
    pub connect_timeout_ms: u64,
    /// Longest client id. Above: CONNACK 0x85 (3.x: 2).
    pub client_id_bytes_max: u32,
    /// Longest topic name or filter. Above: 0x90 for names, 0x8F for filters.
    pub topic_bytes_max: u32,
    /// Most levels of a topic name or filter. Above: 0x90 for names, 0x8F for filters.
    pub topic_levels_max: u32,
    /// Longest keep alive in seconds; longer ones and 0 are replaced by it (v5 is told Server Keep Alive). 0 = no cap.
    pub keep_alive_max_s: u16,
    /// Receive Maximum announced to clients: QoS 1 and 2 messages of a client not yet completed. Above: 0x93, close.
    pub receive_maximum: u16,
    /// QoS 1 and 2 deliveries under way to one client (v5: at most its own Receive Maximum). Above: wait in the queue.
    pub inflight_max: u16,
    /// Topic aliases that a client may set. Above: DISCONNECT 0x94.
    pub topic_alias_max: u16,
    /// Topic aliases that the server sets towards a client (at most the client's maximum). Above: full topic names.
    pub topic_alias_out_max: u16,
    /// Longest session expiry in seconds; longer ones are lowered to it, and v5 is told.
    pub session_expiry_max_s: u32,
    /// Session lifetime of 3.x clients with clean session 0 after they left, in seconds.
    pub session_expiry_3x_s: u32,
    /// Subscriptions of one session. Above: SUBACK 0x97 (3.x: 0x80).
    pub subscriptions_per_session_max: u32,
    /// Messages that wait for one session or one shared group. Above: `QueuePolicy`.
    pub queue_messages_max: u32,
    /// Bytes that wait for one session or one shared group. Above: `QueuePolicy`.
    pub queue_bytes_max: u64,
    /// Outgoing bytes of a connection above which its queue is not pulled any more.
    pub output_soft_bytes: u32,
    /// Outgoing bytes of a connection above which QoS 0 messages are dropped and counted.
    pub output_hard_bytes: u32,
    /// Bytes per second that an unfinished packet has to bring so that it counts as activity for the keep alive.
    pub packet_rate_min: u32,
    /// A client whose socket takes nothing for this long while bytes wait is closed, counted as `slow_consumer`.
    pub slow_consumer_timeout_ms: u64,
    /// Connections of one shard. Above: closed on accept, counted.
    pub connections_max: u32,
    /// Sessions of one shard, connected or not. Above: CONNACK 0x97 (3.x: 3).
    pub sessions_max: u32,
    /// Retained messages of one shard. Above: the new one is refused with 0x97 (QoS 0 and 3.x: not stored, counted).
    pub retained_count_max: u64,
    /// Bytes of the retained messages of one shard. Above: as for the count.
    pub retained_bytes_max: u64,
    /// Memory of one shard for messages and buffers. From 85 %: publishers are not read, but for one PUBLISH each second;
    /// from 92 %: CONNECT gets 0x97, unless it resumes a session; from 100 %: PUBLISH gets 0x97 (QoS 0: dropped and
    /// counted; 3.x: not answered, closed as `quota` if its session holds messages, else it waits).
    pub memory_bytes_max: u64,
    /// Bytes of messages gathered for one shard before an envelope is closed; the batch that crosses it is still sent.
    pub batch_bytes_max: u32,
    /// Envelopes in one lane. Full: publishers of QoS 1 and 2 are not read; QoS 0 is gathered up to 1 MiB, then dropped and
    /// counted.
    pub lane_envelopes_max: u32,
    /// Wait for clients to take their last bytes at shutdown before they are cut off.
    pub drain_timeout_ms: u64,
}

impl Default for Limits {
    fn default() -> Self {
        Limits {
            packet_size_max: 1024 * 1024,
            connect_packet_size_max: 64 * 1024,
            connect_timeout_ms: 5_000,
            client_id_bytes_max: 1024,
            topic_bytes_max: 4096,
            topic_levels_max: 128,
            keep_alive_max_s: 600,
            receive_maximum: 1000,
            inflight_max: 4096,
            topic_alias_max: 10,
            topic_alias_out_max: 10,
            session_expiry_max_s: 604_800,
            session_expiry_3x_s: 604_800,
            subscriptions_per_session_max: 100_000,
            queue_messages_max: 10_000,
            queue_bytes_max: 16 * 1024 * 1024,
            output_soft_bytes: 256 * 1024,
            output_hard_bytes: 1024 * 1024,
            packet_rate_min: 4096,
            slow_consumer_timeout_ms: 60_000,
            connections_max: 1_000_000,
            sessions_max: 1_000_000,
            retained_count_max: 1_000_000,
            retained_bytes_max: 1024 * 1024 * 1024,
            memory_bytes_max: 4 * 1024 * 1024 * 1024,
            batch_bytes_max: 64 * 1024,
            lane_envelopes_max: 256,
            drain_timeout_ms: 10_000,
        }
    }
}

/// What happens when a session's queue is full.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum QueuePolicy {
    /// The oldest waiting message is dropped and counted.
    DropOldest,
    /// The new message is dropped and counted.
    DropNew,
    /// The new message is dropped and counted, and a v5 publisher at QoS 1 or 2 is told 0x97.
    Refuse,
}

/// Several matching subscriptions of one session.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum OverlapDelivery {
    /// One copy at the highest QoS with all identifiers.
    Once,
    /// A copy for each subscription with its own identifier.
    PerSubscription,
}

/// What differs between listeners; its index is the listener id of `Shard::on_accepted`.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ListenerConfig {
    pub name: String,
    /// As `Limits::packet_size_max`, for clients of this listener.
    pub packet_size_max: u32,
}

/// How CONNECT is checked.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub enum Authentication {
    /// Every client is let in; an Authentication Method is refused with 0x8C.
    #[default]
    Anonymous,
    /// Each CONNECT (and AUTH) becomes an `outputs::AuthRequest` and waits for `Shard::on_auth_verdict`.
    /// `methods` are the enhanced methods that are served; others are refused with 0x8C.
    Ask { methods: Vec<String> },
}

/// When PUBACK and PUBREC leave for a message that a persistent session waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Durability {
    /// Routed.
    Memory,
    /// `Shard::on_stored` confirmed the append on every shard that keeps it.
    Stored,
}

/// A publish refused by access rules, where the version has no reason code for it (3.x).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum DeniedPublish3x {
    /// Acknowledged, dropped and counted.
    AcknowledgeAndDrop,
    Close,
}

/// What the core reads of the configuration.
#[derive(Clone, Debug)]
pub struct Config {
    pub shard_count: u16,
    pub limits: Limits,
    pub listeners: Vec<ListenerConfig>,
    pub authentication: Authentication,
    pub durability: Durability,
    pub queue_policy: QueuePolicy,
    /// QoS 0 messages wait for offline persistent sessions too.
    pub is_qos0_queued: bool,
    pub overlap: OverlapDelivery,
    pub denied_publish_3x: DeniedPublish3x,
    /// Maximum QoS that publishers may use; below 2 it is announced, above: 0x9B.
    pub maximum_qos: QoS,
    pub is_retain_available: bool,
    pub are_wildcards_available: bool,
    pub are_shared_subscriptions_available: bool,
    pub are_subscription_ids_available: bool,
    /// False refuses a subscription to the bare `#` (0xA2).
    pub is_root_wildcard_allowed: bool,
    /// Refuse every topic that begins with `$`, not only `$SYS`, `$share` and `$CONTROL`.
    pub is_dollar_publish_refused: bool,
    /// Check that a payload marked as UTF-8 (Payload Format Indicator 1) is UTF-8. Fault: 0x99.
    pub is_payload_format_checked: bool,
    /// Response Information of CONNACK for clients that ask for it.
    pub response_information: Option<String>,
    /// Inbound publish rate of each client, TBMQ's form `1000:1,50000:60`; above: 0x97 in the ack, QoS 0 dropped.
    pub client_publish_rate: Option<RateLimit>,
    /// Access rules until `Envelope::AccessChanged`.
    pub access: std::sync::Arc<AccessPolicy>,
    /// Seeds of hash tables, the same on all shards; random for each process (clients choose the keys).
    pub hash_seed: u64,
    /// Key of the client id -> bucket hash; fixed for a data directory.
    pub placement_key: u64,
    /// A deliberate fault of this code, for tests.
    #[cfg(debug_assertions)]
    pub fault: Option<crate::Fault>,
}

impl Default for Config {
    fn default() -> Self {
        Config {
            shard_count: 1,
            limits: Limits::default(),
            listeners: vec![ListenerConfig {
                name: "tcp".into(),
                packet_size_max: Limits::default().packet_size_max,
            }],
            authentication: Authentication::Anonymous,
            durability: Durability::Memory,
            queue_policy: QueuePolicy::DropOldest,
            is_qos0_queued: false,
            overlap: OverlapDelivery::Once,
            denied_publish_3x: DeniedPublish3x::AcknowledgeAndDrop,
            maximum_qos: QoS::ExactlyOnce,
            is_retain_available: true,
            are_wildcards_available: true,
            are_shared_subscriptions_available: true,
            are_subscription_ids_available: true,
            is_root_wildcard_allowed: true,
            is_dollar_publish_refused: false,
            is_payload_format_checked: false,
            response_information: None,
            client_publish_rate: None,
            access: std::sync::Arc::default(),
            hash_seed: 0,
            placement_key: 0,
            #[cfg(debug_assertions)]
            fault: None,
        }
    }
}
