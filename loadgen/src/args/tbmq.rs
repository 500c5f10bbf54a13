//! Parameters of a run file, its environment, and which wins.

use super::Common;
use super::values::{Mqtt, parse_addresses};
use crate::tbmq::{Environment, InvalidFile, RunFile, TOPIC_INDEX_MAX};
use clap::Args;
use serde::{Deserialize, Serialize};
use std::net::Ipv4Addr;
use std::path::PathBuf;
use std::time::Duration;

/// Options that are given win over the environment variables of TBMQ's tool, and these over the file.
#[derive(Clone, Debug, Args, Serialize, Deserialize)]
pub struct Tbmq {
    /// Run file [default: TEST_RUN_CONFIGURATION_FILE, or pairs as TEST_RUN_DEFAULT_* say]
    pub file: Option<PathBuf>,
    #[command(flatten)]
    #[serde(flatten)]
    pub common: Common,
    #[arg(skip)]
    pub run_file: Option<RunFile>,
    /// Topics of a group are numbered from 0 to this, and then from 0 again
    #[arg(skip = TOPIC_INDEX_MAX)]
    pub topic_index_max: u32,
}

impl Tbmq {
    /// Takes the environment and the file where no option is given. `is_given` tells which are.
    pub(super) fn complete(
        &mut self,
        environment: &Environment,
        is_given: impl Fn(&str) -> bool,
    ) -> Result<(), InvalidFile> {
        let common = &mut self.common;
        self.file = self.file.take().or_else(|| environment.file.clone());
        let file = match &self.file {
            Some(path) => RunFile::read(path)?,
            None => environment.default_file.0.clone(),
        };
        file.check()?;
        if let (Some(hosts), false) = (&environment.hosts, is_given("host")) {
            common.host = hosts.clone();
        }
        if let ([port, others @ ..], false) = (&environment.ports[..], is_given("port")) {
            common.port = *port;
            let further =
                others.iter().flat_map(|port| common.host.iter().map(move |host| format!("{host}:{port}")));
            let further: Vec<String> = further.collect();
            common.host.extend(further);
        }
        if let Some(part) = &environment.part {
            common.runners = part.count;
            common.own_runner = true;
            common.orchestrator = Some((Ipv4Addr::UNSPECIFIED, part.orchestrator_port).into());
            common.runner_patience = Some(part.patience);
        }
        self.topic_index_max = environment.topic_index_max.unwrap_or(TOPIC_INDEX_MAX);
        if !is_given("keep_alive") {
            common.keep_alive = environment.keep_alive_secs.unwrap_or(600);
        }
        if let (Some(sources), None) = (&environment.sources, &common.source) {
            common.source = Some(parse_addresses(sources).map_err(InvalidFile::Inconsistent)?);
        }
        if !is_given("mqtt") {
            common.mqtt = Mqtt::V5;
        }
        if !is_given("qos") {
            common.qos = file.publisher_qos_value;
        }
        common.sub_qos.get_or_insert(file.subscriber_qos_value);
        if !is_given("size") {
            common.size = file.payload_bytes();
        }
        common.rate.get_or_insert(file.rate());
        if !is_given("duration") {
            common.duration = Duration::from_secs(file.seconds_to_run);
        }
        if !is_given("settle") {
            common.settle = common.settle.max(Duration::from_secs(file.additional_seconds_to_wait));
        }
        if !is_given("connecting") {
            common.connecting = file.max_concurrent_operations.max(1);
        }
        common.user.get_or_insert_with(|| "default".into());
        self.run_file = Some(file);
        Ok(())
    }
}
