use std::hash::Hasher as _;

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _},
    datatypes::{DataType, Float64Type, Int64Type, TimestampMillisecondType},
};
use rekindle_domain::Digest;
use sha2::{Digest as _, Sha256};
use twox_hash::XxHash3_64;

use crate::{Table, normalise::canonical_bits};

/// Rows encoded at a time, so that the encoding of a large table takes little memory.
const ROWS: usize = 8 * 1024;

/// SHA-256 over a table's canonical content: column names, types and values, in order. It does not depend on file format,
/// compression and chunking; it depends on the order of rows and of columns.
///
/// Hashed are, integers being little-endian:
/// 1. the 17 bytes `rekindle-table/1\n`;
/// 2. the number of columns and the number of rows, each as u64;
/// 3. for every column:
///    - the length of its name in bytes as u64, and the name in UTF-8;
///    - one byte for its type: 1 Int64, 2 Float64, 3 Boolean, 4 Utf8, 5 Timestamp;
///    - for every row one byte: 0 if the value is missing, else 1 followed by the value: Int64 and Timestamp
///      (milliseconds since 1970, UTC) as i64; Float64 as its IEEE 754 bits, every NaN as
///      `0x7ff8000000000000`, with 0.0 and -0.0 distinct; Boolean as one byte 0 or 1; Utf8 as its length in bytes as
///      u64, and the bytes.
///
/// Every part is either of fixed size or preceded by its length, so no two tables hash the same bytes.
pub fn content_digest(table: &Table) -> Digest {
    let mut hasher = ContentHasher::new(table.batch.num_columns(), table.rows() as u64);
    let mut encoded = Vec::new();
    for (column, array) in table.schema.columns.iter().zip(table.batch.columns()) {
        hasher.begin_column(&column.name, array.data_type());
        for start in (0..array.len()).step_by(ROWS) {
            encoded.clear();
            encode_values(&array.slice(start, ROWS.min(array.len() - start)), &mut encoded);
            hasher.add_values(&encoded);
        }
    }
    hasher.finish()
}

/// [`content_digest`] of a table that is read column by column: for each column [`begin_column`](Self::begin_column), then its
/// values in order.
pub(crate) struct ContentHasher(Sha256);

impl ContentHasher {
    pub(crate) fn new(columns: usize, rows: u64) -> Self {
        let mut sha = Sha256::new();
        sha.update(b"rekindle-table/1\n");
        sha.update((columns as u64).to_le_bytes());
        sha.update(rows.to_le_bytes());
        Self(sha)
    }

    pub(crate) fn begin_column(&mut self, name: &str, data_type: &DataType) {
        self.0.update((name.len() as u64).to_le_bytes());
        self.0.update(name.as_bytes());
        self.0.update([type_tag(data_type)]);
    }

    /// Adds what [`encode_values`] wrote.
    pub(crate) fn add_values(&mut self, encoded: &[u8]) {
        self.0.update(encoded);
    }

    pub(crate) fn finish(self) -> Digest {
        Digest::from_bytes(self.0.finalize().into())
    }
}

/// A checksum of one column's values, to compare what was written with what is read back.
pub(crate) struct Checksum(XxHash3_64);

impl Checksum {
    pub(crate) fn new() -> Self {
        Self(XxHash3_64::new())
    }

    /// Adds what [`encode_values`] wrote.
    pub(crate) fn add_values(&mut self, encoded: &[u8]) {
        self.0.write(encoded);
    }

    pub(crate) fn finish(&self) -> u64 {
        self.0.finish()
    }
}

fn type_tag(data_type: &DataType) -> u8 {
    match data_type {
        DataType::Int64 => 1,
        DataType::Float64 => 2,
        DataType::Boolean => 3,
        DataType::Utf8 => 4,
        _ => 5,
    }
}

/// Appends the values of a canonical column as [`content_digest`] hashes them.
pub(crate) fn encode_values(array: &ArrayRef, into: &mut Vec<u8>) {
    match array.data_type() {
        DataType::Int64 => {
            let values = array.as_primitive::<Int64Type>();
            encode_rows(array, into, |row, into| into.extend_from_slice(&values.value(row).to_le_bytes()));
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            encode_rows(array, into, |row, into| {
                into.extend_from_slice(&canonical_bits(values.value(row)).to_le_bytes());
            });
        }
        DataType::Boolean => {
            let values = array.as_boolean();
            encode_rows(array, into, |row, into| into.push(u8::from(values.value(row))));
        }
        DataType::Utf8 => {
            let values = array.as_string::<i32>();
            encode_rows(array, into, |row, into| {
                let text = values.value(row);
                into.extend_from_slice(&(text.len() as u64).to_le_bytes());
                into.extend_from_slice(text.as_bytes());
            });
        }
        _ => {
            let values = array.as_primitive::<TimestampMillisecondType>();
            encode_rows(array, into, |row, into| into.extend_from_slice(&values.value(row).to_le_bytes()));
        }
    }
}

fn encode_rows(array: &ArrayRef, into: &mut Vec<u8>, value: impl Fn(usize, &mut Vec<u8>)) {
    for row in 0..array.len() {
        let present = array.is_valid(row);
        into.push(u8::from(present));
        if present {
            value(row, into);
        }
    }
}
