//! Comparison with results of other libraries under common conventions.

use rekindle_statistics::{drift, paired, quality, rise};

#[track_caller]
fn close(got: f64, expected: f64) {
    assert!((got - expected).abs() <= 1e-9 * expected.abs().max(1.0), "got {got}, expected {expected}");
}

/// By hand: both events in the 4 of 8 rows of the window have probability 6/28, doubled for two sides.
#[test]
fn exact_test_of_a_small_table() {
    close(drift::rare_event(0, 4, 2, 4), 2.0 * 6.0 / 28.0);
    close(drift::rare_event(1, 4, 1, 4), 1.0);
    assert!(drift::rare_event(0, 300_000, 500, 500) < 1e-100);
}

/// The noncentrality in power tables: 7.849 for one degree of freedom and 9.634 for two, at level 0.05 and power 0.8
/// (Cohen 1988, section 7.4).
#[test]
fn noncentrality_agrees_with_power_tables() {
    for (freedom, lambda) in [(1, 7.849), (2, 9.635), (3, 10.903)] {
        let got = drift::noncentrality(freedom, 0.05, 0.2);
        assert!((got / lambda - 1.0).abs() < 2e-3, "{freedom}: {got}");
    }
}

/// By hand from the formulas.
#[test]
fn quality_of_small_examples() {
    let probabilities = [0.9, 0.2, 0.6, 0.5];
    let labels = [true, false, false, true];
    close(
        quality::log_loss(&probabilities, &labels).unwrap(),
        -(0.9_f64.ln() + 0.8_f64.ln() + 0.4_f64.ln() + 0.5_f64.ln()) / 4.0,
    );
    close(quality::brier(&probabilities, &labels).unwrap(), (0.01 + 0.04 + 0.36 + 0.25) / 4.0);
    close(quality::accuracy(&probabilities, &labels).unwrap(), 0.75);
    close(quality::auc(&probabilities, &labels).unwrap().unwrap(), 0.75);
    close(quality::auc(&[0.5, 0.5, 0.5], &[true, false, false]).unwrap().unwrap(), 0.5);

    let rows = [0.7, 0.2, 0.1, 0.1, 0.1, 0.8];
    close(quality::multiclass_log_loss(&rows, 3, &[0, 1]).unwrap(), -(0.7_f64.ln() + 0.1_f64.ln()) / 2.0);
    close(quality::multiclass_accuracy(&rows, 3, &[0, 1]).unwrap(), 0.5);

    let (predicted, labels) = ([1.0, 2.0, 4.0], [1.0, 3.0, 2.0]);
    close(quality::mae(&predicted, &labels).unwrap(), 1.0);
    close(quality::rmse(&predicted, &labels).unwrap(), (5.0_f64 / 3.0).sqrt());
    close(quality::r2(&predicted, &labels).unwrap().unwrap(), 1.0 - 5.0 / 2.0);
}

#[test]
fn rows_of_probabilities_must_sum_to_one() {
    let loss = |row: &[f64], classes| quality::multiclass_log_loss(row, classes, &[0]);
    for row in [[1.0, 1.0, 1.0], [0.0, 0.0, 0.0], [0.5, 0.3, 0.1], [0.5, 0.3, 0.200_01]] {
        assert!(loss(&row, 3).is_err(), "{row:?}");
        assert!(quality::multiclass_accuracy(&row, 3, &[0]).is_err(), "{row:?}");
    }
    // Single-precision values of a softmax, clipped at 1e-7, are valid up to rounding.
    for classes in [2, 3, 10, 1000, 30_000] {
        for sharpness in [0.0, 1.0, 30.0] {
            let weights: Vec<f64> = (0..classes).map(|class| (-sharpness * f64::from(class % 97)).exp()).collect();
            let sum: f64 = weights.iter().sum();
            let single = |weight: &f64| f64::from((weight / sum).clamp(1e-7, 1.0 - 1e-7) as f32);
            let row: Vec<f64> = weights.iter().map(single).collect();
            assert!(loss(&row, row.len()).is_ok(), "{classes} classes: {}", row.iter().sum::<f64>());
        }
    }
}

