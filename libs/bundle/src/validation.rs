//! What the validation rows say about the performance on future rows.

use arrow::array::RecordBatch;
use rekindle_domain::Task;
use rekindle_statistics::{
    blocks::FixedBins,
    effect::ColumnEffect,
    performance::{Expected, MetricKind, Prior, RowValues},
    quality,
};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Prediction,
    column::{self, Cells},
    importance::Importance,
    manifest::PROFILE,
    reference::FeatureProfile,
    score::losses,
    target::Targets,
};

/// Metrics by the score of the prediction, and what each feature means to the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Validation {
    /// The metrics to expect of rows by their predictions; `None` of too few rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub expected: Option<Expected>,
    /// In the order of the feature profiles.
    pub features: Vec<FeatureEffect>,
}

/// What one feature means to the model.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureEffect {
    /// The input's name.
    pub name: String,
    /// The mean increase of the loss when the values of the feature are permuted; `None` if it was not computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub importance: Option<f64>,
    /// The score and the loss by the values of the feature; `None` of too many values.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub effect: Option<ColumnEffect>,
}

/// Rows that the model was not trained on, in order of time, and their predictions.
#[derive(Debug, Clone, Copy)]
pub struct ValidationRows<'a> {
    /// The type of prediction.
    pub task: Task,
    /// The features.
    pub rows: &'a RecordBatch,
    /// One prediction per row.
    pub prediction: &'a Prediction,
    /// One target per row.
    pub targets: &'a Targets,
    /// The importance of each feature, as far as it was computed.
    pub importances: &'a [Importance],
}

impl Validation {
    /// Summarises validation rows. `features` are the profiles that windows are compared with.
    ///
    /// # Errors
    /// Not one prediction per target; a feature that is not among the columns; a loss that is not finite.
    pub fn of(validated: &ValidationRows<'_>, features: &[FeatureProfile]) -> Result<Self, Error> {
        let ValidationRows { task, rows, prediction, targets, importances } = *validated;
        let (scores, losses) = (scores(task, prediction), losses(task, prediction, targets)?);
        let metrics = row_values(task, prediction, targets, &losses);
        let expected = Expected::of(&scores, &metrics).map_err(|error| Error::invalid(PROFILE, error))?;
        let effect = |feature: &FeatureProfile| {
            let cells = column::find(rows, &feature.name, 0).and_then(Cells::of);
            let cells = cells.ok_or_else(|| Error::InputMissing(feature.name.clone()))?;
            let bin = |bins: &FixedBins, row: usize| cells.bin(bins, row);
            let importance = importances.iter().find(|importance| importance.feature == feature.name);
            Ok(FeatureEffect {
                name: feature.name.clone(),
                importance: importance.map(|importance| importance.mean),
                effect: ColumnEffect::of(&feature.profile, &scores, &losses, bin),
            })
        };
        Ok(Self { expected, features: features.iter().map(effect).collect::<Result<_, Error>>()? })
    }

    /// What a feature means to the model.
    pub fn feature(&self, name: &str) -> Option<&FeatureEffect> {
        self.features.iter().find(|feature| feature.name == name)
    }
}

/// The score of each prediction, by which rows are counted: the probability of the positive class, the probability of the predicted one of
/// several classes, or the predicted number.
pub fn scores(task: Task, prediction: &Prediction) -> Vec<f64> {
    let (width, scores) = prediction.scores();
    match task {
        Task::Binary | Task::Regression => scores.iter().copied().map(f64::from).collect(),
        Task::Multiclass => scores.chunks_exact(width.max(1)).map(greatest).collect(),
    }
}

/// The probability of the predicted one of several classes.
pub fn greatest(probabilities: &[f32]) -> f64 {
    f64::from(probabilities.iter().copied().fold(0.0, f32::max))
}

