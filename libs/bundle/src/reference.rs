//! Reference data: profiles of features and predictions that drift is measured against.

use std::collections::HashSet;

use arrow::array::RecordBatch;
use bytes::Bytes;
use rekindle_domain::{ColumnKind, Task};
use rekindle_statistics::profile::{Categorical, ColumnProfile, flag_name};
use serde::{Deserialize, Serialize};

use crate::{
    Error, Input, Prediction, Signature,
    column::{self, Cells},
    manifest::PROFILE,
};

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
    /// The profiles of rows and of their predictions.
    ///
    /// # Errors
    /// An input of the signature is not among the columns.
    pub fn of(task: Task, signature: &Signature, rows: &RecordBatch, prediction: &Prediction) -> Result<Self, Error> {
        let profiled = signature.inputs.iter().filter(|input| input.kind != ColumnKind::Timestamp);
        let features = profiled.map(|input| {
            let cells = column::find(rows, &input.name, 0).and_then(Cells::of);
            let cells = cells.ok_or_else(|| Error::InputMissing(input.name.clone()))?;
            Ok(FeatureProfile { name: input.name.clone(), profile: of_cells(&cells) })
        });
        Ok(Self { features: features.collect::<Result<_, Error>>()?, prediction: of_prediction(task, prediction) })
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
        Self { features: features.collect(), prediction }
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