#[test]
fn undefined_quality_is_absent_and_invalid_input_an_error() {
    assert_eq!(quality::auc(&[0.1, 0.2], &[true, true]), Ok(None));
    assert_eq!(quality::r2(&[1.0, 2.0], &[3.0, 3.0]), Ok(None));
    assert!(quality::log_loss(&[], &[]).is_err());
    assert!(quality::log_loss(&[0.5], &[]).is_err());
    assert!(quality::log_loss(&[f64::NAN], &[true]).is_err());
    assert!(quality::log_loss(&[1.5], &[true]).is_err());
    assert!(quality::auc(&[f64::NAN, 0.0], &[true, false]).is_err());
    assert!(quality::multiclass_log_loss(&[0.5, 0.5], 2, &[2]).is_err());
    assert!(quality::multiclass_log_loss(&[], 0, &[0]).is_err());
    assert!(quality::mae(&[f64::INFINITY], &[1.0]).is_err());
    let certain_and_wrong = quality::log_loss(&[1.0], &[false]).unwrap();
    assert!(certain_and_wrong.is_finite() && certain_and_wrong > 34.0);
}

/// R: `t.test(x, conf.level = 0.95)` of 1..5 gives 3 with 1.036757 to 4.963243.
#[test]
fn paired_interval_agrees_with_r() {
    let got = paired::improvement(&[1.0, 2.0, 3.0, 4.0, 5.0], &[0.0; 5], 0.95).unwrap();
    close(got.mean, 3.0);
    assert!((got.lower - 1.036_757).abs() < 1e-6 && (got.upper - 4.963_243).abs() < 1e-6, "{got:?}");
    let same = paired::improvement(&[1.0, 1.0], &[1.0, 1.0], 0.95).unwrap();
    assert_eq!((same.mean, same.lower, same.upper), (0.0, 0.0, 0.0));
    assert!(paired::improvement(&[1.0], &[0.0], 0.95).is_err());
    assert!(paired::improvement(&[1.0, f64::NAN], &[0.0, 0.0], 0.95).is_err());
    assert!(paired::improvement(&[1.0, 2.0], &[0.0, 0.0], 1.0).is_err());
}

/// With many rows the quantile is the normal one: 1.959964 for 95 % two-sided.
#[test]
fn student_quantile_holds_for_many_rows() {
    let losses: Vec<f64> = (0..200_000).map(|i| if i % 2 == 0 { 1.0 } else { -1.0 }).collect();
    let got = paired::improvement(&losses, &vec![0.0; losses.len()], 0.95).unwrap();
    let half = 1.959_964 / (losses.len() as f64).sqrt();
    assert!((got.upper / half - 1.0).abs() < 1e-4, "{got:?}, expected {half}");
}

#[test]
fn huge_losses_give_finite_results() {
    let huge = [1e300, -1e300, 5e299];
    assert!(quality::rmse(&huge, &[0.0; 3]).unwrap().is_finite());
    assert!(quality::r2(&[0.0; 3], &huge).unwrap().unwrap().is_finite());
    assert!(paired::improvement(&huge, &[0.0; 3], 0.95).unwrap().lower.is_finite());
    let constant = paired::improvement_in_order(&[1.7e308; 40], &[0.0; 40], 0.95).unwrap();
    assert_eq!((constant.mean, constant.lower, constant.upper), (1.7e308, 1.7e308, 1.7e308));
    let swinging: Vec<f64> = (0..40).map(|row| if row % 4 < 2 { f64::MAX } else { f64::MIN }).collect();
    for compare in [paired::improvement, paired::improvement_in_order] {
        let got = compare(&swinging, &[0.0; 40], 0.999).unwrap();
        assert!(got.lower < 0.0 && got.upper > 0.0, "{got:?}");
        assert!([got.mean, got.lower, got.upper].iter().all(|end| end.is_finite()), "{got:?}");
    }
    let reference = rise::Reference::of(&huge).unwrap();
    assert!(rise::rise(&[1.0, 2.0], &reference, 0.95).unwrap().lower_bound.is_finite());
    assert!(rise::rise(&huge, &rise::Reference { mean: 0.0, std: 1e-300, rows: 9 }, 0.95).unwrap().rise.is_finite());
    assert!(quality::mae(&[f64::MAX], &[f64::MIN]).is_err());
}

