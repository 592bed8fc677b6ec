use crate::profile::ColumnKind;

/// Why a statistic is undefined for its input.
#[derive(Debug, Clone, PartialEq, thiserror::Error)]
pub enum Error {
    /// Parallel slices of different lengths.
    #[error("{what}: {left} values and {right} values; expected one of each per row")]
    Lengths {
        /// The statistic.
        what: &'static str,
        /// Length of the first slice.
        left: usize,
        /// Length of the second slice.
        right: usize,
    },
    /// Fewer rows than the statistic needs.
    #[error("{what} needs at least {need} rows, got {got}")]
    TooFewRows {
        /// The statistic.
        what: &'static str,
        /// The smallest number of rows.
        need: usize,
        /// The rows given.
        got: usize,
    },
    /// More rows than the statistic supports.
    #[error("{what} takes at most {most} rows, got {got}")]
    TooManyRows {
        /// The statistic.
        what: &'static str,
        /// The largest number of rows.
        most: u64,
        /// The rows given, or counted before the limit was exceeded.
        got: u64,
    },
    /// Samples whose exact p-value takes too long to compute.
    #[error("{what}: the exact p-value for {left} and {right} rows takes too long; use the asymptotic one")]
    TooCostly {
        /// The statistic.
        what: &'static str,
        /// The rows of the first sample.
        left: u64,
        /// The rows of the second sample.
        right: u64,
    },
    /// A table with an incomplete last row.
    #[error("{what}: {values} values are not a multiple of {columns} columns")]
    Ragged {
        /// The statistic.
        what: &'static str,
        /// The values given.
        values: usize,
        /// The columns of each row.
        columns: usize,
    },
    /// Fewer bins than the statistic needs.
    #[error("{what} needs at least {need} bins, got {got}")]
    TooFewBins {
        /// The statistic.
        what: &'static str,
        /// The smallest number of bins.
        need: usize,
        /// The bins given.
        got: usize,
    },
    /// More hits than rows.
    #[error("{what}: {hits} hits in {rows} rows; expected at most one per row")]
    Part {
        /// The statistic.
        what: &'static str,
        /// The hits.
        hits: u64,
        /// All rows.
        rows: u64,
    },
    /// Counts per block that are not valid.
    #[error("the counts per block are not valid: {0}")]
    Blocks(String),
    /// Observed and expected counts with different sums.
    #[error("{what}: the observed counts sum to {observed}, the expected ones to {expected}; expected equal sums")]
    Totals {
        /// The statistic.
        what: &'static str,
        /// Sum of the observed counts.
        observed: f64,
        /// Sum of the expected counts.
        expected: f64,
    },
    /// A range of values that cannot be divided into bins of equal width.
    #[error("the range from {low} to {high} cannot be divided into {bins} bins of equal width")]
    Range {
        /// The smallest value.
        low: f64,
        /// The largest value.
        high: f64,
        /// The bins requested.
        bins: usize,
    },
    /// A value outside the domain of the statistic.
    #[error("{what}: row {row} is {value}; expected {expected}")]
    Value {
        /// The statistic.
        what: &'static str,
        /// The row, counted from 0.
        row: usize,
        /// The value found.
        value: f64,
        /// The domain.
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
    /// Two profiles of one column with different kinds.
    #[error("one profile is of a {profile} column, the other of a {values} column")]
    Kind {
        /// The kind of the first.
        profile: ColumnKind,
        /// The kind of the second.
        values: ColumnKind,
    },
    /// A numeric statistic of a categorical column.
    #[error("{what} needs a numeric column; this one is categorical")]
    NotNumeric {
        /// The statistic.
        what: &'static str,
    },
    /// A setting outside the range in which the statistic is defined.
    #[error("{what} is {value}; expected {expected}")]
    Parameter {
        /// The setting.
        what: &'static str,
        /// The value given.
        value: f64,
        /// The domain.
        expected: &'static str,
    },
    /// A deserialised detector with an impossible state.
    #[error("{what}: the stored state is invalid")]
    State {
        /// The detector.
        what: &'static str,
    },
    /// A margin that is not a positive number.
    #[error("margin is {0}; expected a finite number above 0")]
    Margin(f64),
    /// A false-alarm budget for zero windows.
    #[error("looks is 0; expected at least 1 window")]
    Looks,
    /// An invalid stored profile, or two profiles that cannot be merged.
    #[error("invalid profile: {0}")]
    Profile(String),
    /// A stored profile of another format.
    #[error("the profile has format {found}, but this version reads format {expected}; make a new profile")]
    ProfileFormat {
        /// Its format.
        found: u32,
        /// The format that this version reads.
        expected: u32,
    },
}

/// Checks that slices have equal lengths and are not empty.
pub(crate) fn check_parallel(what: &'static str, left: usize, right: usize) -> Result<(), Error> {
    if left != right {
        return Err(Error::Lengths { what, left, right });
    }
    check_rows(what, 1, left)
}

/// Checks for at least `need` rows.
pub(crate) fn check_rows(what: &'static str, need: usize, got: usize) -> Result<(), Error> {
    if got < need { Err(Error::TooFewRows { what, need, got }) } else { Ok(()) }
}

/// Checks for at most `most` rows.
pub(crate) fn check_size(what: &'static str, most: u64, got: u64) -> Result<(), Error> {
    if got > most { Err(Error::TooManyRows { what, most, got }) } else { Ok(()) }
}

/// Checks that all values are finite.
pub(crate) fn check_finite(what: &'static str, values: &[f64]) -> Result<(), Error> {
    match values.iter().position(|v| !v.is_finite()) {
        Some(row) => Err(Error::Value { what, row, value: values[row], expected: "a finite number" }),
        None => Ok(()),
    }
}

/// Checks that a value is strictly between 0 and 1.
pub(crate) fn check_share(what: &'static str, value: f64) -> Result<(), Error> {
    if value > 0.0 && value < 1.0 { Ok(()) } else { Err(Error::NotAShare { what, value }) }
}

/// Checks that a setting is in its range. NaN is in no range.
pub(crate) fn check_option(what: &'static str, value: f64, fits: bool, expected: &'static str) -> Result<(), Error> {
    if fits { Ok(()) } else { Err(Error::Parameter { what, value, expected }) }
}
