//! What must hold of a scan of any bytes: no panic, batches that are what the scan says of them, and a profile that can be
//! stored. Included by the fuzz target and by the test that replays its seeds.

use std::collections::BTreeMap;

use bytes::Bytes;
use rekindle_dataset::{Kind, Profiler, Scan, ScanBatch, ScanOptions};
use rekindle_statistics::profile::Profile;

/// A few bytes of Parquet can stand for any number of rows, so not all of them are read.
const BATCHES: usize = 32;

/// Reads the bytes in the kinds they have, and then each column in another kind than its own.
pub(crate) fn check(bytes: &[u8]) {
    let bytes = Bytes::copy_from_slice(bytes);
    let own = limits(None);
    let Ok(scan) = Scan::of_bytes(bytes.clone(), &own) else { return };
    let kinds: BTreeMap<String, Kind> =
        scan.columns().iter().map(|column| (column.name.clone(), after(column.kind))).collect();
    let rows = read(scan);
    let Ok(other) = Scan::of_bytes(bytes, &limits(Some(kinds))) else { return };
    if let (Some(rows), Some(as_other)) = (rows, read(other)) {
        assert_eq!(rows, as_other, "the kinds expected change how many rows there are");
    }
}

fn limits(expected: Option<BTreeMap<String, Kind>>) -> ScanOptions {
    // Small, so that small files have several blocks and batches.
    let (batch_rows, batch_bytes, record_bytes) = (100, 1 << 16, 1 << 16);
    ScanOptions {
        expected,
        batch_rows,
        batch_bytes,
        record_bytes,
        block_bytes: 512,
        columns: 64,
        ..ScanOptions::default()
    }
}

/// The rows of the file, if it can be read to the end within bounds.
fn read(mut scan: Scan) -> Option<u64> {
    let mut profiler = Profiler::new(scan.columns());
    for _ in 0..BATCHES {
        let Some(batch) = scan.next() else { return Some(stored(profiler.finish())) };
        let batch = batch.ok()?;
        check_batch(&scan, &batch);
        profiler.add(&batch);
    }
    stored(profiler.finish());
    None
}

fn check_batch(scan: &Scan, batch: &ScanBatch) {
    assert!(batch.rows.num_rows() > 0, "a batch has a row");
    assert_eq!((batch.rows.num_columns(), batch.unparsable.len()), (scan.columns().len(), scan.columns().len()));
    for ((array, column), unparsable) in batch.rows.columns().iter().zip(scan.columns()).zip(&batch.unparsable) {
        assert_eq!(array.data_type(), &column.data_type, "{column:?}");
        assert!(*unparsable <= array.null_count() as u64, "{column:?}: what does not read is null");
    }
}

/// The rows of a profile, which survives being stored.
fn stored(profile: Profile) -> u64 {
    let again = Profile::from_bytes(&profile.to_bytes()).expect("what was written is read");
    assert_eq!(again, profile, "writing and reading change nothing");
    profile.rows
}

/// Each kind in turn.
fn after(kind: Kind) -> Kind {
    match kind {
        Kind::Numeric => Kind::Categorical,
        Kind::Categorical => Kind::Timestamp,
        Kind::Timestamp => Kind::Boolean,
        Kind::Boolean => Kind::Numeric,
    }
}
