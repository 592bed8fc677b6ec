//! The JSON forms of a recipe.
//!
//! Policies, workflows and bundle manifests that were recorded before hyperparameters moved below `model` hold them beside the target.
//! Manifests keep that flat form, so that the digest of a bundle does not depend on the program that reads it.

use serde::{Deserialize, Serialize};

use super::{LinearRecipe, MlpRecipe, ModelRecipe, Optimizer, Recipe, Task, default_validation_share};

/// The shape of a network.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum Architecture {
    /// One layer of weights.
    Linear,
    /// A multi-layer perceptron.
    Mlp {
        /// Widths of the hidden layers.
        hidden: Vec<usize>,
        /// Share of hidden activations dropped while training, in [0, 1).
        dropout: f64,
    },
}

/// The flat form, with every field.
#[derive(Debug, Clone, PartialEq, Serialize)]
pub struct FlatRecipe {
    target: String,
    task: Option<Task>,
    ignore: Vec<String>,
    architecture: Architecture,
    max_epochs: u32,
    patience: u32,
    batch_size: usize,
    learning_rate: f64,
    weight_decay: f64,
    validation_share: f64,
    seed: u64,
}

/// Either form; what is left out takes its default.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub(super) struct AnyForm {
    target: String,
    task: Option<Task>,
    #[serde(default)]
    ignore: Vec<String>,
    #[serde(default = "default_validation_share")]
    validation_share: f64,
    #[serde(default)]
    seed: u64,
    model: Option<ModelRecipe>,
    architecture: Option<Architecture>,
    max_epochs: Option<u32>,
    patience: Option<u32>,
    batch_size: Option<usize>,
    learning_rate: Option<f64>,
    weight_decay: Option<f64>,
}

impl From<AnyForm> for Recipe {
    fn from(form: AnyForm) -> Self {
        let base = Optimizer::default();
        let optimizer = Optimizer {
            max_epochs: form.max_epochs.unwrap_or(base.max_epochs),
            patience: form.patience.unwrap_or(base.patience),
            batch_size: form.batch_size.unwrap_or(base.batch_size),
            learning_rate: form.learning_rate.unwrap_or(base.learning_rate),
            weight_decay: form.weight_decay.unwrap_or(base.weight_decay),
        };
        let flat = match form.architecture {
            Some(Architecture::Linear) => ModelRecipe::Linear(LinearRecipe { optimizer }),
            Some(Architecture::Mlp { hidden, dropout }) => ModelRecipe::Mlp(MlpRecipe { hidden, dropout, optimizer }),
            None => ModelRecipe::Mlp(MlpRecipe { optimizer, ..MlpRecipe::default() }),
        };
        Self {
            target: form.target,
            task: form.task,
            ignore: form.ignore,
            validation_share: form.validation_share,
            seed: form.seed,
            model: form.model.unwrap_or(flat),
        }
    }
}

impl From<&Recipe> for FlatRecipe {
    fn from(recipe: &Recipe) -> Self {
        let optimizer = recipe.model.optimizer();
        Self {
            target: recipe.target.clone(),
            task: recipe.task,
            ignore: recipe.ignore.clone(),
            architecture: recipe.model.architecture(),
            max_epochs: optimizer.max_epochs,
            patience: optimizer.patience,
            batch_size: optimizer.batch_size,
            learning_rate: optimizer.learning_rate,
            weight_decay: optimizer.weight_decay,
            validation_share: recipe.validation_share,
            seed: recipe.seed,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_flat_form_reads_back() {
        let flat = r#"{"target":"late","architecture":{"kind":"linear"},"patience":3}"#;
        let recipe: Recipe = serde_json::from_str(flat).expect("the flat form");
        let optimizer = Optimizer { patience: 3, ..Optimizer::default() };
        assert_eq!(recipe.model, ModelRecipe::Linear(LinearRecipe { optimizer }));
        let written = serde_json::to_string(&FlatRecipe::from(&recipe)).expect("json");
        assert_eq!(serde_json::from_str::<Recipe>(&written).expect("same"), recipe);
        let network = Recipe::for_target("late");
        let written = serde_json::to_string(&FlatRecipe::from(&network)).expect("json");
        assert_eq!(serde_json::from_str::<Recipe>(&written).expect("same"), network);
    }
}
