//! From measured steps to rows per request and replicas. Pure: only what was measured is recommended.

use std::collections::BTreeMap;

use super::steps::{Goal, Step};

/// Throughputs that differ by less count as equal: the rates of the steps are about this far from one another.
const RESOLUTION: f64 = 0.1;

/// What is to be served.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Demand {
    /// Rows per second; `None` recommends what one replica serves.
    pub rows_per_second: Option<f64>,
    /// The share of the throughput of each replica that is to be left, at least 0 and below 1.
    pub headroom: f64,
}

/// Rows per request, and how many replicas.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Recommendation {
    /// The step with the highest rate that met the goal.
    pub step: Step,
    /// Rows per second of one replica, the headroom left out.
    pub rows_per_replica: f64,
    /// `None` without a demand.
    pub replicas: Option<u64>,
}

impl Step {
    /// Rows per second that were due, all of them answered if the step met its goal.
    pub(crate) fn rows_per_second(&self) -> f64 {
        self.offered.unwrap_or(self.answered) * self.rows as f64
    }
}

/// The open-loop step with the highest rate that met the goal, of each number of rows per request.
pub(crate) fn best(steps: &[Step], goal: Goal) -> Vec<&Step> {
    let mut best: BTreeMap<usize, &Step> = BTreeMap::new();
    for step in steps.iter().filter(|step| step.offered.is_some() && step.meets(goal)) {
        let known = best.entry(step.rows).or_insert(step);
        if step.rows_per_second() > known.rows_per_second() {
            *known = step;
        }
    }
    best.into_values().collect()
}

/// The fewest replicas; of the numbers of rows per request with which as many replicas suffice, the smallest, because callers have to
/// gather fewer rows. Without a demand, the smallest number of rows whose throughput is that of the best one. `None` if no step met the goal.
pub(crate) fn recommend(steps: &[Step], goal: Goal, demand: Demand) -> Option<Recommendation> {
    let candidates = best(steps, goal);
    let most = candidates.iter().map(|step| step.rows_per_second()).fold(0.0, f64::max);
    let usable = |step: &Step| step.rows_per_second() * (1.0 - demand.headroom);
    let replicas = |step: &Step| demand.rows_per_second.map(|rows| (rows / usable(step)).ceil().max(1.0) as u64);
    let fewest = candidates.iter().map(|step| replicas(step)).min().flatten();
    // By rows per request, ascending.
    let chosen = candidates.into_iter().find(|step| match demand.rows_per_second {
        Some(_) => replicas(step) == fewest,
        None => step.rows_per_second() >= most * (1.0 - RESOLUTION),
    });
    chosen.map(|step| Recommendation { step: step.clone(), rows_per_replica: usable(step), replicas: replicas(step) })
}

#[cfg(test)]
mod tests {
    use std::time::Duration;

    use super::*;

    const GOAL: Goal = Goal { p99: Duration::from_millis(20) };

    fn step(rows: usize, rate: f64, millis: u64) -> Step {
        let p99 = Duration::from_millis(millis);
        Step { rows, offered: Some(rate), answered: rate, p50: p99, p99, requests: 10, failed: 0 }
    }

    /// One row: 10,000 rows/s; 8 rows: 40,000; 32 rows: 42,000; 128 rows never meet the goal.
    fn steps() -> Vec<Step> {
        vec![
            Step { offered: None, ..step(1, 20_000.0, 1) },
            step(1, 5_000.0, 1),
            step(1, 10_000.0, 20),
            step(1, 15_000.0, 21),
            step(8, 5_000.0, 3),
            step(32, 1_312.5, 9),
            step(32, 2_000.0, 90),
            step(128, 10.0, 21),
        ]
    }

    fn demand(rows_per_second: impl Into<Option<f64>>, headroom: f64) -> Demand {
        Demand { rows_per_second: rows_per_second.into(), headroom }
    }

    fn recommended(rows_per_second: impl Into<Option<f64>>, headroom: f64) -> (usize, Option<u64>) {
        let found = recommend(&steps(), GOAL, demand(rows_per_second, headroom)).expect("some step met the goal");
        (found.step.rows, found.replicas)
    }

    #[test]
    fn the_best_step_of_each_number_of_rows_is_an_open_loop_that_met_the_goal() {
        let steps = steps();
        let best: Vec<_> = best(&steps, GOAL).into_iter().map(|step| (step.rows, step.rows_per_second())).collect();
        assert_eq!(best, [(1, 10_000.0), (8, 40_000.0), (32, 42_000.0)]);
    }

    #[test]
    fn the_fewest_replicas_win_and_then_the_fewest_rows() {
        assert_eq!(recommended(9_000.0, 0.0), (1, Some(1)));
        assert_eq!(recommended(10_001.0, 0.0), (8, Some(1)));
        assert_eq!(recommended(41_000.0, 0.0), (32, Some(1)));
        assert_eq!(recommended(80_000.0, 0.0), (8, Some(2)));
        assert_eq!(recommended(9_000.0, 0.3), (8, Some(1)), "7,000 rows are left of one row per request");
        assert_eq!(recommended(0.001, 0.3), (1, Some(1)), "at least one");
    }

    #[test]
    fn without_a_demand_the_fewest_rows_close_to_the_best_win() {
        assert_eq!(recommended(None, 0.3), (8, None));
    }

    #[test]
    fn the_replicas_suffice_and_one_less_does_not() {
        for rate in (1..200).map(|n| f64::from(n) * 997.0) {
            for headroom in [0.0, 0.25, 0.6] {
                let found = recommend(&steps(), GOAL, demand(rate, headroom)).expect("some step met the goal");
                let replicas = found.replicas.expect("a demand") as f64;
                assert!(replicas * found.rows_per_replica >= rate - 1e-6, "{rate} {headroom}: {found:?}");
                let steps = steps();
                let most = best(&steps, GOAL).iter().map(|step| step.rows_per_second()).fold(0.0, f64::max);
                assert!((replicas - 1.0) * most * (1.0 - headroom) < rate, "{rate} {headroom}: {found:?}");
            }
        }
    }

    #[test]
    fn nothing_is_recommended_where_nothing_met_the_goal() {
        assert_eq!(recommend(&[step(1, 10.0, 21)], GOAL, demand(None, 0.0)), None);
        assert_eq!(recommend(&[], GOAL, demand(1.0, 0.0)), None);
    }
}