/// The metrics that can be estimated, row by row.
fn row_values(task: Task, prediction: &Prediction, targets: &Targets, losses: &[f64]) -> Vec<RowValues> {
    use MetricKind::{Auc, Mean, RootMean};
    let of = |name, kind, prior, values: Vec<f64>| RowValues { name, kind, prior, values };
    let (width, scores) = prediction.scores();
    match targets {
        Targets::Numbers(numbers) => {
            let errors = scores.iter().zip(numbers).map(|(&score, number)| (f64::from(score) - number).abs());
            vec![of("mae", Mean, Prior::Zero, errors.collect()), of("rmse", RootMean, Prior::Zero, losses.to_vec())]
        }
        Targets::Classes(classes) if task == Task::Binary => {
            let rows = || scores.iter().zip(classes).map(|(&score, class)| (f64::from(score), *class == Some(1)));
            let right = rows().map(|(score, label)| f64::from((score >= 0.5) == label));
            vec![
                of("log_loss", Mean, Prior::Entropy, losses.to_vec()),
                of("accuracy", Mean, Prior::Confidence, right.collect()),
                of(
                    "brier",
                    Mean,
                    Prior::Variance,
                    rows().map(|(score, label)| (score - f64::from(label)).powi(2)).collect(),
                ),
                of("auc", Auc, Prior::Score, rows().map(|(_, label)| f64::from(label)).collect()),
            ]
        }
        Targets::Classes(classes) => {
            let scores: Vec<f64> = scores.iter().copied().map(f64::from).collect();
            let predicted = scores.chunks_exact(width.max(1)).map(quality::most_probable);
            let right = predicted.zip(classes).map(|(predicted, class)| f64::from(Some(predicted) == *class));
            vec![
                of("log_loss", Mean, Prior::Entropy, losses.to_vec()),
                of("accuracy", Mean, Prior::Score, right.collect()),
            ]
        }
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::array::{ArrayRef, Float64Array, StringArray};
    use rekindle_statistics::profile::ColumnProfile;

    use super::*;
    use crate::prediction::Values;

    const ROWS: usize = 200;

    /// A number that the prediction follows, and a text that it does not.
    fn batch() -> (RecordBatch, Vec<FeatureProfile>) {
        let numbers: Vec<f64> = (0..ROWS).map(|row| (row * 7919 % ROWS) as f64 / ROWS as f64).collect();
        let texts: Vec<&str> = (0..ROWS).map(|row| ["a", "b"][row % 2]).collect();
        let profile = |name: &str, profile| FeatureProfile { name: name.to_owned(), profile };
        let profiles = vec![
            profile("x", ColumnProfile::of_numbers(numbers.iter().copied().map(Some))),
            profile("kind", ColumnProfile::of_texts(texts.iter().copied().map(Some))),
        ];
        let columns: [(&str, ArrayRef); 2] =
            [("x", Arc::new(Float64Array::from(numbers))), ("kind", Arc::new(StringArray::from(texts)))];
        (RecordBatch::try_from_iter(columns).expect("columns of one length"), profiles)
    }

    fn of(task: Task, width: usize, values: Vec<f32>, targets: &Targets) -> Validation {
        let (rows, profiles) = batch();
        let prediction = Prediction { rows: ROWS, outputs: vec![Values::Fp32 { width, values }] };
        let importances = [Importance { feature: "x".to_owned(), mean: 0.4, std: 0.1 }];
        let (rows, prediction, importances) = (&rows, &prediction, importances.as_slice());
        let validated = ValidationRows { task, rows, prediction, targets, importances };
        Validation::of(&validated, &profiles).expect("columns of the features")
    }

    fn metrics(validation: &Validation, scores: impl IntoIterator<Item = f64>) -> Vec<(String, f64)> {
        let expected = validation.expected.as_ref().expect("enough rows");
        let estimates = expected.estimate(&expected.count(scores));
        estimates.into_iter().map(|(name, metric)| (name, (metric.value * 1e6).round() / 1e6)).collect()
    }

    #[test]
    fn each_task_has_the_metrics_that_are_measured_later() {
        let (rows, _) = batch();
        let x = Cells::of(rows.column(0).as_ref()).expect("numbers");
        let x: Vec<f64> = (0..ROWS).map(|row| x.number(row).expect("present")).collect();
        let singles = |value: &dyn Fn(f64) -> f64| x.iter().map(|&x| value(x) as f32).collect::<Vec<f32>>();

        let labels = Targets::Classes(x.iter().map(|&x| Some(usize::from(x >= 0.5))).collect());
        let binary = of(Task::Binary, 1, singles(&|x| if x < 0.5 { 0.25 } else { 0.75 }), &labels);
        let loss = ((-0.75_f64.ln()) * 1e6).round() / 1e6;
        let expected = [("accuracy", 1.0), ("auc", 1.0), ("brier", 0.0625), ("log_loss", loss)];
        let expected = expected.map(|(name, value)| (name.to_owned(), value));
        assert_eq!(metrics(&binary, [0.25, 0.75]), expected);

        let three: Vec<f32> =
            x.iter().flat_map(|&x| if x < 0.5 { [0.6, 0.3, 0.1] } else { [0.05, 0.9, 0.05] }).collect();
        let labels = Targets::Classes(x.iter().map(|&x| Some(usize::from(x >= 0.25))).collect());
        let multiclass = of(Task::Multiclass, 3, three, &labels);
        let found = metrics(&multiclass, [f64::from(0.6_f32)]);
        assert_eq!((found[0].0.as_str(), found[0].1, found[1].0.as_str()), ("accuracy", 0.5, "log_loss"));
        assert_eq!(metrics(&multiclass, [f64::from(0.9_f32)])[0].1, 1.0);

        let regression = of(Task::Regression, 1, singles(&|_| 1.0), &Targets::Numbers(vec![3.0; ROWS]));
        assert_eq!(metrics(&regression, [1.0]), [("mae".to_owned(), 2.0), ("rmse".to_owned(), 2.0)]);
    }

    #[test]
    fn features_have_their_importance_and_what_they_do_to_the_score() {
        let (rows, profiles) = batch();
        let x = Cells::of(rows.column(0).as_ref()).expect("numbers");
        let predictions: Vec<f32> = (0..ROWS).map(|row| x.number(row).expect("present") as f32).collect();
        let validation = of(Task::Regression, 1, predictions, &Targets::Numbers(vec![0.0; ROWS]));
        let (x, kind) = (validation.feature("x").expect("x"), validation.feature("kind").expect("kind"));
        assert_eq!((x.importance, kind.importance), (Some(0.4), None));
        let upper = ColumnProfile::of_numbers((0..100).map(|n| Some(0.5 + f64::from(n) / 200.0)));
        let moved = x.effect.as_ref().and_then(|effect| effect.moved(&profiles[0].profile, &upper)).expect("numbers");
        assert!((moved.score - 0.25).abs() < 0.05, "{moved:?}");
        let of_one = ColumnProfile::of_texts([Some("a")]);
        let moved = kind.effect.as_ref().and_then(|effect| effect.moved(&profiles[1].profile, &of_one)).expect("texts");
        assert!(moved.score.abs() < 0.05, "{moved:?}");
        let json = serde_json::to_value(&validation).expect("json");
        assert_eq!(serde_json::from_value::<Validation>(json).expect("it reads"), validation);
    }
}
