//! Has a table moved away from another?
//!
//! [`compare`] sets a window's [`Profile`] against a reference's and answers for every column with one of three verdicts. It
//! asks two questions, and drift takes a yes to both:
//!
//! - is it real? Tests that take both samples as random find a difference that chance would make, in all columns
//!   and all windows of a month together, with a probability of at most [`Settings::false_alarms`];
//! - does it matter? The population stability index, less what chance alone would make it, is above
//!   [`Settings::margin`], so that a large window does not alarm over a difference that no model feels.
//!
//! A no is only given where a yes was possible. [`Verdict::Stable`] takes two things, each but for a chance of [`MISS_CHANCE`]: a shift
//! of the margin's size would have been significant in so many rows, and would have shown a larger index than the one there is (an
//! equivalence test: Wellek 2010). Else the verdict is [`Verdict::Unknown`], with the smallest effect that would have been significant.
//! A column that nothing could be seen of, since most of its many values are new or most of its numbers were counted as
//! one, is unknown however many rows there are.
//!
//! Missing values, numbers that are none, values outside the reference's range and values that the reference never had are mass of
//! their own in every comparison: a feature that stops arriving has drifted, and one wild value among a thousand good ones has not.

mod bins;
mod categorical;
mod column;
mod exact;
mod histogram;
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
pub use power::noncentrality;
pub use psi::{expected_psi, psi};
pub use reason::Suspicion;
pub use rows_needed::{RowsNeeded, rows_needed};
pub use significance::MIN_EXPECTED;

use crate::{Error, error::check_share, profile::Profile};

/// The chance with which a shift of the smallest detectable size is not significant, and one of the margin's size is called stable.
pub const MISS_CHANCE: f64 = 0.2;

/// How the verdict is reached.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Settings {
    /// The least population stability index that matters, over what chance makes it. 0.02 is a shift of a normal distribution by
    /// 0.14 standard deviations, or a share that goes from 50 % to 57 %. By old custom 0.1 (0.3 standard deviations) is a moderate
    /// shift and 0.25 (0.5) a large one. Where an alarm costs a training, ask for more than where it costs a look.
    pub margin: f64,
    /// The budget: the chance of any false alarm in `looks` windows, over all columns together.
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
    /// The level of one column in one window, the budget being shared evenly (Bonferroni): it holds however columns and windows
    /// depend on each other, and all windows share one reference.
    pub fn level(&self, columns: usize) -> f64 {
        self.false_alarms / (columns.max(1) as f64 * f64::from(self.looks.max(1)))
    }

    /// Refuses a margin that is not above 0, and a budget that is no probability or is shared by no window.
    pub(crate) fn check(&self) -> Result<(), Error> {
        check_share("false_alarms", self.false_alarms)?;
        if self.looks == 0 {
            return Err(Error::Looks);
        }
        if self.margin.is_finite() && self.margin > 0.0 { Ok(()) } else { Err(Error::Margin(self.margin)) }
    }
}

/// The answer for a column, or for all.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Verdict {
    /// A shift that matters would have been seen, and was not.
    Stable,
    /// A shift that is real and matters.
    Drifted,
    /// Too few rows to tell.
    Unknown,
}

impl Verdict {
    /// Over several columns: one drifted is enough; stable needs every one, and one at least.
    pub fn over(columns: impl IntoIterator<Item = Self>) -> Self {
        let both = |all, one| match (all, one) {
            (Self::Drifted, _) | (_, Self::Drifted) => Self::Drifted,
            (Self::Unknown, _) | (_, Self::Unknown) => Self::Unknown,
            (Self::Stable, Self::Stable) => Self::Stable,
        };
        columns.into_iter().reduce(both).unwrap_or(Self::Unknown)
    }
}

/// A window against a reference.
#[derive(Debug, Clone, PartialEq)]
pub struct Report {
    /// Over all columns.
    pub verdict: Verdict,
    /// The reference's columns, in order.
    pub columns: Vec<ColumnDrift>,
    /// Columns that the reference does not have, in order. They are no drift: nothing was learnt from them.
    pub new_columns: Vec<String>,
    /// Rows of the two.
    pub rows: Sides<u64>,
    /// The level that a column's p-value had to stay under.
    pub level: f64,
}

/// Compares two tables, column by column by name.
///
/// # Errors
/// Settings out of range.
pub fn compare(reference: &Profile, current: &Profile, settings: &Settings) -> Result<Report, Error> {
    settings.check()?;
    let level = settings.level(reference.columns.len());
    let against = |column: &crate::profile::Column| match current.column(&column.name) {
        Some(profile) => compare_column(&column.name, &column.profile, profile, level, settings.margin),
        None => column::absent(&column.name, &column.profile, current.rows, level, settings.margin),
    };
    let mut columns: Vec<ColumnDrift> = reference.columns.iter().map(against).collect();
    swapped::point_out(&mut columns, reference, current, level, settings.margin);
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
