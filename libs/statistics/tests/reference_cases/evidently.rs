//! Evidently 0.7.23: scores, thresholds, decisions and the choice of the test.

use rekindle_statistics::{
    convention::{
        Column,
        evidently::{self, StatTest},
    },
    two_sample::Sample,
};
use serde_json::Value;

use crate::{Case, expected::Expected, inputs};

pub(crate) fn check(case: &Case<'_>, expected: &Expected<'_>) {
    let (reference, window) = (&case.input["ref"], &case.input["cur"]);
    if case.call.contains("Report") {
        return check_report(expected, &inputs::sample_of_present(reference), &inputs::numbers(reference));
    }
    let is_categorical = case.call.contains("ColumnType.Categorical") || case.input["feature_type"] == "cat";
    if is_categorical {
        let categories = inputs::categories(&inputs::names(reference), &inputs::names(window));
        check_column(case, expected, &Column::Categorical(&categories));
    } else {
        let (reference, window) = (inputs::sample_of_present(reference), inputs::sample_of_present(window));
        check_column(case, expected, &Column::Numeric(&reference, &window));
    }
}

fn check_column(case: &Case<'_>, expected: &Expected<'_>, column: &Column<'_>) {
    if case.call.contains("get_stattest") {
        let test = evidently::default_test(column).expect("no side is empty");
        expected.text("test", test.name());
        expected.number("default_threshold", test.threshold());
        return;
    }
    let test = test_called(case.call);
    let score = evidently::score(test, column);
    if expected.has("error") {
        return expected.error(&score);
    }
    // In Evidently, a NaN score is never drift.
    expected.flag("drifted", score.as_ref().is_ok_and(|score| test.drifted(*score)));
    expected.number("drift_score", score.ok());
    expected.number("threshold", test.threshold());
}

fn test_called(call: &str) -> StatTest {
    let tests = [
        ("psi_stat_test", StatTest::Psi),
        ("jensenshannon_stat_test", StatTest::JensenShannon),
        ("wasserstein_stat_test", StatTest::Wasserstein),
        ("ks_stat_test", StatTest::KolmogorovSmirnov),
        ("chi_stat_test", StatTest::ChiSquare),
        (".z_stat_test", StatTest::Z),
        ("kl_div_stat_test", StatTest::KullbackLeibler),
        ("hellinger_stat_test", StatTest::Hellinger),
        (".g_test", StatTest::G),
    ];
    let called = tests.iter().find(|(name, _)| call.contains(name));
    called.unwrap_or_else(|| panic!("no test in {call}")).1
}

/// The preset over a single column. The file describes its window in words: all but every twentieth value is
/// missing.
fn check_report(expected: &Expected<'_>, reference: &Sample, values: &[f64]) {
    let present: Vec<f64> = values.iter().copied().step_by(20).collect();
    let window = Sample::new(&present).expect("no value is NaN");
    let column = Column::Numeric(reference, &window);
    let test = evidently::default_test(&column).expect("no side is empty");
    let score = evidently::score(test, &column).expect("a distance");
    let drifted = f64::from(u8::from(test.drifted(score)));
    assert_eq!(test, StatTest::Wasserstein, "the report names the test");
    let [columns, column] = metrics(expected.value("metrics"));
    expected.within("metrics", columns, |metric| {
        metric.no_statistic("name");
        metric.within("value", &columns["value"], |value| {
            value.number("count", drifted);
            value.number("share", drifted);
        });
    });
    expected.within("metrics", column, |metric| {
        metric.no_statistic("name");
        metric.number("value", score);
    });
}

fn metrics(list: &Value) -> [&Value; 2] {
    [&list[0], &list[1]]
}
