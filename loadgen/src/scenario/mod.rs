//! The scenarios: each builds a plan and says which way of running it fits.

mod hook;
mod run;
mod setup;
mod stream;
mod verdict;
mod watch;

mod conn;
mod emqtt;
mod fan;
mod offline;
mod p2p;
mod retained;
mod tbmq;
mod wildcard;

use crate::args::{Common, Scenario};
use crate::plan::Plan;
use crate::report::Report;
use anyhow::Result;
use run::Run;

pub use setup::connect_limits;

/// What a scenario consists of.
pub fn plan(scenario: &Scenario) -> Result<Plan> {
    match scenario {
        Scenario::P2p(args) => p2p::plan(args),
        Scenario::FanOut(args) => fan::out_plan(args),
        Scenario::FanIn(args) => fan::in_plan(args),
        Scenario::Share(args) => fan::share_plan(args),
        Scenario::Wildcard(args) => wildcard::plan(args),
        Scenario::Conn(args) => conn::plan(args),
        Scenario::Retained(args) => retained::plan(args),
        Scenario::Offline(args) => offline::plan(args),
        Scenario::Tbmq(args) => tbmq::plan(args),
        Scenario::Emqtt(args) => emqtt::plan(args),
    }
}

/// Carries out a scenario.
pub fn run(scenario: &Scenario) -> Result<Report> {
    let run = Run::start(scenario, plan(scenario)?)?;
    match scenario {
        Scenario::Conn(args) => conn::run(run, args),
        Scenario::Retained(args) => retained::run(run, args),
        Scenario::Offline(args) => offline::run(run, args),
        Scenario::Tbmq(args) => tbmq::run(run, args),
        _ => stream::run(run, false),
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
            Scenario::Emqtt(_) => "emqtt",
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
            Scenario::Emqtt(args) => &args.common,
        }
    }

    pub fn common_mut(&mut self) -> &mut Common {
        match self {
            Scenario::P2p(args) => &mut args.common,
            Scenario::FanOut(args) => &mut args.common,
            Scenario::FanIn(args) => &mut args.common,
            Scenario::Share(args) => &mut args.common,
            Scenario::Wildcard(args) => &mut args.common,
            Scenario::Conn(args) => &mut args.common,
            Scenario::Retained(args) => &mut args.common,
            Scenario::Offline(args) => &mut args.common,
            Scenario::Tbmq(args) => &mut args.common,
            Scenario::Emqtt(args) => &mut args.common,
        }
    }
}
