use std::sync::Arc;

use arrow::{
    array::{
        ArrayRef, BooleanArray, FixedSizeBinaryArray, Float32Array, Float64Array, StringArray,
        TimestampMillisecondArray, UInt32Array,
    },
    datatypes::Float64Type,
};
use rekindle_bundle::{Datatype, Input, Signature, reference::FeatureProfile};
use rekindle_domain::ColumnKind;
use rekindle_statistics::blocks::{Blocks, Calendar, Counter};

use super::*;
use crate::{
    chunk::columns::{EVENT_TIME, PREDICTION_ID, ROW},
    quality::tests::manifest,
    report::inconclusive_reason,
};

const REFERENCE_ROWS: u32 = 10_000;

/// Rows of the log with these columns.
fn logged(columns: impl IntoIterator<Item = (String, ArrayRef)>) -> RecordBatch {
    let mut columns: Vec<(String, ArrayRef)> = columns.into_iter().collect();
    let rows = columns[0].1.len() as u32;
    let ids = (0..rows).map(|row| u128::from(row).to_be_bytes());
    let ids = FixedSizeBinaryArray::try_from_iter(ids).expect("16 bytes each");
    columns.push((PREDICTION_ID.to_owned(), Arc::new(ids)));
    columns.push((ROW.to_owned(), Arc::new((0..rows).map(|_| 0).collect::<UInt32Array>())));
    let times = (0..rows).map(|row| Some(i64::from(row)));
    columns.push((EVENT_TIME.to_owned(), Arc::new(times.collect::<TimestampMillisecondArray>())));
    RecordBatch::try_from_iter(columns).expect("columns of one length")
}

/// Compares a window of three columns: a flag that is set in half of the reference rows, `second`, and a uniform prediction.
fn compared(second: (ColumnProfile, ArrayRef), flags: &[bool], settings: &WatchSettings) -> Drift {
    let even = |rows: u32| (0..rows).map(move |row| f64::from(row) / f64::from(rows));
    let feature = |name: &str, profile| FeatureProfile { name: name.to_owned(), profile };
    let flag = ColumnProfile::of_flags((0..REFERENCE_ROWS).map(|row| Some(row % 2 == 0)));
    let profiles = rekindle_bundle::Reference {
        features: vec![feature("flag", flag), feature("second", second.0)],
        prediction: ColumnProfile::of_numbers(even(REFERENCE_ROWS).map(Some)),
        blocks: None,
        repeated: None,
        correlations: None,
        validation: None,
    };
    let reference = Reference { manifest: manifest(Task::Binary, Some(&["no", "yes"]), 0.5), profiles };
    let rows = u32::try_from(flags.len()).expect("few");
    let batch = logged([
        (format!("{INPUT}flag"), Arc::new(BooleanArray::from(flags.to_vec())) as ArrayRef),
        (format!("{INPUT}second"), second.1),
        (format!("{OUTPUT}probability"), Arc::new(even(rows).map(|p| p as f32).collect::<Float32Array>())),
    ]);
    compare(&reference, &batch, settings, None).expect("columns of the profiles")
}

fn texts(kinds: u32, rows: u32) -> Vec<String> {
    (0..rows).map(|row| format!("kind {}", row % kinds)).collect()
}

fn kinds(kinds: u32, rows: u32) -> (ColumnProfile, ArrayRef) {
    let before = texts(kinds, REFERENCE_ROWS);
    let profile = ColumnProfile::of_texts(before.iter().map(|text| Some(text.as_str())));
    (profile, Arc::new(StringArray::from(texts(kinds, rows))))
}

