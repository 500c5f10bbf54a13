//! What a seed's world is like: shards, limits, clients, and how rough it is.

use protocol::{QoS, Version};
use shard::{Authentication, Config, Durability, Limits, OverlapDelivery, QueuePolicy};

use crate::rng::Rng;

/// Topics of a world; `$d/t` is not matched by leading wildcards.
pub const TOPICS: &[&str] = &["a", "a/b", "a/b/c", "b/c", "/x", "$d/t"];

/// Filters that clients subscribe to, the shared ones last.
pub const FILTERS: &[&str] = &[
    "a",
    "a/b",
    "b/c",
    "a/+",
    "+/+",
    "#",
    "a/#",
    "+/b/#",
    "$d/#",
    "/+",
    "$share/g1/a/#",
    "$share/g2/a/b",
    "$share/g1/+/c",
    "$share/g3/#",
];
/// Index of the first shared filter; each is a group of its own.
pub const SHARED_FROM: usize = 10;

/// Whether the filter (without its share) matches the topic.
pub fn does_match(filter: usize, topic: usize) -> bool {
    static TABLE: std::sync::OnceLock<Vec<bool>> = std::sync::OnceLock::new();
    let table = TABLE.get_or_init(|| {
        let plain = |filter: &'static str| match protocol::topic::parse_shared(filter) {
            Ok(Some(shared)) => shared.filter,
            _ => filter,
        };
        let row = |filter: &&'static str| {
            let filter = plain(filter);
            TOPICS.iter().map(move |topic| protocol::topic::matches(filter, topic))
        };
        FILTERS.iter().flat_map(row).collect()
    });
    table[filter * TOPICS.len() + topic]
}

#[derive(Clone, Debug)]
pub struct ClientPlan {
    pub id: String,
    pub version: Version,
    /// Subscribes to shared filters only; the others to plain ones only.
    pub is_shared: bool,
    /// Asked for; 0: the session ends with the connection.
    pub expiry_s: u32,
    pub clean_percent: u32,
    pub receive_maximum: Option<u16>,
    pub packet_size_max: Option<u32>,
    pub alias_max: u16,
    pub keep_alive: u16,
    pub will_percent: u32,
    /// How readily it acknowledges.
    pub ack_percent: u32,
    pub publish_percent: u32,
}

#[derive(Clone, Debug)]
pub struct Plan {
    pub config: Config,
    pub lane_capacity: usize,
    pub clients: Vec<ClientPlan>,
    pub steps: u32,
    /// Queues are small: as many messages may be missing as were counted as dropped.
    pub is_bounded: bool,
    pub is_memory_tight: bool,
    pub is_retained_bounded: bool,
    /// Resets, takeovers and the like in 1000 acts of a client.
    pub roughness: u32,
    /// Longest jump of the clock.
    pub jump_ms_max: u64,
}

impl Plan {
    pub fn new(rng: &mut Rng) -> Plan {
        let is_bounded = rng.chance(15);
        let is_memory_tight = rng.chance(10);
        let is_retained_bounded = rng.chance(8);
        let is_storage_late = rng.chance(25);
        let limits = Plan::limits(rng, is_bounded, is_memory_tight, is_retained_bounded);
        let config = Config {
            shard_count: rng.pick(&[1, 2, 2, 3, 3, 4]),
            authentication: if rng.chance(10) {
                Authentication::Ask { methods: vec![] }
            } else {
                Authentication::Anonymous
            },
            durability: if is_storage_late { Durability::Stored } else { Durability::Memory },
            queue_policy: rng.pick(&[QueuePolicy::DropOldest, QueuePolicy::DropNew, QueuePolicy::Refuse]),
            is_qos0_queued: rng.chance(20),
            overlap: if rng.chance(15) { OverlapDelivery::PerSubscription } else { OverlapDelivery::Once },
            hash_seed: rng.next(),
            placement_key: rng.next(),
            limits,
            ..Config::default()
        };
        let count = rng.between(3, 10) as usize;
        let is_shared_world = rng.chance(40);
        let mut clients: Vec<ClientPlan> =
            (0..count).map(|i| ClientPlan::new(rng, i, is_shared_world)).collect();
        clients.push(ClientPlan::checker());
        Plan {
            lane_capacity: rng.pick(&[usize::MAX, usize::MAX, 1, 2, 4, 16]),
            clients,
            steps: rng.between(1000, 4000) as u32,
            is_bounded,
            is_memory_tight,
            is_retained_bounded,
            roughness: rng.pick(&[0, 5, 20, 60, 150]),
            jump_ms_max: rng.pick(&[20, 2_000, 30_000, 300_000]),
            config,
        }
    }

