//! A run file of TBMQ's performance tests as a plan: its publisher groups, its subscriber groups, its dummies.

use super::run::Run;
use super::{setup, stream};
use crate::args::{Common, Tbmq};
use crate::plan::{Client, ClientId, FlowSet, Plan, Role};
use crate::report::Report;
use crate::tbmq::{RunFile, SubscriberGroup};
use anyhow::{Context, Result, bail};
use protocol::topic;
use std::sync::Arc;

pub fn run(run: Run<'_>, args: &Tbmq) -> Result<Report> {
    let has_sessions = run.generator.plan().clients.iter().any(|client| !client.clean_start);
    let mut report = stream::run(run, has_sessions)?;
    report.tbmq = Some(summary(run_file(args)?, &report));
    Ok(report)
}

fn run_file(args: &Tbmq) -> Result<&RunFile> {
    args.run_file.as_ref().context("no run file")
}

pub fn plan(args: &Tbmq) -> Result<Plan> {
    let (common, file) = (&args.common, run_file(args)?);
    let mut plan = setup::plan(common, file.publishers() as usize)?;
    for group in &file.publisher_groups {
        let id = ids(&group.client_id_prefix, format!("test_pub_client_{}_", group.id));
        for index in 0..group.publishers {
            let topic = format!("{}{}", group.topic_prefix, index % args.topic_index_max);
            if !topic::is_valid_topic_name(&topic) {
                bail!("publisher group {}: `{topic}` is not a topic name", group.id);
            }
            let worker = worker_of(common, index);
            plan.add_publisher(id(index), worker, &[topic], common.publish_qos());
        }
    }
    let by_topic = ByTopic::new(&plan);
    for group in &file.subscriber_groups {
        add_subscribers(&mut plan, group, &by_topic, args)?;
    }
    let dummy = ids(&None, "test_dummy_client_".into());
    for index in 0..file.dummy_clients {
        let worker = worker_of(common, index);
        plan.clients.push(Client {
            id: dummy(index),
            role: Role::Idle,
            worker,
            clean_start: true,
            subscription: None,
            flows: 0..0,
        });
    }
    Ok(plan)
}

/// As theirs: client number `index` of a group belongs to the process `index` modulo their number.
fn worker_of(common: &Common, index: u32) -> usize {
    let (processes, threads) = (common.runners as usize, common.threads as usize);
    let (process, turn) = (index as usize % processes, index as usize / processes);
    process * threads + turn % threads
}

fn ids(prefix: &Option<String>, default: String) -> impl Fn(u32) -> ClientId + use<> {
    let prefix: Arc<str> = prefix.clone().unwrap_or(default).into();
    move |number| ClientId { prefix: prefix.clone(), number: number as u64 }
}

fn add_subscribers(plan: &mut Plan, group: &SubscriberGroup, by_topic: &ByTopic, args: &Tbmq) -> Result<()> {
    if !topic::is_valid_filter(&group.topic_filter) {
        bail!("subscriber group {}: `{}` is not a topic filter", group.id, group.topic_filter);
    }
    let shared = topic::parse_shared(&group.topic_filter).ok().flatten();
    let flows = by_topic.matching(plan, shared.as_ref().map_or(group.topic_filter.as_str(), |it| it.filter));
    let qos = args.common.subscribe_qos();
    let filter: Arc<str> = group.topic_filter.as_str().into();
    let id = ids(&group.client_id_prefix, format!("test_sub_client_{}_", group.id));
    let together = shared.is_some().then(|| plan.add_receiver(flows.clone(), qos, 0, true));
    for index in 0..group.subscribers {
        let worker = worker_of(&args.common, index);
        let receiver = together.unwrap_or_else(|| plan.add_receiver(flows.clone(), qos, worker, false));
        let client = plan.add_subscriber(id(index), &filter, receiver);
        client.clean_start = group.persistent_session_info.is_none();
    }
    Ok(())
}

/// Flows in the order of their topics, so that a filter is compared only with those that begin as it does.
struct ByTopic(Vec<u32>);

