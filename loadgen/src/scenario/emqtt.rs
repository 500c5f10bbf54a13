//! The load of emqtt-bench: only publishers, only subscribers or only connections. Nobody here knows both ends, so
//! deliveries are counted, not judged; latency is that of messages from publishers with the same seed.

use super::setup;
use crate::args::{Action, Emqtt};
use crate::plan::{Client, FlowSet, Pace, Plan, Role};
use anyhow::{Result, bail};
use protocol::topic;

pub fn plan(args: &Emqtt) -> Result<Plan> {
    let common = &args.common;
    let mut plan = setup::plan(common, args.clients as usize)?;
    plan.options.retain = args.retain;
    plan.options.is_judged = false;
    plan.options.message = args.message.as_deref().map(|message| message.as_bytes().into());
    plan.options.headers.clone_from(&args.payload_hdrs);
    plan.options.inflight_max = args.inflight;
    plan.options.session_expiry_secs = args.session_expiry;
    if let Pace::Window(window) = plan.options.pace {
        plan.options.pace = Pace::Unacknowledged(window);
    }
    // Publishers and subscribers are different clients.
    let kind = match args.action {
        Action::Pub => "bench-pub",
        Action::Sub => "bench-sub",
        Action::Conn => "bench-conn",
    };
    let id = if args.shortids {
        setup::prefixed(&common.prefix)
    } else {
        setup::prefixed(&format!("{}-{kind}-", common.prefix))
    };
    // Theirs begin behind the start number.
    let first = args.startnumber.saturating_add(1);
    for number in first..first.saturating_add(args.clients) {
        let worker = plan.clients.len() % plan.worker_count;
        let user = common.user.as_deref().unwrap_or("");
        let place = args.topic.replace("%i", &number.to_string());
        let place = place.replace("%c", &id(number).to_string()).replace("%u", user);
        match args.action {
            Action::Pub if !topic::is_valid_topic_name(&place) => bail!("`{place}` is not a topic name"),
            Action::Sub if !topic::is_valid_filter(&place) => bail!("`{place}` is not a topic filter"),
            Action::Pub => {
                plan.add_publisher(id(number), worker, &[place], common.publish_qos());
            }
            Action::Sub => {
                let receiver = plan.add_receiver(FlowSet::Range(0..0), common.publish_qos(), worker, false);
                plan.add_subscriber(id(number), &place.into(), receiver);
            }
            Action::Conn => plan.clients.push(Client {
                id: id(number),
                role: Role::Idle,
                worker,
                clean_start: args.clean,
                subscription: None,
                flows: 0..0,
            }),
        }
        plan.clients.last_mut().expect("one was added").clean_start = args.clean;
    }
    Ok(plan)
}
