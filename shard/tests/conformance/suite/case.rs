//! One row of the table: a function over a [`Scene`], the statements that it shows, and where it runs.

use protocol::Version;

use super::scene::Scene;

/// All versions.
pub const ALL: &[Version] = &[Version::V31, Version::V311, Version::V5];
/// MQTT 3.1 and 3.1.1.
pub const V3: &[Version] = &[Version::V31, Version::V311];
pub const ONLY_V31: &[Version] = &[Version::V31];
pub const ONLY_V311: &[Version] = &[Version::V311];
pub const ONLY_V5: &[Version] = &[Version::V5];
/// What has the rules of 3.1.1 and later.
pub const FROM_V311: &[Version] = &[Version::V311, Version::V5];

/// A configuration of the broker that differs from the default. Each driver knows how to set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Set {
    MaximumQos(u8),
    RetainUnavailable,
    WildcardsUnavailable,
    SharedUnavailable,
    SubscriptionIdsUnavailable,
    ReceiveMaximum(u16),
    TopicAliasMax(u16),
    /// Aliases that the server may set towards a client.
    TopicAliasOutMax(u16),
    PacketSizeMax(u32),
    KeepAliveMax(u16),
    SessionExpiryMax(u32),
    /// Lifetime of a kept session of 3.x after its connection, in seconds.
    SessionExpiry3x(u32),
    ClientIdBytesMax(u32),
    QueueMessagesMax(u32),
    InflightMax(u16),
    /// Of each shard; the binary's option is for all of them.
    RetainedCountMax(u64),
    SubscriptionsMax(u32),
    /// One copy for each overlapping subscription.
    OverlapPerSubscription,
    ResponseInformation(&'static str),
    /// QoS 0 messages wait for absent sessions too.
    Qos0Queued,
    /// A payload that is marked as UTF-8 has to be UTF-8.
    PayloadFormatChecked,
    /// Clients may neither publish nor subscribe below the level `denied` of the scene.
    DeniedLevel,
    /// A 3.x client that publishes where it may not is closed instead of acknowledged.
    DeniedPublishCloses,
    /// CONNECT needs user name `user` and password `secret`. Enhanced method `CHALLENGE`: data `hello`, the server's
    /// `question`, data `answer`, the server's `welcome`.
    Login,
}

/// How the case runs against the real binary.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Real {
    /// Beside other cases on one broker: client ids and topics are put below a root of their own.
    Shared,
    /// On a broker of its own, with client ids and topics as they are.
    Alone,
    /// Not at all; says why.
    CoreOnly(&'static str),
}

/// A case of the table.
#[derive(Clone, Copy, Debug)]
pub struct Case {
    /// Its module below `suite`.
    pub chapter: &'static str,
    pub name: &'static str,
    /// Statements of MQTT 5 and of 3.1.1, as `3.1.2-22`, separated by spaces.
    pub ids_v5: &'static str,
    pub ids_v311: &'static str,
    /// Ids of hard cases, as `HC-CON-1`.
    pub ids_hard: &'static str,
    versions: Option<&'static [Version]>,
    pub with: &'static [Set],
    /// Further configuration of a case that runs in the pure core only.
    pub tune: Option<fn(&mut shard::Config)>,
    /// Shard counts in the pure core.
    pub core_shards: &'static [u16],
    pub real: Real,
    pub run: fn(&mut Scene),
}

/// A case named by its function.
macro_rules! case {
    ($run:ident) => {
        crate::suite::case::Case::new(module_path!(), stringify!($run), $run)
    };
}
pub(crate) use case;

impl Case {
    pub fn new(module: &'static str, name: &'static str, run: fn(&mut Scene)) -> Case {
        let (_, chapter) = module.split_once("suite::").expect("cases live in the suite");
        Case {
            chapter,
            name,
            ids_v5: "",
            ids_v311: "",
            ids_hard: "",
            versions: None,
            with: &[],
            tune: None,
            core_shards: &[1, 3],
            real: Real::Shared,
            run,
        }
    }

    /// Statements of MQTT 5 that it shows.
    pub fn v5(self, ids: &'static str) -> Case {
        Case { ids_v5: ids, ..self }
    }

    /// Statements of MQTT 3.1.1 that it shows.
    pub fn v311(self, ids: &'static str) -> Case {
        Case { ids_v311: ids, ..self }
    }

    /// Hard cases that it shows.
    #[allow(dead_code)]
    pub fn hard(self, ids: &'static str) -> Case {
        Case { ids_hard: ids, ..self }
    }

    /// Replaces the default: the versions whose statements it shows, 3.1 along with 3.1.1.
    pub fn versions(self, versions: &'static [Version]) -> Case {
        Case { versions: Some(versions), ..self }
    }

    pub fn with(self, settings: &'static [Set]) -> Case {
        Case { with: settings, ..self }
    }

    /// Needs topics or client ids as they are, or looks at all of the broker.
    pub fn alone(self) -> Case {
        Case { real: Real::Alone, ..self }
    }

    /// Runs in the pure core only, because of `why` (long times, hooks that the binary does not have).
    pub fn core_only(self, why: &'static str) -> Case {
        Case { real: Real::CoreOnly(why), ..self }
    }

    /// Runs in the pure core at these shard counts instead of 1 and 3.
    pub fn core_shards(self, counts: &'static [u16]) -> Case {
        Case { core_shards: counts, ..self }
    }

    /// The same, with a configuration that no `Set` has.
    pub fn core_with(self, why: &'static str, tune: fn(&mut shard::Config)) -> Case {
        Case { real: Real::CoreOnly(why), tune: Some(tune), ..self }
    }

    /// The binary has no access rules and no authentication of its own yet.
    pub fn runs_against_binary(&self) -> bool {
        let is_core_only = matches!(self.real, Real::CoreOnly(_));
        let needs_rules = self.with.iter().any(|setting| matches!(setting, Set::DeniedLevel | Set::Login));
        !is_core_only && !needs_rules
    }

    pub fn versions_run(&self) -> &'static [Version] {
        match (self.versions, self.ids_v5.is_empty(), self.ids_v311.is_empty()) {
            (Some(versions), _, _) => versions,
            (None, false, true) => ONLY_V5,
            (None, true, false) => V3,
            (None, _, _) => ALL,
        }
    }

    /// `mqtt_3_1_2_22_name`: with the ids of the version's standard, or of the hard cases.
    pub fn test_name(&self, version: Version) -> String {
        let statements = if version == Version::V5 { self.ids_v5 } else { self.ids_v311 };
        let mut name = String::new();
        if !self.ids_hard.is_empty() {
            name += &format!("{}_", self.ids_hard.to_lowercase().replace(['-', ' '], "_"));
        }
        if !statements.is_empty() {
            name += &format!("mqtt_{}_", statements.replace(['.', '-', ' '], "_"));
        }
        name + self.name
    }
}

/// `v31`, `v311` or `v5`.
pub fn version_name(version: Version) -> &'static str {
    match version {
        Version::V31 => "v31",
        Version::V311 => "v311",
        Version::V5 => "v5",
    }
}
