//! Instants: milliseconds since 1970 in UTC, in the years 1 to 9999.

use std::sync::Arc;

use arrow::array::{
    ArrayRef, Date32Array, Float64Array, Int64Array, StringArray, TimestampMicrosecondArray, TimestampMillisecondArray,
    TimestampNanosecondArray, TimestampSecondArray,
};
use chrono::DateTime;
use proptest::prelude::*;
use rekindle_dataset::IngestOptions;
use rekindle_domain::{
    ColumnKind,
    dataset::{EpochUnit, ReadOptions, TimeFormat},
};

use crate::support::{csv_of, options, parquet_of, read, read_in_kind, register, times_in};

/// Read without an option.
const ISO: [(&str, &str); 24] = [
    ("2024-03-01", "2024-03-01T00:00:00Z"),
    ("2024/03/01", "2024-03-01T00:00:00Z"),
    ("2024-03-01 10:30", "2024-03-01T10:30:00Z"),
    ("2024-03-01T10:30", "2024-03-01T10:30:00Z"),
    ("2024/03/01 10:30", "2024-03-01T10:30:00Z"),
    ("2024-03-01 10:30:15", "2024-03-01T10:30:15Z"),
    ("2024-03-01T10:30:15", "2024-03-01T10:30:15Z"),
    ("2024-03-01t10:30:15z", "2024-03-01T10:30:15Z"),
    ("2024-03-01 10:30:15.5", "2024-03-01T10:30:15.500Z"),
    ("2024-03-01 10:30:15,250", "2024-03-01T10:30:15.250Z"),
    ("2024-03-01 10:30:15.123999999", "2024-03-01T10:30:15.123Z"),
    ("2024-03-01T10:30:15Z", "2024-03-01T10:30:15Z"),
    ("2024-03-01 10:30 UTC", "2024-03-01T10:30:00Z"),
    ("2024-03-01 10:30:15 GMT", "2024-03-01T10:30:15Z"),
    ("2024-03-01T10:30:15+00", "2024-03-01T10:30:15Z"),
    ("2024-03-01T10:30:15+0000", "2024-03-01T10:30:15Z"),
    ("2024-03-01T10:30:15+02:00", "2024-03-01T08:30:15Z"),
    ("2024-03-01T10:30+0200", "2024-03-01T08:30:00Z"),
    ("2024-03-01 10:30:15 -0530", "2024-03-01T16:00:15Z"),
    ("2024-02-29T23:59:59.999-08", "2024-03-01T07:59:59.999Z"),
    ("2016-12-31T23:59:60Z", "2017-01-01T00:00:00Z"),
    ("1969-12-31T23:59:59.9999Z", "1969-12-31T23:59:59.999Z"),
    ("0001-01-01", "0001-01-01T00:00:00Z"),
    ("9999-12-31 23:59:59.999", "9999-12-31T23:59:59.999Z"),
];

/// Text, without a time format.
const TEXT: [&str; 19] = [
    "3-2-1",
    "2024-3-1",
    "2024-13-01",
    "2023-02-29",
    "2024-03/01",
    "2024-03-01T",
    "2024-03-01-05",
    "2024-03-01+00:00",
    "2024-03-01 1:2:3",
    "2024-03-01 24:00",
    "2024-03-01 10:60",
    "2024-03-01 10:30:15.",
    "2024-03-01 10:30 CET",
    "2024-03-01 10:30+25",
    "2024-03-01 10:30+02:",
    "0000-01-01",
    "0001-01-01T00:00+01:00",
    "10:30",
    "31/12/2024",
];

const DAY_FIRST: [(&str, &str); 6] = [
    ("31/12/2024", "2024-12-31T00:00:00Z"),
    ("1.2.2024", "2024-02-01T00:00:00Z"),
    ("01-02-2024 9:05", "2024-02-01T09:05:00Z"),
    ("01/02/2024T10:30:15.5+01:00", "2024-02-01T09:30:15.500Z"),
    ("01/02/2024 12:05 am", "2024-02-01T00:05:00Z"),
    ("2024-02-01 10:30", "2024-02-01T10:30:00Z"),
];

