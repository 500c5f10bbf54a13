//! The report for a terminal: one line for each scenario and broker.

use std::fmt::Write;

use crate::result::Report;
use crate::scenario::Scenario;
use crate::summary::{self, Row};

pub fn text(report: &Report) -> String {
    let mut out = String::new();
    let mut write = |line: String| {
        out.push_str(&line);
        out.push('\n');
    };
    for result in &report.results {
        let scenario = &result.scenario;
        write(format!("{} ({}, {})", scenario.title, scenario.name, scenario.unit()));
        if let Some(scaled) = &scenario.scaled {
            write(format!("  scaled: {scaled}"));
        }
        for row in summary::rows(result) {
            write(line(&row, scenario));
        }
        for skipped in &result.skipped {
            write(format!("  {:12} not run: {}", skipped.broker, skipped.why));
        }
    }
    for remark in &report.remarks {
        write(remark.clone());
    }
    out
}

fn line(row: &Row, scenario: &Scenario) -> String {
    let mut line = format!("  {:12}", row.broker);
    if let Some(medians) = &row.medians {
        let _ = write!(line, " {:>9.0} ± {:>4.1} %", medians.cost, 50.0 * medians.cost_spread());
        if let Some(ratio) = row.ratios.get("floor") {
            let _ = write!(line, "  {ratio:>6.2} x floor");
        }
        let _ = write!(line, "  {:>10.0}/s", medians.rate);
        if row.is_noisy && row.rounds > 1 {
            line.push_str("  noisy");
        }
        if let Some(latency) = medians.latency {
            let [p50, p99] = [latency.p50, latency.p99].map(|ns| ns as f64 / 1000.0);
            let _ = write!(line, "  p50 {p50:.0} µs, p99 {p99:.0} µs");
        }
        let _ = write!(line, "  {:.1} MiB", medians.rss_bytes / f64::from(1 << 20));
        if let Some(target) = scenario.target.filter(|_| row.broker == "shardmq") {
            let word = if medians.cost <= target { "met" } else { "missed" };
            let _ = write!(line, "  target {target} {word}");
        }
    }
    if row.core_count > 1 || row.shares_cores {
        let _ = write!(
            line,
            "  on {} cores{}",
            row.core_count,
            if row.shares_cores { ", shared with the load" } else { "" }
        );
    }
    for (what, count) in row.verdict.faults().iter().filter(|(_, count)| *count > 0) {
        let _ = write!(line, "  {count} {what}");
    }
    if row.verdict.load_limited {
        line.push_str("  load-limited");
    }
    for failure in &row.failures {
        let _ = write!(line, "  FAILED: {failure}");
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::result::Skipped;
    use crate::summary::tests::{result, run};

    #[test]
    fn faults_failures_and_targets_are_told() {
        let mut failed = run("shardmq", 1, 1.0);
        (failed.figures, failed.failure) = (None, Some("it fell".into()));
        failed.verdict.lost = 4;
        let mut result = result("p2p", vec![run("floor", 0, 200.0), run("shardmq", 0, 500.0), failed]);
        result.scenario.target = Some(480.0);
        result.skipped.push(Skipped { broker: "other".into(), why: "it is not installed".into() });
        let text = text(&Report { results: vec![result], ..Report::default() });
        for part in [
            "2.50 x floor",
            "target 480 missed",
            "4 lost",
            "FAILED: it fell",
            "other        not run: it is not",
        ] {
            assert!(text.contains(part), "{part} in:\n{text}");
        }
    }
}
