//! Known drifts of real files are detected, and none is in the same files with their rows shuffled.
//!
//! The flights are part of the repository; the tests named `or_skipped` need files outside of it.

mod blocks;
mod dependence;

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, Float64Array, Int64Array, UInt32Array},
    datatypes::{DataType, Float64Type, Int64Type, TimestampMillisecondType},
};
use chrono::{DateTime, NaiveDate};
use parquet::arrow::arrow_reader::ParquetRecordBatchReaderBuilder;
use rand::{SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;
use rekindle_dataset::{Table, read_parquet};
use rekindle_statistics::{
    drift::{Report, Settings, Verdict, compare},
    profile::{Column, ColumnProfile, Profile, Timestamp},
};
use rekindle_testkit::shared_data;

/// The first row of the reference and of each window, and one past the last.
type Bounds = Vec<usize>;

fn flights() -> Table {
    read_parquet(rekindle_testkit::flights().into()).expect("they are Parquet")
}

fn profile(table: &Table, from: usize, until: usize) -> Profile {
    let part = table.slice(from, until - from);
    let columns = part.schema.names().zip(part.batch.columns());
    let profiled = columns.map(|(name, array)| Column { name: name.to_owned(), profile: column(array) });
    Profile::new((until - from) as u64, profiled.collect())
}

fn column(array: &ArrayRef) -> ColumnProfile {
    match array.data_type() {
        DataType::Float64 => ColumnProfile::of_numbers(array.as_primitive::<Float64Type>().iter()),
        DataType::Int64 => {
            ColumnProfile::of_numbers(array.as_primitive::<Int64Type>().iter().map(|value| value.map(|v| v as f64)))
        }
        DataType::Utf8 => ColumnProfile::of_texts(array.as_string::<i32>().iter()),
        DataType::Boolean => ColumnProfile::of_flags(array.as_boolean().iter()),
        _ => {
            let mut times = Timestamp::new();
            array.as_primitive::<TimestampMillisecondType>().iter().for_each(|time| times.add(time));
            ColumnProfile::Timestamp(times)
        }
    }
}

fn compared(table: &Table, bounds: &Bounds, window: usize) -> Report {
    let (reference, current) =
        (profile(table, bounds[0], bounds[1]), profile(table, bounds[window], bounds[window + 1]));
    compare(&reference, &current, &Settings::default()).expect("the default settings are in range")
}

fn verdict(report: &Report, column: &str) -> Verdict {
    report.columns.iter().find(|found| found.name == column).expect("a column of the file").verdict
}

/// Rows before a date, in a table sorted by `timestamp`.
fn rows_before(table: &Table, year: i32, month: u32, day: u32) -> usize {
    let date = NaiveDate::from_ymd_opt(year, month, day).expect("a date").and_hms_opt(0, 0, 0).expect("midnight");
    let millis = date.and_utc().timestamp_millis();
    table.times("timestamp").expect("every row has a time").partition_point(|&time| time < millis)
}

/// The reference ends, and each window begins and ends, at the first of a month.
fn months(table: &Table, reference_from: (i32, u32), months: &[(i32, u32)]) -> Bounds {
    let first = |(year, month): (i32, u32)| rows_before(table, year, month, 1);
    std::iter::once(first(reference_from)).chain(months.iter().map(|&month| first(month))).collect()
}

/// A known drift of a column: detected within `patience` windows from `onset` on, and with `calm_before` not in the window before.
struct Known {
    column: &'static str,
    onset: usize,
    patience: usize,
    calm_before: bool,
}

fn known(column: &'static str, onset: usize, patience: usize) -> Known {
    Known { column, onset, patience, calm_before: false }
}

#[track_caller]
fn finds(file: &str, table: &Table, bounds: &Bounds, expected: &[Known]) {
    for Known { column, onset, patience, calm_before } in expected {
        if *calm_before {
            assert_ne!(
                verdict(&compared(table, bounds, onset - 1), column),
                Verdict::Drifted,
                "{file} {column} drifts too early"
            );
        }
        let windows = *onset..(onset + patience).min(bounds.len() - 1);
        let found =
            windows.clone().find(|&window| verdict(&compared(table, bounds, window), column) == Verdict::Drifted);
        let found = found.unwrap_or_else(|| panic!("{file}: no drift of {column} in windows {windows:?}"));
        let rows = bounds[found + 1] - bounds[*onset];
        let reported = compared(table, bounds, found);
        let drift = reported.columns.iter().find(|drift| drift.name == *column).expect("a column of the file");
        println!(
            "{file}: {column} drifted in window {} after the onset ({rows} rows), effect {:.3}: {}",
            found - onset + 1,
            drift.effect,
            drift.reason
        );
    }
}

/// Shuffles the rows many times and counts the shuffles in which any window has drifted.
#[track_caller]
fn finds_nothing_when_shuffled(file: &str, table: &Table, bounds: &Bounds, shuffles: u64) {
    let rows = u32::try_from(table.rows()).expect("few rows");
    let alarmed = (0..shuffles).filter(|&seed| {
        let mut order: Vec<u32> = (0..rows).collect();
        order.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
        let shuffled = table.take(&UInt32Array::from(order)).expect("every row exists");
        (1..bounds.len() - 1).any(|window| compared(&shuffled, bounds, window).verdict == Verdict::Drifted)
    });
    let alarms = alarmed.count() as u64;
    // Each shuffle has fewer than 30 windows, so that the probability of a false alarm is below the budget.
    let bound = most_with(shuffles, Settings::default().false_alarms);
    println!("{file}: {alarms} of {shuffles} shuffles raise a false alarm; the 99 % quantile is {bound}");
    assert!(alarms <= bound, "{file}: {alarms} alarms in {shuffles} shuffles, at most {bound} expected");
}

/// The 99 % quantile of the successes in `trials` with probability `rate` each.
fn most_with(trials: u64, rate: f64) -> u64 {
    let mut probability = (1.0 - rate).powi(i32::try_from(trials).expect("few trials"));
    let (mut sum, mut successes) = (probability, 0);
    while sum < 0.99 {
        probability *= (trials - successes) as f64 / (successes + 1) as f64 * rate / (1.0 - rate);
        successes += 1;
        sum += probability;
    }
    successes
}

/// January to April against each later month: the weather drifts with the season, the share of late flights in June, September and
/// December.
#[test]
fn flights_2013() {
    let table = flights();
    let ends: Vec<(i32, u32)> = (5..=12).map(|month| (2013, month)).chain([(2014, 1)]).collect();
    let bounds = months(&table, (2013, 1), &ends);
    let (may, june, september, december) = (1, 2, 5, 8);
    let late_from_june = Known { calm_before: true, ..known("late", june, 1) };
    finds(
        "flights",
        &table,
        &bounds,
        &[
            known("temp", may, 1),
            known("dewp", may, 1),
            late_from_june,
            known("late", september, 1),
            known("late", december, 1),
            known("pressure", december, 1),
        ],
    );
    let days = |month, day| -> Bounds {
        let day = rows_before(&table, 2013, month, day);
        let next = table.times("timestamp").expect("times").partition_point(|&time| time < day_after(&table, day));
        vec![0, rows_before(&table, 2013, 3, 1), day, next]
    };
    finds("flights", &table, &days(3, 8), &[known("late", 2, 1)]);
    finds("flights", &table, &days(12, 17), &[known("late", 2, 1)]);
    finds_nothing_when_shuffled("flights", &table, &bounds, 10);
}

/// The midnight after the day of a row, in UTC.
fn day_after(table: &Table, row: usize) -> i64 {
    let time = table.times("timestamp").expect("times")[row];
    let day = DateTime::from_timestamp_millis(time).expect("a time of 2013").date_naive();
    (day + chrono::Days::new(1)).and_hms_opt(0, 0, 0).expect("midnight").and_utc().timestamp_millis()
}

/// A growing share of trips is paid by card, and of tips is large.
#[test]
fn chicago_taxi_tips_or_skipped() {
    let Some(bytes) = shared_data("chicago_taxi_tips.parquet") else { return };
    let table = read_parquet(bytes.into()).expect("Parquet");
    let ends = [(2014, 4), (2014, 10), (2015, 4), (2015, 10), (2016, 4), (2017, 1)];
    let bounds = months(&table, (2013, 1), &ends);
    finds(
        "taxi",
        &table,
        &bounds,
        &[known("payment_type", 1, 3), known("company", 1, 3), known("trip_miles", 1, 4), known("big_tip", 1, 4)],
    );
    finds_nothing_when_shuffled("taxi", &table, &bounds, 40);
}

/// Seasons, and growth from year to year that no input explains.
#[test]
fn bike_hourly_or_skipped() {
    let Some(bytes) = shared_data("bike_hourly.parquet") else { return };
    let table = read_parquet(bytes.into()).expect("Parquet");
    let ends: Vec<(i32, u32)> =
        (9..=12).map(|m| (2011, m)).chain((1..=12).map(|m| (2012, m))).chain([(2013, 1)]).collect();
    let bounds = months(&table, (2011, 1), &ends);
    let (december, march_2012) = (4, 7);
    finds("bike", &table, &bounds, &[known("temp", december, 1), known("season", 2, 2), known("cnt", march_2012, 2)]);
    // The same months of the two years: the season is the same, the number of rentals is not.
    let years = months(&table, (2011, 1), &[(2012, 1), (2013, 1)]);
    finds("bike, 2011 and 2012", &table, &years, &[known("cnt", 1, 1)]);
    finds_nothing_when_shuffled("bike", &table, &bounds, 40);
}

/// More ink from image 5,000 on: other writers.
#[test]
fn mnist_10k_or_skipped() {
    let Some(bytes) = shared_data("mnist_10k.parquet") else { return };
    let table = ink(bytes.into());
    let bounds: Bounds = [0].into_iter().chain((4_000..=10_000).step_by(500)).collect();
    finds("mnist", &table, &bounds, &[Known { calm_before: true, ..known("ink", 3, 2) }]);
    finds_nothing_when_shuffled("mnist", &table, &bounds, 40);
}

/// The mean pixel of each image, and its label.
fn ink(bytes: bytes::Bytes) -> Table {
    let reader = ParquetRecordBatchReaderBuilder::try_new(bytes).expect("Parquet").with_batch_size(20_000);
    let batch = reader.build().expect("readable").next().expect("a batch").expect("decoded");
    let pixels = batch.column_by_name("pixels").expect("pixels").as_fixed_size_binary();
    let mean = |image: &[u8]| image.iter().map(|&pixel| f64::from(pixel)).sum::<f64>() / image.len() as f64;
    let ink: Float64Array = pixels.iter().map(|image| image.map(mean)).collect();
    let labels =
        arrow::compute::cast(batch.column_by_name("label").expect("labels"), &DataType::Int64).expect("integers");
    let labels: Int64Array = labels.as_primitive::<Int64Type>().clone();
    let columns: [(&str, ArrayRef); 2] = [("ink", std::sync::Arc::new(ink)), ("label", std::sync::Arc::new(labels))];
    let batch = arrow::array::RecordBatch::try_from_iter(columns).expect("equal lengths");
    Table::from_batch(&batch).expect("two columns of canonical types")
}

/// Without order in time and without drift.
#[test]
fn digits_8x8_or_skipped() {
    let Some(bytes) = shared_data("digits_8x8.parquet") else { return };
    let table = read_parquet(bytes.into()).expect("Parquet");
    finds_nothing_when_shuffled("digits", &table, &vec![0, 1_000, 1_400, 1_797], 40);
}
