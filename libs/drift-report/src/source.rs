use std::fmt;

use rekindle_statistics::profile::Profile;

/// One side of a comparison: profiled data.
#[derive(Debug, Clone)]
pub struct DataSource {
    /// What the report calls it, such as a path or a time window.
    pub name: String,
    /// The profile of the columns that are compared.
    pub profile: Profile,
    /// The columns that are not compared.
    pub skipped: Vec<SkippedColumn>,
    /// Notes on how the data were read, in sentences.
    pub notes: Vec<String>,
}

impl DataSource {
    /// A source without skipped columns and without notes.
    pub fn new(name: impl Into<String>, profile: Profile) -> Self {
        Self { name: name.into(), profile, skipped: Vec::new(), notes: Vec::new() }
    }

    /// The columns of unsupported types.
    pub fn unsupported(&self) -> impl Iterator<Item = &SkippedColumn> {
        self.skipped.iter().filter(|column| matches!(column.reason, SkipReason::UnsupportedType(_)))
    }

    /// The columns that are not profiled since the reference does not have them.
    pub(crate) fn not_in_reference(&self) -> impl Iterator<Item = &str> {
        let columns = self.skipped.iter().filter(|column| column.reason == SkipReason::NotInReference);
        columns.map(|column| column.name.as_str())
    }

    /// Whether the column exists, profiled or skipped.
    pub(crate) fn has(&self, column: &str) -> bool {
        self.profile.column(column).is_some() || self.skipped.iter().any(|skipped| skipped.name == column)
    }
}

/// A column that is not compared.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SkippedColumn {
    /// Its name.
    pub name: String,
    /// Why it is not compared.
    pub reason: SkipReason,
}

/// Why a column is not compared. `Display` continues "skipped: ".
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SkipReason {
    /// It was excluded from the comparison.
    NotSelected,
    /// Its type, given here, has no column kind.
    UnsupportedType(String),
    /// The reference does not have it. Reports list it among the new columns.
    NotInReference,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotSelected => f.write_str("not selected"),
            Self::UnsupportedType(found) => write!(f, "type {found} is not supported"),
            Self::NotInReference => f.write_str("not in the reference data"),
        }
    }
}
