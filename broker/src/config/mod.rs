//! The configuration: one table of options (`table`, and a file for each group of sections), filled from defaults, a
//! file, the environment and flags (`layers`), checked as a whole (`validate`), and written for people (`print`).

mod layers;
mod limits;
mod listener;
mod mqtt;
pub mod print;
mod process;
mod runtime;
mod session;
mod table;
mod validate;
pub mod value;

use std::collections::BTreeMap;
use std::fmt;

pub use self::layers::{Assignment, Sources, load};
pub use self::limits::Limits;
pub use self::listener::Listener;
pub use self::mqtt::{DeniedPublish, Mqtt, Overlap};
pub use self::process::{Access, Admin, Drain, Log, LogFormat, SysTopics};
pub use self::runtime::{Runtime, Storage};
pub use self::session::{QueuePolicy, Retained, Session};
pub use self::table::Section;

/// What is in force, and where it comes from.
#[derive(Clone, Debug, Default)]
pub struct Config {
    pub listeners: Vec<Listener>,
    pub mqtt: Mqtt,
    pub session: Session,
    pub retained: Retained,
    pub limits: Limits,
    pub runtime: Runtime,
    pub storage: Storage,
    pub access: Access,
    pub admin: Admin,
    pub log: Log,
    pub sys_topics: SysTopics,
    pub drain: Drain,
    /// By `section.option`, and `listener.NAME.option`; what is not in it is a default.
    origins: BTreeMap<String, Origin>,
}

impl Config {
    /// All but the listeners, in the order of the manual.
    pub fn sections(&self) -> [&dyn Section; 11] {
        [
            &self.mqtt,
            &self.session,
            &self.retained,
            &self.limits,
            &self.runtime,
            &self.storage,
            &self.access,
            &self.admin,
            &self.log,
            &self.sys_topics,
            &self.drain,
        ]
    }

    fn section_mut(&mut self, name: &str) -> Option<&mut dyn Section> {
        let sections: [&mut dyn Section; 11] = [
            &mut self.mqtt,
            &mut self.session,
            &mut self.retained,
            &mut self.limits,
            &mut self.runtime,
            &mut self.storage,
            &mut self.access,
            &mut self.admin,
            &mut self.log,
            &mut self.sys_topics,
            &mut self.drain,
        ];
        sections.into_iter().find(|section| section.name() == name)
    }

    /// Where the value of `section.option` or `listener.NAME.option` comes from.
    pub fn origin(&self, key: &str) -> Origin {
        self.origins.get(key).cloned().unwrap_or(Origin::Default)
    }
}

/// Where a value comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Default,
    File { path: String, line: usize },
    Variable(String),
    Flag(String),
}

impl fmt::Display for Origin {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Origin::Default => formatter.write_str("default"),
            Origin::File { path, line } => write!(formatter, "{path}:{line}"),
            Origin::Variable(name) => formatter.write_str(name),
            Origin::Flag(flag) => formatter.write_str(flag),
        }
    }
}

/// All that is wrong with a configuration.
#[derive(Debug, Default, thiserror::Error)]
pub struct Faults(pub Vec<Fault>);

/// One fault, and the place to mend it.
#[derive(Debug, PartialEq, Eq)]
pub struct Fault {
    pub origin: Origin,
    pub message: String,
}

impl fmt::Display for Fault {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(formatter, "{}: {}", self.origin, self.message)
    }
}

impl fmt::Display for Faults {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let lines: Vec<String> = self.0.iter().map(Fault::to_string).collect();
        formatter.write_str(&lines.join("\n"))
    }
}
