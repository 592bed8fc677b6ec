//! Profiles: summaries of the columns of a table, small, and sufficient for a comparison.
//!
//! The [`Profile`] of the training data is part of the model bundle; each monitored window has a profile as well;
//! [`drift`](crate::drift) compares the two without the rows of either. Profiles of parts merge into the profile of the whole, in any
//! order.
//!
//! No value is dropped: missing values, numbers that are not finite, and unreadable values, which are not of the kind of their column,
//! have counts of their own.

mod categorical;
mod moments;
mod numeric;
mod timestamp;

use std::{collections::HashSet, fmt};

use serde::{Deserialize, Serialize};

pub use categorical::{CATEGORIES, Categorical};
pub(crate) use categorical::{NAME_BYTES, hash_of};
pub use moments::Moments;
pub(crate) use numeric::Bucket;
pub use numeric::{BUCKETS, Numeric};
pub use timestamp::Timestamp;

use crate::{Error, two_sample::proportions::MOST_ROWS};

/// The format that this crate writes and reads.
pub const FORMAT_VERSION: u32 = 2;

/// The largest number of rows of a valid profile: half of the limit of the exact test of a rare event, which sums both sides.
pub(crate) const MAX_ROWS: u64 = MOST_ROWS / 2;

/// Numbers that are counted at once: the required resolution is found sooner than one by one.
const CHUNK: usize = 2 * BUCKETS;

/// The profile of a table.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Profile {
    /// The [`FORMAT_VERSION`] it was written with.
    pub format_version: u32,
    /// Rows of the table.
    pub rows: u64,
    /// Its columns, in order.
    pub columns: Vec<Column>,
}

/// A named column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Column {
    /// Unique in its table.
    pub name: String,
    /// Its profile.
    pub profile: ColumnProfile,
}

/// The profile of a column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
pub enum ColumnProfile {
    /// A quantity.
    Numeric(Numeric),
    /// A category, or text.
    Categorical(Categorical),
    /// True or false, under the names `true` and `false`.
    Boolean(Categorical),
    /// A timestamp.
    Timestamp(Timestamp),
}

/// The kind of the values of a column.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum ColumnKind {
    /// Quantities.
    Numeric,
    /// Categories, or text.
    Categorical,
    /// True or false.
    Boolean,
    /// Timestamps.
    Timestamp,
}

impl fmt::Display for ColumnKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Numeric => "numeric",
            Self::Categorical => "categorical",
            Self::Boolean => "boolean",
            Self::Timestamp => "timestamp",
        })
    }
}

impl Profile {
    /// A profile in the current format.
    pub fn new(rows: u64, columns: Vec<Column>) -> Self {
        Self { format_version: FORMAT_VERSION, rows, columns }
    }

    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&ColumnProfile> {
        self.columns.iter().find(|column| column.name == name).map(|column| &column.profile)
    }

    /// The stored form: JSON.
    pub fn to_bytes(&self) -> Vec<u8> {
        serde_json::to_vec(self).expect("a profile has string keys and finite numbers alone")
    }

    /// Reads a stored profile.
    ///
    /// # Errors
    /// Bytes that are not a profile, a profile of another format, or an inconsistent one.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        #[derive(Deserialize)]
        struct Versioned {
            format_version: u32,
        }
        let invalid = |error: serde_json::Error| Error::Profile(error.to_string());
        let found = serde_json::from_slice::<Versioned>(bytes).map_err(invalid)?.format_version;
        if found != FORMAT_VERSION {
            return Err(Error::ProfileFormat { found, expected: FORMAT_VERSION });
        }
        let profile: Self = serde_json::from_slice(bytes).map_err(invalid)?;
        profile.check()?;
        Ok(profile)
    }

    /// Adds the rows of another part of the same table.
    ///
    /// # Errors
    /// Different columns or kinds of columns; more rows in total than a profile can count.
    pub fn merge(&mut self, other: &Self) -> Result<(), Error> {
        let names = |profile: &Self| profile.columns.iter().map(|column| column.name.clone()).collect::<Vec<_>>();
        if names(self) != names(other) {
            return Err(Error::Profile("profiles with different columns cannot be merged".to_owned()));
        }
        let pairs = || self.columns.iter().zip(&other.columns);
        if let Some((column, _)) = pairs().find(|(mine, theirs)| mine.profile.kind() != theirs.profile.kind()) {
            return Err(Error::Profile(format!("column {:?} has different kinds in the two profiles", column.name)));
        }
        let rows = self.rows.saturating_add(other.rows);
        if rows > MAX_ROWS {
            return Err(Error::Profile(format!("{rows} rows are too many for one profile")));
        }
        self.rows = rows;
        self.columns.iter_mut().zip(&other.columns).try_for_each(|(mine, theirs)| mine.profile.merge(&theirs.profile))
    }

    fn check(&self) -> Result<(), Error> {
        if self.rows > MAX_ROWS {
            return Err(Error::Profile(format!("{} rows exceed the limit of a profile", self.rows)));
        }
        let mut names = HashSet::new();
        if let Some(twice) = self.columns.iter().find(|column| !names.insert(column.name.as_str())) {
            return Err(Error::Profile(format!("column {:?} occurs twice", twice.name)));
        }
        for column in &self.columns {
            if column.profile.checked_rows() != Some(self.rows) {
                let reason = format!("column {:?} does not have {} rows, as the table does", column.name, self.rows);
                return Err(Error::Profile(reason));
            }
        }
        Ok(())
    }
}

