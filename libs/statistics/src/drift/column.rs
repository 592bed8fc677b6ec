use serde::{Deserialize, Serialize};

use super::{
    MISS_CHANCE, Verdict,
    bins::{Bin, BinKind},
    categorical,
    in_blocks::BlockTest,
    numeric,
    power::{chance_of_so_little, detectable_effect},
    reason::{self, Suspicion},
    significance::{MIN_EXPECTED, MIN_REFERENCE, TESTS, evidence},
};
use crate::{
    profile::{Categorical, ColumnKind, ColumnProfile, Numeric},
    two_sample::{Test, divergence},
};

/// The largest share of the numbers of a column that may share one bucket: a shift within a bucket is not detectable.
pub(super) const MAX_BLIND_SHARE: f64 = 0.05;

/// The largest share of new values for which groups of values are compared. A group with old values in the reference and new ones in the
/// window looks unchanged, so that with mostly new values a comparison of groups is meaningless.
pub(super) const MAX_NEW_VALUES: f64 = 0.5;

/// A quantity of the reference and of the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Sides<T = f64> {
    /// The quantity of the reference.
    pub reference: T,
    /// The quantity of the window.
    pub current: T,
}

impl Sides<u64> {
    /// `1/n + 1/m`: the expected index without drift, for each degree of freedom; infinite without rows on a side.
    pub(super) fn noise(&self) -> f64 {
        1.0 / self.reference as f64 + 1.0 / self.current as f64
    }
}

/// One column of a window against the reference. No number is NaN or infinite.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnDrift {
    /// The column.
    pub name: String,
    /// The kind of the values in the reference.
    pub kind: ColumnKind,
    /// The result.
    pub verdict: Verdict,
    /// The reason of the verdict, in words.
    pub reason: String,
    /// A suspected cause, if the values indicate one.
    pub suspicion: Option<Suspicion>,
    /// The population stability index minus its expected value without drift, at least 0; it is compared with the margin.
    pub effect: f64,
    /// The smallest effect that is significant with this number of rows, with a probability of 1 -
    /// [`MISS_CHANCE`](super::MISS_CHANCE); absent without rows on a side.
    pub minimum_detectable_effect: Option<f64>,
    /// Probability of a difference at least this large in this column without drift: the smallest p-value of its tests times their number
    /// (Bonferroni).
    pub p_value: f64,
    /// Population stability index over the bins, in nats: 0 for equal shares. Bins with too few rows are pooled.
    pub psi: f64,
    /// Jensen-Shannon distance over the bins, to the base 2: from 0 for equal shares to 1 for none in common.
    pub jensen_shannon: f64,
    /// Of numbers: the Wasserstein distance, with both sides clipped to the central 99.8 % of the reference, in standard deviations of the
    /// clipped reference; absent if that is constant.
    pub wasserstein: Option<f64>,
    /// The Kolmogorov-Smirnov test over finite numbers, or over text lengths if the texts are too many for a comparison by value.
    pub ks: Option<Test>,
    /// Of categories: Pearson's chi-square test of homogeneity over all values, including missing ones.
    pub chi_square: Option<Test>,
    /// Shares of rows without a value.
    pub missing: Sides,
    /// Shares of rows with a number that is not finite.
    pub non_finite: Sides,
    /// Of numbers: share of the rows of the window outside of the range of the reference; without those in one bucket with its smallest or
    /// largest value.
    pub out_of_range_share: Option<f64>,
    /// Of categories: share of the rows of the window whose value the reference does not have; absent if values are counted in groups.
    pub unseen_share: Option<f64>,
    /// Of numbers: the largest share of the finite ones that both sides have in one bucket of more than one value. A shift within that
    /// bucket is not detectable. Zero if every value has a bucket of its own.
    pub blind_share: Option<f64>,
    /// An upper bound of the share of distinct values of the window that the reference does not have; present if values are too many to be
    /// counted one by one.
    pub new_values_share: Option<f64>,
    /// The share of the column in the effects of all drifted columns, in [0, 1]; 0 if it has not drifted.
    pub cause_share: f64,
    /// The bins that are compared.
    pub bins: Vec<Bin>,
    /// The comparison with the variation between the blocks of the reference; absent if the rows were compared as random samples.
    pub blocks: Option<BlockTest>,
}

impl ColumnDrift {
    /// Whether the rows are enough for a shift of the size of the margin to be significant.
    pub fn is_large_enough(&self, margin: f64) -> bool {
        self.minimum_detectable_effect.is_some_and(|least| least <= margin)
    }

