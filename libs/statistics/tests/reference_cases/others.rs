//! Alibi Detect 0.13.0, whylogs 1.6.4 and frouros 0.9.0.

use rekindle_statistics::{
    Error,
    multiple::{Procedure, rejected},
    two_sample::{
        Method, Sample, binning,
        contingency::{Correction, Statistic, chi_square_survival, goodness_of_fit, homogeneity},
        cramer_von_mises,
        divergence::{Shares, hellinger, psi_of_shares},
        kolmogorov_survival, ks,
        proportions::{Part, fisher_exact},
    },
};
use serde_json::Value;

use crate::{Case, expected::Expected, inputs};

/// The level of the detectors of Alibi Detect.
const LEVEL: f64 = 0.05;

/// A statistic and its p-value for each column, and the decision over all of them, by default with Bonferroni.
pub(crate) fn check_alibi_detect(case: &Case<'_>, expected: &Expected<'_>) {
    if case.call.contains("statstest.fdr") {
        let p_values = inputs::numbers(&case.input["p"]);
        return check_threshold(expected, &p_values, Procedure::BenjaminiHochberg);
    }
    let tests = columns(case).into_iter().map(|[reference, window]| alibi_test(case, reference, window));
    let tests: Vec<Option<(f64, f64)>> = tests.map(Result::ok).collect();
    let of_each = |part: fn((f64, f64)) -> f64| tests.iter().map(|test| test.map(part)).collect::<Vec<_>>();
    expected.numbers("distance", &of_each(|test| test.0));
    expected.numbers("p_val", &of_each(|test| test.1));
    // In Alibi Detect, an undefined test is no drift.
    let p_values: Vec<f64> = tests.iter().map(|test| test.map_or(1.0, |test| test.1)).collect();
    let is_fdr = case.call.contains("correction='fdr'");
    check_threshold(expected, &p_values, if is_fdr { Procedure::BenjaminiHochberg } else { Procedure::Bonferroni });
}

/// The decision, and its p-value threshold: that of the rejected test with the largest p-value, or of all if none is rejected.
fn check_threshold(expected: &Expected<'_>, p_values: &[f64], procedure: Procedure) {
    let rejected = rejected(p_values, procedure, LEVEL).expect("p-values");
    let rejections = rejected.into_iter().filter(|rejected| *rejected).count();
    let threshold = |rank: usize| LEVEL * rank as f64 / p_values.len() as f64;
    expected.flag("is_drift", rejections > 0);
    match procedure {
        Procedure::Bonferroni => expected.number("threshold", threshold(1)),
        _ if rejections > 0 => expected.number("threshold", threshold(rejections)),
        _ => expected.numbers("threshold", &(1..=p_values.len()).map(|rank| Some(threshold(rank))).collect::<Vec<_>>()),
    }
}

fn columns<'a>(case: &Case<'a>) -> Vec<[&'a Value; 2]> {
    let columns = ["ref_columns", "cur_columns"].map(|side| case.input[side].as_array().expect("columns"));
    columns[0].iter().zip(columns[1]).map(|(reference, window)| [reference, window]).collect()
}

fn alibi_test(case: &Case<'_>, reference: &Value, window: &Value) -> Result<(f64, f64), Error> {
    let (r, w) = (inputs::sample(reference)?, inputs::sample(window)?);
    let detector = case.call.split('(').next().and_then(|path| path.rsplit('.').next());
    match detector {
        Some("KSDrift") => ks(&r, &w, Method::Asymptotic).map(|test| (test.statistic, test.p_value)),
        Some("CVMDrift") => cramer_von_mises(&r, &w, Method::Auto).map(|test| (test.statistic, test.p_value)),
        Some("ChiSquareDrift") => {
            let categories = inputs::categories(&inputs::names(reference), &inputs::names(window));
            let (reference, window) = (categories.reference(), categories.window());
            homogeneity(reference, window, Statistic::Pearson, Correction::Yates)
                .map(|test| (test.statistic, test.p_value))
        }
        // The table of Alibi Detect has the window in the first column.
        Some("FETDrift") => {
            fisher_exact(ones(&w), ones(&r)).map(|test| (test.odds_ratio.expect("both outcomes occur"), test.p_value))
        }
        other => panic!("{other:?} is no detector"),
    }
}

fn ones(sample: &Sample) -> Part {
    let rows = sample.values().iter().zip(sample.counts()).filter(|(value, _)| **value == 1.0);
    Part { hits: rows.map(|(_, rows)| *rows).sum(), rows: sample.rows() }
}

