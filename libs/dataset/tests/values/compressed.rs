//! CSV files that gzip or zstd compresses: read as the text in them, in bounded memory, whatever they are named.

use std::io::Write as _;

use bytes::Bytes;
use flate2::{Compression, write::GzEncoder};
use rekindle_dataset::{IngestOptions, Limits, Progress, Scan, ScanOptions, read_csv};
use rekindle_domain::dataset::{FileFormat, ReadOptions};

use crate::support::{File, csv, options, parquet_of, read, register};

fn gzip(text: &[u8]) -> Bytes {
    let mut encoder = GzEncoder::new(Vec::new(), Compression::default());
    encoder.write_all(text).unwrap();
    encoder.finish().unwrap().into()
}

fn zstd(text: &[u8]) -> Bytes {
    zstd::encode_all(text, 3).unwrap().into()
}

fn file(bytes: Bytes) -> File {
    File { bytes, format: FileFormat::Csv }
}

fn rows() -> String {
    let row = |row: u32| format!("{row},{}.5,word {}\n", row % 97, row.wrapping_mul(2_654_435_761) % 1000);
    "v,ratio,word\n".to_owned() + &(0..30_000).map(row).collect::<String>()
}

#[test]
fn compressed_text_is_read_as_the_text() {
    let text = rows();
    let plain = read(&csv(&text), &ReadOptions::default()).unwrap().content;
    let (head, tail) = text.as_bytes().split_at(text.len() / 3);
    let joined = |compress: fn(&[u8]) -> Bytes| Bytes::from([compress(head), compress(tail)].concat());
    for bytes in [gzip(text.as_bytes()), zstd(text.as_bytes()), joined(gzip), joined(zstd)] {
        assert_eq!(read(&file(bytes), &ReadOptions::default()).unwrap().content, plain);
    }
    assert_eq!(read_csv(gzip(b"a,b\n1,2\n")).unwrap(), read_csv(Bytes::from_static(b"a,b\n1,2\n")).unwrap());
}

#[test]
fn a_file_is_read_by_its_content_and_its_progress_reaches_the_end() {
    let text = rows();
    for (name, bytes) in [("values.csv.gz", gzip(text.as_bytes())), ("values.csv.zst", zstd(text.as_bytes()))] {
        let path = std::path::PathBuf::from(env!("CARGO_TARGET_TMPDIR")).join(name);
        std::fs::write(&path, &bytes).unwrap();
        let mut scan = Scan::open(&path, &ScanOptions::default(), &mut |_| ()).unwrap();
        let read: usize = scan.by_ref().map(|batch| batch.unwrap().rows.num_rows()).sum();
        let total = 2 * bytes.len() as u64;
        assert_eq!((read, scan.progress()), (30_000, Progress { done: total, total }));
    }
}

#[test]
fn damaged_files_are_refused_with_the_compression_named() {
    let text = rows();
    for (name, good) in [("gzip", gzip(text.as_bytes())), ("zstd", zstd(text.as_bytes()))] {
        let mut flipped = good.to_vec();
        flipped[good.len() / 2] ^= 0xff;
        // What a changed byte is decompressed to may not be CSV any more, which is found before the checksum differs.
        assert!(read(&file(flipped.into()), &ReadOptions::default()).is_err());
        for bad in [good.slice(..good.len() / 2), good.slice(..good.len() - 1), good.slice(..6)] {
            let refused = read(&file(bad), &ReadOptions::default()).unwrap_err();
            let expected = format!("source 0: the file is compressed with {name}, and cannot be decompressed");
            assert!(refused.starts_with(&expected), "{refused}");
        }
    }
    let parquet = parquet_of(std::sync::Arc::new(arrow::array::Int64Array::from(vec![1])) as arrow::array::ArrayRef);
    let refused = read(&file(gzip(&parquet.bytes)), &ReadOptions::default()).unwrap_err();
    assert!(refused.contains("the compressed file is a Parquet file; decompress it"), "{refused}");
}

/// 400 MB in a file of less than a megabyte.
#[test]
fn a_decompression_bomb_is_refused_at_the_limit() {
    let line = b"1,2.5,word\n".repeat(100_000);
    let mut encoder = GzEncoder::new(Vec::new(), Compression::best());
    encoder.write_all(b"v,ratio,word\n").unwrap();
    (0..400).for_each(|_| encoder.write_all(&line).unwrap());
    let bomb = Bytes::from(encoder.finish().unwrap());
    assert!(bomb.len() < 2_000_000, "{} bytes", bomb.len());
    let limits = Limits { bytes: 10_000_000, ..Limits::default() };
    let refused = register(&[file(bomb)], &IngestOptions { limits, ..options() }).unwrap_err();
    assert_eq!(refused, "source 0: more than 10000000 bytes; split the data");
    let one_line = gzip(&b"x".repeat(40_000_000));
    let refused = read(&file(one_line), &ReadOptions::default()).unwrap_err();
    assert!(refused.contains("the record is longer than 16777216 bytes"), "{refused}");
}
