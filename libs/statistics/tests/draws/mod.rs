//! Strategies for arbitrary rows.

use proptest::{collection::vec, prelude::*};
use rekindle_statistics::profile::{Column, ColumnProfile, Profile, Timestamp};

/// One optional value of each kind.
#[derive(Debug, Clone)]
pub(crate) struct Row {
    pub(crate) number: Option<f64>,
    pub(crate) text: Option<String>,
    pub(crate) flag: Option<bool>,
    pub(crate) time: Option<i64>,
}

/// Zero or more rows.
pub(crate) fn rows() -> impl Strategy<Value = Vec<Row>> {
    prop_oneof![1 => vec(row(), 0..4), 4 => vec(row(), 0..400)]
}

fn row() -> impl Strategy<Value = Row> {
    let flag = proptest::option::weighted(0.9, any::<bool>());
    let time = proptest::option::weighted(0.9, any::<i64>());
    (number(), text(), flag, time).prop_map(|(number, text, flag, time)| Row { number, text, flag, time })
}

/// Any float, or none.
pub(crate) fn number() -> impl Strategy<Value = Option<f64>> {
    let ends = [f64::NAN, f64::INFINITY, f64::NEG_INFINITY, f64::MAX, f64::MIN, 5e-324, -5e-324, -0.0, 1e300];
    prop_oneof![
        6 => (-5_i32..5).prop_map(|i| Some(f64::from(i))),
        3 => (-1e3..1e3).prop_map(Some),
        1 => any::<u64>().prop_map(|bits| Some(f64::from_bits(bits))),
        1 => proptest::sample::select(ends.to_vec()).prop_map(Some),
        1 => Just(None),
    ]
}

/// Any text: empty, long texts that differ in the last character only, and arbitrary Unicode.
pub(crate) fn text() -> impl Strategy<Value = Option<String>> {
    prop_oneof![
        8 => (0_u32..12).prop_map(|i| Some(format!("value {i}"))),
        2 => any::<String>().prop_map(Some),
        1 => (0_u32..3).prop_map(|i| Some(format!("{}{i}", "é".repeat(5000)))),
        1 => Just(Some(String::new())),
        1 => Just(None),
    ]
}

/// The profile of rows.
pub(crate) fn table(rows: &[Row]) -> Profile {
    let mut time = Timestamp::new();
    rows.iter().for_each(|row| time.add(row.time));
    let columns = [
        ("number", ColumnProfile::of_numbers(rows.iter().map(|row| row.number))),
        ("text", ColumnProfile::of_texts(rows.iter().map(|row| row.text.as_deref()))),
        ("flag", ColumnProfile::of_flags(rows.iter().map(|row| row.flag))),
        ("time", ColumnProfile::Timestamp(time)),
    ];
    let columns = columns.map(|(name, profile)| Column { name: name.to_owned(), profile });
    Profile::new(rows.len() as u64, columns.into())
}
