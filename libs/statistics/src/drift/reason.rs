//! The reason of a verdict, in words.

use serde::{Deserialize, Serialize};

use super::{
    Sides, Verdict,
    bins::{Bin, BinKind, Short},
    column::{ColumnDrift, MAX_NEW_VALUES},
};
use crate::profile::{ColumnKind, ColumnProfile, Numeric};

/// Quantiles by which a change of unit is detected.
const QUANTILES: [f64; 5] = [0.1, 0.25, 0.5, 0.75, 0.9];

/// The largest ratio between the factors of two quantiles that one factor still explains: quantiles of some hundred rows are noisy.
const SAME_FACTOR: f64 = 1.5;

/// The ratio of a quantile closer to zero than this part of the farthest one is only noise; the quantile has to stay as close.
const NEAR_ZERO: f64 = 0.1;

/// A factor closer to 1 is a shift, not a change of unit.
const LEAST_FACTOR: f64 = 5.0;

/// How far a quantile of evenly spaced numbers may be from its expected value, in parts of their range.
const UNEVEN: f64 = 0.02;

/// A possible cause of a verdict, suspected from the values of a column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "suspicion", rename_all = "snake_case")]
pub enum Suspicion {
    /// All values appear to be multiplied by one factor.
    UnitChange {
        /// The factor.
        factor: f64,
    },
    /// The column appears to be swapped with another one.
    Swapped {
        /// The other column.
        with: String,
    },
    /// Evenly spaced integers that continue where the reference ends, such as a counter or a row number.
    RunningNumber,
    /// Text with mostly new values, such as identifiers.
    Identifier,
}

/// The suspicion that one column gives rise to, without regard to the others.
pub(super) fn suspicion(column: &ColumnDrift, reference: &ColumnProfile, current: &ColumnProfile) -> Option<Suspicion> {
    match (column.verdict, reference, current) {
        (Verdict::Drifted, ColumnProfile::Numeric(reference), ColumnProfile::Numeric(current)) => {
            match continues(reference, current) {
                true => Some(Suspicion::RunningNumber),
                false => factor(reference, current).map(|factor| Suspicion::UnitChange { factor }),
            }
        }
        (Verdict::Inconclusive, ..) if column.new_values_share.is_some_and(|share| share > MAX_NEW_VALUES) => {
            Some(Suspicion::Identifier)
        }
        _ => None,
    }
}

/// The reason of the verdict.
pub(super) fn of(column: &ColumnDrift, reference: &ColumnProfile, current: &ColumnProfile, margin: f64) -> String {
    if reference.rows() == 0 {
        return "the reference has no rows".to_owned();
    }
    if current.rows() == 0 {
        return "the current data have no rows".to_owned();
    }
    match column.verdict {
        Verdict::Drifted => drifted(column, reference, current),
        Verdict::Stable => stable(column, reference, current, margin),
        Verdict::Inconclusive => {
            inconclusive(column, Sides { reference: reference.rows(), current: current.rows() }, margin)
        }
    }
}

fn drifted(column: &ColumnDrift, reference: &ColumnProfile, current: &ColumnProfile) -> String {
    if reference.kind() != current.kind() {
        return format!("the kind of the values changed from {} to {}", reference.kind(), current.kind());
    }
    match column.suspicion {
        Some(Suspicion::UnitChange { factor }) => return format!("{}: possible change of unit", multiple(factor)),
        Some(Suspicion::RunningNumber) => {
            return "the numbers continue evenly where the reference ends: possible running number, exclude the column"
                .to_owned();
        }
        _ => {}
    }
    let rows = Sides { reference: reference.rows(), current: current.rows() };
    let Some(bin) = column.moved_most(rows) else { return String::new() };
    let words = moved(bin, reference.kind(), (rows.reference as f64, rows.current as f64));
    match (&bin.kind, reference, current) {
        (BinKind::Interval { .. }, ColumnProfile::Numeric(reference), ColumnProfile::Numeric(current)) => {
            words + &means(reference, current)
        }
        _ => words,
    }
}

fn means(reference: &Numeric, current: &Numeric) -> String {
    let mean = |side: &Numeric| side.moments().mean().map(|mean| Short(mean).to_string());
    match (mean(reference), mean(current)) {
        (Some(before), Some(now)) if before != now => format!("; the mean changed from {before} to {now}"),
        _ => String::new(),
    }
}

/// E.g. `the values are about 1000 times as large as before`.
fn multiple(factor: f64) -> String {
    let (times, size) = if factor >= 1.0 { (factor, "large") } else { (1.0 / factor, "small") };
    // Samples determine the factor to one or two digits, and most units differ by a power of ten.
    let decade = 10_f64.powf(times.log10().round());
    let times = if (times / decade - 1.0).abs() < 0.1 { decade } else { times };
    format!("the values are about {} times as {size} as before", Short(times))
}

