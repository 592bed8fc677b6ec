//! A verdict in words.

use serde::{Deserialize, Serialize};

use super::{
    Sides, Verdict,
    bins::{Bin, BinKind, Short},
    column::{ColumnDrift, MAX_NEW_VALUES},
};
use crate::profile::{ColumnKind, ColumnProfile, Numeric};

/// Quantiles by which a change of unit is told.
const QUANTILES: [f64; 5] = [0.1, 0.25, 0.5, 0.75, 0.9];

/// How far the ratios of the quantiles may lie apart for one factor to explain them: those of some hundred rows are noisy.
const SAME_FACTOR: f64 = 1.5;

/// A quantile closer to zero than this part of the farthest one has a ratio that is noise alone; it has to stay as close.
const NEAR_ZERO: f64 = 0.1;

/// A factor closer to 1 is a shift, and no change of unit.
const LEAST_FACTOR: f64 = 5.0;

/// How far a quantile of evenly rising numbers may lie from its place, in parts of their range.
const UNEVEN: f64 = 0.02;

/// What a column's values give away.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "suspicion", rename_all = "snake_case")]
pub enum Suspicion {
    /// All its values seem to have been multiplied.
    UnitChange {
        /// By this much.
        factor: f64,
    },
    /// It seems to have changed places with another column.
    Swapped {
        /// That column.
        with: String,
    },
    /// Whole numbers that rise evenly and go on where the reference's ended, as a counter or a row number does.
    RunningNumber,
    /// Text most of whose values are new, as identifiers are.
    Identifier,
}

/// What a column gives away without the others.
pub(super) fn suspicion(column: &ColumnDrift, reference: &ColumnProfile, current: &ColumnProfile) -> Option<Suspicion> {
    match (column.verdict, reference, current) {
        (Verdict::Drifted, ColumnProfile::Numeric(reference), ColumnProfile::Numeric(current)) => {
            match goes_on(reference, current) {
                true => Some(Suspicion::RunningNumber),
                false => factor(reference, current).map(|factor| Suspicion::UnitChange { factor }),
            }
        }
        (Verdict::Unknown, ..) if column.new_values_share.is_some_and(|share| share > MAX_NEW_VALUES) => {
            Some(Suspicion::Identifier)
        }
        _ => None,
    }
}

/// Why the verdict is what it is.
pub(super) fn of(column: &ColumnDrift, reference: &ColumnProfile, current: &ColumnProfile, margin: f64) -> String {
    if reference.rows() == 0 {
        return "the reference has no rows".to_owned();
    }
    if current.rows() == 0 {
        return "there are no rows to compare".to_owned();
    }
    match column.verdict {
        Verdict::Drifted => drifted(column, reference, current),
        Verdict::Stable => stable(column, reference, current, margin),
        Verdict::Unknown => unknown(column, Sides { reference: reference.rows(), current: current.rows() }, margin),
    }
}

