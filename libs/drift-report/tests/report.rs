//! What a report is built from, its attribution, and its JSON and table.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise, in its helpers too")]

use std::{collections::BTreeMap, sync::Arc};

use arrow::array::{
    ArrayRef, BooleanArray, DictionaryArray, Float64Array, Int64Array, ListArray, RecordBatch, StringArray,
    types::{Int32Type, Int64Type},
};
use rekindle_drift_report::{
    DataSource, DriftReport, Error, Options, PredictionScan, SkipReason, SkippedColumn, profile_buckets, profile_table,
};
use rekindle_statistics::{
    convention::Convention,
    drift::{Settings, Verdict, compare},
    profile::{Column, ColumnProfile, Numeric, Profile},
};
use serde_json::{Value, json};

const ROWS: u64 = 20_000;

/// Columns `number`, `flag` and `text`. With a `shift`, numbers are larger, and the flag and the text `a` are more frequent.
fn rows(shift: usize) -> (Vec<f64>, Vec<bool>, Vec<String>) {
    let row = |row: usize| {
        let number = (row * 7919 % 1009) as f64 / 100.0 + shift as f64;
        (number, row % 10 < 3 + shift, if row % 10 < 3 + shift { "a" } else { "b" }.to_owned())
    };
    let rows = (0..ROWS as usize).map(row);
    rows.fold((Vec::new(), Vec::new(), Vec::new()), |mut columns, (number, flag, text)| {
        columns.0.push(number);
        columns.1.push(flag);
        columns.2.push(text);
        columns
    })
}

fn source(shift: usize) -> DataSource {
    let (numbers, flags, texts) = rows(shift);
    let columns = [
        ("number", ColumnProfile::of_numbers(numbers.into_iter().map(Some))),
        ("flag", ColumnProfile::of_flags(flags.into_iter().map(Some))),
        ("text", ColumnProfile::of_texts(texts.iter().map(|text| Some(text.as_str())))),
    ];
    let columns = columns.map(|(name, profile)| Column { name: name.to_owned(), profile });
    DataSource::new(format!("shift {shift}"), Profile::new(ROWS, columns.into()))
}

fn drifted() -> DriftReport {
    DriftReport::compare(source(0), source(4), Options::default()).unwrap()
}

fn json_of(report: &DriftReport) -> Value {
    serde_json::from_str(&report.to_json().unwrap()).unwrap()
}

fn share(report: &DriftReport, name: &str) -> f64 {
    report.comparison().columns.iter().find(|column| column.name == name).unwrap().cause_share
}

#[test]
fn a_computed_comparison_gives_the_same_report_as_its_sources() {
    let settings = Settings { looks: 7, ..Settings::default() };
    let comparison = compare(&source(0).profile, &source(4).profile, &settings).unwrap();
    let report = DriftReport::from_comparison(comparison, source(0), source(4), settings).unwrap();
    let options = Options { settings, ..Options::default() };
    let expected = DriftReport::compare(source(0), source(4), options).unwrap();
    assert_eq!(json_of(&report), json_of(&expected));
    assert_eq!(report.to_html().unwrap(), expected.to_html().unwrap());
    assert!(report.to_table(None).contains("in 7 windows like this one"));
}

#[test]
fn a_comparison_of_other_profiles_is_rejected() {
    let comparison = compare(&source(0).profile, &source(4).profile, &Settings::default()).unwrap();
    let mut other = source(0);
    other.profile.columns.swap(0, 1);
    let error = DriftReport::from_comparison(comparison.clone(), other, source(4), Settings::default()).unwrap_err();
    assert!(matches!(error, Error::ColumnMismatch { position: 0, .. }), "{error}");
    let mut fewer = source(0);
    fewer.profile.columns.pop();
    let error = DriftReport::from_comparison(comparison, fewer, source(4), Settings::default()).unwrap_err();
    assert!(matches!(error, Error::ColumnMismatch { position: 2, expected: None, .. }), "{error}");
    let options = Options { settings: Settings { margin: 0.0, ..Settings::default() }, ..Options::default() };
    assert!(matches!(DriftReport::compare(source(0), source(0), options), Err(Error::Comparison(_))));
}