fn moved(bin: &Bin, kind: ColumnKind, rows: (f64, f64)) -> String {
    let (before, now) = (Percent(bin.reference as f64 / rows.0), Percent(bin.current as f64 / rows.1));
    let what = match &bin.kind {
        BinKind::Below { .. } | BinKind::Above { .. } => {
            return format!("{now} of the rows are {}, outside of the range of the reference", bin.kind);
        }
        BinKind::Category { name } if bin.reference == 0 => return format!("new value {name:?} in {now} of the rows"),
        BinKind::OtherKind => match kind {
            ColumnKind::Numeric => "values that are not numbers".to_owned(),
            ColumnKind::Boolean => "values that are neither true nor false".to_owned(),
            ColumnKind::Categorical | ColumnKind::Timestamp => "values that are not timestamps".to_owned(),
        },
        BinKind::Group { .. } => "a group of values".to_owned(),
        BinKind::Missing => "missing values".to_owned(),
        BinKind::NonFinite => "values that are not finite numbers".to_owned(),
        BinKind::Present => "rows with a value".to_owned(),
        BinKind::Category { name } => format!("the value {name:?}"),
        BinKind::Interval { low, high } if low == high => format!("the value {}", bin.kind),
        BinKind::Interval { .. } => format!("values from {}", bin.kind),
    };
    format!("the share of {what} changed from {before} to {now}")
}

fn stable(column: &ColumnDrift, reference: &ColumnProfile, current: &ColumnProfile, margin: f64) -> String {
    if let (ColumnProfile::Timestamp(_), ColumnProfile::Timestamp(_)) = (reference, current) {
        return "the share of missing timestamps is within the margin; the timestamps themselves are not compared"
            .to_owned();
    }
    format!("an effect of {} is within the margin of {}", Short(column.effect), Short(margin))
}

fn inconclusive(column: &ColumnDrift, rows: Sides<u64>, margin: f64) -> String {
    if let (Some(Suspicion::Identifier), Some(share)) = (&column.suspicion, column.new_values_share) {
        let share = Percent(share);
        return format!("up to {share} of the distinct values are new: possible identifier, which cannot be compared");
    }
    if let Some(share) = column.blind_share.filter(|_| !column.is_comparable()) {
        return format!(
            "{} of the numbers are too close together, relative to the range of all, to be distinguished",
            Percent(share)
        );
    }
    if column.is_large_enough(margin) {
        let effect = Short(column.effect);
        return format!("an effect of {effect} is too close to the margin of {} for a verdict", Short(margin));
    }
    let (few, side) = match rows.reference < rows.current {
        true => (rows.reference, " of the reference"),
        false => (rows.current, ""),
    };
    let rows = if few == 1 { format!("1 row{side} is") } else { format!("{few} rows{side} are") };
    match column.minimum_detectable_effect {
        Some(least) => {
            format!(
                "{rows} too few: the smallest detectable effect is {}, the margin is {}",
                Short(least),
                Short(margin)
            )
        }
        None => format!("{rows} too few"),
    }
}

/// Whether both are evenly spaced integers, with ranges that do not overlap.
fn continues(reference: &Numeric, current: &Numeric) -> bool {
    let is_evenly_spaced = |numbers: &Numeric| {
        let Some((min, max)) = numbers.range() else { return false };
        let is_even =
            |q: f64| numbers.quantile(q).is_some_and(|at| (at - (min + q * (max - min))).abs() <= UNEVEN * (max - min));
        min < max && min.fract() == 0.0 && max.fract() == 0.0 && QUANTILES.into_iter().all(is_even)
    };
    let apart =
        reference.range().zip(current.range()).is_some_and(|(before, now)| before.1 < now.0 || now.1 < before.0);
    apart && is_evenly_spaced(reference) && is_evenly_spaced(current)
}

/// The factor between the two, if one factor explains all quantiles that are not close to zero.
fn factor(reference: &Numeric, current: &Numeric) -> Option<f64> {
    let pair = |q| Some((reference.quantile(q)?, current.quantile(q)?));
    let pairs: Vec<(f64, f64)> = QUANTILES.into_iter().map(pair).collect::<Option<_>>()?;
    let farthest = pairs.iter().map(|(before, _)| before.abs()).fold(0.0, f64::max);
    let (informative, near_zero): (Vec<_>, Vec<_>) =
        pairs.into_iter().partition(|(before, _)| before.abs() > NEAR_ZERO * farthest);
    let mut ratios: Vec<f64> = informative.into_iter().map(|(before, now)| now / before).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    let (least, middle, most) = (*ratios.first()?, ratios[ratios.len() / 2], *ratios.last()?);
    let is_far = middle >= LEAST_FACTOR || middle <= 1.0 / LEAST_FACTOR;
    let still_near = near_zero.iter().all(|(_, now)| now.abs() <= NEAR_ZERO * farthest * middle * SAME_FACTOR);
    (least > 0.0 && most.is_finite() && is_far && still_near && most <= least * SAME_FACTOR).then_some(middle)
}

/// A share in percent. Only 0 is shown as 0 %, and only 1 as 100 %.
struct Percent(f64);

impl std::fmt::Display for Percent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = 100.0 * self.0;
        match percent {
            0.0 => write!(f, "0 %"),
            _ if percent >= 100.0 => write!(f, "100 %"),
            _ if percent < 0.1 => write!(f, "<0.1 %"),
            _ if percent > 99.9 => write!(f, ">99.9 %"),
            _ => write!(f, "{percent:.1} %"),
        }
    }
}
