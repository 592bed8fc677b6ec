//! Properties of two-sample statistics for all inputs, and comparison with exhaustive counting.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise, in its helpers too")]

use proptest::{collection::vec, prelude::*};
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rekindle_statistics::{
    Error,
    convention::{Column, scipy},
    two_sample::{
        MAX_ROWS, Method, Sample, cramer_von_mises, energy_distance, ks, p_value_asymptotic, p_value_exact, wasserstein,
    },
};

const METHODS: [Method; 3] = [Method::Auto, Method::Exact, Method::Asymptotic];

fn sample(values: &[f64]) -> Sample {
    Sample::new(values).unwrap()
}

/// Small integers, which have ties and exact sums.
fn whole() -> impl Strategy<Value = Vec<f64>> {
    vec((-30i32..30).prop_map(f64::from), 1..40)
}

/// Any number, including the infinities.
fn any_number() -> impl Strategy<Value = Vec<f64>> {
    let number = any::<f64>().prop_filter("a number", |value| !value.is_nan());
    let end = prop_oneof![Just(f64::INFINITY), Just(f64::NEG_INFINITY), Just(f64::MAX), Just(-f64::MAX), Just(5e-324)];
    vec(prop_oneof![4 => number, 1 => end], 0..30)
}

/// All choices of the first of two samples among the ranks 0..n + m.
fn all_orders(n: usize, m: usize) -> impl Iterator<Item = (Sample, Sample)> {
    let ranks = move |mask: u32, bit: u32| {
        let chosen = (0..n + m).filter(|rank| mask >> rank & 1 == bit);
        sample(&chosen.map(|rank| rank as f64).collect::<Vec<_>>())
    };
    let masks = (0u32..1 << (n + m)).filter(move |mask| mask.count_ones() as usize == n);
    masks.map(move |mask| (ranks(mask, 1), ranks(mask, 0)))
}

/// Checks the p-value of each possible statistic against the share of the orders with at least that statistic.
fn agrees_with_counting(n: usize, m: usize, test: impl Fn(&Sample, &Sample) -> (f64, f64)) {
    let results: Vec<(f64, f64)> = all_orders(n, m).map(|(left, right)| test(&left, &right)).collect();
    for (statistic, p_value) in &results {
        let reached = results.iter().filter(|(other, _)| *other >= statistic - 1e-12).count();
        let share = reached as f64 / results.len() as f64;
        assert!((p_value - share).abs() < 1e-13, "{n} {m}: {statistic} has {share}, not {p_value}");
    }
}

#[test]
fn exact_p_values_are_shares_of_all_orders() {
    for (n, m) in [(1, 1), (1, 4), (2, 3), (4, 4), (5, 3), (6, 4), (5, 6), (6, 6), (3, 9)] {
        agrees_with_counting(n, m, |left, right| {
            let test = ks(left, right, Method::Exact).unwrap();
            (test.statistic, test.p_value)
        });
    }
    for (n, m) in [(2, 2), (2, 5), (4, 4), (5, 3), (6, 4), (5, 6)] {
        agrees_with_counting(n, m, |left, right| {
            let test = cramer_von_mises(left, right, Method::Exact).unwrap();
            (test.statistic, test.p_value)
        });
    }
}

/// scipy 1.17.1.
#[test]
fn small_samples_agree_with_scipy() {
    let close = |got: f64, expected: f64| assert!((got - expected).abs() < 1e-12, "{got}, expected {expected}");
    let (left, right) = (sample(&[1.0, 2.0, 3.0, 4.0, 5.0, 6.0]), sample(&[3.5, 4.5, 5.5, 6.5, 7.5, 8.5]));
    close(ks(&left, &right, Method::Asymptotic).unwrap().p_value, 0.333_333_333_333_333_3);
    close(cramer_von_mises(&left, &right, Method::Exact).unwrap().statistic, 0.402_777_777_777_777_7);
    close(cramer_von_mises(&left, &right, Method::Asymptotic).unwrap().p_value, 0.072_006_624_668_687_46);
    // The examples in the documentation of energy_distance.
    let left = Sample::from_counts([(0.0, 3), (8.0, 1)]).unwrap();
    close(energy_distance(&left, &Sample::from_counts([(0.0, 2), (8.0, 2)]).unwrap()).unwrap(), 1.0);
    close(energy_distance(&sample(&[0.0]), &sample(&[2.0])).unwrap(), 2.0);
    close(wasserstein(&sample(&[0.0, 1.0, 2.0, 3.0]), &sample(&[0.5, 2.5, 9.0])).unwrap(), 2.583_333_333_333_334);
}

