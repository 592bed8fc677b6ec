//! Reference data: profiles of features and predictions that drift is measured against.

use std::collections::HashSet;

use arrow::array::{ArrayRef, RecordBatch};
use bytes::Bytes;
use rekindle_domain::{ColumnKind, Task};
use rekindle_statistics::{
    blocks::{Blocks, Calendar, Counter},
    correlation::Correlations,
    profile::{Categorical, ColumnProfile, flag_name},
};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Input, Prediction, Signature,
    column::{self, Cells},
    dependence,
    manifest::PROFILE,
    repeated::repeated_rows,
    validation::{Validation, ValidationRows},
};

/// The name of the prediction among the columns of [`Reference::blocks`].
pub const PREDICTION: &str = rekindle_domain::report::PREDICTION;

/// 2024-01-01T00:00:00Z, in milliseconds since 1970 UTC.
const EXAMPLE_TIME: i64 = 1_704_067_200_000;

/// Profiles of all rows that the model was trained on, validation rows included; of an imported model, of the rows that were named with it,
/// if any. Timestamps have no profile, because their
/// distribution always changes.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Reference {
    /// One per feature that is not a timestamp, in the order of the signature.
    pub features: Vec<FeatureProfile>,
    /// The profile of the prediction: the probability of the positive class, the predicted class, or the predicted number.
    pub prediction: ColumnProfile,
    /// The same rows per block of time, the prediction as [`PREDICTION`]; `None` if the rows have no time.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks: Option<Blocks>,
    /// Rows with the inputs and the time of an earlier row; `None` if the rows have no time, or if it was not counted.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeated: Option<u64>,
    /// The correlations of the features in the same rows; `None` of too few rows or features, or if they were not computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub correlations: Option<Correlations>,
    /// What the validation rows say; `None` of an imported model whose rows have no target.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub validation: Option<Validation>,
}

/// The profile of one feature.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct FeatureProfile {
    /// The input's name.
    pub name: String,
    /// The profile of its values.
    pub profile: ColumnProfile,
}

impl Reference {
    /// The profiles of rows and of their predictions. `times` are those of the rows, in milliseconds since 1970 UTC.
    ///
    /// # Errors
    /// An input of the signature is not among the columns.
    pub fn of(
        task: Task,
        signature: &Signature,
        rows: &RecordBatch,
        prediction: &Prediction,
        times: Option<&[i64]>,
    ) -> Result<Self, Error> {
        let calendar = times.and_then(calendar);
        let (mut features, mut columns) = (Vec::new(), Vec::new());
        for input in signature.inputs.iter().filter(|input| input.kind != ColumnKind::Timestamp) {
            let cells = column::find(rows, &input.name, 0).and_then(Cells::of);
            let cells = cells.ok_or_else(|| Error::InputMissing(input.name.clone()))?;
            let profile = of_cells(&cells);
            let counter = calendar.and_then(|calendar| Counter::new(&input.name, &profile, &calendar));
            columns.extend(counter.map(|counter| (counter, Values::Cells(cells))));
            features.push(FeatureProfile { name: input.name.clone(), profile });
        }
        let profile = of_prediction(task, prediction);
        let counter = calendar.and_then(|calendar| Counter::new(PREDICTION, &profile, &calendar));
        columns.extend(counter.map(|counter| (counter, Values::Prediction(task, prediction))));
        let blocks = calendar.zip(times).map(|(calendar, times)| in_blocks(calendar, times, columns)).transpose()?;
        let correlations = correlations(&features, rows, times);
        let columns: Vec<ArrayRef> =
            features.iter().filter_map(|feature| rows.column_by_name(&feature.name)).cloned().collect();
        let repeated = times.map(|times| repeated_rows(&columns, times)).transpose();
        let repeated = repeated.map_err(|error| Error::invalid(PROFILE, error))?;
        Ok(Self { features, prediction: profile, blocks, repeated, correlations, validation: None })
    }

    /// The same with what the validation rows say.
    ///
    /// # Errors
    /// As [`Validation::of`].
    pub fn validated(self, rows: &ValidationRows<'_>) -> Result<Self, Error> {
        let validation = Some(Validation::of(rows, &self.features)?);
        Ok(Self { validation, ..self })
    }

    /// The profiles of no rows: no drift from them can be measured.
    pub fn empty(task: Task, signature: &Signature) -> Self {
        let profiled = signature.inputs.iter().filter(|input| input.kind != ColumnKind::Timestamp);
        let features = profiled.map(|input| {
            let profile = match input.kind {
                ColumnKind::Boolean => ColumnProfile::of_flags([]),
                ColumnKind::Categorical => ColumnProfile::of_texts([]),
                ColumnKind::Numeric | ColumnKind::Timestamp => ColumnProfile::of_numbers([]),
            };
            FeatureProfile { name: input.name.clone(), profile }
        });
        let prediction = match task {
            Task::Multiclass => ColumnProfile::of_texts([]),
            Task::Binary | Task::Regression => ColumnProfile::of_numbers([]),
        };
        Self {
            features: features.collect(),
            prediction,
            blocks: None,
            repeated: None,
            correlations: None,
            validation: None,
        }
    }

    /// The features, the most important ones for the model first, as far as the importance is known.
    pub fn by_importance(&self) -> Vec<&FeatureProfile> {
        let importance = |feature: &FeatureProfile| {
            let validated = self.validation.as_ref().and_then(|validation| validation.feature(&feature.name));
            validated.and_then(|validated| validated.importance).unwrap_or(0.0)
        };
        let mut features: Vec<&FeatureProfile> = self.features.iter().collect();
        features.sort_by(|a, b| importance(b).total_cmp(&importance(a)));
        features
    }

