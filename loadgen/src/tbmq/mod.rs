//! Run files and environment variables of TBMQ's performance tests, as they are.

mod environment;
mod file;

pub use environment::{Environment, InvalidVariable, Part};
pub use file::{ClientType, InvalidFile, PublisherGroup, RunFile, SubscriberGroup};

/// Topics of a group are numbered from 0 to this, and then from 0 again.
pub const TOPIC_INDEX_MAX: u32 = 25_000;