/// The statistic, the p-value, and the drift category.
pub(crate) fn check_whylogs(case: &Case<'_>, expected: &Expected<'_>) {
    let (reference, window) = (&case.input["ref"], &case.input["cur"]);
    let (algorithm, statistic, p_value) = if case.call.contains("ChiSquare") {
        let (statistic, p_value) = whylogs_chi_square(&inputs::names(reference), &inputs::names(window));
        ("chi-square", statistic, Some(p_value))
    } else {
        let (reference, window) = (inputs::sample_of_present(reference), inputs::sample_of_present(window));
        if case.call.contains("Hellinger") {
            ("hellinger", whylogs_hellinger(&reference, &window), None)
        } else {
            let statistic = largest_at_quantiles(&reference, &window);
            let (n, m) = (reference.rows() as f64, window.rows() as f64);
            let rows = (n * m / (n + m)).round_ties_even() as u64;
            ("ks", statistic, kolmogorov_survival(statistic, rows))
        }
    };
    expected.text("algorithm", algorithm);
    expected.number("statistic", statistic);
    match p_value {
        Some(p_value) => expected.number("pvalue", p_value),
        None => expected.no_statistic("pvalue"),
    }
    expected.text("drift_category", band(expected.value("thresholds"), p_value.unwrap_or(statistic)));
    expected.no_statistic("thresholds");
}

/// The band of a measure; upper ends are exclusive.
fn band(bands: &Value, measure: f64) -> &str {
    let bands = bands.as_object().expect("bands");
    let holds = |ends: &Value| inputs::number(&ends[0]) <= measure && measure < inputs::number(&ends[1]);
    let at_the_top = |ends: &Value| measure == inputs::number(&ends[1]);
    let found = bands.iter().find(|(_, ends)| holds(ends)).or(bands.iter().find(|(_, ends)| at_the_top(ends)));
    found.expect("bands from 0 to 1").0
}

/// Goodness of fit to the counts of the reference, scaled to the rows of the window and truncated to integers. Unseen names give an infinite
/// statistic; the degrees of freedom are those of the names of the window.
fn whylogs_chi_square(reference: &[String], window: &[String]) -> (f64, f64) {
    let categories = inputs::categories(reference, window);
    let (n, m) = (reference.len() as f64, window.len() as f64);
    let expected: Vec<f64> = categories.reference().iter().map(|&rows| (rows as f64 / n * m).trunc()).collect();
    let test = goodness_of_fit(categories.window(), &expected, Statistic::Pearson).expect("two names or more");
    let freedom = categories.window().iter().filter(|rows| **rows > 0).count() - 1;
    (test.statistic, chi_square_survival(test.statistic, freedom).expect("a number"))
}

/// The distance over bins of equal width up to slightly above the largest value: one for every four rows, at most 30.
fn whylogs_hellinger(reference: &Sample, window: &Sample) -> f64 {
    let ends = [reference, window].map(|sample| (sample.values()[0], sample.values()[sample.distinct() - 1]));
    let (low, high) = (ends[0].0.min(ends[1].0), ends[0].1.max(ends[1].1));
    let bins = ((reference.rows() + window.rows()).div_ceil(4)).clamp(2, 30);
    let width = (high + high.abs() * 1e-7 - low) / bins as f64;
    let edges: Vec<f64> = (0..=bins).map(|bin| low + bin as f64 * width).collect();
    let [reference, window] = [reference, window]
        .map(|sample| Shares::of_counts(&binning::count(sample, &edges).counts).expect("no sample is empty"));
    hellinger(&reference, &window).expect("of one length")
}

/// The largest difference of the cumulative shares at 100 quantiles of either side. A sketch of so few rows is
/// exact.
fn largest_at_quantiles(reference: &Sample, window: &Sample) -> f64 {
    let (r, w) = (ascending(reference), ascending(window));
    let below = |rows: &[f64], value: f64| rows.partition_point(|row| *row < value) as f64 / rows.len() as f64;
    let quantiles =
        [&r, &w].into_iter().flat_map(|rows| (0..100).map(|i| rows[(rows.len() * i / 99).min(rows.len() - 1)]));
    quantiles.map(|value| (below(&r, value) - below(&w, value)).abs()).fold(0.0, f64::max)
}

fn ascending(sample: &Sample) -> Vec<f64> {
    let rows = sample.values().iter().zip(sample.counts());
    rows.flat_map(|(value, rows)| std::iter::repeat_n(*value, usize::try_from(*rows).expect("few rows"))).collect()
}

/// The index over ten bins of the pooled samples, with zeros replaced by the smallest normal number.
pub(crate) fn check_frouros(case: &Case<'_>, expected: &Expected<'_>) {
    let [reference, window] = ["ref", "cur"].map(|side| inputs::numbers(&case.input[side]));
    let both = Sample::new(&[reference.clone(), window.clone()].concat()).expect("numbers");
    let edges = binning::equal_width_edges(&both, 10).expect("a finite range");
    let [reference, window] = [reference, window].map(|values| {
        let counts = binning::count(&Sample::new(&values).expect("numbers"), &edges).counts;
        let share = |rows: u64| (rows as f64 / values.len() as f64).max(f64::MIN_POSITIVE);
        counts.into_iter().map(share).collect::<Vec<_>>()
    });
    expected.number("psi", psi_of_shares(&reference, &window).ok());
}
