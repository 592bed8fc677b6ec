//! Tests on counts and multiple testing, compared with results of scipy 1.17.1 or by hand.

use rekindle_statistics::{
    Error,
    multiple::{Procedure, adjusted, e_benjamini_hochberg, rejected},
    two_sample::{
        contingency::{Correction, Statistic, chi_square_survival, goodness_of_fit, homogeneity},
        proportions::{MOST_ROWS, Part, fisher_exact, two_proportions},
    },
};

#[track_caller]
fn close(got: f64, expected: f64, tolerance: f64) {
    assert!((got - expected).abs() <= tolerance * expected.abs(), "got {got:e}, expected {expected:e}");
}

fn part(hits: u64, misses: u64) -> Part {
    Part { hits, rows: hits + misses }
}

/// `scipy.stats.fisher_exact(table)` for the small tables; for those of more than 10,000 rows, where scipy has at most
/// nine digits, the same sum in 40-digit arithmetic.
#[test]
fn fisher_keeps_its_digits_from_four_rows_to_twenty_million() {
    let cases = [
        ([3, 1, 2, 9], 13.5, 0.076_923_076_923_076_93),
        ([0, 5, 7, 1], 0.0, 0.004_662_004_662_004_662),
        ([10, 10, 10, 10], 1.0, 1.0),
        ([7, 3, 3, 7], 5.444_444_444_444_445, 0.178_895_407_997_575_2),
        ([1_000, 99_000, 1_100, 98_900], 0.908_172_635_445_362_8, 0.029_847_900_106_588_434),
        ([12_345, 987_655, 6_000, 494_000], 1.029_109_354_987_318_5, 0.069_952_444_940_615_64),
        ([120, 9_999_880, 90, 9_999_910], 1.333_337_333_381_333_9, 0.045_112_961_959_224_06),
        ([5_000_000, 5_000_000, 5_003_000, 4_997_000], 0.998_800_719_568_259, 0.179_857_591_512_896_88),
    ];
    for ([a, b, c, d], odds_ratio, p_value) in cases {
        let test = fisher_exact(part(a, b), part(c, d)).expect("a table");
        close(test.odds_ratio.expect("both outcomes occur"), odds_ratio, 1e-14);
        close(test.p_value, p_value, 1e-12);
    }
}

#[test]
fn fisher_in_extreme_cases() {
    let certain = fisher_exact(part(80, 0), part(20, 0)).expect("one table is possible");
    assert_eq!((certain.odds_ratio, certain.p_value, certain.doubled_tail), (None, 1.0, 1.0));
    // By hand: both hits in the four of eight rows of the window have probability 6/28.
    let small = fisher_exact(part(0, 4), part(2, 2)).expect("a table");
    close(small.p_value, 12.0 / 28.0, 1e-14);
    close(small.doubled_tail, 12.0 / 28.0, 1e-14);
    assert_eq!(fisher_exact(part(0, 300_000), part(500, 0)).map(|test| test.p_value), Ok(0.0));
    assert!(matches!(fisher_exact(part(0, 0), part(1, 1)), Err(Error::TooFewRows { .. })));
    assert!(matches!(fisher_exact(Part { hits: 2, rows: 1 }, part(1, 1)), Err(Error::Part { .. })));
    assert!(matches!(fisher_exact(part(0, MOST_ROWS), part(1, 1)), Err(Error::TooManyRows { .. })));
    assert!(matches!(fisher_exact(part(0, u64::MAX), part(0, u64::MAX)), Err(Error::TooManyRows { .. })));
}

/// `scipy.stats.chi2_contingency(table, correction=.., lambda_=..)`.
#[test]
fn homogeneity_agrees_with_scipy_in_both_statistics() {
    let (pearson, ratio) = (Statistic::Pearson, Statistic::LikelihoodRatio);
    let (yates, none) = (Correction::Yates, Correction::None);
    let cases: [(&[u64], &[u64], _, _, f64, f64); 5] = [
        (&[50, 30, 20], &[40, 40, 20], ratio, yates, 2.546_879_333_598_259, 0.279_867_313_972_327),
        (&[80, 20], &[65, 35], ratio, yates, 4.956_985_366_916_811, 0.025_985_470_696_636_825),
        (&[80, 20], &[65, 35], ratio, none, 5.697_698_427_112_225_5, 0.016_987_174_322_512_413),
        (&[3, 0], &[2, 4], pearson, yates, 1.406_249_999_999_999_8, 0.235_679_913_429_034_24),
        // The correction stops at the expectation.
        (&[10, 10], &[11, 11], pearson, yates, 0.0, 1.0),
    ];
    for (reference, window, statistic, correction, value, p_value) in cases {
        let test = homogeneity(reference, window, statistic, correction).expect("rows");
        close(test.statistic, value, 1e-12);
        close(test.p_value, p_value, 1e-11);
    }
}

