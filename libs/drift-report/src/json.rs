//! A report as JSON. Fields are added, but never changed.

use rekindle_statistics::{
    convention::{Convention, Scores},
    drift::{BlockTest, ColumnDrift, Settings, Sides, Suspicion, Verdict},
    profile::ColumnKind,
    two_sample::Test,
};
use serde::Serialize;

use crate::{Attribution, DataSource, DriftReport, Error, SkipReason};

#[derive(Serialize)]
struct Document<'a> {
    verdict: Verdict,
    columns: Vec<Column<'a>>,
    rows: Sides<u64>,
    new_columns: &'a [String],
    skipped: Sides<Vec<Skipped<'a>>>,
    convention: Convention,
    settings: Settings,
    /// The significance level of each column.
    level: f64,
    cause_weighting: &'static str,
    target: Option<&'a str>,
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
    blocks: Option<BlockTest>,
}

#[derive(Serialize)]
struct Skipped<'a> {
    name: &'a str,
    reason: String,
}

impl DriftReport {
    /// The report as JSON: columns in the order of the reference, and null for what does not apply to a column.
    ///
    /// # Errors
    /// [`Error::Json`].
    pub fn to_json(&self) -> Result<String, Error> {
        let comparison = &self.comparison;
        let columns = comparison.columns.iter().zip(&self.statistics);
        Ok(serde_json::to_string_pretty(&Document {
            verdict: comparison.verdict,
            columns: columns.map(|(column, scores)| Column::of(column, scores)).collect(),
            rows: comparison.rows,
            new_columns: &comparison.new_columns,
            skipped: Sides { reference: skipped(&self.reference), current: skipped(&self.current) },
            convention: self.options.convention,
            settings: self.options.settings,
            level: comparison.level,
            cause_weighting: match self.attribution {
                Attribution::Effect => "effect",
                Attribution::Importance => "importance",
                Attribution::Prediction => "prediction",
            },
            target: self.target.as_deref(),
            notes: &self.notes,
        })?)
    }
}

impl<'a> Column<'a> {
    fn of(column: &'a ColumnDrift, scores: &Scores) -> Self {
        Self {
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
            blocks: column.blocks,
        }
    }
}

/// Quantity or category: a timestamp is a quantity, a boolean is a category of two.
fn kind(column: &ColumnDrift) -> &'static str {
    match column.kind {
        ColumnKind::Numeric | ColumnKind::Timestamp => "numeric",
        ColumnKind::Categorical | ColumnKind::Boolean => "categorical",
    }
}

/// New columns have a field of their own.
fn skipped(source: &DataSource) -> Vec<Skipped<'_>> {
    let skipped = source.skipped.iter().filter(|column| column.reason != SkipReason::NotInReference);
    skipped.map(|column| Skipped { name: &column.name, reason: column.reason.to_string() }).collect()
}