#[test]
fn columns_that_only_one_side_has_are_new_or_skipped() {
    let skipped = |name: &str, reason| SkippedColumn { name: name.to_owned(), reason };
    let (mut reference, mut current) = (source(0), source(0));
    reference.skipped.push(skipped("ignored", SkipReason::NotSelected));
    let text = current.profile.columns.pop().unwrap();
    current.profile.columns.push(Column { name: "profiled".to_owned(), ..text });
    current.skipped = vec![
        skipped("unprofiled", SkipReason::NotInReference),
        skipped("ignored", SkipReason::NotInReference),
        skipped("text", SkipReason::UnsupportedType("List(Int64)".to_owned())),
    ];
    let report = DriftReport::compare(reference, current, Options::default()).unwrap();
    let json = json_of(&report);
    assert_eq!(json["new_columns"], json!(["profiled", "unprofiled"]));
    assert_eq!(json["columns"][2]["reason"], "type List(Int64) is not supported");
    assert_eq!(json["skipped"]["reference"], json!([{ "name": "ignored", "reason": "not selected" }]));
    assert_eq!(json["skipped"]["current"][0]["name"], "text");
    assert_eq!(json["skipped"]["current"].as_array().unwrap().len(), 1);
    let table = report.to_table(None);
    assert!(table.contains("New columns, not in the reference data: profiled, unprofiled."), "{table}");
    assert!(table.contains("Skipped in shift 0: text (type List(Int64) is not supported)."), "{table}");
    let page = report.to_html().unwrap();
    assert!(page.contains("Check the schema: the column has a type"), "{page}");
}

#[test]
fn verdicts_are_words_in_every_format() {
    let few = DataSource::new(
        "few",
        Profile::new(1, vec![Column { name: "number".to_owned(), profile: ColumnProfile::of_numbers([Some(1.0)]) }]),
    );
    let inconclusive = DriftReport::compare(few.clone(), few, Options::default()).unwrap();
    let stable = DriftReport::compare(source(0), source(0), Options::default()).unwrap();
    for (report, verdict, word, sentence) in [
        (drifted(), Verdict::Drifted, "drifted", "Drifted: 3 of 3 columns ("),
        (
            stable,
            Verdict::Stable,
            "stable",
            "Stable: 3 columns; 20,000 rows compared with 20,000 rows of reference data.",
        ),
        (
            inconclusive,
            Verdict::Inconclusive,
            "inconclusive",
            "Inconclusive: neither drift nor stability can be shown for 1 column; 1 row ",
        ),
    ] {
        assert_eq!(report.verdict(), verdict);
        assert_eq!(json_of(&report)["verdict"], word);
        let table = report.to_table(None);
        assert!(table.contains(sentence) && table.contains(word), "{table}");
        assert!(report.to_html().unwrap().contains(&format!("<header class=\"verdict {word}\">")));
    }
}

#[test]
fn a_table_is_wrapped_at_the_width_given() {
    let table = drifted().to_table(Some(60));
    let body = table.lines().take_while(|line| !line.is_empty());
    assert!(body.clone().count() > 4 && body.clone().all(|line| line.chars().count() <= 60), "{table}");
    assert!(drifted().to_table(None).lines().next().unwrap().chars().count() > 60);
}

#[test]
fn importances_weight_the_shares() {
    let mut report = drifted();
    assert!(share(&report, "flag") > 0.0 && share(&report, "number") > 0.0);
    report.attribute_by_importance(&BTreeMap::from([("flag".to_owned(), 2.0)])).unwrap();
    assert_eq!((share(&report, "flag"), share(&report, "number")), (1.0, 0.0));
    assert_eq!(json_of(&report)["cause_weighting"], "importance");
    let error = report.attribute_by_importance(&BTreeMap::from([("x".to_owned(), 1.0)])).unwrap_err();
    assert_eq!(error.to_string(), "no column \"x\" in the reference data; its columns are: number, flag, text");
    for wrong in [-1.0, f64::NAN, f64::INFINITY] {
        let error = report.attribute_by_importance(&BTreeMap::from([("flag".to_owned(), wrong)])).unwrap_err();
        assert!(matches!(error, Error::Importance { .. }), "{error}");
    }
}

/// The reference rows with a prediction that depends on the text alone. `text` is its array.
fn reference_batch(text: impl FnOnce(Vec<String>) -> ArrayRef) -> RecordBatch {
    let (numbers, flags, texts) = rows(0);
    let prediction: Float64Array = texts.iter().map(|text| Some(if text == "a" { 0.9 } else { 0.2 })).collect();
    // The flag is the text by another name, so it is left out of the rows.
    drop(flags);
    let columns = [
        ("number", Arc::new(Float64Array::from(numbers)) as ArrayRef),
        ("text", text(texts)),
        ("p", Arc::new(prediction)),
        ("unrelated", Arc::new(Int64Array::from(vec![1; ROWS as usize]))),
    ];
    RecordBatch::try_from_iter(columns).unwrap()
}

#[test]
fn predictions_attribute_the_shift_to_the_columns_that_move_them() {
    let arrays: [fn(Vec<String>) -> ArrayRef; 2] = [
        |texts| Arc::new(StringArray::from(texts)),
        |texts| Arc::new(texts.iter().map(String::as_str).collect::<DictionaryArray<Int32Type>>()),
    ];
    for text in arrays {
        let mut report = drifted();
        let mut scan = PredictionScan::new(&report, "p");
        scan.add(&reference_batch(text)).unwrap();
        let shifts = scan.finish().unwrap();
        report.attribute_by_prediction(shifts);
        assert!(share(&report, "text") > 0.9, "{}", report.to_table(None));
        assert_eq!(json_of(&report)["cause_weighting"], "prediction");
    }
}

