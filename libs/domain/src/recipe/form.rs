//! The JSON forms of a recipe.
//!
//! Policies, workflows and bundle manifests that were recorded before hyperparameters moved below `model` hold them beside the target.
//! Manifests keep that flat form, so that the digest of a bundle does not depend on the program that reads it.

use std::time::Duration;

use serde::{Deserialize, Serialize};

use super::{
    Calibration, CnnRecipe, ImageShape, LinearRecipe, MlpRecipe, ModelRecipe, Optimizer, Recipe, RowWeights,
    TabMRecipe, Task, default_validation_share,
};

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
    /// An ensemble of multi-layer perceptrons that share their hidden layers.
    #[serde(rename = "tabm")]
    TabM {
        /// Members of the ensemble.
        members: usize,
        /// Quantile bins of the encoding of a number; 0 for none.
        bins: usize,
        /// Widths of the hidden layers.
        hidden: Vec<usize>,
        /// Share of hidden activations dropped while training, in [0, 1).
        dropout: f64,
    },
    /// A convolutional network for images.
    Cnn {
        /// The image that the features of a row are.
        image: ImageShape,
        /// Filters of each convolutional layer.
        filters: Vec<usize>,
        /// Widths of the fully connected hidden layers.
        hidden: Vec<usize>,
        /// Share of the activations of fully connected layers dropped while training, in [0, 1).
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
    /// 0 in manifests that were recorded before weights were averaged.
    #[serde(skip_serializing_if = "is_zero")]
    averaging: f64,
    validation_share: f64,
    #[serde(skip_serializing_if = "Option::is_none", with = "humantime_serde")]
    lookback: Option<Duration>,
    #[serde(skip_serializing_if = "RowWeights::is_none")]
    weights: RowWeights,
    #[serde(skip_serializing_if = "Calibration::is_none")]
    calibration: Calibration,
    seed: u64,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "serde passes a reference")]
fn is_zero(value: &f64) -> bool {
    *value == 0.0
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
    #[serde(default, with = "humantime_serde")]
    lookback: Option<Duration>,
    #[serde(default)]
    weights: RowWeights,
    #[serde(default)]
    calibration: Calibration,
    #[serde(default)]
    seed: u64,
    model: Option<ModelRecipe>,
    architecture: Option<Architecture>,
    max_epochs: Option<u32>,
    patience: Option<u32>,
    batch_size: Option<usize>,
    learning_rate: Option<f64>,
    weight_decay: Option<f64>,
    averaging: Option<f64>,
}

impl From<AnyForm> for Recipe {
    fn from(form: AnyForm) -> Self {
        let base = Optimizer::default();
        // The flat form always has an architecture when it was recorded, and weights were not averaged until later.
        let is_recorded = form.architecture.is_some();
        let optimizer = Optimizer {
            max_epochs: form.max_epochs.unwrap_or(base.max_epochs),
            patience: form.patience.unwrap_or(base.patience),
            batch_size: form.batch_size.unwrap_or(base.batch_size),
            learning_rate: form.learning_rate.unwrap_or(base.learning_rate),
            weight_decay: form.weight_decay.unwrap_or(base.weight_decay),
            averaging: form.averaging.unwrap_or(if is_recorded { 0.0 } else { base.averaging }),
        };
        let flat = match form.architecture {
            Some(Architecture::Linear) => ModelRecipe::Linear(LinearRecipe { optimizer }),
            Some(Architecture::Mlp { hidden, dropout }) => ModelRecipe::Mlp(MlpRecipe { hidden, dropout, optimizer }),
            Some(Architecture::TabM { members, bins, hidden, dropout }) => {
                ModelRecipe::TabM(TabMRecipe { members, bins, hidden, dropout, optimizer })
            }
            Some(Architecture::Cnn { image, filters, hidden, dropout }) => {
                ModelRecipe::Cnn(CnnRecipe { image, filters, hidden, dropout, optimizer })
            }
            None => ModelRecipe::TabM(TabMRecipe { optimizer, ..TabMRecipe::default() }),
        };
        Self {
            target: form.target,
            task: form.task,
            ignore: form.ignore,
            validation_share: form.validation_share,
            lookback: form.lookback,
            weights: form.weights,
            calibration: form.calibration,
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
            averaging: optimizer.averaging,
            validation_share: recipe.validation_share,
            lookback: recipe.lookback,
            weights: recipe.weights.clone(),
            calibration: recipe.calibration,
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
        let optimizer = Optimizer { patience: 3, averaging: 0.0, ..Optimizer::default() };
        assert_eq!(recipe.model, ModelRecipe::Linear(LinearRecipe { optimizer }));
        let written = serde_json::to_string(&FlatRecipe::from(&recipe)).expect("json");
        assert_eq!(serde_json::from_str::<Recipe>(&written).expect("same"), recipe);
        let short: Recipe = serde_json::from_str(r#"{"target":"late","max_epochs":3}"#).expect("no architecture");
        assert_eq!(short.model.optimizer(), &Optimizer { max_epochs: 3, ..Optimizer::default() });
        let network = Recipe::for_target("late");
        let written = serde_json::to_string(&FlatRecipe::from(&network)).expect("json");
        assert_eq!(serde_json::from_str::<Recipe>(&written).expect("same"), network);
        let image = ImageShape { height: 8, width: 8, channels: 1 };
        let images = Recipe { model: ModelRecipe::Cnn(CnnRecipe::for_image(image)), ..network };
        let written = serde_json::to_string(&FlatRecipe::from(&images)).expect("json");
        assert_eq!(serde_json::from_str::<Recipe>(&written).expect("same"), images);
    }
}
