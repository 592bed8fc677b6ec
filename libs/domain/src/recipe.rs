//! Training recipes: everything that decides the result of a training besides the rows.

mod form;
mod image;

use std::time::Duration;

use serde::{Deserialize, Serialize};

pub use self::{
    form::{Architecture, FlatRecipe},
    image::{CnnRecipe, ImageShape, InvalidImageShape, check_filters},
};
use crate::validation::{Checks, Violations};

/// What is predicted.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Task {
    /// One of two classes; the loss is log loss in nats.
    Binary,
    /// One of several classes; the loss is log loss in nats.
    Multiclass,
    /// A number; the loss is the squared error in units of the target squared.
    Regression,
}

/// A training recipe. The same recipe on the same rows gives the same model, bit for bit, on the same kind of machine.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(from = "form::AnyForm")]
pub struct Recipe {
    /// The column to predict.
    pub target: String,
    /// The task; `None` infers it from the values of the target.
    pub task: Option<Task>,
    /// Columns that are not features: identifiers, and whatever is known only with the label.
    pub ignore: Vec<String>,
    /// Share of the rows, the latest ones, held out for early stopping, in (0, 0.5].
    pub validation_share: f64,
    /// Only rows of this time before the latest training row are trained on; `None` for all.
    #[serde(with = "humantime_serde")]
    pub lookback: Option<Duration>,
    /// How much each training row counts.
    pub weights: RowWeights,
    /// How probabilities are calibrated.
    pub calibration: Calibration,
    /// Seed of the initial weights, of dropout and of the order of rows; at most 2^53 - 1.
    pub seed: u64,
    /// The kind of model and its hyperparameters.
    pub model: ModelRecipe,
}

/// How much each training row counts: the product of the weights that are set. Column and balance weight the validation loss that decides
/// the number of epochs, too; metrics are of rows that all count the same.
#[derive(Debug, Clone, PartialEq, Eq, Default, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct RowWeights {
    /// A column of weights, numbers of at least 0; it is not a feature.
    pub column: Option<String>,
    /// Whether all classes count the same, however many rows each has.
    pub balanced: bool,
    /// The time after which a row counts half as much as the latest training row.
    #[serde(with = "humantime_serde")]
    pub half_life: Option<Duration>,
}

impl RowWeights {
    /// Whether every row counts the same.
    pub fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

/// How the probabilities of a classifier are calibrated on the validation rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Calibration {
    /// Not at all.
    #[default]
    None,
    /// By temperature scaling (Guo, Pleiss, Sun and Weinberger 2017, "On calibration of modern neural networks"): the log odds are divided
    /// by the temperature with the lowest log loss. If the rates of the classes change after the validation rows, calibrated probabilities
    /// can be worse than others.
    Temperature,
}

impl Calibration {
    /// Whether it is [`Self::None`].
    pub fn is_none(&self) -> bool {
        matches!(self, Self::None)
    }
}

/// A kind of model with its hyperparameters.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ModelRecipe {
    /// Logistic, softmax or linear regression.
    Linear(LinearRecipe),
    /// A multi-layer perceptron.
    Mlp(MlpRecipe),
    /// An ensemble of multi-layer perceptrons that share their hidden layers.
    #[serde(rename = "tabm")]
    TabM(TabMRecipe),
    /// A convolutional network for images.
    Cnn(CnnRecipe),
}

/// Logistic, softmax or linear regression on standardised numbers and one weight (vector) per category.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
#[serde(default)]
pub struct LinearRecipe {
    /// How the weights are fitted.
    pub optimizer: Optimizer,
}

/// A multi-layer perceptron with entity embeddings for categories (Guo and Berkhahn 2016, section 3).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(default)]
pub struct MlpRecipe {
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// Share of hidden activations dropped while training, in [0, 1).
    pub dropout: f64,
    /// How the weights are fitted.
    pub optimizer: Optimizer,
}

/// An ensemble of multi-layer perceptrons that share their hidden layers, on piecewise-linear encodings of numbers: TabM-mini (Gorishniy,
/// Kotelnikov and Babenko 2025, "TabM: Advancing tabular deep learning with parameter-efficient ensembling") with the encoding of
/// Gorishniy, Rubachev and Babenko 2022, "On embeddings for numerical features in tabular deep learning".
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct TabMRecipe {
    /// Members of the ensemble.
    pub members: usize,
    /// Quantile bins of the encoding of a number; 0 for none.
    pub bins: usize,
    /// Widths of the hidden layers.
    pub hidden: Vec<usize>,
    /// Share of hidden activations dropped while training, in [0, 1).
    pub dropout: f64,
    /// How the weights are fitted.
    pub optimizer: Optimizer,
}

/// Minibatch AdamW (Loshchilov and Hutter 2019) with early stopping.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Optimizer {
    /// Passes over the training rows at most; early stopping usually ends it sooner.
    pub max_epochs: u32,
    /// Passes without a better validation loss before training stops.
    pub patience: u32,
    /// Rows per step.
    pub batch_size: usize,
    /// Step size of Adam.
    pub learning_rate: f64,
    /// Decoupled weight decay.
    pub weight_decay: f64,
    /// Decay per step of the exponential moving average of the weights, which is the model (Polyak and Juditsky 1992), in [0, 1); 0 for the
    /// weights of the last step.
    pub averaging: f64,
}

