use arrow::{
    array::{Array as _, ArrayRef, AsArray as _},
    datatypes::{DataType, Float64Type, Int64Type, TimestampMillisecondType},
};
use rekindle_domain::Digest;
use sha2::{Digest as _, Sha256};

use crate::{Table, normalise::canonical_bits};

/// SHA-256 over a table's canonical content: column names, types and values, in order. File format, compression
/// and chunking do not enter it; the order of rows and of columns does.
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
    let mut hasher = Hasher::new();
    hasher.bytes(b"rekindle-table/1\n");
    hasher.count(table.batch.num_columns());
    hasher.count(table.rows());
    for (column, array) in table.schema.columns.iter().zip(table.batch.columns()) {
        hasher.text(&column.name);
        hash_column(&mut hasher, array);
    }
    hasher.finish()
}

fn hash_column(hasher: &mut Hasher, array: &ArrayRef) {
    match array.data_type() {
        DataType::Int64 => {
            let values = array.as_primitive::<Int64Type>();
            hash_rows(hasher, 1, array, |hasher, row| hasher.bytes(&values.value(row).to_le_bytes()));
        }
        DataType::Float64 => {
            let values = array.as_primitive::<Float64Type>();
            hash_rows(hasher, 2, array, |hasher, row| {
                hasher.bytes(&canonical_bits(values.value(row)).to_le_bytes());
            });
        }
        DataType::Boolean => {
            let values = array.as_boolean();
            hash_rows(hasher, 3, array, |hasher, row| hasher.bytes(&[u8::from(values.value(row))]));
        }
        DataType::Utf8 => {
            let values = array.as_string::<i32>();
            hash_rows(hasher, 4, array, |hasher, row| hasher.text(values.value(row)));
        }
        _ => {
            let values = array.as_primitive::<TimestampMillisecondType>();
            hash_rows(hasher, 5, array, |hasher, row| hasher.bytes(&values.value(row).to_le_bytes()));
        }
    }
}

fn hash_rows(hasher: &mut Hasher, tag: u8, array: &ArrayRef, value: impl Fn(&mut Hasher, usize)) {
    hasher.bytes(&[tag]);
    for row in 0..array.len() {
        let present = array.is_valid(row);
        hasher.bytes(&[u8::from(present)]);
        if present {
            value(hasher, row);
        }
    }
}

/// SHA-256 fed in large pieces: feeding it value by value costs several times more.
struct Hasher {
    sha: Sha256,
    buffer: Vec<u8>,
}

impl Hasher {
    const PIECE: usize = 64 * 1024;

    fn new() -> Self {
        Self { sha: Sha256::new(), buffer: Vec::with_capacity(2 * Self::PIECE) }
    }

    fn bytes(&mut self, bytes: &[u8]) {
        self.buffer.extend_from_slice(bytes);
        if self.buffer.len() >= Self::PIECE {
            self.sha.update(&self.buffer);
            self.buffer.clear();
        }
    }

    fn count(&mut self, count: usize) {
        self.bytes(&(count as u64).to_le_bytes());
    }

    fn text(&mut self, text: &str) {
        self.count(text.len());
        self.bytes(text.as_bytes());
    }

    fn finish(mut self) -> Digest {
        self.sha.update(&self.buffer);
        Digest::from_bytes(self.sha.finalize().into())
    }
}
