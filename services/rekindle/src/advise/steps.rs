//! The steps of a measurement: for each number of rows per request the throughput of a closed loop, then open loops of increasing rates up to
//! it, until one does not meet the goal.

use std::time::Duration;

use anyhow::Result;

use crate::bench::{load::Load, measured::Measured};

/// Requests in flight of the closed loop.
const CONCURRENCY: usize = 32;
/// The rates of the open loops, as shares of the throughput of the closed loop.
const SHARES: [f64; 8] = [0.1, 0.2, 0.35, 0.5, 0.6, 0.7, 0.8, 0.9];
/// How often a rate is measured that does not meet the goal: another process may have had the machine.
const ATTEMPTS: usize = 2;
/// Loads for one number of rows per request, unless some are repeated.
pub(crate) const MOST: usize = 1 + SHARES.len();
/// Requests in flight of the open loops.
const MAX_IN_FLIGHT: usize = 4096;

/// What a step must meet.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Goal {
    /// The longest 99th percentile of the latency.
    pub p99: Duration,
}

/// A load that was measured.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Step {
    /// Rows per request.
    pub rows: usize,
    /// Requests per second that were due; `None` in the closed loop.
    pub offered: Option<f64>,
    /// Answered requests per second.
    pub answered: f64,
    pub p50: Duration,
    pub p99: Duration,
    /// Requests, and those of them that failed.
    pub requests: u64,
    pub failed: u64,
}

impl Step {
    pub(crate) fn of(rows: usize, load: Load, measured: &Measured) -> Self {
        let offered = match load {
            Load::Closed { .. } => None,
            Load::Open { rate, .. } => Some(rate),
        };
        Self {
            rows,
            offered,
            answered: measured.rate(),
            p50: measured.latency(0.5),
            p99: measured.latency(0.99),
            requests: measured.requests(),
            failed: measured.failures.count(),
        }
    }

    /// Whether every request was answered, with the latency of the goal.
    pub(crate) fn meets(&self, goal: Goal) -> bool {
        self.requests > 0 && self.failed == 0 && self.p99 <= goal.p99
    }
}

/// Measures requests of `rows` rows. `measure` applies a load; `None` ends the measurement.
pub(crate) async fn of_rows(
    goal: Goal,
    seed: u64,
    mut measure: impl AsyncFnMut(Load) -> Result<Option<Step>>,
) -> Result<Vec<Step>> {
    let Some(peak) = measure(Load::Closed { concurrency: CONCURRENCY }).await? else { return Ok(Vec::new()) };
    let mut steps = vec![peak];
    let peak = steps[0].answered;
    for rate in SHARES.map(|share| (share * peak).max(1.0)) {
        let mut is_met = false;
        for _ in 0..ATTEMPTS {
            let load = Load::Open { rate, max_in_flight: MAX_IN_FLIGHT, seed };
            let Some(step) = measure(load).await? else { return Ok(steps) };
            is_met = step.meets(goal);
            steps.push(step);
            if is_met {
                break;
            }
        }
        if !is_met {
            break;
        }
    }
    Ok(steps)
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOAL: Goal = Goal { p99: Duration::from_millis(20) };
    const PEAK: f64 = 1000.0;

    /// A replica that answers 1,000 requests per second, and meets the goal up to `limit` of them.
    fn replica(limit: f64) -> impl AsyncFnMut(Load) -> Result<Option<Step>> {
        async move |load| {
            let (offered, answered) = match load {
                Load::Closed { .. } => (None, PEAK),
                Load::Open { rate, .. } => (Some(rate), rate),
            };
            let p99 = if answered <= limit { GOAL.p99 } else { GOAL.p99 + Duration::from_millis(1) };
            Ok(Some(Step { rows: 1, offered, answered, p50: GOAL.p99 / 2, p99, requests: 10, failed: 0 }))
        }
    }

    async fn rates(limit: f64) -> Vec<Option<u64>> {
        let steps = of_rows(GOAL, 0, replica(limit)).await.expect("measured");
        steps.iter().map(|step| step.offered.map(|rate| rate.round() as u64)).collect()
    }

    #[tokio::test]
    async fn rates_increase_until_one_fails_twice() {
        assert_eq!(rates(550.0).await, [None, Some(100), Some(200), Some(350), Some(500), Some(600), Some(600)]);
        assert_eq!(rates(0.0).await, [None, Some(100), Some(100)]);
        assert_eq!(rates(PEAK).await.last(), Some(&Some(900)));
    }

    #[tokio::test]
    async fn a_measurement_that_ends_keeps_its_steps() {
        let (mut left, mut replica) = (3, replica(PEAK));
        let steps = of_rows(GOAL, 0, async |load| {
            left -= 1;
            if left < 0 { Ok(None) } else { replica(load).await }
        });
        assert_eq!(steps.await.expect("measured").len(), 3);
    }

    #[test]
    fn a_step_with_a_failed_request_does_not_meet_the_goal() {
        let step =
            Step { rows: 1, offered: None, answered: 1.0, p50: Duration::ZERO, p99: GOAL.p99, requests: 10, failed: 0 };
        assert!(step.meets(GOAL));
        assert!(!Step { failed: 1, ..step.clone() }.meets(GOAL));
        assert!(!Step { requests: 0, ..step.clone() }.meets(GOAL));
        assert!(!Step { p99: GOAL.p99 + Duration::from_nanos(1), ..step }.meets(GOAL));
    }
}