fn drifted(column: &ColumnDrift, reference: &ColumnProfile, current: &ColumnProfile) -> String {
    if reference.kind() != current.kind() {
        return format!("the values were {}, and are {}", reference.kind(), current.kind());
    }
    match column.suspicion {
        Some(Suspicion::UnitChange { factor }) => return format!("{}: has the unit changed?", multiple(factor)),
        Some(Suspicion::RunningNumber) => {
            return "the numbers go on evenly where the reference's ended: a running number tells nothing, leave it out".to_owned();
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
    match (reference.moments().mean(), current.moments().mean()) {
        (Some(before), Some(now)) => format!("; the mean went from {} to {}", Short(before), Short(now)),
        _ => String::new(),
    }
}

/// E.g. `the values are about 1000 times as large as before`.
fn multiple(factor: f64) -> String {
    let (times, size) = if factor >= 1.0 { (factor, "large") } else { (1.0 / factor, "small") };
    // The factor of samples is not known to more than a digit or two, and units differ by powers of ten more often than not.
    let decade = 10_f64.powf(times.log10().round());
    let times = if (times / decade - 1.0).abs() < 0.1 { decade } else { times };
    format!("the values are about {} times as {size} as before", Short(times))
}

fn moved(bin: &Bin, kind: ColumnKind, rows: (f64, f64)) -> String {
    let (before, now) = (Percent(bin.reference as f64 / rows.0), Percent(bin.current as f64 / rows.1));
    match &bin.kind {
        BinKind::OtherKind => {
            let none = match kind {
                ColumnKind::Numeric => "are no number",
                ColumnKind::Boolean => "are neither true nor false",
                ColumnKind::Categorical | ColumnKind::Timestamp => "are no point in time",
            };
            format!("values that {none} went from {before} to {now} of the rows")
        }
        BinKind::Group { .. } => format!("values that {before} of the rows had before, {now} have now"),
        BinKind::Missing => format!("missing values went from {before} to {now} of the rows"),
        BinKind::NonFinite => format!("values that are no finite number went from {before} to {now} of the rows"),
        BinKind::Below { .. } | BinKind::Above { .. } => {
            format!("{now} of the rows lie {}, where the reference has none", bin.kind)
        }
        BinKind::Category { name } if bin.reference == 0 => {
            format!("the value {name:?} is new, with {now} of the rows")
        }
        kind => format!("{kind}: {before} of the rows before, {now} now"),
    }
}

fn stable(column: &ColumnDrift, reference: &ColumnProfile, current: &ColumnProfile, margin: f64) -> String {
    if let (ColumnProfile::Timestamp(_), ColumnProfile::Timestamp(_)) = (reference, current) {
        return "as many rows have a time as before; which time is not compared".to_owned();
    }
    format!("a difference of {} is within the margin of {}", Short(column.effect), Short(margin))
}

fn unknown(column: &ColumnDrift, rows: Sides<u64>, margin: f64) -> String {
    if let (Some(Suspicion::Identifier), Some(share)) = (&column.suspicion, column.new_values_share) {
        let share = Percent(share);
        return format!(
            "up to {share} of its many values are new, as of an identifier: there is nothing to compare them by"
        );
    }
    if let Some(share) = column.blind_share.filter(|_| !column.is_comparable()) {
        return format!(
            "{} of the numbers lie too close together, beside how far all of them reach, to be told apart",
            Percent(share)
        );
    }
    if column.is_large_enough(margin) {
        let effect = Short(column.effect);
        return format!(
            "a difference of {effect} is too close to the margin of {} to be called larger or smaller",
            Short(margin)
        );
    }
    let (few, side) = match rows.reference < rows.current {
        true => (rows.reference, " of the reference"),
        false => (rows.current, ""),
    };
    let rows = if few == 1 { format!("1 row{side} is") } else { format!("{few} rows{side} are") };
    match column.minimum_detectable_effect {
        Some(least) => {
            format!("{rows} too few: only an effect of {} would show, the margin is {}", Short(least), Short(margin))
        }
        None => format!("{rows} too few"),
    }
}

/// Whether both are whole numbers that rise evenly, and none of the one lies among the other's.
fn goes_on(reference: &Numeric, current: &Numeric) -> bool {
    let rises_evenly = |numbers: &Numeric| {
        let Some((min, max)) = numbers.range() else { return false };
        let is_even =
            |q: f64| numbers.quantile(q).is_some_and(|at| (at - (min + q * (max - min))).abs() <= UNEVEN * (max - min));
        min < max && min.fract() == 0.0 && max.fract() == 0.0 && QUANTILES.into_iter().all(is_even)
    };
    let apart =
        reference.range().zip(current.range()).is_some_and(|(before, now)| before.1 < now.0 || now.1 < before.0);
    apart && rises_evenly(reference) && rises_evenly(current)
}

/// The factor between the two, if one explains all quantiles that are not about zero.
fn factor(reference: &Numeric, current: &Numeric) -> Option<f64> {
    let pair = |q| Some((reference.quantile(q)?, current.quantile(q)?));
    let pairs: Vec<(f64, f64)> = QUANTILES.into_iter().map(pair).collect::<Option<_>>()?;
    let farthest = pairs.iter().map(|(before, _)| before.abs()).fold(0.0, f64::max);
    let (telling, near_zero): (Vec<_>, Vec<_>) =
        pairs.into_iter().partition(|(before, _)| before.abs() > NEAR_ZERO * farthest);
    let mut ratios: Vec<f64> = telling.into_iter().map(|(before, now)| now / before).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    let (least, middle, most) = (*ratios.first()?, ratios[ratios.len() / 2], *ratios.last()?);
    let is_far = middle >= LEAST_FACTOR || middle <= 1.0 / LEAST_FACTOR;
    let still_near = near_zero.iter().all(|(_, now)| now.abs() <= NEAR_ZERO * farthest * middle * SAME_FACTOR);
    (least > 0.0 && most.is_finite() && is_far && still_near && most <= least * SAME_FACTOR).then_some(middle)
}

/// A share in percent, never rounded to none or all.
struct Percent(f64);

impl std::fmt::Display for Percent {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let percent = 100.0 * self.0;
        match percent {
            0.0 => write!(f, "none"),
            _ if percent >= 100.0 => write!(f, "all"),
            _ if percent < 0.1 => write!(f, "under 0.1 %"),
            _ if percent > 99.9 => write!(f, "over 99.9 %"),
            _ => write!(f, "{percent:.1} %"),
        }
    }
}
