use rekindle_statistics::{
    convention::Convention,
    drift::{Settings, Verdict, compare},
    profile::{Column, ColumnProfile, Profile},
};

use super::*;
use crate::drift::{
    comparison::{Source, Weighting, WhySkipped},
    scores,
};

const HOSTILE: &str = "<script>alert('x')</script>\"&\u{202e}\0";

fn source(name: &str, rows: u64, columns: Vec<(&str, ColumnProfile)>) -> Source {
    let columns = columns.into_iter().map(|(name, profile)| Column { name: name.to_owned(), profile }).collect();
    Source { name: name.to_owned(), profile: Profile::new(rows, columns), skipped: Vec::new(), notes: Vec::new() }
}

fn compared(reference: Source, current: Source) -> Comparison {
    let settings = Settings::default();
    let report = compare(&reference.profile, &current.profile, &settings).expect("settings in range");
    let scores = report.columns.iter().map(scores::of_verdict).collect();
    let (convention, weighting) = (Convention::Rekindle, Weighting::Effect);
    Comparison { reference, current, report, settings, convention, scores, weighting, notes: vec![HOSTILE.to_owned()] }
}

fn numbers(rows: u64, of: impl Fn(f64) -> Option<f64>) -> ColumnProfile {
    ColumnProfile::of_numbers((0..rows).map(|row| of((row * 7919 % rows) as f64 / rows as f64)))
}

fn names(rows: u64, of: impl Fn(u64) -> String) -> ColumnProfile {
    let names: Vec<String> = (0..rows).map(of).collect();
    ColumnProfile::of_texts(names.iter().map(|name| Some(name.as_str())))
}

/// One column of every sort, with hostile names wherever a name can be.
fn every_sort() -> Comparison {
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
    let mut comparison = compared(source(HOSTILE, N, reference), source("now.parquet", M, current));
    comparison
        .current
        .skipped
        .push(Skipped { name: HOSTILE.to_owned(), reason: WhySkipped::Unsupported("a list".to_owned()) });
    comparison
}

/// Whatever comes from the files is text.
fn check(page: &str) {
    for wrong in ["<script", "<b>new", "alert('", "NaN", "\0", "http://", "https://"] {
        assert!(!page.contains(wrong), "{wrong}");
    }
}

#[test]
fn every_column_is_told_and_nothing_of_the_files_is_markup() {
    let comparison = every_sort();
    let page = render(&comparison).expect("a page");
    check(&page);
    for (id, column) in comparison.report.columns.iter().enumerate() {
        assert_eq!(page.matches(&format!("id=\"c{id}\"")).count(), 1, "{}", column.name);
    }
    assert!(page.contains("&#60;script&#62;") || page.contains("&lt;script&gt;"));
    for (name, advised) in [
        ("steady", "Nothing."),
        ("unit", "whether a unit or a scale has changed"),
        ("gaps", "Look at the pipeline before the model"),
        ("beyond", "Look at some of these rows by hand"),
        ("not finite", "division by zero"),
        ("left", "\"right\" seem to have changed places"),
        ("gone", "is no longer delivered"),
        ("retyped", "the values arrive as another type"),
        ("ids", "compare what it is made of"),
        ("flag", "in other proportions"),
    ] {
        let column = comparison.report.columns.iter().find(|column| column.name == name).expect(name);
        let told = advice::of(column, &comparison);
        assert!(told.contains(advised), "{name}: {told}");
        let shown = advised.replace('"', "&#34;");
        assert!(page.contains(&shown), "{name}: {shown}");
    }
}

#[test]
fn a_table_without_rows_or_columns_has_a_page() {
    for (rows, columns) in [(0, Vec::new()), (0, vec![("x", numbers(0, Some))]), (1, vec![("x", numbers(1, |_| None))])]
    {
        let comparison = compared(source("a", rows, columns.clone()), source("b", rows, columns));
        assert_eq!(comparison.report.verdict, Verdict::Unknown);
        let page = render(&comparison).expect("a page");
        check(&page);
        assert!(page.contains("nothing can be told of any of") || page.contains("no columns to compare"));
    }
}

#[test]
fn few_rows_are_told_how_many_it_takes() {
    let comparison = compared(
        source("a", 10_000, vec![("x", numbers(10_000, Some))]),
        source("b", 60, vec![("x", numbers(60, Some))]),
    );
    let page = render(&comparison).expect("a page");
    assert!(page.contains("Collect about"), "{page}");
}

#[test]
fn two_hundred_columns_with_long_names_have_a_page_of_a_few_megabytes() {
    let long: Vec<String> = (0..200).map(|column| format!("{column} {}", "very long name ".repeat(20))).collect();
    let columns = |rows| long.iter().map(|name| (name.as_str(), numbers(rows, Some))).collect();
    let page = render(&compared(source("a", 5000, columns(5000)), source("b", 5000, columns(5000)))).expect("a page");
    assert!(page.len() < 6_000_000, "{}", page.len());
}
