//! Data quality problems: the verdict must be correct, and the reason must name the problem.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise, in its helpers too")]

#[path = "../../dataset/fuzz/src/numbers.rs"]
mod numbers;

use std::f64::consts::TAU;

use numbers::has_numbers_only;
use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rekindle_statistics::{
    drift::{ColumnDrift, Report, Settings, Suspicion, Verdict, compare, compare_column},
    profile::{Column, ColumnProfile, Profile, Timestamp},
};

use Verdict::{Drifted, Inconclusive, Stable};

const REFERENCE_ROWS: usize = 8000;

/// Enough to detect a shift of the size of the margin.
const WINDOW_ROWS: usize = 4000;

/// Values of the standard normal distribution (Box and Muller 1958).
fn normal(rows: usize, seed: u64) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut draw = || ((1.0 - rng.random::<f64>()).ln() * -2.0).sqrt() * (TAU * rng.random::<f64>()).cos();
    (0..rows).map(|_| draw()).collect()
}

/// Positive values with a long tail, such as prices.
fn lognormal(rows: usize, seed: u64) -> Vec<f64> {
    normal(rows, seed).into_iter().map(|value| 50.0 * value.exp()).collect()
}

fn numbers(values: &[f64]) -> ColumnProfile {
    ColumnProfile::of_numbers(values.iter().copied().map(Some))
}

fn texts<T: AsRef<str>>(values: &[T]) -> ColumnProfile {
    ColumnProfile::of_texts(values.iter().map(|value| Some(value.as_ref())))
}

fn table<const N: usize>(columns: [(&str, ColumnProfile); N]) -> Profile {
    let rows = columns.first().map_or(0, |(_, profile)| profile.rows());
    Profile::new(rows, columns.map(|(name, profile)| Column { name: name.to_owned(), profile }).into())
}

fn report(reference: &Profile, current: &Profile) -> Report {
    let report = compare(reference, current, &Settings::default()).unwrap();
    report.columns.iter().for_each(has_numbers_only);
    report
}

/// The comparison of one column.
fn against(reference: ColumnProfile, current: ColumnProfile) -> ColumnDrift {
    report(&table([("x", reference)]), &table([("x", current)])).columns.remove(0)
}

/// Checks the verdict, and the phrases of the reason.
#[track_caller]
fn expect(column: &ColumnDrift, verdict: Verdict, phrases: &[&str]) {
    assert_eq!(column.verdict, verdict, "{column:#?}");
    assert!(phrases.iter().all(|phrase| column.reason.contains(phrase)), "{phrases:?} in {:?}", column.reason);
}

#[test]
fn one_outlier_in_thousands_of_values_is_not_drift() {
    let reference = normal(REFERENCE_ROWS, 1);
    let good = normal(WINDOW_ROWS, 2);
    for huge in [1e300, -1e300, f64::MAX] {
        let mut window = good.clone();
        window[7] = huge;
        let with = against(numbers(&reference), numbers(&window));
        let without = against(numbers(&reference), numbers(&good));
        expect(&with, Stable, &["is within the margin of 0.02"]);
        assert!((with.psi - without.psi).abs() < 0.002, "{} {}", with.psi, without.psi);
        assert!((with.jensen_shannon - without.jensen_shannon).abs() < 0.01, "{with:?}");
        assert!((with.wasserstein.unwrap() - without.wasserstein.unwrap()).abs() < 0.005, "{with:?}");
        assert!(with.out_of_range_share.unwrap() - without.out_of_range_share.unwrap() < 1.5 / WINDOW_ROWS as f64);
    }
}

#[test]
fn an_outlier_does_not_hide_a_shift() {
    let reference = normal(REFERENCE_ROWS, 1);
    let moved: Vec<f64> = normal(WINDOW_ROWS, 2).into_iter().map(|value| value + 1.0).chain([1e300]).collect();
    expect(&against(numbers(&reference), numbers(&moved)), Drifted, &["the share of values from"]);
    let with_huge: Vec<f64> = reference.into_iter().chain([1e300, -1e308, 1e308]).collect();
    expect(&against(numbers(&with_huge), numbers(&moved)), Drifted, &["the share of values from"]);
    expect(&against(numbers(&with_huge), numbers(&normal(WINDOW_ROWS, 2))), Stable, &["within the margin"]);
}

