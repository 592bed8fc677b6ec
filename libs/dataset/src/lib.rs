//! Tabular data: CSV and Parquet files, and typed [`Table`]s.
//!
//! A table is one Arrow record batch whose columns have one of five canonical types: `Int64`, `Float64`,
//! `Boolean`, `Utf8`, and `Timestamp(Millisecond, None)` with milliseconds since 1970 in UTC. Readers
//! convert to these, so that no later stage depends on the file format.
//!
//! - [`Scan`]: the one reader of CSV and of Parquet, batch by batch, for files of any size; [`Profiler`]: the profile of a scan, which
//!   drift is computed from; [`BlockProfiler`]: its counts per block of time;
//! - [`read_csv`], [`read_parquet`], [`write_parquet`]: whole files as tables. Bad input is an [`Error`] that names line or row,
//!   column and remedy;
//! - [`read_table`]: a Parquet file of any size as a table, whose values are in temporary files if they are many;
//! - [`ingest()`]: from files of any size to one sorted, verified and described Parquet file;
//! - [`content_digest`]: the digest of a table's content;
//! - [`summarise`]: summary statistics of every column;
//! - [`prediction_log`]: the messages in which inference reports its predictions to the monitor.
//!
//! It does not guess: no type is inferred from a sample, no row is skipped, and no value is changed to fit a type
//! that cannot hold it. It does no I/O except in [`Scan::open`], which reads a file, and in [`ingest()`] and [`read_table`], which
//! read files and write temporary ones.
//!
//! A missing value is null. Not-a-number and the empty text are missing too, in every file format, since CSV has no other way to write it;
//! and so are the spellings that [`ReadOptions`](rekindle_domain::dataset::ReadOptions) declare. [`Note`]s tell a person what about a file
//! is read otherwise than it may look.
//!
//! Invariants: a column's kind follows from its type; names are unique and not empty; the same
//! table always gives the same Parquet bytes and the same digest; an instant is in the years 1 to 9999, and no number of a registered
//! dataset is infinite.

mod block_profiler;
mod cast;
mod content;
mod csv;
mod error;
mod ingest;
mod normalise;
mod note;
pub mod prediction_log;
mod profiler;
mod read;
mod rows;
mod scan;
mod schema;
mod size;
mod spill;
mod summary;
mod table;
mod write;

pub use block_profiler::BlockProfiler;
pub use content::content_digest;
pub use csv::Spelling;
pub use error::Error;
pub use ingest::{
    IngestError, IngestOptions, Ingested, Part, PlannedColumn, Preview, Section, ingest, preview, scratch_file,
    scratch_folder,
};
pub use note::{Note, NoteKind};
pub use profiler::Profiler;
pub use read::{check_formats, read_as, read_csv, read_csv_within, read_parquet, read_parquet_within};
pub use rows::read_rows;
pub use scan::{Progress, Scan, ScanBatch, ScanColumn, ScanOptions, SkipReason, Skipped, Types};
pub use schema::{Column, Schema, canonical_timestamp, type_name};
pub use spill::{is_read_into_memory, read_table, value_bytes};
pub use summary::summarise;
pub use table::{Table, TimeRange};
pub use write::write_parquet;

/// Limits of a table or file, checked before the memory is taken.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Limits {
    /// Rows of a table.
    pub rows: usize,
    /// Columns of a table.
    pub columns: usize,
    /// Bytes of a table's values, and of a CSV file.
    pub bytes: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { rows: 50_000_000, columns: 4096, bytes: 2_000_000_000 }
    }
}
