//! Files of any size, batch by batch.
//!
//! Memory is bounded by [`ScanOptions`], not by the file: of a CSV file one block of text and one batch are held, of
//! Parquet one page of each column and one batch.

mod blocks;
mod builder;
mod csv;
mod parquet;

use std::{
    collections::{BTreeMap, BTreeSet},
    fmt,
    fs::File,
    io::{BufRead as _, BufReader, Cursor},
    path::Path,
    sync::Arc,
};

use ::parquet::file::reader::ChunkReader;
use arrow::{
    array::{RecordBatch, RecordBatchOptions},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use bytes::Bytes;

use self::{
    blocks::Input,
    builder::Built,
    csv::{Choice, CsvScan},
    parquet::ParquetScan,
};
use crate::{Error, Kind, csv::COMMA};

/// A file being read from its first row to its last, as an iterator over [`ScanBatch`]es. After an error it is over.
///
/// Columns come in the types that cost least to read, one for each [`Kind`] but the first:
///
/// | kind | Parquet | CSV |
/// |---|---|---|
/// | numeric | `Int8` to `Int64`, `UInt8` to `UInt64`, `Float32`, `Float64`, as stored; half floats as `Float32` and decimals as the nearest `Float64` | `Int64` or `Float64`; `Float64` if the kind was expected |
/// | categorical | `Dictionary(Int32, Utf8)` | the same |
/// | timestamp | `Timestamp(Millisecond, None)` in UTC | the same |
/// | boolean | `Boolean` | the same |
///
/// A missing value is null. NaN and the infinities are values. In a dictionary array a value may be there without a row
/// that has it, or twice; only the keys of valid rows count. Consecutive batches of a Parquet file mostly share one
/// dictionary, which may be larger than the batch.
///
/// Without expected kinds a column gets what [`read_csv`](crate::read_csv) or [`read_parquet`](crate::read_parquet)
/// would give it. For CSV this takes a pass of its own over the file, which must therefore not be a pipe.
///
/// With expected kinds a column always comes in the kind expected. Where the file has another, or is CSV, each value
/// counts as it is written in text: one that does not read as the kind is null, and counted in
/// [`ScanBatch::unparsable`]. What reads as a number is what [`read_csv`](crate::read_csv) takes for one, integers
/// beyond 2^53 being rounded to the nearest `Float64`. Any value is a category.
pub struct Scan {
    columns: Vec<ScanColumn>,
    skipped: Vec<Skipped>,
    strays: Vec<Stray>,
    source: Source,
    over: bool,
}

enum Source {
    Parquet(ParquetScan),
    Csv(CsvScan),
}

/// Some rows of a file.
#[derive(Debug, Clone)]
pub struct ScanBatch {
    /// At least one row, with the columns of [`Scan::columns`] in their order.
    pub rows: RecordBatch,
    /// For every column the values that do not read as the kind expected; they are among the nulls of `rows`.
    pub unparsable: Vec<u64>,
    /// For every column the first of those values, cut to 40 characters.
    pub examples: Vec<Option<String>>,
}

/// A value that made text of a column of numbers.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Stray {
    /// The column.
    pub column: String,
    /// The value, cut to 40 characters.
    pub value: String,
}

/// A column that is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanColumn {
    /// Unique in the file, and not empty.
    pub name: String,
    /// What its values mean: the kind expected, if any was.
    pub kind: Kind,
    /// The type in which it comes, one of those listed at [`Scan`].
    pub data_type: DataType,
}

/// A column of the file that is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: SkipReason,
}

/// Why a column is left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SkipReason {
    /// No [`Kind`] stands for its type: lists, structs, bytes, times of day and the like.
    Unsupported {
        /// The Arrow type.
        found: String,
    },
    /// Kinds were expected, and none of it.
    Unexpected,
}

impl fmt::Display for SkipReason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unsupported { found } => write!(f, "its type {found} is not supported"),
            Self::Unexpected => f.write_str("it was not expected"),
        }
    }
}

/// How far a file has been read. Only the ratio means something: rows are counted in Parquet, in CSV bytes, twice
/// if the file is read twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// What has been read.
    pub done: u64,
    /// What there is; 0 if that is not known, as of a pipe.
    pub total: u64,
}

/// What to read, and how much of it at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanOptions {
    /// The kinds that columns are to have, by name; others are skipped. `None` reads every column in its own kind.
    pub expected: Option<BTreeMap<String, Kind>>,
    /// What parts the fields of a CSV file: an ASCII character.
    pub separator: u8,
    /// Texts that stand for a missing value in CSV, as the empty one always does.
    pub missing: BTreeSet<String>,
    /// Rows of a batch, at most.
    pub batch_rows: usize,
    /// Bytes after which a batch ends early: of the text in CSV, on average over a row group in Parquet.
    pub batch_bytes: usize,
    /// Bytes that one record of a CSV file may have, the blank lines before it included.
    pub record_bytes: usize,
    /// Bytes of a CSV file read at a time.
    pub block_bytes: usize,
    /// Columns that a file may have.
    pub columns: usize,
}

impl Default for ScanOptions {
    fn default() -> Self {
        Self {
            expected: None,
            separator: COMMA,
            missing: BTreeSet::new(),
            batch_rows: 8 * 1024,
            batch_bytes: 32 << 20,
            record_bytes: 16 << 20,
            block_bytes: 256 << 10,
            columns: 4096,
        }
    }
}

