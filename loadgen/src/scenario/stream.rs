//! The way of running that most scenarios share: connect all, warm up, measure, wait for what is under way, judge.

use super::run::{Run, Span};
use crate::clock;
use crate::engine::{Command, Stats};
use crate::interrupt;
use crate::plan::Role;
use crate::report::Report;
use anyhow::Result;

/// From telling the workers, which may be in other processes, what is measured to its beginning.
const LEAD_NS: u64 = 100_000_000;

/// `wipes`: subscribers have sessions, of which none is there before and none is left behind.
pub fn run(mut run: Run<'_>, wipes: bool) -> Result<Report> {
    if wipes {
        run.wipe(Role::Subscriber)?;
    }
    run.watch.phase("connect-begin");
    for role in [Role::Subscriber, Role::Publisher, Role::Idle] {
        run.connect(role)?;
    }
    run.watch.phase("connect-end");
    let span = publish(&mut run)?;
    run.watch.phase("drain-begin");
    drain(&mut run)?;
    run.watch.phase("drain-end");
    if wipes {
        run.generator.command(Command::Disconnect(Role::Subscriber));
        run.wipe(Role::Subscriber)?;
    }
    run.report(&span)
}

/// Warms up and measures.
fn publish(run: &mut Run<'_>) -> Result<Span> {
    let common = run.common;
    let flow_count = run.generator.plan().flows.len() as u64;
    let limit = common.count.map_or(u64::MAX, |count| count.div_ceil(flow_count.max(1)));
    let warmup = common.warmup();
    if !warmup.is_zero() {
        let start_ns = clock::now_ns();
        run.generator.command(Command::Publish { start_ns, limit });
        run.watch.phase("warmup-begin");
        run.watch.sleep_until(&run.generator, start_ns + warmup.as_nanos() as u64)?;
    }
    // The workers must know the interval before it begins.
    let begin_ns = clock::now_ns() + LEAD_NS;
    let end_ns = begin_ns + common.duration.as_nanos() as u64;
    run.generator.measure(begin_ns..if common.count.is_some() { u64::MAX } else { end_ns });
    let starts = Command::Publish { start_ns: begin_ns, limit };
    // An open loop that is told in time has all its due times within the interval.
    if warmup.is_zero() && common.rate.is_some() {
        run.generator.command(starts);
    }
    run.watch.sleep_until(&run.generator, begin_ns)?;
    let begin = run.begin("measure");
    if warmup.is_zero() && common.rate.is_none() {
        run.generator.command(starts);
    }
    if common.count.is_some() {
        let total = limit * flow_count;
        let is_done = move |stats: &Stats| {
            interrupt::is_interrupted() || (stats.sent >= total && stats.delivered >= stats.owed)
        };
        run.watch.wait(&run.generator, common.settle, |stats| stats.sent + stats.delivered, is_done)?;
    } else {
        if common.rate.is_some() {
            run.generator.command(Command::StopPublishing { at_ns: end_ns });
        }
        run.watch.sleep_until(&run.generator, end_ns)?;
    }
    let span = run.end("measure", begin);
    run.generator.command(Command::StopPublishing { at_ns: span.end.ns });
    Ok(span)
}

/// Waits for what is under way.
fn drain(run: &mut Run<'_>) -> Result<()> {
    let is_acked = run.common.qos > 0;
    run.settle(move |stats| {
        let answered = stats.acked + stats.refused;
        stats.delivered >= stats.owed && (!is_acked || answered >= stats.sent)
    })?;
    Ok(())
}
