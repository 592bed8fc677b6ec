//! What holds for all inputs.

use proptest::{collection::vec, prelude::*};
use rekindle_statistics::{
    drift::{Bins, Settings, Verdict, compare, homogeneity, pool, psi, rare_event},
    paired,
    profile::ColumnProfile,
    quality,
};

/// Any float at all, or none.
fn value() -> impl Strategy<Value = Option<f64>> {
    prop_oneof![
        6 => (-5i32..5).prop_map(|i| Some(f64::from(i))),
        3 => (-1e3..1e3).prop_map(Some),
        1 => any::<f64>().prop_map(Some),
        1 => Just(None),
    ]
}

fn bins() -> impl Strategy<Value = Vec<(u64, u64)>> {
    vec((0u64..500, 0u64..500), 0..40)
}

proptest! {
    #[test]
    fn psi_is_symmetric_never_negative_and_zero_for_equals(bins in bins()) {
        let (left, right): (Vec<_>, Vec<_>) = bins.into_iter().unzip();
        prop_assert!(psi(&left, &right) >= -1e-12);
        prop_assert!((psi(&left, &right) - psi(&right, &left)).abs() < 1e-9);
        prop_assert_eq!(psi(&left, &left), 0.0);
        prop_assert_eq!(homogeneity(&left, &left).p_value, 1.0);
    }

    #[test]
    fn pooling_keeps_the_sums_and_leaves_no_common_bin_too_rare(bins in bins()) {
        let (left, right): (Vec<_>, Vec<_>) = bins.into_iter().unzip();
        let (n, m) = (left.iter().sum::<u64>(), right.iter().sum::<u64>());
        for made in [Bins::CutByReference, Bins::Given] {
            let pooled = pool(&left, &right, made);
            let (pooled_left, pooled_right) = pooled.counts();
            prop_assert_eq!(pooled_left.iter().sum::<u64>(), n);
            prop_assert_eq!(pooled_right.iter().sum::<u64>(), m);
            for (l, r) in &pooled.common {
                let expected = match made {
                    Bins::CutByReference => *l as f64 * (m as f64 / n as f64).min(1.0),
                    Bins::Given => (l + r) as f64 * n.min(m) as f64 / (n + m) as f64,
                };
                prop_assert!(expected >= 4.0);
            }
        }
    }

    #[test]
    fn the_exact_test_gives_a_chance_and_agrees_with_itself_mirrored(r in 0u64..20, c in 0u64..20, n in 20u64..500, m in 20u64..500) {
        let p = rare_event(r, n, c, m);
        prop_assert!((0.0..=1.0).contains(&p));
        prop_assert!((p - rare_event(c, m, r, n)).abs() < 1e-9);
    }

    #[test]
    fn homogeneity_does_not_depend_on_the_order_of_bins(bins in bins(), turn in 0usize..40) {
        let (left, right): (Vec<_>, Vec<_>) = bins.iter().copied().unzip();
        let mut turned = bins.clone();
        turned.rotate_left(turn % bins.len().max(1));
        let (left_turned, right_turned): (Vec<_>, Vec<_>) = turned.into_iter().unzip();
        let (one, other) = (homogeneity(&left, &right), homogeneity(&left_turned, &right_turned));
        prop_assert!((one.p_value - other.p_value).abs() < 1e-9);
    }

    #[test]
    fn every_value_falls_into_one_bin_and_training_counts_are_its_own(mut values in vec(value(), 0..300)) {
        let profile = ColumnProfile::from_numeric(values.iter().copied());
        prop_assert_eq!(profile.count_numeric(values.iter().copied()).unwrap(), profile.reference_counts());
        if let ColumnProfile::Numeric { edges, .. } = &profile {
            prop_assert!(edges.is_sorted_by(|a, b| a < b) && edges.iter().all(|edge| edge.is_finite()));
        }
        values.reverse();
        prop_assert_eq!(ColumnProfile::from_numeric(values.iter().copied()).reference_counts(), profile.reference_counts());
    }

    #[test]
    fn comparing_never_gives_nan_and_never_drifts_from_itself(
        reference in vec(value(), 0..300), window in vec(value(), 0..300)
    ) {
        let profile = ColumnProfile::from_numeric(reference.iter().copied());
        let counts = profile.count_numeric(window.iter().copied()).unwrap();
        let drift = compare(&profile, &counts, &Settings::default()).unwrap();
        prop_assert!(drift.psi.is_finite() && drift.psi >= -1e-12 && (0.0..=1.0).contains(&drift.p_value));
        prop_assert!(drift.minimum_detectable_psi.is_none_or(f64::is_finite));
        let itself = compare(&profile, &profile.reference_counts(), &Settings::default()).unwrap();
        prop_assert!(itself.verdict != Verdict::Drifted);
        prop_assert_eq!(itself.psi, 0.0);
    }

    #[test]
    fn auc_is_turned_round_by_turning_the_scores_round(rows in vec((-20i32..20, any::<bool>()), 1..200)) {
        let (scores, truth): (Vec<f64>, Vec<bool>) = rows.iter().map(|(s, y)| (f64::from(*s), *y)).unzip();
        let opposite: Vec<f64> = scores.iter().map(|s| -s).collect();
        match (quality::auc(&scores, &truth).unwrap(), quality::auc(&opposite, &truth).unwrap()) {
            (Some(one), Some(other)) => prop_assert!((one + other - 1.0).abs() < 1e-9),
            (one, other) => prop_assert_eq!(one, other),
        }
    }

    #[test]
    fn row_losses_average_to_the_loss(rows in vec((0.0..=1.0f64, any::<bool>()), 1..200)) {
        let (probabilities, truth): (Vec<f64>, Vec<bool>) = rows.into_iter().unzip();
        let mean = quality::log_loss_rows(&probabilities, &truth).unwrap().iter().sum::<f64>() / truth.len() as f64;
        prop_assert!((mean - quality::log_loss(&probabilities, &truth).unwrap()).abs() < 1e-9);
    }

    #[test]
    fn swapping_the_models_turns_the_interval_round(rows in vec((-1e3..1e3f64, -1e3..1e3f64), 2..100)) {
        let (old, new): (Vec<f64>, Vec<f64>) = rows.into_iter().unzip();
        let (one, other) = (paired::improvement(&old, &new, 0.9).unwrap(), paired::improvement(&new, &old, 0.9).unwrap());
        prop_assert!((one.lower + other.upper).abs() < 1e-6 && one.lower <= one.mean && one.mean <= one.upper);
    }
}
