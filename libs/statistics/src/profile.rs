//! What a column looked like in training, and how a later window falls into the same bins.
//!
//! A [`Profile`] is small (about ten bins to a number, at most [`MAX_CATEGORIES`] to a category), is kept in the model
//! bundle, and is the reference of [`drift`](crate::drift). Counts over its bins can be merged, so a window may be
//! counted piece by piece and in any order.

mod bins;
mod exact;

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use crate::Error;

/// The format that this crate writes and reads.
pub const FORMAT_VERSION: u32 = 1;

/// Categories that get a bin of their own: the most frequent. The others share one.
pub const MAX_CATEGORIES: usize = 128;

/// The profiles of a table's columns, as kept in a bundle.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// [`FORMAT_VERSION`] when it was written.
    pub format_version: u32,
    /// By column name.
    pub columns: BTreeMap<String, ColumnProfile>,
}

impl Profile {
    /// A profile in the current format.
    pub fn new(columns: BTreeMap<String, ColumnProfile>) -> Self {
        Self { format_version: FORMAT_VERSION, columns }
    }
}

/// One column in training.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
pub enum ColumnProfile {
    /// A quantity.
    Numeric {
        /// Where one bin ends and the next begins, ascending. Bin `i` holds `edges[i - 1] < x <= edges[i]`; the first has no
        /// lower end and the last, one more than there are edges, no upper. The edges are the deciles; a decile that is a
        /// value of its own, such as a constant or a frequent zero, has a bin for exactly that value.
        /// Written as text, since JSON readers may round numbers and a bin may be one float wide.
        #[serde(with = "exact")]
        edges: Vec<f64>,
        /// Rows in each bin, one more than edges.
        counts: Vec<u64>,
        /// Rows without a value.
        missing: u64,
        /// Rows with NaN or an infinity.
        non_finite: u64,
        /// All rows.
        rows: u64,
        /// Mean of the finite values; absent without any, as the next three.
        mean: Option<f64>,
        /// Their sample standard deviation (divisor n - 1); absent with fewer than two.
        std: Option<f64>,
        /// The smallest.
        min: Option<f64>,
        /// The largest.
        max: Option<f64>,
    },
    /// One of a set of values.
    Categorical {
        /// The most frequent values, at most [`MAX_CATEGORIES`], in order of their text, with their rows.
        values: Vec<(String, u64)>,
        /// Rows with any other value.
        rest: u64,
        /// Rows without a value.
        missing: u64,
        /// All rows counted: every second one of the training data, where not every value has a bin.
        rows: u64,
    },
}

/// How many rows fell into each bin of a [`ColumnProfile`].
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Counts {
    /// The value bins in the profile's order; of categories the last is for values without a bin of their own.
    pub bins: Vec<u64>,
    /// Rows without a value.
    pub missing: u64,
    /// Rows with NaN or an infinity.
    pub non_finite: u64,
}

impl Counts {
    /// All rows.
    pub fn rows(&self) -> u64 {
        self.bins.iter().sum::<u64>() + self.missing + self.non_finite
    }

    /// Share of rows without a value; `None` without rows.
    pub fn missing_share(&self) -> Option<f64> {
        let rows = self.rows();
        (rows > 0).then(|| self.missing as f64 / rows as f64)
    }

    /// Adds the rows of another piece of the same window.
    ///
    /// # Errors
    /// Counts over another number of bins.
    pub fn merge(&mut self, other: &Self) -> Result<(), Error> {
        if self.bins.len() != other.bins.len() {
            return Err(Error::Bins { profile: self.bins.len(), counts: other.bins.len() });
        }
        self.bins.iter_mut().zip(&other.bins).for_each(|(sum, more)| *sum += more);
        self.missing += other.missing;
        self.non_finite += other.non_finite;
        Ok(())
    }
}

impl ColumnProfile {
    /// Profiles a quantity; `None` is a missing value. Takes O(n log n) time and holds the values.
    pub fn from_numeric(values: impl IntoIterator<Item = Option<f64>>) -> Self {
        let (mut finite, mut missing, mut non_finite) = (Vec::new(), 0, 0);
        for value in values {
            match value {
                None => missing += 1,
                Some(x) if x.is_finite() => finite.push(x),
                Some(_) => non_finite += 1,
            }
        }
        finite.sort_unstable_by(f64::total_cmp);
        let edges = bins::edges(&finite);
        let mut counts = vec![0; edges.len() + 1];
        finite.iter().for_each(|&x| counts[bins::bin(&edges, x)] += 1);
        let moments = bins::moments(&finite);
        Self::Numeric {
            edges,
            counts,
            missing,
            non_finite,
            rows: finite.len() as u64 + missing + non_finite,
            mean: moments.map(|(mean, _)| mean),
            std: moments.and_then(|(_, std)| std),
            min: finite.first().copied(),
            max: finite.last().copied(),
        }
    }