#[test]
fn missing_values_are_drift() {
    let values = normal(REFERENCE_ROWS, 1);
    let with = |share: usize| {
        ColumnProfile::of_numbers(values.iter().zip(0..WINDOW_ROWS).map(|(&v, i)| (i % 100 >= share).then_some(v)))
    };
    expect(&against(numbers(&values), with(95)), Drifted, &["missing values changed from 0 % to 95.0 %"]);
    expect(&against(numbers(&values), with(100)), Drifted, &["missing values changed from 0 % to 100 %"]);
    expect(&against(numbers(&values), with(0)), Stable, &[]);
    expect(&against(with(95), numbers(&values)), Drifted, &["missing values changed from 95.0 % to 0 %"]);
    let none = || with(100);
    expect(&against(none(), none()), Stable, &["an effect of 0 is within the margin"]);
    expect(&against(none(), numbers(&values)), Drifted, &["missing values changed from 100 % to 0 %"]);
    let words = texts(&["a"; 5000]);
    let gone = ColumnProfile::of_texts((0..500).map(|i| (i % 20 == 0).then_some("a")));
    expect(&against(words, gone), Drifted, &["missing values changed from 0 % to 95.0 %"]);
}

#[test]
fn numbers_that_are_not_finite_are_drift() {
    let reference = normal(REFERENCE_ROWS, 1);
    for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut window = normal(1000, 2);
        window.iter_mut().step_by(5).for_each(|value| *value = odd);
        let column = against(numbers(&reference), numbers(&window));
        expect(&column, Drifted, &["not finite numbers changed from 0 % to 20.0 %"]);
        assert_eq!((column.non_finite.current, column.missing.current), (0.2, 0.0));
    }
}

#[test]
fn constant_columns() {
    for constant in [0.0, -0.0, 3.0, -1e-300, 5e-324, 1e300, f64::MAX, f64::MIN] {
        let reference = || numbers(&[constant; 5000]);
        let same = against(reference(), numbers(&[constant; 2000]));
        expect(&same, Stable, &["an effect of 0 is within the margin"]);
        assert_eq!((same.effect, same.wasserstein), (0.0, None), "{constant:e}");
        for other in [constant + 1.0, constant - 1.0, constant * 2.0, constant / 2.0] {
            if other != constant && other.is_finite() {
                expect(&against(reference(), numbers(&[other; 500])), Drifted, &[]);
            }
        }
    }
    expect(&against(numbers(&[3.0; 5000]), numbers(&[4.0; 500])), Drifted, &["100 % of the rows are above 3"]);
    let varied = against(numbers(&[3.0; 5000]), numbers(&normal(500, 2)));
    expect(&varied, Drifted, &["of the rows are below 3, outside of the range of the reference"]);
    expect(&against(numbers(&normal(5000, 1)), numbers(&[0.0; 500])), Drifted, &["to 100 %"]);
    expect(&against(texts(&["a"; 5000]), texts(&["a"; 2000])), Stable, &[]);
    expect(&against(texts(&["a"; 5000]), texts(&["b"; 500])), Drifted, &[]);
}

#[test]
fn a_new_value_is_drift_for_any_number_of_reference_rows() {
    for rows in [200, 10_000, 300_000] {
        for window in [vec![2.0; 500], vec![0.5; 500], vec![f64::NAN; 500]] {
            expect(&against(numbers(&vec![1.0; rows]), numbers(&window)), Drifted, &["100 %"]);
        }
        expect(&against(texts(&vec!["a"; rows]), texts(&["b"; 500])), Drifted, &[]);
    }
}

