//! From runs to what a reader compares: for each scenario and broker the median over the rounds, how far the rounds lie
//! apart, and the ratio to every other broker.

use std::collections::BTreeMap;

use serde::Serialize;

use crate::result::{Figures, Latency, Run, ScenarioResult, Verdict};

/// A median whose neighbour is further away than this, as a share of it, is called noisy.
pub const NOISE_MAX: f64 = 0.05;

/// One broker with one number of cores in one scenario.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Row {
    pub broker: String,
    pub core_count: usize,
    pub shares_cores: bool,
    pub rounds: usize,
    pub failures: Vec<String>,
    /// Medians over the rounds; None if no round succeeded.
    pub medians: Option<Medians>,
    /// The rounds do not agree on the median: take it with caution.
    pub is_noisy: bool,
    /// Sums over the rounds.
    pub verdict: Verdict,
    pub system_calls: Option<f64>,
    /// Our cost in units of another broker's, at the same number of cores.
    pub ratios: BTreeMap<String, f64>,
}

#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Medians {
    pub cost: f64,
    /// Lowest and highest round.
    pub cost_range: (f64, f64),
    pub rate: f64,
    pub rate_range: (f64, f64),
    pub user_share: Option<f64>,
    pub busy_cores: f64,
    pub switches_per_message: f64,
    pub rss_bytes: f64,
    pub steal_share: f64,
    /// CPU nanoseconds of the load generator for each message; 0 where none was delivered.
    pub load_cost: f64,
    pub latency: Option<Latency>,
}

/// One row for each broker and number of cores, in the order of the runs.
pub fn rows(result: &ScenarioResult) -> Vec<Row> {
    let mut keys: Vec<(&str, usize)> = Vec::new();
    for run in &result.runs {
        let key = (run.broker.as_str(), run.broker_core_count);
        if !keys.contains(&key) {
            keys.push(key);
        }
    }
    let mut rows: Vec<Row> = keys
        .iter()
        .map(|&(broker, core_count)| {
            let is_of_row = |run: &&Run| run.broker == broker && run.broker_core_count == core_count;
            let runs: Vec<&Run> = result.runs.iter().filter(is_of_row).collect();
            row(&runs, result.system_calls.get(broker).copied())
        })
        .collect();
    add_ratios(&mut rows);
    rows
}

fn row(runs: &[&Run], system_calls: Option<f64>) -> Row {
    let figures: Vec<&Figures> = runs.iter().filter_map(|run| run.figures.as_ref()).collect();
    Row {
        broker: runs[0].broker.clone(),
        core_count: runs[0].broker_core_count,
        shares_cores: runs[0].shares_cores,
        rounds: runs.len(),
        failures: runs.iter().filter_map(|run| run.failure.clone()).collect(),
        medians: (!figures.is_empty()).then(|| medians(&figures)),
        is_noisy: median_gap(&figures.iter().map(|figures| figures.cost).collect::<Vec<_>>()) > NOISE_MAX,
        verdict: runs
            .iter()
            .fold(Verdict { passed: true, ..Verdict::default() }, |sum, run| add(sum, &run.verdict)),
        system_calls,
        ratios: BTreeMap::new(),
    }
}

fn add(sum: Verdict, verdict: &Verdict) -> Verdict {
    let mut notes = sum.notes;
    notes.extend(verdict.notes.iter().filter(|note| !notes.contains(note)).cloned().collect::<Vec<_>>());
    Verdict {
        passed: sum.passed && verdict.passed,
        lost: sum.lost + verdict.lost,
        duplicated: sum.duplicated + verdict.duplicated,
        reordered: sum.reordered + verdict.reordered,
        foreign: sum.foreign + verdict.foreign,
        load_limited: sum.load_limited || verdict.load_limited,
        notes,
    }
}

