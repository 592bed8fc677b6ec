//! Model quality on the labelled rows of a window.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

use super::{Interval, Verdict};

/// New classes that a report names, at most.
pub const MAX_NEW_CLASSES: usize = 20;

/// Model quality on the labelled rows of a window. Every number is finite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// [`Verdict::Drifted`] means degraded.
    pub verdict: Verdict,
    /// Rows of the window that were read: of a large window, a sample. 0 in reports recorded before it was kept.
    #[serde(default)]
    pub rows: u64,
    /// Rows with a valid label, of a new class included.
    pub labelled_rows: u64,
    /// Labels that are no number for a regression, or a fraction that is no class.
    pub invalid_outcomes: u64,
    /// Rows of each class that the training data did not have: the most frequent ones, at most [`MAX_NEW_CLASSES`]. They have the maximum
    /// loss.
    #[serde(default)]
    pub new_classes: BTreeMap<String, u64>,
    /// `log_loss`, `auc`, `accuracy`, `brier`, `calibration_error`, `precision`, `recall`, `f1`, of more than two classes `f1_macro` and
    /// `f1.<class>`; or `mae`, `rmse`, `r2`, `bias`.
    pub metrics: BTreeMap<String, f64>,
    /// Confidence intervals of the metrics that have one, at 95 %. Neighbouring rows may depend on each other.
    #[serde(default)]
    pub intervals: BTreeMap<String, Interval>,
    /// The same of the validation rows.
    pub reference_metrics: BTreeMap<String, f64>,
    /// Mean loss.
    pub loss: f64,
    /// Mean loss of the validation rows.
    pub reference_loss: f64,
    /// Lower confidence bound of the increase.
    pub rise_lower_bound: f64,
    /// Why the labelled rows are not a random sample of the window, so that the metrics may not be those of all rows; empty if nothing
    /// shows it.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub selection: String,
    /// The quality on parts of the rows: the declared slices, and those that were found.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub slices: Vec<SliceQuality>,
    /// Whether further slices were searched: not without a verdict, and not without validation rows in the bundle.
    #[serde(default)]
    pub slices_searched: bool,
    /// About the event time at which the loss rose within a degraded window; `None` if it was as high from its start, or is not degraded.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub onset: Option<DateTime<Utc>>,
    /// The association of the quality with the rows per hour over the measured windows of the version up to this one; `None` if there is
    /// none, or if they are too few to say. It follows from reports that may be measured later, so that it is not stored.
    #[serde(skip)]
    pub load: Option<LoadAssociation>,
}

/// A metric that becomes worse over the windows of a version as their rows per hour rise, also beside the course of time. Every number is
/// finite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct LoadAssociation {
    /// The metric: `accuracy`, or that of the loss.
    pub metric: String,
    /// Spearman's rank correlation of the metric with the rows per hour.
    pub correlation: f64,
    /// Of no correlation, given the order of the windows, two-sided.
    pub p_value: f64,
    /// The windows.
    pub windows: u32,
    /// The mean of the metric over the third of the windows with the fewest rows per hour, and over that with the most.
    pub means: [f64; 2],
    /// The mean rows per hour of the same windows.
    pub rows_per_hour: [f64; 2],
}

/// Model quality on a slice of the labelled rows. Every number is finite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct SliceQuality {
    /// The condition that is true of its rows, as a [`Slice`](crate::Slice).
    pub slice: String,
    /// Whether it was found rather than declared: a slice whose loss rose, and rose more than that of the other rows.
    #[serde(default)]
    pub found: bool,
    /// [`Verdict::Drifted`] means degraded.
    pub verdict: Verdict,
    /// Why the verdict is inconclusive; empty otherwise.
    #[serde(default, skip_serializing_if = "String::is_empty")]
    pub reason: String,
    /// Rows with a valid label.
    pub labelled_rows: u64,
    /// The metrics, as in [`Quality::metrics`].
    pub metrics: BTreeMap<String, f64>,
    /// Mean loss.
    pub loss: f64,
    /// Mean loss of the validation rows of the slice.
    pub reference_loss: f64,
    /// Validation rows of the slice, of a sample of the validation rows.
    pub reference_rows: u64,
    /// Lower confidence bound of the increase.
    pub rise_lower_bound: f64,
}

impl Quality {
    /// Of no labelled rows.
    pub const fn inconclusive() -> Self {
        Self {
            verdict: Verdict::Inconclusive,
            rows: 0,
            labelled_rows: 0,
            invalid_outcomes: 0,
            new_classes: BTreeMap::new(),
            metrics: BTreeMap::new(),
            intervals: BTreeMap::new(),
            reference_metrics: BTreeMap::new(),
            loss: 0.0,
            reference_loss: 0.0,
            rise_lower_bound: 0.0,
            selection: String::new(),
            slices: Vec::new(),
            slices_searched: false,
            onset: None,
            load: None,
        }
    }

    /// The slices whose quality degraded.
    pub fn degraded_slices(&self) -> impl Iterator<Item = &SliceQuality> {
        self.slices.iter().filter(|slice| slice.verdict == Verdict::Drifted)
    }
}