/// Of several locations with the same distance, the first among the values of the reference is reported.
#[test]
fn location_and_sign_are_those_of_scipy() {
    let found = |left: &[f64], right: &[f64]| {
        let test = ks(&sample(left), &sample(right), Method::Auto).unwrap();
        (test.location, test.sign)
    };
    assert_eq!(found(&[1.0, 2.0], &[3.0, 4.0, 5.0]), (2.0, 1));
    assert_eq!(found(&[3.0, 4.0, 5.0], &[1.0, 2.0]), (2.0, -1));
    assert_eq!(found(&[2.0, 5.0, 5.0, 5.0], &[1.0, 5.0]), (1.0, -1));
    assert_eq!(found(&[1.0, 2.0, f64::INFINITY], &[1.0, 2.0, f64::INFINITY]), (1.0, 1));
    assert_eq!(found(&[f64::NEG_INFINITY], &[0.0]), (f64::NEG_INFINITY, 1));
}

#[test]
fn large_unequal_samples_are_counted_without_overflow() {
    // scipy 1.17.1, ks_2samp(method='exact').
    let got = p_value_exact(0.0209, 10_000, 5_000).unwrap();
    assert!((got / 0.108_205_147_054_716_8 - 1.0).abs() < 1e-12, "{got}");
    assert_eq!(p_value_exact(1.0, 10_000, 5_000), Some(0.0));
    assert_eq!(p_value_exact(0.0, 10_000, 5_000), Some(1.0));
    // Too large for an exact p-value: an error, or the asymptotic p-value by `Auto`.
    let (left, right) = (Sample::from_counts([(0.0, 1 << 40)]), Sample::from_counts([(0.0, 1 << 20), (1.0, 1)]));
    let (left, right) = (left.unwrap(), right.unwrap());
    assert!(matches!(ks(&left, &right, Method::Exact), Err(Error::TooCostly { .. })));
    let test = ks(&left, &right, Method::Auto).unwrap();
    assert_eq!(Some(test.p_value), p_value_asymptotic(test.statistic, 1 << 40, (1 << 20) + 1));
}

/// Scipy, which chooses by the larger side, has 0 here.
#[test]
fn a_few_rows_and_many_have_an_exact_p_value() {
    let (many, one) = (Sample::from_counts([(0.0, 20_001)]).unwrap(), sample(&[1.0]));
    let close = |got: f64, expected: f64| assert!((got / expected - 1.0).abs() < 1e-12, "{got}, expected {expected}");
    for method in METHODS {
        close(ks(&many, &one, method).unwrap().p_value, 2.0 / 20_002.0);
    }
    let column = Column::Numeric(&many, &one);
    assert_eq!(scipy::scores(&column).ks.map(|test| test.p_value), Some(0.0));
    // A million rows, and three above all of them.
    let spread = Sample::from_counts((0..100).map(|value| (f64::from(value), 10_000))).unwrap();
    let test = ks(&spread, &sample(&[200.0, 200.0, 200.0]), Method::Auto).unwrap();
    close(test.p_value, 12.0 / (1_000_001.0 * 1_000_002.0 * 1_000_003.0));
}