fn medians(figures: &[&Figures]) -> Medians {
    let of =
        |value: fn(&Figures) -> f64| -> Vec<f64> { figures.iter().map(|figures| value(figures)).collect() };
    let cost = of(|figures| figures.cost);
    let rate = of(|figures| figures.rate);
    let user_share: Vec<f64> = figures.iter().filter_map(|figures| figures.user_share).collect();
    let latency: Vec<Latency> = figures.iter().filter_map(|figures| figures.latency).collect();
    Medians {
        cost: median(&cost),
        cost_range: range(&cost),
        rate: median(&rate),
        rate_range: range(&rate),
        user_share: (!user_share.is_empty()).then(|| median(&user_share)),
        busy_cores: median(&of(|figures| figures.busy_cores)),
        switches_per_message: median(&of(|figures| figures.switches_per_message)),
        rss_bytes: median(&of(|figures| figures.rss_bytes as f64)),
        steal_share: median(&of(|figures| figures.steal_share)),
        load_cost: median(&of(|figures| figures.load_cost)),
        latency: (!latency.is_empty()).then(|| median_latency(&latency)),
    }
}

fn median_latency(latencies: &[Latency]) -> Latency {
    let of = |value: fn(&Latency) -> f64| median(&latencies.iter().map(value).collect::<Vec<_>>());
    Latency {
        count: of(|latency| latency.count as f64) as u64,
        min: of(|latency| latency.min as f64) as u64,
        mean: of(|latency| latency.mean as f64) as u64,
        p50: of(|latency| latency.p50 as f64) as u64,
        p90: of(|latency| latency.p90 as f64) as u64,
        p95: of(|latency| latency.p95 as f64) as u64,
        p99: of(|latency| latency.p99 as f64) as u64,
        p999: of(|latency| latency.p999 as f64) as u64,
        p9999: of(|latency| latency.p9999 as f64) as u64,
        max: of(|latency| latency.max as f64) as u64,
    }
}

fn add_ratios(rows: &mut [Row]) {
    let costs: Vec<(String, usize, f64)> = rows
        .iter()
        .filter_map(|row| Some((row.broker.clone(), row.core_count, row.medians.as_ref()?.cost)))
        .filter(|(_, _, cost)| *cost > 0.0)
        .collect();
    for row in rows {
        let Some(medians) = &row.medians else { continue };
        let others =
            costs.iter().filter(|(broker, cores, _)| *broker != row.broker && *cores == row.core_count);
        row.ratios = others.map(|(broker, _, cost)| (broker.clone(), medians.cost / cost)).collect();
    }
}

/// How far the value next to the median is from it, as a share of the median: what two rounds agree on is not chance.
/// Infinite for fewer than two values.
pub fn median_gap(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    let gap = |at: usize| sorted[at + 1] - sorted[at];
    let nearest = match sorted.len() {
        0 | 1 => return f64::INFINITY,
        count if count % 2 == 0 => gap(count / 2 - 1),
        count => gap(count / 2 - 1).min(gap(count / 2)),
    };
    match median(values) {
        median if median > 0.0 => nearest / median,
        _ => 0.0,
    }
}

/// Of no values it is 0.
pub fn median(values: &[f64]) -> f64 {
    let mut sorted = values.to_vec();
    sorted.sort_by(f64::total_cmp);
    match sorted.len() {
        0 => 0.0,
        count if count % 2 == 1 => sorted[count / 2],
        count => (sorted[count / 2 - 1] + sorted[count / 2]) / 2.0,
    }
}

fn range(values: &[f64]) -> (f64, f64) {
    let low = values.iter().copied().fold(f64::INFINITY, f64::min);
    let high = values.iter().copied().fold(f64::NEG_INFINITY, f64::max);
    (low, high)
}

