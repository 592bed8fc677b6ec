//! Checks of the gate: limits that a challenger keeps whatever its loss, written as one text each.
//!
//! | check | what must hold |
//! |---|---|
//! | `expected_calibration_error<=0.05` | the mean distance of probabilities from the share of hits (Naeini, Cooper and Hauskrecht 2015) |
//! | `demographic_parity_difference:gender<=0.1` | the share of rows predicted as the positive class differs by that between groups at most |
//! | `equal_opportunity_difference:gender<=0.1` | so does the same share among rows of the positive class (Hardt, Price and Srebro 2016) |
//! | `loss_difference:region<=0.05` | so does the mean loss |
//! | `monotonic_increasing:rooms`, `monotonic_decreasing:age` | a greater value does not lower, or raise, the prediction |
//! | `invariant:origin<=0.02` | the values of other rows move the predictions by that on average at most |
//! | `must_pass:cases`, `must_pass:cases:3` | every row of a dataset, or of one version of it, has the predicted class |
//! | `must_pass:cases<=2.5` | the prediction of every row of a dataset is off by that at most |
//! | `bundle_bytes<=1000000` | the files of the model have that many bytes at most |
//! | `prediction_seconds<=0.001` | 99 of 100 predictions of one row, the shortest of three each, take that long at most, on the machine of the evaluation |
//!
//! Predictions are probabilities of the positive class, or of each of more classes, or numbers.

use std::{fmt, str::FromStr};

use serde::{Deserialize, Serialize};

use crate::{DatasetName, job::DatasetRef};

/// A check of the gate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(into = "String", try_from = "String")]
pub enum GateCheck {
    /// The expected calibration error is at most `most`.
    CalibrationError {
        /// The limit.
        most: f64,
    },
    /// A metric differs by `most` between the groups of rows with equal values of a column, at most.
    Difference {
        /// The metric.
        of: GroupMetric,
        /// The column.
        column: String,
        /// The limit.
        most: f64,
    },
    /// A greater value of a numeric feature moves the prediction in one direction only.
    Monotonic {
        /// The feature.
        column: String,
        /// The direction.
        direction: Direction,
    },
    /// The challenger is right on every row of a dataset.
    MustPass {
        /// The dataset.
        dataset: DatasetName,
        /// Its version; the latest by default.
        version: Option<u32>,
        /// The greatest absolute error of a number; none for classes.
        most: Option<f64>,
    },
    /// The files of the model have `most` bytes at most.
    BundleBytes {
        /// The limit.
        most: f64,
    },
    /// A prediction of one row takes `most` seconds at most.
    PredictionSeconds {
        /// The limit of the 99th percentile.
        most: f64,
    },
    /// Predictions change by `most` on average at most if the values of a feature are those of other rows.
    Invariant {
        /// The feature.
        column: String,
        /// The limit.
        most: f64,
    },
}

/// A metric of a group of rows.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum GroupMetric {
    /// The share of rows predicted as the positive class.
    PositiveRate,
    /// The same among rows of the positive class.
    TruePositiveRate,
    /// The mean loss.
    Loss,
}

/// The direction of a monotonic prediction.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Direction {
    /// It does not fall.
    Increasing,
    /// It does not rise.
    Decreasing,
}

impl GateCheck {
    /// The longest check, in bytes.
    pub const MOST_BYTES: usize = 500;

    /// The dataset whose rows the challenger must predict.
    pub fn dataset(&self) -> Option<DatasetRef> {
        match self {
            Self::MustPass { dataset, version, .. } => Some(DatasetRef { name: dataset.clone(), version: *version }),
            _ => None,
        }
    }

    /// The same check, of this version of its dataset.
    #[must_use]
    pub fn of_version(self, number: u32) -> Self {
        match self {
            Self::MustPass { dataset, most, .. } => Self::MustPass { dataset, version: Some(number), most },
            other => other,
        }
    }

