use std::{
    io::{self, Read},
    sync::{
        Arc,
        atomic::{AtomicU64, Ordering},
    },
};

use ::parquet::{
    arrow::arrow_reader::RowGroups,
    basic::Compression,
    column::page::{Page, PageIterator, PageMetadata, PageReader},
    errors::ParquetError,
    file::{
        metadata::{ParquetMetaData, RowGroupMetaData},
        reader::{ChunkReader, Length},
        serialized_reader::SerializedPageReader,
    },
};
use bytes::Bytes;
use flate2::bufread::MultiGzDecoder;

use super::{
    compact::{Compact, TRUE},
    page::{Claims, Held},
};

/// One row group of a file, whose pages are checked before they are decompressed and before they are decoded.
pub(super) struct Group<R> {
    pub(super) file: Arc<R>,
    pub(super) metadata: Arc<ParquetMetaData>,
    pub(super) index: usize,
    /// Bytes of a page at most, uncompressed.
    pub(super) page_bytes: usize,
    pub(super) held: Arc<Held>,
}

impl<R: ChunkReader + 'static> RowGroups for Group<R> {
    fn num_rows(&self) -> usize {
        usize::try_from(self.metadata.row_group(self.index).num_rows()).unwrap_or(0)
    }

    fn column_chunks(&self, column: usize) -> Result<Box<dyn PageIterator>, ParquetError> {
        let chunk = self.metadata.row_group(self.index).column(column);
        let raw = RawPages {
            file: self.file.clone(),
            page_bytes: self.page_bytes,
            compression: chunk.compression(),
            header: AtomicU64::new(0),
        };
        let pages = SerializedPageReader::new(Arc::new(raw), chunk, self.num_rows(), None)?;
        let claims = Claims::new(chunk.column_descr());
        let checked = CheckedPages { pages, claims, page_bytes: self.page_bytes, held: self.held.clone(), current: 0 };
        Ok(Box::new(OneChunk(Some(Box::new(checked)))))
    }

    fn row_groups(&self) -> Box<dyn Iterator<Item = &RowGroupMetaData> + '_> {
        Box::new(std::iter::once(self.metadata.row_group(self.index)))
    }

    fn metadata(&self) -> &ParquetMetaData {
        &self.metadata
    }
}

/// The pages of one column of one row group.
struct OneChunk(Option<Box<dyn PageReader>>);

impl Iterator for OneChunk {
    type Item = Result<Box<dyn PageReader>, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.0.take().map(Ok)
    }
}

impl PageIterator for OneChunk {}

/// Pages that are decompressed, and not decoded yet.
struct CheckedPages<R: ChunkReader> {
    pages: SerializedPageReader<RawPages<R>>,
    claims: Claims,
    page_bytes: usize,
    held: Arc<Held>,
    /// Bytes of the last page.
    current: usize,
}

impl<R: ChunkReader> Iterator for CheckedPages<R> {
    type Item = Result<Page, ParquetError>;

    fn next(&mut self) -> Option<Self::Item> {
        self.get_next_page().transpose()
    }
}

impl<R: ChunkReader> PageReader for CheckedPages<R> {
    fn get_next_page(&mut self) -> Result<Option<Page>, ParquetError> {
        let Some(page) = self.pages.get_next_page()? else { return Ok(None) };
        let bytes = self.claims.check(&page, self.page_bytes)?;
        self.held.replace(self.current, bytes)?;
        self.current = bytes;
        Ok(Some(page))
    }

    fn peek_next_page(&mut self) -> Result<Option<PageMetadata>, ParquetError> {
        self.pages.peek_next_page()
    }

    fn skip_next_page(&mut self) -> Result<(), ParquetError> {
        self.pages.skip_next_page()
    }
}

impl<R: ChunkReader> Drop for CheckedPages<R> {
    fn drop(&mut self) {
        self.held.release(self.current);
    }
}

/// The pages of one column as they are in the file.
///
/// The decoder decompresses a page as a whole, and neither of the size that its header states nor of what it decompresses to does it
/// know a bound. So the size is checked at the header, and what some codecs decompress to beyond it before the page is given out.
struct RawPages<R> {
    file: Arc<R>,
    page_bytes: usize,
    compression: Compression,
    /// Of the page whose header was read last: the bytes that decompress, and above them those before them.
    header: AtomicU64,
}

impl<R: Length> Length for RawPages<R> {
    fn len(&self) -> u64 {
        self.file.len()
    }
}

impl<R: ChunkReader> ChunkReader for RawPages<R> {
    type T = R::T;