/// The quantile is computed from the tail: one minus the tail of the largest confidence below 1 rounds to 1.
#[test]
fn the_largest_confidence_has_an_interval() {
    let confidence = 1.0 - f64::EPSILON / 2.0;
    let same = paired::improvement(&[1.0, 1.0], &[1.0, 1.0], confidence).unwrap();
    assert_eq!((same.mean, same.lower, same.upper), (0.0, 0.0, 0.0));
    // scipy 1.17.1: t.isf(2^-54, 4), times the standard error sqrt(2.5 / 5).
    let wide = paired::improvement(&[1.0, 2.0, 3.0, 4.0, 5.0], &[0.0; 5], confidence).unwrap();
    close((3.0 - wide.lower) / 10_781.278_236_812_335, 1.0);
    let reference = rise::Reference::of(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
    assert!(rise::rise(&[4.0, 5.0, 6.0], &reference, confidence).unwrap().lower_bound < -100.0);
}

/// With so many degrees of freedom that a series for the quantile would not end.
#[test]
fn a_reference_with_very_many_rows_is_compared_quickly() {
    let reference = rise::Reference { mean: 1.0, std: 1.0, rows: 1 << 60 };
    let got = rise::rise(&[2.0, 2.0, 2.0], &reference, 0.95).unwrap();
    close(got.lower_bound, 1.0 - 1.644_853_626_951_472_2 / 2.0_f64.powi(30));
}

#[test]
fn rounding_of_constant_losses_is_not_a_rise() {
    let constant = rise::Reference { mean: 0.3, std: 0.0, rows: 10 };
    assert_eq!(rise::rise(&[0.1 + 0.2; 7], &constant, 0.95).unwrap().lower_bound, 0.0);
    let nearly = rise::rise(&[0.1 + 0.2, 0.1 + 0.2, 0.3], &constant, 0.95).unwrap();
    assert_eq!(nearly.lower_bound, 0.0);
    assert!(rise::rise(&[0.300_001; 7], &constant, 0.95).unwrap().lower_bound > 9e-7);
}

#[test]
fn an_undefined_rise_is_an_error() {
    let reference = |mean: f64, std: f64| rise::Reference { mean, std, rows: 9 };
    let of = |reference: rise::Reference| rise::rise(&[1.7e308; 3], &reference, 0.95);
    assert!(of(reference(-1.7e308, 1.0)).is_err());
    assert!(of(reference(0.0, -1.0)).is_err());
    assert!(of(reference(0.0, f64::NAN)).is_err());
    assert!(of(reference(f64::INFINITY, 1.0)).is_err());
    assert!(of(reference(-1e306, f64::MAX)).unwrap().lower_bound.is_finite());
}

#[test]
fn rise_is_welch_and_one_sided() {
    let reference = rise::Reference::of(&[1.0, 2.0, 3.0, 4.0, 5.0]).unwrap();
    let window = [4.0, 5.0, 6.0, 7.0, 8.0];
    let got = rise::rise(&window, &reference, 0.95).unwrap();
    close(got.rise, 3.0);
    // Standard error 1, 8 degrees of freedom: the 95 % quantile is 1.859548.
    assert!((got.lower_bound - (3.0 - 1.859_548)).abs() < 1e-6, "{got:?}");
    let constant = rise::Reference { mean: 1.0, std: 0.0, rows: 10 };
    assert_eq!(rise::rise(&[1.0, 1.0], &constant, 0.95).unwrap().lower_bound, 0.0);
    assert!(rise::rise(&[1.0], &reference, 0.95).is_err());
}