/// 291 set flags in 500 rows, with 250 expected, have a p-value of 0.001. Thirty windows of three columns leave each test a level of
/// 0.0006; thirty windows or three columns alone would leave it more than 0.001.
#[test]
fn windows_and_columns_share_the_false_alarm_budget() {
    let flags: Vec<bool> = (0..500).map(|row| row < 291).collect();
    let with = |false_alarm_rate| {
        let settings = WatchSettings { drift_margin: 0.02, false_alarm_rate, ..WatchSettings::default() };
        compared(kinds(2, 500), &flags, &settings)
    };
    let (budget, columns) = (0.05, 3.0);
    let shared = with(budget);
    let of_all = budget / (columns * f64::from(WatchSettings::WINDOWS));
    let p_value = shared.features[0].p_value;
    assert!(
        p_value > of_all && p_value < budget / f64::from(WatchSettings::WINDOWS) && p_value < budget / columns,
        "{p_value}"
    );
    assert_eq!(shared.causes(), Vec::<&ColumnDrift>::new(), "{shared:?}");
    assert_ne!(shared.verdict, Verdict::Drifted);
    // Three times the budget is the budget of one column alone.
    let alone = with(columns * budget);
    let names: Vec<&str> = alone.causes().iter().map(|cause| cause.name.as_str()).collect();
    assert_eq!((alone.verdict, names), (Verdict::Drifted, vec!["flag"]), "{alone:?}");
}

#[test]
fn a_muted_column_is_shown_and_decides_nothing_and_a_column_can_have_its_own_margin() {
    let flags: Vec<bool> = (0..2_000).map(|row| row % 10 != 0).collect();
    let with = |rule: ColumnRule| {
        let columns = [("flag".to_owned(), rule)].into();
        compared(kinds(2, 2_000), &flags, &WatchSettings { columns, ..WatchSettings::default() })
    };
    let why = "the sensor was replaced".to_owned();
    let rule = ColumnRule { muted: false, drift_margin: None, by: "ann".to_owned(), why };
    let drifted = with(rule.clone());
    assert_eq!((drifted.verdict, drifted.causes().len()), (Verdict::Drifted, 1), "{drifted:?}");
    let muted = with(ColumnRule { muted: true, ..rule.clone() });
    assert_eq!(muted.verdict, Verdict::Stable, "{muted:?}");
    let flag = muted.features.iter().find(|column| column.name == "flag").expect("it is shown");
    assert_eq!((flag.verdict, flag.cause_share, flag.psi), (Verdict::Inconclusive, 0.0, drifted.features[0].psi));
    assert!(flag.reason.starts_with("muted by ann: the sensor was replaced; it has drifted"), "{}", flag.reason);
    assert_eq!(muted.prediction.as_ref().map(|column| column.name.as_str()), Some(PREDICTION));
    let own = with(ColumnRule { drift_margin: Some(2.0), ..rule });
    assert_eq!(own.verdict, Verdict::Stable, "{own:?}");
}

#[test]
fn without_reference_rows_every_column_is_inconclusive_with_the_reason() {
    let input = |name: &str, datatype, kind| Input { name: name.to_owned(), datatype, kind, nullable: false };
    let inputs = vec![
        input("flag", Datatype::Bool, ColumnKind::Boolean),
        input("second", Datatype::Bytes, ColumnKind::Categorical),
        input("third", Datatype::Fp64, ColumnKind::Numeric),
    ];
    let signature = Signature { inputs, outputs: Vec::new(), time_input: None };
    let profiles = rekindle_bundle::Reference::empty(Task::Binary, &signature);
    let reference = Reference { manifest: manifest(Task::Binary, Some(&["no", "yes"]), 0.0), profiles };
    let rows = 2_000;
    let batch = logged([
        (format!("{INPUT}flag"), Arc::new(BooleanArray::from(vec![true; rows])) as ArrayRef),
        (format!("{INPUT}second"), kinds(3, 2_000).1),
        (format!("{INPUT}third"), Arc::new(Float64Array::from(vec![1.0; rows]))),
        (format!("{OUTPUT}probability"), Arc::new(Float32Array::from(vec![0.5; rows]))),
    ]);
    let drift = compare(&reference, &batch, &WatchSettings::default(), None);
    let drift = drift.expect("an inconclusive comparison is no failure");
    assert_eq!(drift.verdict, Verdict::Inconclusive);
    let columns: Vec<_> = drift.features.iter().chain(&drift.prediction).collect();
    assert_eq!(columns.len(), 4);
    for column in columns {
        assert_eq!((column.verdict, column.reason.as_str()), (Verdict::Inconclusive, "the reference has no rows"));
        assert!(column.psi.is_finite() && column.p_value.is_finite() && column.minimum_detectable_psi.is_finite());
    }
}