#[test]
fn a_rare_code_that_is_replaced_by_another() {
    let with = |code: f64| numbers(&(0..6000).map(|i| if i % 12 == 0 { code } else { 0.0 }).collect::<Vec<_>>());
    expect(&against(with(1.0), with(1.0)), Stable, &[]);
    expect(&against(with(1.0), with(9.0)), Drifted, &["8.3 % of the rows"]);
    expect(&against(with(-1.0), with(-9.0)), Drifted, &["8.3 % of the rows"]);
}

fn colours(rows: usize, seed: u64) -> Vec<&'static str> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..rows).map(|_| ["red", "green", "blue", "grey"][rng.random_range(0..4)]).collect()
}

#[test]
fn a_new_category() {
    let reference = || texts(&colours(REFERENCE_ROWS, 1));
    let with_new = |rows: usize, every: usize| {
        let mut window = colours(rows, 2);
        window.iter_mut().step_by(every).for_each(|value| *value = "mauve");
        texts(&window)
    };
    let tenth = against(reference(), with_new(1000, 10));
    expect(&tenth, Drifted, &["new value \"mauve\" in 10.0 % of the rows"]);
    assert_eq!(tenth.unseen_share, Some(0.1));
    let one = against(reference(), with_new(1000, 1000));
    assert_ne!(one.verdict, Drifted, "{one:?}");
    assert_eq!(one.unseen_share, Some(0.001));
    expect(&against(reference(), with_new(WINDOW_ROWS, WINDOW_ROWS)), Stable, &["within the margin"]);
}

#[test]
fn swapped_columns() {
    let of = |rows, seed| (normal(rows, seed), lognormal(rows, seed + 10));
    let (height, price) = of(REFERENCE_ROWS, 1);
    let (height_now, price_now) = of(WINDOW_ROWS, 2);
    let colour = |rows, seed| texts(&colours(rows, seed));
    let reference =
        table([("height", numbers(&height)), ("price", numbers(&price)), ("colour", colour(REFERENCE_ROWS, 3))]);
    let current =
        table([("height", numbers(&price_now)), ("price", numbers(&height_now)), ("colour", colour(WINDOW_ROWS, 4))]);
    let report = report(&reference, &current);
    expect(&report.columns[0], Drifted, &["\"price\"", "may be swapped"]);
    expect(&report.columns[1], Drifted, &["\"height\"", "may be swapped"]);
    expect(&report.columns[2], Stable, &[]);
    assert_eq!(report.columns[0].suspicion, Some(Suspicion::Swapped { with: "price".to_owned() }));
    assert_eq!(report.verdict, Drifted);
    for rows in [100, 500] {
        let (height, price) = of(rows, 7);
        let few = self::report(
            &reference,
            &table([("height", numbers(&price)), ("price", numbers(&height)), ("colour", colour(rows, 8))]),
        );
        expect(&few.columns[0], Drifted, &["\"price\"", "may be swapped"]);
    }
    let both_moved = |seed: u64| {
        let (height, price) = of(500, seed);
        let moved = |values: Vec<f64>| numbers(&values.iter().map(|value| value + 500.0).collect::<Vec<_>>());
        table([("height", moved(height)), ("price", moved(price)), ("colour", colour(500, 9))])
    };
    let moved = self::report(&reference, &both_moved(11));
    assert!(moved.columns.iter().all(|column| !column.reason.contains("may be swapped")), "{moved:#?}");
}

#[test]
fn change_of_unit() {
    for (factor, in_words) in [(1000.0, "about 1000 times as large"), (1e-3, "about 1000 times as small")] {
        let scaled = |rows, seed| lognormal(rows, seed).into_iter().map(|value| value * factor).collect::<Vec<_>>();
        // The factor is exact for the same rows, and approximate for others.
        let same = against(numbers(&lognormal(5000, 1)), numbers(&scaled(5000, 1)));
        expect(&same, Drifted, &[in_words, "possible change of unit"]);
        let centred = |rows, seed| normal(rows, seed).into_iter().map(|value| value * factor).collect::<Vec<_>>();
        for seed in 2..12 {
            for other in [
                against(numbers(&lognormal(REFERENCE_ROWS, 1)), numbers(&scaled(1000, seed))),
                against(numbers(&normal(REFERENCE_ROWS, 1)), numbers(&centred(1000, seed))),
            ] {
                expect(&other, Drifted, &["about", "times as", "possible change of unit"]);
                let Some(Suspicion::UnitChange { factor: found }) = other.suspicion else { panic!("{other:?}") };
                assert!((found / factor - 1.0).abs() < 0.15, "{found}");
            }
        }
    }
}

