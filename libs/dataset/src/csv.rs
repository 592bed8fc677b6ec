//! The grammar of CSV, as RFC 4180 has it, strictly, and the types of its values.
//!
//! Fields are separated by commas, lines end in LF or CRLF, the first line is the header. A field may be
//! enclosed in double quotes, inside which a quote is doubled and commas and line ends are literal.
//! An empty field, quoted or not, is a missing value. A byte order mark is skipped. Blank lines at
//! the end are ignored.
//!
//! A column's type is the narrowest that holds every value of every row: Int64, Float64, Boolean, Timestamp,
//! else Utf8. A column without any value is Utf8. Digits with a leading zero are codes, not numbers, and so stay text,
//! as do integers too large for their type.

mod infer;
mod records;
mod strays;
mod times;

pub use strays::Spelling;

pub(crate) use infer::{Narrowest, is_whole_number, parse_boolean, parse_float, parse_integer, parse_number};
pub(crate) use records::Records;
pub(crate) use strays::TextReason;
pub(crate) use times::{SPELLINGS, expected, looks_like_time, parse_time, parse_timestamp};
