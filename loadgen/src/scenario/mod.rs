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
use crate::payload::{COMPACT_FLOWS_MAX, FULL_LEN, Form};
use crate::plan::Plan;
use crate::report::Report;
use anyhow::{Result, bail};
use run::Run;

pub use setup::connect_limits;

/// What a scenario consists of.
pub fn plan(scenario: &Scenario) -> Result<Plan> {
    let mut plan = draft(scenario)?;
    if scenario.is_persistent() {
        plan.keep_sessions();
    }
    if Form::of(plan.options.payload_size) == Form::Compact && plan.flows.len() > COMPACT_FLOWS_MAX {
        let (size, flows) = (plan.options.payload_size, plan.flows.len());
        bail!(
            "a payload of {size} bytes cannot tell {flows} flows apart, only {COMPACT_FLOWS_MAX}: use {FULL_LEN} bytes"
        );
    }
    Ok(plan)
}

fn draft(scenario: &Scenario) -> Result<Plan> {
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
        _ => stream::run(run, scenario.is_persistent()),
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

    /// The phases whose cost it reports, besides that of each delivered message.
    pub fn phases(&self) -> &'static [&'static str] {
        match self {
            Scenario::Conn(_) => &["connect", "hold"],
            Scenario::Retained(_) => &["store", "deliver"],
            Scenario::Offline(_) => &["queue", "drain"],
            _ => &[],
        }
    }

    /// Subscribers keep their sessions though the scenario does not need it.
    fn is_persistent(&self) -> bool {
        match self {
            Scenario::P2p(args) => args.persistence.persistent,
            Scenario::FanOut(args) => args.persistence.persistent,
            Scenario::FanIn(args) => args.persistence.persistent,
            Scenario::Share(args) => args.persistence.persistent,
            Scenario::Wildcard(args) => args.persistence.persistent,
            _ => false,
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