    /// Profiles a category; `None` is a missing value.
    ///
    /// With more than [`MAX_CATEGORIES`] different values, the rows at even positions choose which get a bin and those at
    /// odd positions are counted. Were the same rows to do both, the chosen would be those frequent by chance, and every
    /// later window would seem to have lost them.
    pub fn from_categorical<'a>(values: impl IntoIterator<Item = Option<&'a str>>) -> Self {
        let rows: Vec<Option<&str>> = values.into_iter().collect();
        let every = most_frequent(rows.iter().copied(), usize::MAX);
        let (chosen, counted) = if every.len() <= MAX_CATEGORIES {
            (every, rows)
        } else {
            let chosen = most_frequent(rows.iter().step_by(2).copied(), MAX_CATEGORIES);
            (chosen, rows.into_iter().skip(1).step_by(2).collect())
        };
        let values = chosen.into_iter().map(|text| (text.to_owned(), 0)).collect();
        let empty = Self::Categorical { values, rest: 0, missing: 0, rows: 0 };
        empty.with_categories_counted(&counted)
    }

    /// The same bins with the counts of `rows`.
    fn with_categories_counted(self, rows: &[Option<&str>]) -> Self {
        let Self::Categorical { mut values, .. } = self else { return self };
        let (mut rest, mut missing) = (0, 0);
        for row in rows {
            match row.map(|text| category(&values, text)) {
                None => missing += 1,
                Some(Some(bin)) => values[bin].1 += 1,
                Some(None) => rest += 1,
            }
        }
        Self::Categorical { values, rest, missing, rows: rows.len() as u64 }
    }

    /// The rows counted.
    pub fn rows(&self) -> u64 {
        match self {
            Self::Numeric { rows, .. } | Self::Categorical { rows, .. } => *rows,
        }
    }

    /// The training data's own counts.
    pub fn reference_counts(&self) -> Counts {
        match self {
            Self::Numeric { counts, missing, non_finite, .. } => {
                Counts { bins: counts.clone(), missing: *missing, non_finite: *non_finite }
            }
            Self::Categorical { values, rest, missing, .. } => {
                let bins = values.iter().map(|(_, count)| *count).chain([*rest]).collect();
                Counts { bins, missing: *missing, non_finite: 0 }
            }
        }
    }

    /// Counts of no rows, to add to.
    pub fn no_counts(&self) -> Counts {
        let bins = match self {
            Self::Numeric { edges, .. } => edges.len() + 1,
            Self::Categorical { values, .. } => values.len() + 1,
        };
        Counts { bins: vec![0; bins], missing: 0, non_finite: 0 }
    }

    /// Counts a window of a quantity over the profile's bins.
    ///
    /// # Errors
    /// The profile is of a category.
    pub fn count_numeric(&self, values: impl IntoIterator<Item = Option<f64>>) -> Result<Counts, Error> {
        let Self::Numeric { edges, .. } = self else {
            return Err(Error::Kind { profile: "categorical", values: "numbers" });
        };
        let mut counts = self.no_counts();
        for value in values {
            match value {
                None => counts.missing += 1,
                Some(x) if x.is_finite() => counts.bins[bins::bin(edges, x)] += 1,
                Some(_) => counts.non_finite += 1,
            }
        }
        Ok(counts)
    }

    /// Counts a window of a category over the profile's bins.
    ///
    /// # Errors
    /// The profile is of a quantity.
    pub fn count_categorical<'a>(&self, values: impl IntoIterator<Item = Option<&'a str>>) -> Result<Counts, Error> {
        let Self::Categorical { values: known, .. } = self else {
            return Err(Error::Kind { profile: "numeric", values: "categories" });
        };
        let mut counts = self.no_counts();
        for value in values {
            match value {
                None => counts.missing += 1,
                Some(text) => {
                    counts.bins[category(known, text).unwrap_or(known.len())] += 1;
                }
            }
        }
        Ok(counts)
    }
}

/// The bin of a category that has one.
fn category(values: &[(String, u64)], text: &str) -> Option<usize> {
    values.binary_search_by(|(name, _)| name.as_str().cmp(text)).ok()
}

/// The `limit` most frequent values in order of their text; of equally frequent ones the first.
fn most_frequent<'a>(rows: impl Iterator<Item = Option<&'a str>>, limit: usize) -> Vec<&'a str> {
    let mut counts = BTreeMap::<&str, u64>::new();
    rows.flatten().for_each(|text| *counts.entry(text).or_default() += 1);
    let mut values: Vec<(&str, u64)> = counts.into_iter().collect();
    values.sort_by_key(|value| std::cmp::Reverse(value.1));
    values.truncate(limit);
    let mut chosen: Vec<&str> = values.into_iter().map(|(text, _)| text).collect();
    chosen.sort_unstable();
    chosen
}
