use std::{io::Read as _, sync::Arc};

use ::parquet::{
    errors::ParquetError,
    file::reader::{ChunkReader, Length},
};
use bytes::Bytes;

/// A file that several readers read pages from.
///
/// The decoder decompresses a page as a whole and trusts the size that its header states, so the size is checked before.
pub(super) struct Pages<R> {
    file: Arc<R>,
    page_bytes: usize,
}

impl<R> Pages<R> {
    /// Pages of at most `page_bytes`, uncompressed.
    pub(super) fn new(file: Arc<R>, page_bytes: usize) -> Self {
        Self { file, page_bytes }
    }
}

impl<R: Length> Length for Pages<R> {
    fn len(&self) -> u64 {
        self.file.len()
    }
}

impl<R: ChunkReader> ChunkReader for Pages<R> {
    type T = R::T;

    /// Readers of pages call this at the header of each.
    fn get_read(&self, start: u64) -> Result<R::T, ParquetError> {
        let mut header = Vec::with_capacity(HEADER_BYTES as usize);
        self.file.get_read(start)?.take(HEADER_BYTES).read_to_end(&mut header)?;
        match uncompressed_size(&header) {
            Some(size) if size > self.page_bytes as u64 => Err(ParquetError::General(format!(
                "a page has {size} bytes, the limit is {}: write the file with smaller pages (1 MiB is usual)",
                self.page_bytes
            ))),
            _ => self.file.get_read(start),
        }
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        self.file.get_bytes(start, length)
    }
}

/// The first two fields of a page header and their types take at most this much.
const HEADER_BYTES: u64 = 12;

/// The type of a 32-bit integer field that is one after the field before it, in Thrift's compact protocol.
const NEXT_I32: u8 = 0x15;

/// The uncompressed size in a page header (parquet.thrift, `PageHeader`): the second field, after the page's type. `None` if the
/// bytes are no header as writers write it.
fn uncompressed_size(header: &[u8]) -> Option<u64> {
    let mut bytes = header.iter().copied();
    (bytes.next()? == NEXT_I32).then_some(())?;
    zigzag(&mut bytes)?;
    (bytes.next()? == NEXT_I32).then_some(())?;
    u64::try_from(zigzag(&mut bytes)?).ok()
}

/// A signed integer of variable length.
fn zigzag(bytes: &mut impl Iterator<Item = u8>) -> Option<i64> {
    let mut value = 0_u64;
    for shift in (0..35).step_by(7) {
        let byte = bytes.next()?;
        value |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some((value >> 1).cast_signed() ^ -(value & 1).cast_signed());
        }
    }
    None
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_size_of_a_page_is_its_header_s_second_field() {
        // Type 2 (dictionary page), 1,000,000 bytes.
        assert_eq!(uncompressed_size(&[0x15, 0x04, 0x15, 0x80, 0x89, 0x7a, 0x15, 0x02]), Some(1_000_000));
        assert_eq!(uncompressed_size(&[0x15, 0x00, 0x15, 0x01, 0x15, 0x02]), None, "negative");
        assert_eq!(uncompressed_size(&[0x15, 0x00, 0x15, 0x80]), None, "cut off");
        assert_eq!(uncompressed_size(b"PAR1"), None);
    }
}
