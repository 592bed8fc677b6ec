//! What a team wants to happen when its model's world moves.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::{DatasetName, ModelName, Recipe, recipe::InvalidRecipe, rollout::Strategy};

/// A model's policy: what triggers a workflow, how the challenger is trained and judged, and how it takes over.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The model.
    pub model: ModelName,
    /// Whether drift starts a workflow.
    #[serde(default)]
    pub on_drift: bool,
    /// Whether degradation starts a workflow.
    #[serde(default)]
    pub on_degradation: bool,
    /// The dataset that new versions are registered under.
    pub dataset: DatasetName,
    /// How the challenger is trained.
    pub recipe: Recipe,
    /// When the challenger is better.
    #[serde(default)]
    pub gate: Gate,
    /// Share of the new labelled rows, the latest ones, kept for the gate, in (0, 0.9].
    #[serde(default = "default_holdout_share")]
    pub holdout_share: f64,
    /// How the challenger takes over.
    #[serde(default)]
    pub rollout: Strategy,
    /// Event time between the windows of two triggers.
    #[serde(default = "default_cooldown", with = "humantime_serde")]
    pub cooldown: Duration,
    /// Whether a person has to agree before the rollout.
    #[serde(default)]
    pub require_approval: bool,
    /// A workflow that takes longer fails.
    #[serde(default = "default_deadline", with = "humantime_serde")]
    pub deadline: Duration,
    /// How the model is watched; `None` leaves that as it is.
    #[serde(default)]
    pub watch: Option<Watch>,
    /// New labelled rows below which a workflow ends without training.
    #[serde(default = "default_min_new_rows")]
    pub min_new_rows: u64,
}

/// When a challenger is better than the champion.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Gate {
    /// The challenger's mean loss must be lower by more than this share of the champion's, in [0, 1).
    pub margin: f64,
    /// One-sided confidence with which it must be, in [0.5, 1).
    pub confidence: f64,
    /// Rows below which the answer is no.
    pub min_rows: u64,
    /// Columns on whose every value the challenger must not be worse.
    pub slices: Vec<String>,
}

impl Default for Gate {
    fn default() -> Self {
        Self { margin: 0.0, confidence: 0.95, min_rows: 200, slices: Vec::new() }
    }
}

/// How a model is watched.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Watch {
    /// Length of a window in event time.
    #[serde(with = "humantime_serde")]
    pub window: Duration,
    /// Windows begin at multiples of their length since 1970-01-01 UTC plus this.
    #[serde(with = "humantime_serde")]
    pub window_offset: Duration,
    /// How far behind the latest event time a row may come and still be counted.
    #[serde(with = "humantime_serde")]
    pub lateness: Duration,
    /// How long after a window's end, in event time, its outcomes are waited for.
    #[serde(with = "humantime_serde")]
    pub label_wait: Duration,
    /// Rows below which a window is answered "cannot tell".
    pub min_rows: u64,
    /// Smallest population stability index that matters.
    pub drift_margin: f64,
    /// Smallest relative rise of the loss that matters.
    pub degradation_margin: f64,
    /// Chance of any false alarm in 30 windows in which nothing changed, over all columns, in (0, 0.5].
    pub false_alarm_rate: f64,
}

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

impl Default for Watch {
    fn default() -> Self {
        Self {
            window: DAY,
            window_offset: Duration::ZERO,
            lateness: HOUR,
            label_wait: DAY,
            min_rows: 200,
            drift_margin: 0.2,
            degradation_margin: 0.1,
            false_alarm_rate: 0.05,
        }
    }
}

const fn default_holdout_share() -> f64 {
    0.25
}
const fn default_cooldown() -> Duration {
    Duration::from_secs(7 * 24 * 3600)
}
const fn default_deadline() -> Duration {
    HOUR
}
const fn default_min_new_rows() -> u64 {
    1000
}

/// Why a policy cannot be followed, naming the field.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum InvalidPolicy {
    /// A field of the policy itself.
    #[error("policy field {field} is {got}: {expected}")]
    Field {
        /// The field, with dots between the levels.
        field: &'static str,
        /// What it held.
        got: String,
        /// What it may hold.
        expected: &'static str,
    },
    /// The recipe.
    #[error(transparent)]
    Recipe(#[from] InvalidRecipe),
}

impl Policy {
    /// A policy with every default.
    pub fn new(model: ModelName, dataset: DatasetName, recipe: Recipe) -> Self {
        Self {
            model,
            on_drift: false,
            on_degradation: false,
            dataset,
            recipe,
            gate: Gate::default(),
            holdout_share: default_holdout_share(),
            rollout: Strategy::default(),
            cooldown: default_cooldown(),
            require_approval: false,
            deadline: default_deadline(),
            watch: None,
            min_new_rows: default_min_new_rows(),
        }
    }

