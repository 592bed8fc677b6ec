use std::sync::atomic::{AtomicUsize, Ordering};

use ::parquet::{
    basic::{Encoding, Type as PhysicalType},
    column::page::Page,
    errors::ParquetError,
    schema::types::ColumnDescriptor,
};

use super::{compact::Compact, pages::damaged};

/// What the pages of a column may claim.
pub(super) struct Claims {
    /// Bytes of a value of a dictionary at least.
    value_bytes: usize,
    max_repetition: i16,
    max_definition: i16,
}

impl Claims {
    pub(super) fn new(column: &ColumnDescriptor) -> Self {
        let value_bytes = match column.physical_type() {
            PhysicalType::BOOLEAN => 1,
            // Text begins with its length.
            PhysicalType::INT32 | PhysicalType::FLOAT | PhysicalType::BYTE_ARRAY => 4,
            PhysicalType::INT64 | PhysicalType::DOUBLE => 8,
            PhysicalType::INT96 => 12,
            PhysicalType::FIXED_LEN_BYTE_ARRAY => usize::try_from(column.type_length()).unwrap_or(0).max(1),
        };
        Self { value_bytes, max_repetition: column.max_rep_level(), max_definition: column.max_def_level() }
    }

    /// Checks what the decoder allocates for at once: the values of a dictionary, and lengths of texts. Returns the bytes that the page
    /// takes, decoded; `limit` is the most that they may be.
    pub(super) fn check(&self, page: &Page, limit: usize) -> Result<usize, ParquetError> {
        let bytes = page.buffer().len();
        if let Page::DictionaryPage { num_values, .. } = page {
            if *num_values as usize > bytes / self.value_bytes {
                return Err(damaged("a dictionary page has fewer values than its header states"));
            }
            return Ok(bytes);
        }
        let texts = match page.encoding() {
            Encoding::DELTA_LENGTH_BYTE_ARRAY => self.lengths(page, 1, limit)?,
            Encoding::DELTA_BYTE_ARRAY => self.lengths(page, 2, limit)?,
            _ => return Ok(bytes),
        };
        if texts > limit {
            return Err(ParquetError::General(format!(
                "the texts of a page take {texts} bytes or more, the limit is {limit}: write the file with smaller pages"
            )));
        }
        Ok(texts.max(bytes))
    }

    /// The bytes of the texts of a page that begins with lists of lengths, and of the lengths. Beyond the limit they are not counted on.
    fn lengths(&self, page: &Page, lists: usize, limit: usize) -> Result<usize, ParquetError> {
        let damaged = || damaged("the lengths of texts are cut off, or more than the values of their page");
        let lengths = page.num_values() as usize * size_of::<i32>();
        if lengths > limit {
            return Ok(lengths);
        }
        let mut values = Compact::new(self.values(page).ok_or_else(damaged)?);
        let mut bytes = 0_usize;
        for _ in 0..lists {
            bytes = bytes.saturating_add(deltas(&mut values, page.num_values()).ok_or_else(damaged)?);
        }
        Ok(bytes)
    }

    /// The encoded values of a data page, after the levels.
    fn values<'a>(&self, page: &'a Page) -> Option<&'a [u8]> {
        let (buffer, levels) = match page {
            Page::DataPage { buf, num_values, def_level_encoding, rep_level_encoding, .. } => {
                let repetition = level_bytes(buf, self.max_repetition, *rep_level_encoding, *num_values)?;
                let definition =
                    level_bytes(buf.get(repetition..)?, self.max_definition, *def_level_encoding, *num_values)?;
                (buf, repetition + definition)
            }
            Page::DataPageV2 { buf, def_levels_byte_len, rep_levels_byte_len, .. } => {
                (buf, *def_levels_byte_len as usize + *rep_levels_byte_len as usize)
            }
            Page::DictionaryPage { buf, .. } => (buf, 0),
        };
        buffer.get(levels..)
    }
}

/// The bytes of the levels at the start of a data page of version 1.
fn level_bytes(buffer: &[u8], max: i16, encoding: Encoding, values: u32) -> Option<usize> {
    if max == 0 {
        return Some(0);
    }
    if encoding == Encoding::RLE {
        let length = buffer.first_chunk::<4>()?;
        return (u32::from_le_bytes(*length) as usize).checked_add(4);
    }
    let bits = u16::BITS - max.cast_unsigned().leading_zeros();
    Some((values as usize * bits as usize).div_ceil(8))
}

