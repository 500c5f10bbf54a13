//! From the configuration and the machine to what the shards are started with.

use std::sync::Arc;
use std::time::{Duration, Instant};

use protocol::QoS;
use shard::runtime::{ListenerSpec, RuntimeOptions};
use shard::{AccessPolicy, ListenerConfig};

use crate::config::value::{Auto, Cores, OrWord, SHARDS_MAX};
use crate::config::{Config, DeniedPublish, Overlap, QueuePolicy};
use crate::machine;

/// Memory of a shard that its own accounting does not see: receive buffers, rings, the executor.
const SHARD_BASE_BYTES: u64 = 16 << 20;
/// Files of one shard: its rings, bell and listeners.
const SHARD_FILES: u64 = 16;
const CONNECTIONS_AUTO_MAX: u64 = 1_000_000;

/// What the shards are started with.
pub struct Plan {
    pub options: RuntimeOptions,
    pub listeners: Vec<ListenerSpec>,
    pub config: Arc<shard::Config>,
    pub memory_bytes: u64,
}

/// Why the machine does not carry the configuration. Each message says what to do.
#[derive(Debug, thiserror::Error)]
pub enum PlanError {
    #[error(
        "`runtime.cores` asks for {wanted} shards, but the process may use {available} cores: ask for fewer, or set \
         `runtime.overprovisioned = true`"
    )]
    TooFewCores { wanted: usize, available: usize },
    #[error(
        "`runtime.cores` names core {core}, which this process may not use; it has {available:?} (affinity mask: \
         taskset, systemd's CPUAffinity=, the container's cpuset)"
    )]
    ForeignCore { core: usize, available: Vec<usize> },
    #[error(
        "`runtime.memory` is {memory_bytes} bytes, {shards} shards need {needed_bytes} at least: give more memory, or \
         run fewer shards (`runtime.cores`)"
    )]
    TooLittleMemory { memory_bytes: u64, needed_bytes: u64, shards: usize },
    #[error("the memory of this machine is not known: set `runtime.memory`")]
    UnknownMemory,
    #[error(
        "`limits.connections_max` is {connections}, but the limit on open files is {limit} of which {reserved} are \
         for the broker itself: raise it (`ulimit -n`, systemd: LimitNOFILE=, containers: `--ulimit nofile=`), or accept \
         fewer connections"
    )]
    TooFewFiles { connections: u64, limit: u64, reserved: u64 },
    #[cfg(debug_assertions)]
    #[error("`{FAULT_VARIABLE}` is `panic-on-topic=TOPIC` or `panic-in-decoder=TEXT`, not `{0}`")]
    UnknownFault(String),
}

/// A deliberate fault of the shards, for tests; debug builds only.
#[cfg(debug_assertions)]
const FAULT_VARIABLE: &str = "SHARDMQ_FAULT";

#[cfg(debug_assertions)]
fn wanted_fault() -> Result<Option<shard::Fault>, PlanError> {
    let Ok(text) = std::env::var(FAULT_VARIABLE) else { return Ok(None) };
    shard::Fault::parse(&text).map(Some).ok_or(PlanError::UnknownFault(text))
}

/// `placement_key` places clients on shards; it stays the same for a data directory.
pub fn make(config: &Config, placement_key: u64, hash_seed: u64) -> Result<Plan, PlanError> {
    let cores = choose_cores(&config.runtime.cores, config.runtime.overprovisioned)?;
    let shards = cores.len();
    let memory_bytes = choose_memory(config.runtime.memory)?;
    let needed_bytes = 2 * SHARD_BASE_BYTES * shards as u64;
    if memory_bytes < needed_bytes {
        return Err(PlanError::TooLittleMemory { memory_bytes, needed_bytes, shards });
    }
    let connections =
        choose_connections(config.limits.connections_max, machine::file_limit(), shards as u64)?;
    let core = core_config(config, shards as u64, memory_bytes, connections, placement_key, hash_seed);
    #[cfg(debug_assertions)]
    let core = shard::Config { fault: wanted_fault()?, ..core };
    Ok(Plan {
        options: RuntimeOptions {
            cores,
            is_pinned: !config.runtime.overprovisioned,
            busy_poll_us: match config.runtime.overprovisioned {
                true => 0,
                false => config.runtime.busy_poll.as_micros() as u32,
            },
            clock_origin: Instant::now(),
        },
        listeners: config
            .listeners
            .iter()
            .map(|listener| ListenerSpec {
                name: listener.name.clone(),
                address: listener.address,
                backlog: listener.backlog,
            })
            .collect(),
        config: Arc::new(core),
        memory_bytes,
    })
}

