//! A verdict in words.

use serde::{Deserialize, Serialize};

use super::{
    Sides, Verdict,
    bins::{Bin, BinKind, Short},
    column::ColumnDrift,
};
use crate::profile::{ColumnProfile, Numeric};

/// Quantiles by which a change of unit is told.
const QUANTILES: [f64; 5] = [0.1, 0.25, 0.5, 0.75, 0.9];

/// How far the ratios of the quantiles may lie apart for one factor to explain them: those of some hundred rows are noisy.
const SAME_FACTOR: f64 = 1.5;

/// A quantile closer to zero than this part of the farthest one has a ratio that is noise alone.
const NEAR_ZERO: f64 = 0.1;

/// A factor closer to 1 is a shift, and no change of unit.
const LEAST_FACTOR: f64 = 5.0;

/// What may have happened to a drifted column.
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
}

/// What the values alone give away.
pub(super) fn suspicion(column: &ColumnDrift, reference: &ColumnProfile, current: &ColumnProfile) -> Option<Suspicion> {
    match (column.verdict, reference, current) {
        (Verdict::Drifted, ColumnProfile::Numeric(reference), ColumnProfile::Numeric(current)) => {
            factor(reference, current).map(|factor| Suspicion::UnitChange { factor })
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
        Verdict::Stable => stable(column, margin),
        Verdict::Unknown => unknown(column, current.rows(), margin),
    }
}

fn drifted(column: &ColumnDrift, reference: &ColumnProfile, current: &ColumnProfile) -> String {
    if reference.kind() != current.kind() {
        return format!("the values were {}, and are {}", reference.kind(), current.kind());
    }
    if let Some(Suspicion::UnitChange { factor }) = column.suspicion {
        return format!("the values are {} times as large as before: has the unit changed?", Short(factor));
    }
    let rows = Sides { reference: reference.rows(), current: current.rows() };
    match column.bins.iter().max_by(|a, b| a.psi_part(rows).total_cmp(&b.psi_part(rows))) {
        Some(bin) => moved(bin, (rows.reference as f64, rows.current as f64)),
        None => String::new(),
    }
}

fn moved(bin: &Bin, rows: (f64, f64)) -> String {
    let (before, now) = (Percent(bin.reference as f64 / rows.0), Percent(bin.current as f64 / rows.1));
    match &bin.kind {
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

fn stable(column: &ColumnDrift, margin: f64) -> String {
    let effect = Short(column.effect);
    match column.effect > margin {
        true => format!("a difference of {effect} may be chance"),
        false => format!("a difference of {effect} is within the margin of {}", Short(margin)),
    }
}

fn unknown(column: &ColumnDrift, rows: u64, margin: f64) -> String {
    let rows = if rows == 1 { "1 row is".to_owned() } else { format!("{rows} rows are") };
    match column.minimum_detectable_effect {
        Some(least) => {
            format!("{rows} too few: only an effect of {} would show, the margin is {}", Short(least), Short(margin))
        }
        None => format!("{rows} too few"),
    }
}

/// The factor between the two, if one explains all quantiles that are not about zero.
fn factor(reference: &Numeric, current: &Numeric) -> Option<f64> {
    let pair = |q| Some((reference.quantile(q)?, current.quantile(q)?));
    let pairs: Vec<(f64, f64)> = QUANTILES.into_iter().map(pair).collect::<Option<_>>()?;
    let farthest = pairs.iter().map(|(before, _)| before.abs()).fold(0.0, f64::max);
    let telling = pairs.iter().filter(|(before, _)| before.abs() > NEAR_ZERO * farthest);
    let mut ratios: Vec<f64> = telling.map(|(before, now)| now / before).collect();
    ratios.sort_unstable_by(f64::total_cmp);
    let (least, middle, most) = (*ratios.first()?, ratios[ratios.len() / 2], *ratios.last()?);
    let is_far = middle >= LEAST_FACTOR || middle <= 1.0 / LEAST_FACTOR;
    (least > 0.0 && most.is_finite() && is_far && most <= least * SAME_FACTOR).then_some(middle)
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
