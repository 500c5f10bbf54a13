//! The client libraries, and how each one's table is run.

use std::process::Command;

/// A version as the scripts are told it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Version {
    V31,
    V311,
    V5,
}

impl std::fmt::Display for Version {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self {
            Version::V31 => "31",
            Version::V311 => "311",
            Version::V5 => "5",
        })
    }
}

pub struct Judge {
    pub name: &'static str,
    pub versions: &'static [Version],
    /// Rows that the library cannot show, and why. `(row, version, why)`; no version: in none.
    pub without: &'static [(&'static str, Option<Version>, &'static str)],
    /// The script; its arguments are port and version.
    pub command: fn() -> Command,
}

impl Judge {
    pub fn shows(&self, row: &str, version: Version) -> bool {
        let excused = |(name, only, _): &(&str, Option<Version>, &str)| {
            *name == row && only.is_none_or(|only| only == version)
        };
        self.versions.contains(&version) && !self.without.iter().any(excused)
    }
}

pub const ALL: &[Version] = &[Version::V31, Version::V311, Version::V5];

pub const JUDGES: &[Judge] = &[
    Judge {
        name: "paho",
        versions: ALL,
        without: &[("receive_maximum_of_server", None, "keeps to a smaller window of its own")],
        command: || python("paho/table.py"),
    },
    Judge {
        name: "mosquitto",
        versions: ALL,
        without: &[
            ("resume_inflight", None, "acknowledges by itself"),
            ("takeover", None, "does not tell why it ends"),
            ("topic_alias", None, "sends a topic with each message"),
            ("receive_maximum", None, "acknowledges by itself"),
            ("no_local", None, "either publishes or subscribes"),
            ("retain_handling", None, "subscribes once"),
            ("subscription_ids", None, "prints none"),
            ("unsubscribe", None, "prints no codes"),
            ("keep_alive", None, "5 s at least"),
            ("assigned_client_id", None, "prints none"),
            ("topic_alias_received", None, "prints none"),
            ("receive_maximum_of_server", None, "keeps to a smaller window of its own"),
            ("maximum_packet_size_of_server", None, "looks at the size itself"),
            ("keep_alive_expires", None, "5 s at least"),
            ("keep_alive_of_server", None, "prints none"),
            ("empty_client_id", None, "makes an id itself"),
        ],
        command: || python("mosquitto/table.py"),
    },
    Judge {
        name: "mqttjs",
        versions: ALL,
        without: &[
            ("resume_inflight", Some(Version::V31), "holds acknowledgements back in version 5 only"),
            ("resume_inflight", Some(Version::V311), "holds acknowledgements back in version 5 only"),
            ("receive_maximum", None, "does not read on while an acknowledgement is held back"),
            ("receive_maximum_of_server", None, "does not keep to it"),
            ("maximum_packet_size_of_server", None, "looks at the size itself"),
            ("keep_alive_expires", None, "pings by itself"),
        ],
        command: || {
            let mut command = Command::new("node");
            command.arg(script("mqttjs/table.js")).env("NODE_PATH", setting("SHARDMQ_TEST_NODE_MODULES"));
            command
        },
    },
    Judge {
        name: "rumqttc",
        versions: &[Version::V311, Version::V5],
        without: &[
            ("keep_alive", Some(Version::V5), "5 s at least"),
            ("keep_alive_expires", None, "pings by itself"),
            ("topic_alias_received", None, "does not show them"),
            ("maximum_packet_size_of_server", None, "looks at the size itself"),
        ],
        command: super::rumqttc_table::command,
    },
    Judge {
        name: "paho_go",
        versions: ALL,
        without: &[
            (
                "keep_alive",
                Some(Version::V31),
                "may ping as late as one and a half intervals, when a broker gives up",
            ),
            (
                "keep_alive",
                Some(Version::V311),
                "may ping as late as one and a half intervals, when a broker gives up",
            ),
            ("keep_alive_expires", None, "pings by itself"),
            ("topic_alias_received", None, "does not show them"),
            ("subscription_ids", None, "keeps one identifier of a message"),
        ],
        command: || Command::new(setting("SHARDMQ_TEST_GO_TABLE")),
    },
];

/// Where `.ci/test` has installed the libraries.
fn setting(name: &str) -> String {
    std::env::var(name).unwrap_or_else(|_| panic!("{name} is not set: run the tests with ./.ci/test"))
}

fn script(path: &str) -> String {
    format!("{}/tests/interop/{path}", env!("CARGO_MANIFEST_DIR"))
}

fn python(path: &str) -> Command {
    let mut command = Command::new(setting("SHARDMQ_TEST_PYTHON"));
    command.arg(script(path)).env("PYTHONDONTWRITEBYTECODE", "1");
    command
}