    /// The share of repeated rows, in [0, 1]; `None` if it is not known.
    pub fn repeated_share(&self) -> Option<f64> {
        Some(self.repeated? as f64 / (self.prediction.rows() as f64).max(1.0))
    }

    /// The profile of a feature; `None` if it has none.
    pub fn feature(&self, name: &str) -> Option<&ColumnProfile> {
        self.features.iter().find(|feature| feature.name == name).map(|feature| &feature.profile)
    }

    /// The smallest and the largest number of a numeric feature.
    pub fn range(&self, name: &str) -> Option<(f64, f64)> {
        match self.feature(name)? {
            ColumnProfile::Numeric(numbers) => numbers.range(),
            _ => None,
        }
    }

    /// A usual value of an input: the median, or the most frequent one; of a timestamp, which has no profile, the start of 2024.
    pub fn example(&self, input: &Input) -> Option<serde_json::Value> {
        match self.feature(&input.name) {
            None => (input.kind == ColumnKind::Timestamp).then(|| EXAMPLE_TIME.into()),
            Some(ColumnProfile::Numeric(numbers)) => numbers.quantile(0.5).map(Into::into),
            Some(ColumnProfile::Categorical(values)) => most_frequent(values).map(Into::into),
            Some(ColumnProfile::Boolean(values)) => {
                most_frequent(values).map(|value| (value == flag_name(true)).into())
            }
            Some(ColumnProfile::Timestamp(_)) => None,
        }
    }

    /// Every value of a categorical feature; `None` if there are none, or too many to be counted by value.
    pub fn categories(&self, name: &str) -> Option<HashSet<String>> {
        match self.feature(name)? {
            ColumnProfile::Categorical(values) if values.is_exact() => {
                let values: HashSet<_> = values.top(usize::MAX).into_iter().map(|(value, _)| value).collect();
                Some(values).filter(|values| !values.is_empty())
            }
            _ => None,
        }
    }

    /// The stored form.
    pub fn to_bytes(&self) -> Result<Bytes, Error> {
        serde_json_canonicalizer::to_vec(self).map(Bytes::from).map_err(|error| Error::invalid(PROFILE, error))
    }

    /// Parses the stored form.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        serde_json::from_slice(bytes).map_err(|error| Error::invalid(PROFILE, error))
    }
}

fn correlations(features: &[FeatureProfile], rows: &RecordBatch, times: Option<&[i64]>) -> Option<Correlations> {
    let cells = |feature: &FeatureProfile| column::find(rows, &feature.name, 0).and_then(Cells::of);
    let cells = features.iter().filter_map(|feature| Some((feature, cells(feature)?)));
    dependence::of_reference(&cells.collect::<Vec<_>>(), rows.num_rows(), times)
}

/// Blocks over the times of rows; `None` without rows.
fn calendar(times: &[i64]) -> Option<Calendar> {
    let (first, last) = (times.iter().min()?, times.iter().max()?);
    Some(Calendar::over((*first, *last), times.len() as u64))
}

/// The values of a column, row by row.
enum Values<'a> {
    Cells(Cells<'a>),
    Prediction(Task, &'a Prediction),
}

impl Values<'_> {
    fn count(&self, row: usize, block: usize, counter: &mut Counter) {
        match self {
            Self::Cells(cells @ (Cells::Int(_) | Cells::Float(_))) => counter.add_number(block, cells.number(row)),
            Self::Cells(cells @ (Cells::Text(_) | Cells::Timestamp(_))) => counter.add_text(block, cells.text(row)),
            Self::Cells(cells @ Cells::Bool(_)) => counter.add_flag(block, cells.boolean(row)),
            Self::Prediction(Task::Multiclass, prediction) => {
                let label = prediction.labels().and_then(|labels| labels.get(row));
                counter.add_text(block, label.map(|label| &**label));
            }
            Self::Prediction(Task::Binary | Task::Regression, prediction) => {
                counter.add_number(block, prediction.scores().1.get(row).map(|&score| f64::from(score)));
            }
        }
    }
}

fn in_blocks(calendar: Calendar, times: &[i64], columns: Vec<(Counter, Values<'_>)>) -> Result<Blocks, Error> {
    let counted = columns.into_iter().map(|(mut counter, values)| {
        for (row, &time) in times.iter().enumerate() {
            if let Some(block) = calendar.block_of(time) {
                values.count(row, block, &mut counter);
            }
        }
        counter.finish()
    });
    Blocks::new(calendar, counted.collect()).map_err(|error| Error::invalid(PROFILE, error))
}

fn most_frequent(values: &Categorical) -> Option<String> {
    values.top(1).into_iter().next().map(|(value, _)| value)
}

fn of_cells(cells: &Cells<'_>) -> ColumnProfile {
    let rows = 0..cells.rows();
    match cells {
        Cells::Int(_) | Cells::Float(_) => ColumnProfile::of_numbers(rows.map(|row| cells.number(row))),
        Cells::Text(_) | Cells::Timestamp(_) => ColumnProfile::of_texts(rows.map(|row| cells.text(row))),
        Cells::Bool(_) => ColumnProfile::of_flags(rows.map(|row| cells.boolean(row))),
    }
}

fn of_prediction(task: Task, prediction: &Prediction) -> ColumnProfile {
    if task == Task::Multiclass {
        ColumnProfile::of_texts(prediction.labels().unwrap_or_default().iter().map(|label| Some(&**label)))
    } else {
        ColumnProfile::of_numbers(prediction.scores().1.iter().map(|&score| Some(f64::from(score))))
    }
}
