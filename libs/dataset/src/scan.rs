//! Reading files of any size, batch by batch.
//!
//! Memory is bounded by [`ScanOptions`], not by the file: a CSV scan holds one block of text and one batch, a Parquet scan
//! one page of each column and one batch.

mod blocks;
mod builder;
mod compact;
mod compressed;
mod csv;
mod footer;
mod missing;
mod page;
mod pages;
mod parquet;

use std::{
    collections::BTreeMap,
    fmt,
    fs::File,
    io::{BufRead as _, BufReader, Cursor, Read as _, Seek},
    path::Path,
    sync::Arc,
};

use ::parquet::file::reader::ChunkReader;
use arrow::{
    array::{RecordBatch, RecordBatchOptions},
    datatypes::{DataType, Field, Schema, SchemaRef},
};
use bytes::Bytes;
use rekindle_domain::{
    ColumnKind,
    dataset::{FileFormat, ReadOptions},
};

pub(crate) use self::blocks::Input;
use self::{
    builder::Built,
    compressed::{Compressed, Compression},
    csv::{Choice, CsvScan},
    missing::Missing,
    parquet::ParquetScan,
};
use crate::{Error, Note};

/// A file being read from its first row to its last, as an iterator over [`ScanBatch`]es. It ends after an error.
///
/// With [`Types::Stored`] columns have the types that are cheapest to read, with [`Types::Canonical`] one of five:
///
/// | kind | Parquet | CSV | canonical |
/// |---|---|---|---|
/// | numeric | `Int8` to `Int64`, `UInt8` to `UInt64`, `Float32`, `Float64`, as stored; half floats as `Float32`, decimals without a fraction as `Int64`, and others as the nearest `Float64` | `Int64` or `Float64`; `Float64` if the kind was expected | `Int64` or `Float64` |
/// | categorical | `Dictionary(Int32, Utf8)` | the same | `Utf8` |
/// | timestamp | `Timestamp(Millisecond, None)` in UTC | the same | the same |
/// | boolean | `Boolean` | the same | the same |
///
/// A missing value is null, and so are NaN and the values that were declared missing. The infinities are values. A dictionary may contain a value that no row
/// has, or one value twice; only the keys of valid rows count. Consecutive batches of a Parquet file mostly share one
/// dictionary, which may be larger than the batch.
///
/// Without expected kinds the types are inferred from all values of a CSV file. This takes a separate pass over the file, which
/// must therefore not be a pipe.
///
/// With expected kinds a column always has the kind expected. Where the file has another, or is CSV, each value
/// is parsed from its text: one that does not parse is null, and counted in
/// [`ScanBatch::unparsable`]. Numbers parse as [`read_csv`](crate::read_csv) parses them, integers
/// beyond 2^53 being rounded to the nearest `Float64`. Any value is a category.
pub struct Scan {
    columns: Vec<ScanColumn>,
    skipped: Vec<Skipped>,
    notes: Vec<Note>,
    source: Source,
    over: bool,
}

enum Source {
    Parquet(Box<ParquetScan>),
    Csv(Box<CsvScan>),
}

/// Some rows of a file.
#[derive(Debug, Clone)]
pub struct ScanBatch {
    /// At least one row, with the columns of [`Scan::columns`] in their order.
    pub rows: RecordBatch,
    /// For every column the number of values that do not parse as the expected kind; they are among the nulls of `rows`.
    pub unparsable: Vec<u64>,
    /// For every column the first of those values, cut to 40 characters.
    pub examples: Vec<Option<String>>,
}

/// A column that is read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanColumn {
    /// Unique in the file, and not empty.
    pub name: String,
    /// The expected kind, if there is one, else the column's own.
    pub kind: ColumnKind,
    /// The type of its arrays, one of those listed at [`Scan`].
    pub data_type: DataType,
    /// Whether the file is known to have no value in it: its type means nothing.
    pub is_empty: bool,
}

/// A column of the file that is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Skipped {
    /// Its name.
    pub name: String,
    /// Why.
    pub reason: SkipReason,
}

/// Why a column is not read.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum SkipReason {
    /// No [`ColumnKind`] fits its type: lists, structs, bytes, times of day and the like.
    Unsupported {
        /// The Arrow type.
        found: String,
    },
    /// Kinds were expected, and this column is not among them.
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

/// How far a file has been read. Only the ratio is meaningful: the unit is rows for Parquet and bytes for CSV, which count twice
/// if the file is read twice.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Progress {
    /// Units read.
    pub done: u64,
    /// All units; 0 if unknown, as for a pipe.
    pub total: u64,
}

/// The types in which a scan returns columns.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub enum Types {
    /// The cheapest to read. Columns of other types are skipped.
    #[default]
    Stored,
    /// The canonical types of a [`Table`](crate::Table). Columns of other types are an error, and so is a value that the canonical type
    /// cannot hold.
    Canonical,
}

