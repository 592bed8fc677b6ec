//! Rows that do not fit into memory are trained on: their values are in temporary files, and they are encoded batch by batch.
//!
//! `REKINDLE_LARGE_ROWS=10000000` for more of them.

use std::{
    fs::File,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};

use arrow::array::{ArrayRef, Float64Array, Int64Array, RecordBatch, TimestampMillisecondArray};
use parquet::{arrow::ArrowWriter, file::properties::WriterProperties};
use rekindle_dataset::{Section, is_read_into_memory, read_table, value_bytes};
use rekindle_domain::{
    ColumnKind, Digest, Recipe,
    recipe::{ModelRecipe, Optimizer, TabMRecipe},
};
use rekindle_training::{Origin, RowsSize, TrainInput, TrainingMemory, train};

/// The fewest, in round numbers, that are not read into memory.
const ROWS: usize = 1_600_000;
/// Besides the time and the target.
const NUMBERS: usize = 19;
/// Rows of a row group.
const GROUP: usize = 100_000;
/// What the test and the libraries take besides.
const SLACK: u64 = 64 << 20;

/// A number in [0, 1) that looks random.
fn number(row: usize, column: usize) -> f64 {
    let mixed = ((row * NUMBERS + column) as u64).wrapping_add(1).wrapping_mul(0x9E37_79B9_7F4A_7C15);
    let mixed = (mixed ^ (mixed >> 29)).wrapping_mul(0xBF58_476D_1CE4_E5B9);
    (mixed >> 11) as f64 / (1_u64 << 53) as f64
}

fn group(rows: std::ops::Range<usize>) -> RecordBatch {
    let times = rows.clone().map(|row| i64::try_from(row).ok()).collect::<TimestampMillisecondArray>();
    let is_late = |row: usize| number(row, 0) + number(row, 1) * number(row, 2) > 0.75;
    let late: Int64Array = rows.clone().map(|row| i64::from(is_late(row))).collect();
    let numbers = (0..NUMBERS).map(|column| {
        let values: Float64Array = rows.clone().map(|row| Some(number(row, column))).collect();
        (format!("x{column}"), Arc::new(values) as ArrayRef)
    });
    let others = [("at".to_owned(), Arc::new(times) as ArrayRef), ("late".to_owned(), Arc::new(late) as ArrayRef)];
    RecordBatch::try_from_iter(others.into_iter().chain(numbers)).expect("columns of one length")
}

fn file(rows: usize) -> File {
    let file = tempfile::tempfile().expect("a file");
    let properties = WriterProperties::builder().set_dictionary_enabled(false).set_max_row_group_row_count(Some(GROUP));
    let mut writer =
        ArrowWriter::try_new(file.try_clone().expect("a handle"), group(0..0).schema(), Some(properties.build()))
            .expect("a writer");
    for first in (0..rows).step_by(GROUP) {
        writer.write(&group(first..rows.min(first + GROUP))).expect("written");
    }
    writer.close().expect("complete");
    file
}

/// Bytes of memory of this process that no file backs.
fn anonymous() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").expect("the process has a status");
    let line = status.lines().find_map(|line| line.strip_prefix("RssAnon:")).expect("a figure");
    line.trim().trim_end_matches(" kB").parse::<u64>().expect("in kB") * 1024
}

/// The result of `work`, and by how much the memory grew meanwhile.
fn measured<T>(work: impl FnOnce() -> T) -> (T, u64) {
    let (before, most, is_over) = (anonymous(), AtomicU64::new(0), AtomicBool::new(false));
    std::thread::scope(|scope| {
        scope.spawn(|| {
            while !is_over.load(Ordering::Relaxed) {
                most.fetch_max(anonymous(), Ordering::Relaxed);
                std::thread::sleep(Duration::from_millis(2));
            }
        });
        let result = work();
        is_over.store(true, Ordering::Relaxed);
        (result, most.load(Ordering::Relaxed).saturating_sub(before))
    })
}

#[test]
fn rows_that_do_not_fit_into_memory_are_trained_on() {
    let rows = std::env::var("REKINDLE_LARGE_ROWS").ok().and_then(|rows| rows.parse().ok()).unwrap_or(ROWS);
    let kinds = [ColumnKind::Timestamp].into_iter().chain(std::iter::repeat_n(ColumnKind::Numeric, NUMBERS + 1));
    assert!(!is_read_into_memory(rows as u64, kinds.clone()));
    let optimizer = Optimizer { max_epochs: 1, batch_size: 4096, ..Optimizer::default() };
    let model = ModelRecipe::TabM(TabMRecipe { members: 2, hidden: vec![32], optimizer, ..TabMRecipe::default() });
    let recipe = Recipe { model, ..Recipe::for_target("late") };
    let size = RowsSize {
        rows: rows as u64,
        columns: kinds.clone().map(|kind| (kind, None)).collect(),
        read: kinds.clone().collect(),
        outputs: 1,
    };
    let estimate = TrainingMemory::estimate(&recipe, &size);
    let values = rows as u64 * kinds.map(value_bytes).sum::<u64>();
    let origin = Origin { run_id: String::new(), dataset_digests: vec![Digest::of(b"")], code_revision: String::new() };
    let file = file(rows);
    let began = Instant::now();
    let (bundle, grown) = measured(|| {
        let section = Section::whole(file).expect("a file");
        let table = read_table(section, &std::env::temp_dir()).expect("a table");
        let input = TrainInput { table: &table, time_column: Some("at"), recipe: &recipe };
        train(&input, &origin, |_| std::ops::ControlFlow::Continue(())).expect("trained")
    });
    let auc = bundle.manifest.metrics["auc"];
    let (grown_mib, values_mib, seconds) = (grown >> 20, values >> 20, began.elapsed().as_secs());
    println!(
        "{rows} rows, {values_mib} MiB of values: {grown_mib} MiB of memory, estimate {estimate}; {seconds} s, AUC {auc:.3}"
    );
    assert!(auc > 0.9, "{auc}");
    assert!(grown <= estimate.total() + SLACK, "the memory grew by {grown_mib} MiB");
    assert!(grown < values, "the memory grew by {grown_mib} MiB, as much as the values take");
}