#[test]
fn huge_values_do_not_overflow() {
    let (low, high) = (sample(&[-1e308, 0.0]), sample(&[1e308, 0.0]));
    assert_eq!(wasserstein(&low, &high), Ok(1e308));
    assert!((energy_distance(&low, &high).unwrap() / 1e154 - 1.0).abs() < 1e-12);
    assert_eq!(wasserstein(&sample(&[-f64::MAX]), &sample(&[f64::MAX])), Ok(f64::MAX));
    assert!(
        (energy_distance(&sample(&[-f64::MAX]), &sample(&[f64::MAX])).unwrap() / 2.0 / f64::MAX.sqrt() - 1.0).abs()
            < 1e-12
    );
    assert_eq!(wasserstein(&sample(&[5e-324]), &sample(&[0.0])), Ok(5e-324));
}

/// A printed -0 would look like a direction.
#[test]
fn a_zero_distance_is_positive_zero() {
    let (one, two) = (sample(&[1.0]), sample(&[1.0, 1.0]));
    let distances = [wasserstein(&one, &one), energy_distance(&one, &one), wasserstein(&one, &two)];
    let tests = [cramer_von_mises(&two, &two, Method::Exact), cramer_von_mises(&two, &two, Method::Asymptotic)];
    let statistics = tests.map(|test| Ok(test.unwrap().statistic));
    for zero in distances.into_iter().chain(statistics) {
        assert_eq!(zero.map(f64::to_bits), Ok(0.0_f64.to_bits()));
    }
    assert_eq!(ks(&one, &one, Method::Auto).unwrap().statistic.to_bits(), 0);
}

#[test]
fn undefined_statistics_are_errors() {
    let (none, one, some) = (Sample::default(), sample(&[1.0]), sample(&[1.0, 2.0]));
    let endless = sample(&[1.0, 2.0, 2.0, f64::INFINITY, f64::INFINITY]);
    assert!(matches!(ks(&some, &none, Method::Auto), Err(Error::TooFewRows { need: 1, got: 0, .. })));
    assert!(matches!(wasserstein(&none, &some), Err(Error::TooFewRows { .. })));
    assert!(matches!(wasserstein(&some, &endless), Err(Error::Value { row: 3, .. })));
    assert!(matches!(energy_distance(&endless, &some), Err(Error::Value { row: 3, .. })));
    assert!(matches!(cramer_von_mises(&some, &one, Method::Auto), Err(Error::TooFewRows { need: 2, .. })));
    let many = Sample::from_counts([(0.0, 21)]).unwrap();
    assert!(matches!(cramer_von_mises(&some, &many, Method::Exact), Err(Error::TooManyRows { most: 20, .. })));
}

#[test]
fn cramer_von_mises_keeps_its_precision_for_very_many_rows() {
    // The two parts of Anderson's formula are each about 2e8 here, with a difference of 0.
    let half = Sample::from_counts([(0.0, 1 << 29), (1.0, 1 << 29)]).unwrap();
    let test = cramer_von_mises(&half, &half, Method::Auto).unwrap();
    assert_eq!((test.statistic, test.p_value), (0.0, 1.0));
    let moved = Sample::from_counts([(0.0, (1 << 29) - 300_000), (1.0, (1 << 29) + 300_000)]).unwrap();
    assert!(cramer_von_mises(&half, &moved, Method::Auto).unwrap().p_value < 1e-6);
    let most = Sample::from_counts([(0.0, MAX_ROWS)]).unwrap();
    assert_eq!(cramer_von_mises(&half, &most, Method::Auto).unwrap().p_value, 0.0);
    assert_eq!(cramer_von_mises(&most, &most, Method::Auto).unwrap().statistic, 0.0);
}

/// Scipy 1.17.1 has a statistic of 157.9 and a p-value of 0 for the first.
#[test]
fn equal_shares_have_no_difference_at_any_sizes() {
    for (n, m) in [(100, 5), (5, 100), (20, 3), (7, 7), (1 << 40, 2)] {
        let (left, right) = (Sample::from_counts([(0.0, n)]).unwrap(), Sample::from_counts([(0.0, m)]).unwrap());
        for method in [Method::Auto, Method::Asymptotic] {
            let test = cramer_von_mises(&left, &right, method).unwrap();
            assert_eq!((test.statistic, test.p_value), (0.0, 1.0), "{n} {m} {method:?}");
        }
    }
}

