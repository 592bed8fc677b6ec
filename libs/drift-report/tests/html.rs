//! The HTML page, and the texts of the other formats, for every kind of column and finding.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise, in its helpers too")]

use std::collections::BTreeSet;

use rekindle_drift_report::{DataSource, DriftReport, Options, SkipReason, SkippedColumn};
use rekindle_statistics::{
    drift::Verdict,
    profile::{Column, ColumnProfile, Profile},
};
use rekindle_testkit::Browser;

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

/// The texts between two marks.
fn between<'a>(page: &'a str, start: &str, end: &str) -> BTreeSet<&'a str> {
    page.split(start).skip(1).filter_map(|rest| Some(rest.split_once(end)?.0)).collect()
}

#[test]
fn the_glossary_explains_every_word_that_is_shown_as_a_status() {
    let page = every_finding().to_html().unwrap();
    let (shown, glossary) = page.split_once("<section class=\"glossary\">").unwrap();
    let verdicts = between(shown, "<span class=\"tag ", "\">");
    assert_eq!(verdicts, BTreeSet::from(["drifted", "stable", "inconclusive"]));
    for verdict in verdicts {
        assert!(glossary.contains(&format!("<td><span class=\"tag {verdict}\">")), "{verdict}");
    }
    assert!(glossary.contains("<i>unknown</i>"), "the name of a verdict in earlier reports");
    let marks = between(shown, "<tspan class=\"mark\">", "<");
    let beside: BTreeSet<&str> = shown
        .split("text-anchor=\"middle\">")
        .skip(1)
        .filter_map(|rest| rest.split_once("</text></g>").map(|(name, _)| name))
        .filter(|name| !name.contains(['<', '\n']))
        .map(|name| if name.starts_with("above ") || name.starts_with("below ") { "below, above" } else { name })
        .collect();
    assert!(
        marks.contains("new") && beside.contains("missing") && beside.contains("below, above"),
        "{marks:?} {beside:?}"
    );
    let kinds = between(shown, "<td data-name=\"kind\">", "<");
    for word in marks.into_iter().chain(beside).chain(kinds) {
        assert!(glossary.contains(&format!("<tr><td>{word}</td>")), "{word}");
    }
}

#[test]
fn a_column_with_one_value_does_not_move_within_its_range() {
    const ROWS: u64 = 20_000;
    let steady = |_: f64| Some(7.5);
    let sparse = |share: f64| move |u: f64| Some(7.5).filter(|_| u < share);
    let one = |rows| names(rows, |_| "a".to_owned());
    let cases: [(&str, ColumnProfile, ColumnProfile, &str); 6] = [
        ("above", numbers(ROWS, steady), numbers(ROWS, |u| Some(7.5 + u)), "a single value in this column"),
        ("now", numbers(ROWS, Some), numbers(ROWS, |_| Some(0.25)), "All current rows have the same value"),
        ("fewer", numbers(ROWS, sparse(0.1)), numbers(ROWS, sparse(0.3)), "Values arrive that used to be missing"),
        ("more", numbers(ROWS, sparse(0.9)), numbers(ROWS, sparse(0.5)), "no longer delivers values"),
        ("text", names(ROWS, |row| (row % 3).to_string()), names(ROWS, |_| "1".to_owned()), "All current rows"),
        ("new", one(ROWS), names(ROWS, |row| if row % 2 == 0 { "a" } else { "b" }.to_owned()), "Find out what"),
    ];
    let columns = |side: fn(&(&'static str, ColumnProfile, ColumnProfile, &str)) -> ColumnProfile| {
        cases.iter().map(|case| (case.0, side(case))).collect()
    };
    let report =
        compared(source("a", ROWS, columns(|case| case.1.clone())), source("b", ROWS, columns(|case| case.2.clone())));
    let page = report.to_html().unwrap();
    for (name, _, _, action) in &cases {
        let details = details(&page, &report, name);
        assert!(details.contains(action) && !details.contains("within the range"), "{name}: {details}");
    }
}

#[test]
fn the_target_and_running_numbers_are_not_causes() {
    const ROWS: u64 = 6_000;
    let count = |from: u64| ColumnProfile::of_numbers((from..from + ROWS).map(|row| Some(row as f64)));
    let columns = |from: u64, by: f64| {
        vec![
            ("id", count(from)),
            ("a", numbers(ROWS, move |u| Some(u + by))),
            ("label", numbers(ROWS, move |u| Some(u + by))),
        ]
    };
    let mut report = compared(source("a", ROWS, columns(0, 0.0)), source("b", ROWS, columns(ROWS, 0.2)));
    let shares = |report: &DriftReport| report.comparison().columns.iter().map(|c| c.cause_share).collect::<Vec<_>>();
    assert_eq!(shares(&report), [0.0, 0.5, 0.5]);
    report.set_target("label").unwrap();
    assert_eq!(shares(&report), [0.0, 1.0, 0.0]);
    report.attribute_by_importance(&[("a".to_owned(), 1.0), ("label".to_owned(), 9.0)].into()).unwrap();
    assert_eq!(shares(&report), [0.0, 1.0, 0.0]);
    let page = report.to_html().unwrap();
    for text in ["<bdi>id</bdi></a> (a running number)", "<bdi>label</bdi></a> (the target)", "3 of 3 columns drifted."]
    {
        assert!(page.contains(text), "{text}");
    }
    assert!(report.set_target("other").is_err());
}

#[test]
fn no_table_is_wider_than_its_card_or_skipped() {
    let Some(browser) = Browser::find_or_say_skipped() else { return };
    let long: Vec<String> = (0..30).map(|column| format!("{column}{}", "_a_very_long_name".repeat(20))).collect();
    let columns = |by: f64| long.iter().map(|name| (name.as_str(), numbers(5000, move |u| Some(u + by)))).collect();
    let wordy = compared(source(&long[0], 5000, columns(0.0)), source(&long[1], 5000, columns(1e6)));
    let one = compared(source("a", 9, vec![("x", numbers(9, Some))]), source("b", 9, vec![("x", numbers(9, Some))]));
    for (name, report) in [("findings", every_finding()), ("long names", wordy), ("one column", one)] {
        let page = report.to_html().unwrap();
        for width in [1400, 2400] {
            let layout = browser.lay_out(&page, width);
            assert!(layout.tables.len() > 4, "{name}: {layout:?}");
            assert!(layout.page <= width, "{name} at {width}: {layout:?}");
            let wider = layout.tables.iter().find(|(table, card)| table > card);
            assert_eq!(wider, None, "{name} at {width}: {layout:?}");
        }
        // On a phone wide charts are scrolled in their cards, but never the page.
        let layout = browser.lay_out(&page, 420);
        assert!(layout.page <= 420, "{name}: {layout:?}");
    }
}
