//! Bins, divergences and the conventions of other tools: compared with numpy 2.4.6 and with results by hand, and by properties.

use std::f64::consts::LN_2;

use proptest::prelude::*;
use rekindle_statistics::{
    Error,
    convention::{Categories, Column, Scores, evidently, scipy},
    multiple::{Procedure, adjusted},
    two_sample::{
        Sample,
        binning::{self, Binned},
        contingency::{Correction, Statistic, homogeneity},
        divergence::{self, Base, Shares},
        proportions::{Part, fisher_exact, two_proportions},
    },
};

/// A skewed column of 997 rows.
fn skewed() -> Sample {
    let values: Vec<f64> = (0..997).map(|i| 1000.0 / f64::from(10 + (i * 7919) % 10_007)).collect();
    Sample::new(&values).expect("numbers")
}

/// `numpy.histogram_bin_edges` and `numpy.histogram`, to the last bit of the second, sixth and the two last edges.
#[test]
fn edges_equal_those_of_numpy_to_the_last_bit() {
    type Case = (Result<Vec<f64>, Error>, [u64; 4], &'static [u64]);
    let cases: [Case; 3] = [
        (
            binning::sturges_edges(&skewed()),
            [0x4022_5d0e_f007_a0cd, 0x4046_c128_a401_24ec, 0x4056_bac3_6300_1869, 0x4059_0000_0000_0000],
            &[987, 5, 2, 1, 0, 1, 0, 0, 0, 0, 1],
        ),
        (
            binning::doane_edges(&skewed()),
            [0x4015_6e6a_95f4_f384, 0x403a_63b1_2b61_683e, 0x4057_af7e_97a1_bd4b, 0x4059_0000_0000_0000],
            &[979, 10, 2, 2, 1, 0, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0, 1],
        ),
        (
            binning::equal_width_edges(&skewed(), 17),
            [0x4017_e7d6_a5b5_7116, 0x403d_7b78_3f12_0535, 0x4057_87e7_d6a5_b571, 0x4059_0000_0000_0000],
            &[981, 8, 3, 1, 1, 1, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 1],
        ),
    ];
    for (edges, bits, counts) in cases {
        let edges = edges.expect("a finite range");
        let last = edges.len() - 1;
        assert_eq!([1, 5, last - 1, last].map(|at| edges[at].to_bits()), bits);
        assert_eq!(binning::count(&skewed(), &edges), Binned { counts: counts.to_vec(), outside: 0 });
    }
}

#[test]
fn a_bin_includes_its_left_edge_and_the_last_bin_both() {
    let sample = Sample::new(&[-1.0, 0.0, 0.5, 1.0, 1.0, 2.0, 3.0, f64::INFINITY]).expect("numbers");
    assert_eq!(binning::count(&sample, &[0.0, 1.0, 2.0]), Binned { counts: vec![2, 3], outside: 3 });
    assert_eq!(binning::count(&sample, &[0.0]), Binned { counts: vec![], outside: 8 });
    assert_eq!(binning::count(&Sample::default(), &[0.0, 1.0]), Binned { counts: vec![0], outside: 0 });
}

#[test]
fn ranges_that_cannot_be_divided_into_bins() {
    let sample = |values: &[f64]| Sample::new(values).expect("numbers");
    assert_eq!(binning::sturges_edges(&sample(&[3.0; 50])), Ok(vec![2.5, 3.5]));
    assert_eq!(binning::doane_edges(&sample(&[3.0; 50])), Ok(vec![2.5, 3.5]));
    assert!(matches!(binning::sturges_edges(&sample(&[])), Err(Error::TooFewRows { .. })));
    assert!(matches!(binning::sturges_edges(&sample(&[1.0, f64::INFINITY])), Err(Error::Range { .. })));
    assert!(matches!(binning::doane_edges(&sample(&[-1e308, 0.0, 1.7e308])), Err(Error::Range { .. })));
    assert!(matches!(binning::equal_width_edges(&sample(&[1.0, 1.0 + f64::EPSILON]), 10), Err(Error::Range { .. })));
    assert!(matches!(binning::equal_width_edges(&sample(&[1.0, 2.0]), 0), Err(Error::Range { .. })));
    assert!(matches!(binning::equal_width_edges(&sample(&[1.0, 2.0]), usize::MAX), Err(Error::Range { .. })));
}

#[test]
fn divergences_by_hand() {
    let shares = |weights: &[f64]| Shares::of_weights(weights).expect("shares");
    let (p, q) = (shares(&[1.0, 1.0]), shares(&[1.0, 0.0]));
    assert_eq!(divergence::kullback_leibler(&q, &p, Base::Two), Ok(1.0));
    assert_eq!(divergence::kullback_leibler(&p, &q, Base::Two), Ok(f64::INFINITY));
    let expected = (1.0 - 0.5_f64.sqrt()).sqrt();
    assert!((divergence::hellinger(&p, &q).expect("of one length") - expected).abs() < 1e-15);
    assert_eq!(divergence::psi_of_shares(&[0.5, 0.5], &[1.0, 0.0]), Ok(f64::INFINITY));
    assert_eq!(divergence::psi_of_shares(&[1.0, 0.0], &[1.0, 0.0]), Ok(0.0));
    assert!(matches!(divergence::psi_of_shares(&[0.5], &[f64::NAN]), Err(Error::Value { .. })));
    assert!(matches!(divergence::hellinger(&p, &shares(&[1.0])), Err(Error::Lengths { .. })));
    assert!(matches!(Shares::of_counts(&[0, 0]), Err(Error::TooFewRows { .. })));
    assert!(matches!(Shares::of_weights(&[1.0, -1.0]), Err(Error::Value { row: 1, .. })));
    assert!(matches!(Shares::of_weights(&[f64::MAX, f64::MAX]), Err(Error::Value { .. })));
}

/// Shares whose ratio, or whose mean, is not a normal number.
#[test]
fn the_smallest_shares_have_a_finite_divergence() {
    let close = |got: Result<f64, Error>, expected: f64| {
        let got = got.expect("of one length");
        assert!((got - expected).abs() <= 1e-12 * expected.abs(), "{got}, expected {expected}");
    };
    // -ln 1e-310 in arithmetic of 40 digits.
    close(divergence::psi_of_shares(&[1.0], &[1e-310]), 713.801_378_828_154_1);
    close(divergence::psi_of_shares(&[1e-310], &[1.0]), 713.801_378_828_154_1);
    assert_eq!(divergence::psi_of_shares(&[1.0], &[0.0]), Ok(f64::INFINITY));
    let shares = |weights: &[f64]| Shares::of_weights(weights).expect("shares");
    let (half, nearly_all) = (shares(&[1.0, 1.0]), shares(&[1.0, 1e-310]));
    // ln(1/2) / 2 for the first bin, (ln(1/2) + 713.8..) / 2 for the second.
    close(divergence::kullback_leibler(&half, &nearly_all, Base::E), 713.801_378_828_154_1 / 2.0 - LN_2);
    let all = shares(&[1.0, 0.0]);
    for tiny in [5e-324, 1e-323, 1e-310, 1e-300] {
        let apart = divergence::jensen_shannon(&shares(&[1.0, tiny]), &all, Base::E).expect("of one length");
        assert!((0.0..1e-9).contains(&apart), "{tiny}: {apart}");
        assert_eq!(divergence::kullback_leibler(&all, &shares(&[1.0, tiny]), Base::E), Ok(0.0));
    }
    assert_eq!(divergence::psi_of_shares(&[], &[]).map(f64::to_bits), Ok(0));
}

/// Numpy 2.4.6 on arrays of `int64`.
#[test]
fn no_bin_of_integers_is_narrower_than_one() {
    let of = |pairs: &[(f64, u64)]| {
        let sample = Sample::from_counts(pairs.iter().copied()).expect("numbers");
        binning::sturges_edges_of_integers(&sample).expect("a finite range")
    };
    assert_eq!(of(&[(0.0, 1000), (1.0, 1000), (2.0, 2000), (3.0, 1000)]), [0.0, 1.0, 2.0, 3.0]);
    assert_eq!(of(&[(7.0, 2)]), [6.5, 7.5]);
    let wide = Sample::from_counts((0..20).map(|value| (f64::from(value), 2))).expect("numbers");
    assert_eq!(binning::sturges_edges_of_integers(&wide), binning::sturges_edges(&wide));
}

/// Evidently 0.7.23 on columns of `int64` and `float64`: 21 values with so many rows that Sturges' bins are narrower
/// than 1, and for the Hellinger distance, which bins the distinct values, three values.
#[test]
fn evidently_scores_depend_on_the_integer_type() {
    let sample = |rows: &dyn Fn(u32) -> u64, values: u32| {
        Sample::from_counts((0..values).map(|value| (f64::from(value), rows(value)))).expect("numbers")
    };
    let reference = sample(&|v| u64::from(20_000 + (v * v * 37) % 5000), 21);
    let window = sample(&|v| u64::from(15_000 + (v * 1234) % 4000), 21);
    let few = [sample(&|v| [50, 30, 20][v as usize], 3), sample(&|v| [20, 30, 50][v as usize], 3)];
    let close = |got: Result<f64, Error>, expected: f64| {
        let got = got.expect("a score");
        assert!((got / expected - 1.0).abs() < 1e-9, "{got}, expected {expected}");
    };
    let integers = Column::Integer(&reference, &window);
    close(evidently::psi(&integers), 0.007_632_130_179_409_28);
    close(evidently::jensen_shannon(&integers), 0.030_874_846_855_147_912);
    close(evidently::kullback_leibler(&integers), 0.003_804_261_087_230_982_6);
    close(evidently::hellinger(&Column::Integer(&few[0], &few[1])), 0.226_531_900_511_795_97);
    let floats = Column::Numeric(&reference, &window);
    close(evidently::psi(&floats), 0.008_871_561_270_865_618);
    close(evidently::jensen_shannon(&floats), 0.033_284_293_647_491_91);
    close(evidently::kullback_leibler(&floats), 0.004_449_428_284_610_455);
    close(evidently::hellinger(&Column::Numeric(&few[0], &few[1])), 0.259_893_185_686_589_9);
    assert_eq!(scipy::scores(&integers), scipy::scores(&floats));
    assert_eq!(evidently::default_test(&integers), evidently::default_test(&floats));
    assert_eq!(evidently::scores(&integers).ks, evidently::scores(&floats).ks);
}

#[test]
fn undefined_statistics_of_a_convention_are_absent() {
    let (some, none) = (Sample::new(&[1.0, 2.0, f64::INFINITY]).expect("numbers"), Sample::default());
    let only_infinite = Sample::new(&[f64::INFINITY]).expect("numbers");
    for window in [&none, &only_infinite] {
        assert_eq!(evidently::scores(&Column::Numeric(&some, window)), Scores::default());
        assert!(evidently::default_test(&Column::Numeric(&some, window)).is_err());
    }
    assert_eq!(scipy::scores(&Column::Numeric(&some, &none)), Scores::default());
    // Only the Kolmogorov-Smirnov test of scipy accepts infinities.
    let scores = scipy::scores(&Column::Numeric(&some, &only_infinite));
    assert!(scores.ks.is_some() && scores.wasserstein.is_none() && scores.jensen_shannon.is_none());
    let categories = Categories::new([("a", 3), ("b", 0)], [("b", 0)]);
    assert_eq!(categories.names(), ["a"]);
    assert_eq!(evidently::scores(&Column::Categorical(&categories)), Scores::default());
    assert_eq!(scipy::scores(&Column::Categorical(&categories)), Scores::default());
}

/// No number is NaN; a p-value is a probability, a distance is not negative.
fn assert_sound(scores: &Scores) {
    for distance in [scores.psi, scores.jensen_shannon, scores.wasserstein].into_iter().flatten() {
        assert!(distance >= 0.0, "{scores:?}");
    }
    for test in [scores.ks, scores.chi_square].into_iter().flatten() {
        assert!(test.statistic >= 0.0 && (0.0..=1.0).contains(&test.p_value), "{scores:?}");
    }
}

fn any_numbers() -> impl Strategy<Value = Vec<f64>> {
    let value = prop_oneof![
        any::<f64>().prop_filter("a number", |value| !value.is_nan()),
        (-3_i8..3).prop_map(f64::from),
        -1e3..1e3_f64,
    ];
    prop::collection::vec(value, 0..60)
}

proptest! {
    #[test]
    fn conventions_have_no_panic_and_no_nan_for_any_numbers(reference in any_numbers(), window in any_numbers()) {
        let (reference, window) = (Sample::new(&reference).expect("numbers"), Sample::new(&window).expect("numbers"));
        let column = Column::Numeric(&reference, &window);
        assert_sound(&evidently::scores(&column));
        assert_sound(&scipy::scores(&column));
        if let Ok(test) = evidently::default_test(&column) {
            prop_assert!(evidently::score(test, &column).is_ok_and(|score| score >= 0.0) || reference.distinct() == 1);
        }
        for edges in [binning::doane_edges(&reference), binning::sturges_edges(&reference)].into_iter().flatten() {
            let binned = binning::count(&window, &edges);
            prop_assert_eq!(binned.counts.iter().sum::<u64>() + binned.outside, window.rows());
            prop_assert_eq!(binning::count(&reference, &edges).outside, 0);
        }
    }

    #[test]
    fn tests_have_no_panic_and_no_nan_for_any_counts(counts in prop::collection::vec(any::<(u64, u64)>(), 0..6)) {
        let (reference, window): (Vec<u64>, Vec<u64>) = counts.into_iter().unzip();
        for statistic in [Statistic::Pearson, Statistic::LikelihoodRatio] {
            if let Ok(test) = homogeneity(&reference, &window, statistic, Correction::Yates) {
                prop_assert!(test.statistic >= 0.0 && (0.0..=1.0).contains(&test.p_value), "{test:?}");
            }
        }
        let names = |counts: &[u64]| counts.iter().enumerate().map(|(i, &n)| (i.to_string(), n)).collect::<Vec<_>>();
        let categories = Categories::new(names(&reference), names(&window));
        assert_sound(&evidently::scores(&Column::Categorical(&categories)));
        assert_sound(&scipy::scores(&Column::Categorical(&categories)));
    }

    #[test]
    fn distances_are_symmetric_bounded_and_zero_for_equals(
        pairs in prop::collection::vec((0_u64..50, 0_u64..50), 1..9),
    ) {
        let (p, q): (Vec<u64>, Vec<u64>) = pairs.into_iter().unzip();
        if let (Ok(p), Ok(q)) = (Shares::of_counts(&p), Shares::of_counts(&q)) {
            let js = |p: &Shares, q: &Shares| divergence::jensen_shannon(p, q, Base::Two);
            for distance in [js, divergence::hellinger] {
                let there = distance(&p, &q).expect("of one length");
                prop_assert!((0.0..=1.0 + 1e-12).contains(&there));
                prop_assert!((there - distance(&q, &p).expect("of one length")).abs() < 1e-12);
                prop_assert_eq!(distance(&p, &p), Ok(0.0));
            }
        }
    }

    #[test]
    fn exact_and_large_sample_tests_of_shares_are_probabilities([a, b, c, d] in prop::array::uniform4(0_u64..400)) {
        let (r, w) = (Part { hits: a, rows: a + b }, Part { hits: c, rows: c + d });
        if let (Ok(exact), Ok(large)) = (fisher_exact(r, w), two_proportions(r, w)) {
            for p in [exact.p_value, exact.doubled_tail, large.p_value] {
                prop_assert!((0.0..=1.0).contains(&p));
            }
            prop_assert!(exact.doubled_tail * 2.0 >= exact.p_value * 0.999);
            let swapped = fisher_exact(w, r).expect("as before").p_value;
            prop_assert!((exact.p_value - swapped).abs() < 1e-9);
        }
    }

    #[test]
    fn adjustment_raises_p_values_and_keeps_their_order(p_values in prop::collection::vec(0.0..=1.0_f64, 0..30)) {
        for procedure in
            [Procedure::Bonferroni, Procedure::Holm, Procedure::BenjaminiHochberg, Procedure::BenjaminiYekutieli]
        {
            let adjusted = adjusted(&p_values, procedure).expect("p-values");
            for (i, p) in p_values.iter().enumerate() {
                prop_assert!(adjusted[i] >= *p && adjusted[i] <= 1.0);
                prop_assert!((0..p_values.len()).all(|j| p_values[j] > *p || adjusted[j] <= adjusted[i]));
            }
        }
    }
}