impl Scan {
    /// Opens a file: Parquet if it begins like one, else CSV. `watch` is told from time to time how far the pass over a
    /// CSV file is that determines its kinds.
    ///
    /// # Errors
    /// The file cannot be read, or is a pipe that would have to be read twice; damaged Parquet; malformed CSV, found here if kinds are not expected and else when the
    /// row is reached; names unusable or duplicate; too many columns. A file without rows is none, one
    /// of no bytes is.
    pub fn open(path: &Path, options: &ScanOptions, watch: &mut dyn FnMut(Progress)) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::file("open the file"))?;
        let metadata = file.metadata().map_err(Error::file("open the file"))?;
        let mut reader = BufReader::new(file);
        let opening = reader.fill_buf().map_err(Error::file("read the file"))?;
        match (is_parquet(opening), metadata.is_file()) {
            (true, true) => return Self::open_parquet(reader.into_inner(), options),
            (true, false) => return Err(Error::Pipe { operation: "be read from its end, as Parquet takes" }),
            (false, false) if options.expected.is_none() => {
                return Err(Error::Pipe {
                    operation: "be read twice, as finding out the kinds of a CSV file's columns takes",
                });
            }
            (false, _) if opening.starts_with(GZIP) => return Err(Error::Compressed),
            (false, _) => {}
        }
        Self::open_csv(Box::new(reader), metadata.len(), options, watch)
    }

    /// Reads what [`open`](Self::open) would find in a file of these bytes.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn of_bytes(bytes: Bytes, options: &ScanOptions) -> Result<Self, Error> {
        if is_parquet(&bytes) {
            return Self::open_parquet(bytes, options);
        }
        let size = bytes.len() as u64;
        Self::open_csv(Box::new(Cursor::new(bytes)), size, options, &mut |_| ())
    }

    /// The columns that are read, in the order of the file.
    pub fn columns(&self) -> &[ScanColumn] {
        &self.columns
    }

    /// The columns that are not, in the order of the file.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// Values that made text of CSV columns which are numbers nearly throughout, one of each column.
    pub fn strays(&self) -> &[Stray] {
        &self.strays
    }

    /// How far the file has been read.
    pub fn progress(&self) -> Progress {
        match &self.source {
            Source::Parquet(scan) => scan.progress(),
            Source::Csv(scan) => scan.progress(),
        }
    }

    fn open_parquet<R: ChunkReader + 'static>(file: R, options: &ScanOptions) -> Result<Self, Error> {
        let (scan, columns, skipped) = ParquetScan::open(file, options)?;
        Ok(Self { columns, skipped, strays: Vec::new(), source: Source::Parquet(scan), over: false })
    }

    fn open_csv(
        file: Box<dyn Input>,
        size: u64,
        options: &ScanOptions,
        watch: &mut dyn FnMut(Progress),
    ) -> Result<Self, Error> {
        let (scan, chosen) = CsvScan::open(file, size, options, watch)?;
        let Choice { columns, skipped, strays, .. } = chosen;
        Ok(Self { columns, skipped, strays, source: Source::Csv(scan), over: false })
    }
}

impl Iterator for Scan {
    type Item = Result<ScanBatch, Error>;

    fn next(&mut self) -> Option<Self::Item> {
        if self.over {
            return None;
        }
        let batch = match &mut self.source {
            Source::Parquet(scan) => scan.batch(),
            Source::Csv(scan) => scan.batch(),
        };
        self.over = !matches!(batch, Ok(Some(_)));
        batch.transpose()
    }
}

/// How a file compressed with gzip begins.
const GZIP: &[u8] = &[0x1f, 0x8b];

/// Whether the magic bytes of Parquet come first, those of an encrypted file included, and bytes of no text among those after them.
/// The name of a CSV column may begin with the same letters.
fn is_parquet(bytes: &[u8]) -> bool {
    let is_binary = |byte: &u8| byte.is_ascii_control() && !b"\t\r\n".contains(byte);
    (bytes.starts_with(b"PAR1") || bytes.starts_with(b"PARE")) && bytes.iter().any(is_binary)
}

/// The kind a column named `name` is to have, if the options expect any kinds.
fn expectation(options: &ScanOptions, name: &str) -> Expectation {
    match &options.expected {
        None => Expectation::Own,
        Some(kinds) => kinds.get(name).map_or(Expectation::Skip, |&kind| Expectation::Kind(kind)),
    }
}

/// What is wanted of a column.
enum Expectation {
    /// The kind it has.
    Own,
    /// This kind.
    Kind(Kind),
    /// Nothing.
    Skip,
}

fn schema_of(columns: &[ScanColumn]) -> SchemaRef {
    let fields = columns.iter().map(|column| Field::new(&column.name, column.data_type.clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn put_together(schema: &SchemaRef, built: Vec<Built>, rows: usize) -> Result<ScanBatch, Error> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let unparsable = built.iter().map(|column| column.unparsable).collect();
    let (arrays, examples) = built.into_iter().map(|column| (column.array, column.example)).unzip();
    let rows = RecordBatch::try_new_with_options(schema.clone(), arrays, &options);
    Ok(ScanBatch { rows: rows.map_err(Error::arrow("put the columns together"))?, unparsable, examples })
}
