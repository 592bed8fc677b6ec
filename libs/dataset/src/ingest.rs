//! From files to one canonical Parquet file, in bounded memory.
//!
//! The steps, each of which streams: read the sources batch by batch, convert columns to common types and to the requested
//! kinds, keep the rows of a time range, sort them by time (in runs on disk if they do not fit into memory), write Parquet by row
//! group, and read it back column by column, which verifies it and gives the content digest and the summaries.
//!
//! All files in between are temporary files without a name: they vanish with the process, however it ends.

mod by_time;
mod columns;
mod describe;
mod output;
mod preview;
mod rules;
mod section;
mod sort;
mod unique;

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    path::{Path, PathBuf},
};

use chrono::{DateTime, Utc};
use rekindle_domain::{
    ColumnKind, Digest,
    dataset::{
        ColumnSummary, DatasetRegistration, DatasetSchema, FileFormat, ReadOptions, RuleViolation, SourceColumns,
    },
};

use self::{
    by_time::ByTime,
    columns::Columns,
    output::{Output, Written},
    rules::Rules,
};
pub use self::{
    preview::{PlannedColumn, Preview, preview},
    section::Section,
};
use crate::{
    Error, Limits, Scan, ScanOptions, Schema, TimeRange,
    read::{Budget, canonical},
};

/// What to make of the sources.
#[derive(Debug, Clone)]
pub struct IngestOptions {
    /// Kinds that differ from those inferred, by column, as [`Table::with_kinds`](crate::Table::with_kinds) applies them.
    pub kinds: BTreeMap<String, ColumnKind>,
    /// The column to sort the rows by; rows of equal time keep their order. `None` keeps the order of the sources.
    pub time_column: Option<String>,
    /// The first time to keep; `None` is open. Needs a time column.
    pub from: Option<DateTime<Utc>>,
    /// The first time not to keep; `None` is open. Needs a time column.
    pub until: Option<DateTime<Utc>>,
    /// How values are read.
    pub reading: ReadOptions,
    /// Which columns are kept of several sources.
    pub columns: SourceColumns,
    /// The rules that rows are checked against.
    pub schema: Option<DatasetSchema>,
    /// Rows and columns, and bytes of values, of all sources together; and bytes of the text of one CSV file, decompressed.
    pub limits: Limits,
    /// The folder for temporary files: the sorted rows, uncompressed, and the Parquet file.
    pub scratch: PathBuf,
}

impl IngestOptions {
    /// What a registration asks for, within the limits.
    pub fn of(registration: &DatasetRegistration, limits: Limits, scratch: PathBuf) -> Self {
        Self {
            kinds: registration.kinds.clone(),
            time_column: registration.time_column.clone(),
            from: registration.from,
            until: registration.until,
            reading: registration.reading.clone(),
            columns: registration.columns,
            schema: registration.schema.clone(),
            limits,
            scratch,
        }
    }
}

/// A canonical Parquet file and its description.
#[derive(Debug)]
pub struct Ingested {
    /// The file, as [`write_parquet`](crate::write_parquet) writes it.
    pub parquet: Section,
    /// Its columns.
    pub schema: Schema,
    /// Its rows; there may be none in the time range.
    pub rows: u64,
    /// [`content_digest`](crate::content_digest) of its rows.
    pub content: Digest,
    /// The earliest and the latest time, with a time column and rows.
    pub time_range: Option<TimeRange>,
    /// A summary of each column.
    pub summaries: Vec<ColumnSummary>,
    /// The rules that rows break.
    pub violations: Vec<RuleViolation>,
}

/// The input or setting that an error is about.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Part {
    /// One source, by index.
    Source(usize),
    /// The sources together.
    Sources,
    /// The requested kinds.
    Kinds,
    /// How values are read.
    Reading,
    /// The time column.
    TimeColumn,
    /// The schema.
    Schema,
    /// The temporary files: not the caller's fault.
    Scratch,
}

impl fmt::Display for Part {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Source(index) => write!(f, "source {index}"),
            Self::Sources => f.write_str("the sources"),
            Self::Kinds => f.write_str("the kinds"),
            Self::Reading => f.write_str("the options of reading"),
            Self::TimeColumn => f.write_str("the time column"),
            Self::Schema => f.write_str("the schema"),
            Self::Scratch => f.write_str("temporary files"),
        }
    }
}

/// Why files could not be ingested.
#[derive(Debug, thiserror::Error)]
#[error("{part}: ingestion failed")]
pub struct IngestError {
    /// What it is about.
    pub part: Part,
    /// The reason.
    #[source]
    pub error: Error,
}

impl Part {
    /// Attributes an error to this part; for `map_err`.
    fn error(self) -> impl FnOnce(Error) -> IngestError {
        move |error| match error {
            Error::Scratch { .. } | Error::WriteParquet(_) => IngestError { part: Self::Scratch, error },
            error => IngestError { part: self, error },
        }
    }
}

/// A temporary file without a name in a folder.
///
/// # Errors
/// The folder does not exist or is not writable.
pub fn scratch_file(folder: &Path) -> Result<File, Error> {
    tempfile::tempfile_in(folder).map_err(Error::scratch("create"))
}

