//! How long a whole report may take. The first round of each scenario always runs. Others that are asked for run while
//! the first rounds of all later scenarios are projected to end within the budget; further ones, for brokers whose
//! rounds disagree, while all that is asked for is.

use std::time::Duration;

use crate::load::Times;
use crate::scenario::Scenario;

/// Start of the broker, connecting, draining and the end of both: of a run that is measured for a given time.
const AROUND_S: f64 = 1.5;
/// Of a run that ends with its work.
const UNTIMED_S: f64 = 4.0;
/// A scenario may use this part of the time that is to spare, so that the first one does not use all of it.
const SCENARIO_SHARE: f64 = 0.25;

/// Seconds that a run should take. What it does take corrects the projection.
pub fn nominal_s(scenario: &Scenario, times: Times) -> f64 {
    let Some(seconds) = scenario.seconds else { return UNTIMED_S };
    AROUND_S + times.seconds.unwrap_or(seconds) + times.warm_up_s.unwrap_or(scenario.warm_up_s)
}

/// What is to run of a scenario, in nominal seconds.
#[derive(Clone, Copy, Debug, Default, PartialEq)]
pub struct Plan {
    /// One round.
    pub round_s: f64,
    /// The rounds that are asked for.
    pub rounds: u32,
    /// Runs after the rounds: system calls and profiles.
    pub probes_s: f64,
}

/// All times are seconds since the report was begun.
#[derive(Clone, Debug)]
pub struct Budget {
    limit_s: f64,
    /// Of the scenarios after the current one.
    ahead: Vec<Plan>,
    current: Plan,
    /// Nominal seconds of the runs that have ended.
    done_s: f64,
    /// When further rounds of the current scenario must have ended; None before it has wanted one.
    share_end_s: Option<f64>,
}

impl Budget {
    pub fn new(limit: Duration, plans: impl DoubleEndedIterator<Item = Plan>) -> Budget {
        let (current, done_s, share_end_s) = Default::default();
        Budget { limit_s: limit.as_secs_f64(), ahead: plans.rev().collect(), current, done_s, share_end_s }
    }

    /// The next scenario begins.
    pub fn begin_scenario(&mut self) {
        self.current = self.ahead.pop().unwrap_or_default();
        self.share_end_s = None;
    }

    pub fn has_run(&mut self, nominal_s: f64) {
        self.done_s += nominal_s;
    }

    /// Whether the current scenario may have another run in one of the rounds that are asked for.
    pub fn allows_asked(&self, elapsed_s: f64, nominal_s: f64) -> bool {
        let left_s = nominal_s + self.reserved_s(1);
        elapsed_s + self.pace(elapsed_s) * left_s <= self.limit_s
    }

    /// Whether the current scenario may have another run after those rounds.
    pub fn allows_further(&mut self, elapsed_s: f64, nominal_s: f64) -> bool {
        let pace = self.pace(elapsed_s);
        let reserved_s = pace * self.reserved_s(u32::MAX);
        let spare_s = self.limit_s - reserved_s - elapsed_s;
        let share = if self.ahead.is_empty() { 1.0 } else { SCENARIO_SHARE };
        let share_end_s = *self.share_end_s.get_or_insert(elapsed_s + share * spare_s);
        let end_s = elapsed_s + pace * nominal_s;
        end_s <= share_end_s && end_s + reserved_s <= self.limit_s
    }

    /// Seconds for each nominal second, so far.
    fn pace(&self, elapsed_s: f64) -> f64 {
        if self.done_s > 0.0 { elapsed_s / self.done_s } else { 1.0 }
    }

    /// Nominal seconds of what must run after the current scenario's rounds, with so many of the asked rounds.
    fn reserved_s(&self, rounds: u32) -> f64 {
        let of_plan = |plan: &Plan| plan.round_s * f64::from(plan.rounds.min(rounds)) + plan.probes_s;
        self.current.probes_s + self.ahead.iter().map(of_plan).sum::<f64>()
    }
}

#[cfg(test)]
mod tests {
    use std::path::Path;

    use super::*;
    use crate::scenario::read_folder;

    /// From seconds of the whole of two rounds and of the probes.
    fn budget(limit_s: u64, plans: &[(f64, f64)]) -> Budget {
        let plan = |&(rounds_s, probes_s): &(f64, f64)| Plan { round_s: rounds_s / 2.0, rounds: 2, probes_s };
        let mut budget = Budget::new(Duration::from_secs(limit_s), plans.iter().map(plan));
        budget.begin_scenario();
        budget
    }

    #[test]
    fn further_runs_leave_time_for_what_must_run() {
        // Alone, it may use all that is left but the 5 s of its probes.
        let mut alone = budget(100, &[(20.0, 5.0)]);
        alone.has_run(20.0);
        assert!(!alone.clone().allows_further(20.0, 75.1));
        assert!(alone.allows_further(20.0, 75.0));

        // 100 - 20 - 40 that others need: 40 are to spare, a quarter of them for this scenario.
        let mut first = budget(100, &[(20.0, 0.0), (30.0, 10.0)]);
        first.has_run(20.0);
        assert!(first.allows_further(20.0, 10.0));
        first.has_run(10.0);
        assert!(!first.allows_further(30.0, 1.0), "its share is used up");
        // The last one may use all of what is left.
        first.begin_scenario();
        first.has_run(30.0);
        assert!(first.allows_further(60.0, 30.0));
        assert!(!first.allows_further(60.0, 30.1));
    }

    #[test]
    fn a_slow_machine_has_first_rounds_before_second_ones() {
        let mut slow = budget(100, &[(20.0, 0.0), (30.0, 0.0)]);
        slow.has_run(10.0);
        // It took twice as long as it should, so the others need 30 s at least and 60 s with both rounds.
        assert!(slow.allows_asked(20.0, 25.0));
        assert!(!slow.allows_asked(20.0, 25.1));
        slow.has_run(10.0);
        assert!(!slow.allows_further(40.0, 0.1));
    }

    /// What runs in any case must fit with the default of four brokers, on a machine that needs half as long again.
    #[test]
    fn the_first_rounds_of_all_shipped_scenarios_are_far_within_the_default() {
        let scenarios = read_folder(&Path::new(env!("CARGO_MANIFEST_DIR")).join("scenarios")).unwrap();
        let runs = |scenario: &Scenario| 4.0 * (1.0 + f64::from(u8::from(scenario.count_calls)));
        let seconds = |scenario: &Scenario| nominal_s(scenario, Times::default()) * runs(scenario);
        let total_s: f64 = scenarios.iter().map(seconds).sum();
        assert!(1.5 * total_s < 18.0 * 60.0, "{total_s} s");
    }
}
