//! Retained messages: storing many, and handing them all to a subscriber that comes later.

use super::run::Run;
use super::setup;
use crate::args::Retained;
use crate::engine::{Command, Stats};
use crate::plan::{FlowSet, Pace, Plan, Role};
use crate::report::Report;
use anyhow::Result;

pub fn plan(args: &Retained) -> Result<Plan> {
    let common = &args.common;
    let mut plan = setup::plan(common, args.topics as usize)?;
    plan.options.retain = true;
    plan.options.pace = Pace::Unacknowledged(common.window);
    let (publisher, subscriber) = (setup::ids(common, "pub"), setup::ids(common, "sub"));
    let publishers = args.publishers.min(args.topics);
    for number in 0..publishers {
        let topics: Vec<String> = (number..args.topics)
            .step_by(publishers as usize)
            .map(|topic| format!("{}/retained/{}/{topic}", common.prefix, topic % 100))
            .collect();
        let worker = number as usize % plan.worker_count;
        plan.add_publisher(publisher(number), worker, &topics, common.publish_qos());
    }
    let filter = format!("{}/retained/#", common.prefix).into();
    for number in 0..args.subscribers {
        let worker = number as usize % plan.worker_count;
        let receiver =
            plan.add_receiver(FlowSet::Range(0..args.topics), common.subscribe_qos(), worker, false);
        plan.add_subscriber(subscriber(number), &filter, receiver);
    }
    Ok(plan)
}

pub fn run(mut run: Run<'_>, args: &Retained) -> Result<Report> {
    let topics = args.topics as u64;
    run.watch.phase("connect-begin");
    run.connect(Role::Publisher)?;
    run.watch.phase("connect-end");

    let begin = run.begin("store");
    run.generator.command(Command::Publish { start_ns: begin.ns, limit: 1 });
    let is_acked = run.common.qos > 0;
    run.settle(move |stats| stats.sent >= topics && (!is_acked || stats.acked + stats.refused >= topics))?;
    run.fence(Role::Publisher)?;
    let store = run.end("store", begin);
    run.report_phase("store", "message", topics, &store);

    let begin = run.begin("measure");
    // Latency counts from the time of storing, so it is none.
    run.generator.measure(u64::MAX..u64::MAX);
    run.connect(Role::Subscriber)?;
    run.settle(|stats: &Stats| stats.delivered >= stats.owed)?;
    let deliver = run.end("measure", begin);
    let delivered = deliver.end.stats.delivered;
    run.report_phase("deliver", "message", delivered, &deliver);

    if !args.keep {
        run.generator.command(Command::Disconnect(Role::Subscriber));
        run.generator.command(Command::ClearRetained);
        run.fence(Role::Publisher)?;
    }
    run.report(&deliver)
}
