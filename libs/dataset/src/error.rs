use arrow::error::ArrowError;

/// Why data was refused. Lines count from 1 and include the header; rows count from 0 and do not.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// No bytes, or a header alone.
    #[error("the CSV file has {what}; give a header line and at least one row")]
    Empty {
        /// What was missing.
        what: &'static str,
    },
    /// Bytes that are not text.
    #[error("line {line} is not UTF-8 (byte {offset} of the file); save the file as UTF-8")]
    NotUtf8 {
        /// The line.
        line: usize,
        /// Offset in the file of the first bad byte.
        offset: usize,
    },
    /// A row with more or fewer fields than the header.
    #[error(
        "line {line} has {got} fields, the header has {expected}; quote fields that contain commas, and keep one \
         field per column (empty for a missing value)"
    )]
    Ragged {
        /// The line on which the row begins.
        line: usize,
        /// Fields in the header.
        expected: usize,
        /// Fields in the row.
        got: usize,
    },
    /// A header that seems to be parted by something else.
    #[error("the header {header:?} is one field; if {found:?} parts the fields, say that it is the separator")]
    Separator {
        /// What stands in it.
        found: char,
        /// The header.
        header: String,
    },
    /// A file that has to be read twice, or not from its start, but can only be read on.
    #[error("a pipe cannot {operation}; save it to a file")]
    Pipe {
        /// What was being done.
        operation: &'static str,
    },
    /// A file in a format that is none of those read.
    #[error("the file is compressed with gzip; decompress it first, or save it as Parquet, which is compressed itself")]
    Compressed,
    /// A quote where none may stand, or one that never ends.
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
    #[error("line {line}: the record is longer than {limit} bytes; is a quote left open?")]
    LongRecord {
        /// The line on which the record begins.
        line: usize,
        /// The limit.
        limit: usize,
    },
    /// A file that could not be opened or read.
    #[error("cannot {operation}")]
    File {
        /// What was being done.
        operation: &'static str,
        /// The system's reason.
        #[source]
        source: std::io::Error,
    },
    /// A file that was not the same when it was read a second time.
    #[error("the file changed while it was read; run again when nothing writes to it")]
    Changed,
    /// A column name that cannot be used.
    #[error("column {position} is named {name:?}: {problem}")]
    ColumnName {
        /// The column, counted from 1.
        position: usize,
        /// Its name.
        name: String,
        /// What is wrong and what to do.
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
    /// A column that the table does not have.
    #[error("there is no column {name:?}; the table has {}", have.join(", "))]
    NoColumn {
        /// The name asked for.
        name: String,
        /// The names there are.
        have: Vec<String>,
    },
    /// A type that no canonical type can stand for.
    #[error("column {column:?} has type {found}, which is not supported; {fix}")]
    Unsupported {
        /// The column.
        column: String,
        /// Its Arrow type.
        found: String,
        /// What to do.
        fix: &'static str,
    },
    /// A column of another type than the operation needs.
    #[error("column {column:?} is {found}; expected {expected}")]
    Type {
        /// The column.
        column: String,
        /// The type it has.
        found: &'static str,
        /// The type needed.
        expected: &'static str,
    },
    /// A value that would change if it were brought to the type wanted.
    #[error("column {column:?}, row {row}: {value} cannot become {to} without loss")]
    Lossy {
        /// The column.
        column: String,
        /// The row.
        row: usize,
        /// The value.
        value: String,
        /// The type wanted.
        to: &'static str,
    },
    /// A missing value where none may be.
    #[error("column {column:?}, row {row}: the time is missing; remove the row or fill it in")]
    MissingTime {
        /// The column.
        column: String,
        /// The row.
        row: usize,
    },
    /// Tables that have nothing in common, or none at all.
    #[error("cannot put tables one after the other: {0}")]
    Concat(&'static str),
    /// More than the limits allow.
    #[error("the table has more than {limit} {what}; split it")]
    TooLarge {
        /// Rows, columns or bytes.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// A file that is not Parquet, or a damaged one.
    #[error("cannot read the Parquet file")]
    Parquet(#[source] parquet::errors::ParquetError),
    /// Parquet that could not be written.
    #[error("cannot write Parquet")]
    WriteParquet(#[source] parquet::errors::ParquetError),
    /// Arrow refused an operation on well-formed data, e.g. text beyond 2 GiB in one column.
    #[error("cannot {operation}")]
    Arrow {
        /// What was being done.
        operation: &'static str,
        /// Arrow's reason.
        #[source]
        source: ArrowError,
    },
    /// A prediction log message that is not one.
    #[error("not a prediction log message: {0}")]
    Log(String),
    /// A prediction log message over the bus's bound.
    #[error("{rows} rows make a prediction log message of {bytes} bytes, over the {limit} allowed; send fewer rows")]
    LogTooLarge {
        /// Rows given.
        rows: usize,
        /// Encoded size.
        bytes: usize,
        /// The bound.
        limit: usize,
    },
}

impl Error {
    /// Wraps Arrow's error with what was being done; for `map_err`.
    pub(crate) fn arrow(operation: &'static str) -> impl FnOnce(ArrowError) -> Self {
        move |source| Self::Arrow { operation, source }
    }

    /// Wraps the system's error with what was being done; for `map_err`.
    pub(crate) fn file(operation: &'static str) -> impl FnOnce(std::io::Error) -> Self {
        move |source| Self::File { operation, source }
    }
}