/// What to read, and how much at a time.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct ScanOptions {
    /// The expected kinds, by column; other columns are skipped. `None` reads every column in its own kind.
    pub expected: Option<BTreeMap<String, ColumnKind>>,
    /// The types of the arrays returned.
    pub types: Types,
    /// How values are read. With expected kinds a column is a timestamp if its kind is, and not by its time format.
    pub reading: ReadOptions,
    /// Rows of a batch, at most.
    pub batch_rows: usize,
    /// Bytes after which a batch ends: of its text for CSV; for Parquet of its values in canonical types, else the average
    /// over a row group.
    pub batch_bytes: usize,
    /// Bytes of one CSV record, at most, including blank lines before it.
    pub record_bytes: usize,
    /// Bytes of the text of a CSV file, at most, decompressed.
    pub text_bytes: usize,
    /// Bytes of one Parquet page, at most, uncompressed. A page is decompressed as a whole.
    pub page_bytes: usize,
    /// Bytes of a CSV file read at a time.
    pub block_bytes: usize,
    /// Columns of a file, at most.
    pub columns: usize,
}

impl Default for ScanOptions {
    fn default() -> Self {
        Self {
            expected: None,
            types: Types::Stored,
            reading: ReadOptions::default(),
            batch_rows: 8 * 1024,
            batch_bytes: 32 << 20,
            record_bytes: 16 << 20,
            text_bytes: usize::MAX,
            page_bytes: 1 << 30,
            block_bytes: 256 << 10,
            columns: 4096,
        }
    }
}

impl Scan {
    /// Opens a file: as Parquet if it begins like one, else as CSV, which gzip or zstd may compress. `watch` is called from time to time with the progress of the
    /// pass that infers the types of a CSV file.
    ///
    /// # Errors
    /// A file that cannot be read, or a pipe that would have to be read twice; damaged Parquet; malformed CSV, found here without
    /// expected kinds and otherwise when the row is reached; unusable or duplicate names; too many columns. A file without
    /// rows is no error, an empty one is.
    pub fn open(path: &Path, options: &ScanOptions, watch: &mut dyn FnMut(Progress)) -> Result<Self, Error> {
        let file = File::open(path).map_err(Error::file("open the file"))?;
        let metadata = file.metadata().map_err(Error::file("open the file"))?;
        let mut reader = BufReader::new(file);
        let opening = reader.fill_buf().map_err(Error::file("read the file"))?;
        match (is_parquet(opening), metadata.is_file()) {
            (true, true) => return Self::open_parquet(reader.into_inner(), options),
            (true, false) => return Err(Error::Pipe { operation: "be read as Parquet, whose metadata is at the end" }),
            (false, false) if options.expected.is_none() => {
                return Err(Error::Pipe {
                    operation: "be read twice, which inferring the types of a CSV file requires",
                });
            }
            (false, _) => {}
        }
        let opening = opening.to_vec();
        Self::open_csv(text_of(reader, &opening), metadata.len(), options, watch)
    }

