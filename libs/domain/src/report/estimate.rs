//! Metrics of a window that are estimated before any outcome is known.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Interval, Quality};

/// Metrics of a window, estimated from its predictions alone, before any outcome is known. They are valid as long as outcomes of rows with
/// the same score are distributed as in the validation rows.
#[derive(Debug, Clone, PartialEq, Default, Serialize, Deserialize)]
pub struct Estimate {
    /// `log_loss`, `accuracy`, of two classes `auc` and `brier`; or `mae`, `rmse`.
    pub metrics: BTreeMap<String, EstimatedMetric>,
    /// Why the estimate is withdrawn; empty if it stands.
    #[serde(default)]
    pub withdrawn: String,
    /// How earlier estimates of the version compare with the metrics that were measured later.
    #[serde(skip)]
    pub record: EstimateRecord,
}

/// An estimated metric.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct EstimatedMetric {
    /// The estimate.
    pub value: f64,
    /// Its prediction interval, at 95 %.
    pub interval: Interval,
}

/// Earlier estimates beside the metrics that were measured later.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub struct EstimateRecord {
    /// The last measured windows of the version, at most 8.
    pub measured: u32,
    /// Those of them whose loss was outside of its interval.
    pub missed: u32,
}

impl Estimate {
    /// The metric that the record is about: that of the loss.
    pub fn loss(&self) -> Option<(&str, &EstimatedMetric)> {
        ["log_loss", "rmse"].iter().find_map(|name| Some((*name, self.metrics.get(*name)?)))
    }

    /// Whether the measured loss was outside of the interval; `None` if it cannot show it: the estimate of the window is withdrawn, fewer
    /// than half of the rows are labelled, or the labelled rows are not a random sample of the window.
    pub fn is_missed(&self, quality: &Quality) -> Option<bool> {
        let (name, EstimatedMetric { interval, .. }) = self.loss()?;
        let measured = *quality.metrics.get(name)?;
        let is_labelled = quality.rows > 0 && quality.labelled_rows.saturating_mul(2) >= quality.rows;
        let is_outside = measured < interval.lower || measured > interval.upper;
        (self.withdrawn.is_empty() && quality.selection.is_empty() && is_labelled).then_some(is_outside)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_estimate_is_missed_if_the_loss_of_enough_labelled_rows_is_outside() {
        let interval = Interval { lower: 0.4, upper: 0.6 };
        let metrics = [("log_loss".to_owned(), EstimatedMetric { value: 0.5, interval })];
        let estimate = Estimate { metrics: metrics.into(), ..Estimate::default() };
        let quality = |log_loss: f64, labelled_rows| Quality {
            rows: 100,
            labelled_rows,
            metrics: [("log_loss".to_owned(), log_loss)].into(),
            ..Quality::inconclusive()
        };
        let missed = |log_loss, labelled| estimate.is_missed(&quality(log_loss, labelled));
        assert_eq!([missed(0.39, 100), missed(0.5, 50), missed(0.61, 50)], [Some(true), Some(false), Some(true)]);
        assert_eq!(missed(0.39, 49), None);
        let selected = Quality { selection: "their scores differ".to_owned(), ..quality(0.39, 100) };
        assert_eq!(estimate.is_missed(&selected), None);
        let withdrawn = Estimate { withdrawn: "a data fault".to_owned(), ..estimate.clone() };
        assert_eq!(withdrawn.is_missed(&quality(0.39, 100)), None);
        assert_eq!(Estimate::default().is_missed(&quality(0.39, 100)), None);
    }
}
