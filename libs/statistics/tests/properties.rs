//! Properties of comparisons and other statistics for all inputs.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise, in its helpers too")]

mod draws;
#[path = "../../dataset/fuzz/src/numbers.rs"]
mod numbers;

use draws::{rows, table};
use numbers::has_numbers_only;
use proptest::{collection::vec, prelude::*};
use rekindle_statistics::{
    drift::{ColumnDrift, Settings, Verdict, compare, compare_column, histogram, psi, rare_event},
    paired,
    profile::{ColumnProfile, Numeric},
    quality, rise,
    sketch::{PrefixCounts, key_of},
    two_sample::{
        contingency::{Correction, Statistic, chi_square_survival, homogeneity},
        divergence::{self, Base, Shares},
    },
};

fn settings() -> impl Strategy<Value = Settings> {
    let probability = prop_oneof![0.001..0.5, Just(1e-300), Just(0.999_999)];
    let margin = prop_oneof![0.01..0.5, Just(5e-324), Just(f64::MAX)];
    (margin, probability, prop_oneof![1_u32..100, Just(u32::MAX)]).prop_map(|(margin, false_alarms, looks)| Settings {
        margin,
        false_alarms,
        looks,
    })
}

fn bins() -> impl Strategy<Value = Vec<(u64, u64)>> {
    vec((0u64..500, 0u64..500), 0..40)
}

fn whole_numbers() -> impl Strategy<Value = Vec<i32>> {
    vec(-100..100_i32, 1..300)
}

fn ks(reference: &ColumnProfile, current: &ColumnProfile) -> f64 {
    compare_column("x", reference, current, 0.001, 0.1).ks.unwrap().statistic
}

fn exact(values: &[f64]) -> ColumnProfile {
    ColumnProfile::of_numbers(values.iter().copied().map(Some))
}

fn coarse(values: &[f64], buckets: usize) -> ColumnProfile {
    let mut numeric = Numeric::with_buckets(buckets);
    values.iter().for_each(|value| numeric.add(Some(*value)));
    ColumnProfile::Numeric(numeric)
}

/// The largest share of either sample in one bucket of several values, with `buckets` buckets.
fn fullest(samples: [&[f64]; 2], buckets: usize) -> f64 {
    let shift = samples.map(|values| {
        let mut counts = PrefixCounts::new(buckets);
        values.iter().for_each(|value| counts.add(key_of(*value), 1));
        counts.shift()
    });
    let shift = shift[0].max(shift[1]);
    let share = |values: &[f64]| {
        let mut prefixes: Vec<u64> = values.iter().map(|value| key_of(*value) >> shift).collect();
        prefixes.sort_unstable();
        let most = prefixes.chunk_by(|a, b| a == b).map(<[u64]>::len).max().unwrap_or(0);
        most as f64 / values.len() as f64
    };
    share(samples[0]).max(share(samples[1]))
}

fn is_zero(column: &ColumnDrift) -> bool {
    let tests = [column.ks, column.chi_square].into_iter().flatten();
    column.verdict != Verdict::Drifted
        && (column.effect, column.psi, column.jensen_shannon, column.p_value) == (0.0, 0.0, 0.0, 1.0)
        && column.wasserstein.unwrap_or(0.0) == 0.0
        && { tests }.all(|test| (test.statistic, test.p_value) == (0.0, 1.0))
}