    /// Whether a shift of the values is detectable at all: not if most of many values are new, or if too many of the numbers share one
    /// bucket.
    pub fn is_comparable(&self) -> bool {
        self.new_values_share.is_none_or(|share| share <= MAX_NEW_VALUES)
            && self.blind_share.is_none_or(|share| share <= MAX_BLIND_SHARE)
    }

    /// Whether the drift looks like a fault of the data rather than a change of what they describe: another unit, swapped columns, or more
    /// values that are missing, not finite or of another type. `rows` are those of both sides.
    pub fn is_data_fault(&self, rows: Sides<u64>) -> bool {
        let is_suspected = matches!(self.suspicion, Some(Suspicion::UnitChange { .. } | Suspicion::Swapped { .. }));
        let share = |count: u64, rows: u64| count as f64 / rows.max(1) as f64;
        let is_more = |bin: &Bin| share(bin.current, rows.current) > share(bin.reference, rows.reference);
        let is_without_value =
            |bin: &&Bin| matches!(bin.kind, BinKind::Missing | BinKind::NonFinite | BinKind::OtherKind) && is_more(bin);
        self.verdict == Verdict::Drifted && (is_suspected || self.moved_most(rows).filter(is_without_value).is_some())
    }

    /// The bin with the largest contribution to the index, in tables with `rows` rows. The bin of present values counts only if it is the
    /// only one, since the others are more informative.
    pub fn moved_most(&self, rows: Sides<u64>) -> Option<&Bin> {
        let informative = self.bins.iter().filter(|bin| bin.kind != BinKind::Present || self.bins.len() == 1);
        informative.max_by(|a, b| a.psi_part(rows).total_cmp(&b.psi_part(rows)))
    }
}

/// Compares a column with its reference. `level` is the probability of a false alarm, `margin` the smallest effect that matters.
pub fn compare_column(
    name: &str,
    reference: &ColumnProfile,
    current: &ColumnProfile,
    level: f64,
    margin: f64,
) -> ColumnDrift {
    let rows = Sides { reference: reference.rows(), current: current.rows() };
    let found = values(reference, current, rows);
    let evidence = evidence(&found.bins, rows, found.ks.map(|ks| ks.p_value));
    let sides = |count: fn(&ColumnProfile) -> u64| Sides {
        reference: share(count(reference), rows.reference).unwrap_or(0.0),
        current: share(count(current), rows.current).unwrap_or(0.0),
    };
    let mut column = ColumnDrift {
        name: name.to_owned(),
        kind: reference.kind(),
        verdict: Verdict::Inconclusive,
        reason: String::new(),
        suspicion: None,
        effect: (evidence.psi - evidence.psi_by_chance).max(0.0),
        minimum_detectable_effect: detectable_effect(evidence.bins, level / TESTS, rows),
        p_value: evidence.p_value,
        psi: evidence.psi,
        jensen_shannon: jensen_shannon(&found.bins),
        wasserstein: found.wasserstein,
        ks: found.ks,
        chi_square: found.chi_square,
        missing: sides(ColumnProfile::missing),
        non_finite: sides(non_finite),
        out_of_range_share: found.out_of_range_share,
        unseen_share: found.unseen_share,
        blind_share: found.blind_share,
        new_values_share: found.new_values_share,
        cause_share: 0.0,
        bins: found.bins,
        blocks: None,
    };
    let is_surely_within = || chance_of_so_little(evidence.psi, margin, evidence.bins, rows) <= MISS_CHANCE;
    column.verdict = verdict(&column, level, margin, is_surely_within);
    column.suspicion = reason::suspicion(&column, reference, current);
    column.reason = reason::of(&column, reference, current, margin);
    column
}

/// The comparison of a column that the window does not have, from that of a column with missing values alone.
pub(super) fn absent(mut column: ColumnDrift) -> ColumnDrift {
    if column.verdict == Verdict::Drifted {
        column.reason = "the column is absent".to_owned();
    }
    column
}

/// `is_surely_within`: whether a shift of the size of the margin has a larger index, except with [`MISS_CHANCE`].
fn verdict(column: &ColumnDrift, level: f64, margin: f64, is_surely_within: impl FnOnce() -> bool) -> Verdict {
    if column.p_value < level && column.effect > margin {
        Verdict::Drifted
    } else if column.is_large_enough(margin) && column.is_comparable() && is_surely_within() {
        Verdict::Stable
    } else {
        Verdict::Inconclusive
    }
}

/// The comparison of the values of one kind of column.
#[derive(Default)]
struct Found {
    bins: Vec<Bin>,
    wasserstein: Option<f64>,
    ks: Option<Test>,
    chi_square: Option<Test>,
    unseen_share: Option<f64>,
    blind_share: Option<f64>,
    new_values_share: Option<f64>,
    out_of_range_share: Option<f64>,
}