#[test]
fn one_inconclusive_column_makes_the_window_inconclusive_and_is_named() {
    let flags: Vec<bool> = (0..2_000).map(|row| row % 2 == 0).collect();
    let with = |number: u32| {
        let settings = WatchSettings { drift_margin: 0.035, ..WatchSettings::default() };
        compared(kinds(number, 2_000), &flags, &settings)
    };
    let verdicts = |drift: &Drift| -> Vec<Verdict> {
        drift.features.iter().chain(&drift.prediction).map(|column| column.verdict).collect()
    };
    let inconclusive = with(100);
    assert_eq!(verdicts(&inconclusive), [Verdict::Stable, Verdict::Inconclusive, Verdict::Stable], "{inconclusive:?}");
    assert_eq!(inconclusive.verdict, Verdict::Inconclusive);
    assert_eq!(inconclusive_reason(&inconclusive, 2_000).as_deref(), Some("inconclusive for 1 of 3 columns: second"));
    let conclusive = with(2);
    assert_eq!(
        (conclusive.verdict, inconclusive_reason(&conclusive, 2_000)),
        (Verdict::Stable, None),
        "{conclusive:?}"
    );
}

#[test]
fn a_feature_that_is_not_logged_decides_nothing_and_says_so() {
    let (rows, reference_rows) = (2_000, REFERENCE_ROWS);
    let flag = ColumnProfile::of_flags((0..reference_rows).map(|row| Some(row % 2 == 0)));
    let feature = |name: &str, profile| FeatureProfile { name: name.to_owned(), profile };
    let even = |rows: u32| (0..rows).map(move |row| f64::from(row) / f64::from(rows));
    let profiles = rekindle_bundle::Reference {
        features: vec![feature("name", kinds(50, rows).0), feature("flag", flag)],
        prediction: ColumnProfile::of_numbers(even(reference_rows).map(Some)),
        blocks: None,
        repeated: None,
        correlations: None,
        validation: None,
    };
    let reference = Reference { manifest: manifest(Task::Binary, Some(&["no", "yes"]), 0.5), profiles };
    let flags: Vec<bool> = (0..rows).map(|row| row % 2 == 0).collect();
    let batch = logged([
        (format!("{INPUT}flag"), Arc::new(BooleanArray::from(flags)) as ArrayRef),
        (format!("{OUTPUT}probability"), Arc::new(even(rows).map(|p| p as f32).collect::<Float32Array>())),
    ]);
    let settings = WatchSettings::default();
    let drift = compare(&reference, &batch, &settings, None).expect("compared");
    assert_eq!(drift.verdict, Verdict::Stable, "{drift:?}");
    let name = drift.features.iter().find(|column| column.name == "name").expect("listed");
    assert_eq!((name.verdict, name.reason.as_str()), (Verdict::Inconclusive, "its values are not logged"));
}

/// Two numbers per row, `height` about 180 and `depth` about 40, and a name.
fn measured(rows: u32, unit: f64, swap: bool, missing: bool, name: &str) -> RecordBatch {
    let value = |middle: f64, row: u32| (middle + f64::from(row * 7919 % 101).powi(2) / 1_000.0) * unit;
    let column = |middle: f64| (0..rows).map(|row| (!missing).then(|| value(middle, row))).collect::<Float64Array>();
    let (height, depth) = if swap { (column(40.0), column(180.0)) } else { (column(180.0), column(40.0)) };
    let names = (0..rows).map(|row| if row % 2 == 0 { name } else { "south" }).collect::<Vec<_>>();
    let columns = [
        (format!("{INPUT}height"), Arc::new(height) as ArrayRef),
        (format!("{INPUT}depth"), Arc::new(depth)),
        (format!("{INPUT}name"), Arc::new(StringArray::from(names))),
        (format!("{OUTPUT}probability"), Arc::new((0..rows).map(|_| 0.5).collect::<Float32Array>())),
    ];
    logged(columns)
}