/// The folder for temporary files: that of the system if none is configured, else the configured one, which is created if it does not
/// exist.
///
/// # Errors
/// It cannot be created.
pub fn scratch_folder(configured: &str) -> Result<PathBuf, Error> {
    if configured.is_empty() {
        return Ok(std::env::temp_dir());
    }
    let folder = PathBuf::from(configured);
    std::fs::create_dir_all(&folder).map_err(Error::scratch("create the folder of"))?;
    Ok(folder)
}

/// Bytes of one Parquet page, at most.
const PAGE_BYTES: usize = 64 << 20;

/// Bytes of a batch read.
const BATCH_BYTES: usize = 4 << 20;

/// Reads the sources one after the other and writes them to one canonical Parquet file. A column that a source lacks is missing in its
/// rows; with [`SourceColumns::Common`] it is left out.
///
/// Takes some 250 MiB of memory at most, in addition to the metadata of Parquet sources, to the pages of wide ones (256 MiB, or eight
/// times the size of the file if that is more), and to the window of a source that zstd compresses, 128 MiB at most, however large the
/// sources are.
///
/// # Errors
/// Malformed sources, sources beyond the limits, values that a type cannot hold, an unsuitable time column, a temporary file that
/// cannot be written.
pub fn ingest(sources: &[(Section, FileFormat)], options: &IngestOptions) -> Result<Ingested, IngestError> {
    let (mut scans, columns) = planned(sources, options)?;
    columns.prepare(&mut scans);
    let mut rules = Rules::new(options, &columns)?;
    let (written, time_range) = write(scans, &columns, &mut rules, options)?;
    let described =
        describe::describe(&written.parquet, &columns, &written.checksums).map_err(Part::Scratch.error())?;
    Ok(Ingested {
        parquet: written.parquet,
        schema: described.schema,
        rows: written.rows,
        content: described.content,
        time_range,
        summaries: described.summaries,
        violations: rules.finish()?,
    })
}

/// Opens the sources, and decides the columns of the result.
fn planned(sources: &[(Section, FileFormat)], options: &IngestOptions) -> Result<(Vec<Scan>, Columns), IngestError> {
    let scans = open(sources, options, None)?;
    let columns = Columns::of(&scans, options)?;
    let again = |column: Option<&str>| open(sources, options, column);
    let columns = columns.decide(&scans, &again, options.time_column.as_deref())?;
    Ok((scans, columns))
}

/// Opens the sources and checks what is known before any row is read; with a name only the numbers of that column are read.
fn open(
    sources: &[(Section, FileFormat)],
    options: &IngestOptions,
    column: Option<&str>,
) -> Result<Vec<Scan>, IngestError> {
    let limits = &options.limits;
    let expected = column.map(|name| BTreeMap::from([(name.to_owned(), ColumnKind::Numeric)]));
    let canonical = canonical(limits, &options.reading);
    let scan_options = ScanOptions { batch_bytes: BATCH_BYTES, page_bytes: PAGE_BYTES, expected, ..canonical };
    let mut rows = 0_u64;
    let mut scans = Vec::with_capacity(sources.len());
    for (index, (section, format)) in sources.iter().enumerate() {
        let part = Part::Source(index);
        if *format == FileFormat::Csv && section.size() > limits.bytes as u64 {
            return Err(part.error()(Error::TooLarge { what: "bytes", limit: limits.bytes }));
        }
        let scan = Scan::of_input(section.clone(), *format, &scan_options).map_err(part.error())?;
        let declared = scan.declared_rows().unwrap_or(0);
        if *format == FileFormat::Csv && declared == 0 && column.is_none() {
            return Err(part.error()(Error::Empty { what: "no rows after the header" }));
        }
        let budget = Budget::new(*limits);
        budget.check_rows(Some(declared)).map_err(part.error())?;
        rows = rows.saturating_add(declared);
        budget.check_rows(Some(rows)).map_err(Part::Sources.error())?;
        scans.push(scan);
    }
    Ok(scans)
}

/// Reads all rows, and writes those in the time range in order of time. Also returns the earliest and the latest time.
fn write(
    scans: Vec<Scan>,
    columns: &Columns,
    rules: &mut Rules,
    options: &IngestOptions,
) -> Result<(Written, Option<TimeRange>), IngestError> {
    let mut budget = Budget::new(options.limits);
    let mut output = Output::new(columns, &options.scratch).map_err(Part::Scratch.error())?;
    let mut by_time = columns.time().map(|(index, name)| ByTime::new(index, name, options));
    let mut rows = 0;
    for (source, scan) in scans.into_iter().enumerate() {
        let (part, first_row) = (if source == 0 { Part::Source(0) } else { Part::Sources }, rows);
        for batch in scan {
            let batch = batch.map_err(Part::Source(source).error())?.rows;
            budget.take(&batch).map_err(part.error())?;
            let converted = columns.convert(source, &batch, rows - first_row, rows)?;
            match &mut by_time {
                Some(by_time) => by_time.add(&converted, rows)?,
                None => output.write(&converted).map_err(Part::Scratch.error())?,
            }
            // After the check that every row has a time.
            rules.check(&converted, rows)?;
            rows += batch.num_rows() as u64;
        }
    }
    let time_range = match by_time {
        Some(by_time) => by_time.finish(&mut output)?,
        None => None,
    };
    Ok((output.finish().map_err(Part::Scratch.error())?, time_range))
}
