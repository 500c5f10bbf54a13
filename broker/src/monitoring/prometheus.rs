//! `/metrics`: everything that is known, in the OpenMetrics text format. Read from the shards at each scrape; they keep
//! plain counters and do nothing for it meanwhile.

use std::borrow::Cow;
use std::fmt;

use prometheus_client::collector::Collector;
use prometheus_client::encoding::{DescriptorEncoder, MetricEncoder, text};
use prometheus_client::metrics::MetricType;
use prometheus_client::registry::Registry;

use super::Monitor;
use super::figures::{FAMILIES, Kind, Number, Shown};
use super::process::{ProcessFigure, process_figures};

pub const CONTENT_TYPE: &str = "application/openmetrics-text; version=1.0.0; charset=utf-8";

type Labels = Vec<(&'static str, Cow<'static, str>)>;

/// All figures as text. Blocks for a moment.
pub fn scrape(monitor: &Monitor) -> Result<String, fmt::Error> {
    let mut registry = Registry::default();
    registry.register_collector(Box::new(ShardFigures(monitor.clone())));
    registry.register_collector(Box::new(ProcessFigures(monitor.clone())));
    let mut text = String::new();
    text::encode(&mut text, &registry)?;
    Ok(text)
}

#[derive(Debug)]
struct ShardFigures(Monitor);

impl Collector for ShardFigures {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        let snapshots = self.0.look();
        for family in FAMILIES {
            let mut metric =
                encoder.encode_descriptor(family.name, family.help, None, metric_type(family.kind))?;
            for (shard, snapshot) in snapshots.iter().enumerate() {
                let Some(snapshot) = snapshot else { continue };
                let shown = Shown { shard: Some(shard), snapshot, listeners: self.0.listeners() };
                for sample in family.samples(&shown) {
                    let mut labels: Labels = vec![("shard", shard.to_string().into())];
                    labels.extend(sample.labels);
                    encode(metric.encode_family(&labels)?, family.kind, &sample.value)?;
                }
            }
        }
        Ok(())
    }
}

#[derive(Debug)]
struct ProcessFigures(Monitor);

impl Collector for ProcessFigures {
    fn encode(&self, mut encoder: DescriptorEncoder) -> fmt::Result {
        for ProcessFigure { name, help, kind, labels, value } in process_figures(&self.0) {
            let mut metric = encoder.encode_descriptor(name, help, None, metric_type(kind))?;
            match labels.is_empty() {
                true => encode(metric, kind, &value)?,
                false => encode(metric.encode_family(&labels)?, kind, &value)?,
            }
        }
        Ok(())
    }
}

fn metric_type(kind: Kind) -> MetricType {
    match kind {
        Kind::Counter => MetricType::Counter,
        Kind::Gauge => MetricType::Gauge,
        Kind::Histogram => MetricType::Histogram,
    }
}

fn encode(mut metric: MetricEncoder<'_>, kind: Kind, value: &Number) -> fmt::Result {
    match (value, kind) {
        (Number::Whole(value), Kind::Counter) => metric.encode_counter::<Labels, _, u64>(value, None),
        (Number::Real(value), Kind::Counter) => metric.encode_counter::<Labels, _, u64>(value, None),
        (Number::Whole(value), _) => metric.encode_gauge(value),
        (Number::Real(value), _) => metric.encode_gauge(value),
        (Number::Distribution { sum, count, buckets }, _) => {
            metric.encode_histogram::<Labels>(*sum, *count, buckets, None)
        }
    }
}