    fn limits(rng: &mut Rng, is_bounded: bool, is_memory_tight: bool, is_retained_bounded: bool) -> Limits {
        let standard = Limits::default();
        let is_output_small = rng.chance(20);
        Limits {
            receive_maximum: rng.pick(&[1000, 1000, 20, 3, 1]),
            inflight_max: rng.pick(&[1000, 1000, 20, 3, 1]),
            topic_alias_max: rng.pick(&[0, 2, 10]),
            topic_alias_out_max: rng.pick(&[0, 2, 10]),
            session_expiry_max_s: rng.pick(&[604_800, 60]),
            session_expiry_3x_s: rng.pick(&[604_800, 30]),
            queue_messages_max: if is_bounded { rng.pick(&[1, 3, 10]) } else { 100_000 },
            queue_bytes_max: if is_bounded { rng.pick(&[500, 100_000]) } else { 1 << 30 },
            output_soft_bytes: if is_output_small {
                rng.pick(&[64, 300])
            } else {
                standard.output_soft_bytes
            },
            output_hard_bytes: if is_output_small { 600 } else { standard.output_hard_bytes },
            slow_consumer_timeout_ms: rng.pick(&[60_000, 10_000]),
            retained_count_max: if is_retained_bounded { 2 } else { 1000 },
            memory_bytes_max: if is_memory_tight { rng.pick(&[16_000, 40_000]) } else { 1 << 32 },
            batch_bytes_max: rng.pick(&[65_536, 65_536, 100]),
            keep_alive_max_s: rng.pick(&[600, 20]),
            ..standard
        }
    }

    /// A message may be refused to its publisher (0x97) although some subscribers have got it: the publisher may send
    /// it again.
    pub fn may_be_half_refused(&self) -> bool {
        self.is_bounded && self.config.queue_policy == QueuePolicy::Refuse
    }

    /// The session expiry that the server grants, in milliseconds.
    pub fn expiry_ms(&self, version: Version, clean: bool, asked_s: u32) -> u64 {
        let limits = &self.config.limits;
        let seconds = match version {
            Version::V5 => asked_s,
            _ if clean => 0,
            _ => limits.session_expiry_3x_s,
        };
        seconds.min(limits.session_expiry_max_s) as u64 * 1000
    }
}

impl ClientPlan {
    fn new(rng: &mut Rng, index: usize, is_shared_world: bool) -> ClientPlan {
        let version =
            rng.pick(&[Version::V31, Version::V311, Version::V311, Version::V5, Version::V5, Version::V5]);
        let is_shared = is_shared_world && rng.chance(50);
        ClientPlan {
            id: format!("client-{index}"),
            version,
            is_shared,
            expiry_s: rng.pick(&[0, 5, 60, 3600, 3600]),
            clean_percent: rng.pick(&[0, 5, 50, 100]),
            receive_maximum: rng.pick(&[None, None, Some(1), Some(2), Some(10)]),
            packet_size_max: if is_shared { None } else { rng.pick(&[None, None, None, Some(70)]) },
            alias_max: rng.pick(&[0, 0, 1, 5]),
            keep_alive: rng.pick(&[0, 0, 0, 10, 60]),
            will_percent: rng.pick(&[0, 30, 80]),
            ack_percent: rng.pick(&[100, 60, 20]),
            publish_percent: rng.pick(&[5, 40, 80]),
        }
    }

    /// The last client; it looks at the end what is there.
    fn checker() -> ClientPlan {
        ClientPlan {
            id: "checker".into(),
            version: Version::V5,
            is_shared: false,
            expiry_s: 0,
            clean_percent: 100,
            receive_maximum: None,
            packet_size_max: None,
            alias_max: 0,
            keep_alive: 0,
            will_percent: 0,
            ack_percent: 100,
            publish_percent: 0,
        }
    }

    /// QoS of a subscription.
    pub fn subscription_qos(&self, rng: &mut Rng) -> QoS {
        // A group with a QoS 0 member promises nothing.
        let low = if self.is_shared { 1 } else { 0 };
        QoS::from_u8(rng.between(low, 2) as u8).expect("0 to 2")
    }
}

/// Timers fire at most this late: a tick of the wheel, and the turn that it falls in.
pub const TIMER_SLACK_MS: u64 = 16;
