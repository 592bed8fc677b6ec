//! Searches for a recipe: what is tried besides the recipe that was given, and for how long.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use crate::validation::{Checks, Violations};

/// What a training tries besides its recipe. All trials are compared on the validation rows of that recipe.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Search {
    /// Whether shorter lookbacks are tried (half of the time that the rows span, a quarter, and so on), and a half-life of the weights of
    /// rows.
    pub lookbacks: bool,
    /// Whether other kinds of model and other hyperparameters are tried.
    pub models: bool,
    /// Recipes that are tried at most.
    pub trials: u32,
    /// Time after which no further trial is started, and one in progress is abandoned.
    #[serde(with = "humantime_serde")]
    pub budget: Duration,
}

impl Default for Search {
    /// Nothing but the recipe itself.
    fn default() -> Self {
        Self { lookbacks: false, models: false, trials: 50, budget: Duration::from_secs(600) }
    }
}

impl Search {
    /// Lookbacks alone, as for a retraining.
    pub fn for_lookbacks() -> Self {
        Self { lookbacks: true, ..Self::default() }
    }

    /// Everything.
    pub fn for_everything() -> Self {
        Self { lookbacks: true, models: true, ..Self::default() }
    }

    /// Whether more than the recipe itself is tried.
    pub const fn is_needed(&self) -> bool {
        self.lookbacks || self.models
    }

    /// Checks every bound.
    pub fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        checks.require((1..=1000).contains(&self.trials), "trials", self.trials, "1 to 1000");
        let bounded = !self.budget.is_zero() && self.budget <= Duration::from_secs(30 * 24 * 3600);
        checks.require(bounded, "budget", format!("{:?}", self.budget), "above 0 and at most 30 days");
        checks.finish()
    }
}