fn choose_cores(wanted: &Cores, is_overprovisioned: bool) -> Result<Vec<usize>, PlanError> {
    let available = machine::cores();
    match wanted {
        Cores::Auto => {
            let count = machine::core_quota().unwrap_or(usize::MAX).min(SHARDS_MAX);
            Ok(available.into_iter().take(count).collect())
        }
        Cores::Count(count) if usize::from(*count) > available.len() && !is_overprovisioned => {
            Err(PlanError::TooFewCores { wanted: usize::from(*count), available: available.len() })
        }
        Cores::Count(count) => Ok(available.into_iter().cycle().take(usize::from(*count)).collect()),
        Cores::List(list) => {
            let cores: Vec<usize> = list.iter().map(|&core| usize::from(core)).collect();
            match cores.iter().find(|core| !available.contains(core)) {
                Some(&core) if !is_overprovisioned => Err(PlanError::ForeignCore { core, available }),
                _ => Ok(cores),
            }
        }
    }
}

fn choose_memory(wanted: OrWord<crate::config::value::Size, Auto>) -> Result<u64, PlanError> {
    match wanted.value() {
        Some(size) => Ok(size.0),
        None => machine::memory_bytes().map(|bytes| bytes / 10 * 7).ok_or(PlanError::UnknownMemory),
    }
}

fn choose_connections(wanted: OrWord<u32, Auto>, file_limit: u64, shards: u64) -> Result<u64, PlanError> {
    let reserved = shard::runtime::files_reserved(file_limit) + SHARD_FILES * shards;
    let carried = file_limit.saturating_sub(reserved);
    match wanted.value().map(u64::from) {
        Some(connections) if connections > carried => {
            Err(PlanError::TooFewFiles { connections, limit: file_limit, reserved })
        }
        Some(connections) => Ok(connections),
        None => Ok(carried.clamp(1, CONNECTIONS_AUTO_MAX)),
    }
}

