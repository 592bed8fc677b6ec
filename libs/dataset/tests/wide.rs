//! The size of a profile of thousands of columns.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise, in its helpers too")]

use std::{
    fs::File,
    io::{BufWriter, Write as _},
    path::Path,
};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rekindle_dataset::{Profiler, Scan, ScanOptions};

const COLUMNS: usize = 2000;

/// More than the buckets of a numeric column and the categories of a text column, so that every column takes the bytes that it takes at
/// most.
const ROWS: usize = 6000;

/// Half of the columns are fractions, a fifth each are whole numbers and row numbers, and a tenth are texts, all different.
fn write_csv(path: &Path) {
    let mut random = ChaCha8Rng::seed_from_u64(1);
    let mut file = BufWriter::new(File::create(path).unwrap());
    let names: Vec<String> = (0..COLUMNS).map(|column| format!("c{column}")).collect();
    writeln!(file, "{}", names.join(",")).unwrap();
    for row in 0..ROWS {
        for column in 0..COLUMNS {
            let separator = if column == 0 { "" } else { "," };
            match column % 10 {
                0..5 => write!(file, "{separator}{:.5}", random.random::<f64>()),
                5 | 6 => write!(file, "{separator}{}", random.random_range(0..1000)),
                7 | 8 => write!(file, "{separator}{row}"),
                _ => write!(file, "{separator}t{:x}", random.random::<u32>()),
            }
            .unwrap();
        }
        writeln!(file).unwrap();
    }
    file.flush().unwrap();
}

#[test]
fn two_thousand_columns_take_some_kilobytes_each() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("wide.csv");
    write_csv(&path);
    let scan = Scan::open(&path, &ScanOptions::default(), &mut |_| ()).unwrap();
    let mut profiler = Profiler::new(scan.columns());
    scan.for_each(|batch| profiler.add(&batch.unwrap()));
    let profile = profiler.finish();
    assert_eq!((profile.rows, profile.columns.len()), (ROWS as u64, COLUMNS));
    let bytes = profile.to_bytes();
    assert!(bytes.len() < 20_000 * COLUMNS, "{} bytes", bytes.len());
}