    /// Readers of pages call this at the header of each.
    fn get_read(&self, start: u64) -> Result<R::T, ParquetError> {
        let mut bytes = Vec::with_capacity(HEADER_BYTES as usize);
        self.file.get_read(start)?.take(HEADER_BYTES).read_to_end(&mut bytes)?;
        let header = PageHeader::of(&bytes).ok_or_else(|| damaged("a page header has no size"))?;
        if header.size as usize > self.page_bytes {
            return Err(ParquetError::General(format!(
                "a page has {} bytes, the limit is {}: write the file with smaller pages (1 MiB is usual)",
                header.size, self.page_bytes
            )));
        }
        self.header.store(header.packed(), Ordering::Relaxed);
        self.file.get_read(start)
    }

    fn get_bytes(&self, start: u64, length: usize) -> Result<Bytes, ParquetError> {
        let bytes = self.file.get_bytes(start, length)?;
        let header = PageHeader::unpacked(self.header.load(Ordering::Relaxed));
        check_decompressed(self.compression, &bytes, header)?;
        Ok(bytes)
    }
}

/// What a page header states about sizes (parquet.thrift, `PageHeader`).
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
struct PageHeader {
    /// Bytes of the page, uncompressed.
    size: u32,
    /// Bytes at its start that are never compressed.
    plain: u32,
}

/// A header takes at most this much up to its statistics.
const HEADER_BYTES: u64 = 128;

impl PageHeader {
    /// Reads what there is of a header; `None` without a size.
    fn of(bytes: &[u8]) -> Option<Self> {
        let (mut size, mut plain, mut is_plain) = (None, 0, false);
        // The statistics, which are long, come last and may be cut off.
        let _ = Compact::new(bytes).fields(|value, id, kind| match id {
            2 => value.integer().map(|given| size = u32::try_from(given).ok()),
            8 => value.fields(|value, id, kind| match id {
                5 | 6 => value.integer().map(|length| plain += u32::try_from(length).unwrap_or(0)),
                7 => {
                    is_plain = kind != TRUE;
                    Some(())
                }
                _ => value.skip(kind),
            }),
            _ => value.skip(kind),
        });
        let size = size?;
        Some(Self { size, plain: if is_plain { size } else { plain.min(size) } })
    }

    fn packed(self) -> u64 {
        u64::from(self.plain) << 32 | u64::from(self.size)
    }

    fn unpacked(packed: u64) -> Self {
        Self { size: packed as u32, plain: (packed >> 32) as u32 }
    }
}

/// Refuses a page that decompresses to more than its header states. The other codecs take the size as a limit themselves.
fn check_decompressed(compression: Compression, page: &[u8], header: PageHeader) -> Result<(), ParquetError> {
    let Some(compressed) = page.get(header.plain as usize..) else { return Ok(()) };
    let decoder: Box<dyn Read + '_> = match compression {
        Compression::GZIP(_) => Box::new(MultiGzDecoder::new(compressed)),
        Compression::BROTLI(_) => Box::new(brotli::Decompressor::new(compressed, BUFFER)),
        Compression::LZ4 => Box::new(lz4_flex::frame::FrameDecoder::new(compressed)),
        _ => return Ok(()),
    };
    let stated = u64::from(header.size - header.plain);
    // What cannot be decompressed the decoder refuses with its reason.
    match io::copy(&mut decoder.take(stated + 1), &mut io::sink()) {
        Ok(bytes) if bytes > stated => Err(damaged("a page decompresses to more bytes than its header states")),
        _ => Ok(()),
    }
}

/// Bytes decompressed at a time.
const BUFFER: usize = 16 << 10;

pub(super) fn damaged(problem: &str) -> ParquetError {
    ParquetError::General(format!("{problem}: the file is damaged"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_header_states_the_size_of_its_page() {
        // Type 2 (dictionary page), 1,000,000 bytes.
        let header = |bytes: &[u8]| PageHeader::of(bytes).map(|header| (header.size, header.plain));
        assert_eq!(header(&[0x15, 0x04, 0x15, 0x80, 0x89, 0x7a, 0x15, 0x02, 0]), Some((1_000_000, 0)));
        assert_eq!(header(&[0x05, 0x04, 0x80, 0x89, 0x7a, 0]), Some((1_000_000, 0)), "with the number of the field");
        assert_eq!(header(&[0x15, 0x00, 0x15, 0x01, 0x15, 0x02, 0]), None, "negative");
        assert_eq!(header(&[0x15, 0x00, 0x15, 0x80]), None, "cut off");
        assert_eq!(header(b"PAR1"), None);
        // Version 2 with levels of 3 and 4 bytes, cut off in the statistics.
        let version_2 = [0x15, 0x06, 0x15, 0x14, 0x15, 0x10, 0x5c, 0x55, 0x06, 0x15, 0x08, 0x12, 0x1c, 0x18, 0x7f];
        assert_eq!(header(&version_2), Some((10, 10)), "not compressed");
        assert_eq!(header(&[&version_2[..11], &[0x00]].concat()), Some((10, 7)));
    }

    #[test]
    fn sizes_survive_packing() {
        let header = PageHeader { size: u32::MAX, plain: 7 };
        assert_eq!(PageHeader::unpacked(header.packed()), header);
    }
}