/// Members of an ensemble at most.
pub const MAX_MEMBERS: usize = 64;
/// JSON numbers are doubles to most readers.
const MAX_SEED: u64 = (1 << 53) - 1;

fn default_validation_share() -> f64 {
    0.15
}

impl Default for ModelRecipe {
    fn default() -> Self {
        Self::TabM(TabMRecipe::default())
    }
}

impl Default for MlpRecipe {
    fn default() -> Self {
        Self { hidden: vec![128, 64], dropout: 0.2, optimizer: Optimizer::default() }
    }
}

impl Default for TabMRecipe {
    fn default() -> Self {
        Self { members: 4, bins: 32, hidden: vec![128, 64], dropout: 0.1, optimizer: Optimizer::default() }
    }
}

impl Default for Optimizer {
    fn default() -> Self {
        Self { max_epochs: 50, patience: 5, batch_size: 256, learning_rate: 1e-3, weight_decay: 1e-4, averaging: 0.99 }
    }
}

impl Recipe {
    /// A recipe with every default, for a target.
    pub fn for_target(target: impl Into<String>) -> Self {
        Self {
            target: target.into(),
            task: None,
            ignore: Vec::new(),
            validation_share: default_validation_share(),
            lookback: None,
            weights: RowWeights::default(),
            calibration: Calibration::default(),
            seed: 0,
            model: ModelRecipe::default(),
        }
    }

    /// Checks every bound.
    pub fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        checks.require(!self.target.is_empty(), "target", "empty", "the name of the column to predict");
        let ignored = self.ignore.contains(&self.target);
        checks.require(!ignored, "ignore", format!("{:?}", self.target), "columns other than the target");
        let share = self.validation_share;
        checks.require(share > 0.0 && share <= 0.5, "validation_share", share, "above 0 and at most 0.5");
        let lookback = self.lookback.unwrap_or(Duration::MAX);
        checks.require(!lookback.is_zero(), "lookback", format!("{lookback:?}"), "above 0, or none for all rows");
        let half_life = self.weights.half_life.unwrap_or(Duration::MAX);
        checks.require(!half_life.is_zero(), "weights.half_life", format!("{half_life:?}"), "above 0, or none");
        let weight = self.weights.column.as_deref();
        let is_other = weight.is_none_or(|weight| weight != self.target && !weight.is_empty());
        checks.require(is_other, "weights.column", format!("{weight:?}"), "a column other than the target");
        checks.require(self.seed <= MAX_SEED, "seed", self.seed, "at most 2^53 - 1");
        match &self.model {
            ModelRecipe::Linear(linear) => checks.nested("linear", linear.validate()),
            ModelRecipe::Mlp(mlp) => checks.nested("mlp", mlp.validate()),
            ModelRecipe::TabM(tabm) => checks.nested("tabm", tabm.validate()),
            ModelRecipe::Cnn(cnn) => checks.nested("cnn", cnn.validate()),
        }
        checks.finish()
    }
}

impl ModelRecipe {
    /// The name of the kind, e.g. `mlp`.
    pub const fn kind(&self) -> &'static str {
        match self {
            Self::Linear(_) => "linear",
            Self::Mlp(_) => "mlp",
            Self::TabM(_) => "tabm",
            Self::Cnn(_) => "cnn",
        }
    }

    /// The shape of the network, which outlives the training.
    pub fn architecture(&self) -> Architecture {
        match self {
            Self::Linear(_) => Architecture::Linear,
            Self::Mlp(mlp) => Architecture::Mlp { hidden: mlp.hidden.clone(), dropout: mlp.dropout },
            Self::TabM(TabMRecipe { members, bins, hidden, dropout, .. }) => {
                Architecture::TabM { members: *members, bins: *bins, hidden: hidden.clone(), dropout: *dropout }
            }
            Self::Cnn(CnnRecipe { image, filters, hidden, dropout, .. }) => {
                Architecture::Cnn { image: *image, filters: filters.clone(), hidden: hidden.clone(), dropout: *dropout }
            }
        }
    }

    /// Quantile bins of the encoding of a number; 0 for none.
    pub const fn bins(&self) -> usize {
        match self {
            Self::Linear(_) | Self::Mlp(_) | Self::Cnn(_) => 0,
            Self::TabM(tabm) => tabm.bins,
        }
    }

    /// The optimizer.
    pub const fn optimizer(&self) -> &Optimizer {
        match self {
            Self::Linear(linear) => &linear.optimizer,
            Self::Mlp(mlp) => &mlp.optimizer,
            Self::TabM(tabm) => &tabm.optimizer,
            Self::Cnn(cnn) => &cnn.optimizer,
        }
    }

    /// The optimizer, to be changed.
    pub const fn optimizer_mut(&mut self) -> &mut Optimizer {
        match self {
            Self::Linear(linear) => &mut linear.optimizer,
            Self::Mlp(mlp) => &mut mlp.optimizer,
            Self::TabM(tabm) => &mut tabm.optimizer,
            Self::Cnn(cnn) => &mut cnn.optimizer,
        }
    }
}

