//! Data drift between two tables.
//!
//! [`compare`] compares the [`Profile`] of a window with that of the reference and gives every column one of three verdicts. A column has
//! [drifted](Verdict::Drifted) if the difference is
//!
//! - significant: tests that treat both samples as random raise a false alarm, in all columns and all windows of the budget together,
//!   with a probability of at most [`Settings::false_alarms`]; and
//! - relevant: the effect, which is the population stability index minus its expected value without drift, is above
//!   [`Settings::margin`], so that a large window raises no alarm over a difference that does not affect a model.
//!
//! [`Verdict::Stable`] has two conditions, each with an error probability of [`MISS_CHANCE`]: with this number of rows, a shift of the
//! size of the margin is significant, and its index is larger than the observed one (an equivalence test: Wellek 2010). Otherwise
//! the verdict is [`Verdict::Inconclusive`], with the smallest detectable effect. A column that cannot be compared, because most of its
//! many values are new or because most of its numbers share one bucket, is inconclusive for any number of rows.
//!
//! Missing values, numbers that are not finite, values outside of the range of the reference and unseen values are bins of their own in
//! every comparison: a feature that stops arriving has drifted, and one outlier in a thousand values has not.

mod bins;
mod categorical;
mod column;
mod exact;
mod histogram;
mod in_blocks;
mod numeric;
mod power;
mod psi;
mod reason;
mod rows_needed;
mod significance;
mod swapped;

use serde::{Deserialize, Serialize};

pub use bins::{Bin, BinKind};
pub use column::{ColumnDrift, Sides, compare_column};
pub use exact::rare_event;
pub use histogram::histogram;
pub use in_blocks::{BlockCause, BlockTest, Blockwise, compare_column_in_blocks};
pub(crate) use numeric::interval_limits;
pub use power::noncentrality;
pub use psi::{expected_psi, psi};
pub use reason::Suspicion;
pub use rows_needed::{RowsNeeded, rows_needed};
pub use significance::MIN_EXPECTED;
pub use swapped::point_out_swapped;

use crate::{Error, blocks::Variations, error::check_share, profile::Profile};

/// Probability that a shift of the smallest detectable size is not significant, and that one of the size of the margin is called stable.
pub const MISS_CHANCE: f64 = 0.2;

/// The parameters of a comparison.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The smallest effect that matters: population stability index minus its expected value without drift. 0.02 is a shift of a normal
    /// distribution by 0.14 standard deviations, or of a share from 50 % to 57 %. By convention 0.1 (0.3 standard deviations) is a
    /// moderate shift and 0.25 (0.5) a large one. Use a larger margin where an alarm triggers a retraining than where it is reviewed.
    pub margin: f64,
    /// The budget: the probability of any false alarm in `looks` windows, over all columns together.
    pub false_alarms: f64,
    /// Windows that share the budget.
    pub looks: u32,
}

impl Default for Settings {
    /// One false alarm in twenty months of daily windows.
    fn default() -> Self {
        Self { margin: 0.02, false_alarms: 0.05, looks: 30 }
    }
}

impl Settings {
    /// The significance level of one column in one window: an equal part of the budget (Bonferroni). It is valid for any dependence
    /// between columns and between windows, which share one reference.
    pub fn level(&self, columns: usize) -> f64 {
        self.false_alarms / (columns.max(1) as f64 * f64::from(self.looks.max(1)))
    }

    /// Checks that the margin is above 0, the budget is a probability, and at least one window shares it.
    pub(crate) fn check(&self) -> Result<(), Error> {
        check_share("false_alarms", self.false_alarms)?;
        if self.looks == 0 {
            return Err(Error::Looks);
        }
        if self.margin.is_finite() && self.margin > 0.0 { Ok(()) } else { Err(Error::Margin(self.margin)) }
    }
}

/// The result for a column, or for all columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// No shift above the margin, and the rows are enough to detect one.
    Stable,
    /// A shift that is significant and above the margin.
    Drifted,
    /// Neither: most often because of too few rows.
    #[serde(alias = "unknown")]
    Inconclusive,
}

impl Verdict {
    /// The verdict over several columns: drifted if any column is, stable if all columns are and there is one.
    pub fn over(columns: impl IntoIterator<Item = Self>) -> Self {
        let both = |all, one| match (all, one) {
            (Self::Drifted, _) | (_, Self::Drifted) => Self::Drifted,
            (Self::Inconclusive, _) | (_, Self::Inconclusive) => Self::Inconclusive,
            (Self::Stable, Self::Stable) => Self::Stable,
        };
        columns.into_iter().reduce(both).unwrap_or(Self::Inconclusive)
    }
}

/// A comparison of a window with the reference.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Over all columns.
    pub verdict: Verdict,
    /// The reference's columns, in order.
    pub columns: Vec<ColumnDrift>,
    /// Columns that the reference does not have, in order. They are not drift: no model was trained on them.
    pub new_columns: Vec<String>,
    /// Rows of both sides.
    pub rows: Sides<u64>,
    /// The significance level of each column.
    pub level: f64,
}

/// Compares two tables, column by column, as random samples of rows. Columns are matched by name.
///
/// # Errors
/// Settings out of range.
pub fn compare(reference: &Profile, current: &Profile, settings: &Settings) -> Result<Report, Error> {
    compare_in_blocks(reference, current, &Variations::new(), settings)
}

/// As [`compare`], and a column has drifted only if the difference is more than the blocks of the reference show among themselves. Columns
/// without a variation are compared as random samples of rows.
///
/// # Errors
/// Settings out of range.
pub fn compare_in_blocks(
    reference: &Profile,
    current: &Profile,
    variations: &Variations,
    settings: &Settings,
) -> Result<Report, Error> {
    settings.check()?;
    let level = settings.level(reference.columns.len());
    let against = |column: &crate::profile::Column| {
        let (name, reference) = (&column.name, &column.profile);
        let compared = |window| {
            let blocks = variations.get(name).map(|variation| Blockwise { variation, beyond_before: 0 });
            compare_column_in_blocks(name, reference, window, blocks, level, settings.margin)
        };
        match current.column(name) {
            Some(profile) => compared(profile),
            None => column::absent(compared(&reference.none_of(current.rows))),
        }
    };
    let mut columns: Vec<ColumnDrift> = reference.columns.iter().map(against).collect();
    point_out_swapped(&mut columns, |name| reference.column(name), |name| current.column(name), level, settings.margin);
    crate::cause::share_out(&mut columns, |_| 1.0);
    let new = current.columns.iter().filter(|column| reference.column(&column.name).is_none());
    Ok(Report {
        verdict: Verdict::over(columns.iter().map(|column| column.verdict)),
        new_columns: new.map(|column| column.name.clone()).collect(),
        columns,
        rows: Sides { reference: reference.rows, current: current.rows },
        level,
    })
}