/// By hand: of 2 rows [0, 1] and 3 rows [0, 0, 1] the differences over the five rows, in sixths, change from 0 in three
/// equal steps to -1 and in two back to 0: `(1/9 + 4/9 + 1 + 1/4) / 36`, times `6 / 25`.
#[test]
fn tied_rows_change_the_difference_in_equal_steps() {
    let test = cramer_von_mises(&sample(&[0.0, 1.0]), &sample(&[0.0, 0.0, 1.0]), Method::Exact).unwrap();
    let squares: f64 = 1.0 / 9.0 + 4.0 / 9.0 + 1.0 + 1.0 / 4.0;
    assert!((test.statistic - squares / 36.0 * 6.0 / 25.0).abs() < 1e-15, "{test:?}");
}

/// The simulated share of rejections at 5 % for samples of three values with equal probabilities.
#[test]
fn ties_at_unequal_sizes_do_not_raise_false_alarms() {
    let mut random = ChaCha8Rng::seed_from_u64(3);
    let mut draw = |rows: usize| sample(&(0..rows).map(|_| f64::from(random.random_range(0..3))).collect::<Vec<_>>());
    for (n, m) in [(200, 20), (100, 5), (20, 9)] {
        let alarms = (0..400).filter(|_| cramer_von_mises(&draw(n), &draw(m), Method::Auto).unwrap().p_value <= 0.05);
        let alarms = alarms.count();
        println!("{n} against {m}: {alarms} of 400");
        // Binomial 99.9 % bound of 400 draws at 5 %.
        assert!(alarms <= 34, "{n} against {m}: {alarms} of 400");
    }
}

