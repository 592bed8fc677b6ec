//! How a model is to be trained: everything that decides the result besides the rows.

use serde::{Deserialize, Serialize};

/// What is predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// One of two classes; the loss is log loss in nats.
    Binary,
    /// One of several classes; the loss is log loss in nats.
    Multiclass,
    /// A number; the loss is the squared error in the target's units squared.
    Regression,
}

/// The family of models.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Architecture {
    /// Logistic, softmax or linear regression on standardised numbers and one weight (vector) per category.
    Linear,
    /// A multi-layer perceptron with entity embeddings for categories (Guo and Berkhahn 2016, section 3).
    Mlp {
        /// Widths of the hidden layers.
        hidden: Vec<usize>,
        /// Share of hidden activations dropped while training, in [0, 1).
        dropout: f64,
    },
}

impl Default for Architecture {
    fn default() -> Self {
        Self::Mlp { hidden: vec![128, 64], dropout: 0.2 }
    }
}

/// A training recipe. The same recipe on the same rows gives the same model, bit for bit, on the same
/// kind of machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Recipe {
    /// The column to predict.
    pub target: String,
    /// What kind of prediction; `None` lets the target's values decide.
    #[serde(default)]
    pub task: Option<Task>,
    /// Columns that must not become features: identifiers, and whatever is known only with the label.
    #[serde(default)]
    pub ignore: Vec<String>,
    /// The family of models.
    #[serde(default)]
    pub architecture: Architecture,
    /// Passes over the training rows at most; early stopping usually ends it sooner.
    #[serde(default = "default_epochs")]
    pub max_epochs: u32,
    /// Passes without a better validation loss before training stops.
    #[serde(default = "default_patience")]
    pub patience: u32,
    /// Rows per step.
    #[serde(default = "default_batch")]
    pub batch_size: usize,
    /// Adam's step size.
    #[serde(default = "default_learning_rate")]
    pub learning_rate: f64,
    /// Decoupled weight decay (AdamW).
    #[serde(default = "default_weight_decay")]
    pub weight_decay: f64,
    /// Share of the rows, the latest ones, held out to decide when to stop, in (0, 0.5].
    #[serde(default = "default_validation_share")]
    pub validation_share: f64,
    /// Seed of the initial weights, of dropout and of the order of rows; at most 2^53 - 1.
    #[serde(default)]
    pub seed: u64,
}

/// The recipe travels as JSON, whose numbers are doubles to most readers.
const MAX_SEED: u64 = (1 << 53) - 1;

fn default_epochs() -> u32 {
    50
}
fn default_patience() -> u32 {
    5
}
fn default_batch() -> usize {
    256
}
fn default_learning_rate() -> f64 {
    1e-3
}
fn default_weight_decay() -> f64 {
    1e-4
}
fn default_validation_share() -> f64 {
    0.15
}

/// Why a recipe cannot be followed, naming the field.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
#[error("recipe field {field} is {got}: {expected}")]
pub struct InvalidRecipe {
    /// The field's name.
    pub field: &'static str,
    /// What it held.
    pub got: String,
    /// What it may hold.
    pub expected: &'static str,
}

impl Recipe {
    /// A recipe with every default, for a target.
    pub fn for_target(target: impl Into<String>) -> Self {
        Self {
            target: target.into(),
            task: None,
            ignore: Vec::new(),
            architecture: Architecture::default(),
            max_epochs: default_epochs(),
            patience: default_patience(),
            batch_size: default_batch(),
            learning_rate: default_learning_rate(),
            weight_decay: default_weight_decay(),
            validation_share: default_validation_share(),
            seed: 0,
        }
    }

    /// Checks every bound, and reports the first that does not hold.
    pub fn validate(&self) -> Result<(), InvalidRecipe> {
        let require = |held: bool, field, got: String, expected| {
            if held { Ok(()) } else { Err(InvalidRecipe { field, got, expected }) }
        };
        let positive = |x: f64| x.is_finite() && x > 0.0;
        require(!self.target.is_empty(), "target", "empty".into(), "name the column to predict")?;
        require(!self.ignore.contains(&self.target), "ignore", self.target.clone(), "the target cannot be ignored")?;
        require((1..=1000).contains(&self.max_epochs), "max_epochs", self.max_epochs.to_string(), "1 to 1000")?;
        require(self.patience >= 1, "patience", self.patience.to_string(), "at least 1")?;
        require((1..=65_536).contains(&self.batch_size), "batch_size", self.batch_size.to_string(), "1 to 65536")?;
        require(positive(self.learning_rate), "learning_rate", self.learning_rate.to_string(), "a positive number")?;
        require(
            self.weight_decay.is_finite() && self.weight_decay >= 0.0,
            "weight_decay",
            self.weight_decay.to_string(),
            "zero or more",
        )?;
        require(
            positive(self.validation_share) && self.validation_share <= 0.5,
            "validation_share",
            self.validation_share.to_string(),
            "above 0 and at most 0.5",
        )?;
        require(
            self.seed <= MAX_SEED,
            "seed",
            self.seed.to_string(),
            "at most 2^53 - 1, the largest number that JSON keeps exact",
        )?;
        if let Architecture::Mlp { hidden, dropout } = &self.architecture {
            require(
                (1..=8).contains(&hidden.len()) && hidden.iter().all(|width| (1..=4096).contains(width)),
                "architecture.hidden",
                format!("{hidden:?}"),
                "1 to 8 layers of 1 to 4096",
            )?;
            require(
                (0.0..1.0).contains(dropout),
                "architecture.dropout",
                dropout.to_string(),
                "zero or more and below 1",
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_defaults_are_valid_and_survive_json() {
        let recipe = Recipe::for_target("late");
        assert_eq!(recipe.validate(), Ok(()));
        let json = serde_json::to_string(&recipe).expect("json");
        assert_eq!(serde_json::from_str::<Recipe>(&json).expect("same"), recipe);
        assert_eq!(serde_json::from_str::<Recipe>(r#"{"target":"late"}"#).expect("defaults"), recipe);
    }

    #[test]
    fn each_bound_is_named() {
        let base = Recipe::for_target("late");
        let bad = [
            ("target", Recipe { target: String::new(), ..base.clone() }),
            ("ignore", Recipe { ignore: vec!["late".into()], ..base.clone() }),
            ("max_epochs", Recipe { max_epochs: 0, ..base.clone() }),
            ("patience", Recipe { patience: 0, ..base.clone() }),
            ("batch_size", Recipe { batch_size: 0, ..base.clone() }),
            ("learning_rate", Recipe { learning_rate: f64::NAN, ..base.clone() }),
            ("weight_decay", Recipe { weight_decay: -1.0, ..base.clone() }),
            ("seed", Recipe { seed: 1 << 53, ..base.clone() }),
            ("validation_share", Recipe { validation_share: 0.6, ..base.clone() }),
            (
                "architecture.hidden",
                Recipe { architecture: Architecture::Mlp { hidden: vec![], dropout: 0.0 }, ..base.clone() },
            ),
            (
                "architecture.dropout",
                Recipe { architecture: Architecture::Mlp { hidden: vec![8], dropout: 1.0 }, ..base },
            ),
        ];
        for (field, recipe) in bad {
            assert_eq!(recipe.validate().expect_err(field).field, field);
        }
    }
}