impl LinearRecipe {
    fn validate(&self) -> Result<(), Violations> {
        self.optimizer.validate().map_err(|violations| violations.within("optimizer"))
    }
}

impl MlpRecipe {
    fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        check_layers(&mut checks, &self.hidden, self.dropout);
        checks.nested("optimizer", self.optimizer.validate());
        checks.finish()
    }
}

impl TabMRecipe {
    fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        checks.require((1..=MAX_MEMBERS).contains(&self.members), "members", self.members, "1 to 64");
        checks.require(self.bins <= 256, "bins", self.bins, "at most 256");
        check_layers(&mut checks, &self.hidden, self.dropout);
        checks.nested("optimizer", self.optimizer.validate());
        checks.finish()
    }
}

fn check_layers(checks: &mut Checks, hidden: &[usize], dropout: f64) {
    let sized = (1..=8).contains(&hidden.len()) && hidden.iter().all(|width| (1..=4096).contains(width));
    checks.require(sized, "hidden", format!("{hidden:?}"), "1 to 8 layers of 1 to 4096 units");
    checks.require((0.0..1.0).contains(&dropout), "dropout", dropout, "at least 0 and below 1");
}

impl Optimizer {
    fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        checks.require((1..=1000).contains(&self.max_epochs), "max_epochs", self.max_epochs, "1 to 1000");
        checks.require(self.patience >= 1, "patience", self.patience, "at least 1");
        checks.require((1..=65_536).contains(&self.batch_size), "batch_size", self.batch_size, "1 to 65536");
        let averaging = self.averaging;
        checks.require((0.0..1.0).contains(&averaging), "averaging", averaging, "at least 0 and below 1");
        let (rate, decay) = (self.learning_rate, self.weight_decay);
        checks.require(rate.is_finite() && rate > 0.0, "learning_rate", rate, "a number above 0");
        checks.require(decay.is_finite() && decay >= 0.0, "weight_decay", decay, "a number of at least 0");
        checks.finish()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mlp(mlp: MlpRecipe) -> Recipe {
        Recipe { model: ModelRecipe::Mlp(mlp), ..Recipe::for_target("late") }
    }

    fn optimizer(optimizer: Optimizer) -> Recipe {
        Recipe { model: ModelRecipe::Linear(LinearRecipe { optimizer }), ..Recipe::for_target("late") }
    }

    #[test]
    fn the_defaults_are_valid_and_survive_json() {
        for recipe in [Recipe::for_target("late"), optimizer(Optimizer::default())] {
            assert_eq!(recipe.validate(), Ok(()));
            let json = serde_json::to_string(&recipe).expect("json");
            assert_eq!(serde_json::from_str::<Recipe>(&json).expect("same"), recipe);
        }
        let defaults = serde_json::from_str::<Recipe>(r#"{"target":"late"}"#).expect("defaults");
        assert_eq!(defaults, Recipe::for_target("late"));
        let kind = serde_json::from_str::<Recipe>(r#"{"target":"late","model":{"kind":"linear"}}"#).expect("a kind");
        assert_eq!(kind, optimizer(Optimizer::default()));
        assert!(serde_json::from_str::<Recipe>(r#"{"target":"late","epochs":3}"#).is_err());
    }

    #[test]
    fn each_bound_is_named() {
        let base = Recipe::for_target("late");
        let (network, steps) = (MlpRecipe::default(), Optimizer::default());
        let bad = [
            ("target", Recipe { target: String::new(), ..base.clone() }),
            ("ignore", Recipe { ignore: vec!["late".into()], ..base.clone() }),
            ("validation_share", Recipe { validation_share: 0.6, ..base.clone() }),
            ("validation_share", Recipe { validation_share: f64::NAN, ..base.clone() }),
            ("seed", Recipe { seed: 1 << 53, ..base }),
            ("mlp.hidden", mlp(MlpRecipe { hidden: vec![], ..network.clone() })),
            ("mlp.dropout", mlp(MlpRecipe { dropout: 1.0, ..network.clone() })),
            (
                "mlp.optimizer.patience",
                mlp(MlpRecipe { optimizer: Optimizer { patience: 0, ..steps.clone() }, ..network }),
            ),
            ("linear.optimizer.max_epochs", optimizer(Optimizer { max_epochs: 0, ..steps.clone() })),
            ("linear.optimizer.batch_size", optimizer(Optimizer { batch_size: 0, ..steps.clone() })),
            ("linear.optimizer.learning_rate", optimizer(Optimizer { learning_rate: f64::NAN, ..steps.clone() })),
            ("linear.optimizer.weight_decay", optimizer(Optimizer { weight_decay: -1.0, ..steps })),
        ];
        for (field, recipe) in bad {
            let violations = recipe.validate().expect_err(field);
            assert_eq!(violations.iter().map(|violation| violation.field.as_str()).collect::<Vec<_>>(), [field]);
        }
    }
}