    /// Checks every bound, and reports the first that does not hold.
    pub fn validate(&self) -> Result<(), InvalidPolicy> {
        self.recipe.validate()?;
        let share = self.holdout_share;
        require(share > 0.0 && share <= 0.9, "holdout_share", share, "above 0 and at most 0.9")?;
        require(!self.deadline.is_zero(), "deadline", "0 s", "longer than nothing")?;
        require(self.deadline <= 30 * DAY, "deadline", format!("{:?}", self.deadline), "at most 30 days")?;
        require(self.cooldown <= 3650 * DAY, "cooldown", format!("{:?}", self.cooldown), "at most 10 years")?;
        require(self.min_new_rows >= 1, "min_new_rows", self.min_new_rows, "at least 1")?;
        self.gate.validate()?;
        self.rollout.validate()?;
        self.watch.as_ref().map_or(Ok(()), Watch::validate)
    }
}

impl Gate {
    fn validate(&self) -> Result<(), InvalidPolicy> {
        require((0.0..1.0).contains(&self.margin), "gate.margin", self.margin, "zero or more and below 1")?;
        require((0.5..1.0).contains(&self.confidence), "gate.confidence", self.confidence, "at least 0.5 and below 1")?;
        require(self.min_rows >= 20, "gate.min_rows", self.min_rows, "at least 20")?;
        require(self.slices.iter().all(|slice| !slice.is_empty()), "gate.slices", "an empty name", "column names")
    }
}

impl Strategy {
    fn validate(&self) -> Result<(), InvalidPolicy> {
        let deadline = self.replica_deadline;
        require(!deadline.is_zero(), "rollout.replica_deadline", "0 s", "longer than nothing")?;
        require(deadline <= DAY, "rollout.replica_deadline", format!("{deadline:?}"), "at most a day")?;
        require(self.bake <= DAY, "rollout.bake", format!("{:?}", self.bake), "at most a day")?;
        require(self.observe <= 30 * DAY, "rollout.observe", format!("{:?}", self.observe), "at most 30 days")?;
        let rate = self.max_error_rate;
        require((0.0..=1.0).contains(&rate), "rollout.max_error_rate", rate, "0 to 1")
    }
}

impl Watch {
    /// The shortest window.
    pub const SHORTEST_WINDOW: Duration = Duration::from_secs(1);
    /// The longest of all spans: ten years.
    pub const LONGEST_SPAN: Duration = Duration::from_secs(3653 * 24 * 3600);
    /// The least that `min_rows` may be.
    pub const LEAST_ROWS: u64 = 2;
    /// The greatest that either margin may be.
    pub const GREATEST_MARGIN: f64 = 100.0;
    /// The greatest that `false_alarm_rate` may be.
    pub const GREATEST_FALSE_ALARM_RATE: f64 = 0.5;

    /// Checks every bound, and reports the first that does not hold. The monitor holds its settings to the same bounds: a watch that it
    /// refused would be pushed for ever.
    pub fn validate(&self) -> Result<(), InvalidPolicy> {
        self.validate_spans()?;
        require(self.min_rows >= Self::LEAST_ROWS, "watch.min_rows", self.min_rows, "at least 2")?;
        let share = |field, got: f64, most: f64, expected| require(got > 0.0 && got <= most, field, got, expected);
        let margin = "above 0 and at most 100";
        share("watch.drift_margin", self.drift_margin, Self::GREATEST_MARGIN, margin)?;
        share("watch.degradation_margin", self.degradation_margin, Self::GREATEST_MARGIN, margin)?;
        let (rate, most) = (self.false_alarm_rate, Self::GREATEST_FALSE_ALARM_RATE);
        share("watch.false_alarm_rate", rate, most, "above 0 and at most 0.5")
    }

    /// In whole milliseconds, which is what the monitor keeps.
    fn validate_spans(&self) -> Result<(), InvalidPolicy> {
        let span = |field, got: Duration, least: Duration, expected| {
            let held = (least.as_millis()..=Self::LONGEST_SPAN.as_millis()).contains(&got.as_millis());
            require(held, field, format!("{got:?}"), expected)
        };
        span("watch.window", self.window, Self::SHORTEST_WINDOW, "between 1 second and 10 years")?;
        let offset = self.window_offset;
        let is_shorter = offset.as_millis() < self.window.as_millis();
        require(is_shorter, "watch.window_offset", format!("{offset:?}"), "shorter than the window")?;
        span("watch.lateness", self.lateness, Duration::ZERO, "at most 10 years")?;
        span("watch.label_wait", self.label_wait, Duration::ZERO, "at most 10 years")
    }
}