fn of_measured() -> Reference {
    let rows = measured(REFERENCE_ROWS, 1.0, false, false, "north");
    let numbers = |name: &str| {
        let array = rows.column_by_name(name).expect("a column").as_primitive::<Float64Type>();
        ColumnProfile::of_numbers(array.iter())
    };
    let names = rows.column_by_name("in.name").expect("a column").as_string::<i32>();
    let features = [
        ("height", numbers("in.height")),
        ("depth", numbers("in.depth")),
        ("name", ColumnProfile::of_texts(names.iter())),
    ];
    let feature = |(name, profile): (&str, ColumnProfile)| FeatureProfile { name: name.to_owned(), profile };
    let profiles = rekindle_bundle::Reference {
        features: features.map(feature).into(),
        prediction: ColumnProfile::of_numbers((0..REFERENCE_ROWS).map(|_| Some(0.5))),
        blocks: None,
        repeated: None,
        correlations: None,
        validation: None,
    };
    Reference { manifest: manifest(Task::Binary, Some(&["no", "yes"]), 0.5), profiles }
}

#[test]
fn faults_of_the_data_are_distinguished_from_drift() {
    let reference = of_measured();
    let causes = |batch: RecordBatch| -> Vec<(String, Option<DriftCause>)> {
        let drift = compare(&reference, &batch, &WatchSettings::default(), None).expect("compared");
        drift.causes().into_iter().map(|column| (column.name.clone(), column.cause)).collect()
    };
    let faulty = |names: &[&str]| -> Vec<(String, Option<DriftCause>)> {
        names.iter().map(|name| ((*name).to_owned(), Some(DriftCause::DataFault))).collect()
    };
    assert_eq!(causes(measured(2_000, 1.0, false, false, "north")), []);
    assert_eq!(causes(measured(2_000, 1000.0, false, false, "north")), faulty(&["depth", "height"]), "another unit");
    assert_eq!(causes(measured(2_000, 1.0, true, false, "north")), faulty(&["depth", "height"]), "swapped");
    assert_eq!(causes(measured(2_000, 1.0, false, true, "north")), faulty(&["depth", "height"]), "missing");
    // A new category is no fault: it may be a new customer.
    let new = Some(DriftCause::NewCategory);
    assert_eq!(causes(measured(2_000, 1.0, false, false, "west")), [("name".to_owned(), new)]);
}

#[test]
fn a_window_is_compared_with_the_blocks_of_the_reference_and_runs_of_windows_are_counted() {
    const DAY: i64 = 86_400_000;
    let numbers = |level: f64| (0..240).map(move |row| level + f64::from(row * 7919 % 101) / 101.0);
    // Sixty-four days whose levels change slowly.
    let days: Vec<f64> = (0..64).map(|day| f64::from(day) / 16.0).collect();
    let profile = ColumnProfile::of_numbers(days.iter().flat_map(|&day| numbers(day)).map(Some));
    let calendar = Calendar::over((0, 64 * DAY - 1), 64 * 240);
    let counted = ["x", PREDICTION].map(|name| {
        let mut counter = Counter::new(name, &profile, &calendar).expect("numbers");
        for (day, &level) in (0..).zip(&days) {
            for (row, number) in (0..).zip(numbers(level)) {
                let block = calendar.block_of(day * DAY + row * DAY / 240).expect("a time of the rows");
                counter.add_number(block, Some(number));
            }
        }
        counter.finish()
    });
    let profiles = rekindle_bundle::Reference {
        features: vec![FeatureProfile { name: "x".to_owned(), profile: profile.clone() }],
        prediction: profile,
        blocks: Some(Blocks::new(calendar, counted.into()).expect("two columns")),
        repeated: None,
        correlations: None,
        validation: None,
    };
    let reference = Reference { manifest: manifest(Task::Binary, Some(&["no", "yes"]), 0.5), profiles };
    let compared = |level: f64, least: u64, before: Option<&Drift>| {
        let batch = logged([
            (format!("{INPUT}x"), Arc::new(numbers(level).collect::<Float64Array>()) as ArrayRef),
            (format!("{OUTPUT}probability"), Arc::new((0..240).map(|_| 0.5).collect::<Float32Array>())),
        ]);
        let settings = WatchSettings { min_rows: least, ..WatchSettings::default() };
        compare(&reference, &batch, &settings, before).expect("compared")
    };
    let within = compared(1.0, 2, None);
    assert_eq!((within.features[0].verdict, beyond(Some(&within), "x")), (Verdict::Stable, 0), "{within:?}");
    let test = within.features[0].blocks.expect("blocks");
    assert_eq!((test.length, test.blocks), (Duration::from_secs(86_400), 64));

    // A trend goes on: beyond every block, and reported once that has lasted.
    let mut before = None;
    let mut verdicts = Vec::new();
    for window in 0..6 {
        let drift = compared(5.0 + f64::from(window) / 16.0, 2, before.as_ref());
        verdicts.push((drift.features[0].verdict, drift.features[0].cause));
        before = Some(drift);
    }
    let drifted: Vec<usize> = (0..6).filter(|&window| verdicts[window].0 == Verdict::Drifted).collect();
    let first = *drifted.first().expect("the trend is reported");
    assert!(first > 0 && drifted.len() <= 2, "{verdicts:?}");
    assert_eq!(verdicts[first].1, Some(DriftCause::UnseenSeason));
    assert!(verdicts.iter().all(|(verdict, _)| *verdict != Verdict::Stable), "{verdicts:?}");

    // A window with too few rows for a verdict keeps the run, and one within the blocks ends it.
    let few = compared(5.5, 1_000, before.as_ref());
    assert_eq!(beyond(Some(&few), "x"), 6);
    assert_eq!(beyond(Some(&compared(1.0, 2, before.as_ref())), "x"), 0);
}

