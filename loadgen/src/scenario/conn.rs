//! Connections: how fast they are set up, and what they cost while they do nothing.

use super::run::Run;
use super::setup;
use crate::args::Conn;
use crate::engine::Command;
use crate::plan::{Client, Plan, Role};
use crate::report::Report;
use anyhow::{Result, bail};

pub fn plan(args: &Conn) -> Result<Plan> {
    let common = &args.common;
    let mut plan = setup::plan(common, 1)?;
    let id = setup::ids(common, "conn");
    let worker_count = plan.worker_count;
    let client = |number: u32| Client {
        id: id(number),
        role: Role::Idle,
        worker: number as usize % worker_count,
        clean_start: !args.keep_session,
        subscription: None,
        flows: 0..0,
    };
    plan.clients = (0..args.connections).map(client).collect();
    Ok(plan)
}

pub fn run(mut run: Run<'_>, args: &Conn) -> Result<Report> {
    let begin = run.begin("connect");
    let count = args.connections as u64;
    let (missing, error) = run.try_connect(Command::Connect(Role::Idle), count)?;
    let connect = run.end("connect", begin);
    if missing == count {
        bail!("no connection was set up: {error}");
    }
    run.report_phase("connect", "connection", count - missing, &connect);
    if !args.hold.is_zero() {
        let begin = run.begin("hold");
        let end_ns = begin.ns + args.hold.as_nanos() as u64;
        run.watch.sleep_until(&run.generator, end_ns)?;
        let hold = run.end("hold", begin);
        run.report_phase("hold", "connection", count - missing, &hold);
    }
    run.report(&connect)
}
