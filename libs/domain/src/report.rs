//! Monitoring reports: what one model version answered in one window, compared with its reference.

mod drift;
mod estimate;
mod quality;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use self::{
    drift::{
        BlockTest, ColumnDrift, Dependence, Drift, DriftCause, ExampleRow, Impact, MAX_CHANGED_PAIRS, MAX_EXAMPLES,
        MUTED, Onset, PREDICTION, PairChange, RepeatedRows, Volume, VolumeSeason,
    },
    estimate::{Estimate, EstimateRecord, EstimatedMetric},
    quality::{LoadAssociation, MAX_NEW_CLASSES, Quality, SliceQuality},
};
use crate::{ModelName, ReportId, VersionRef, WorkflowId};

/// The result of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Verdict {
    /// No change above the margin, with the stated confidence.
    Stable,
    /// A change above the margin, with the stated confidence. Of quality: degraded.
    Drifted,
    /// A change above the margin may have gone undetected; the reason says why.
    #[serde(alias = "UNKNOWN")]
    Inconclusive,
}

impl Verdict {
    /// The name in tables and output, e.g. `DRIFTED`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Stable => "STABLE",
            Self::Drifted => "DRIFTED",
            Self::Inconclusive => "INCONCLUSIVE",
        }
    }
}

/// What a report and its alerts are about: the rows that one version answered in one window.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct WindowHeader {
    /// The report.
    pub report: ReportId,
    /// The model.
    pub model: ModelName,
    /// The version that answered.
    pub version: VersionRef,
    /// The slice of the rows; empty is all rows.
    pub slice: String,
    /// Start of the window in event time.
    pub from: DateTime<Utc>,
    /// End of the window in event time, exclusive.
    pub until: DateTime<Utc>,
    /// Rows.
    pub rows: u64,
    /// When the window closed.
    pub closed_at: DateTime<Utc>,
}

/// The report of one window.
#[derive(Debug, Clone, PartialEq)]
pub struct WindowReport {
    /// What it is about.
    pub window: WindowHeader,
    /// Drift of the inputs and the prediction.
    pub drift: Drift,
    /// The metrics, estimated from the predictions; `None` if the bundle or the rows do not allow an estimate.
    pub estimate: Option<Estimate>,
    /// Model quality; `None` until the outcomes have arrived or the wait is over.
    pub quality: Option<Quality>,
    /// When the quality was computed.
    pub quality_at: Option<DateTime<Utc>>,
    /// The correlation id of the alerts that it raised.
    pub correlation_id: Option<WorkflowId>,
    /// Why it is inconclusive, and other caveats; empty if there are none.
    pub reason: String,
    /// The revision, from 1. Outcomes that arrive, or are corrected, after the quality was measured make further ones.
    pub revision: u32,
    /// What the revision changed; empty of the first.
    pub changes: String,
}

/// A two-sided interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The lower end.
    pub lower: f64,
    /// The upper end.
    pub upper: f64,
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts_recorded_under_the_former_name_read_back() {
        assert_eq!(serde_json::from_str::<Verdict>(r#""UNKNOWN""#).expect("the former name"), Verdict::Inconclusive);
        for verdict in [Verdict::Stable, Verdict::Drifted, Verdict::Inconclusive] {
            assert_eq!(serde_json::to_value(verdict).expect("json"), verdict.name());
        }
    }
}
