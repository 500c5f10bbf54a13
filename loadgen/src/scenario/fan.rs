//! Many to one, one to many, and many to a group that shares.

use super::setup;
use crate::args::{Common, FanIn, FanOut, Share};
use crate::plan::{FlowSet, Plan};
use anyhow::Result;
use std::sync::Arc;

/// Publishers with a topic each below `<prefix>/<name>/`. Returns the plan and the filter for all.
fn publishers(common: &Common, name: &str, count: u32) -> Result<(Plan, String)> {
    let mut plan = setup::plan(common, count as usize)?;
    let id = setup::ids(common, "pub");
    for number in 0..count {
        let worker = number as usize % plan.worker_count;
        let topic = format!("{}/{name}/{number}", common.prefix);
        plan.add_publisher(id(number), worker, &[topic], common.publish_qos());
    }
    Ok((plan, format!("{}/{name}/#", common.prefix)))
}

fn all_flows(plan: &Plan) -> FlowSet {
    FlowSet::Range(0..plan.flows.len() as u32)
}

/// Subscribers that each get everything.
fn add_subscribers(plan: &mut Plan, common: &Common, filter: String, count: u32) {
    let (filter, id): (Arc<str>, _) = (filter.into(), setup::ids(common, "sub"));
    for number in 0..count {
        let worker = number as usize % plan.worker_count;
        let receiver = plan.add_receiver(all_flows(plan), common.subscribe_qos(), worker, false);
        plan.add_subscriber(id(number), &filter, receiver);
    }
}

pub fn out_plan(args: &FanOut) -> Result<Plan> {
    let (mut plan, filter) = publishers(&args.common, "fan-out", args.publishers)?;
    // One publisher has one topic: no wildcard is needed.
    let filter = if args.publishers == 1 { plan.flows[0].topic.to_string() } else { filter };
    add_subscribers(&mut plan, &args.common, filter, args.subscribers);
    Ok(plan)
}

pub fn in_plan(args: &FanIn) -> Result<Plan> {
    let (mut plan, filter) = publishers(&args.common, "fan-in", args.publishers)?;
    add_subscribers(&mut plan, &args.common, filter, args.subscribers);
    Ok(plan)
}

pub fn share_plan(args: &Share) -> Result<Plan> {
    let common = &args.common;
    let (mut plan, filter) = publishers(common, "share", args.publishers)?;
    let filter: Arc<str> = format!("$share/{}/{filter}", common.prefix).into();
    // All members on one thread, since they are judged together.
    let group = plan.add_receiver(all_flows(&plan), common.subscribe_qos(), 0, true);
    let id = setup::ids(common, "member");
    for number in 0..args.members {
        plan.add_subscriber(id(number), &filter, group);
    }
    Ok(plan)
}
