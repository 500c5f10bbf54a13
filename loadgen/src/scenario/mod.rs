//! The scenarios: each builds a plan and says which way of running it fits.

mod setup;
mod stream;
mod verdict;
mod watch;

mod fan;
mod p2p;

use crate::args::{Common, Scenario};
use crate::report::Report;
use anyhow::Result;

/// Carries out a scenario.
pub fn run(scenario: &Scenario) -> Result<Report> {
    let plan = match scenario {
        Scenario::P2p(args) => p2p::plan(args)?,
        Scenario::FanOut(args) => fan::out_plan(args)?,
        Scenario::FanIn(args) => fan::in_plan(args)?,
        Scenario::Share(args) => fan::share_plan(args)?,
    };
    stream::run(scenario, plan)
}

impl Scenario {
    pub fn name(&self) -> &'static str {
        match self {
            Scenario::P2p(_) => "p2p",
            Scenario::FanOut(_) => "fan-out",
            Scenario::FanIn(_) => "fan-in",
            Scenario::Share(_) => "share",
        }
    }

    pub fn common(&self) -> &Common {
        match self {
            Scenario::P2p(args) => &args.common,
            Scenario::FanOut(args) => &args.common,
            Scenario::FanIn(args) => &args.common,
            Scenario::Share(args) => &args.common,
        }
    }
}