impl ByTopic {
    fn new(plan: &Plan) -> ByTopic {
        let mut flows: Vec<u32> = (0..plan.flows.len() as u32).collect();
        flows.sort_by(|a, b| plan.flows[*a as usize].topic.cmp(&plan.flows[*b as usize].topic));
        ByTopic(flows)
    }

    fn matching(&self, plan: &Plan, filter: &str) -> FlowSet {
        let literal = filter.split(['+', '#']).next().unwrap_or("");
        // `a/#` also matches `a`.
        let literal = literal.strip_suffix('/').unwrap_or(literal);
        let topic = |flow: &u32| &*plan.flows[*flow as usize].topic;
        let start = self.0.partition_point(|flow| topic(flow) < literal);
        let alike = self.0[start..].iter().take_while(|flow| topic(flow).starts_with(literal));
        let mut flows: Vec<u32> = alike.copied().filter(|flow| topic::matches(filter, topic(flow))).collect();
        flows.sort_unstable();
        match (flows.first(), flows.last()) {
            (Some(first), Some(last)) if (last - first) as usize + 1 == flows.len() => {
                FlowSet::Range(*first..last + 1)
            }
            _ => FlowSet::Sorted(flows.into()),
        }
    }
}

/// The line that their tool ends with, in milliseconds.
fn summary(file: &RunFile, report: &Report) -> String {
    let ms = |ns: u64| ns as f64 / 1e6;
    let (latency, ack) = (&report.latency_ns, &report.ack_latency_ns);
    let per_publisher = file.seconds_to_run * file.max_msgs_per_publisher_per_second as u64;
    format!(
        "Latency stats: median - {:.2}, avg - {:.2}, max - {:.2}, min - {:.2}, 95th - {:.2}, lost messages - {}, \
         duplicated messages - {}, total received messages - {}, expected messages - {}, publish sent messages - {}, \
         publish acknowledged messages - {}, publish acknowledged latency median - {:.2}, \
         publish acknowledged latency max - {:.2}",
        ms(latency.p50),
        ms(latency.mean),
        ms(latency.max),
        ms(latency.min),
        ms(latency.p95),
        report.verdict.lost,
        report.verdict.duplicated,
        latency.count,
        file.expected_deliveries(per_publisher),
        report.measured.sent,
        report.measured.acked,
        ms(ack.p50),
        ms(ack.max),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::args::test_tbmq;

    #[test]
    fn a_filter_gets_the_flows_that_it_matches() {
        let text = r#"{"publisherGroups":[{"id":1,"publishers":12,"topicPrefix":"a/b/"},
            {"id":2,"publishers":3,"topicPrefix":"a/bc/"},{"id":3,"publishers":2,"topicPrefix":"z/b/"}],
            "subscriberGroups":[{"id":1,"subscribers":2,"topicFilter":"a/b/+","expectedPublisherGroups":[1]},
            {"id":2,"subscribers":1,"topicFilter":"+/b/1","expectedPublisherGroups":[1,3],
             "persistentSessionInfo":{"clientType":"DEVICE"}},
            {"id":3,"subscribers":4,"topicFilter":"$share/g/a/#","expectedPublisherGroups":[1,2]}],
            "dummyClients":5,"secondsToRun":1,"maxMsgsPerPublisherPerSecond":1,"publisherQosValue":1,
            "subscriberQosValue":1}"#;
        let mut args = test_tbmq();
        args.run_file = Some(serde_json::from_str(text).unwrap());
        let plan = plan(&args).unwrap();
        let flows: Vec<Vec<u32>> = plan.receivers.iter().map(|it| it.flows.iter().collect()).collect();
        assert_eq!(flows[0], (0..12).collect::<Vec<_>>());
        assert_eq!(flows[2], [1, 16]);
        assert_eq!(flows[3], (0..15).collect::<Vec<_>>());
        assert_eq!((plan.receivers.len(), plan.clients.len()), (4, 17 + 7 + 5));
        assert!(plan.receivers[3].is_group && plan.flows[1].copies == 4);
        let ids: Vec<String> = plan.clients.iter().map(|client| client.id.to_string()).collect();
        for id in ["test_pub_client_1_11", "test_sub_client_3_3", "test_dummy_client_4"] {
            assert!(ids.iter().any(|it| it == id), "{id}");
        }
    }
}