#[test]
fn a_shift_is_not_a_change_of_unit() {
    for (by, factor) in [(10.0, 1.0), (3.0, 2.0), (-20.0, -1.0)] {
        let moved: Vec<f64> = normal(WINDOW_ROWS, 2).into_iter().map(|value| value * factor + by).collect();
        let column = against(numbers(&normal(REFERENCE_ROWS, 1)), numbers(&moved));
        expect(&column, Drifted, &["of the rows"]);
        assert_eq!(column.suspicion, None);
    }
}

#[test]
fn too_few_rows() {
    let reference = || numbers(&normal(REFERENCE_ROWS, 1));
    let one = against(reference(), numbers(&[0.3]));
    expect(&one, Inconclusive, &["1 row is too few", "the smallest detectable effect is ", ", the margin is 0.02"]);
    assert!(one.minimum_detectable_effect.unwrap() > 1.0, "{one:?}");
    expect(&against(reference(), numbers(&normal(50, 2))), Inconclusive, &["50 rows are too few"]);
    let none = against(reference(), numbers(&[]));
    expect(&none, Inconclusive, &["the current data have no rows"]);
    assert_eq!((none.minimum_detectable_effect, none.psi, none.effect, none.p_value), (None, 0.0, 0.0, 1.0));
    expect(&against(numbers(&[]), numbers(&normal(500, 2))), Inconclusive, &["the reference has no rows"]);
    expect(&against(numbers(&[]), numbers(&[])), Inconclusive, &["the reference has no rows"]);
    expect(&against(texts(&["a"]), texts(&["b"])), Inconclusive, &["1 row is too few"]);
    expect(&against(texts(&colours(5000, 1)), texts::<&str>(&[])), Inconclusive, &["the current data have no rows"]);
    let effect = |rows| against(reference(), numbers(&normal(rows, 2))).minimum_detectable_effect.unwrap();
    assert!(effect(1) > effect(100) && effect(100) > effect(2000));
}

#[test]
fn a_column_of_another_kind() {
    let words = || texts(&colours(2000, 2));
    let became = against(numbers(&normal(REFERENCE_ROWS, 1)), words());
    expect(&became, Drifted, &["changed from numeric to categorical"]);
    let flags = ColumnProfile::of_flags((0..2000).map(|i| Some(i % 3 == 0)));
    expect(&against(texts(&colours(5000, 1)), flags), Drifted, &["changed from categorical to boolean"]);
    expect(&against(texts(&colours(5000, 1)), numbers(&[1.0])), Inconclusive, &["1 row is too few"]);
    let empty = ColumnProfile::of_texts((0..2000).map(|_| None));
    expect(&against(numbers(&normal(REFERENCE_ROWS, 1)), empty), Drifted, &[]);
}

#[test]
fn new_and_absent_columns() {
    let both = |rows, seed| table([("a", numbers(&normal(rows, seed))), ("b", numbers(&normal(rows, seed + 10)))]);
    let one = |rows, seed| table([("a", numbers(&normal(rows, seed)))]);
    let gone = report(&both(REFERENCE_ROWS, 1), &one(WINDOW_ROWS, 2));
    expect(&gone.columns[0], Stable, &[]);
    expect(&gone.columns[1], Drifted, &["the column is absent"]);
    assert_eq!((gone.verdict, gone.columns[1].missing.current), (Drifted, 1.0));
    assert!(gone.columns[1].cause_share > 0.99, "{:?}", gone.columns[1]);
    let new = report(&one(REFERENCE_ROWS, 1), &both(WINDOW_ROWS, 2));
    assert_eq!((new.verdict, new.columns.len(), new.new_columns), (Stable, 1, vec!["b".to_owned()]));
    let nothing = report(&table([]), &one(WINDOW_ROWS, 2));
    assert_eq!((nothing.verdict, nothing.new_columns), (Inconclusive, vec!["a".to_owned()]));
}

