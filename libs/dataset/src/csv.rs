//! CSV as RFC 4180 has it, strictly.
//!
//! Fields are separated by commas, lines end in LF or CRLF, the first line is the header. A field may be
//! enclosed in double quotes, inside which a quote is doubled and commas and line ends stand for themselves.
//! An empty field, quoted or not, is a missing value. A byte order mark is skipped. Blank lines at
//! the end are ignored.
//!
//! A column's type is the narrowest that holds every value of every row: Int64, Float64, Boolean, Timestamp,
//! else Utf8. A column without any value is Utf8. Digits with a leading zero are codes, not numbers, and so stay text,
//! as do integers too large for their type.

mod infer;
mod records;

use bytes::Bytes;

pub(crate) use infer::{
    Narrowest, is_whole_number, parse_boolean, parse_float, parse_integer, parse_number, parse_timestamp,
};
pub(crate) use records::{COMMA, Records};

use crate::{Error, Limits, Table, schema::check_names};

/// Reads a CSV file within the default [`Limits`].
///
/// # Errors
/// Malformed input, with the line, the column and the remedy.
pub fn read_csv(bytes: Bytes) -> Result<Table, Error> {
    read_csv_within(bytes, &Limits::default())
}

/// Reads a CSV file.
///
/// # Errors
/// As [`read_csv`], and input beyond the limits.
pub fn read_csv_within(bytes: Bytes, limits: &Limits) -> Result<Table, Error> {
    if bytes.len() > limits.bytes.min(i32::MAX as usize) {
        return Err(Error::TooLarge { what: "bytes", limit: limits.bytes });
    }
    let text = records::utf8(&bytes)?;
    if text.trim().is_empty() {
        return Err(Error::Empty { what: "nothing in it" });
    }
    let mut reader = records::Records::new(text);
    let mut header = Vec::new();
    reader.next_into(&mut header)?;
    if header.len() > limits.columns {
        return Err(Error::TooLarge { what: "columns", limit: limits.columns });
    }
    check_names(header.iter().map(AsRef::as_ref))?;
    let columns = records::columns(&mut reader, header.len(), limits.rows)?;
    let rows = columns[0].len();
    if rows == 0 {
        return Err(Error::Empty { what: "no rows after the header" });
    }
    let typed = columns.iter().map(|fields| infer::typed(fields));
    Table::from_columns(header.iter().map(ToString::to_string).zip(typed).collect(), rows)
}