proptest! {
    #[test]
    fn a_sample_does_not_depend_on_the_order_and_the_parts_of_its_values(left in whole(), right in whole()) {
        let together: Vec<f64> = right.iter().chain(&left).copied().collect();
        let (left, right) = (sample(&left), sample(&right));
        let pairs = [&left, &right].into_iter().flat_map(|part| part.values().iter().copied().zip(part.counts().iter().copied()));
        prop_assert_eq!(Sample::from_counts(pairs).unwrap(), sample(&together));
    }

    #[test]
    fn both_directions_agree(left in whole(), right in whole()) {
        let (left, right) = (sample(&left), sample(&right));
        for method in METHODS {
            let (there, back) = (ks(&left, &right, method).unwrap(), ks(&right, &left, method).unwrap());
            prop_assert_eq!((there.statistic, there.p_value), (back.statistic, back.p_value));
        }
        prop_assert_eq!(wasserstein(&left, &right), wasserstein(&right, &left));
        prop_assert_eq!(energy_distance(&left, &right), energy_distance(&right, &left));
        if left.rows().min(right.rows()) > 1 {
            let (there, back) = (cramer_von_mises(&left, &right, Method::Auto), cramer_von_mises(&right, &left, Method::Auto));
            let (there, back) = (there.unwrap(), back.unwrap());
            prop_assert_eq!(there.statistic, back.statistic);
            prop_assert!((there.p_value - back.p_value).abs() < 1e-12);
        }
    }

    #[test]
    fn rank_tests_are_invariant_under_strictly_monotone_transforms(left in whole(), right in whole()) {
        let bend = |value: f64| (value / 7.0).exp() - 3.0;
        let bent = |values: &[f64]| sample(&values.iter().copied().map(bend).collect::<Vec<_>>());
        let (plain, after) = ((sample(&left), sample(&right)), (bent(&left), bent(&right)));
        for method in METHODS {
            let (before, after) = (ks(&plain.0, &plain.1, method).unwrap(), ks(&after.0, &after.1, method).unwrap());
            prop_assert_eq!((before.statistic, before.p_value, before.sign), (after.statistic, after.p_value, after.sign));
            prop_assert_eq!(bend(before.location), after.location);
        }
        prop_assert_eq!(cramer_von_mises(&plain.0, &plain.1, Method::Auto), cramer_von_mises(&after.0, &after.1, Method::Auto));
    }

    #[test]
    fn the_distance_of_a_sample_from_itself_is_zero(values in whole(), by in 1i32..100) {
        let still = sample(&values);
        prop_assert_eq!(wasserstein(&still, &still), Ok(0.0));
        prop_assert_eq!(energy_distance(&still, &still), Ok(0.0));
        prop_assert_eq!(ks(&still, &still, Method::Auto).unwrap().p_value, 1.0);
        // Twice the rows with the same shares are the same distribution.
        let doubled = Sample::from_counts(still.values().iter().copied().zip(still.counts().iter().map(|count| 2 * count)));
        let doubled = doubled.unwrap();
        prop_assert_eq!(wasserstein(&still, &doubled), Ok(0.0));
        if still.rows() > 1 {
            for (left, right) in [(&still, &still), (&still, &doubled), (&doubled, &still)] {
                let test = cramer_von_mises(left, right, Method::Auto).unwrap();
                prop_assert_eq!((test.statistic, test.p_value), (0.0, 1.0));
            }
        }
        // A shifted sample has the distance of the shift.
        let moved = sample(&values.iter().map(|value| value + f64::from(by)).collect::<Vec<_>>());
        prop_assert!((wasserstein(&still, &moved).unwrap() - f64::from(by)).abs() < 1e-12 * f64::from(by));
    }

    #[test]
    fn distances_equal_their_definitions(left in vec(-1e3..1e3, 12), right in vec(-1e3..1e3, 12)) {
        let (from, to) = (sample(&left), sample(&right));
        // For samples of equal size without ties: the mean distance between the k-th smallest of each.
        let sorted = from.values().iter().zip(to.values());
        let transport = sorted.map(|(l, r)| (l - r).abs()).sum::<f64>() / 12.0;
        prop_assume!(from.distinct() == 12 && to.distinct() == 12);
        prop_assert!((wasserstein(&from, &to).unwrap() / transport - 1.0).abs() < 1e-9);
        let mean = |a: &[f64], b: &[f64]| a.iter().flat_map(|x| b.iter().map(move |y| (x - y).abs())).sum::<f64>() / 144.0;
        let squared = 2.0 * mean(&left, &right) - mean(&left, &left) - mean(&right, &right);
        prop_assert!((energy_distance(&from, &to).unwrap().powi(2) - squared).abs() < 1e-9 * (1.0 + squared));
    }

    #[test]
    fn no_input_gives_nan(left in any_number(), right in any_number()) {
        let (left, right) = (sample(&left), sample(&right));
        let endless = [&left, &right].into_iter().flat_map(Sample::values).any(|value| value.is_infinite());
        for method in METHODS {
            if let Ok(test) = ks(&left, &right, method) {
                prop_assert!((0.0..=1.0).contains(&test.statistic) && (0.0..=1.0).contains(&test.p_value), "{:?}", test);
            }
            if let Ok(test) = cramer_von_mises(&left, &right, method) {
                prop_assert!(test.statistic.is_finite() && (0.0..=1.0).contains(&test.p_value), "{:?}", test);
            }
        }
        for distance in [wasserstein(&left, &right), energy_distance(&left, &right)] {
            prop_assert_eq!(distance.is_err(), endless || left.is_empty() || right.is_empty());
            prop_assert!(distance.unwrap_or(0.0).is_finite());
        }
        for moment in [left.mean(), left.std(0), left.std(1)].into_iter().flatten() {
            prop_assert!(moment.is_finite());
        }
    }

    #[test]
    fn p_values_of_any_distance_and_size_are_probabilities(distance in 0.0..=1.0, n in 1u64..300, m in 1u64..300) {
        let (exact, limit) = (p_value_exact(distance, n, m).unwrap(), p_value_asymptotic(distance, n, m).unwrap());
        prop_assert!((0.0..=1.0).contains(&exact) && (0.0..=1.0).contains(&limit));
        prop_assert_eq!(p_value_exact(distance, m, n), Some(exact));
    }
}