const MONTH_FIRST: [(&str, &str); 5] = [
    ("12/31/2024", "2024-12-31T00:00:00Z"),
    ("1/2/2024", "2024-01-02T00:00:00Z"),
    ("1/2/2024 1:05:09 PM", "2024-01-02T13:05:09Z"),
    ("1/2/2024 12:30 PM", "2024-01-02T12:30:00Z"),
    ("2024-02-01", "2024-02-01T00:00:00Z"),
];

const EPOCHS: [(EpochUnit, i64, &str); 7] = [
    (EpochUnit::Seconds, 1_710_460_800, "2024-03-15T00:00:00Z"),
    (EpochUnit::Millis, 1_710_460_800_001, "2024-03-15T00:00:00.001Z"),
    (EpochUnit::Micros, 1_710_460_800_001_999, "2024-03-15T00:00:00.001Z"),
    (EpochUnit::Nanos, 1_710_460_800_001_999_999, "2024-03-15T00:00:00.001Z"),
    (EpochUnit::Seconds, -1, "1969-12-31T23:59:59Z"),
    (EpochUnit::Micros, -1, "1969-12-31T23:59:59.999Z"),
    (EpochUnit::Millis, 0, "1970-01-01T00:00:00Z"),
];

fn instant(text: &str) -> ArrayRef {
    let millis = DateTime::parse_from_rfc3339(text).unwrap().timestamp_millis();
    Arc::new(TimestampMillisecondArray::from(vec![millis]))
}

fn text(text: &str) -> ArrayRef {
    Arc::new(StringArray::from(vec![text]))
}

/// As CSV, as text in Parquet that is declared to be times, and as a timestamp in Parquet.
#[track_caller]
fn is_read_as(spelling: &str, time: &str, general: TimeFormat) {
    let reading = ReadOptions { time_format: general, ..ReadOptions::default() };
    let of_csv = read(&csv_of(&[spelling]), &reading).unwrap();
    assert_eq!(of_csv.v(), ("Timestamp(ms)", vec![time.to_owned()]), "{spelling:?}");
    assert_eq!(of_csv.note(), "", "{spelling:?}");
    let of_timestamp = read(&parquet_of(instant(time)), &ReadOptions::default()).unwrap();
    assert_eq!(of_timestamp.content, of_csv.content, "{spelling:?}");
    let of_text = read(&parquet_of(text(spelling)), &times_in(general)).unwrap();
    assert_eq!(of_text.content, of_csv.content, "{spelling:?}");
    let of_declared = read(&csv_of(&[spelling]), &times_in(general)).unwrap();
    assert_eq!(of_declared.content, of_csv.content, "{spelling:?}");
}

#[test]
fn iso_times_are_read() {
    ISO.iter().for_each(|(spelling, time)| is_read_as(spelling, time, TimeFormat::Iso));
}

#[test]
fn declared_formats_are_read() {
    DAY_FIRST.iter().for_each(|(spelling, time)| is_read_as(spelling, time, TimeFormat::DayFirst));
    MONTH_FIRST.iter().for_each(|(spelling, time)| is_read_as(spelling, time, TimeFormat::MonthFirst));
}

