//! Checks of a scan of any bytes: it does not panic, its batches have the columns that it announces, and its profile can be stored.
//! Included by the fuzz target and by the test that replays its seeds.

use std::collections::BTreeMap;

use bytes::Bytes;
use rekindle_dataset::{Profiler, Scan, ScanBatch, ScanOptions, Types};
use rekindle_domain::ColumnKind;
use rekindle_statistics::profile::Profile;

/// Batches read at most: a few bytes of Parquet can encode any number of rows.
const BATCHES: usize = 32;

/// Reads the bytes in their own kinds, in canonical types, and with another kind expected of each column.
pub(crate) fn check(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let canonical = ScanOptions { types: Types::Canonical, ..limits(None) };
    if let Ok(scan) = Scan::of_bytes(bytes.clone(), &canonical) {
        read(scan, |_| ());
    }
    let Ok(scan) = Scan::of_bytes(bytes.clone(), &limits(None)) else { return };
    let kinds: BTreeMap<String, ColumnKind> =
        scan.columns().iter().map(|column| (column.name.clone(), after(column.kind))).collect();
    let rows = profiled(scan);
    let Ok(other) = Scan::of_bytes(bytes, &limits(Some(kinds))) else { return };
    if let (Some(rows), Some(as_other)) = (rows, profiled(other)) {
        assert_eq!(rows, as_other, "the expected kinds change the number of rows");
    }
}

fn limits(expected: Option<BTreeMap<String, ColumnKind>>) -> ScanOptions {
    // Small, so that small files have several blocks and batches.
    let (batch_rows, batch_bytes, record_bytes) = (100, 1 << 16, 1 << 16);
    ScanOptions {
        expected,
        batch_rows,
        batch_bytes,
        record_bytes,
        // Some bytes of gzip or zstd decompress to any number.
        text_bytes: 1 << 20,
        page_bytes: 1 << 20,
        block_bytes: 512,
        columns: 64,
        ..ScanOptions::default()
    }
}

/// The rows of the file, if it can be read to the end within bounds.
fn profiled(scan: Scan) -> Option<u64> {
    let mut profiler = Profiler::new(scan.columns());
    let is_whole = read(scan, |batch| profiler.add(batch));
    let rows = stored(&profiler.finish());
    is_whole.then_some(rows)
}

/// Reads up to [`BATCHES`] batches; returns whether these are all, without an error.
fn read(mut scan: Scan, mut each: impl FnMut(&ScanBatch)) -> bool {
    for _ in 0..BATCHES {
        match scan.next() {
            None => return true,
            Some(Err(_)) => return false,
            Some(Ok(batch)) => {
                check_batch(&scan, &batch);
                each(&batch);
            }
        }
    }
    false
}

fn check_batch(scan: &Scan, batch: &ScanBatch) {
    assert!(batch.rows.num_rows() > 0, "a batch has a row");
    assert_eq!((batch.rows.num_columns(), batch.unparsable.len()), (scan.columns().len(), scan.columns().len()));
    for ((array, column), unparsable) in batch.rows.columns().iter().zip(scan.columns()).zip(&batch.unparsable) {
        assert_eq!(array.data_type(), &column.data_type, "{column:?}");
        assert!(*unparsable <= array.null_count() as u64, "{column:?}: a value that does not parse is null");
    }
}

/// The rows of a profile, which is the same after storing and loading.
fn stored(profile: &Profile) -> u64 {
    let again = Profile::from_bytes(&profile.to_bytes()).expect("a stored profile loads");
    assert_eq!(&again, profile, "storing and loading change nothing");
    profile.rows
}

/// The kind after a kind.
fn after(kind: ColumnKind) -> ColumnKind {
    match kind {
        ColumnKind::Numeric => ColumnKind::Categorical,
        ColumnKind::Categorical => ColumnKind::Timestamp,
        ColumnKind::Timestamp => ColumnKind::Boolean,
        ColumnKind::Boolean => ColumnKind::Numeric,
    }
}
