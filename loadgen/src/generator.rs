//! Who carries out a plan: the threads of this process, or runners in others.

use crate::args::Scenario;
use crate::engine::{Command, ConnectLimits, Ended, Engine, Interval, PerFlow, Stats};
use crate::fleet::{ClockReport, Fleet};
use crate::plan::Plan;
use anyhow::{Result, bail};
use std::time::Duration;

pub enum Generator {
    Local(Engine),
    Fleet(Box<Fleet>),
}

/// What is known when all has ended.
pub struct Finished {
    pub plan: Plan,
    pub ended: Ended,
    /// Flow and deliveries that never came.
    pub lost: PerFlow,
    pub clocks: Vec<ClockReport>,
}

impl Generator {
    pub fn start(scenario: &Scenario, plan: Plan, limits: ConnectLimits) -> Result<Generator> {
        let common = scenario.common();
        match common.orchestrator {
            Some(listen) => Ok(Generator::Fleet(Box::new(Fleet::start(listen, scenario, plan)?))),
            None if common.runners > 1 => bail!("several runners need an --orchestrator address"),
            None => {
                let cpus = common.cpus.clone().unwrap_or_default().0;
                Ok(Generator::Local(Engine::start(plan, limits, &cpus, None)?))
            }
        }
    }

    pub fn plan(&self) -> &Plan {
        match self {
            Generator::Local(engine) => engine.plan(),
            Generator::Fleet(fleet) => fleet.plan(),
        }
    }

    pub fn command(&self, command: Command) {
        match self {
            Generator::Local(engine) => engine.command(command),
            Generator::Fleet(fleet) => fleet.command(command),
        }
    }

    pub fn stats(&self) -> Stats {
        match self {
            Generator::Local(engine) => engine.stats(),
            Generator::Fleet(fleet) => fleet.stats(),
        }
    }

    /// CPU time of each thread that holds connections.
    pub fn cpu_ns(&self) -> Vec<u64> {
        match self {
            Generator::Local(engine) => engine.cpu_ns(),
            Generator::Fleet(fleet) => fleet.cpu_ns(),
        }
    }

    pub fn measure(&self, due_ns: std::ops::Range<u64>) {
        match self {
            Generator::Local(engine) => engine.measure(due_ns),
            Generator::Fleet(fleet) => fleet.measure(due_ns),
        }
    }

    pub fn tick(&self) -> Vec<Interval> {
        match self {
            Generator::Local(engine) => engine.tick(),
            Generator::Fleet(fleet) => fleet.tick(),
        }
    }

    pub fn first_error(&self) -> Option<String> {
        match self {
            Generator::Local(engine) => engine.first_error(),
            Generator::Fleet(fleet) => fleet.first_error(),
        }
    }

    /// Fails if a part of the generator did.
    pub fn check(&self) -> Result<()> {
        match self {
            Generator::Local(engine) if !engine.is_running() => bail!("a worker ended early"),
            Generator::Local(_) => Ok(()),
            Generator::Fleet(fleet) => fleet.check(),
        }
    }

    /// How long to wait between two looks at the counters.
    pub fn look(&self) -> Duration {
        match self {
            Generator::Local(_) => Duration::from_millis(2),
            Generator::Fleet(_) => Duration::from_millis(20),
        }
    }

    pub fn finish(self) -> Result<Finished> {
        let plan = self.plan().clone();
        match self {
            Generator::Local(engine) => {
                let ended = engine.finish()?;
                let lost = ended.lost(&ended.sent, &ended.unacked);
                Ok(Finished { plan, ended, lost, clocks: vec![] })
            }
            Generator::Fleet(fleet) => {
                let (ended, lost, clocks) = fleet.finish()?;
                Ok(Finished { plan, ended, lost, clocks })
            }
        }
    }
}
