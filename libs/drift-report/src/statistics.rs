//! The statistics beside a verdict, by convention.

use rekindle_statistics::{
    convention::{Categories, Column, Convention, Scores, evidently, scipy},
    drift::ColumnDrift,
    profile::{self, BUCKETS, Categorical, ColumnKind, ColumnProfile, Numeric, Profile},
    two_sample::Sample,
};

use crate::figures::percent;

/// Different values up to which the statistics of a numeric column by another tool's convention are exact. They take some 25 MB of
/// memory for each column of either source.
const EXACT_BUCKETS: usize = 1 << 18;

/// The number of different values that a profile of a numeric column has to keep for the statistics of a convention.
pub fn profile_buckets(convention: Convention) -> usize {
    if convention == Convention::Rekindle { BUCKETS } else { EXACT_BUCKETS }
}

/// The statistics that the verdict is based on. The values of timestamps are not compared, so timestamps have none.
pub(crate) fn of_verdict(column: &ColumnDrift) -> Scores {
    let any = column.minimum_detectable_effect.is_some() && column.kind != ColumnKind::Timestamp;
    Scores {
        psi: any.then_some(column.psi),
        jensen_shannon: any.then_some(column.jensen_shannon),
        wasserstein: column.wasserstein,
        ks: column.ks,
        chi_square: column.chi_square,
    }
}

/// The statistics of every column of the reference by another tool's convention, and notes on their accuracy. `None` for the
/// convention of the verdict.
pub(crate) fn by_convention(
    convention: Convention,
    reference: &Profile,
    current: &Profile,
) -> Option<(Vec<Scores>, Vec<String>)> {
    let scores: fn(&Column<'_>) -> Scores = match convention {
        Convention::Rekindle => return None,
        Convention::Evidently => evidently::scores,
        Convention::Scipy => scipy::scores,
    };
    let of = |column: &profile::Column| match current.column(&column.name) {
        Some(current) => score(scores, &column.profile, current),
        None => Scores::default(),
    };
    let pairs = reference.columns.iter().filter_map(|column| Some((column, current.column(&column.name)?)));
    let notes = pairs.filter_map(|(column, current)| note(column, current));
    Some((reference.columns.iter().map(of).collect(), notes.collect()))
}

/// The same profile with the default number of buckets.
pub(crate) fn of_default_size(mut profile: Profile) -> Profile {
    for column in &mut profile.columns {
        if let ColumnProfile::Numeric(large) = &column.profile {
            let mut small = Numeric::new();
            small.merge(large);
            column.profile = ColumnProfile::Numeric(small);
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

/// Whether pandas reads the column as integers: every row has a value, and every value is whole.
fn are_integers(numbers: &Numeric) -> bool {
    let other = numbers.missing() + numbers.non_finite() + numbers.unreadable();
    other == 0 && numbers.is_exact() && numbers.values().iter().all(|(value, _)| value.fract() == 0.0)
}

/// Every value with its rows; `None` where the values are too many to be counted one by one.
fn counts(column: &Categorical) -> Option<Vec<(String, u64)>> {
    column.is_exact().then(|| column.top(usize::MAX))
}

/// How the statistics of a column differ from those that the other tool computes.
fn note(column: &profile::Column, current: &ColumnProfile) -> Option<String> {
    let name = &column.name;
    match (&column.profile, current) {
        (ColumnProfile::Numeric(reference), ColumnProfile::Numeric(current)) => {
            let error = reference.rank_error().max(current.rank_error());
            (error > 0.0).then(|| {
                let percent = percent(error);
                format!("{name:?} has too many different values: its statistics are approximate, with a rank error of at most {percent}")
            })
        }
        (ColumnProfile::Categorical(reference), ColumnProfile::Categorical(current)) => {
            let is_exact = reference.is_exact() && current.is_exact();
            (!is_exact).then(|| format!("{name:?} has too many different values: its statistics are not computed"))
        }
        _ => None,
    }
}