fn values(reference: &ColumnProfile, current: &ColumnProfile, rows: Sides<u64>) -> Found {
    use ColumnProfile::{Boolean, Categorical, Numeric, Timestamp};
    match (reference, current) {
        (Numeric(reference), Numeric(current)) => numbers(reference, current, rows),
        (Categorical(reference), Categorical(current)) | (Boolean(reference), Boolean(current)) => {
            categories(reference, current, rows)
        }
        (Timestamp(_), Timestamp(_)) => Found { bins: times(reference, current), ..Found::default() },
        _ => Found { bins: of_two_kinds(reference, current), ..Found::default() },
    }
}

fn numbers(reference: &Numeric, current: &Numeric, rows: Sides<u64>) -> Found {
    let smaller = rows.reference.min(rows.current).max(1);
    let buckets = reference.aligned(current);
    let least_share = (MIN_EXPECTED / smaller as f64).max(MIN_REFERENCE / rows.reference.max(1) as f64);
    let bins = numeric::bins(&buckets, reference, current, least_share);
    let beyond: u64 = bins.iter().filter(|bin| bin.is_beyond()).map(|bin| bin.current).sum();
    Found {
        wasserstein: numeric::wasserstein(&buckets, reference),
        ks: numeric::kolmogorov_smirnov(&buckets),
        out_of_range_share: share(beyond, rows.current),
        blind_share: Some(numeric::blind_share(&buckets)),
        bins,
        ..Found::default()
    }
}

fn categories(reference: &Categorical, current: &Categorical, rows: Sides<u64>) -> Found {
    let bins = categorical::bins(reference, current);
    let exact = reference.is_exact() && current.is_exact();
    let unseen = bins.iter().filter(|bin| bin.reference == 0 && bin.is_ordinary()).map(|bin| bin.current);
    Found {
        chi_square: categorical::chi_square(&bins),
        unseen_share: share(unseen.sum(), rows.current).filter(|_| exact),
        new_values_share: reference.common_share(current).map(|common| 1.0 - common.min(1.0)),
        ks: categorical::lengths(reference, current),
        bins,
        ..Found::default()
    }
}

/// Two columns of different kinds: no value of the window is a value of the reference.
fn of_two_kinds(reference: &ColumnProfile, current: &ColumnProfile) -> Vec<Bin> {
    let none = reference.none_of(current.rows());
    let mut bins = present(BinKind::Present, reference, &none);
    bins.retain(|bin| bin.kind == BinKind::Present);
    bins.push(Bin::new(BinKind::OtherKind, 0, current.rows() - current.missing()));
    bins.push(Bin::new(BinKind::Missing, reference.missing(), current.missing()));
    bins.retain(|bin| bin.reference + bin.current > 0);
    bins
}

/// Timestamps, and values that are not timestamps.
fn times(reference: &ColumnProfile, current: &ColumnProfile) -> Vec<Bin> {
    let mut bins = present(BinKind::Present, reference, current);
    let other = Bin::new(BinKind::OtherKind, reference.unreadable(), current.unreadable());
    for bin in bins.iter_mut().filter(|bin| bin.kind == BinKind::Present) {
        bin.reference -= other.reference;
        bin.current -= other.current;
    }
    bins.push(other);
    bins.retain(|bin| bin.reference + bin.current > 0);
    bins
}

fn present(kind: BinKind, reference: &ColumnProfile, current: &ColumnProfile) -> Vec<Bin> {
    let mut bins = vec![
        Bin::new(kind, reference.rows() - reference.missing(), current.rows() - current.missing()),
        Bin::new(BinKind::Missing, reference.missing(), current.missing()),
    ];
    bins.retain(|bin| bin.reference + bin.current > 0);
    bins
}

fn jensen_shannon(bins: &[Bin]) -> f64 {
    let (reference, current): (Vec<u64>, Vec<u64>) = bins.iter().map(|bin| (bin.reference, bin.current)).unzip();
    let sides =
        divergence::Shares::of_counts(&reference).and_then(|r| Ok((r, divergence::Shares::of_counts(&current)?)));
    // Without rows on a side the shares are undefined.
    sides.and_then(|(r, c)| divergence::jensen_shannon(&r, &c, divergence::Base::Two)).unwrap_or(0.0)
}

fn non_finite(profile: &ColumnProfile) -> u64 {
    match profile {
        ColumnProfile::Numeric(numeric) => numeric.non_finite(),
        _ => 0,
    }
}

fn share(part: u64, rows: u64) -> Option<f64> {
    (rows > 0).then(|| part as f64 / rows as f64)
}
