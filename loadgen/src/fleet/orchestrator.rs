//! The orchestrator's side: runners, addressed as if they were one engine.

use super::link::Link;
use super::message::{Request, Response, Start};
use super::offset::{ClockReport, Offset};
use crate::args::Scenario;
use crate::engine::{Command, Ended, Interval, PerFlow, Stats};
use crate::plan::Plan;
use anyhow::{Context, Error, Result, anyhow, bail};
use std::cell::RefCell;
use std::net::{SocketAddr, TcpListener};

struct Runner {
    name: String,
    link: Link,
    offset: Offset,
}

/// Runners that carry out a plan together. The first that fails ends the run: `check` tells.
pub struct Fleet {
    plan: Plan,
    runners: RefCell<Vec<Runner>>,
    failed: RefCell<Option<Error>>,
}

impl Fleet {
    /// Waits for all runners, measures their clocks, and starts their engines.
    pub fn start(listen: SocketAddr, scenario: &Scenario, plan: Plan) -> Result<Fleet> {
        let common = scenario.common();
        if let Some(flow) = plan.unheard_flow(common.threads as usize) {
            let topic = &plan.flows[flow as usize].topic;
            bail!("publisher and receivers of `{topic}` are on different runners: choose a --rate");
        }
        let listener = TcpListener::bind(listen).with_context(|| format!("cannot listen on {listen}"))?;
        // With port 0 only we know where.
        eprintln!("waiting for {} runners on {}", common.runners, listener.local_addr()?);
        let mut runners = vec![];
        for index in 0..common.runners as usize {
            let (stream, address) = listener.accept().context("cannot accept a runner")?;
            let mut link = Link::new(stream)?;
            let name = format!("{index} ({})", address.ip());
            let offset = Offset::measure(&mut link).with_context(|| format!("runner {name}"))?;
            runners.push(Runner { name, link, offset });
        }
        for (index, runner) in runners.iter_mut().enumerate() {
            let start = Start {
                scenario: scenario.clone(),
                password: common.password.clone(),
                tag: plan.options.tag,
                index,
                offset_ns: runner.offset.to_ours_ns,
            };
            runner.link.send(&Request::Start(Box::new(start)))?;
        }
        let fleet = Fleet { plan, runners: RefCell::new(runners), failed: RefCell::default() };
        fleet.receive_all().into_iter().for_each(drop);
        fleet.check()?;
        Ok(fleet)
    }

    pub fn plan(&self) -> &Plan {
        &self.plan
    }

    /// Sends to all, then waits for all answers. Those of runners that failed are missing.
    fn ask(&self, request: &Request) -> Vec<Response> {
        for runner in self.runners.borrow_mut().iter_mut() {
            if let Err(error) = runner.link.send(request) {
                self.fail(&runner.name, error);
            }
        }
        self.receive_all()
    }

    fn receive_all(&self) -> Vec<Response> {
        let mut responses = vec![];
        if self.failed.borrow().is_some() {
            return responses;
        }
        for runner in self.runners.borrow_mut().iter_mut() {
            match runner.link.receive() {
                Ok(Some(Response::Failed(why))) => self.fail(&runner.name, anyhow!(why)),
                Ok(Some(response)) => responses.push(response),
                Ok(None) => self.fail(&runner.name, anyhow!("it is gone")),
                Err(error) => self.fail(&runner.name, error),
            }
        }
        responses
    }

    fn fail(&self, runner: &str, error: Error) {
        self.failed.borrow_mut().get_or_insert(error.context(format!("runner {runner}")));
    }

    pub fn check(&self) -> Result<()> {
        self.failed.borrow_mut().take().map_or(Ok(()), Err)
    }

    pub fn command(&self, command: Command) {
        self.ask(&Request::Command(command));
    }

    pub fn stats(&self) -> Stats {
        let mut sum = Stats::default();
        for response in self.ask(&Request::Stats) {
            if let Response::Stats(stats) = response {
                sum.add(&stats);
            }
        }
        sum
    }

    pub fn cpu_ns(&self) -> Vec<u64> {
        let threads = |response| match response {
            Response::Cpu(threads) => threads,
            _ => vec![],
        };
        self.ask(&Request::Cpu).into_iter().flat_map(threads).collect()
    }

    pub fn measure(&self, due_ns: std::ops::Range<u64>) {
        self.ask(&Request::Measure { from_ns: due_ns.start, to_ns: due_ns.end });
    }

    pub fn tick(&self) -> Vec<Interval> {
        let intervals = |response| match response {
            Response::Intervals(intervals) => intervals,
            _ => vec![],
        };
        self.ask(&Request::Tick).into_iter().flat_map(intervals).map(Interval::from).collect()
    }

    pub fn first_error(&self) -> Option<String> {
        self.ask(&Request::FirstError).into_iter().find_map(|response| match response {
            Response::FirstError(error) => error,
            _ => None,
        })
    }

    /// Ends all runners. Returns what they know together, flow and deliveries that never came, and their clocks.
    pub fn finish(self) -> Result<(Ended, PerFlow, Vec<ClockReport>)> {
        let mut all = Ended::default();
        for response in self.ask(&Request::End) {
            let Response::Ended(end) = response else { bail!("a runner did not end") };
            all.sent.extend(end.sent);
            all.unacked.extend(end.unacked);
            all.connect_latency.add(crate::latency::Latencies::from(end.connect_latency))?;
            all.ack_latency.add(crate::latency::Latencies::from(end.ack_latency))?;
            all.intervals.extend(end.intervals.into_iter().map(Interval::from));
        }
        let mut lost = vec![];
        for response in self.ask(&Request::Judge { sent: all.sent.clone(), unacked: all.unacked.clone() }) {
            let Response::Lost(flows) = response else { bail!("a runner did not judge") };
            lost.extend(flows);
        }
        self.check()?;
        let mut clocks = vec![];
        for runner in self.runners.borrow_mut().iter_mut() {
            let after = Offset::measure(&mut runner.link)?;
            clocks.push(ClockReport {
                runner: runner.name.clone(),
                offset_ns: runner.offset.to_ours_ns,
                error_ns: runner.offset.error_ns.max(after.error_ns),
                drift_ns: after.to_ours_ns - runner.offset.to_ours_ns,
            });
        }
        Ok((all, lost, clocks))
    }
}