fn require(held: bool, field: &'static str, got: impl ToString, expected: &'static str) -> Result<(), InvalidPolicy> {
    if held { Ok(()) } else { Err(InvalidPolicy::Field { field, got: got.to_string(), expected }) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy::new("flight-delay".parse().expect("name"), "flights".parse().expect("name"), Recipe::for_target("late"))
    }

    #[test]
    fn the_defaults_are_valid_and_survive_json() {
        let policy = Policy { watch: Some(Watch::default()), ..policy() };
        assert_eq!(policy.validate(), Ok(()));
        let json = serde_json::to_string(&policy).expect("json");
        assert_eq!(serde_json::from_str::<Policy>(&json).expect("same"), policy);
    }

    #[test]
    fn durations_are_written_for_people_and_the_rest_defaults() {
        let json = r#"{"model": "m", "dataset": "d", "recipe": {"target": "y"}, "cooldown": "2days"}"#;
        let parsed: Policy = serde_json::from_str(json).expect("valid");
        assert_eq!(parsed.cooldown, 2 * DAY);
        assert_eq!(parsed.min_new_rows, 1000);
        assert!(serde_json::from_str::<Policy>(&json.replace("cooldown", "cool_down")).is_err());
    }

    #[test]
    fn each_bound_is_named() {
        let base = policy();
        let watch = |watch| Policy { watch: Some(watch), ..base.clone() };
        let gate = |gate| Policy { gate, ..base.clone() };
        let rollout = |rollout| Policy { rollout, ..base.clone() };
        let bad = [
            ("holdout_share", Policy { holdout_share: f64::NAN, ..base.clone() }),
            ("deadline", Policy { deadline: Duration::ZERO, ..base.clone() }),
            ("cooldown", Policy { cooldown: 4000 * DAY, ..base.clone() }),
            ("min_new_rows", Policy { min_new_rows: 0, ..base.clone() }),
            ("gate.margin", gate(Gate { margin: 1.0, ..Gate::default() })),
            ("gate.confidence", gate(Gate { confidence: 0.3, ..Gate::default() })),
            ("gate.min_rows", gate(Gate { min_rows: 0, ..Gate::default() })),
            ("gate.slices", gate(Gate { slices: vec![String::new()], ..Gate::default() })),
            ("rollout.replica_deadline", rollout(Strategy { replica_deadline: Duration::ZERO, ..Strategy::default() })),
            ("rollout.bake", rollout(Strategy { bake: 2 * DAY, ..Strategy::default() })),
            ("rollout.observe", rollout(Strategy { observe: 31 * DAY, ..Strategy::default() })),
            ("rollout.max_error_rate", rollout(Strategy { max_error_rate: 1.5, ..Strategy::default() })),
            ("watch.window", watch(Watch { window: Duration::ZERO, ..Watch::default() })),
            ("watch.window_offset", watch(Watch { window_offset: DAY, ..Watch::default() })),
            ("watch.window", watch(Watch { window: 3654 * DAY, ..Watch::default() })),
            ("watch.lateness", watch(Watch { lateness: 3654 * DAY, ..Watch::default() })),
            ("watch.label_wait", watch(Watch { label_wait: 3654 * DAY, ..Watch::default() })),
            ("watch.min_rows", watch(Watch { min_rows: 1, ..Watch::default() })),
            ("watch.drift_margin", watch(Watch { drift_margin: 0.0, ..Watch::default() })),
            ("watch.drift_margin", watch(Watch { drift_margin: 101.0, ..Watch::default() })),
            ("watch.degradation_margin", watch(Watch { degradation_margin: -1.0, ..Watch::default() })),
            ("watch.false_alarm_rate", watch(Watch { false_alarm_rate: 0.6, ..Watch::default() })),
        ];
        for (name, policy) in bad {
            match policy.validate() {
                Err(InvalidPolicy::Field { field, .. }) => assert_eq!(field, name),
                other => panic!("{name}: {other:?}"),
            }
        }
        let (window, window_offset) = (Duration::from_micros(1_000_900), Duration::from_micros(1_000_100));
        let within_a_millisecond = watch(Watch { window, window_offset, ..Watch::default() });
        assert!(within_a_millisecond.validate().is_err(), "the monitor would take both for one second");
        let recipe = Policy { recipe: Recipe::for_target(""), ..base };
        assert!(matches!(recipe.validate(), Err(InvalidPolicy::Recipe(_))));
    }
}