/// `scipy.stats.chi2_contingency(table, correction=.., lambda_="cressie-read")` and
/// `scipy.stats.power_divergence(lambda_="cressie-read")` of scipy 1.17.1.
#[test]
fn cressie_and_read_agree_with_scipy() {
    let (yates, none) = (Correction::Yates, Correction::None);
    let cases: [(&[u64], &[u64], _, f64, f64); 7] = [
        (&[50, 30, 20], &[40, 40, 20], none, 2.541_277_785_637_103, 0.280_652_257_775_291_3),
        (&[80, 20], &[65, 35], yates, 4.924_527_827_049_876, 0.026_478_036_835_206_695),
        (&[80, 20], &[65, 35], none, 5.654_743_957_555_127, 0.017_408_215_978_358_954),
        (&[3, 0], &[2, 4], yates, 1.431_554_136_466_867, 0.231_510_969_991_449_63),
        (&[3, 0], &[2, 4], none, 3.786_159_319_215_595, 0.051_678_099_213_119_465),
        (&[10, 0, 5, 85], &[1, 7, 2, 40], none, 16.872_907_477_398_233, 0.000_750_575_402_033_435_2),
        (&[10, 10], &[11, 11], none, 0.0, 1.0),
    ];
    for (reference, window, correction, value, p_value) in cases {
        let test = homogeneity(reference, window, Statistic::CressieRead, correction).expect("rows");
        close(test.statistic, value, 1e-12);
        close(test.p_value, p_value, 1e-11);
        assert_eq!(test.freedom, reference.len() - 1);
    }
    let (observed, expected) = ([16, 18, 16, 14, 12, 12], [16.0, 16.0, 16.0, 16.0, 16.0, 8.0]);
    let fit = goodness_of_fit(&observed, &expected, Statistic::CressieRead).expect("a fit");
    close(fit.statistic, 3.434_704_733_101_811, 1e-12);
    close(fit.p_value, 0.633_289_839_410_811_6, 1e-12);
}

#[test]
fn homogeneity_omits_empty_bins_and_rejects_empty_sides() {
    let test = |r: &[u64], w: &[u64]| homogeneity(r, w, Statistic::Pearson, Correction::Yates);
    assert_eq!(test(&[50, 0, 30], &[40, 0, 40]), test(&[50, 30], &[40, 40]));
    assert_eq!(test(&[50], &[30]).map(|test| (test.statistic, test.freedom, test.p_value)), Ok((0.0, 0, 1.0)));
    assert!(matches!(test(&[0, 0], &[1, 1]), Err(Error::TooFewRows { .. })));
    assert!(matches!(test(&[1], &[1, 1]), Err(Error::Lengths { .. })));
    assert!(test(&[u64::MAX, u64::MAX], &[u64::MAX, 1]).is_ok());
}

/// `scipy.stats.chisquare` and `scipy.stats.power_divergence(lambda_="log-likelihood")`.
#[test]
fn fit_agrees_with_scipy() {
    let (observed, expected) = ([16, 18, 16, 14, 12, 12], [16.0, 16.0, 16.0, 16.0, 16.0, 8.0]);
    let pearson = goodness_of_fit(&observed, &expected, Statistic::Pearson).expect("a fit");
    close(pearson.statistic, 3.5, 1e-14);
    close(pearson.p_value, 0.623_387_627_749_582_2, 1e-12);
    let ratio = goodness_of_fit(&observed, &expected, Statistic::LikelihoodRatio).expect("a fit");
    close(ratio.statistic, 3.328_103_145_896_374_6, 1e-13);
    close(ratio.p_value, 0.649_541_928_804_749_7, 1e-12);
}

#[test]
fn goodness_of_fit_in_extreme_cases() {
    let fit = |observed: &[u64], expected: &[f64]| goodness_of_fit(observed, expected, Statistic::Pearson);
    let unseen = fit(&[50, 1], &[51.0, 0.0]).expect("a fit");
    assert_eq!((unseen.statistic, unseen.p_value), (f64::INFINITY, 0.0));
    assert!(matches!(fit(&[5], &[5.0]), Err(Error::TooFewBins { .. })));
    assert!(matches!(fit(&[5, 5], &[5.0, 6.0]), Err(Error::Totals { .. })));
    assert!(matches!(fit(&[0, 0], &[0.0, 0.0]), Err(Error::TooFewRows { .. })));
    assert!(matches!(fit(&[5, 5], &[11.0, -1.0]), Err(Error::Value { row: 1, .. })));
    assert!(matches!(fit(&[5, 5], &[10.0, f64::NAN]), Err(Error::Value { row: 1, .. })));
}