    /// The column that it is about.
    pub fn column(&self) -> Option<&String> {
        match self {
            Self::CalibrationError { .. }
            | Self::MustPass { .. }
            | Self::BundleBytes { .. }
            | Self::PredictionSeconds { .. } => None,
            Self::Difference { column, .. } | Self::Monotonic { column, .. } | Self::Invariant { column, .. } => {
                Some(column)
            }
        }
    }
}

impl GroupMetric {
    const ALL: [Self; 3] = [Self::PositiveRate, Self::TruePositiveRate, Self::Loss];

    /// The name of its difference between groups.
    pub const fn difference(self) -> &'static str {
        match self {
            Self::PositiveRate => "demographic_parity_difference",
            Self::TruePositiveRate => "equal_opportunity_difference",
            Self::Loss => "loss_difference",
        }
    }
}

const CALIBRATION_ERROR: &str = "expected_calibration_error";
const INVARIANT: &str = "invariant";
const MUST_PASS: &str = "must_pass";
const BUNDLE_BYTES: &str = "bundle_bytes";
const PREDICTION_SECONDS: &str = "prediction_seconds";
const INCREASING: &str = "monotonic_increasing";
const DECREASING: &str = "monotonic_decreasing";

impl fmt::Display for GateCheck {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::CalibrationError { most } => write!(f, "{CALIBRATION_ERROR}<={most}"),
            Self::Difference { of, column, most } => write!(f, "{}:{column}<={most}", of.difference()),
            Self::Monotonic { column, direction: Direction::Increasing } => write!(f, "{INCREASING}:{column}"),
            Self::Monotonic { column, direction: Direction::Decreasing } => write!(f, "{DECREASING}:{column}"),
            Self::Invariant { column, most } => write!(f, "{INVARIANT}:{column}<={most}"),
            Self::MustPass { dataset, version, most } => {
                write!(f, "{MUST_PASS}:{dataset}")?;
                version.map_or(Ok(()), |version| write!(f, ":{version}"))?;
                most.map_or(Ok(()), |most| write!(f, "<={most}"))
            }
            Self::BundleBytes { most } => write!(f, "{BUNDLE_BYTES}<={most}"),
            Self::PredictionSeconds { most } => write!(f, "{PREDICTION_SECONDS}<={most}"),
        }
    }
}

impl FromStr for GateCheck {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        if text.len() > Self::MOST_BYTES {
            return Err(format!("has {} bytes: expected at most {}", text.len(), Self::MOST_BYTES));
        }
        let (subject, limit) = match text.rsplit_once("<=") {
            Some((subject, limit)) => (subject.trim(), Some(limit.trim())),
            None => (text.trim(), None),
        };
        let (kind, column) = match subject.split_once(':') {
            Some((kind, column)) if !column.is_empty() => (kind, Some(column.to_owned())),
            Some(_) => return Err(format!("is {text:?}: expected a column after the colon")),
            None => (subject, None),
        };
        let most = limit.map(|limit| limit.parse::<f64>().ok().filter(|most| most.is_finite() && *most >= 0.0));
        let most = match most {
            Some(None) => return Err(format!("is {text:?}: expected a limit of 0 or more after <=")),
            Some(Some(most)) => Some(most),
            None => None,
        };
        let difference = GroupMetric::ALL.into_iter().find(|of| of.difference() == kind);
        match (kind, difference, column, most) {
            (CALIBRATION_ERROR, None, None, Some(most)) => Ok(Self::CalibrationError { most }),
            (_, Some(of), Some(column), Some(most)) => Ok(Self::Difference { of, column, most }),
            (INCREASING, None, Some(column), None) => Ok(Self::Monotonic { column, direction: Direction::Increasing }),
            (DECREASING, None, Some(column), None) => Ok(Self::Monotonic { column, direction: Direction::Decreasing }),
            (INVARIANT, None, Some(column), Some(most)) => Ok(Self::Invariant { column, most }),
            (MUST_PASS, None, Some(dataset), most) => must_pass(&dataset, most),
            (BUNDLE_BYTES, None, None, Some(most)) => Ok(Self::BundleBytes { most }),
            (PREDICTION_SECONDS, None, None, Some(most)) => Ok(Self::PredictionSeconds { most }),
            _ => Err(format!(
                "is {text:?}: expected expected_calibration_error<=LIMIT, demographic_parity_difference:COLUMN<=LIMIT, \
                 equal_opportunity_difference:COLUMN<=LIMIT, loss_difference:COLUMN<=LIMIT, monotonic_increasing:COLUMN, \
                 monotonic_decreasing:COLUMN, invariant:COLUMN<=LIMIT, must_pass:DATASET, must_pass:DATASET:VERSION, \
                 must_pass:DATASET<=ERROR, bundle_bytes<=LIMIT or prediction_seconds<=LIMIT"
            )),
        }
    }
}