#[test]
fn a_small_window_is_inconclusive_with_its_reason() {
    let reference = ColumnProfile::of_numbers((0..1000).map(|number| Some(f64::from(number))));
    let window = ColumnProfile::of_numbers((0..100).map(|_| Some(-1.0)));
    let found = || drift::compare_column("x", &reference, &window, 1e-3, 0.1);
    let rows = Sides { reference: 1000, current: 100 };
    let (large, small) = (column(found(), rows, None), column(found(), rows, too_few(100, 200).as_deref()));
    assert_eq!((large.verdict, small.verdict), (Verdict::Drifted, Verdict::Inconclusive));
    assert!(large.reason.contains("are below 0"), "{}", large.reason);
    assert_eq!(small.reason, "the window has 100 rows, min_rows is 200");
    assert_eq!(too_few(200, 200), None);
}

#[test]
fn the_onset_is_the_first_window_of_a_run_that_windows_without_a_verdict_do_not_end() {
    let start = |window: i64| DateTime::UNIX_EPOCH + chrono::TimeDelta::days(window);
    let beyond = |windows_beyond| BlockTest {
        length: Duration::from_secs(86_400),
        blocks: 10,
        effective_blocks: 10.0,
        autocorrelation: 0.0,
        effect: 0.1,
        largest_effect: 0.1,
        p_value: 0.5,
        windows_beyond,
    };
    let (drifted, stable) = ((Verdict::Drifted, None), (Verdict::Stable, None));
    let (unknown, further, within) = (
        (Verdict::Inconclusive, None),
        (Verdict::Inconclusive, Some(beyond(1))),
        (Verdict::Inconclusive, Some(beyond(0))),
    );
    let windows = [stable, drifted, unknown, drifted, stable, further, drifted, within, drifted];
    let indices = [0.0, 1.0, 0.9, 1.1, 0.0, 0.4, 0.5, 0.1, 1.0];
    let mut before: Option<Drift> = None;
    let (mut onsets, mut changes) = (Vec::new(), Vec::new());
    for (window, ((verdict, blocks), psi)) in (0..).zip(windows.into_iter().zip(indices)) {
        let column = ColumnDrift { verdict, blocks, psi, ..not_logged("x") };
        let mut drift = Drift::of(verdict, vec![column], None);
        note_onset(&mut drift, before.as_ref(), start(window));
        onsets.push(drift.features[0].since.map(|since| (since - DateTime::UNIX_EPOCH).num_days()));
        changes.push(drift.features[0].onset);
        before = Some(drift);
    }
    let expected = [None, Some(1), Some(1), Some(1), None, Some(5), Some(5), None, Some(8)];
    assert_eq!(onsets, expected);
    let (abrupt, gradual) = (Some(Onset::Abrupt), Some(Onset::Gradual));
    assert_eq!(changes, [None, abrupt, abrupt, abrupt, None, None, gradual, None, abrupt]);
}

