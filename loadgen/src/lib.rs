//! An MQTT load generator. A scenario builds a [`plan::Plan`]: clients, flows, and who must get what. The [`engine`]
//! carries it out on one thread per core and checks every delivery; the report says what was measured, what was
//! lost, doubled, swapped or misrouted, and whether the load generator itself was the limit.

pub mod args;
pub mod clock;
pub mod engine;
pub mod fleet;
pub mod generator;
pub mod interrupt;
pub mod latency;
pub mod pacing;
pub mod payload;
pub mod plan;
pub mod process;
pub mod random;
pub mod report;
pub mod scenario;
pub mod tbmq;
pub mod tracker;