#[test]
fn what_is_no_time_is_text_and_an_error_where_times_are_declared() {
    for spelling in TEXT {
        assert_eq!(
            read(&csv_of(&[spelling]), &ReadOptions::default()).unwrap().v(),
            ("Utf8", vec![spelling.to_owned()])
        );
        for file in [
            csv_of(&["2024-03-01", spelling]),
            parquet_of(Arc::new(StringArray::from(vec!["2024-03-01", spelling])) as ArrayRef),
        ] {
            let refused = read(&file, &times_in(TimeFormat::Iso)).unwrap_err();
            assert!(
                refused.contains(&format!("column \"v\", row 1: {spelling:?} is not a time as iso writes it")),
                "{refused}"
            );
        }
    }
    for (format, spelling) in [
        (TimeFormat::MonthFirst, "31/12/2024"),
        (TimeFormat::DayFirst, "12/31/2024"),
        (TimeFormat::DayFirst, "31/12/24"),
        (TimeFormat::DayFirst, "31/12/2024 13:00 PM"),
        (TimeFormat::Epoch(EpochUnit::Seconds), "soon"),
        (TimeFormat::Epoch(EpochUnit::Seconds), "1e300"),
    ] {
        let refused = read(&csv_of(&[spelling]), &times_in(format)).unwrap_err();
        assert!(refused.contains("row 0") && refused.contains(&format!("as {format} writes it")), "{refused}");
    }
}

#[test]
fn epochs_are_read_in_their_declared_unit() {
    for (unit, number, time) in EPOCHS {
        let reading = times_in(TimeFormat::Epoch(unit));
        let of_csv = read(&csv_of(&[&number.to_string()]), &reading).unwrap();
        assert_eq!(of_csv.v(), ("Timestamp(ms)", vec![time.to_owned()]), "{number} {unit:?}");
        let of_parquet = read(&parquet_of(Arc::new(Int64Array::from(vec![number])) as ArrayRef), &reading).unwrap();
        assert_eq!(of_parquet.content, of_csv.content, "{number} {unit:?}");
    }
    let reading = times_in(TimeFormat::Epoch(EpochUnit::Seconds));
    let of_csv = read(&csv_of(&["1710460800.123", ""]), &reading).unwrap();
    assert_eq!(of_csv.v().1, ["2024-03-15T00:00:00.123Z", "-"]);
    let floats = Float64Array::from(vec![Some(1_710_460_800.123), Some(f64::NAN)]);
    assert_eq!(read(&parquet_of(Arc::new(floats) as ArrayRef), &reading).unwrap().content, of_csv.content);
}

/// The numbers of a time column, and of a column that is declared a timestamp.
#[test]
fn the_unit_of_epochs_is_inferred_where_it_is_certain() {
    for (unit, number, time) in EPOCHS.into_iter().take(4) {
        let numbers = Int64Array::from(vec![number, number]);
        for file in [csv_of(&[number.to_string().as_str(); 2]), parquet_of(Arc::new(numbers) as ArrayRef)] {
            let by_time =
                register(std::slice::from_ref(&file), &IngestOptions { time_column: Some("v".into()), ..options() })
                    .unwrap();
            assert_eq!(by_time.v(), ("Timestamp(ms)", vec![time.to_owned(); 2]));
            assert!(by_time.note().contains(&format!("read as {} since 1970", unit.name())), "{}", by_time.note());
            assert_eq!(read_in_kind(&file, ColumnKind::Timestamp).unwrap().content, by_time.content);
        }
    }
    assert_eq!(read_in_kind(&csv_of(&["1000"]), ColumnKind::Timestamp).unwrap().v().1, ["1970-01-01T00:00:01Z"]);
    let mixed = read_in_kind(&csv_of(&["0", "1710460800"]), ColumnKind::Timestamp).unwrap_err();
    assert!(mixed.contains("the sources: column \"v\": the numbers from 0 to 1710460800"), "{mixed}");
    let small = register(&[csv_of(&["7"])], &IngestOptions { time_column: Some("v".into()), ..options() }).unwrap_err();
    assert!(small.contains("the time column: column \"v\" is Int64; expected a timestamp"), "{small}");
}

