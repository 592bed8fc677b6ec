//! The HTML page, and the texts of the other formats, for every kind of column and finding.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise, in its helpers too")]

use rekindle_drift_report::{DataSource, DriftReport, Options, SkipReason, SkippedColumn};
use rekindle_statistics::{
    drift::Verdict,
    profile::{Column, ColumnProfile, Profile},
};

const HOSTILE: &str = "<script>alert('x')</script>\"&\u{202e}\0";

fn source(name: &str, rows: u64, columns: Vec<(&str, ColumnProfile)>) -> DataSource {
    let columns = columns.into_iter().map(|(name, profile)| Column { name: name.to_owned(), profile }).collect();
    DataSource::new(name, Profile::new(rows, columns))
}

fn compared(reference: DataSource, current: DataSource) -> DriftReport {
    DriftReport::compare(reference, current, Options::default()).unwrap()
}

fn numbers(rows: u64, of: impl Fn(f64) -> Option<f64>) -> ColumnProfile {
    ColumnProfile::of_numbers((0..rows).map(|row| of((row * 7919 % rows) as f64 / rows as f64)))
}

fn names(rows: u64, of: impl Fn(u64) -> String) -> ColumnProfile {
    let names: Vec<String> = (0..rows).map(of).collect();
    ColumnProfile::of_texts(names.iter().map(|name| Some(name.as_str())))
}

/// A column for every finding, with hostile text wherever text comes from the data.
fn every_finding() -> DriftReport {
    const N: u64 = 20_000;
    const M: u64 = 4_000;
    let ids = |rows: u64, from: u64| names(rows, move |row| format!("id-{}", row + from));
    let reference = vec![
        ("steady", numbers(N, Some)),
        ("unit", numbers(N, |u| Some(1.0 + u))),
        ("gaps", numbers(N, |u| Some(u).filter(|u| *u > 0.05))),
        (HOSTILE, names(N, |row| format!("{} {HOSTILE}", row % 3))),
        ("beyond", numbers(N, |u| Some(u * u))),
        ("not finite", numbers(N, Some)),
        ("left", numbers(N, Some)),
        ("right", numbers(N, |u| Some(u * 9.0 - 20.0))),
        ("gone", numbers(N, Some)),
        ("retyped", numbers(N, Some)),
        ("ids", ids(N, 0)),
        ("flag", ColumnProfile::of_flags((0..N).map(|row| Some(row % 4 == 0)))),
        ("many values", names(N, |row| format!("value {}", row % 900))),
    ];
    let current = vec![
        ("steady", numbers(M, Some)),
        ("unit", numbers(M, |u| Some(1000.0 + 1000.0 * u))),
        ("gaps", numbers(M, |u| Some(u).filter(|u| *u > 0.95))),
        (HOSTILE, names(M, |row| format!("{} {HOSTILE}", row % 5))),
        ("beyond", numbers(M, |u| Some(if u > 0.9 { 1e300 } else { u * u }))),
        ("not finite", numbers(M, |u| Some(if u > 0.7 { f64::NAN } else { u }))),
        ("left", numbers(M, |u| Some(u * 9.0 - 20.0))),
        ("right", numbers(M, Some)),
        ("retyped", names(M, |row| row.to_string())),
        ("ids", ids(M, N)),
        ("flag", ColumnProfile::of_flags((0..M).map(|row| Some(row % 2 == 0)))),
        ("many values", names(M, |row| format!("value {}", row % 900))),
        ("<b>new</b>", numbers(M, Some)),
    ];
    let mut current = source("now.parquet", M, current);
    let reason = SkipReason::UnsupportedType("List".to_owned());
    current.skipped.push(SkippedColumn { name: HOSTILE.to_owned() + " list", reason });
    current.notes.push(HOSTILE.to_owned());
    compared(source(HOSTILE, N, reference), current)
}

/// Text from the data is never markup.
fn check(page: &str) {
    for wrong in ["<script", "<b>new", "alert('", "NaN", "\0", "http://", "https://"] {
        assert!(!page.contains(wrong), "{wrong}");
    }
}

#[test]
fn every_column_is_shown_and_text_from_the_data_is_escaped() {
    let report = every_finding();
    let page = report.to_html().unwrap();
    check(&page);
    for (id, column) in report.comparison().columns.iter().enumerate() {
        assert_eq!(page.matches(&format!("id=\"c{id}\"")).count(), 1, "{}", column.name);
    }
    assert!(page.contains("&#60;script&#62;") || page.contains("&lt;script&gt;"));
    assert!(!report.to_table(None).contains('\0') && !report.to_table(Some(80)).contains('\0'));
}

/// The part of a page that describes a column.
fn details<'a>(page: &'a str, report: &DriftReport, name: &str) -> &'a str {
    let id = report.comparison().columns.iter().position(|column| column.name == name).unwrap();
    let start = page.find(&format!("<details class=\"column\" id=\"c{id}\"")).unwrap();
    let end = page[start..].find("<figure>").unwrap();
    &page[start..start + end]
}

#[test]
fn every_finding_has_an_action() {
    let report = every_finding();
    let page = report.to_html().unwrap();
    for (name, action) in [
        ("steady", "None."),
        ("unit", "whether a unit or a scale has changed"),
        ("gaps", "Check the data pipeline before the model"),
        ("beyond", "Inspect some of these rows"),
        ("not finite", "division by zero"),
        ("left", "&#34;right&#34; appear to be swapped"),
        ("gone", "is no longer delivered"),
        ("retyped", "have another type than in the reference data"),
        ("ids", "a feature derived from it"),
        ("flag", "in different proportions"),
    ] {
        let details = details(&page, &report, name);
        assert!(details.contains(action), "{name}: {details}");
    }
}

#[test]
fn empty_tables_have_a_page() {
    for (rows, columns, text) in [
        (0, Vec::new(), "no columns to compare."),
        (0, vec![("x", numbers(0, Some))], "neither drift nor stability can be shown for 1 column."),
        (1, vec![("x", numbers(1, |_| None))], "neither drift nor stability can be shown for 1 column."),
    ] {
        let report = compared(source("a", rows, columns.clone()), source("b", rows, columns));
        assert_eq!(report.verdict(), Verdict::Inconclusive);
        let page = report.to_html().unwrap();
        check(&page);
        assert!(page.contains(text), "{text}");
    }
}

#[test]
fn inconclusive_columns_state_the_rows_needed() {
    let report = compared(
        source("a", 10_000, vec![("x", numbers(10_000, Some))]),
        source("b", 60, vec![("x", numbers(60, Some))]),
    );
    let page = report.to_html().unwrap();
    assert!(page.contains("Collect about") && page.contains("? inconclusive"), "{page}");
    let table = report.to_table(None);
    assert!(table.contains("Inconclusive columns: x; about ") && table.contains(" rows are needed."), "{table}");
}

#[test]
fn two_hundred_columns_with_long_names_have_a_page_of_a_few_megabytes() {
    let long: Vec<String> = (0..200).map(|column| format!("{column} {}", "very long name ".repeat(20))).collect();
    let columns = |rows| long.iter().map(|name| (name.as_str(), numbers(rows, Some))).collect();
    let page = compared(source("a", 5000, columns(5000)), source("b", 5000, columns(5000))).to_html().unwrap();
    assert!(page.len() < 6_000_000, "{}", page.len());
}