/// `scipy.stats.chi2.sf`.
#[test]
fn chi_square_tail_keeps_its_digits() {
    let cases = [
        (1.0, 1, 0.317_310_507_862_911_15),
        (50.0, 1, 1.537_459_794_428_033e-12),
        (200.0, 1, 2.088_487_583_762_568_8e-45),
        (1400.0, 3, 2.945_619_361_016_289e-303),
        (3000.0, 1000, 1.643_684_584_356_801_4e-198),
        (1e5, 100_000, 0.499_405_291_895_206_7),
        (1.002e5, 100_000, 0.326_930_011_024_623_8),
        (99_000.0, 100_000, 0.987_521_684_361_917_2),
    ];
    for (statistic, freedom, survival) in cases {
        close(
            chi_square_survival(statistic, freedom).expect("a number"),
            survival,
            if freedom > 1000 { 1e-8 } else { 1e-12 },
        );
    }
}

#[test]
fn chi_square_tail_in_extreme_cases() {
    let cases = [
        (0.0, 3, Some(1.0)),
        (-1.0, 3, Some(1.0)),
        (0.0, 0, Some(1.0)),
        (1.0, 0, Some(0.0)),
        (5e-324, 0, Some(0.0)),
        (5e-324, 1, Some(1.0)),
        (f64::MIN_POSITIVE, 1, Some(1.0)),
        (f64::INFINITY, 7, Some(0.0)),
        (f64::NAN, 1, None),
    ];
    for (statistic, freedom, survival) in cases {
        assert_eq!(chi_square_survival(statistic, freedom), survival, "{statistic} {freedom}");
    }
}

#[test]
fn z_is_the_square_root_of_chi_square() {
    let z = two_proportions(part(20, 80), part(35, 65)).expect("rows");
    let chi_square = homogeneity(&[20, 80], &[35, 65], Statistic::Pearson, Correction::None).expect("rows");
    close(z.statistic * z.statistic, chi_square.statistic, 1e-12);
    close(z.p_value, chi_square.p_value, 1e-11);
    assert!(z.statistic > 0.0, "the window's share is the higher");
    assert_eq!(two_proportions(part(9, 0), part(5, 0)).map(|test| test.p_value), Ok(1.0));
}

/// As R's `p.adjust`, and `scipy.stats.false_discovery_control`.
#[test]
fn adjusted_p_values_are_in_the_given_order() {
    let p_values = [0.01, 0.04, 0.03, 0.005];
    let cases = [
        (Procedure::Bonferroni, [0.04, 0.16, 0.12, 0.02]),
        (Procedure::Holm, [0.03, 0.06, 0.06, 0.02]),
        (Procedure::BenjaminiHochberg, [0.02, 0.04, 0.04, 0.02]),
        (Procedure::BenjaminiYekutieli, [0.125 / 3.0, 0.25 / 3.0, 0.25 / 3.0, 0.125 / 3.0]),
    ];
    for (procedure, expected) in cases {
        let got = adjusted(&p_values, procedure).expect("p-values");
        got.into_iter().zip(expected).for_each(|(got, expected)| close(got, expected, 1e-14));
    }
    assert_eq!(rejected(&p_values, Procedure::Holm, 0.05), Ok(vec![true, false, false, true]));
    assert_eq!(adjusted(&[], Procedure::Holm), Ok(vec![]));
    assert!(matches!(adjusted(&[0.5, f64::NAN], Procedure::Holm), Err(Error::Value { row: 1, .. })));
    assert!(matches!(adjusted(&[-0.1], Procedure::Bonferroni), Err(Error::Value { row: 0, .. })));
    assert!(matches!(rejected(&[0.5], Procedure::Holm, 1.0), Err(Error::NotAShare { .. })));
}

/// By hand: of four hypotheses at level 0.1, k are rejected if the k-th largest e-value is at least 40 / k.
#[test]
fn e_values_reject_by_their_rank() {
    let reject = |e_values: &[f64]| e_benjamini_hochberg(e_values, 0.1);
    assert_eq!(reject(&[1.0, 40.0, 0.0, 19.9]), Ok(vec![false, true, false, false]));
    assert_eq!(reject(&[1.0, 20.0, 0.0, 20.0]), Ok(vec![false, true, false, true]));
    assert_eq!(reject(&[10.0, 10.0, 10.0, 10.0]), Ok(vec![true; 4]));
    assert_eq!(reject(&[f64::INFINITY, 0.0, 0.0, 0.0]), Ok(vec![true, false, false, false]));
    assert_eq!(reject(&[]), Ok(vec![]));
    assert!(matches!(reject(&[1.0, f64::NAN]), Err(Error::Value { row: 1, .. })));
}
