//! Evaluations: a challenger and the champion compared on rows that neither was trained on.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};

use crate::{Digest, Gate, job::Requirement};

/// The result of an evaluation, with its inputs.
#[derive(Debug, Clone, PartialEq)]
pub struct Evaluation {
    /// The bundle of the champion.
    pub champion: Digest,
    /// The bundle of the challenger.
    pub challenger: Digest,
    /// Content digest of the dataset version.
    pub dataset: Digest,
    /// Rows compared.
    pub rows: u64,
    /// First event time compared.
    pub from: Option<DateTime<Utc>>,
    /// Last event time compared.
    pub until: Option<DateTime<Utc>>,
    /// The condition applied.
    pub gate: Gate,
    /// What had to be shown.
    pub requirement: Requirement,
    /// Whether the challenger passed.
    pub pass: bool,
    /// Explanation of the result.
    pub reason: String,
    /// Metrics of the champion on these rows, by name.
    pub champion_metrics: BTreeMap<String, f64>,
    /// Metrics of the challenger on these rows, by name.
    pub challenger_metrics: BTreeMap<String, f64>,
    /// Mean loss of the champion minus that of the challenger.
    pub improvement: f64,
    /// Lower confidence bound of the improvement.
    pub improvement_lower_bound: f64,
    /// The slices evaluated.
    pub slices: Vec<SliceEvaluation>,
    /// The checks of the gate, in their order.
    pub checks: Vec<CheckEvaluation>,
}

/// The result of one check.
#[derive(Debug, Clone, PartialEq)]
pub struct CheckEvaluation {
    /// The check, as in the gate.
    pub check: String,
    /// What was measured; `None` if the check does not apply, which does not pass.
    pub value: Option<f64>,
    /// Whether the challenger passed.
    pub pass: bool,
    /// What was found.
    pub explanation: String,
}

/// The result on one slice.
#[derive(Debug, Clone, PartialEq)]
pub struct SliceEvaluation {
    /// The column.
    pub column: String,
    /// Its value.
    pub value: String,
    /// Rows of the slice.
    pub rows: u64,
    /// Mean loss of the champion minus that of the challenger.
    pub improvement: f64,
    /// Upper confidence bound of the improvement; below zero, the challenger is worse on this slice.
    pub improvement_upper_bound: f64,
}