#[test]
fn values_that_the_reference_does_not_have_are_a_cause_with_example_rows() {
    let rows = 2_000;
    let window = |new: u32| -> ArrayRef {
        let text = |row: u32| if row % 10 < new { "new".to_owned() } else { format!("kind {}", row % 3) };
        Arc::new(StringArray::from((0..rows).map(text).collect::<Vec<String>>()))
    };
    let flags: Vec<bool> = (0..rows).map(|row| row % 2 == 0).collect();
    let of = |new: u32| {
        let drift = compared((kinds(3, rows).0, window(new)), &flags, &WatchSettings::default());
        drift.features.into_iter().find(|column| column.name == "second").expect("compared")
    };
    let found = of(4);
    assert_eq!((found.verdict, found.cause), (Verdict::Drifted, Some(DriftCause::NewCategory)), "{found:?}");
    let examples: Vec<u128> = found.examples.iter().map(|example| example.prediction.uuid().as_u128()).collect();
    assert_eq!(examples, [0, 1, 2], "the first rows with the new value");
    assert_eq!((of(0).verdict, of(0).examples.len()), (Verdict::Stable, 0));
}

#[test]
fn the_share_of_a_drifted_column_is_weighted_by_its_importance_and_says_what_it_changes() {
    use rekindle_bundle::{Prediction, Targets, Validation, ValidationRows, Values, importance::Importance};
    let mut reference = of_measured();
    let rows = measured(REFERENCE_ROWS, 1.0, false, false, "north");
    let names = ["height", "depth", "name"];
    let columns = names.map(|name| (name, rows.column_by_name(&format!("{INPUT}{name}")).expect("a column").clone()));
    // The prediction is the height in metres, and always right.
    let heights = columns[0].1.as_primitive::<Float64Type>().values().iter().map(|height| (height / 100.0) as f32);
    let heights: Vec<f32> = heights.collect();
    let targets = Targets::Numbers(heights.iter().copied().map(f64::from).collect());
    let prediction = Prediction { rows: heights.len(), outputs: vec![Values::Fp32 { width: 1, values: heights }] };
    let importance = |feature: &str, mean| Importance { feature: feature.to_owned(), mean, std: 0.0 };
    let validated = ValidationRows {
        task: Task::Regression,
        rows: &RecordBatch::try_from_iter(columns).expect("columns of one length"),
        prediction: &prediction,
        targets: &targets,
        importances: &[importance("height", 0.3), importance("depth", 0.0), importance("name", 0.1)],
    };
    reference.profiles.validation = Some(Validation::of(&validated, &reference.profiles.features).expect("valid rows"));
    // Both numbers are swapped, and the name is new.
    let batch = measured(2_000, 1.0, true, false, "west");
    let drift = compare(&reference, &batch, &WatchSettings::default(), None).expect("compared");
    let causes: Vec<(&str, bool)> =
        drift.causes().iter().map(|column| (column.name.as_str(), column.cause_share > 0.0)).collect();
    assert_eq!(causes, [("height", true), ("name", true), ("depth", false)]);
    let impact = drift.features[0].impact.expect("validated");
    assert_eq!((impact.importance, impact.loss_change), (Some(0.3), 0.0));
    // Heights below those of the reference count as its lowest tenth: about 1.8, where the mean is about 1.83.
    assert!(impact.score_change < -0.02, "{impact:?}");
    let unweighted = Reference {
        profiles: rekindle_bundle::Reference { correlations: None, validation: None, ..reference.profiles },
        ..reference
    };
    let drift = compare(&unweighted, &batch, &WatchSettings::default(), None).expect("compared");
    assert!(drift.causes().iter().all(|column| column.cause_share > 0.0 && column.impact.is_none()), "{drift:?}");
}