/// The sum of lengths in the encoding DELTA_BINARY_PACKED (parquet-format, Encodings.md), plus four bytes for each of them. There are at
/// most `most` of them.
fn deltas(bytes: &mut Compact<'_>, most: u32) -> Option<usize> {
    let block = usize::try_from(bytes.varint()?).ok()?;
    let parts = usize::try_from(bytes.varint()?).ok().filter(|parts| *parts > 0)?;
    let count = usize::try_from(bytes.varint()?).ok().filter(|count| *count <= most as usize)?;
    let mut value = bytes.integer()?;
    let mut sum = usize::try_from(value).ok()?;
    let (per_part, mut left) = (block / parts, count.saturating_sub(1));
    while left > 0 {
        let least = bytes.integer()?;
        let widths = bytes.take(parts)?;
        for &width in widths {
            if left == 0 {
                break;
            }
            let packed =
                bytes.take((per_part * usize::from(width)).div_ceil(8)).filter(|_| width <= 32 && per_part > 0)?;
            for index in 0..per_part.min(left) {
                value = value.wrapping_add(least).wrapping_add(bits(packed, index * usize::from(width), width));
                // The lengths are 32 bits wide, and so is the sum of each two of them.
                value = i64::from(value as i32);
                sum = sum.saturating_add(usize::try_from(value).ok()?);
            }
            left = left.saturating_sub(per_part);
        }
    }
    Some(sum.saturating_add(count.saturating_mul(size_of::<i32>())))
}

/// `width` bits from bit `at` on, the lowest first.
fn bits(bytes: &[u8], at: usize, width: u8) -> i64 {
    let mut word = [0; 8];
    let from = &bytes[(at / 8).min(bytes.len())..];
    let length = from.len().min(8);
    word[..length].copy_from_slice(&from[..length]);
    (u64::from_le_bytes(word) >> (at % 8) & ((1 << width) - 1)).cast_signed()
}

/// The pages that are held in memory: one of each column, and those that the columns of the batch in progress have gone through, whose
/// texts are copied into it.
#[derive(Debug)]
pub(super) struct Held {
    limit: usize,
    /// The last page of each column.
    current: AtomicUsize,
    /// Those that were current when the batch began, and those read since.
    batch: AtomicUsize,
}

/// Bytes of the pages held at most, for a small file.
const SMALL: usize = 256 << 20;
/// The same for a large file, times its size.
const RATIO: u64 = 8;

impl Held {
    /// For a file of this many bytes.
    pub(super) fn for_file(bytes: u64) -> Self {
        let limit = usize::try_from(bytes.saturating_mul(RATIO)).unwrap_or(usize::MAX).max(SMALL);
        Self { limit, current: AtomicUsize::new(0), batch: AtomicUsize::new(0) }
    }

    /// Begins a batch.
    pub(super) fn begin(&self) {
        self.batch.store(self.current.load(Ordering::Relaxed), Ordering::Relaxed);
    }

    /// Replaces the last page of a column by the next.
    pub(super) fn replace(&self, last: usize, next: usize) -> Result<(), ParquetError> {
        self.release(last);
        self.current.fetch_add(next, Ordering::Relaxed);
        let held = self.batch.fetch_add(next, Ordering::Relaxed).saturating_add(next);
        if held <= self.limit {
            return Ok(());
        }
        Err(ParquetError::General(format!(
            "its pages take {held} bytes at the same time, the limit is {}: write the file with smaller row groups and pages",
            self.limit
        )))
    }

    /// Drops the last page of a column.
    pub(super) fn release(&self, last: usize) {
        self.current.fetch_sub(last, Ordering::Relaxed);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lengths_are_summed_as_the_format_packs_them() {
        // The example of the format: 7, 5, 3, 1, 2, 3, 4, 5 in blocks of 128 values with 4 parts: the least delta is -2, 2 bits wide.
        let packed = [0x80, 0x01, 4, 8, 14, 3, 2, 0, 0, 0, 0b1100_0000, 0b0011_1111, 0, 0, 0, 0, 0, 0, 9];
        let mut reader = Compact::new(&packed);
        assert_eq!(deltas(&mut reader, 8), Some(7 + 5 + 3 + 1 + 2 + 3 + 4 + 5 + 8 * 4));
        assert_eq!(reader.take(1), Some(&[9][..]));
        assert_eq!(deltas(&mut Compact::new(&packed), 7), None, "more values than the page");
        assert_eq!(deltas(&mut Compact::new(&packed[..12]), 8), None, "cut off");
    }

    #[test]
    fn a_batch_counts_the_pages_that_it_goes_through() {
        let held = Held { limit: 10, current: AtomicUsize::new(0), batch: AtomicUsize::new(0) };
        held.begin();
        held.replace(0, 4).expect("4");
        held.replace(4, 5).expect("4 and 5");
        held.begin();
        held.replace(5, 5).expect("5 carried, and 5");
        held.replace(5, 1).expect_err("11");
        held.release(1);
        held.begin();
        held.replace(0, 10).expect("10");
    }
}
