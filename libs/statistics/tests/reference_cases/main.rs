//! Comparison of this crate with every reference value of `tests/data/monitoring-cases.json`.
//!
//! The values are results of the named libraries. If the crate does not implement the convention of a library
//! (the bins of NannyML, the quantiles of whylogs), the test composes it from statistics of the crate. Each number of a case is
//! compared within the tolerance of the case, relative to `max(1, |expected|)`; a NaN means that our function must return an error. A
//! case that is neither checked nor listed in [`NOT_IMPLEMENTED`] fails, and so does a number of a checked case that is not
//! compared.

mod evidently;
mod expected;
mod inputs;
mod nannyml;
mod others;
mod scipy;
mod streams;

use std::collections::{BTreeMap, BTreeSet};

use expected::Expected;
use serde_json::Value;

/// The cases of statistics that the crate does not implement, with the reason.
const NOT_IMPLEMENTED: [(&str, &str); 12] = [
    ("nm-linf-cat-unseen", "the L-infinity distance is not a statistic of the crate"),
    ("nm-cbpe-roc_auc", "performance estimated without labels"),
    ("nm-cbpe-f1", "performance estimated without labels"),
    ("nm-cbpe-accuracy", "performance estimated without labels"),
    ("nm-cbpe-precision", "performance estimated without labels"),
    ("nm-cbpe-recall", "performance estimated without labels"),
    ("nm-cbpe-specificity", "performance estimated without labels"),
    ("rv-fhddm", "FHDDM is not a detector of the crate"),
    ("dd-quantiles", "DDSketch is not a sketch of the crate"),
    ("ds-kll-error-k200", "KLL is not a sketch of the crate"),
    ("ds-kll-error-k256", "KLL is not a sketch of the crate"),
    ("ds-kll-error-k1024", "KLL is not a sketch of the crate"),
];

/// One case of the file.
struct Case<'a> {
    id: &'a str,
    call: &'a str,
    input: &'a Value,
}

#[test]
fn all_reference_cases_agree_or_are_listed() {
    let file: Value = serde_json::from_str(include_str!("../data/monitoring-cases.json")).expect("the file is JSON");
    let cases = ["cases", "extra_cases"].iter().flat_map(|part| file[part].as_array().expect("a list of cases"));
    let not_implemented = BTreeMap::from(NOT_IMPLEMENTED);
    let (mut checked, mut numbers, mut listed, mut failures) = (0, 0, BTreeSet::new(), Vec::new());
    for case in cases {
        let id = case["id"].as_str().expect("a case has an id");
        if not_implemented.contains_key(id) {
            listed.insert(id);
            continue;
        }
        let expected = Expected::new(&case["expected"], case["tolerance"].as_f64().expect("a tolerance"));
        check(&Case { id, call: case["call"].as_str().expect("a call"), input: &case["input"] }, &expected);
        let (compared, wrong) = expected.finish();
        numbers += compared;
        checked += 1;
        failures.extend(wrong.into_iter().map(|what| format!("{id}: {what}")));
    }
    for (id, reason) in &not_implemented {
        println!("not checked: {id} ({reason})");
    }
    println!("{checked} cases checked ({numbers} values), {} listed as not implemented", listed.len());
    assert!(failures.is_empty(), "{} differences:\n{}", failures.len(), failures.join("\n"));
    assert_eq!(listed.len(), NOT_IMPLEMENTED.len(), "a listed case is not in the file");
}

/// Compares one case, by the library in its id.
fn check(case: &Case<'_>, expected: &Expected<'_>) {
    match case.id.split('-').next() {
        Some("ev") => evidently::check(case, expected),
        Some("sp" | "sf" | "np") => scipy::check(case, expected),
        Some("nm") => nannyml::check(case, expected),
        Some("ad") => others::check_alibi_detect(case, expected),
        Some("wl") => others::check_whylogs(case, expected),
        Some("fr") => others::check_frouros(case, expected),
        Some("rv") => streams::check(case, expected),
        _ => panic!("{} is neither checked nor listed", case.id),
    }
}
