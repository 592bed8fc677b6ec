use serde::{Deserialize, Serialize};

use super::{
    MISS_CHANCE, Verdict,
    bins::{Bin, BinKind},
    categorical, numeric,
    power::{chance_of_so_little, detectable_effect},
    reason::{self, Suspicion},
    significance::{MIN_EXPECTED, MIN_REFERENCE, TESTS, evidence},
};
use crate::{
    profile::{Categorical, ColumnKind, ColumnProfile, Numeric},
    two_sample::{Test, divergence},
};

/// The largest share of a column's numbers that may have been counted as one: where they move among themselves, nothing shows.
pub(super) const MAX_BLIND_SHARE: f64 = 0.05;

/// The largest share of new values at which groups of values can still stand for them. A group that holds the old values before and
/// new ones now looks the same, so that where most values are new, nothing was compared.
pub(super) const MAX_NEW_VALUES: f64 = 0.5;

/// A number of the reference and the same of the window.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
pub struct Sides<T = f64> {
    /// Of the reference.
    pub reference: T,
    /// Of the window.
    pub current: T,
}

impl Sides<u64> {
    /// `1/n + 1/m`: what an index of samples with so many rows scatters by, for each degree of freedom; infinite without rows on a side.
    pub(super) fn noise(&self) -> f64 {
        1.0 / self.reference as f64 + 1.0 / self.current as f64
    }
}

/// One column of a window against the reference. No number is NaN or infinite.
#[derive(Debug, Clone, PartialEq)]
pub struct ColumnDrift {
    /// The column.
    pub name: String,
    /// What the reference's values are.
    pub kind: ColumnKind,
    /// The answer.
    pub verdict: Verdict,
    /// Why, in words.
    pub reason: String,
    /// What may have happened to it, where its values give that away.
    pub suspicion: Option<Suspicion>,
    /// The population stability index less what chance makes it, at least 0: what the margin is held against.
    pub effect: f64,
    /// The smallest effect that this many rows would show, but for [`MISS_CHANCE`](super::MISS_CHANCE); absent without rows on a side.
    pub minimum_detectable_effect: Option<f64>,
    /// Chance of a difference at least this large in this column if nothing had moved: the smallest of its tests', multiplied by their
    /// number (Bonferroni).
    pub p_value: f64,
    /// Population stability index over the bins, in nats: 0 for equal shares. Bins with too few rows are put together.
    pub psi: f64,
    /// Jensen-Shannon distance over the bins, to the base 2: from 0 for equal shares to 1 for none in common.
    pub jensen_shannon: f64,
    /// Of numbers: how far the window's have to be moved on average to become the reference's, both cut off at the reference's
    /// range of 99.8 %, in standard deviations of the reference so cut; absent where that is constant.
    pub wasserstein: Option<f64>,
    /// The Kolmogorov-Smirnov test over the finite values of numbers, or over the lengths of texts that are too many to be compared one
    /// by one.
    pub ks: Option<Test>,
    /// Of categories: Pearson's chi-square test of homogeneity over all values, missing among them.
    pub chi_square: Option<Test>,
    /// Shares of rows without a value.
    pub missing: Sides,
    /// Shares of rows whose number is none.
    pub non_finite: Sides,
    /// Share of the window's rows below or above all of the reference, of numbers; those counted in one bucket with its smallest or its
    /// largest are not among them.
    pub out_of_range_share: Option<f64>,
    /// Share of the window's rows whose value the reference does not have, of categories; absent where they were counted in groups.
    pub unseen_share: Option<f64>,
    /// Of numbers: the largest share of the finite ones that both sides have in one bucket which more than one value may share, so that
    /// nothing shows of how they lie there. Zero while all are told apart.
    pub blind_share: Option<f64>,
    /// Share of the window's different values that the reference may not have, at most; present where they were too many to be counted
    /// one by one.
    pub new_values_share: Option<f64>,
    /// The column's part of the effects of all that drifted, in [0, 1]; 0 where it did not.
    pub cause_share: f64,
    /// The parts of the column's values, as compared.
    pub bins: Vec<Bin>,
}

impl ColumnDrift {
    /// Whether a shift of the margin's size would have been significant.
    pub fn is_large_enough(&self, margin: f64) -> bool {
        self.minimum_detectable_effect.is_some_and(|least| least <= margin)
    }

    /// Whether a shift of the values could have shown at all: not where most of many values are new, nor where too many of the numbers
    /// were counted as one.
    pub fn is_comparable(&self) -> bool {
        self.new_values_share.is_none_or(|share| share <= MAX_NEW_VALUES)
            && self.blind_share.is_none_or(|share| share <= MAX_BLIND_SHARE)
    }

    /// The bin with the largest part in the index, in tables of so many rows. That a value is there says less than what else has
    /// become of the others.
    pub fn moved_most(&self, rows: Sides<u64>) -> Option<&Bin> {
        let telling = self.bins.iter().filter(|bin| bin.kind != BinKind::Present || self.bins.len() == 1);
        telling.max_by(|a, b| a.psi_part(rows).total_cmp(&b.psi_part(rows)))
    }
}

/// Compares a column with its reference. `level` is the chance of a false alarm, `margin` the least effect that matters.
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
        verdict: Verdict::Unknown,
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
    };
    let is_surely_within = || chance_of_so_little(evidence.psi, margin, evidence.bins, rows) <= MISS_CHANCE;
    column.verdict = verdict(&column, level, margin, is_surely_within);
    column.suspicion = reason::suspicion(&column, reference, current);
    column.reason = reason::of(&column, reference, current, margin);
    column
}

/// A column that the window does not have: none of its rows has a value.
pub(super) fn absent(name: &str, reference: &ColumnProfile, rows: u64, level: f64, margin: f64) -> ColumnDrift {
    let mut column = compare_column(name, reference, &reference.none_of(rows), level, margin);
    if column.verdict == Verdict::Drifted {
        column.reason = "the column is not there".to_owned();
    }
    column
}

/// `is_surely_within`: whether an effect of the margin's size would have shown as a larger one.
fn verdict(column: &ColumnDrift, level: f64, margin: f64, is_surely_within: impl FnOnce() -> bool) -> Verdict {
    if column.p_value < level && column.effect > margin {
        Verdict::Drifted
    } else if column.is_large_enough(margin) && column.is_comparable() && is_surely_within() {
        Verdict::Stable
    } else {
        Verdict::Unknown
    }
}

/// What comparing the values of one kind of column gives.
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

/// Values of another kind than the reference's are none of its values.
fn of_two_kinds(reference: &ColumnProfile, current: &ColumnProfile) -> Vec<Bin> {
    let none = reference.none_of(current.rows());
    let mut bins = present(BinKind::Present, reference, &none);
    bins.retain(|bin| bin.kind == BinKind::Present);
    bins.push(Bin::new(BinKind::OtherKind, 0, current.rows() - current.missing()));
    bins.push(Bin::new(BinKind::Missing, reference.missing(), current.missing()));
    bins.retain(|bin| bin.reference + bin.current > 0);
    bins
}

/// Points in time, and values that are none.
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
    // Without rows on a side there are no shares that could differ.
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
