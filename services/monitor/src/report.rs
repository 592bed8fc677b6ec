//! What is said about a window: drifted, not drifted, or cannot tell; and the same of its quality.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rekindle_domain::{ModelName, ReportId, VersionRef};
use rekindle_statistics::drift;
use serde::{Deserialize, Serialize};
use uuid::Uuid;

use crate::window::Window;

/// The name under which the prediction stands among the features in events.
pub const PREDICTION: &str = "(prediction)";

/// Columns that are named where not every one can be told; the others have their reasons beside them.
const NAMED: usize = 3;

/// The three things that can be said.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Verdict {
    /// As the reference.
    Stable,
    /// Moved away from the reference by more than the margin, with the stated confidence.
    Drifted,
    /// Cannot tell: too few rows, rows of a part of the window only, or rows that cannot be read. The reason says which.
    Unknown,
}

impl Verdict {
    /// The spelling in events.
    pub const fn as_str(self) -> &'static str {
        match self {
            Self::Stable => "STABLE",
            Self::Drifted => "DRIFTED",
            Self::Unknown => "UNKNOWN",
        }
    }
}

impl From<drift::Verdict> for Verdict {
    fn from(verdict: drift::Verdict) -> Self {
        match verdict {
            drift::Verdict::Stable => Self::Stable,
            drift::Verdict::Drifted => Self::Drifted,
            drift::Verdict::Unknown => Self::Unknown,
        }
    }
}

/// One column of a window against the reference profile. Every number is finite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnDrift {
    /// The feature, or [`PREDICTION`].
    pub name: String,
    /// What can be said.
    pub verdict: Verdict,
    /// Why, in words; empty in reports made before it was kept.
    #[serde(default)]
    pub reason: String,
    /// Population stability index.
    pub psi: f64,
    /// Of the test that nothing changed.
    pub p_value: f64,
    /// The smallest index that this window could have told from none.
    pub minimum_detectable_psi: f64,
    /// Share of the effects of the columns that drifted, in [0, 1], 0 if it did not; an effect is an index less what chance alone would make it.
    pub cause_share: f64,
    /// Share of missing values in the reference.
    pub missing_reference: f64,
    /// Share of missing values in the window.
    pub missing_current: f64,
}

/// The inputs and the prediction of a window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Drift {
    /// Over all columns: one drifted is enough; stable takes every one of them.
    pub verdict: Verdict,
    /// The inputs, in the order of the signature.
    pub features: Vec<ColumnDrift>,
    /// The prediction.
    pub prediction: Option<ColumnDrift>,
}

impl Drift {
    /// The drifted columns, the prediction among them, most to blame first.
    pub fn causes(&self) -> Vec<&ColumnDrift> {
        let all = self.features.iter().chain(&self.prediction);
        let mut causes: Vec<&ColumnDrift> = all.filter(|column| column.verdict == Verdict::Drifted).collect();
        causes.sort_by(|a, b| b.cause_share.total_cmp(&a.cause_share).then_with(|| a.name.cmp(&b.name)));
        causes
    }

    /// Why a window of `rows` rows cannot be told; `None` where it can.
    pub fn doubt(&self, rows: u64) -> Option<String> {
        if self.verdict != Verdict::Unknown {
            return None;
        }
        let columns = self.features.len() + usize::from(self.prediction.is_some());
        let all = self.features.iter().chain(&self.prediction);
        let doubtful: Vec<&str> =
            all.filter(|column| column.verdict == Verdict::Unknown).map(|column| column.name.as_str()).collect();
        if doubtful.len() == columns {
            return Some(
                self.common_reason().map_or_else(|| format!("{rows} rows are too few to tell"), str::to_owned),
            );
        }
        let named = doubtful.len().min(NAMED);
        let more = if doubtful.len() > named { ", ..." } else { "" };
        let names = doubtful[..named].join(", ");
        Some(format!("cannot tell of {} in {columns} columns: {names}{more}", doubtful.len()))
    }

    /// What is said of every column alike.
    fn common_reason(&self) -> Option<&str> {
        let mut reasons = self.features.iter().chain(&self.prediction).map(|column| column.reason.as_str());
        let first = reasons.next().filter(|reason| !reason.is_empty())?;
        reasons.all(|reason| reason == first).then_some(first)
    }
}

