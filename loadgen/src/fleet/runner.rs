//! A runner: connects to the orchestrator, builds the same plan, and does its part of it.

use super::link::Link;
use super::message::{Request, Response, SentEnd, SentInterval, Start};
use crate::args::{RunnerArgs, Scenario};
use crate::clock;
use crate::engine::{Ended, Engine, Mesh};
use crate::scenario;
use anyhow::{Context, Result, bail};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::time::Duration;

/// Between two tries to reach the orchestrator.
const RETRY: Duration = Duration::from_millis(100);

/// Serves one run, until the orchestrator closes the connection.
pub fn run(args: &RunnerArgs) -> Result<()> {
    let stream = reach(args.orchestrator, args.patience)?;
    // Other runners reach us at the address by which the orchestrator knows us.
    let credits =
        TcpListener::bind((stream.local_addr()?.ip(), 0)).context("cannot listen for other runners")?;
    let mut link = Link::new(stream)?;
    let mut part = Part::Waits(credits);
    while let Some(request) = link.receive()? {
        let response = match part.answer(request, args) {
            Ok(response) => response,
            Err(error) => {
                link.send(&Response::Failed(format!("{error:#}")))?;
                return Err(error);
            }
        };
        link.send(&response)?;
    }
    match part {
        Part::Ended(_) => Ok(()),
        _ => bail!("the orchestrator is gone"),
    }
}

/// It may be started after us.
fn reach(orchestrator: SocketAddr, patience: Duration) -> Result<TcpStream> {
    let deadline = clock::own_ns() + patience.as_nanos() as u64;
    loop {
        match TcpStream::connect_timeout(&orchestrator, patience.max(RETRY)) {
            Ok(stream) => return Ok(stream),
            Err(error) if clock::own_ns() > deadline => {
                return Err(error).with_context(|| format!("no orchestrator at {orchestrator}"));
            }
            Err(_) => std::thread::sleep(RETRY),
        }
    }
}

/// How far this runner is.
enum Part {
    /// With the port for the credits of other runners.
    Waits(TcpListener),
    Over,
    Runs(Engine),
    Ended(Box<Ended>),
}

impl Part {
    fn answer(&mut self, request: Request, args: &RunnerArgs) -> Result<Response> {
        match (&mut *self, request) {
            (_, Request::Clock) => return Ok(Response::Clock(clock::own_ns())),
            (Part::Waits(credits), Request::Hello) => {
                let credit_port = credits.local_addr()?.port();
                return Ok(Response::Hello { index: args.index, credit_port });
            }
            (Part::Waits(credits), Request::Start(start)) => {
                *self = Part::Runs(start_engine(*start, args, credits)?);
            }
            (Part::Runs(engine), Request::Command(command)) => engine.command(command),
            (Part::Runs(engine), Request::Measure { from_ns, to_ns }) => engine.measure(from_ns..to_ns),
            (Part::Runs(engine), Request::Stats) => {
                if !engine.is_running() {
                    bail!("a worker ended early");
                }
                return Ok(Response::Stats(engine.stats()));
            }
            (Part::Runs(engine), Request::Cpu) => return Ok(Response::Cpu(engine.cpu_ns())),
            (Part::Runs(engine), Request::FirstError) => {
                return Ok(Response::FirstError(engine.first_error()));
            }
            (Part::Runs(engine), Request::Tick) => {
                let intervals = engine.tick().into_iter().map(SentInterval::from).collect();
                return Ok(Response::Intervals(intervals));
            }
            (Part::Runs(_), Request::End) => return self.end(),
            (Part::Ended(ended), Request::Judge { sent, unacked }) => {
                return Ok(Response::Lost(ended.lost(&sent, &unacked)));
            }
            _ => bail!("a request at the wrong time"),
        }
        Ok(Response::Done)
    }

    fn end(&mut self) -> Result<Response> {
        let Part::Runs(engine) = std::mem::replace(self, Part::Over) else { bail!("nothing runs") };
        let mut ended = engine.finish()?;
        let sent = SentEnd::of(&mut ended);
        *self = Part::Ended(Box::new(ended));
        Ok(Response::Ended(Box::new(sent)))
    }
}

fn start_engine(start: Start, args: &RunnerArgs, credits: &TcpListener) -> Result<Engine> {
    let Start { mut scenario, password, tag, index, offset_ns, peers } = start;
    clock::set_offset_ns(offset_ns);
    let common = Scenario::common_mut(&mut scenario);
    common.password = password;
    common.tag = Some(tag);
    common.source = args.source.clone().or(common.source.take());
    let (limits, threads) = (scenario::connect_limits(common), common.threads as usize);
    let mut plan = scenario::plan(&scenario)?;
    plan.local = index * threads..(index + 1) * threads;
    let cpus = args.cpus.clone().unwrap_or_default().0;
    if peers.is_empty() {
        return Engine::start(plan, limits, &cpus, None);
    }
    let mesh = Mesh::connect(&peers, index, threads)?;
    let engine = Engine::start(plan, limits, &cpus, Some(mesh))?;
    // All listen before the first is told to start, so nobody waits for another here for long.
    engine.receive_credits(credits, peers.len() - 1)?;
    Ok(engine)
}