impl Medians {
    /// How far the rounds lie apart, as a share of the median.
    pub fn cost_spread(&self) -> f64 {
        match self.cost > 0.0 {
            true => (self.cost_range.1 - self.cost_range.0) / self.cost,
            false => 0.0,
        }
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use crate::scenario::{Measure, Scenario};

    pub fn run(broker: &str, round: u32, cost: f64) -> Run {
        let latency = Latency { p50: 1000, p99: 5000, max: 9000, ..Latency::default() };
        let figures =
            Figures { cost, rate: 1e9 / cost, count: 10, latency: Some(latency), ..Figures::default() };
        Run { broker: broker.into(), round, broker_core_count: 1, figures: Some(figures), ..Run::default() }
    }

    pub fn result(name: &str, runs: Vec<Run>) -> ScenarioResult {
        let scenario = Scenario {
            name: name.into(),
            title: name.into(),
            group: "test".into(),
            order: 0,
            about: String::new(),
            load: "p2p".into(),
            seconds: Some(2.0),
            warm_up_s: 0.5,
            rounds: 0,
            count_calls: false,
            version: 4,
            measure: Measure::Cpu,
            phase: None,
            per: "delivered message".into(),
            needs: Vec::new(),
            scaled: None,
            target: None,
            published: Vec::new(),
        };
        let (skipped, cut_short, system_calls, profiles) = Default::default();
        ScenarioResult { scenario, runs, skipped, cut_short, system_calls, profiles }
    }

    #[test]
    fn rounds_become_medians_with_range_and_ratio() {
        let mut failed = run("b", 2, 1.0);
        failed.figures = None;
        failed.failure = Some("it fell".into());
        let runs = vec![
            run("a", 0, 100.0),
            run("b", 0, 400.0),
            run("a", 1, 120.0),
            run("b", 1, 480.0),
            run("a", 2, 110.0),
            failed,
        ];
        let rows = rows(&result("p2p", runs));
        assert_eq!(rows.len(), 2);
        let (a, b) = (rows[0].medians.as_ref().unwrap(), rows[1].medians.as_ref().unwrap());
        assert_eq!((a.cost, a.cost_range, b.cost), (110.0, (100.0, 120.0), 440.0));
        assert!((a.cost_spread() - 20.0 / 110.0).abs() < 1e-9);
        assert_eq!(rows[1].ratios, BTreeMap::from([("a".to_owned(), 4.0)]));
        assert_eq!((rows[1].rounds, &rows[1].failures[..]), (3, &["it fell".to_owned()][..]));
        assert_eq!(a.latency.unwrap().p99, 5000);
    }

    #[test]
    fn faults_of_all_rounds_are_summed() {
        let mut runs = vec![run("a", 0, 1.0), run("a", 1, 1.0)];
        runs[0].verdict = Verdict { lost: 2, notes: vec!["n".into()], passed: false, ..Verdict::default() };
        runs[1].verdict = Verdict { lost: 3, duplicated: 1, notes: vec!["n".into()], ..Verdict::default() };
        let verdict = &rows(&result("p2p", runs))[0].verdict;
        assert_eq!((verdict.lost, verdict.duplicated, verdict.notes.len()), (5, 1, 1));
        assert!(!verdict.passed);
    }

    #[test]
    fn core_counts_are_rows_of_their_own() {
        let mut two = run("a", 0, 50.0);
        two.broker_core_count = 2;
        let rows = rows(&result("p2p", vec![run("a", 0, 100.0), run("b", 0, 10.0), two]));
        assert_eq!(rows.iter().map(|row| row.core_count).collect::<Vec<_>>(), [1, 1, 2]);
        assert!(rows[2].ratios.is_empty());
    }

    #[test]
    fn two_rounds_near_the_median_make_it_certain() {
        assert_eq!(median_gap(&[100.0]), f64::INFINITY);
        let near = |gap: f64, wanted: f64| assert!((gap - wanted).abs() < 1e-9, "{gap}");
        near(median_gap(&[100.0, 110.0]), 10.0 / 105.0);
        near(median_gap(&[300.0, 100.0, 102.0]), 2.0 / 102.0);
        near(median_gap(&[100.0, 300.0, 200.0]), 0.5);
        near(median_gap(&[100.0, 300.0, 200.0, 204.0]), 4.0 / 202.0);
        let noisy = rows(&result("p2p", vec![run("a", 0, 100.0), run("a", 1, 120.0)]));
        let settled = rows(&result("p2p", vec![run("a", 0, 100.0), run("a", 1, 120.0), run("a", 2, 119.0)]));
        assert_eq!((noisy[0].is_noisy, settled[0].is_noisy), (true, false));
    }

    #[test]
    fn medians_of_few_values() {
        assert_eq!(median(&[]), 0.0);
        assert_eq!(median(&[3.0]), 3.0);
        assert_eq!(median(&[4.0, 1.0]), 2.5);
    }
}
