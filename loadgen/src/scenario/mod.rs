//! The scenarios: each builds a plan and says which way of running it fits.

mod hook;
mod run;
mod setup;
mod stream;
mod verdict;
mod watch;

mod conn;
mod fan;
mod offline;
mod p2p;
mod retained;
mod tbmq;
mod wildcard;

use crate::args::{Common, Scenario};
use crate::report::Report;
use anyhow::Result;

/// Carries out a scenario.
pub fn run(scenario: &Scenario) -> Result<Report> {
    match scenario {
        Scenario::P2p(args) => stream::run(scenario, p2p::plan(args)?),
        Scenario::FanOut(args) => stream::run(scenario, fan::out_plan(args)?),
        Scenario::FanIn(args) => stream::run(scenario, fan::in_plan(args)?),
        Scenario::Share(args) => stream::run(scenario, fan::share_plan(args)?),
        Scenario::Wildcard(args) => stream::run(scenario, wildcard::plan(args)?),
        Scenario::Conn(args) => conn::run(scenario, args),
        Scenario::Retained(args) => retained::run(scenario, args),
        Scenario::Offline(args) => offline::run(scenario, args),
        Scenario::Tbmq(args) => tbmq::run(scenario, args),
    }
}

impl Scenario {
    pub fn name(&self) -> &'static str {
        match self {
            Scenario::P2p(_) => "p2p",
            Scenario::FanOut(_) => "fan-out",
            Scenario::FanIn(_) => "fan-in",
            Scenario::Share(_) => "share",
            Scenario::Wildcard(_) => "wildcard",
            Scenario::Conn(_) => "conn",
            Scenario::Retained(_) => "retained",
            Scenario::Offline(_) => "offline",
            Scenario::Tbmq(_) => "tbmq",
        }
    }

    pub fn common(&self) -> &Common {
        match self {
            Scenario::P2p(args) => &args.common,
            Scenario::FanOut(args) => &args.common,
            Scenario::FanIn(args) => &args.common,
            Scenario::Share(args) => &args.common,
            Scenario::Wildcard(args) => &args.common,
            Scenario::Conn(args) => &args.common,
            Scenario::Retained(args) => &args.common,
            Scenario::Offline(args) => &args.common,
            Scenario::Tbmq(args) => &args.common,
        }
    }
}