impl ColumnProfile {
    /// Profiles numbers; `None` is a missing value.
    pub fn of_numbers(values: impl IntoIterator<Item = Option<f64>>) -> Self {
        let mut numeric = Numeric::new();
        let mut chunk = Vec::with_capacity(CHUNK);
        for value in values {
            match value {
                Some(value) => chunk.push(value),
                None => numeric.add_missing(1),
            }
            if chunk.len() == CHUNK {
                numeric.add_all(&chunk);
                chunk.clear();
            }
        }
        numeric.add_all(&chunk);
        Self::Numeric(numeric)
    }

    /// Profiles texts; `None` is a missing value.
    pub fn of_texts<'a>(values: impl IntoIterator<Item = Option<&'a str>>) -> Self {
        let mut categorical = Categorical::new();
        values.into_iter().for_each(|value| categorical.add(value, 1));
        Self::Categorical(categorical)
    }

    /// Profiles flags; `None` is a missing value.
    pub fn of_flags(values: impl IntoIterator<Item = Option<bool>>) -> Self {
        let mut flags = Categorical::new();
        values.into_iter().for_each(|value| flags.add(value.map(flag_name), 1));
        Self::Boolean(flags)
    }

    /// The profile of a column of the same kind with `rows` missing values.
    pub fn none_of(&self, rows: u64) -> Self {
        let categorical = || {
            let mut none = Categorical::new();
            none.add(None, rows);
            none
        };
        match self {
            Self::Numeric(_) => {
                let mut none = Numeric::new();
                none.add_missing(rows);
                Self::Numeric(none)
            }
            Self::Categorical(_) => Self::Categorical(categorical()),
            Self::Boolean(_) => Self::Boolean(categorical()),
            Self::Timestamp(_) => Self::Timestamp(Timestamp::none(rows)),
        }
    }

    /// The kind of the values.
    pub fn kind(&self) -> ColumnKind {
        match self {
            Self::Numeric(_) => ColumnKind::Numeric,
            Self::Categorical(_) => ColumnKind::Categorical,
            Self::Boolean(_) => ColumnKind::Boolean,
            Self::Timestamp(_) => ColumnKind::Timestamp,
        }
    }

    /// All rows.
    pub fn rows(&self) -> u64 {
        self.checked_rows().unwrap_or(u64::MAX)
    }

    /// Rows without a value.
    pub fn missing(&self) -> u64 {
        match self {
            Self::Numeric(numeric) => numeric.missing(),
            Self::Categorical(categorical) | Self::Boolean(categorical) => categorical.missing(),
            Self::Timestamp(timestamp) => timestamp.missing(),
        }
    }

    /// Rows with a value that is not of the kind of the column.
    pub fn unreadable(&self) -> u64 {
        match self {
            Self::Numeric(numeric) => numeric.unreadable(),
            Self::Categorical(categorical) | Self::Boolean(categorical) => categorical.unreadable(),
            Self::Timestamp(timestamp) => timestamp.unreadable(),
        }
    }

    /// Share of rows without a value; `None` without rows.
    pub fn missing_share(&self) -> Option<f64> {
        let rows = self.rows();
        (rows > 0).then(|| self.missing() as f64 / rows as f64)
    }

    /// Adds the rows of another part of the same column.
    ///
    /// # Errors
    /// A column of another kind.
    pub fn merge(&mut self, other: &Self) -> Result<(), Error> {
        match (&mut *self, other) {
            (Self::Numeric(mine), Self::Numeric(theirs)) => mine.merge(theirs),
            (Self::Categorical(mine), Self::Categorical(theirs)) | (Self::Boolean(mine), Self::Boolean(theirs)) => {
                mine.merge(theirs);
            }
            (Self::Timestamp(mine), Self::Timestamp(theirs)) => mine.merge(theirs),
            _ => return Err(Error::Kind { profile: self.kind(), values: other.kind() }),
        }
        Ok(())
    }

    /// All rows; `None` if a forged profile has more than can be counted.
    fn checked_rows(&self) -> Option<u64> {
        match self {
            Self::Numeric(numeric) => numeric.checked_rows(),
            Self::Categorical(categorical) | Self::Boolean(categorical) => categorical.checked_rows(),
            Self::Timestamp(timestamp) => timestamp.checked_rows(),
        }
    }
}

/// Counts of zero are not stored.
fn is_zero(rows: &u64) -> bool {
    *rows == 0
}

/// The name of a boolean value in its profile.
pub fn flag_name(flag: bool) -> &'static str {
    if flag { "true" } else { "false" }
}
