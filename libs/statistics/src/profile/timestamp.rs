use serde::{Deserialize, Serialize};

/// The profile of a timestamp column: its span, and the numbers of missing and unreadable values. Values of a timestamp always increase,
/// so nothing else is compared.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Timestamp {
    rows: u64,
    missing: u64,
    /// Rows with a value that is not a timestamp.
    #[serde(default)]
    unreadable: u64,
    /// The first and the last timestamp, in milliseconds since 1970 in UTC.
    span: Option<(i64, i64)>,
}

impl Timestamp {
    /// Without rows.
    pub fn new() -> Self {
        Self::default()
    }

    /// With `rows` missing values.
    pub(super) fn none(rows: u64) -> Self {
        Self { rows, missing: rows, ..Self::default() }
    }

    /// Counts one row, in milliseconds since 1970 in UTC; `None` is a missing value.
    pub fn add(&mut self, millis: Option<i64>) {
        self.rows += 1;
        match millis {
            Some(millis) => self.widen((millis, millis)),
            None => self.missing += 1,
        }
    }

    /// Counts rows without a value.
    pub fn add_missing(&mut self, rows: u64) {
        self.rows += rows;
        self.missing += rows;
    }

    /// Counts rows with a value that is not a timestamp.
    pub fn add_unreadable(&mut self, rows: u64) {
        self.rows += rows;
        self.unreadable += rows;
    }

    /// Adds the rows of another part.
    pub fn merge(&mut self, other: &Self) {
        self.rows += other.rows;
        self.missing += other.missing;
        self.unreadable += other.unreadable;
        if let Some(span) = other.span {
            self.widen(span);
        }
    }

    /// Rows without a value.
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// Rows with a value that is not a timestamp.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// The first and the last timestamp, in milliseconds since 1970 in UTC.
    pub fn span(&self) -> Option<(i64, i64)> {
        self.span
    }

    pub(super) fn checked_rows(&self) -> Option<u64> {
        let without = self.missing.checked_add(self.unreadable)?;
        let is_sound = match self.span {
            Some((first, last)) => first <= last && without < self.rows,
            None => without == self.rows,
        };
        is_sound.then_some(self.rows)
    }

    fn widen(&mut self, (first, last): (i64, i64)) {
        self.span = Some(self.span.map_or((first, last), |(min, max)| (min.min(first), max.max(last))));
    }
}
