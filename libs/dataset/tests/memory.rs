//! Memory of ingestion does not grow with the file. One test, because the peak is that of the process.

use std::{
    fs::File,
    io::{BufWriter, Write as _},
};

use rekindle_dataset::{IngestOptions, Limits, Section, ingest};
use rekindle_domain::dataset::FileFormat;

/// The size of the file in megabytes, unless the environment variable `MEGABYTES` is set.
const MEGABYTES: u64 = 100;

/// The bound on the growth of the peak. Reading the file as a table takes more than five times as much.
const GROWTH: u64 = 200 << 20;

/// The peak resident memory of this process in bytes.
fn peak() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the process has a status");
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:")).expect("it has a peak");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("in kB") * 1024
}

/// A CSV file of `size` bytes whose rows are out of order in time, with a distinct text in each.
fn csv(size: u64) -> File {
    let mut file = BufWriter::new(tempfile::tempfile().expect("a file"));
    file.write_all(b"at,number,ratio,word,label\n").expect("written");
    let (mut written, mut row) = (0, 0_u64);
    while written < size {
        let noise = row.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 20;
        let (hour, minute, second) = (noise % 24, noise / 24 % 60, noise / 1440 % 60);
        let line = format!(
            "2013-{:02}-{:02} {hour:02}:{minute:02}:{second:02},{},{:.3},word-{noise:x},{}\n",
            noise % 12 + 1,
            noise % 28 + 1,
            noise % 1000,
            noise as f64 / 4096.0,
            noise % 2
        );
        file.write_all(line.as_bytes()).expect("written");
        (written, row) = (written + line.len() as u64, row + 1);
    }
    file.into_inner().expect("flushed")
}

#[test]
fn a_csv_of_100_mb_takes_bounded_memory() {
    let megabytes = std::env::var("MEGABYTES").map_or(MEGABYTES, |text| text.parse().expect("a number"));
    let file = Section::whole(csv(megabytes * 1_000_000)).expect("its size is known");
    let options = IngestOptions {
        reading: Default::default(),
        columns: Default::default(),
        schema: None,
        kinds: [].into(),
        time_column: Some("at".to_owned()),
        from: None,
        until: None,
        limits: Limits { bytes: 16_000_000_000, ..Limits::default() },
        scratch: std::env::temp_dir(),
    };
    let before = peak();
    let made = ingest(&[(file, FileFormat::Csv)], &options).expect("ingested");
    let grown = peak() - before;
    println!("{} rows, the peak grew by {} MiB", made.rows, grown >> 20);
    assert!(made.rows > 1_000_000);
    assert!(grown < GROWTH, "the peak grew by {} MiB", grown >> 20);
}
