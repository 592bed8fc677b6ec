use arrow::error::ArrowError;
use rekindle_domain::{
    dataset::{AmbiguousEpoch, TimeFormat},
    event_time,
};

/// Why data was refused. Lines count from 1 and include the header; rows count from 0 and exclude it.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A CSV file without content, or with a header only.
    #[error("the CSV file has {what}; provide a header line and at least one row")]
    Empty {
        /// E.g. `no content`.
        what: &'static str,
    },
    /// Bytes that are not UTF-8.
    #[error("line {line} is not UTF-8 (byte {offset} of the file); save the file as UTF-8")]
    NotUtf8 {
        /// The line.
        line: usize,
        /// Offset in the file of the first bad byte.
        offset: usize,
    },
    /// A record with more or fewer fields than the header.
    #[error(
        "line {line} has {got} fields, the header has {expected}; quote fields that contain commas, and keep one \
         field per column (empty for a missing value)"
    )]
    Ragged {
        /// The line on which the record begins.
        line: usize,
        /// Fields in the header.
        expected: usize,
        /// Fields in the record.
        got: usize,
    },
    /// A header that appears to use another delimiter.
    #[error("the header {header:?} is one field; if {found:?} is the field delimiter, set it")]
    Separator {
        /// The delimiter found in it.
        found: char,
        /// The header.
        header: String,
    },
    /// A pipe where a file is needed, which can be read twice or from its end.
    #[error("a pipe cannot {operation}; save it to a file")]
    Pipe {
        /// What was attempted.
        operation: &'static str,
    },
    /// A compressed file that is damaged or cut off.
    #[error("the file is compressed with {compression}, and cannot be decompressed; copy or compress it again")]
    Compressed {
        /// `gzip` or `zstd`.
        compression: &'static str,
        /// The decoder's reason.
        #[source]
        source: std::io::Error,
    },
    /// A Parquet file inside a compressed file.
    #[error("the compressed file is a Parquet file; decompress it, since Parquet is compressed itself")]
    CompressedParquet,
    /// A value of a column of times that is not written as declared.
    #[error("column {column:?}, row {row}: {value:?} is not a time as {format} writes it; {expected}")]
    Time {
        /// The column.
        column: String,
        /// The row.
        row: usize,
        /// The value, cut to 40 characters.
        value: String,
        /// The declared format.
        format: TimeFormat,
        /// What is read.
        expected: &'static str,
    },
    /// Numbers that are to be times since 1970 in an uncertain unit.
    #[error("column {column:?}")]
    Epoch {
        /// The column.
        column: String,
        /// The numbers.
        #[source]
        source: AmbiguousEpoch,
    },
    /// An infinite number, which no request may have.
    #[error(
        "column {column:?}, row {row}: {value} is not a finite number; declare it as missing ({value}), or remove the row"
    )]
    Infinite {
        /// The column.
        column: String,
        /// The row.
        row: usize,
        /// `inf` or `-inf`.
        value: f64,
    },
    /// A time outside of the years 1 to 9999.
    #[error("column {column:?}, row {row}: {problem}")]
    OutOfRange {
        /// The column.
        column: String,
        /// The row.
        row: usize,
        /// The time.
        problem: event_time::OutOfRange,
    },
    /// The time column is in no file, or not in every file.
    #[error("source {index} has no column {column:?}, which orders the rows; its columns are {}", have.join(", "))]
    NoTimeColumn {
        /// The source, counted from 0.
        index: usize,
        /// The time column.
        column: String,
        /// The names of the columns of the source.
        have: Vec<String>,
    },
    /// A quote inside an unquoted field, text after a closing quote, or an unterminated quote.
    #[error("line {line}, field {field}: {problem}; enclose the whole field in quotes and double those inside it")]
    Quote {
        /// The line on which the field begins.
        line: usize,
        /// The field, counted from 1.
        field: usize,
        /// What is wrong.
        problem: &'static str,
    },
    /// A record longer than a scan may hold in memory.
    #[error("line {line}: the record is longer than {limit} bytes; check for an unterminated quote")]
    LongRecord {
        /// The line on which the record begins.
        line: usize,
        /// The limit.
        limit: usize,
    },
    /// A file that could not be opened or read.
    #[error("cannot {operation}")]
    File {
        /// What was attempted.
        operation: &'static str,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// A file that changed between two passes.
    #[error("the file changed while it was read; retry when no process writes to it")]
    Changed,
    /// A temporary file could not be written or read.
    #[error("cannot {operation} a temporary file")]
    Scratch {
        /// What was attempted.
        operation: &'static str,
        /// The reason.
        #[source]
        source: std::io::Error,
    },
    /// A written Parquet file that does not read back as it was written.
    #[error("verification of the written Parquet file failed: {0}")]
    Unverified(String),
    /// An unusable column name.
    #[error("column {position} is named {name:?}: {problem}")]
    ColumnName {
        /// The column, counted from 1.
        position: usize,
        /// Its name.
        name: String,
        /// The problem and its remedy.
        problem: &'static str,
    },
    /// Two columns of one name.
    #[error("columns {first} and {second} are both named {name:?}; rename one")]
    DuplicateColumn {
        /// The name.
        name: String,
        /// The first of the two, counted from 1.
        first: usize,
        /// The second.
        second: usize,
    },
    /// A column that does not exist.
    #[error("column {name:?} does not exist; the columns are {}", have.join(", "))]
    NoColumn {
        /// The requested name.
        name: String,
        /// The names of the columns.
        have: Vec<String>,
    },
    /// A type without canonical form.
    #[error("column {column:?} has type {found}, which is not supported; {fix}")]
    Unsupported {
        /// The column.
        column: String,
        /// Its Arrow type.
        found: String,
        /// The remedy.
        fix: &'static str,
    },
    /// A column of another type than the operation requires.
    #[error("column {column:?} is {found}; expected {expected}")]
    Type {
        /// The column.
        column: String,
        /// Its type.
        found: &'static str,
        /// The required type.
        expected: &'static str,
    },
    /// A value that another type cannot hold unchanged.
    #[error("column {column:?}, row {row}: {value} cannot be converted to {to} without loss")]
    Lossy {
        /// The column.
        column: String,
        /// The row.
        row: usize,
        /// The value.
        value: String,
        /// The target type.
        to: &'static str,
    },
    /// A missing event time.
    #[error("column {column:?}, row {row}: the time is missing; remove the row or set its time")]
    MissingTime {
        /// The column.
        column: String,
        /// The row.
        row: usize,
    },
    /// No tables, or tables without a common column.
    #[error("cannot concatenate: {0}")]
    Concat(&'static str),
    /// More than the limits allow.
    #[error("more than {limit} {what}; split the data")]
    TooLarge {
        /// Rows, columns or bytes.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// More text in one column than a table holds.
    #[error("column {column:?} has more than 2 GiB of text; ignore the column, or split the data")]
    TooMuchText {
        /// The column.
        column: String,
    },
    /// A file that is damaged or not Parquet.
    #[error("cannot read the Parquet file")]
    Parquet(#[source] parquet::errors::ParquetError),
    /// Parquet that could not be written.
    #[error("cannot write Parquet")]
    WriteParquet(#[source] parquet::errors::ParquetError),
    /// Arrow refused an operation on well-formed data, e.g. text beyond 2 GiB in one column.
    #[error("cannot {operation}")]
    Arrow {
        /// What was attempted.
        operation: &'static str,
        /// Arrow's reason.
        #[source]
        source: ArrowError,
    },
    /// An invalid prediction log message.
    #[error("invalid prediction log message: {0}")]
    Log(String),
    /// A prediction log message larger than the bus accepts.
    #[error("a prediction log message of {rows} rows has {bytes} bytes, the limit is {limit}; send fewer rows")]
    LogTooLarge {
        /// Rows of the message.
        rows: usize,
        /// Encoded size.
        bytes: usize,
        /// The limit.
        limit: usize,
    },
}

impl Error {
    /// Adds the operation to Arrow's error; for `map_err`.
    pub(crate) fn arrow(operation: &'static str) -> impl FnOnce(ArrowError) -> Self {
        move |source| Self::Arrow { operation, source }
    }

    /// Adds the operation to an I/O error of an input file; for `map_err`.
    pub(crate) fn file(operation: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File { operation, source }
    }

    /// Adds the operation to an I/O error of a temporary file; for `map_err`.
    pub(crate) fn scratch(operation: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::Scratch { operation, source }
    }

    /// Counts rows from the start of the data, where they were counted from row `start`.
    pub(crate) fn after_rows(self, start: u64) -> Self {
        let start = usize::try_from(start).unwrap_or(usize::MAX);
        match self {
            Self::Infinite { column, row, value } => Self::Infinite { column, row: row.saturating_add(start), value },
            Self::OutOfRange { column, row, problem } => {
                Self::OutOfRange { column, row: row.saturating_add(start), problem }
            }
            Self::Time { column, row, value, format, expected } => {
                Self::Time { column, row: row.saturating_add(start), value, format, expected }
            }
            Self::Lossy { column, row, value, to } => Self::Lossy { column, row: row.saturating_add(start), value, to },
            Self::MissingTime { column, row } => Self::MissingTime { column, row: row.saturating_add(start) },
            other => other,
        }
    }
}
