//! A comparison for programs. Fields are added, but never changed.

use anyhow::Result;
use rekindle_statistics::{
    convention::Convention,
    drift::{ColumnDrift, Settings, Sides, Suspicion, Verdict},
    profile::ColumnKind,
    two_sample::Test,
};
use serde::Serialize;

use super::comparison::{Comparison, Skipped, Weighting};

#[derive(Serialize)]
struct Told<'a> {
    verdict: Verdict,
    columns: Vec<Column<'a>>,
    rows: Sides<u64>,
    new_columns: &'a [String],
    skipped: Sides<Vec<LeftOut<'a>>>,
    convention: Convention,
    settings: Settings,
    /// The level that a column's p-value had to stay under.
    level: f64,
    cause_weighting: &'static str,
    notes: &'a [String],
}

#[derive(Serialize)]
struct Column<'a> {
    name: &'a str,
    kind: &'static str,
    verdict: Verdict,
    psi: Option<f64>,
    jensen_shannon: Option<f64>,
    wasserstein: Option<f64>,
    ks: Option<Test>,
    chi_square: Option<Test>,
    missing: Sides,
    unseen_share: Option<f64>,
    effect: f64,
    minimum_detectable_effect: Option<f64>,
    cause_share: f64,
    reason: &'a str,
    suspicion: Option<&'a Suspicion>,
    p_value: f64,
    out_of_range_share: Option<f64>,
    non_finite: Sides,
}

#[derive(Serialize)]
struct LeftOut<'a> {
    name: &'a str,
    reason: String,
}

/// The comparison as JSON, columns in the order of the reference. What does not apply is null.
pub(super) fn of(comparison: &Comparison) -> Result<String> {
    let report = &comparison.report;
    let columns = report.columns.iter().zip(&comparison.scores).map(|(column, scores)| Column {
        name: &column.name,
        kind: kind(column),
        verdict: column.verdict,
        psi: scores.psi,
        jensen_shannon: scores.jensen_shannon,
        wasserstein: scores.wasserstein,
        ks: scores.ks,
        chi_square: scores.chi_square,
        missing: column.missing,
        unseen_share: column.unseen_share,
        effect: column.effect,
        minimum_detectable_effect: column.minimum_detectable_effect,
        cause_share: column.cause_share,
        reason: &column.reason,
        suspicion: column.suspicion.as_ref(),
        p_value: column.p_value,
        out_of_range_share: column.out_of_range_share,
        non_finite: column.non_finite,
    });
    Ok(serde_json::to_string_pretty(&Told {
        verdict: report.verdict,
        columns: columns.collect(),
        rows: report.rows,
        new_columns: &report.new_columns,
        skipped: Sides {
            reference: left_out(&comparison.reference.skipped),
            current: left_out(&comparison.current.skipped),
        },
        convention: comparison.convention,
        settings: comparison.settings,
        level: report.level,
        cause_weighting: match comparison.weighting {
            Weighting::Effect => "effect",
            Weighting::Importance => "importance",
            Weighting::Prediction => "prediction",
        },
        notes: &comparison.notes,
    })?)
}

/// Values are either quantities or names: a point in time is one, true and false are two of the other.
pub(super) fn kind(column: &ColumnDrift) -> &'static str {
    match column.kind {
        ColumnKind::Numeric | ColumnKind::Timestamp => "numeric",
        ColumnKind::Categorical | ColumnKind::Boolean => "categorical",
    }
}

fn left_out(skipped: &[Skipped]) -> Vec<LeftOut<'_>> {
    skipped.iter().map(|skipped| LeftOut { name: &skipped.name, reason: skipped.reason.to_string() }).collect()
}
