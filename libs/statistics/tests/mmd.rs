//! The kernel two-sample test: its power, its invariances, and its formula.

use rand::{RngExt as _, SeedableRng as _, seq::SliceRandom as _};
use rand_chacha::ChaCha8Rng;
use rekindle_statistics::{
    Error,
    two_sample::{MmdSettings, mmd},
};

/// Rows of two columns with a dependence of the second on the first.
fn rows(seed: u64, count: usize, dependence: f64, shift: f64) -> Vec<f64> {
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut normal = move || (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0;
    let row = |_| {
        let (first, own) = (normal(), normal());
        [first + shift, dependence * first + (1.0 - dependence * dependence).sqrt() * own]
    };
    (0..count).flat_map(row).collect()
}

#[test]
fn the_kernel_test_detects_shifts_and_changes_of_dependence() {
    let settings = MmdSettings::default();
    let reference = rows(1, 150, 0.0, 0.0);
    let test = |window: &[f64]| mmd(&reference, window, 2, &settings).unwrap();
    let same = test(&reference);
    assert!(same.p_value > 0.9 && same.statistic < 0.0, "{same:?}");
    assert!(test(&rows(2, 100, 0.0, 0.0)).p_value > 0.05);
    assert_eq!(test(&rows(3, 100, 0.0, 1.0)).p_value, 1.0 / 200.0);
    // The marginal distributions are unchanged.
    assert!(test(&rows(4, 100, 0.9, 0.0)).p_value <= 2.0 / 200.0);
}

#[test]
fn the_kernel_test_does_not_depend_on_units_order_of_samples_or_constants() {
    let settings = MmdSettings { permutations: 49, seed: 7 };
    let (reference, window) = (rows(1, 40, 0.0, 0.0), rows(2, 30, 0.5, 0.3));
    let plain = mmd(&reference, &window, 2, &settings).unwrap();
    assert_eq!(mmd(&reference, &window, 2, &settings), Ok(plain));
    let metres = |rows: &[f64]| rows.chunks(2).flat_map(|row| [row[0] * 1024.0, row[1] / 4.0]).collect::<Vec<_>>();
    assert_eq!(mmd(&metres(&reference), &metres(&window), 2, &settings), Ok(plain));
    let wider = |rows: &[f64]| rows.chunks(2).flat_map(|row| [row[0], 0.1, row[1]]).collect::<Vec<_>>();
    assert_eq!(mmd(&wider(&reference), &wider(&window), 3, &settings), Ok(plain));
    assert_eq!(mmd(&window, &reference, 2, &settings), Ok(plain));
}

/// Rows of two columns in another order.
fn shuffled(rows: &[f64], seed: u64) -> Vec<f64> {
    let mut rows: Vec<&[f64]> = rows.chunks(2).collect();
    rows.shuffle(&mut ChaCha8Rng::seed_from_u64(seed));
    rows.concat()
}

/// Also for samples of equal size, of which either can be the visited group, and for tied rows.
#[test]
fn the_kernel_test_does_not_depend_on_the_order_of_rows() {
    let settings = MmdSettings { permutations: 99, seed: 7 };
    let rounded = |rows: Vec<f64>| rows.into_iter().map(|value| value.round() * 0.1).collect::<Vec<_>>();
    let tables = [
        (rows(1, 40, 0.0, 0.0), rows(2, 30, 0.5, 0.3)),
        (rows(1, 30, 0.0, 0.0), rows(2, 30, 0.5, 0.1)),
        (rounded(rows(1, 30, 0.0, 0.0)), rounded(rows(2, 30, 0.0, 0.0))),
    ];
    for (reference, window) in tables {
        let plain = mmd(&reference, &window, 2, &settings).unwrap();
        assert!(plain.p_value > 0.01 && plain.p_value < 1.0, "{plain:?} cannot distinguish orders");
        for seed in 0..5 {
            let (reference, window) = (shuffled(&reference, seed), shuffled(&window, seed + 100));
            assert_eq!(mmd(&reference, &window, 2, &settings), Ok(plain));
            assert_eq!(mmd(&window, &reference, 2, &settings), Ok(plain));
        }
    }
}

/// As documented.
#[test]
fn an_outlier_hides_a_shift_of_its_column_from_the_kernel_test() {
    let (mut reference, window) = (rows(1, 60, 0.0, 0.0), rows(2, 60, 0.0, 3.0));
    let settings = MmdSettings::default();
    assert_eq!(mmd(&reference, &window, 2, &settings).unwrap().p_value, 1.0 / 200.0);
    reference[0] = 1e300;
    assert!(mmd(&reference, &window, 2, &settings).unwrap().p_value > 0.05);
}

/// The estimate by the formula of the paper.
#[test]
fn the_kernel_estimate_is_the_one_defined() {
    let (reference, window) = ([0.0, 1.0, 3.0], [2.0, 7.0]);
    let test = mmd(&reference, &window, 1, &MmdSettings { permutations: 99, seed: 0 }).unwrap();
    let pooled = [0.0, 1.0, 3.0, 2.0, 7.0_f64];
    let std = (pooled.iter().map(|x| (x - 2.6).powi(2)).sum::<f64>() / 5.0).sqrt();
    // Of the ten distances 1 1 1 2 2 3 4 5 6 7 the upper median is 3.
    let kernel = |x: f64, y: f64| (-(x - y).powi(2) / (2.0 * 3.0 * 3.0)).exp();
    let within = (kernel(0.0, 1.0) + kernel(0.0, 3.0) + kernel(1.0, 3.0)) / 3.0 + kernel(2.0, 7.0);
    let across = reference.iter().flat_map(|x| window.iter().map(move |y| kernel(*x, *y))).sum::<f64>() / 6.0;
    assert!((test.statistic - (within - 2.0 * across)).abs() < 1e-12, "{test:?}");
    assert!((test.bandwidth - 3.0 / std).abs() < 1e-12);
    // These five rows have only ten groupings, so that 99 draws include the observed one many times.
    assert!(test.p_value > 0.05, "{test:?}");
}

#[test]
fn the_kernel_test_rejects_too_many_rows_and_accepts_all_others() {
    let settings = MmdSettings { permutations: 19, seed: 0 };
    let few = MmdSettings { permutations: 18, seed: 0 };
    assert!(matches!(mmd(&[1.0; 4], &[1.0; 4], 2, &few), Err(Error::Parameter { .. })));
    assert!(matches!(mmd(&[1.0; 5], &[1.0; 4], 2, &settings), Err(Error::Ragged { values: 5, columns: 2, .. })));
    assert!(matches!(mmd(&[], &[1.0; 4], 0, &settings), Err(Error::Ragged { columns: 0, .. })));
    assert!(matches!(mmd(&[1.0; 2], &[1.0; 4], 2, &settings), Err(Error::TooFewRows { need: 2, got: 1, .. })));
    assert!(matches!(
        mmd(&[1.0; 2000], &[1.0; 49], 1, &settings),
        Err(Error::TooManyRows { most: 2048, got: 2049, .. })
    ));
    assert!(matches!(mmd(&[1.0, f64::NAN], &[1.0; 4], 1, &settings), Err(Error::Value { row: 1, .. })));
    let constant = mmd(&[1.0; 10], &[1.0; 10], 1, &settings).unwrap();
    assert_eq!((constant.statistic, constant.p_value), (0.0, 1.0));
    for far in [1e308, f64::MAX, 5e-324] {
        let test = mmd(&[-far, 0.0, far, far], &[far, -far, 0.0], 1, &settings).unwrap();
        assert!(test.statistic.is_finite() && test.bandwidth > 0.0, "{test:?}");
    }
}
