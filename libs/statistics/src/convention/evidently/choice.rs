use super::{Column, chi_square, each_value, finite, g_test, hellinger, jensen_shannon, kolmogorov_smirnov};
use super::{kullback_leibler, psi, wasserstein, z};
use crate::{Error, error::check_rows};

/// A statistical test of Evidently.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum StatTest {
    /// Kolmogorov-Smirnov test, of numbers.
    KolmogorovSmirnov,
    /// Chi-square test of fit.
    ChiSquare,
    /// Two-proportion z-test.
    Z,
    /// Likelihood ratio test of fit.
    G,
    /// Wasserstein distance in standard deviations, of numbers.
    Wasserstein,
    /// Jensen-Shannon distance.
    JensenShannon,
    /// Population stability index.
    Psi,
    /// Kullback-Leibler divergence.
    KullbackLeibler,
    /// Hellinger distance.
    Hellinger,
}

/// Columns with more reference rows than this are compared by a distance, others by a test.
const TESTED_UP_TO: u64 = 1000;

/// Numeric columns with at most this many distinct values, on both sides together, are compared as categories.
const DISCRETE_UP_TO: usize = 5;

/// The default test of Evidently for a column (`get_stattest`), by the rows of the reference and the distinct values of both
/// sides.
///
/// # Errors
/// A side without rows.
pub fn default_test(column: &Column<'_>) -> Result<StatTest, Error> {
    let few_rows = reference_rows(column)? <= TESTED_UP_TO;
    Ok(match (few_rows, is_discrete(column)) {
        (true, true) if distinct(column) > 2 => StatTest::ChiSquare,
        (true, true) => StatTest::Z,
        (true, false) => StatTest::KolmogorovSmirnov,
        (false, true) => StatTest::JensenShannon,
        (false, false) => StatTest::Wasserstein,
    })
}

/// The drift score of Evidently: the p-value of a test, or the value of a distance.
///
/// # Errors
/// As the test; a numeric test for a categorical column.
pub fn score(test: StatTest, column: &Column<'_>) -> Result<f64, Error> {
    match (test, column.numbers()) {
        (StatTest::KolmogorovSmirnov, Some((r, w))) => kolmogorov_smirnov(r, w).map(|test| test.p_value),
        (StatTest::Wasserstein, Some((r, w))) => wasserstein(r, w),
        (StatTest::KolmogorovSmirnov | StatTest::Wasserstein, None) => Err(Error::NotNumeric { what: test.name() }),
        (StatTest::ChiSquare, _) => chi_square(column).map(|test| test.p_value),
        (StatTest::G, _) => g_test(column).map(|test| test.p_value),
        (StatTest::Z, _) => z(column),
        (StatTest::JensenShannon, _) => jensen_shannon(column),
        (StatTest::Psi, _) => psi(column),
        (StatTest::KullbackLeibler, _) => kullback_leibler(column),
        (StatTest::Hellinger, _) => hellinger(column),
    }
}

impl StatTest {
    /// The name in the registry of Evidently.
    pub fn name(self) -> &'static str {
        match self {
            Self::KolmogorovSmirnov => "ks",
            Self::ChiSquare => "chisquare",
            Self::Z => "z",
            Self::G => "g_test",
            Self::Wasserstein => "wasserstein",
            Self::JensenShannon => "jensenshannon",
            Self::Psi => "psi",
            Self::KullbackLeibler => "kl_div",
            Self::Hellinger => "hellinger",
        }
    }

    /// The default threshold of the score.
    pub fn threshold(self) -> f64 {
        match self {
            Self::KolmogorovSmirnov | Self::ChiSquare | Self::Z => 0.05,
            _ => 0.1,
        }
    }

    /// Whether Evidently reports drift at this score: a p-value below the threshold (or equal to it, for Kolmogorov-Smirnov only), a
    /// distance of at least the threshold.
    pub fn drifted(self, score: f64) -> bool {
        match self {
            Self::KolmogorovSmirnov => score <= self.threshold(),
            Self::ChiSquare | Self::Z | Self::G => score < self.threshold(),
            _ => score >= self.threshold(),
        }
    }
}

/// Whether Evidently compares the column value by value.
pub(super) fn is_discrete(column: &Column<'_>) -> bool {
    matches!(column, Column::Categorical(_)) || distinct(column) <= DISCRETE_UP_TO
}

/// Distinct finite values of both sides together.
fn distinct(column: &Column<'_>) -> usize {
    match column {
        Column::Numeric(reference, window) | Column::Integer(reference, window) => {
            finite(reference, window).map_or(0, |(reference, window)| each_value(&reference, &window).0.len())
        }
        Column::Categorical(categories) => categories.names().len(),
    }
}

fn reference_rows(column: &Column<'_>) -> Result<u64, Error> {
    match column {
        Column::Numeric(reference, window) | Column::Integer(reference, window) => {
            Ok(finite(reference, window)?.0.rows())
        }
        Column::Categorical(categories) => {
            let rows = categories.reference().iter().fold(0_u64, |sum, count| sum.saturating_add(*count));
            let some = rows > 0 && categories.window().iter().any(|count| *count > 0);
            check_rows("a column's default test", 1, usize::from(some))?;
            Ok(rows)
        }
    }
}
