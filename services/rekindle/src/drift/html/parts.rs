//! What of a column is drawn: the rows that fall to each of its parts.

use std::collections::BTreeMap;

use rekindle_statistics::{
    drift::{BinKind, ColumnDrift, Sides, histogram},
    profile::{Categorical, ColumnProfile, Numeric},
};

use crate::drift::figures::on_axis;
use crate::drift::table::printable;

/// Bars of a histogram at most, about; round limits may make it half as many.
const BINS: usize = 36;

/// Categories that have bars of their own.
const TOP: usize = 12;

/// The share that a value must have on one side to be named among many.
const LEAST_SHARE: f64 = 0.005;

/// The parts of a column's values, and how they are to be drawn.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Parts {
    /// Along an axis of numbers; what has no place on it is marked so.
    Numbers(Vec<Part>),
    /// One below the other.
    Names(Vec<Part>),
}

/// The rows of one part on both sides.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    /// Which values.
    pub label: String,
    /// Where on the axis.
    pub place: Place,
    /// Rows of the reference.
    pub reference: u64,
    /// Rows of the data.
    pub current: u64,
}

/// Where a part is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Place {
    /// On the axis, between two numbers or at one.
    Axis(f64, f64),
    /// Before the axis.
    Below,
    /// After it.
    Above,
    /// Apart from it, being no value, or none of those that stand alone.
    Apart,
    /// One value among the names.
    Named,
    /// One value among the names, that may have more rows than are known of.
    AtLeast,
}

impl Part {
    fn new(label: impl Into<String>, place: Place, reference: u64, current: u64) -> Self {
        Self { label: label.into(), place, reference, current }
    }

    fn is_empty(&self) -> bool {
        self.reference + self.current == 0
    }

    /// Its limits, if it has a place on the axis.
    pub(super) fn limits(&self) -> Option<(f64, f64)> {
        match self.place {
            Place::Axis(low, high) => Some((low, high)),
            _ => None,
        }
    }

    /// What happened to it as a whole.
    pub(super) fn mark(&self) -> Option<&'static str> {
        match (self.place, self.reference, self.current) {
            (Place::Named, 0, 1..) => Some("new"),
            (Place::Named, 1.., 0) => Some("gone"),
            _ => None,
        }
    }
}

impl Parts {
    /// Of one column.
    pub(super) fn of(column: &ColumnDrift, reference: &ColumnProfile, current: &ColumnProfile) -> Self {
        use ColumnProfile::{Boolean, Categorical, Numeric};
        let values = |side: &ColumnProfile| side.rows() - side.missing() - side.unreadable();
        let values = Sides { reference: values(reference), current: values(current) };
        match (reference, current) {
            (Numeric(reference), Numeric(current)) => numbers(reference, current),
            (Categorical(reference), Categorical(current)) | (Boolean(reference), Boolean(current)) => {
                names(reference, current, values)
            }
            _ => Self::Names(
                column
                    .bins
                    .iter()
                    .map(|bin| Part::new(of_kind(&bin.kind), Place::Apart, bin.reference, bin.current))
                    .collect(),
            ),
        }
    }

    /// The lengths of texts that are too many to be named.
    pub(super) fn of_lengths(reference: &ColumnProfile, current: &ColumnProfile) -> Option<Self> {
        match (reference, current) {
            (ColumnProfile::Categorical(reference), ColumnProfile::Categorical(current)) => {
                Some(numbers(reference.lengths()?, current.lengths()?))
            }
            _ => None,
        }
    }

    /// All of them.
    pub(super) fn all(&self) -> &[Part] {
        match self {
            Self::Numbers(parts) | Self::Names(parts) => parts,
        }
    }
}

fn of_kind(kind: &BinKind) -> String {
    match kind {
        BinKind::Present => "has a value".to_owned(),
        BinKind::OtherKind => "has a value of another kind".to_owned(),
        kind => printable(&kind.to_string()),
    }
}

fn numbers(reference: &Numeric, current: &Numeric) -> Parts {
    let bins = histogram(reference, current, BINS);
    let steps = bins.iter().filter_map(|bin| match bin.kind {
        BinKind::Interval { low, high } => Some(high - low),
        _ => None,
    });
    let step = steps.fold(0.0, f64::max);
    let bins = bins.into_iter().filter_map(|bin| {
        let (label, place) = match bin.kind {
            BinKind::Interval { low, high } => (interval(low, high), Place::Axis(low, high)),
            BinKind::Below { than } => (format!("below {}", on_axis(than, step)), Place::Below),
            BinKind::Above { than } => (format!("above {}", on_axis(than, step)), Place::Above),
            _ => return None,
        };
        Some(Part::new(label, place, bin.reference, bin.current))
    });
    let apart = [
        Part::new("missing", Place::Apart, reference.missing(), current.missing()),
        Part::new("not finite", Place::Apart, reference.non_finite(), current.non_finite()),
        Part::new("no number", Place::Apart, reference.unreadable(), current.unreadable()),
    ];
    let on_axis = |part: &Part| matches!(part.place, Place::Axis(..));
    Parts::Numbers(bins.chain(apart).filter(|part| on_axis(part) || !part.is_empty()).collect())
}

fn interval(low: f64, high: f64) -> String {
    let limit = |value| on_axis(value, high - low);
    if low == high { limit(low) } else { format!("{} to {}", limit(low), limit(high)) }
}

/// The most frequent values of both sides together, what is left of the others, and what is missing. `values` are the rows that
/// have one of the column's kind.
fn names(reference: &Categorical, current: &Categorical, values: Sides<u64>) -> Parts {
    let mut rows = BTreeMap::<String, (u64, u64)>::new();
    reference.top(usize::MAX).into_iter().for_each(|(name, count)| rows.entry(name).or_default().0 += count);
    current.top(usize::MAX).into_iter().for_each(|(name, count)| rows.entry(name).or_default().1 += count);
    let mut named: Vec<Part> =
        rows.into_iter().map(|(name, (r, c))| Part::new(printable(&name), Place::Named, r, c)).collect();
    named.sort_by(|a, b| larger_share(b, values).total_cmp(&larger_share(a, values)));
    // One more bar takes no more room than a bar for all others would.
    if named.len() > TOP + 1 {
        named.truncate(TOP);
        named.retain(|part| larger_share(part, values) >= LEAST_SHARE);
    }
    if !(reference.is_exact() && current.is_exact()) {
        named.iter_mut().for_each(|part| part.place = Place::AtLeast);
    }
    let (r, c) = named.iter().fold((0, 0), |sum, part| (sum.0 + part.reference, sum.1 + part.current));
    let left = (values.reference.saturating_sub(r), values.current.saturating_sub(c));
    let others = if named.is_empty() { "values too many to name" } else { "all others" };
    let others = Part::new(others, Place::Apart, left.0, left.1);
    let missing = Part::new("missing", Place::Apart, reference.missing(), current.missing());
    let unreadable = Part::new("of another kind", Place::Apart, reference.unreadable(), current.unreadable());
    named.extend([others, missing, unreadable].into_iter().filter(|part| !part.is_empty()));
    Parts::Names(named)
}

/// A value that is frequent on either side is shown.
fn larger_share(part: &Part, values: Sides<u64>) -> f64 {
    let share = |rows: u64, of: u64| rows as f64 / of.max(1) as f64;
    share(part.reference, values.reference).max(share(part.current, values.current))
}
