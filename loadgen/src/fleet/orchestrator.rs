//! The orchestrator's side: runners, addressed as if they were one engine.

use super::link::Link;
use super::message::{Request, Response, Start};
use super::offset::{ClockReport, Offset};
use crate::args::{RunnerArgs, Scenario};
use crate::clock;
use crate::engine::{Command, Ended, Interval, PerFlow, Stats};
use crate::interrupt;
use crate::plan::Plan;
use anyhow::{Context, Error, Result, anyhow, bail};
use std::cell::RefCell;
use std::io::ErrorKind;
use std::net::{Ipv4Addr, SocketAddr, TcpListener};
use std::time::Duration;

/// Between two looks whether a runner came.
const ACCEPT_LOOK: Duration = Duration::from_millis(20);

struct Runner {
    name: String,
    link: Link,
    offset: Offset,
    /// Which it wants to be.
    index: Option<usize>,
    /// Where it takes credits.
    credits: SocketAddr,
}

impl Runner {
    /// The next one to come, within this time if one is given.
    fn accept(listener: &TcpListener, patience: Option<Duration>) -> Result<Runner> {
        let deadline = patience.map(|patience| clock::own_ns() + patience.as_nanos() as u64);
        listener.set_nonblocking(true)?;
        let (stream, address) = loop {
            match listener.accept() {
                Ok(accepted) => break accepted,
                Err(error) if error.kind() != ErrorKind::WouldBlock => {
                    return Err(error).context("cannot accept a runner");
                }
                Err(_) if interrupt::is_interrupted() => bail!("interrupted while waiting for runners"),
                Err(_) if deadline.is_some_and(|deadline| clock::own_ns() > deadline) => {
                    bail!("not all runners came within {:?}", patience.unwrap_or_default());
                }
                Err(_) => std::thread::sleep(ACCEPT_LOOK),
            }
        };
        stream.set_nonblocking(false)?;
        let mut link = Link::new(stream)?;
        let name = address.ip().to_string();
        link.send(&Request::Hello)?;
        let Some(Response::Hello { index, credit_port }) = link.receive()? else {
            bail!("runner {name} does not say who it is: it may be of another version");
        };
        let offset = Offset::measure(&mut link).with_context(|| format!("runner {name}"))?;
        Ok(Runner { name, link, offset, index, credits: SocketAddr::new(address.ip(), credit_port) })
    }
}

/// Those that want to be a certain one come there, the others between them; each is called by its number.
fn put_in_order(runners: &mut Vec<Runner>) -> Result<()> {
    let count = runners.len();
    let (chosen, mut free): (Vec<Runner>, Vec<Runner>) = runners.drain(..).partition(|it| it.index.is_some());
    let mut places: Vec<Option<Runner>> = (0..count).map(|_| None).collect();
    for runner in chosen {
        let index = runner.index.unwrap_or_default();
        match places.get_mut(index) {
            Some(place @ None) => *place = Some(runner),
            Some(Some(_)) => bail!("two runners want to be number {index}"),
            None => bail!("a runner wants to be number {index}, but there are {count}, from 0"),
        }
    }
    // The first that came is the first of the rest.
    free.reverse();
    runners.extend(places.into_iter().filter_map(|place| place.or_else(|| free.pop())));
    for (index, runner) in runners.iter_mut().enumerate() {
        runner.name = format!("{index} ({})", runner.name);
    }
    Ok(())
}

/// This process is the first of its own runners. If it fails, the orchestrator is told as by any other.
fn spawn_own_runner(port: u16, cpus: Option<crate::args::Cpus>) -> Result<()> {
    let args = RunnerArgs {
        orchestrator: SocketAddr::from((Ipv4Addr::LOCALHOST, port)),
        cpus,
        source: None,
        patience: ACCEPT_LOOK,
        index: Some(0),
    };
    let run = move || {
        if let Err(error) = super::run_runner(&args) {
            eprintln!("runner 0: {error:#}");
        }
    };
    std::thread::Builder::new().name("runner".into()).spawn(run)?;
    Ok(())
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
        let listener = TcpListener::bind(listen).with_context(|| format!("cannot listen on {listen}"))?;
        // With port 0 only we know where.
        eprintln!("waiting for {} runners on {}", common.runners, listener.local_addr()?);
        if common.own_runner {
            spawn_own_runner(listener.local_addr()?.port(), common.cpus.clone())?;
        }
        let mut runners = (0..common.runners)
            .map(|_| Runner::accept(&listener, common.runner_patience))
            .collect::<Result<Vec<_>>>()?;
        put_in_order(&mut runners)?;
        let crosses = plan.credits_cross_processes(common.threads as usize);
        let peers: Vec<SocketAddr> = runners.iter().filter(|_| crosses).map(|it| it.credits).collect();
        for (index, runner) in runners.iter_mut().enumerate() {
            let start = Start {
                scenario: scenario.clone(),
                password: common.password.clone(),
                tag: plan.options.tag,
                index,
                offset_ns: runner.offset.to_ours_ns,
                peers: peers.clone(),
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
