//! The summary for people.

use super::Report;
use crate::latency::Percentiles;
use std::fmt::{self, Display, Write};

/// Nanoseconds with a fitting unit.
pub fn time(ns: u64) -> String {
    match ns {
        0..10_000 => format!("{ns} ns"),
        10_000..10_000_000 => format!("{} µs", ns / 1000),
        10_000_000..10_000_000_000 => format!("{} ms", ns / 1_000_000),
        _ => format!("{:.1} s", ns as f64 / 1e9),
    }
}

impl Display for Percentiles {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        let points = [
            ("p50", self.p50),
            ("p90", self.p90),
            ("p99", self.p99),
            ("p99.9", self.p999),
            ("p99.99", self.p9999),
            ("max", self.max),
        ];
        for (at, (name, ns)) in points.iter().enumerate() {
            let gap = if at == 0 { "" } else { "  " };
            write!(out, "{gap}{name} {}", time(*ns))?;
        }
        Ok(())
    }
}

impl Report {
    pub fn summary(&self) -> String {
        let mut out = String::new();
        self.write_summary(&mut out).expect("a string takes everything");
        out
    }

    fn write_summary(&self, out: &mut String) -> fmt::Result {
        let common = self.scenario.common();
        let seconds = self.measured.elapsed_ns as f64 / 1e9;
        writeln!(
            out,
            "{} QoS {}, {} bytes, {:.1} s",
            self.scenario.name(),
            common.qos,
            common.size,
            seconds
        )?;
        let connect = &self.connect;
        writeln!(
            out,
            "  connect    {} at {:.0}/s  {}",
            connect.connections, connect.per_second, connect.latency_ns
        )?;
        let measured = &self.measured;
        if measured.sent > 0 {
            writeln!(out, "  sent       {} at {:.0}/s", measured.sent, measured.sent_per_second)?;
        }
        if measured.delivered > 0 {
            writeln!(out, "  delivered  {} at {:.0}/s", measured.delivered, measured.delivered_per_second)?;
        }
        if self.latency_ns.count > 0 {
            writeln!(out, "  latency    {}", self.latency_ns)?;
        }
        if self.ack_latency_ns.count > 0 {
            writeln!(out, "  ack        {}", self.ack_latency_ns)?;
        }
        for phase in &self.phases {
            write!(out, "  {:<10} {} {}s at {:.0}/s", phase.name, phase.count, phase.unit, phase.per_second)?;
            if let Some(cpu_ns) = phase.broker_cpu_ns_per_unit {
                let rss = phase.broker_rss_bytes_per_unit.unwrap_or(0.0);
                write!(out, "  broker {cpu_ns:.0} ns CPU and {rss:.0} bytes each")?;
            }
            writeln!(out)?;
        }
        if let Some(broker) = self.broker.as_ref().filter(|_| measured.delivered > 0) {
            writeln!(
                out,
                "  broker     {:.0} ns CPU and {:.4} switches per delivered message, {:.2} cores, {} MiB",
                broker.cpu_ns_per_delivered,
                broker.switches_per_delivered,
                broker.cores,
                broker.rss_end_bytes >> 20,
            )?;
        }
        let generator = &self.generator;
        let busiest = generator.utilisation.iter().fold(0.0f64, |a, b| a.max(*b));
        writeln!(
            out,
            "  generator  {:.0} ns CPU per delivered message, busiest thread {:.0} %",
            generator.cpu_ns_per_delivered,
            busiest * 100.0
        )?;
        self.write_verdict(out)
    }

    fn write_verdict(&self, out: &mut String) -> fmt::Result {
        let verdict = &self.verdict;
        let word = if verdict.passed { "passed" } else { "FAILED" };
        writeln!(
            out,
            "  verdict    {word}: {} lost, {} duplicated, {} out of order, {} foreign, {} corrupt, {} wrong QoS, \
             {} wrong retain, {} sessions lost, {} unacknowledged, {} refused, {} protocol errors, {} not connected, {} disconnected",
            verdict.lost,
            verdict.duplicated,
            verdict.out_of_order,
            verdict.foreign,
            verdict.corrupt,
            verdict.wrong_qos,
            verdict.wrong_retain,
            verdict.sessions_lost,
            verdict.unacknowledged,
            verdict.refused,
            verdict.protocol_errors,
            verdict.connect_failed,
            verdict.disconnected,
        )?;
        if let Some(line) = &self.tbmq {
            writeln!(out, "  {line}")?;
        }
        if let Some(error) = &self.first_error {
            writeln!(out, "  first error: {error}")?;
        }
        match &self.generator.why {
            Some(why) => writeln!(out, "  INVALID: the load generator was the limit: {why}"),
            None => Ok(()),
        }
    }
}