#[test]
fn later_timestamps_are_not_drift() {
    let from = |first: i64, rows: i64, every: i64| {
        let mut time = Timestamp::new();
        (0..rows).for_each(|i| time.add((i % every > 0).then_some(first + i * 1000)));
        ColumnProfile::Timestamp(time)
    };
    let reference = || from(1_356_998_400_000, 8000, i64::MAX);
    expect(
        &against(reference(), from(1_700_000_000_000, 2000, 5000)),
        Stable,
        &["the timestamps themselves are not compared"],
    );
    let gaps = against(reference(), from(1_700_000_000_000, 2000, 4));
    expect(&gaps, Drifted, &["missing values changed from", "to 25.0 %"]);
}

#[test]
fn flags() {
    let every = |rows: usize, every: usize| ColumnProfile::of_flags((0..rows).map(|i| Some(i % every == 0)));
    expect(&against(every(8000, 3), every(WINDOW_ROWS, 3)), Stable, &[]);
    let more = against(every(8000, 3), every(2000, 2));
    expect(&more, Drifted, &["the share of the value"]);
    assert!(more.reason.contains("\"true\"") || more.reason.contains("\"false\""), "{}", more.reason);
}

#[test]
fn identifiers() {
    let of = |from: usize, rows: usize| {
        let ids: Vec<String> =
            (from..from + rows).map(|i| format!("order {:016x}", i.wrapping_mul(0x9e37_79b9))).collect();
        texts(&ids)
    };
    // Counted in groups on both sides, and on one. For any number of rows, no group shows that all its values are new.
    for (reference, window) in [(60_000, 60_000), (20_000, 10_000), (20_000, 4000)] {
        let column = against(of(0, reference), of(1_000_000, window));
        expect(&column, Inconclusive, &["of the distinct values are new: possible identifier"]);
        assert_eq!(column.suspicion, Some(Suspicion::Identifier));
    }
    expect(&against(of(0, 4000), of(1_000_000, 4000)), Inconclusive, &["4000 rows are too few"]);
    // The same values in as many rows can be compared: they are not new.
    expect(&against(of(0, 60_000), of(0, 60_000)), Stable, &["an effect of 0 is within the margin"]);
    let half_new = against(of(0, 60_000), of(45_000, 60_000));
    expect(&half_new, Inconclusive, &["of the distinct values are new"]);
    let constant = against(of(0, 10_000), texts(&["none"; 1000]));
    expect(&constant, Drifted, &["the share of a group of values changed from <0.1 % to 100 %"]);
}

#[test]
fn the_reference_itself() {
    let columns = || {
        [
            ("few", numbers(&(0..6000).map(|i| f64::from(i % 7)).collect::<Vec<_>>())),
            ("many", numbers(&normal(6000, 1))),
            ("colour", texts(&colours(6000, 1))),
            ("id", texts(&(0..6000).map(|i| i.to_string()).collect::<Vec<_>>())),
            ("nothing", numbers(&[f64::NAN; 6000])),
        ]
    };
    let report = report(&table(columns()), &table(columns()));
    assert_eq!(report.verdict, Inconclusive);
    for column in report.columns {
        let (verdict, phrase) = match column.name.as_str() {
            "id" => (Inconclusive, "6000 rows are too few"),
            _ => (Stable, "an effect of 0 is within the margin"),
        };
        expect(&column, verdict, &[phrase]);
        assert_eq!((column.effect, column.psi, column.jensen_shannon, column.p_value), (0.0, 0.0, 0.0, 1.0));
        assert!(column.ks.is_none_or(|ks| (ks.statistic, ks.p_value) == (0.0, 1.0)), "{column:?}");
        assert!(column.chi_square.is_none_or(|test| (test.statistic, test.p_value) == (0.0, 1.0)), "{column:?}");
        assert!(column.wasserstein.is_none_or(|distance| distance == 0.0), "{column:?}");
    }
}

