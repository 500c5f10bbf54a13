//! Pairs: what one publishes, only its partner gets.

use super::setup;
use crate::args::P2p;
use crate::plan::{FlowSet, Plan};
use anyhow::Result;

pub fn plan(args: &P2p) -> Result<Plan> {
    let common = &args.common;
    let mut plan = setup::plan(common, args.pairs as usize)?;
    let (publisher, subscriber) = (setup::ids(common, "pub"), setup::ids(common, "sub"));
    for pair in 0..args.pairs {
        // Both ends on one thread: its window opens without a word between threads.
        let worker = pair as usize % plan.worker_count;
        let topic = format!("{}/p2p/{pair}", common.prefix);
        let flows =
            plan.add_publisher(publisher(pair), worker, std::slice::from_ref(&topic), common.publish_qos());
        let receiver = plan.add_receiver(FlowSet::Range(flows), common.subscribe_qos(), worker, false);
        plan.add_subscriber(subscriber(pair), &topic.into(), receiver);
    }
    Ok(plan)
}
