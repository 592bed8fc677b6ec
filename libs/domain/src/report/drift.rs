//! Drift of the inputs and the prediction of a window, and what else its rows show.

use std::time::Duration;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Interval, Verdict};
use crate::PredictionId;

/// The name of the prediction among the features.
pub const PREDICTION: &str = "(prediction)";

/// How the reason of a column begins that a person has muted.
pub const MUTED: &str = "muted";

/// One column of a window compared with the reference profile. Every number is finite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnDrift {
    /// The feature, or [`PREDICTION`].
    pub name: String,
    /// The result.
    pub verdict: Verdict,
    /// Explanation; empty in reports recorded before it was kept.
    #[serde(default)]
    pub reason: String,
    /// Population stability index.
    pub psi: f64,
    /// Of the test of no change.
    pub p_value: f64,
    /// The smallest index that this window could have detected.
    pub minimum_detectable_psi: f64,
    /// Share of the total effect of the drifted columns, in [0, 1]; 0 if it did not drift. The effect is the index minus its expectation
    /// under no change, times the importance of the feature for the model if that of any drifted feature is known: then a feature without
    /// one, and the prediction, have no share.
    pub cause_share: f64,
    /// Share of missing values in the reference.
    pub missing_reference: f64,
    /// Share of missing values in the window.
    pub missing_current: f64,
    /// Of a drifted column, if it is known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub cause: Option<DriftCause>,
    /// The comparison with the differences between the blocks of the reference; `None` if the rows were compared as random samples.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub blocks: Option<BlockTest>,
    /// What the shift of the column means to the model; `None` if the bundle does not say.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub impact: Option<Impact>,
    /// Start of the first of consecutive windows in which the column was drifted, or further from the reference than all of its blocks. A
    /// window without a verdict neither continues nor ends them. `None` outside of such a run.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub since: Option<DateTime<Utc>>,
    /// How the column came to drift; `None` outside of such a run, before its first drifted window, and if the window before is not known.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub onset: Option<Onset>,
    /// Rows with values that have become more frequent: the first ones of the bin whose share rose most, at most [`MAX_EXAMPLES`]. None of a
    /// column that did not drift.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub examples: Vec<ExampleRow>,
}

/// How a change began.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Onset {
    /// The index of the window before was less than half of that of the first drifted window.
    Abrupt,
    /// It was at least half of it.
    Gradual,
}

/// Rows that a drifted column names, at most.
pub const MAX_EXAMPLES: usize = 3;

/// A row of the prediction log.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct ExampleRow {
    /// The prediction.
    pub prediction: PredictionId,
    /// The row within the request.
    pub row: u32,
}

/// What the shift of a column means to the model, by the validation rows. The changes are those of the mean over the window if this column
/// alone had shifted; of columns that depend on each other, they do not add up.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Impact {
    /// Permutation importance: the mean increase of the loss when the values of the feature are permuted; `None` if it was not computed.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub importance: Option<f64>,
    /// Change of the mean score: the probability of the positive class, the probability of the predicted one of several classes, or the
    /// predicted number.
    pub score_change: f64,
    /// Change of the mean loss: log loss in nats, or squared error in the target's units squared.
    pub loss_change: f64,
}

/// A window beside the blocks of time that the reference data consist of: rows of one block share their time, so that blocks differ by more
/// than random samples of rows.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BlockTest {
    /// The length of a block.
    #[serde(with = "humantime_serde")]
    pub length: Duration,
    /// Complete blocks of the reference.
    pub blocks: u64,
    /// The number of independent blocks that they are worth.
    pub effective_blocks: f64,
    /// The estimated correlation of neighbouring blocks, in [0, 1].
    pub autocorrelation: f64,
    /// The effect of the window: population stability index minus its expectation under no change, over bins that all blocks have in common.
    pub effect: f64,
    /// The largest effect of a block of the reference beside the other blocks.
    pub largest_effect: f64,
    /// The probability that a further block of the reference is as far away.
    pub p_value: f64,
    /// Consecutive windows up to this one that are each further from the reference than all of its blocks.
    pub windows_beyond: u32,
}

/// What has happened to a drifted column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum DriftCause {
    /// Probably a fault of the data: another unit, swapped columns, or more values that are missing, not finite or of another type. It is
    /// an alert, and never starts a training.
    DataFault,
    /// Beyond anything in the reference.
    BeyondReference,
    /// The column changes slowly within the reference: a season or a trend that the reference does not cover.
    UnseenSeason,
    /// Values that the reference does not have, more than any change of the others.
    NewCategory,
}

/// Drift of the inputs and the prediction of a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// Drifted if any column is drifted, stable only if all are stable.
    pub verdict: Verdict,
    /// The inputs, in the order of the signature.
    pub features: Vec<ColumnDrift>,
    /// The prediction.
    pub prediction: Option<ColumnDrift>,
    /// Rows that repeat an earlier one; `None` if the reference data do not say how many are usual.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub repeated: Option<RepeatedRows>,
    /// The rows of the window beside those of earlier windows; `None` if those are too few.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub volume: Option<Volume>,
    /// The correlations of the features; `None` without blocks of the reference of about the length of the window, and of too few rows.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub dependence: Option<Dependence>,
}