/// The check that rows of a dataset are predicted, from its name and perhaps its version.
fn must_pass(reference: &str, most: Option<f64>) -> Result<GateCheck, String> {
    let (name, version) =
        match reference.split_once(':') {
            Some((name, version)) => {
                let version = version.parse::<u32>().ok().filter(|version| *version > 0);
                (
                    name,
                    Some(version.ok_or_else(|| {
                        format!("is \"{MUST_PASS}:{reference}\": expected a number from 1 as version")
                    })?),
                )
            }
            None => (reference, None),
        };
    let dataset =
        name.parse().map_err(|error| format!("is \"{MUST_PASS}:{reference}\": expected a dataset: {error}"))?;
    Ok(GateCheck::MustPass { dataset, version, most })
}

impl From<GateCheck> for String {
    fn from(check: GateCheck) -> Self {
        check.to_string()
    }
}

impl TryFrom<String> for GateCheck {
    type Error = String;

    fn try_from(text: String) -> Result<Self, String> {
        text.parse()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checks_are_texts_that_read_back() {
        for text in [
            "expected_calibration_error<=0.05",
            "demographic_parity_difference:gender<=0.1",
            "equal_opportunity_difference:a:b<=1",
            "loss_difference:region<=0",
            "monotonic_increasing:rooms",
            "monotonic_decreasing:a<b",
            "invariant:origin<=0.02",
            "must_pass:cases",
            "must_pass:cases:3",
            "must_pass:cases:3<=2.5",
            "bundle_bytes<=1000000",
            "prediction_seconds<=0.001",
        ] {
            let check: GateCheck = text.parse().expect(text);
            assert_eq!(check.to_string(), text);
            let json = serde_json::to_string(&check).expect("json");
            assert_eq!(serde_json::from_str::<GateCheck>(&json).expect("the same"), check);
        }
        let spaced: GateCheck = "invariant:origin <= 0.02".parse().expect("spaces around the limit");
        assert_eq!(spaced, GateCheck::Invariant { column: "origin".into(), most: 0.02 });
    }

    #[test]
    fn what_is_no_check_is_refused_with_the_forms() {
        for text in [
            "",
            "fair",
            "invariant:origin",
            "invariant<=0.1",
            "invariant:<=0.1",
            "invariant:origin<=-1",
            "invariant:origin<=NaN",
            "invariant:origin<=inf",
            "monotonic_increasing:rooms<=1",
            "monotonic_increasing",
            "expected_calibration_error",
            "expected_calibration_error:x<=0.1",
            "loss_difference<=0.1",
            "must_pass",
            "must_pass:A B",
            "must_pass:cases:0",
            "must_pass:cases:x",
            "bundle_bytes",
            "prediction_seconds:x<=1",
        ] {
            let error = text.parse::<GateCheck>().expect_err(text);
            assert!(error.contains("expected"), "{error}");
        }
        assert!("x".repeat(501).parse::<GateCheck>().expect_err("too long").contains("501 bytes"));
    }
}
