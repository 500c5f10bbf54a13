//! Several processes as one load generator: an orchestrator that carries out the scenario, and runners that hold the
//! connections. The orchestrator's commands, counters and histograms are those of a local engine, sent as one line
//! of JSON each way. There is no authentication: the port is for a network that one trusts.

mod link;
mod message;
mod offset;
mod orchestrator;
mod runner;

pub use offset::ClockReport;
pub use orchestrator::Fleet;
pub use runner::run as run_runner;
