//! Retraining policies: what triggers a workflow, how the challenger is trained and evaluated, and how it is rolled out.

use std::{collections::BTreeSet, time::Duration};

use serde::{Deserialize, Serialize};

use crate::{
    DatasetName, Gate, ModelName, Recipe, Search, Trigger, WatchSettings,
    job::External,
    rollout::Strategy,
    schedule::{QuietHours, Schedule},
    validation::{Checks, Violations},
};

/// The retraining policy of a model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Policy {
    /// The model.
    pub model: ModelName,
    /// What starts a workflow besides a caller and the schedule: drift, degradation, a new version of the dataset, or every window whose
    /// outcomes have arrived.
    #[serde(default)]
    pub triggers: BTreeSet<Trigger>,
    /// When a workflow starts besides.
    #[serde(default)]
    pub schedule: Option<Schedule>,
    /// When no workflow starts by itself.
    #[serde(default)]
    pub quiet_hours: Option<QuietHours>,
    /// The dataset under which new versions are registered.
    pub dataset: DatasetName,
    /// How the challenger is trained.
    pub recipe: Recipe,
    /// The workers outside of the platform that train the challenger; `None` for a trainer of the platform. With them there is neither a
    /// search nor a refit.
    #[serde(default)]
    pub external: Option<External>,
    /// What is tried besides; the best recipe makes the challenger.
    #[serde(default = "Search::for_lookbacks")]
    pub search: Search,
    /// When the challenger is better.
    #[serde(default)]
    pub gate: Gate,
    /// Share of the new labelled rows, the latest ones, held out for the gate, in (0, 0.9].
    #[serde(default = "default_holdout_share")]
    pub holdout_share: f64,
    /// How the challenger is rolled out.
    #[serde(default)]
    pub rollout: Strategy,
    /// Event time between the windows of two triggers.
    #[serde(default = "default_cooldown", with = "humantime_serde")]
    pub cooldown: Duration,
    /// Challengers that the gate rejected in a row from which on drift has to wait longer: the cooldown is doubled with the last of them and
    /// with every further one, [`Policy::MAX_BACKOFF`] times at most. 0: it stays. A new champion, or another recipe, ends it.
    #[serde(default = "default_backoff_after")]
    pub backoff_after: u32,
    /// Trainings that may begin within 24 hours; a trigger beyond them is ignored.
    #[serde(default = "default_max_trainings_per_day")]
    pub max_trainings_per_day: u32,
    /// Whether a challenger that passed the gate is trained again on all rows, those of the gate included, before the rollout.
    #[serde(default = "default_refit")]
    pub refit: bool,
    /// Whether a person must approve the challenger before the rollout.
    #[serde(default)]
    pub require_approval: bool,
    /// Time after which a workflow fails. The steps and observations of its rollout come on top.
    #[serde(default = "default_deadline", with = "humantime_serde")]
    pub deadline: Duration,
    /// Monitoring settings; `None` leaves them unchanged.
    #[serde(default)]
    pub watch: Option<WatchSettings>,
    /// New labelled rows of the log below which a workflow ends without training. A dataset version that starts a workflow has the rows that it
    /// has.
    #[serde(default = "default_min_new_rows")]
    pub min_new_rows: u64,
}

const HOUR: Duration = Duration::from_secs(3600);
const DAY: Duration = Duration::from_secs(24 * 3600);

const fn default_holdout_share() -> f64 {
    0.25
}
const fn default_cooldown() -> Duration {
    Duration::from_secs(7 * 24 * 3600)
}
const fn default_deadline() -> Duration {
    HOUR
}
const fn default_refit() -> bool {
    true
}
const fn default_min_new_rows() -> u64 {
    1000
}
const fn default_backoff_after() -> u32 {
    2
}
const fn default_max_trainings_per_day() -> u32 {
    24
}

impl Policy {
    /// How often a cooldown is doubled, at most.
    pub const MAX_BACKOFF: u32 = 4;

    /// The greatest [`backoff_after`](Self::backoff_after).
    pub const MAX_BACKOFF_AFTER: u32 = 10;

    /// The cooldown of drift after so many challengers in a row that the gate rejected.
    pub fn cooldown_after(&self, rejected: u32) -> Duration {
        let doublings = match self.backoff_after {
            0 => 0,
            after => (rejected + 1).saturating_sub(after).min(Self::MAX_BACKOFF),
        };
        self.cooldown * 2_u32.pow(doublings)
    }

    /// A policy with every default.
    pub fn new(model: ModelName, dataset: DatasetName, recipe: Recipe) -> Self {
        Self {
            model,
            triggers: BTreeSet::new(),
            schedule: None,
            quiet_hours: None,
            dataset,
            recipe,
            external: None,
            search: Search::for_lookbacks(),
            gate: Gate::default(),
            holdout_share: default_holdout_share(),
            rollout: Strategy::default(),
            cooldown: default_cooldown(),
            backoff_after: default_backoff_after(),
            max_trainings_per_day: default_max_trainings_per_day(),
            refit: default_refit(),
            require_approval: false,
            deadline: default_deadline(),
            watch: None,
            min_new_rows: default_min_new_rows(),
        }
    }

