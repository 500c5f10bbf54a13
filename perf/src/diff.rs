//! What changed from one result to another, beyond the noise that the rounds of both show.

use std::fmt;

use crate::result::Report;
use crate::summary::{self, Medians, Row};

/// Differences below this share are never called a change: two runs of the same scenario differ by as much.
const NOISE_MIN: f64 = 0.05;
/// Tails and rates move more than CPU time does.
const NOISE_MIN_LOOSE: f64 = 0.15;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Judgement {
    Same,
    Better,
    Worse,
}

#[derive(Clone, Debug, PartialEq)]
pub struct Line {
    pub scenario: String,
    pub broker: String,
    pub core_count: usize,
    pub what: &'static str,
    pub before: f64,
    pub after: f64,
    /// The share by which it must have changed to count.
    pub noise: f64,
    pub judgement: Judgement,
}

impl Line {
    pub fn change(&self) -> f64 {
        match self.before != 0.0 {
            true => self.after / self.before - 1.0,
            false => 0.0,
        }
    }
}

/// The cost of each scenario and broker in both results: how well a measurement repeats.
pub struct Costs<'a>(Vec<&'a Line>);

impl Costs<'_> {
    /// No cost of the second is further from the first than this share. False if there is none to compare.
    pub fn are_within(&self, share: f64) -> bool {
        !self.0.is_empty() && self.0.iter().all(|line| line.change().abs() <= share)
    }
}

impl fmt::Display for Costs<'_> {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for line in &self.0 {
            let (before, after) = (number(line.before), number(line.after));
            let (name, cores) = (&line.scenario, cores(line.core_count));
            let change = 100.0 * line.change();
            writeln!(
                out,
                "{name:28} {:12} {cores} {before:>12} -> {after:>12}  {change:+5.1} %",
                line.broker
            )?;
        }
        let largest = self.0.iter().max_by(|a, b| a.change().abs().total_cmp(&b.change().abs()));
        match largest {
            Some(line) => writeln!(
                out,
                "largest difference in cost: {:.1} % ({}, {})",
                100.0 * line.change().abs(),
                line.scenario,
                line.broker
            ),
            None => writeln!(out, "no scenario and broker is in both"),
        }
    }
}

#[derive(Clone, Debug, Default, PartialEq)]
pub struct Diff {
    pub lines: Vec<Line>,
    /// Facts of the two machines and programs that differ: name, before, after.
    pub facts: Vec<(String, String, String)>,
    /// What one has and the other has not, and faults that came or went.
    pub remarks: Vec<String>,
}

impl Diff {
    pub fn costs(&self) -> Costs<'_> {
        Costs(self.lines.iter().filter(|line| line.what == "cost").collect())
    }
}

pub fn diff(before: &Report, after: &Report) -> Diff {
    let mut diff = Diff { facts: fact_changes(before, after), ..Diff::default() };
    for result in &after.results {
        let name = &result.scenario.name;
        let Some(old) = before.results.iter().find(|old| old.scenario.name == *name) else {
            diff.remarks.push(format!("{name}: only in the second"));
            continue;
        };
        if old.scenario.load != result.scenario.load {
            diff.remarks.push(format!(
                "{name}: the load differs: '{}', '{}'",
                old.scenario.load, result.scenario.load
            ));
        }
        let old_rows = summary::rows(old);
        for row in summary::rows(result) {
            let is_same = |old: &&Row| old.broker == row.broker && old.core_count == row.core_count;
            match old_rows.iter().find(is_same) {
                Some(old) => compare_rows(name, old, &row, &mut diff),
                None => diff.remarks.push(format!("{name}: {} only in the second", row.broker)),
            }
        }
    }
    let is_gone = |name: &str| !after.results.iter().any(|result| result.scenario.name == name);
    let gone = before.results.iter().map(|result| &result.scenario.name).filter(|name| is_gone(name));
    diff.remarks.extend(gone.map(|name| format!("{name}: only in the first")));
    diff
}

