//! What differs between the plan and what came.

use crate::engine::Stats;
use crate::plan::Plan;
use crate::process::ratio;
use crate::report::{GeneratorReport, Verdict};
use std::collections::HashMap;

/// A thread busier than this may be what limits the run.
const BUSY_MAX: f64 = 0.9;
/// More late messages than this share, and the load was not the one that was asked for.
const LATE_MAX: f64 = 0.01;

/// `lost`: flow and deliveries that never came. `unacked`: messages without an acknowledgement of success.
pub fn verdict(plan: &Plan, stats: &Stats, lost: &[(u32, u64)], unacked: u64) -> Verdict {
    let qos = plan.flows.first().map_or(0, |flow| flow.qos as u8);
    let subscribed = plan.receivers.first().map_or(qos, |receiver| receiver.qos as u8);
    let mut of_flow: HashMap<u32, u64> = HashMap::new();
    lost.iter().for_each(|(flow, count)| *of_flow.entry(*flow).or_default() += count);
    let mut verdict = Verdict {
        passed: false,
        qos: qos.min(subscribed),
        lost: of_flow.values().sum::<u64>() + stats.skipped.saturating_sub(stats.filled),
        duplicated: stats.duplicated,
        out_of_order: stats.out_of_order,
        foreign: stats.foreign,
        corrupt: stats.corrupt,
        wrong_qos: stats.wrong_qos,
        wrong_retain: stats.wrong_retain,
        sessions_lost: stats.sessions_lost,
        unacknowledged: unacked.saturating_sub(stats.refused),
        refused: stats.refused,
        protocol_errors: stats.protocol_errors,
        connect_failed: stats.connect_failed,
        disconnected: stats.disconnected,
        lost_max_of_one_flow: of_flow.values().copied().max().unwrap_or(0),
    };
    verdict.passed = verdict.faults() == 0;
    verdict
}

impl Verdict {
    fn faults(&self) -> u64 {
        self.lost
            + self.duplicated
            + self.out_of_order
            + self.foreign
            + self.corrupt
            + self.wrong_qos
            + self.wrong_retain
            + self.sessions_lost
            + self.unacknowledged
            + self.refused
            + self.protocol_errors
            + self.connect_failed
            + self.disconnected
    }
}

/// Whether the load generator was the limit: its threads had no time left, or sent late. `cpu_ns` is that of each
/// thread in the measured interval, `measured` what was counted in it.
pub fn generator(cpu_ns: &[u64], elapsed_ns: u64, measured: &Stats) -> GeneratorReport {
    let utilisation: Vec<f64> = cpu_ns.iter().map(|ns| ratio(*ns, elapsed_ns)).collect();
    let busiest = utilisation.iter().fold(0.0f64, |a, b| a.max(*b));
    let late = ratio(measured.late, measured.sent);
    let why = if busiest > BUSY_MAX {
        Some(format!("a thread was busy {:.0} % of the time", busiest * 100.0))
    } else if late > LATE_MAX {
        Some(format!("{:.1} % of the messages left more than 1 ms after they were due", late * 100.0))
    } else {
        None
    };
    let total = cpu_ns.iter().sum::<u64>();
    GeneratorReport {
        threads: cpu_ns.len() as u64,
        cpu_ns: total,
        cpu_ns_per_delivered: ratio(total, measured.delivered),
        utilisation,
        late: measured.late,
        stalls: measured.stalls,
        is_limit: why.is_some(),
        why,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_busy_thread_or_late_messages_are_the_limit() {
        let stats = Stats { sent: 1000, delivered: 1000, late: 10, ..Stats::default() };
        assert!(!generator(&[900, 100], 1000, &stats).is_limit);
        assert!(generator(&[100, 901], 1000, &stats).is_limit);
        assert!(generator(&[100], 1000, &Stats { late: 11, ..stats }).is_limit);
    }
}