#[test]
fn the_smallest_and_largest_floats() {
    for scale in [1e-310, 1e-160, 1e160, 1e300, f64::MAX / 8.0] {
        let scaled = |rows, seed, shift: f64| {
            numbers(&normal(rows, seed).into_iter().map(|value| (value + shift) * scale).collect::<Vec<_>>())
        };
        let same = against(scaled(REFERENCE_ROWS, 1, 0.0), scaled(WINDOW_ROWS, 2, 0.0));
        expect(&same, Stable, &["within the margin"]);
        let moved = against(scaled(REFERENCE_ROWS, 1, 0.0), scaled(WINDOW_ROWS, 2, 1.0));
        expect(&moved, Drifted, &["the share of values from"]);
        // The distance is in standard deviations at any scale.
        let (distance, unmoved) = (moved.wasserstein.unwrap(), same.wasserstein.unwrap());
        assert!((0.8..1.1).contains(&distance) && unmoved < 0.1, "{scale:e}: {distance} {unmoved}");
    }
}

#[test]
fn only_shifts_above_the_margin_are_drift() {
    let moved = |by: f64, seed| numbers(&normal(10_000, seed).into_iter().map(|value| value + by).collect::<Vec<_>>());
    for seed in 1..6 {
        let small = against(moved(0.0, seed), moved(0.1, seed + 100));
        expect(&small, Stable, &["is within the margin of 0.02"]);
        assert!(small.p_value < 1e-4, "significant, but small: {small:?}");
        expect(&against(moved(0.0, seed), moved(0.5, seed + 100)), Drifted, &["the share of values from"]);
    }
}

#[test]
fn missing_values_are_detected_in_any_number_of_rows() {
    // A fifth of the values is missing: from some number of rows on that is drift, for any larger number too.
    let values = normal(REFERENCE_ROWS, 1);
    let with_gaps = |rows: usize| {
        ColumnProfile::of_numbers(normal(rows, 2).into_iter().enumerate().map(|(i, v)| (i % 5 > 0).then_some(v)))
    };
    for rows in 25..400 {
        let column = against(numbers(&values), with_gaps(rows));
        expect(&column, Drifted, &["missing values changed from 0 % to"]);
    }
}

#[test]
fn missing_values_do_not_compensate_for_values_out_of_range() {
    let column = |missing: usize, above: usize| {
        let value = move |i: usize| match i % 100 {
            i if i < missing => None,
            i if i < missing + above => Some(f64::INFINITY),
            _ => Some((i * 7919 % 5000) as f64),
        };
        ColumnProfile::of_numbers((0..600).map(value))
    };
    expect(&against(column(3, 0), column(0, 3)), Drifted, &["changed from"]);
    let reference = ColumnProfile::of_numbers((0..60_000).map(|i| (i % 100 >= 3).then_some((i * 7919 % 5000) as f64)));
    expect(&against(reference, column(0, 3)), Drifted, &["not finite numbers changed from 0 % to 3.0 %"]);
}

#[test]
fn running_numbers() {
    let ids = |from: u32, rows: u32| numbers(&(from..from + rows).map(f64::from).collect::<Vec<_>>());
    let column = against(ids(1, 20_000), ids(20_001, 5000));
    expect(&column, Drifted, &["continue evenly where the reference ends"]);
    assert_eq!(column.suspicion, Some(Suspicion::RunningNumber));
    let jumped = against(numbers(&normal(REFERENCE_ROWS, 1)), ids(100, 5000));
    assert_eq!(jumped.suspicion, None, "{}", jumped.reason);
}

