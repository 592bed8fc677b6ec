//! Comparison of two numeric columns over the same bins.

use super::bins::{Bin, BinKind};
use crate::{
    profile::{Bucket, Numeric},
    two_sample::{Test, p_value_asymptotic, p_value_exact},
};

/// A bucket with the rows of the reference and of the window.
pub(super) type Both = Bucket<(u64, u64)>;

/// The largest number of quantile bins, not counting frequent values.
const BINS: f64 = 10.0;

/// A value with at least this share of the reference has a bin of its own.
const ATOM_SHARE: f64 = 0.05;

/// The quantiles of the reference, from either end, at which values are clipped for the distance.
const CUT_SHARE: f64 = 0.001;

/// Above this p-value, the asymptotic one is sufficient: no budget makes it significant.
const SURELY_NOT_SIGNIFICANT: f64 = 0.01;

/// The largest product of sample sizes for which a small p-value is computed exactly.
const EXACT_PATHS: u64 = 4_000_000;

/// The bins of the comparison: tenths of the finite values of the reference or, if the smaller sample then has too few expected rows in
/// one, larger parts of at least `least_share`; frequent values; values below and above the range of the reference; missing; not
/// finite; not numbers. Empty special bins are omitted.
pub(super) fn bins(buckets: &[Both], reference: &Numeric, current: &Numeric, least_share: f64) -> Vec<Bin> {
    let first = buckets.iter().position(|bucket| bucket.rows.0 > 0).unwrap_or(buckets.len());
    let last = buckets.iter().rposition(|bucket| bucket.rows.0 > 0).map_or(first, |last| last + 1);
    let (min, max) = reference.range().unwrap_or_default();
    let mut bins = intervals(&buckets[first..last], reference.finite() as f64, least_share);
    let beyond = |buckets: &[Both]| buckets.iter().map(|bucket| bucket.rows.1).sum();
    let special = [
        Bin::new(BinKind::Below { than: min }, 0, beyond(&buckets[..first])),
        Bin::new(BinKind::Above { than: max }, 0, beyond(&buckets[last..])),
        Bin::new(BinKind::Missing, reference.missing(), current.missing()),
        Bin::new(BinKind::NonFinite, reference.non_finite(), current.non_finite()),
        Bin::new(BinKind::OtherKind, reference.unreadable(), current.unreadable()),
    ];
    bins.extend(special.into_iter().filter(|bin| bin.reference + bin.current > 0));
    bins
}

/// The largest number of each interval of the bins of one column, ascending.
pub(crate) fn interval_limits(numbers: &Numeric) -> Vec<f64> {
    let buckets: Vec<Both> = numbers
        .buckets()
        .into_iter()
        .map(|bucket| Bucket { low: bucket.low, high: bucket.high, rows: (bucket.rows, 0) })
        .collect();
    intervals(&buckets, numbers.finite() as f64, 0.0).iter().map(|bin| limits(bin).1).collect()
}

fn intervals(buckets: &[Both], rows: f64, least_share: f64) -> Vec<Bin> {
    let enough = rows * f64::max(1.0 / BINS, least_share);
    let atom = rows * f64::max(ATOM_SHARE, least_share);
    let mut bins: Vec<Bin> = Vec::new();
    let mut open: Option<Bin> = None;
    for bucket in buckets {
        if bucket.rows.0 as f64 >= atom {
            bins.extend(open.take());
            bins.push(interval(bucket));
            continue;
        }
        let bin = extended(open.take(), bucket);
        if bin.reference as f64 >= enough { bins.push(bin) } else { open = Some(bin) }
    }
    if let Some(rest) = open {
        close(&mut bins, rest, enough);
    }
    bins
}

/// Merges the remaining values at the end into the previous bin, unless they are enough for a bin or that bin is a single value.
fn close(bins: &mut Vec<Bin>, rest: Bin, enough: f64) {
    match bins.last_mut() {
        Some(before) if (rest.reference as f64) < enough / 2.0 && !is_single(before) => {
            let (_, high) = limits(&rest);
            let (low, _) = limits(before);
            *before = Bin::new(
                BinKind::Interval { low, high },
                before.reference + rest.reference,
                before.current + rest.current,
            );
        }
        _ => bins.push(rest),
    }
}