    /// Checks every bound, those of the nested settings included.
    pub fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        let expected = "DRIFT, DEGRADATION, DATASET_VERSION or WINDOW: a workflow can always be started manually, and a schedule is a setting of its own";
        for trigger in [Trigger::Manual, Trigger::Schedule] {
            checks.require(!self.triggers.contains(&trigger), "triggers", trigger.name(), expected);
        }
        if let Some(schedule) = &self.schedule {
            checks.nested("schedule", schedule.validate());
        }
        if let Some(quiet) = &self.quiet_hours {
            checks.nested("quiet_hours", quiet.validate());
        }
        checks.nested("recipe", self.recipe.validate());
        checks.nested("search", self.search.validate());
        if let Some(external) = &self.external {
            checks.nested("external", external.validate());
        }
        checks.nested("gate", self.gate.validate());
        let share = self.holdout_share;
        checks.require(share > 0.0 && share <= 0.9, "holdout_share", share, "above 0 and at most 0.9");
        checks.nested("rollout", self.rollout.validate());
        let (cooldown, deadline) = (self.cooldown, self.deadline);
        checks.require(cooldown <= 3650 * DAY, "cooldown", format!("{cooldown:?}"), "at most 10 years");
        let (backoff, most) = (self.backoff_after, Self::MAX_BACKOFF_AFTER);
        checks.require(backoff <= most, "backoff_after", backoff, &format!("at most {most}"));
        let trainings = self.max_trainings_per_day;
        checks.require((1..=1000).contains(&trainings), "max_trainings_per_day", trainings, "1 to 1000");
        let bounded = !deadline.is_zero() && deadline <= 30 * DAY;
        checks.require(bounded, "deadline", format!("{deadline:?}"), "above 0 and at most 30 days");
        if let Some(watch) = &self.watch {
            checks.nested("watch", watch.validate());
        }
        checks.require(self.min_new_rows >= 1, "min_new_rows", self.min_new_rows, "at least 1");
        checks.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn policy() -> Policy {
        Policy::new("flight-delay".parse().expect("name"), "flights".parse().expect("name"), Recipe::for_target("late"))
    }

    #[test]
    fn the_defaults_are_valid_and_survive_json() {
        let triggers = BTreeSet::from([Trigger::Drift, Trigger::Degradation]);
        let policy = Policy { watch: Some(WatchSettings::default()), triggers, ..policy() };
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
    fn the_cooldown_grows_with_challengers_that_do_not_help() {
        let policy = Policy { cooldown: DAY, ..policy() };
        let days: Vec<u64> = (0..8).map(|rejected| policy.cooldown_after(rejected).as_secs() / 86_400).collect();
        assert_eq!(days, [1, 1, 2, 4, 8, 16, 16, 16]);
        assert_eq!(Policy { backoff_after: 0, ..policy }.cooldown_after(9), DAY);
    }

    #[test]
    fn each_bound_is_named_and_all_violations_are_reported() {
        let base = policy();
        let rollout = |rollout| Policy { rollout, ..base.clone() };
        let bad = [
            ("triggers", Policy { triggers: BTreeSet::from([Trigger::Manual]), ..base.clone() }),
            ("holdout_share", Policy { holdout_share: f64::NAN, ..base.clone() }),
            ("deadline", Policy { deadline: Duration::ZERO, ..base.clone() }),
            ("cooldown", Policy { cooldown: 4000 * DAY, ..base.clone() }),
            ("min_new_rows", Policy { min_new_rows: 0, ..base.clone() }),
            ("triggers", Policy { triggers: BTreeSet::from([Trigger::Schedule]), ..base.clone() }),
            ("schedule.cron", Policy { schedule: Some(Schedule::new("daily")), ..base.clone() }),
            ("backoff_after", Policy { backoff_after: 11, ..base.clone() }),
            ("max_trainings_per_day", Policy { max_trainings_per_day: 0, ..base.clone() }),
            ("recipe.target", Policy { recipe: Recipe::for_target(""), ..base.clone() }),
            ("gate.confidence", Policy { gate: Gate { confidence: 0.5, ..Gate::default() }, ..base.clone() }),
            ("rollout.replica_deadline", rollout(Strategy { replica_deadline: Duration::ZERO, ..Strategy::default() })),
            (
                "watch.window_offset",
                Policy {
                    watch: Some(WatchSettings { window_offset: DAY, ..WatchSettings::default() }),
                    ..base.clone()
                },
            ),
        ];
        for (field, policy) in bad {
            let violations = policy.validate().expect_err(field);
            assert_eq!(violations.iter().map(|violation| violation.field.as_str()).collect::<Vec<_>>(), [field]);
        }
        let twice = Policy { holdout_share: 2.0, min_new_rows: 0, ..base };
        assert_eq!(twice.validate().expect_err("two").iter().count(), 2);
    }
}