fn core_config(
    config: &Config,
    shards: u64,
    memory_bytes: u64,
    connections: u64,
    placement_key: u64,
    hash_seed: u64,
) -> shard::Config {
    let Config { mqtt, session, retained, limits, .. } = config;
    // The table's bounds keep these within their types.
    let whole_seconds = |duration: Duration| duration.as_millis().div_ceil(1000) as u32;
    let part = |whole: u64| whole.div_ceil(shards);
    let milliseconds = |duration: Duration| duration.as_millis() as u64;
    shard::Config {
        shard_count: shards as u16,
        limits: shard::Limits {
            packet_size_max: mqtt.packet_size_max.0 as u32,
            connect_packet_size_max: mqtt.connect_packet_size_max.0 as u32,
            connect_timeout_ms: milliseconds(mqtt.connect_timeout),
            client_id_bytes_max: mqtt.client_id_bytes_max,
            topic_bytes_max: mqtt.topic_bytes_max,
            topic_levels_max: mqtt.topic_levels_max,
            keep_alive_max_s: whole_seconds(mqtt.keep_alive_max) as u16,
            receive_maximum: mqtt.receive_maximum,
            inflight_max: mqtt.inflight_max,
            topic_alias_max: mqtt.topic_alias_max,
            topic_alias_out_max: mqtt.topic_alias_out_max,
            session_expiry_max_s: whole_seconds(session.expiry_max),
            session_expiry_3x_s: whole_seconds(session.expiry_3x),
            subscriptions_per_session_max: session.subscriptions_max,
            queue_messages_max: session.queue_messages_max,
            queue_bytes_max: session.queue_bytes_max.0,
            output_soft_bytes: limits.output_soft.0 as u32,
            output_hard_bytes: limits.output_hard.0 as u32,
            packet_rate_min: limits.packet_rate_min.0 as u32,
            slow_consumer_timeout_ms: milliseconds(limits.slow_consumer_timeout),
            connections_max: part(connections) as u32,
            sessions_max: part(u64::from(limits.sessions_max)) as u32,
            retained_count_max: part(retained.messages_max),
            retained_bytes_max: part(retained.bytes_max.0),
            memory_bytes_max: memory_bytes / shards - SHARD_BASE_BYTES,
            batch_bytes_max: limits.batch_bytes.0 as u32,
            lane_envelopes_max: limits.lane_envelopes_max,
            drain_timeout_ms: milliseconds(config.drain.timeout),
        },
        listeners: config
            .listeners
            .iter()
            .map(|listener| ListenerConfig {
                name: listener.name.clone(),
                packet_size_max: listener.packet_size_max.value().unwrap_or(mqtt.packet_size_max).0 as u32,
            })
            .collect(),
        authentication: shard::Authentication::Anonymous,
        durability: shard::Durability::Memory,
        queue_policy: match session.queue_policy {
            QueuePolicy::DropOldest => shard::QueuePolicy::DropOldest,
            QueuePolicy::DropNew => shard::QueuePolicy::DropNew,
            QueuePolicy::Refuse => shard::QueuePolicy::Refuse,
        },
        is_qos0_queued: session.queue_qos0,
        overlap: match mqtt.overlap {
            Overlap::Once => shard::OverlapDelivery::Once,
            Overlap::PerSubscription => shard::OverlapDelivery::PerSubscription,
        },
        denied_publish_3x: match mqtt.denied_publish_3x {
            DeniedPublish::Acknowledge => shard::DeniedPublish3x::AcknowledgeAndDrop,
            DeniedPublish::Close => shard::DeniedPublish3x::Close,
        },
        maximum_qos: match mqtt.maximum_qos {
            0 => QoS::AtMostOnce,
            1 => QoS::AtLeastOnce,
            _ => QoS::ExactlyOnce,
        },
        is_retain_available: mqtt.retain_available,
        are_wildcards_available: mqtt.wildcards_available,
        are_shared_subscriptions_available: mqtt.shared_subscriptions_available,
        are_subscription_ids_available: mqtt.subscription_ids_available,
        is_root_wildcard_allowed: mqtt.root_wildcard_allowed,
        is_dollar_publish_refused: mqtt.dollar_publish_refused,
        is_payload_format_checked: mqtt.payload_format_checked,
        response_information: (!mqtt.response_information.is_empty())
            .then(|| mqtt.response_information.clone()),
        client_publish_rate: limits.publish_rate().ok().flatten(),
        access: Arc::new(AccessPolicy {
            is_sys_subscribe_allowed: config.access.sys_subscribe,
            ..AccessPolicy::default()
        }),
        hash_seed,
        placement_key,
        #[cfg(debug_assertions)]
        fault: None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::{self, Assignment, Section, Sources};

    fn configured(settings: &[(&str, &str)]) -> Config {
        let assignments = settings.iter().map(|(key, value)| Assignment {
            flag: (*key).to_owned(),
            key: (*key).to_owned(),
            value: (*value).to_owned(),
        });
        let sources = Sources { assignments: assignments.collect(), ..Sources::default() };
        config::load(&sources).unwrap_or_else(|faults| panic!("{faults}"))
    }

    fn core(config: &Config, shards: u64) -> shard::Config {
        core_config(config, shards, 64 << 20, 1000, 7, 8)
    }

    #[test]
    fn the_defaults_are_those_of_the_core() {
        let core = core(&configured(&[]), 1);
        let expected = shard::Limits {
            connections_max: 1000,
            memory_bytes_max: (64 << 20) - SHARD_BASE_BYTES,
            ..shard::Limits::default()
        };
        assert_eq!(core.limits, expected);
        assert_eq!((core.shard_count, core.placement_key, core.hash_seed), (1, 7, 8));
    }

    #[test]
    fn each_option_of_the_core_arrives_there() {
        // Any value but the default.
        let settings = [
            ("listener.packet_size_max", "2 KiB"),
            ("mqtt.packet_size_max", "2 KiB"),
            ("mqtt.connect_packet_size_max", "2 KiB"),
            ("mqtt.connect_timeout", "1s"),
            ("mqtt.client_id_bytes_max", "30"),
            ("mqtt.topic_bytes_max", "30"),
            ("mqtt.topic_levels_max", "3"),
            ("mqtt.keep_alive_max", "3s"),
            ("mqtt.receive_maximum", "3"),
            ("mqtt.inflight_max", "3"),
            ("mqtt.topic_alias_max", "3"),
            ("mqtt.topic_alias_out_max", "3"),
            ("mqtt.maximum_qos", "1"),
            ("mqtt.retain_available", "false"),
            ("mqtt.wildcards_available", "false"),
            ("mqtt.shared_subscriptions_available", "false"),
            ("mqtt.subscription_ids_available", "false"),
            ("mqtt.root_wildcard_allowed", "false"),
            ("mqtt.dollar_publish_refused", "true"),
            ("mqtt.payload_format_checked", "true"),
            ("mqtt.response_information", "x"),
            ("mqtt.overlap", "per-subscription"),
            ("mqtt.denied_publish_3x", "close"),
            ("session.expiry_max", "3s"),
            ("session.expiry_3x", "3s"),
            ("session.subscriptions_max", "3"),
            ("session.queue_messages_max", "3"),
            ("session.queue_bytes_max", "3 KiB"),
            ("session.queue_policy", "refuse"),
            ("session.queue_qos0", "true"),
            ("retained.messages_max", "3"),
            ("retained.bytes_max", "3"),
            ("limits.sessions_max", "3"),
            ("limits.output_soft", "3 KiB"),
            ("limits.output_hard", "3 MiB"),
            ("limits.slow_consumer_timeout", "3s"),
            ("limits.packet_rate_min", "3"),
            ("limits.client_publish_rate", "3:1"),
            ("limits.batch_bytes", "3 KiB"),
            ("limits.lane_envelopes_max", "3"),
            ("access.sys_subscribe", "false"),
            ("drain.timeout", "3s"),
        ];
        let defaults = format!("{:?}", core(&configured(&[]), 1));
        for setting in settings {
            assert_ne!(format!("{:?}", core(&configured(&[setting]), 1)), defaults, "{setting:?}");
        }
        // Nobody forgets a new one.
        let config = configured(&[]);
        for section in [&config.mqtt as &dyn Section, &config.session, &config.retained, &config.limits] {
            for option in section.options() {
                let key = format!("{}.{}", section.name(), option.name);
                let is_tried = settings.iter().any(|(tried, _)| *tried == key);
                assert!(is_tried || key == "limits.connections_max", "{key}");
            }
        }
    }

    #[test]
    fn durations_become_whole_seconds_never_zero_by_rounding() {
        let limits =
            core(&configured(&[("mqtt.keep_alive_max", "1ms"), ("session.expiry_max", "1s 1ms")]), 1).limits;
        assert_eq!((limits.keep_alive_max_s, limits.session_expiry_max_s), (1, 2));
    }

    #[test]
    fn each_shard_has_its_part() {
        let limits =
            core(&configured(&[("retained.messages_max", "10"), ("limits.sessions_max", "10")]), 3).limits;
        assert_eq!((limits.connections_max, limits.sessions_max, limits.retained_count_max), (334, 4, 4));
        assert_eq!(limits.memory_bytes_max, (64 << 20) / 3 - SHARD_BASE_BYTES);
    }

    #[test]
    fn connections_need_files() {
        let choose = |wanted, limit| choose_connections(wanted, limit, 2);
        assert!(matches!(choose(OrWord::Word(Auto), 20_000), Ok(19_712)));
        assert!(matches!(choose(OrWord::Word(Auto), 256), Ok(192)), "a small limit is not all reserved");
        assert!(matches!(choose(OrWord::Word(Auto), u64::MAX), Ok(CONNECTIONS_AUTO_MAX)));
        assert!(matches!(choose(OrWord::Value(19_712), 20_000), Ok(19_712)));
        let too_many = choose(OrWord::Value(19_713), 20_000);
        assert!(matches!(
            too_many,
            Err(PlanError::TooFewFiles { connections: 19_713, limit: 20_000, reserved: 288 })
        ));
    }

    #[test]
    fn cores_are_those_that_the_process_has() {
        let available = machine::cores();
        assert!(matches!(choose_cores(&Cores::Count(1), false), Ok(cores) if cores == available[..1]));
        let many = available.len() as u16 + 1;
        assert!(matches!(choose_cores(&Cores::Count(many), false), Err(PlanError::TooFewCores { .. })));
        let cores = choose_cores(&Cores::Count(many), true).unwrap();
        assert_eq!((cores.len(), cores[available.len()]), (usize::from(many), available[0]));
        let foreign = choose_cores(&Cores::List(vec![60_000]), false);
        assert!(matches!(foreign, Err(PlanError::ForeignCore { core: 60_000, .. })));
    }
}