fn compare_rows(scenario: &str, old: &Row, new: &Row, diff: &mut Diff) {
    for ((what, before), (_, after)) in old.verdict.faults().into_iter().zip(new.verdict.faults()) {
        if (before == 0) != (after == 0) {
            diff.remarks.push(format!("{scenario}: {}: {what} messages: {before}, now {after}", new.broker));
        }
    }
    let (Some(before), Some(after)) = (&old.medians, &new.medians) else {
        if old.medians.is_some() != new.medians.is_some() {
            let state = |row: &Row| if row.medians.is_some() { "ran" } else { "failed" };
            diff.remarks.push(format!("{scenario}: {}: {}, now {}", new.broker, state(old), state(new)));
        }
        return;
    };
    let mut add = |what, before: f64, after: f64, noise: f64, is_less_better: bool| {
        let line = Line {
            scenario: scenario.into(),
            broker: new.broker.clone(),
            core_count: new.core_count,
            what,
            before,
            after,
            noise,
            judgement: judge(before, after, noise, is_less_better),
        };
        diff.lines.push(line);
    };
    let cost_noise = before.cost_spread().max(after.cost_spread()).max(NOISE_MIN);
    add("cost", before.cost, after.cost, cost_noise, true);
    let rate_noise = spread(before).max(spread(after)).max(NOISE_MIN_LOOSE);
    add("rate", before.rate, after.rate, rate_noise, false);
    add("memory", before.rss_bytes, after.rss_bytes, NOISE_MIN_LOOSE, true);
    if let (Some(before), Some(after)) = (before.latency, after.latency) {
        add("p50", before.p50 as f64, after.p50 as f64, rate_noise, true);
        add("p99", before.p99 as f64, after.p99 as f64, 2.0 * rate_noise, true);
    }
}

fn spread(medians: &Medians) -> f64 {
    match medians.rate > 0.0 {
        true => (medians.rate_range.1 - medians.rate_range.0) / medians.rate,
        false => 0.0,
    }
}

fn judge(before: f64, after: f64, noise: f64, is_less_better: bool) -> Judgement {
    if before <= 0.0 || after <= 0.0 {
        return Judgement::Same;
    }
    // The same factor up or down counts the same.
    let factor = (after / before).max(before / after);
    if factor <= 1.0 + noise {
        return Judgement::Same;
    }
    match (after < before) == is_less_better {
        true => Judgement::Better,
        false => Judgement::Worse,
    }
}

fn fact_changes(before: &Report, after: &Report) -> Vec<(String, String, String)> {
    let facts = |report: &Report| {
        let host = &report.host;
        let mut facts = vec![
            ("processor".to_owned(), host.cpu.clone()),
            ("cores".to_owned(), host.cores_allowed.clone()),
            ("kernel".to_owned(), host.kernel.clone()),
            ("clock source".to_owned(), host.clock_source.clone().unwrap_or_default()),
            ("transparent hugepages".to_owned(), host.transparent_hugepages.clone().unwrap_or_default()),
            ("load generator".to_owned(), report.load_generator.clone()),
        ];
        facts.extend(host.settings.iter().map(|(name, value)| (name.clone(), value.clone())));
        facts.extend(report.brokers.iter().map(|broker| (broker.name.clone(), broker.version.clone())));
        facts
    };
    let new = facts(after);
    let value_in =
        |name: &str| new.iter().find(|(new_name, _)| new_name == name).map(|(_, value)| value.clone());
    facts(before)
        .into_iter()
        .filter_map(|(name, old)| value_in(&name).map(|new| (name, old, new)))
        .filter(|(_, old, new)| old != new)
        .collect()
}

