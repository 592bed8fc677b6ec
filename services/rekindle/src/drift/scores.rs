//! The statistics beside a verdict, by the convention chosen.

use super::figures::percent;
use rekindle_statistics::{
    convention::{Categories, Column, Convention, Scores, evidently, scipy},
    drift::ColumnDrift,
    profile::{self, BUCKETS, Categorical, ColumnKind, ColumnProfile, Numeric, Profile},
    two_sample::Sample,
};

/// Different values up to which another tool's statistics of a column of numbers are exact. They take some 25 MB of memory, for each
/// column of either file.
const EXACT_BUCKETS: usize = 1 << 18;

/// Different values that numbers are counted by.
pub(super) fn buckets(convention: Convention) -> usize {
    if convention == Convention::Rekindle { BUCKETS } else { EXACT_BUCKETS }
}

/// The statistics that the verdict rests on. Points in time are not compared by their values, so there are none of these.
pub(super) fn of_verdict(column: &ColumnDrift) -> Scores {
    let any = column.minimum_detectable_effect.is_some() && column.kind != ColumnKind::Timestamp;
    Scores {
        psi: any.then_some(column.psi),
        jensen_shannon: any.then_some(column.jensen_shannon),
        wasserstein: column.wasserstein,
        ks: column.ks,
        chi_square: column.chi_square,
    }
}

/// The statistics of every column of the reference by another tool's convention, and what is to be known of them. `None` where the
/// convention is that of the verdict.
pub(super) fn by(convention: Convention, reference: &Profile, current: &Profile) -> (Option<Vec<Scores>>, Vec<String>) {
    let scores: fn(&Column<'_>) -> Scores = match convention {
        Convention::Rekindle => return (None, Vec::new()),
        Convention::Evidently => evidently::scores,
        Convention::Scipy => scipy::scores,
    };
    let pairs = || reference.columns.iter().filter_map(|column| Some((column, current.column(&column.name)?)));
    let of = |column: &profile::Column| match current.column(&column.name) {
        Some(current) => score(scores, &column.profile, current),
        None => Scores::default(),
    };
    let notes = pairs().filter_map(|(column, current)| note(column, current));
    (Some(reference.columns.iter().map(of).collect()), notes.collect())
}

/// The same profile as it is without more room than usual.
pub(super) fn of_usual_size(mut profile: Profile) -> Profile {
    for column in &mut profile.columns {
        if let ColumnProfile::Numeric(large) = &column.profile {
            let mut usual = Numeric::new();
            usual.merge(large);
            column.profile = ColumnProfile::Numeric(usual);
        }
    }
    profile
}

fn score(scores: fn(&Column<'_>) -> Scores, reference: &ColumnProfile, current: &ColumnProfile) -> Scores {
    match (reference, current) {
        (ColumnProfile::Numeric(reference), ColumnProfile::Numeric(current)) => {
            let are_integers = [reference, current].into_iter().all(are_integers);
            let samples = (Sample::from_counts(reference.values()), Sample::from_counts(current.values()));
            let (Ok(reference), Ok(current)) = samples else { return Scores::default() };
            scores(&match are_integers {
                true => Column::Integer(&reference, &current),
                false => Column::Numeric(&reference, &current),
            })
        }
        (ColumnProfile::Categorical(reference), ColumnProfile::Categorical(current))
        | (ColumnProfile::Boolean(reference), ColumnProfile::Boolean(current)) => {
            match (counts(reference), counts(current)) {
                (Some(reference), Some(current)) => scores(&Column::Categorical(&Categories::new(reference, current))),
                _ => Scores::default(),
            }
        }
        _ => Scores::default(),
    }
}

/// Whether another tool would read the column as one of integers: it has nothing else, nor a row without.
fn are_integers(numbers: &Numeric) -> bool {
    let other = numbers.missing() + numbers.non_finite() + numbers.unreadable();
    other == 0 && numbers.is_exact() && numbers.values().iter().all(|(value, _)| value.fract() == 0.0)
}

/// Every value with its rows; `None` where there are too many different ones for each to be counted.
fn counts(column: &Categorical) -> Option<Vec<(String, u64)>> {
    column.is_exact().then(|| column.top(usize::MAX))
}

/// In how far a column's statistics are not those that the other tool gives.
fn note(column: &profile::Column, current: &ColumnProfile) -> Option<String> {
    let name = &column.name;
    match (&column.profile, current) {
        (ColumnProfile::Numeric(reference), ColumnProfile::Numeric(current)) => {
            let error = reference.rank_error().max(current.rank_error());
            (error > 0.0).then(|| {
                let percent = percent(error);
                format!("{name:?} has too many different values: its statistics are approximate, ranks being off by at most {percent}")
            })
        }
        (ColumnProfile::Categorical(reference), ColumnProfile::Categorical(current)) => {
            let all = reference.is_exact() && current.is_exact();
            (!all)
                .then(|| format!("{name:?} has too many different values: only rekindle's own statistics can be given"))
        }
        _ => None,
    }
}