#[test]
fn a_prediction_is_a_numeric_column_of_the_rows() {
    let report = drifted();
    let batch = reference_batch(|texts| Arc::new(StringArray::from(texts)));
    let error = PredictionScan::new(&report, "nowhere").add(&batch).unwrap_err();
    assert_eq!(
        error.to_string(),
        "no column \"nowhere\" in the reference data; its columns are: number, text, p, unrelated"
    );
    assert!(matches!(PredictionScan::new(&report, "p").finish(), Err(Error::NotNumeric { .. })));
    let lists = ListArray::from_iter_primitive::<Int64Type, _, _>([Some(vec![Some(1)])]);
    let flags = Arc::new(BooleanArray::from(vec![true])) as ArrayRef;
    let batch = RecordBatch::try_from_iter([("p", flags), ("number", Arc::new(lists) as ArrayRef)]).unwrap();
    assert!(matches!(PredictionScan::new(&report, "p").add(&batch), Err(Error::Rows { .. })));
}

#[test]
fn predictions_by_too_many_values_are_noted() {
    let texts: Vec<String> = (0..20_000).map(|row| format!("value {}", row * 7919 % 20_000)).collect();
    let profile = || ColumnProfile::of_texts(texts.iter().map(|text| Some(text.as_str())));
    let source =
        || DataSource::new("many", Profile::new(20_000, vec![Column { name: "id".into(), profile: profile() }]));
    let mut report = DriftReport::compare(source(), source(), Options::default()).unwrap();
    let mut scan = PredictionScan::new(&report, "p");
    let columns: [(&str, ArrayRef); 2] =
        [("id", Arc::new(StringArray::from(texts.clone()))), ("p", Arc::new(Float64Array::from(vec![0.5; 20_000])))];
    scan.add(&RecordBatch::try_from_iter(columns).unwrap()).unwrap();
    let shifts = scan.finish().unwrap();
    report.attribute_by_prediction(shifts);
    let expected = "\"id\" has too many different values: its influence on the prediction is not computed";
    assert_eq!(report.notes(), [expected]);
}

#[test]
fn a_verdict_does_not_depend_on_the_convention() {
    let of = |convention: Convention, shift: f64| {
        let mut numeric = Numeric::with_buckets(profile_buckets(convention));
        (0..100_000).for_each(|row| numeric.add(Some(f64::from(row * 7919 % 100_003) + shift)));
        let column = Column { name: "x".to_owned(), profile: ColumnProfile::Numeric(numeric) };
        DataSource::new("x", Profile::new(100_000, vec![column]))
    };
    let report = |convention| {
        let options = Options { convention, ..Options::default() };
        let report = DriftReport::compare(of(convention, 0.0), of(convention, 9000.0), options).unwrap();
        assert!(report.notes().is_empty(), "{:?}", report.notes());
        json_of(&report)
    };
    let own = report(Convention::Rekindle);
    for convention in [Convention::Evidently, Convention::Scipy] {
        let other = report(convention);
        for field in ["verdict", "effect", "p_value", "reason"] {
            assert_eq!(own["columns"][0][field], other["columns"][0][field], "{convention:?}: {field}");
        }
        assert_ne!(own["columns"][0]["wasserstein"], other["columns"][0]["wasserstein"], "{convention:?}");
    }
    let options = Options { convention: Convention::Scipy, ..Options::default() };
    let small = |shift| of(Convention::Rekindle, shift);
    let approximate = DriftReport::compare(small(0.0), small(9000.0), options).unwrap();
    assert!(approximate.notes()[0].contains("its statistics are approximate"), "{:?}", approximate.notes());
}

#[test]
fn a_profile_is_a_table() {
    let mut profile = source(0).profile;
    profile.columns[0].name = "num\u{1b}ber".to_owned();
    let table = profile_table(&profile, None);
    let lines: Vec<&str> = table.lines().map(str::trim).collect();
    let words: Vec<String> = lines.iter().map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ")).collect();
    assert_eq!(words[0], "COLUMN KIND MISSING DISTINCT VALUES");
    assert!(words[1].starts_with("num\\u{1b}ber numeric 0 % 1,009 0 to 10.08, median 5.0"), "{table}");
    assert_eq!(words[2], "flag boolean 0 % 2 false (14,000), true (6,000)");
    assert_eq!(words[3], "text categorical 0 % 2 b (14,000), a (6,000)");
    assert_eq!(words[5], "3 columns, 20,000 rows");
}
