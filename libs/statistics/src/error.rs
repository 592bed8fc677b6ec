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
    /// Numbers counted over a profile of categories, or the reverse.
    #[error("the profile is of a {profile} column, the values are {values}")]
    Kind {
        /// What the profile holds.
        profile: &'static str,
        /// What it was asked to count.
        values: &'static str,
    },
    /// Counts that were not made with this profile.
    #[error("the profile has {profile} bins, the counts have {counts}; count the window with the same profile")]
    Bins {
        /// Bins of the profile.
        profile: usize,
        /// Bins of the counts.
        counts: usize,
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