fn interval(bucket: &Both) -> Bin {
    Bin::new(BinKind::Interval { low: bucket.low, high: bucket.high }, bucket.rows.0, bucket.rows.1)
}

fn extended(open: Option<Bin>, bucket: &Both) -> Bin {
    let more = interval(bucket);
    let Some(bin) = open else { return more };
    let kind = BinKind::Interval { low: limits(&bin).0, high: bucket.high };
    Bin::new(kind, bin.reference + more.reference, bin.current + more.current)
}

fn limits(bin: &Bin) -> (f64, f64) {
    match bin.kind {
        BinKind::Interval { low, high } => (low, high),
        _ => (f64::MIN, f64::MAX),
    }
}

fn is_single(bin: &Bin) -> bool {
    let (low, high) = limits(bin);
    low == high
}

/// The Kolmogorov-Smirnov test over the finite values, at the resolution of the coarser profile. The distance is at most that of the
/// values themselves, and smaller by at most the share of the fullest bucket in either sample.
pub(super) fn kolmogorov_smirnov(buckets: &[Both]) -> Option<Test> {
    let (n, m) = totals(buckets);
    if n == 0 || m == 0 {
        return None;
    }
    let statistic = cumulative_differences(buckets).map(|(_, apart)| apart).fold(0.0, f64::max).min(1.0);
    let p_value = p_value_asymptotic(statistic, n, m)?;
    let few = n.checked_mul(m).is_some_and(|paths| paths <= EXACT_PATHS);
    let exact = (few && p_value < SURELY_NOT_SIGNIFICANT).then(|| p_value_exact(statistic, n, m));
    Some(Test { statistic, p_value: exact.flatten().unwrap_or(p_value) })
}

/// The largest share that both sides have in one bucket of more than one value. A shift within it is not detectable.
pub(super) fn blind_share(buckets: &[Both]) -> f64 {
    let (n, m) = totals(buckets);
    let share = |rows: u64, all: u64| rows as f64 / all.max(1) as f64;
    let shared = buckets.iter().filter(|bucket| bucket.low < bucket.high);
    shared.map(|bucket| share(bucket.rows.0, n).min(share(bucket.rows.1, m))).fold(0.0, f64::max)
}

/// The Wasserstein distance of the values, clipped at quantiles of the reference, in standard deviations of the clipped reference;
/// `None` if that is constant. Outliers and units have bounded influence.
pub(super) fn wasserstein(buckets: &[Both], reference: &Numeric) -> Option<f64> {
    let (low, high) = (reference.quantile(CUT_SHARE)?, reference.quantile(1.0 - CUT_SHARE)?);
    let (n, m) = totals(buckets);
    if n == 0 || m == 0 {
        return None;
    }
    // Scaled by the largest value, since squares could overflow.
    let scale = Some(f64::max(-low, high)).filter(|&scale| scale > 0.0).unwrap_or(1.0);
    let cut_off = |value: f64| value.clamp(low, high) / scale;
    let steps = cumulative_differences(buckets).zip(buckets.iter().skip(1).map(|next| cut_off(next.middle())));
    let distance: f64 = steps.map(|((value, apart), next)| apart * (next - cut_off(value))).sum();
    let cut = || buckets.iter().map(|bucket| (cut_off(bucket.middle()), bucket.rows.0 as f64 / n as f64));
    let mean: f64 = cut().map(|(value, share)| value * share).sum();
    let variance: f64 = cut().map(|(value, share)| (value - mean).powi(2) * share).sum();
    Some(distance / variance.sqrt()).filter(|distance| distance.is_finite())
}

/// The middle of each bucket, and the distance of the cumulative shares of the two samples there.
fn cumulative_differences(buckets: &[Both]) -> impl Iterator<Item = (f64, f64)> {
    let (n, m) = totals(buckets);
    let mut below = (0, 0);
    buckets.iter().map(move |bucket| {
        below = (below.0 + bucket.rows.0, below.1 + bucket.rows.1);
        (bucket.middle(), (below.0 as f64 / n as f64 - below.1 as f64 / m as f64).abs())
    })
}

fn totals(buckets: &[Both]) -> (u64, u64) {
    buckets.iter().fold((0, 0), |sum, bucket| (sum.0 + bucket.rows.0, sum.1 + bucket.rows.1))
}
