use crate::profile::ColumnKind;

/// Why a statistic has no value for the input given.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// Two slices that run in parallel differ in length.
    #[error("{what}: {left} values against {right}; both must have one per row")]
    Lengths {
        /// The statistic asked for.
        what: &'static str,
        /// Length of the first slice.
        left: usize,
        /// Length of the second slice.
        right: usize,
    },
    /// Fewer rows than the statistic needs.
    #[error("{what} needs at least {need} rows, got {got}")]
    TooFewRows {
        /// The statistic asked for.
        what: &'static str,
        /// The fewest rows that give an answer.
        need: usize,
        /// The rows given.
        got: usize,
    },
    /// More rows than the statistic can take.
    #[error("{what} takes at most {most} rows, got {got}")]
    TooManyRows {
        /// The statistic asked for.
        what: &'static str,
        /// The most rows that give an answer.
        most: u64,
        /// The rows given, or counted until they were too many.
        got: u64,
    },
    /// Samples whose exact p-value would take too long to count.
    #[error("{what}: counting the orders of {left} and {right} rows takes too long")]
    TooCostly {
        /// The statistic asked for.
        what: &'static str,
        /// The rows of the first sample.
        left: u64,
        /// The rows of the second sample.
        right: u64,
    },
    /// A table that does not end with a whole row.
    #[error("{what}: {values} values are not whole rows of {columns} columns")]
    Ragged {
        /// The statistic asked for.
        what: &'static str,
        /// The values given.
        values: usize,
        /// The columns that each row should have.
        columns: usize,
    },
    /// Fewer bins than the statistic needs.
    #[error("{what} needs at least {need} bins, got {got}")]
    TooFewBins {
        /// The statistic asked for.
        what: &'static str,
        /// The fewest bins that give an answer.
        need: usize,
        /// The bins given.
        got: usize,
    },
    /// More rows that have something than rows.
    #[error("{what}: {hits} of {rows} rows; a part cannot exceed the whole")]
    Part {
        /// The statistic asked for.
        what: &'static str,
        /// The rows that have it.
        hits: u64,
        /// All rows.
        rows: u64,
    },
    /// Counts whose sum is not that of the counts expected.
    #[error("{what}: {observed} rows against {expected} expected; both must be of the same sum")]
    Totals {
        /// The statistic asked for.
        what: &'static str,
        /// Sum of the counts.
        observed: f64,
        /// Sum of the counts expected.
        expected: f64,
    },
    /// A range of values that cannot be cut into bins of equal width.
    #[error("the range from {low} to {high} cannot be cut into {bins} bins of equal width")]
    Range {
        /// The smallest value.
        low: f64,
        /// The largest value.
        high: f64,
        /// The bins asked for.
        bins: usize,
    },
    /// A value that the statistic does not take.
    #[error("{what}: row {row} is {value}; expected {expected}")]
    Value {
        /// The statistic asked for.
        what: &'static str,
        /// The row, counted from 0.
        row: usize,
        /// The value found.
        value: f64,
        /// What would have been taken.
        expected: &'static str,
    },
    /// A confidence, level or share outside the open interval (0, 1).
    #[error("{what} is {value}; expected a number above 0 and below 1")]
    NotAShare {
        /// The parameter.
        what: &'static str,
        /// The value given.
        value: f64,
    },
    /// Two profiles of one column that are of different kinds.
    #[error("one profile is of a {profile} column, the other of a {values} one")]
    Kind {
        /// The kind of the first.
        profile: ColumnKind,
        /// The kind of the second.
        values: ColumnKind,
    },
    /// A statistic of numbers asked of a column of names.
    #[error("{what} is of numbers, the column is of names")]
    NotNumeric {
        /// The statistic asked for.
        what: &'static str,
    },
    /// A setting outside the range in which the statistic is defined.
    #[error("{what} is {value}; expected {expected}")]
    Parameter {
        /// The setting.
        what: &'static str,
        /// The value given.
        value: f64,
        /// What would have been taken.
        expected: &'static str,
    },
    /// A detector read back whose state no values lead to.
    #[error("{what}: the state read back is none that values lead to")]
    State {
        /// The detector.
        what: &'static str,
    },
    /// A margin that no effect can be held against.
    #[error("margin is {0}; expected a finite number above 0")]
    Margin(f64),
    /// A budget for no windows.
    #[error("looks is 0: at least one window has to share the budget")]
    Looks,
    /// A stored profile that cannot be read, or two that do not go together.
    #[error("not a usable profile: {0}")]
    Profile(String),
    /// A stored profile of another format.
    #[error("the profile is of format {found}; this program reads format {expected}: make it anew")]
    ProfileFormat {
        /// Its format.
        found: u32,
        /// The one that is read.
        expected: u32,
    },
}

/// Refuses slices of different lengths, and empty ones.
pub(crate) fn check_parallel(what: &'static str, left: usize, right: usize) -> Result<(), Error> {
    if left != right {
        return Err(Error::Lengths { what, left, right });
    }
    check_rows(what, 1, left)
}

/// Refuses fewer than `need` rows.
pub(crate) fn check_rows(what: &'static str, need: usize, got: usize) -> Result<(), Error> {
    if got < need { Err(Error::TooFewRows { what, need, got }) } else { Ok(()) }
}

/// Refuses more than `most` rows.
pub(crate) fn check_size(what: &'static str, most: u64, got: u64) -> Result<(), Error> {
    if got > most { Err(Error::TooManyRows { what, most, got }) } else { Ok(()) }
}

/// Refuses NaN and the infinities.
pub(crate) fn check_finite(what: &'static str, values: &[f64]) -> Result<(), Error> {
    match values.iter().position(|v| !v.is_finite()) {
        Some(row) => Err(Error::Value { what, row, value: values[row], expected: "a finite number" }),
        None => Ok(()),
    }
}

/// Refuses what is not strictly between 0 and 1.
pub(crate) fn check_share(what: &'static str, value: f64) -> Result<(), Error> {
    if value > 0.0 && value < 1.0 { Ok(()) } else { Err(Error::NotAShare { what, value }) }
}

/// Refuses a setting outside its range. NaN fits no range.
pub(crate) fn check_option(what: &'static str, value: f64, fits: bool, expected: &'static str) -> Result<(), Error> {
    if fits { Ok(()) } else { Err(Error::Parameter { what, value, expected }) }
}
