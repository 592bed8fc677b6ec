//! The pace and the limits of a rollout.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{
    routes::TOTAL_WEIGHT,
    validation::{Checks, Violations},
};

/// The pace and the limits of a rollout.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Strategy {
    /// How long a replica may take to serve a version that it was assigned.
    #[serde(with = "humantime_serde")]
    pub replica_deadline: Duration,
    /// How long each updated replica is observed before the next one is updated.
    #[serde(with = "humantime_serde")]
    pub bake: Duration,
    /// How long all replicas are observed before the target becomes the stable version.
    #[serde(with = "humantime_serde")]
    pub observe: Duration,
    /// Share of requests that may fail inside the target version, in [0, 1]. Above it the rollout is rolled back.
    pub max_error_rate: f64,
    /// The 99th percentile of the target's latency on a replica above which the rollout is rolled back, once it has answered
    /// [`Strategy::LEAST_REQUESTS`] requests there; `None` is no limit.
    #[serde(with = "humantime_serde")]
    pub max_latency: Option<Duration>,
    /// Share of the answered requests in which a guardrail may clip or flag a value, in [0, 1], once the target has answered
    /// [`Strategy::LEAST_REQUESTS`] requests on a replica. Above it the rollout is rolled back; `None` is no limit.
    pub max_guardrail_rate: Option<f64>,
    /// Steps before the first replica is updated: every replica loads the target beside the stable version.
    pub canary: Vec<CanaryStep>,
}

/// A step of a canary rollout.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct CanaryStep {
    /// Share of the requests that the target answers, out of [`TOTAL_WEIGHT`]. At 0 it gets a copy of them as the shadow version.
    pub weight: u32,
    /// How long the step lasts once every live replica has loaded the target.
    #[serde(with = "humantime_serde")]
    pub duration: Duration,
}

impl Default for Strategy {
    fn default() -> Self {
        Self {
            replica_deadline: Duration::from_secs(60),
            bake: Duration::from_secs(1),
            observe: Duration::from_secs(5),
            max_error_rate: 0.0,
            max_latency: None,
            max_guardrail_rate: None,
            canary: Vec::new(),
        }
    }
}

const DAY: Duration = Duration::from_secs(24 * 3600);

impl Strategy {
    /// Canary steps, at most.
    pub const MAX_STEPS: usize = 10;
    /// Requests from which on a percentile of the latency is compared with its limit.
    pub const LEAST_REQUESTS: u64 = 100;
    /// The greatest limit of the latency.
    pub const MAX_LATENCY: Duration = Duration::from_secs(60);

    /// How long a rollout over so many replicas takes at least: its steps and observations. Deadlines count besides.
    pub fn planned(&self, replicas: usize) -> Duration {
        let steps: Duration = self.canary.iter().map(|step| step.duration).sum();
        let replicas = u32::try_from(replicas).unwrap_or(u32::MAX);
        steps.saturating_add(self.observe).saturating_add(self.bake.saturating_mul(replicas))
    }

    /// Checks every bound.
    pub fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        let (deadline, bake, observe, rate) = (self.replica_deadline, self.bake, self.observe, self.max_error_rate);
        let bounded = !deadline.is_zero() && deadline <= DAY;
        checks.require(bounded, "replica_deadline", format!("{deadline:?}"), "above 0 and at most 1 day");
        checks.require(bake <= DAY, "bake", format!("{bake:?}"), "at most 1 day");
        checks.require(observe <= 30 * DAY, "observe", format!("{observe:?}"), "at most 30 days");
        checks.require((0.0..=1.0).contains(&rate), "max_error_rate", rate, "0 to 1");
        if let Some(limit) = self.max_latency {
            let bounded = !limit.is_zero() && limit <= Self::MAX_LATENCY;
            checks.require(bounded, "max_latency", format!("{limit:?}"), "above 0 and at most 1 minute");
        }
        if let Some(rate) = self.max_guardrail_rate {
            checks.require((0.0..=1.0).contains(&rate), "max_guardrail_rate", rate, "0 to 1");
        }
        let (steps, most) = (self.canary.len(), Self::MAX_STEPS);
        checks.require(steps <= most, "canary", format!("{steps} steps"), &format!("at most {most} steps"));
        for (index, step) in self.canary.iter().enumerate() {
            let expected = format!("0, for a shadow version, to {}", TOTAL_WEIGHT - 1);
            checks.require(step.weight < TOTAL_WEIGHT, &format!("canary[{index}].weight"), step.weight, &expected);
            let duration = step.duration;
            let field = format!("canary[{index}].duration");
            checks.require(duration <= 30 * DAY, &field, format!("{duration:?}"), "at most 30 days");
        }
        checks.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn each_bound_is_named() {
        let step = |weight, duration| Strategy { canary: vec![CanaryStep { weight, duration }], ..Strategy::default() };
        let many = vec![CanaryStep { weight: 1, duration: DAY }; Strategy::MAX_STEPS + 1];
        for (field, strategy) in [
            ("replica_deadline", Strategy { replica_deadline: Duration::ZERO, ..Strategy::default() }),
            ("bake", Strategy { bake: 2 * DAY, ..Strategy::default() }),
            ("observe", Strategy { observe: 31 * DAY, ..Strategy::default() }),
            ("max_error_rate", Strategy { max_error_rate: 1.5, ..Strategy::default() }),
            ("max_latency", Strategy { max_latency: Some(Duration::ZERO), ..Strategy::default() }),
            ("max_latency", Strategy { max_latency: Some(Duration::from_secs(61)), ..Strategy::default() }),
            ("max_guardrail_rate", Strategy { max_guardrail_rate: Some(f64::NAN), ..Strategy::default() }),
            ("canary", Strategy { canary: many, ..Strategy::default() }),
            ("canary[0].weight", step(TOTAL_WEIGHT, DAY)),
            ("canary[0].duration", step(0, 31 * DAY)),
        ] {
            let violations = strategy.validate().expect_err(field);
            assert_eq!(violations.iter().map(|violation| violation.field.as_str()).collect::<Vec<_>>(), [field]);
        }
        assert_eq!(step(0, Duration::ZERO).validate(), Ok(()));
    }

    #[test]
    fn the_planned_time_is_that_of_steps_and_observations() {
        let second = Duration::from_secs(1);
        let canary = [2, 3].map(|seconds| CanaryStep { weight: 1, duration: seconds * second }).to_vec();
        let strategy = Strategy { canary, bake: 10 * second, observe: 100 * second, ..Strategy::default() };
        assert_eq!(strategy.planned(3), 135 * second);
    }

    #[test]
    fn a_strategy_of_an_earlier_release_has_no_steps() {
        let stored = r#"{"replica_deadline":"1m","bake":"1s","observe":"5s","max_error_rate":0.0}"#;
        assert_eq!(serde_json::from_str::<Strategy>(stored).expect("reads"), Strategy::default());
    }
}