    /// Reads bytes as [`open`](Self::open) reads a file.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn of_bytes(bytes: Bytes, options: &ScanOptions) -> Result<Self, Error> {
        let format = if is_parquet(&bytes) { FileFormat::Parquet } else { FileFormat::Csv };
        Self::of_bytes_in(bytes, format, options)
    }

    /// Reads bytes in a known format.
    ///
    /// # Errors
    /// As [`open`](Self::open).
    pub fn of_bytes_in(bytes: Bytes, format: FileFormat, options: &ScanOptions) -> Result<Self, Error> {
        let size = bytes.len() as u64;
        match format {
            FileFormat::Parquet => Self::open_parquet(bytes, options),
            FileFormat::Csv => Self::open_csv(text_of(Cursor::new(bytes.clone()), &bytes), size, options, &mut |_| ()),
        }
    }

    /// Reads an input in a known format.
    pub(crate) fn of_input(
        mut input: impl Input + Seek + ChunkReader + 'static,
        format: FileFormat,
        options: &ScanOptions,
    ) -> Result<Self, Error> {
        let size = input.len();
        match format {
            FileFormat::Parquet => Self::open_parquet(input, options),
            FileFormat::Csv => {
                let mut opening = Vec::new();
                input.by_ref().take(OPENING).read_to_end(&mut opening).map_err(Error::file("read the file"))?;
                input.restart().map_err(Error::file("read the file"))?;
                Self::open_csv(text_of(input, &opening), size, options, &mut |_| ())
            }
        }
    }

    /// The columns that are read, in the order of the file.
    pub fn columns(&self) -> &[ScanColumn] {
        &self.columns
    }

    /// The columns that are not read, in the order of the file.
    pub fn skipped(&self) -> &[Skipped] {
        &self.skipped
    }

    /// What a person should know about how the columns are read.
    pub fn notes(&self) -> &[Note] {
        &self.notes
    }

    /// The least and the greatest number of a numeric column, by index, if they are known before the rows are read.
    pub(crate) fn range(&self, column: usize) -> Option<(f64, f64)> {
        match &self.source {
            Source::Parquet(_) => None,
            Source::Csv(scan) => scan.range(column),
        }
    }

    /// Reads these columns of a CSV file as text, as the file spells them. In a Parquet file values have no other spelling. To be called
    /// before the first batch is read.
    pub(crate) fn read_as_text(&mut self, is_text: impl Fn(&str) -> bool) {
        let Source::Csv(scan) = &mut self.source else { return };
        for column in self.columns.iter_mut().filter(|column| is_text(&column.name)) {
            (column.kind, column.data_type) = (ColumnKind::Categorical, DataType::Utf8);
        }
        scan.set_types(&self.columns);
    }

    /// The number of rows, if it is known before they are read: as the metadata of a Parquet file declares it, or as the pass that
    /// inferred the types of a CSV file counted it.
    pub fn declared_rows(&self) -> Option<u64> {
        match &self.source {
            Source::Parquet(scan) => Some(scan.progress().total),
            Source::Csv(scan) => scan.declared_rows(),
        }
    }

    /// How far the file has been read.
    pub fn progress(&self) -> Progress {
        match &self.source {
            Source::Parquet(scan) => scan.progress(),
            Source::Csv(scan) => scan.progress(),
        }
    }

    fn open_parquet<R: ChunkReader + 'static>(file: R, options: &ScanOptions) -> Result<Self, Error> {
        let (scan, chosen) = ParquetScan::open(file, options)?;
        let Choice { columns, skipped, notes, .. } = chosen;
        Ok(Self { columns, skipped, notes, source: Source::Parquet(Box::new(scan)), over: false })
    }

    fn open_csv(
        file: Box<dyn Input>,
        size: u64,
        options: &ScanOptions,
        watch: &mut dyn FnMut(Progress),
    ) -> Result<Self, Error> {
        let (scan, chosen) = CsvScan::open(file, size, options, watch)?;
        let Choice { columns, skipped, notes, .. } = chosen;
        Ok(Self { columns, skipped, notes, source: Source::Csv(Box::new(scan)), over: false })
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

/// The text of an input that begins with these bytes, decompressed if it is compressed.
fn text_of(input: impl Input + Seek + 'static, opening: &[u8]) -> Box<dyn Input> {
    match Compression::of(opening) {
        Some(compression) => Box::new(Compressed::new(input, compression)),
        None => Box::new(input),
    }
}

/// Bytes at the start of a file that tell its compression.
const OPENING: u64 = 4;

/// Whether bytes begin with the magic number of Parquet, or of an encrypted Parquet file, and are not text. The name of a CSV column
/// may begin with the same letters.
fn is_parquet(bytes: &[u8]) -> bool {
    let is_binary = |byte: &u8| byte.is_ascii_control() && !b"\t\r\n".contains(byte);
    (bytes.starts_with(b"PAR1") || bytes.starts_with(b"PARE")) && bytes.iter().any(is_binary)
}

/// The kind that the options expect of a column.
fn expectation(options: &ScanOptions, name: &str) -> Expectation {
    match &options.expected {
        None => Expectation::Own,
        Some(kinds) => kinds.get(name).map_or(Expectation::Skip, |&kind| Expectation::Kind(kind)),
    }
}

/// How a column is to be read.
enum Expectation {
    /// In its own kind.
    Own,
    /// In this kind.
    Kind(ColumnKind),
    /// Not at all.
    Skip,
}

fn schema_of(columns: &[ScanColumn]) -> SchemaRef {
    let fields = columns.iter().map(|column| Field::new(&column.name, column.data_type.clone(), true));
    Arc::new(Schema::new(fields.collect::<Vec<_>>()))
}

fn assemble(schema: &SchemaRef, built: Vec<Built>, rows: usize, missing: &Missing) -> Result<ScanBatch, Error> {
    let options = RecordBatchOptions::new().with_row_count(Some(rows));
    let unparsable = built.iter().map(|column| column.unparsable).collect();
    let (arrays, examples): (Vec<_>, _) = built.into_iter().map(|column| (column.array, column.example)).unzip();
    let arrays = arrays.into_iter().map(|array| missing.unified(array)).collect::<Result<Vec<_>, Error>>()?;
    let rows = RecordBatch::try_new_with_options(schema.clone(), arrays, &options);
    Ok(ScanBatch { rows: rows.map_err(Error::arrow("assemble the columns"))?, unparsable, examples })
}