proptest! {
    #[test]
    fn a_comparison_does_not_depend_on_the_order_of_rows(
        (reference, shuffled) in rows().prop_flat_map(|rows| (Just(rows.clone()), Just(rows).prop_shuffle())),
        (current, reshuffled) in rows().prop_flat_map(|rows| (Just(rows.clone()), Just(rows).prop_shuffle())),
    ) {
        let settings = Settings::default();
        let one = compare(&table(&reference), &table(&current), &settings).unwrap();
        let other = compare(&table(&shuffled), &table(&reshuffled), &settings).unwrap();
        prop_assert_eq!(one, other);
    }

    #[test]
    fn every_number_of_a_comparison_is_finite(reference in rows(), current in rows(), settings in settings()) {
        let (reference, current) = (table(&reference), table(&current));
        let report = compare(&reference, &current, &settings).unwrap();
        report.columns.iter().for_each(has_numbers_only);
        if let (Some(ColumnProfile::Numeric(r)), Some(ColumnProfile::Numeric(c))) =
            (reference.column("number"), current.column("number"))
        {
            let counted: u64 = histogram(r, c, 20).iter().map(|bin| bin.reference + bin.current).sum();
            prop_assert!(counted == 0 || counted == r.finite() + c.finite());
            let quantiles = [0.0, 0.1, 0.5, 1.0].map(|q| r.quantile(q));
            prop_assert!(quantiles.iter().all(|q| q.is_none_or(f64::is_finite)) && quantiles.is_sorted());
        }
    }

    #[test]
    fn a_table_is_stable_compared_with_itself(rows in rows(), times in 1_usize..4) {
        let reference = table(&rows);
        let current = table(&vec![rows; times].concat());
        let report = compare(&reference, &current, &Settings::default()).unwrap();
        // Repeated rows have the same shares, except for the half row that is added to each bin.
        prop_assert!(report.columns.iter().all(|column| if times == 1 {
            is_zero(column)
        } else {
            column.jensen_shannon < 1e-6 && column.ks.is_none_or(|ks| ks.statistic < 1e-12)
        }), "{:?}", report.columns);
    }

    #[test]
    fn a_strictly_monotone_transform_leaves_the_kolmogorov_smirnov_distance(
        reference in whole_numbers(), current in whole_numbers(), steps in vec(prop_oneof![0.001..10.0, Just(1e6)], 200)
    ) {
        let sums: Vec<f64> = steps.iter().scan(-50.0, |sum, step| { *sum += step; Some(*sum) }).collect();
        let plain = |values: &[i32]| values.iter().map(|value| f64::from(*value)).collect::<Vec<_>>();
        let moved = |values: &[i32]| values.iter().map(|value| sums[(value + 100) as usize]).collect::<Vec<_>>();
        let before = ks(&exact(&plain(&reference)), &exact(&plain(&current)));
        prop_assert_eq!(before, ks(&exact(&moved(&reference)), &exact(&moved(&current))));
        let (reference, current) = (moved(&reference), moved(&current));
        for buckets in [2, 8, 32] {
            let after = ks(&coarse(&reference, buckets), &coarse(&current, buckets));
            let error = fullest([&reference, &current], buckets);
            prop_assert!(after <= before + 1e-12 && before <= after + error + 1e-12, "{} {} {}", before, after, error);
        }
    }

    #[test]
    fn psi_is_symmetric_never_negative_and_zero_for_equals(bins in bins()) {
        let (left, right): (Vec<_>, Vec<_>) = bins.into_iter().unzip();
        prop_assert!(psi(&left, &right) >= 0.0);
        prop_assert!((psi(&left, &right) - psi(&right, &left)).abs() < 1e-9);
        prop_assert_eq!(psi(&left, &left), 0.0);
    }

    #[test]
    fn the_exact_test_gives_a_probability_and_is_symmetric(r in 0u64..20, c in 0u64..20, n in 20u64..500, m in 20u64..500) {
        let p = rare_event(r, n, c, m);
        prop_assert!((0.0..=1.0).contains(&p));
        prop_assert!((p - rare_event(c, m, r, n)).abs() < 1e-9);
    }

    #[test]
    fn homogeneity_does_not_depend_on_the_order_of_bins(bins in bins(), turn in 0usize..40) {
        let of = |bins: &[(u64, u64)]| {
            let (left, right): (Vec<_>, Vec<_>) = bins.iter().copied().unzip();
            homogeneity(&left, &right, Statistic::Pearson, Correction::None).map_or(1.0, |test| test.p_value)
        };
        let mut turned = bins.clone();
        turned.rotate_left(turn % bins.len().max(1));
        prop_assert!((of(&bins) - of(&turned)).abs() < 1e-9);
    }

    #[test]
    fn auc_is_complemented_by_negated_scores(rows in vec((-20i32..20, any::<bool>()), 1..200)) {
        let (scores, labels): (Vec<f64>, Vec<bool>) = rows.iter().map(|(s, y)| (f64::from(*s), *y)).unzip();
        let opposite: Vec<f64> = scores.iter().map(|s| -s).collect();
        match (quality::auc(&scores, &labels).unwrap(), quality::auc(&opposite, &labels).unwrap()) {
            (Some(one), Some(other)) => prop_assert!((one + other - 1.0).abs() < 1e-9),
            (one, other) => prop_assert_eq!(one, other),
        }
    }

    #[test]
    fn row_losses_average_to_the_loss(rows in vec((0.0..=1.0f64, any::<bool>()), 1..200)) {
        let (probabilities, labels): (Vec<f64>, Vec<bool>) = rows.into_iter().unzip();
        let mean = quality::log_loss_rows(&probabilities, &labels).unwrap().iter().sum::<f64>() / labels.len() as f64;
        prop_assert!((mean - quality::log_loss(&probabilities, &labels).unwrap()).abs() < 1e-9);
    }

    #[test]
    fn swapping_the_models_negates_the_interval(rows in vec((-1e3..1e3f64, -1e3..1e3f64), 2..100)) {
        let (old, new): (Vec<f64>, Vec<f64>) = rows.into_iter().unzip();
        let (one, other) = (paired::improvement(&old, &new, 0.9).unwrap(), paired::improvement(&new, &old, 0.9).unwrap());
        prop_assert!((one.lower + other.upper).abs() < 1e-6 && one.lower <= one.mean && one.mean <= one.upper);
    }

    #[test]
    fn every_interval_is_finite(
        rows in vec((loss(), loss()), 0..60), mean in loss(), std in loss(), confidence in confidence(), of in any::<u64>(),
    ) {
        let (old, new): (Vec<f64>, Vec<f64>) = rows.into_iter().unzip();
        for compare in [paired::improvement, paired::improvement_in_order] {
            if let Ok(found) = compare(&old, &new, confidence) {
                prop_assert!([found.mean, found.lower, found.upper].iter().all(|end| end.is_finite()), "{:?}", found);
                prop_assert!(found.lower <= found.mean && found.mean <= found.upper, "{:?}", found);
            }
        }
        let references = [Ok(rise::Reference { mean, std, rows: of }), rise::Reference::of(&new)];
        for found in references.into_iter().flatten().filter_map(|reference| rise::rise(&old, &reference, confidence).ok()) {
            prop_assert!(found.rise.is_finite() && found.lower_bound.is_finite(), "{:?}", found);
        }
    }

    #[test]
    fn every_divergence_is_in_its_range(pairs in vec((weight(), weight()), 0..8)) {
        let (left, right): (Vec<f64>, Vec<f64>) = pairs.into_iter().unzip();
        prop_assert!(divergence::psi_of_shares(&left, &right).is_ok_and(|psi| psi >= 0.0 && psi.is_sign_positive()));
        if let (Ok(left), Ok(right)) = (Shares::of_weights(&left), Shares::of_weights(&right)) {
            let bounded = [
                divergence::jensen_shannon(&left, &right, Base::Two),
                divergence::hellinger(&left, &right),
            ];
            prop_assert!(bounded.iter().all(|distance| distance.as_ref().is_ok_and(|d| (0.0..=1.0).contains(d))));
            prop_assert!(divergence::kullback_leibler(&left, &right, Base::E).is_ok_and(|entropy| entropy >= 0.0));
        }
    }

    #[test]
    fn the_chi_square_tail_is_a_probability_or_absent(statistic in any::<f64>(), freedom in 0_usize..2000) {
        let tail = chi_square_survival(statistic, freedom);
        prop_assert_eq!(tail.is_none(), statistic.is_nan());
        prop_assert!(tail.is_none_or(|tail| (0.0..=1.0).contains(&tail)));
    }
}

/// Any float, often of moderate size.
fn loss() -> impl Strategy<Value = f64> {
    prop_oneof![2 => any::<f64>(), 4 => -1e3..1e3_f64, 1 => Just(0.1), 1 => Just(f64::MAX), 1 => Just(-f64::MAX), 1 => Just(5e-324)]
}

fn weight() -> impl Strategy<Value = f64> {
    prop_oneof![0.0..1.0_f64, 0.0..1e-300_f64, Just(0.0), Just(5e-324), Just(1.0), Just(1e300)]
}

fn confidence() -> impl Strategy<Value = f64> {
    prop_oneof![0.5..1.0_f64, Just(5e-324), Just(1.0 - f64::EPSILON / 2.0)]
}