/// The correlations of the features in a window beside those in blocks of the reference data.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Dependence {
    /// Pairs of features that were compared.
    pub pairs: u32,
    /// Those whose correlation changed, the largest change first; at most [`MAX_CHANGED_PAIRS`].
    pub changed: Vec<PairChange>,
}

/// Pairs of features that a report names, at most.
pub const MAX_CHANGED_PAIRS: usize = 20;

/// A pair of features whose correlation changed. Every number is finite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct PairChange {
    /// Both features; of a feature that is no number, the value whose correlation changed most, e.g. `carrier = 'AA'`.
    pub features: [String; 2],
    /// Their correlation in the window, in [-1, 1]: of numbers by the ranks of their bins.
    pub correlation: f64,
    /// The mean correlation in the blocks of the reference.
    pub reference: f64,
    /// The correlation to expect of a window: a prediction interval.
    pub expected: Interval,
}

/// The rows of a window, over all versions of the model, beside those of earlier windows of the same length. Every number is finite.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Volume {
    /// Rows per hour.
    pub rows_per_hour: f64,
    /// Rows per hour to expect: a prediction interval, whose confidence follows from the false-alarm rate.
    pub expected: Interval,
    /// Earlier windows that it follows from.
    pub windows: u32,
    /// Which of the earlier windows they are.
    pub season: VolumeSeason,
}

/// The earlier windows that a volume is compared with.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum VolumeSeason {
    /// The latest ones.
    #[default]
    None,
    /// Those of the same hours of the day.
    HourOfDay,
    /// Those of the same day of the week, and of the same hours if a window is shorter than a day.
    HourOfWeek,
}

impl Volume {
    /// Whether the rows are more or fewer than expected.
    pub fn is_unusual(&self) -> bool {
        self.rows_per_hour < self.expected.lower || self.rows_per_hour > self.expected.upper
    }
}

/// Rows of a window that have the inputs and the event time of an earlier row of it.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct RepeatedRows {
    /// How many.
    pub rows: u64,
    /// Their share of the window, in [0, 1].
    pub share: f64,
    /// The share in the reference data.
    pub reference_share: f64,
}

impl RepeatedRows {
    /// The fewest repeated rows that are a fault.
    const LEAST_ROWS: u64 = 20;
    /// The least difference of the shares that is a fault.
    const LEAST_DIFFERENCE: f64 = 0.05;

    /// Whether rows were probably sent more than once.
    pub fn is_fault(&self) -> bool {
        self.rows >= Self::LEAST_ROWS && self.share - self.reference_share >= Self::LEAST_DIFFERENCE
    }
}

impl Drift {
    /// A comparison whose repeated rows, volume and dependence are not known.
    pub const fn of(verdict: Verdict, features: Vec<ColumnDrift>, prediction: Option<ColumnDrift>) -> Self {
        Self { verdict, features, prediction, repeated: None, volume: None, dependence: None }
    }

    /// Every column, the prediction last.
    pub fn columns(&self) -> impl Iterator<Item = &ColumnDrift> {
        self.features.iter().chain(&self.prediction)
    }

    /// The columns that decide about the window: those that nobody has muted.
    pub fn deciding(&self) -> impl Iterator<Item = &ColumnDrift> {
        self.columns().filter(|column| column.verdict != Verdict::Inconclusive || !column.reason.starts_with(MUTED))
    }

    /// The drifted columns, the prediction among them, largest share first.
    pub fn causes(&self) -> Vec<&ColumnDrift> {
        let mut causes: Vec<&ColumnDrift> =
            self.columns().filter(|column| column.verdict == Verdict::Drifted).collect();
        causes.sort_by(|a, b| b.cause_share.total_cmp(&a.cause_share).then_with(|| a.name.cmp(&b.name)));
        causes
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, verdict: Verdict, cause_share: f64) -> ColumnDrift {
        ColumnDrift {
            name: name.into(),
            verdict,
            reason: String::new(),
            psi: 0.0,
            p_value: 0.0,
            minimum_detectable_psi: 0.0,
            cause_share,
            missing_reference: 0.0,
            missing_current: 0.0,
            cause: None,
            blocks: None,
            impact: None,
            since: None,
            onset: None,
            examples: Vec::new(),
        }
    }

    #[test]
    fn causes_are_the_drifted_columns_by_share() {
        let features = vec![
            column("a", Verdict::Drifted, 0.1),
            column("b", Verdict::Stable, 0.5),
            column("c", Verdict::Drifted, 0.3),
        ];
        let prediction = Some(column(PREDICTION, Verdict::Drifted, 0.2));
        let drift = Drift::of(Verdict::Drifted, features, prediction);
        let names: Vec<&str> = drift.causes().iter().map(|cause| cause.name.as_str()).collect();
        assert_eq!(names, ["c", PREDICTION, "a"]);
    }

    #[test]
    fn repeated_rows_are_a_fault_if_they_are_many_and_more_than_usual() {
        let is_fault = |rows, share, reference_share| RepeatedRows { rows, share, reference_share }.is_fault();
        assert!(is_fault(100, 0.1, 0.0) && is_fault(20, 0.07, 0.01));
        assert!(!is_fault(19, 0.5, 0.0) && !is_fault(1000, 0.1, 0.08));
    }
}
