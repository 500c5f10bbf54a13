//! Messages for clients that are away: queued, perhaps through a restart or a crash, and drained when they return.

use super::run::Run;
use super::{hook, setup};
use crate::args::{HookAt, Offline};
use crate::engine::{Command, Stats};
use crate::plan::{FlowSet, Pace, Plan, Role};
use crate::report::Report;
use anyhow::Result;

pub fn plan(args: &Offline) -> Result<Plan> {
    let common = &args.common;
    let mut plan = setup::plan(common, args.sessions as usize)?;
    plan.options.pace = Pace::Unacknowledged(common.window);
    let (publisher, subscriber) = (setup::ids(common, "pub"), setup::ids(common, "sub"));
    let publishers = args.publishers.min(args.sessions);
    let topic = |session: u32| format!("{}/offline/{session}", common.prefix);
    for number in 0..publishers {
        let sessions: Vec<u32> = (number..args.sessions).step_by(publishers as usize).collect();
        let topics: Vec<String> = sessions.iter().map(|session| topic(*session)).collect();
        let worker = number as usize % plan.worker_count;
        let flows = plan.add_publisher(publisher(number), worker, &topics, common.publish_qos());
        // Only a session of its own lets a publisher finish exactly once what a crash interrupted.
        plan.clients.last_mut().expect("one was added").clean_start = args.hook.is_none();
        for (session, flow) in sessions.into_iter().zip(flows) {
            let flows = FlowSet::Range(flow..flow + 1);
            let receiver = plan.add_receiver(flows, common.subscribe_qos(), worker, false);
            let client = plan.add_subscriber(subscriber(session), &topic(session).into(), receiver);
            client.clean_start = false;
        }
    }
    Ok(plan)
}

pub fn run(mut run: Run<'_>, args: &Offline) -> Result<Report> {
    let messages = args.sessions as u64 * args.messages;
    run.watch.phase("connect-begin");
    run.wipe(Role::Subscriber)?;
    run.connect(Role::Subscriber)?;
    run.generator.command(Command::Disconnect(Role::Subscriber));
    if args.hook.is_some() {
        run.wipe(Role::Publisher)?;
    }
    run.connect(Role::Publisher)?;
    run.watch.phase("connect-end");

    let begin = run.begin("queue");
    run.generator.command(Command::Publish { start_ns: begin.ns, limit: args.messages });
    if let (Some(command), HookAt::Publishing) = (&args.hook, args.hook_at) {
        run.generator.command(Command::ExpectBreaks(true));
        run.settle(move |stats| answered(stats) >= messages / 2)?;
        hook::run(&mut run, command, args.hook_timeout)?;
    }
    let is_acked = run.common.qos > 0;
    run.settle(move |stats| stats.sent >= messages && (!is_acked || answered(stats) >= messages))?;
    run.generator.command(Command::ExpectBreaks(false));
    run.fence(Role::Publisher)?;
    let queue = run.end("queue", begin);
    run.report_phase("queue", "message", messages, &queue);

    run.generator.command(Command::Disconnect(Role::Publisher));
    if let (Some(command), HookAt::Queued) = (&args.hook, args.hook_at) {
        run.generator.command(Command::ExpectBreaks(true));
        hook::run(&mut run, command, args.hook_timeout)?;
        run.generator.command(Command::ExpectBreaks(false));
    }
    let begin = run.begin("measure");
    run.connect(Role::Subscriber)?;
    run.settle(|stats| stats.delivered >= stats.owed)?;
    let drain = run.end("measure", begin);
    run.report_phase("drain", "message", drain.end.stats.delivered, &drain);

    // Acknowledgements of the last deliveries go out before the sessions end.
    run.generator.command(Command::Disconnect(Role::Subscriber));
    run.wipe(Role::Subscriber)?;
    run.report(&drain)
}

fn answered(stats: &Stats) -> u64 {
    stats.acked + stats.refused
}