#[test]
fn unreadable_values_are_drift() {
    let reference = normal(REFERENCE_ROWS, 1);
    let ColumnProfile::Numeric(mut spoilt) = numbers(&normal(800, 2)) else { unreachable!() };
    spoilt.add_unreadable(200);
    let column = against(numbers(&reference), ColumnProfile::Numeric(spoilt));
    expect(&column, Drifted, &["values that are not numbers changed from 0 % to 20.0 %"]);
    let ColumnProfile::Boolean(mut maybe) = ColumnProfile::of_flags((0..800).map(|i| Some(i % 2 == 0))) else {
        unreachable!()
    };
    maybe.add_unreadable(200);
    let flags = ColumnProfile::of_flags((0..8000).map(|i| Some(i % 2 == 0)));
    let column = against(flags, ColumnProfile::Boolean(maybe));
    expect(&column, Drifted, &["values that are neither true nor false changed from 0 % to 20.0 %"]);
}

#[test]
fn a_shift_close_to_the_margin_is_inconclusive() {
    let settings = Settings::default();
    let share = |a: usize, rows: usize| texts(&(0..rows).map(|i| if i < a { "a" } else { "b" }).collect::<Vec<_>>());
    let verdict = |now: usize| against(share(25_000, 50_000), share(now, 10_000));
    // Half of the rows in the reference; the index is 0.02 for 57 % of the window.
    expect(&verdict(5000), Stable, &["within the margin"]);
    let close = verdict(5690);
    assert!((close.effect - settings.margin).abs() < 0.001 && close.is_large_enough(settings.margin), "{close:?}");
    expect(&close, Inconclusive, &["too close to the margin of 0.02"]);
    expect(&verdict(6000), Drifted, &[]);
    // A rare value that is absent in the window: above the margin, but possibly by chance.
    let level = settings.level(20);
    let vanished = compare_column("x", &share(4965, 5000), &share(2000, 2000), level, settings.margin);
    assert!(vanished.effect > settings.margin && vanished.p_value > level, "{vanished:?}");
    assert_eq!(vanished.verdict, Inconclusive, "{vanished:?}");
}

#[test]
fn numbers_too_close_to_be_distinguished_are_inconclusive() {
    // Nine tenths of the values are close to one, the others span three hundred powers of ten, which use up the buckets.
    let spread = |low: f64, width: f64| {
        let value = move |i: u32| match i % 10 {
            0 => 10_f64.powf(-300.0 * f64::from(i * 7919 % 10_007) / 10_007.0),
            _ => low + width * f64::from(i * 7919 % 10_007) / 10_007.0,
        };
        numbers(&(0..60_000).map(value).collect::<Vec<_>>())
    };
    let column = against(spread(0.99, 0.01), spread(0.9, 0.01));
    expect(&column, Inconclusive, &["of the numbers are too close together"]);
    assert!(column.blind_share > Some(0.5), "{column:?}");
}

#[test]
fn the_reason_names_the_side_with_too_few_rows() {
    expect(
        &against(numbers(&normal(100, 1)), numbers(&normal(20_000, 2))),
        Inconclusive,
        &["100 rows of the reference are too few"],
    );
    expect(&against(numbers(&normal(20_000, 1)), numbers(&normal(100, 2))), Inconclusive, &["100 rows are too few"]);
}

#[test]
fn zeros_that_become_other_values_are_not_a_change_of_unit() {
    let before = numbers(&(0..5000).map(|i| if i % 5 == 0 { 10.0 } else { 0.0 }).collect::<Vec<_>>());
    let after = numbers(&(0..4000).map(|i| if i % 5 == 0 { 100.0 } else { 90.0 }).collect::<Vec<_>>());
    assert_eq!(against(before, after).suspicion, None);
}

#[test]
fn a_column_that_has_not_drifted_has_no_share_of_the_shift() {
    let of = |seed, by: f64| {
        table([
            ("moved", numbers(&normal(8000, seed).iter().map(|v| v + by).collect::<Vec<_>>())),
            ("same", numbers(&normal(8000, seed + 10))),
        ])
    };
    let shares =
        |by| report(&of(1, 0.0), &of(2, by)).columns.iter().map(|column| column.cause_share).collect::<Vec<_>>();
    assert_eq!((shares(0.0), shares(1.0)), (vec![0.0, 0.0], vec![1.0, 0.0]));
}