impl fmt::Display for Diff {
    fn fmt(&self, out: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (name, before, after) in &self.facts {
            writeln!(out, "{name}: {before} -> {after}")?;
        }
        for remark in &self.remarks {
            writeln!(out, "{remark}")?;
        }
        let changed: Vec<&Line> =
            self.lines.iter().filter(|line| line.judgement != Judgement::Same).collect();
        for line in &changed {
            let word = if line.judgement == Judgement::Better { "better" } else { "WORSE" };
            writeln!(
                out,
                "{word:6} {:28} {:12} {} {:7} {:>12} -> {:>12}  {:+.1} % (noise {:.1} %)",
                line.scenario,
                line.broker,
                cores(line.core_count),
                line.what,
                number(line.before),
                number(line.after),
                100.0 * line.change(),
                100.0 * line.noise
            )?;
        }
        let same = self.lines.len() - changed.len();
        writeln!(out, "{} figures changed beyond noise, {same} did not", changed.len())
    }
}

fn cores(count: usize) -> String {
    format!("{count} core{}", if count == 1 { " " } else { "s" })
}

fn number(value: f64) -> String {
    match value.abs() {
        value if value >= 1e9 => format!("{:.2}G", value / 1e9),
        value if value >= 1e6 => format!("{:.2}M", value / 1e6),
        value if value >= 1e4 => format!("{:.1}k", value / 1e3),
        value => format!("{value:.1}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::summary::tests::{result, run};

    fn report(runs: Vec<crate::result::Run>) -> Report {
        Report { results: vec![result("p2p", runs)], ..Report::default() }
    }

    fn line<'a>(diff: &'a Diff, what: &str) -> &'a Line {
        diff.lines.iter().find(|line| line.what == what).unwrap()
    }

    #[test]
    fn small_and_noisy_differences_are_no_change() {
        let before = report(vec![run("a", 0, 100.0), run("a", 1, 101.0)]);
        let after = report(vec![run("a", 0, 104.0), run("a", 1, 103.0)]);
        assert_eq!(line(&diff(&before, &after), "cost").judgement, Judgement::Same);
        let noisy = report(vec![run("a", 0, 100.0), run("a", 1, 140.0)]);
        let line = line(&diff(&before, &noisy), "cost").clone();
        assert_eq!(line.judgement, Judgement::Same, "{line:?}");
    }

    #[test]
    fn costs_are_listed_and_held_to_a_bound() {
        let before = report(vec![run("a", 0, 100.0), run("b", 0, 200.0)]);
        let after = report(vec![run("a", 0, 103.0), run("b", 0, 188.0)]);
        let diff = diff(&before, &after);
        assert!(diff.costs().are_within(0.061) && !diff.costs().are_within(0.05));
        let text = diff.costs().to_string();
        assert!(
            text.contains("+3.0 %") && text.contains("largest difference in cost: 6.0 % (p2p, b)"),
            "{text}"
        );
        assert!(!Diff::default().costs().are_within(1.0));
    }

    #[test]
    fn a_change_beyond_noise_has_a_direction() {
        let before = report(vec![run("a", 0, 100.0), run("a", 1, 101.0)]);
        let after = report(vec![run("a", 0, 60.0), run("a", 1, 61.0)]);
        let forth = diff(&before, &after);
        assert_eq!(line(&forth, "cost").judgement, Judgement::Better);
        assert_eq!(line(&forth, "rate").judgement, Judgement::Better);
        let back = diff(&after, &before);
        assert_eq!(line(&back, "cost").judgement, Judgement::Worse);
        let text = back.to_string();
        assert!(
            text.contains("WORSE") && text.contains("+66.1 %") && text.contains("changed beyond noise"),
            "{text}"
        );
    }

    #[test]
    fn machines_brokers_and_faults_are_compared_too() {
        let mut before = report(vec![run("a", 0, 100.0), run("b", 0, 100.0)]);
        before.host.kernel = "6.1".into();
        let mut after = report(vec![run("a", 0, 100.0), run("c", 0, 100.0)]);
        after.host.kernel = "6.2".into();
        after.results[0].runs[0].verdict.lost = 3;
        after.results.push(result("other", Vec::new()));
        let diff = diff(&before, &after);
        assert_eq!(diff.facts, [("kernel".into(), "6.1".into(), "6.2".into())]);
        assert_eq!(
            diff.remarks,
            ["p2p: a: lost messages: 0, now 3", "p2p: c only in the second", "other: only in the second"]
        );
    }
}
