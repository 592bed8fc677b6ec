//! Tabular data: a CSV or Parquet file in, one typed [`Table`] out.
//!
//! A table is one Arrow record batch whose columns have one of five canonical types: `Int64`, `Float64`,
//! `Boolean`, `Utf8`, and `Timestamp(Millisecond, None)` holding milliseconds since 1970 in UTC. Readers
//! bring everything to these, so that no later stage needs to know what a file looked like.
//!
//! - [`read_csv`], [`read_parquet`], [`write_parquet`]: files. Bad input is an [`Error`] that names line or row,
//!   column and remedy;
//! - [`Scan`]: files larger than memory, batch by batch, in types that cost least to read; [`Profiler`]: what drift is told
//!   by, of such a file;
//! - [`content_digest`]: what a table is called by what it holds;
//! - [`summarise`]: a summary of every column, for people;
//! - [`prediction_log`]: the messages in which inference tells the monitor what it answered.
//!
//! It refuses to guess: no type is inferred from a sample, no row is skipped, and no value is changed to fit a type
//! that cannot hold it. But for [`Scan::open`], which reads a file, it does no I/O of its own; bytes come from and go to
//! the caller.
//!
//! Invariants: a column's [`Kind`] follows from its type; names are unique and not empty; the same
//! table always gives the same Parquet bytes and the same digest.

mod cast;
mod content;
mod csv;
mod error;
mod normalise;
mod parquet_file;
pub mod prediction_log;
mod profiler;
mod scan;
mod schema;
mod summary;
mod table;

pub use content::content_digest;
pub use csv::{read_csv, read_csv_within};
pub use error::Error;
pub use parquet_file::{read_parquet, read_parquet_within, write_parquet};
pub use profiler::Profiler;
pub use scan::{Progress, Scan, ScanBatch, ScanColumn, ScanOptions, SkipReason, Skipped, Stray};
pub use schema::{Column, Kind, Schema, canonical_timestamp, parse_type, type_name};
pub use summary::{ColumnSummary, ValueCount, summarise};
pub use table::{Table, TimeRange};

/// What a file may at most hold. All three bound memory before it is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq, serde::Serialize, serde::Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Limits {
    /// Rows of a table.
    pub rows: usize,
    /// Columns of a table.
    pub columns: usize,
    /// Bytes of a table in memory, and of a file.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rows: 50_000_000, columns: 4096, bytes: 2_000_000_000 }
    }
}