/// How good the answers of a window were. Every number is finite.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Quality {
    /// `Drifted` means worse than the reference.
    pub verdict: Verdict,
    /// Rows whose truth is known and belongs to the target.
    pub labelled_rows: u64,
    /// Outcomes that are no class of the model, or no number.
    pub invalid_outcomes: u64,
    /// log_loss, auc, accuracy, brier or mae, rmse, r2.
    pub metrics: BTreeMap<String, f64>,
    /// The same of the validation rows.
    pub reference_metrics: BTreeMap<String, f64>,
    /// Mean loss.
    pub loss: f64,
    /// Mean loss of the validation rows.
    pub reference_loss: f64,
    /// Lower confidence bound of the difference.
    pub rise_lower_bound: f64,
}

/// One version's share of one window.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Its id.
    pub id: ReportId,
    /// The model.
    pub model: ModelName,
    /// The version that answered.
    pub version: VersionRef,
    /// The window.
    pub window: Window,
    /// Rows that the version answered in the window. Each counts once, but where a sample stands for them: of those outside of it no
    /// keys are kept, and one that was logged twice counts twice. Where they cannot be read, the rows of their segments.
    pub rows: u64,
    /// The inputs and the prediction.
    pub drift: Drift,
    /// `None` until the outcomes are in.
    pub quality: Option<Quality>,
    /// The smallest and the greatest prediction id among the rows.
    pub ids: (u128, u128),
    /// When the window was closed, by this service's clock.
    pub closed_at: DateTime<Utc>,
    /// When the quality was entered.
    pub quality_at: Option<DateTime<Utc>>,
    /// What its alerts are correlated by; `None` where there were none.
    pub correlation_id: Option<Uuid>,
    /// Anything a reader must know to trust it; empty where there is nothing.
    pub reason: String,
}

/// A number that JSON and a database can hold: infinities become the greatest double, not-a-number becomes `instead`.
pub(crate) fn finite(number: f64, instead: f64) -> f64 {
    if number.is_nan() { instead } else { number.clamp(f64::MIN, f64::MAX) }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn column(name: &str, verdict: Verdict, cause_share: f64) -> ColumnDrift {
        let zero = 0.0;
        ColumnDrift {
            name: name.into(),
            verdict,
            reason: String::new(),
            psi: zero,
            p_value: zero,
            minimum_detectable_psi: zero,
            cause_share,
            missing_reference: zero,
            missing_current: zero,
        }
    }

    #[test]
    fn a_doubt_says_how_many_columns_it_is_about() {
        let drift = |verdicts: &[Verdict]| Drift {
            verdict: Verdict::Unknown,
            features: verdicts.iter().zip(["a", "b", "c", "d", "e"]).map(|(v, name)| column(name, *v, 0.0)).collect(),
            prediction: None,
        };
        use Verdict::{Stable, Unknown};
        assert_eq!(drift(&[]).doubt(7).as_deref(), Some("7 rows are too few to tell"));
        assert_eq!(drift(&[Unknown, Unknown]).doubt(7).as_deref(), Some("7 rows are too few to tell"));
        assert_eq!(drift(&[Unknown, Stable]).doubt(7).as_deref(), Some("cannot tell of 1 in 2 columns: a"));
        let four = drift(&[Unknown, Unknown, Stable, Unknown, Unknown]);
        assert_eq!(four.doubt(7).as_deref(), Some("cannot tell of 4 in 5 columns: a, b, d, ..."));
        assert_eq!(Drift { verdict: Stable, ..four }.doubt(7), None);
    }

    #[test]
    fn what_is_said_of_every_column_is_said_of_the_window() {
        let said = |reason: &str| ColumnDrift { reason: reason.into(), ..column("a", Verdict::Unknown, 0.0) };
        let of = |features| Drift { verdict: Verdict::Unknown, features, prediction: None };
        assert_eq!(of(vec![said("x"), said("x")]).doubt(7).as_deref(), Some("x"));
        assert_eq!(of(vec![said("x"), said("y")]).doubt(7).as_deref(), Some("7 rows are too few to tell"));
    }

    #[test]
    fn causes_are_the_drifted_ones_most_to_blame_first() {
        let drift = Drift {
            verdict: Verdict::Drifted,
            features: vec![
                column("a", Verdict::Drifted, 0.1),
                column("b", Verdict::Stable, 0.5),
                column("c", Verdict::Drifted, 0.3),
            ],
            prediction: Some(column(PREDICTION, Verdict::Drifted, 0.2)),
        };
        let names: Vec<&str> = drift.causes().iter().map(|cause| cause.name.as_str()).collect();
        assert_eq!(names, ["c", PREDICTION, "a"]);
    }

    #[test]
    fn numbers_are_made_fit_for_json() {
        assert_eq!(finite(f64::INFINITY, 0.0), f64::MAX);
        assert_eq!(finite(f64::NAN, 1.0), 1.0);
        assert_eq!(finite(0.25, 1.0), 0.25);
    }
}
