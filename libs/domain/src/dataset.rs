//! Dataset versions: immutable rows with a schema, a profile and lineage.

pub mod comparison;
mod reading;
mod schema;

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use serde::{Deserialize, Serialize};

pub use self::{
    comparison::ColumnChange,
    reading::{AmbiguousEpoch, EpochUnit, ReadOptions, TimeFormat, parse_separator},
    schema::{ColumnRole, ColumnSchema, DatasetSchema, RuleViolation},
};
use crate::{ColumnKind, DatasetName, Digest};

/// One version of a dataset.
#[derive(Debug, Clone, PartialEq)]
pub struct DatasetVersion {
    /// The dataset.
    pub name: DatasetName,
    /// From 1.
    pub version: u32,
    /// Digest of the canonical content: schema and values in order, independent of the file format.
    pub content: Digest,
    /// Digest of the Parquet blob that holds the rows.
    pub blob: Digest,
    /// Rows.
    pub rows: u64,
    /// Size of the blob in bytes.
    pub bytes: u64,
    /// The columns, in order.
    pub columns: Vec<Column>,
    /// The column that orders the rows.
    pub time_column: Option<String>,
    /// First and last event time.
    pub time_range: Option<(DateTime<Utc>, DateTime<Utc>)>,
    /// Digests of the dataset versions and log chunks that the rows came from.
    pub parents: Vec<Digest>,
    /// The description given at registration.
    pub description: String,
    /// The profile of each column, in order.
    pub profile: Vec<ColumnSummary>,
    /// When it was registered.
    pub created_at: DateTime<Utc>,
    /// What was declared at the registration.
    pub schema: Option<DatasetSchema>,
    /// Rules that rows break, if the registration accepted violations.
    pub violations: Vec<RuleViolation>,
    /// When it was deleted. Lists leave it out, and it can be restored.
    pub deleted_at: Option<DateTime<Utc>>,
}

/// One column of a dataset version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// The name.
    pub name: String,
    /// The Arrow type, e.g. `Int64`, `Float64`, `Utf8`, `Boolean`, `Timestamp(ms)`.
    pub data_type: String,
    /// What its values mean.
    pub kind: ColumnKind,
    /// Whether a value is missing.
    pub nullable: bool,
}

/// The profile of one column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct ColumnSummary {
    /// The column.
    pub name: String,
    /// Rows without a value.
    pub missing: u64,
    /// Distinct values, missing ones excluded. Exact up to 524,288 of them; beyond that an estimate with a standard error of 1.6 %.
    pub distinct: u64,
    /// Smallest finite value. This and the next three are of numeric and timestamp columns (milliseconds since 1970-01-01 UTC) only, over
    /// finite values, and absent if there are none.
    pub min: Option<f64>,
    /// Largest finite value.
    pub max: Option<f64>,
    /// Mean.
    pub mean: Option<f64>,
    /// Sample standard deviation (divisor n - 1); absent with fewer than two values.
    pub std: Option<f64>,
    /// The most frequent values, at most ten, those of equal count in order of their text. Where `distinct` is an estimate, a count is a
    /// lower bound.
    pub top: Vec<ValueCount>,
}

/// A value and its frequency.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct ValueCount {
    /// The value as text, cut to 100 characters.
    pub value: String,
    /// Rows that have it.
    pub count: u64,
}

/// The format of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum FileFormat {
    /// Delimiter-separated text with a header.
    Csv,
    /// Apache Parquet.
    Parquet,
}

/// A stored file to read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Source {
    /// The upload or blob.
    pub digest: Digest,
    /// Its format.
    pub format: FileFormat,
}

/// A dataset version to be registered.
#[derive(Debug, Clone, PartialEq)]
pub struct DatasetRegistration {
    /// The dataset.
    pub name: DatasetName,
    /// Concatenated in order; at least one. A file may be compressed with gzip or zstd.
    pub sources: Vec<Source>,
    /// Orders the rows; `None` keeps the order of the sources.
    pub time_column: Option<String>,
    /// Kinds by column name, overriding inference.
    pub kinds: BTreeMap<String, ColumnKind>,
    /// Lineage.
    pub parents: Vec<Digest>,
    /// The description.
    pub description: String,
    /// Rows before this event time are dropped.
    pub from: Option<DateTime<Utc>>,
    /// Rows at or after this event time are dropped.
    pub until: Option<DateTime<Utc>>,
    /// How the values of the files are read.
    pub reading: ReadOptions,
    /// Which columns are kept.
    pub columns: SourceColumns,
    /// What is declared of the columns.
    pub schema: Option<DatasetSchema>,
    /// Rows that break rules are registered, and the violations recorded.
    pub accept_violations: bool,
}

/// Some rows of a version.
#[derive(Debug, Clone, PartialEq)]
pub struct DatasetRows {
    /// The dataset.
    pub name: DatasetName,
    /// The version.
    pub version: u32,
    /// The columns, in order.
    pub columns: Vec<String>,
    /// Rows.
    pub rows: Vec<Row>,
}

/// A value for each column; missing ones, and those of sensitive columns, are `None`.
pub type Row = Vec<Option<Cell>>;

/// A value of a row.
#[derive(Debug, Clone, PartialEq)]
pub enum Cell {
    /// A float.
    Number(f64),
    /// An integer.
    Integer(i64),
    /// A text.
    Text(String),
    /// True or false.
    Boolean(bool),
    /// An instant.
    Time(DateTime<Utc>),
}

/// The columns of a dataset that is made of several files.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Hash)]
pub enum SourceColumns {
    /// Those of any file; one that a file lacks is missing in its rows.
    #[default]
    Any,
    /// Those of every file.
    Common,
}

impl DatasetVersion {
    /// The version as `name/version`.
    pub fn reference(&self) -> String {
        format!("{}/{}", self.name, self.version)
    }
}