#[test]
fn timestamps_of_parquet_are_truncated_to_milliseconds() {
    for (array, times) in [
        (Arc::new(Date32Array::from(vec![0, 19_783])) as ArrayRef, ["1970-01-01T00:00:00Z", "2024-03-01T00:00:00Z"]),
        (Arc::new(TimestampSecondArray::from(vec![-1, 1])), ["1969-12-31T23:59:59Z", "1970-01-01T00:00:01Z"]),
        (
            Arc::new(TimestampMicrosecondArray::from(vec![-1, 1001]).with_timezone("America/New_York")),
            ["1969-12-31T23:59:59.999Z", "1970-01-01T00:00:00.001Z"],
        ),
        (
            Arc::new(TimestampNanosecondArray::from(vec![-1, 1_000_001])),
            ["1969-12-31T23:59:59.999Z", "1970-01-01T00:00:00.001Z"],
        ),
    ] {
        let read = read(&parquet_of(array), &ReadOptions::default()).unwrap();
        assert_eq!(read.v(), ("Timestamp(ms)", times.map(str::to_owned).to_vec()));
    }
    for millis in [-62_135_596_800_001, 253_402_300_800_000] {
        let array = TimestampMillisecondArray::from(vec![0, millis]);
        let refused = read(&parquet_of(Arc::new(array) as ArrayRef), &ReadOptions::default()).unwrap_err();
        assert!(
            refused.contains("source 0: column \"v\", row 1: is") && refused.contains("years 1 to 9999"),
            "{refused}"
        );
    }
}

#[test]
fn text_that_looks_like_times_is_told_with_the_spellings_that_are_read() {
    for spelling in
        ["31/12/2024", "12/31/24", "1.2.2024 10:30", "2024-3-1", "Mar 1, 2024", "01-Mar-2024 10:30", "Fri Mar 1 2024"]
    {
        let note = read(&csv_of(&[spelling; 3]), &ReadOptions::default()).unwrap().note();
        assert!(note.contains(&format!("looks like times, such as {spelling:?}")), "{spelling}: {note}");
        assert!(note.contains("2024-03-01 10:30") && note.contains("--time-format"), "{note}");
    }
    for other in ["192.168.10.1", "1.2.3", "A-12-2024", "may", "May 5", "12-34-2024", "555-1234"] {
        assert_eq!(read(&csv_of(&[other; 3]), &ReadOptions::default()).unwrap().note(), "", "{other}");
    }
    let note = read(&csv_of(&["20240301", "20241231"]), &ReadOptions::default()).unwrap().note();
    assert!(note.contains("read as numbers although it looks like dates, such as 20240301"), "{note}");
    let note = read(&csv_of(&["20240301", "20249999"]), &ReadOptions::default()).unwrap().note();
    assert_eq!(note, "");
    let mut times = vec!["2024-03-01"; 20];
    times.push("unknown");
    let note = read(&csv_of(&times), &ReadOptions::default()).unwrap().note();
    assert!(note.contains("not as times since it has the value \"unknown\""), "{note}");
}

proptest! {
    /// As chrono writes them.
    #[test]
    fn every_instant_is_read_as_it_is_written(millis in -62_135_596_800_000..=253_402_300_799_999_i64) {
        let time = DateTime::from_timestamp_millis(millis).unwrap();
        let minutes = DateTime::from_timestamp_millis(millis.div_euclid(60_000) * 60_000).unwrap();
        let day_first = times_in(TimeFormat::DayFirst);
        for (format, reading, expected) in [
            ("%Y-%m-%d %H:%M:%S%.3f", &ReadOptions::default(), time),
            ("%Y-%m-%dT%H:%M:%S%.6fZ", &ReadOptions::default(), time),
            ("%Y/%m/%d %H:%M %z", &ReadOptions::default(), minutes),
            ("%d.%m.%Y %H:%M:%S%.3f", &day_first, time),
        ] {
            let written = time.format(format).to_string();
            let times = read(&csv_of(&[&written]), reading).unwrap();
            prop_assert_eq!(times.table.times("v").unwrap(), &[expected.timestamp_millis()], "{}", written);
        }
    }
}
