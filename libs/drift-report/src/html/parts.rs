//! The parts of a column that a chart shows, with their rows.

use std::collections::BTreeMap;

use rekindle_statistics::{
    drift::{BinKind, ColumnDrift, Sides, histogram},
    profile::{Categorical, ColumnProfile, Numeric},
};

use crate::{figures::on_axis, printable};

/// The approximate number of bins of a histogram; round limits may halve it.
const BINS: usize = 36;

/// Categories with a bar of their own.
const TOP: usize = 12;

/// The smallest share, on either side, with which a category has a bar of its own if there are many.
const LEAST_SHARE: f64 = 0.005;

/// The parts of the values of a column, by the kind of chart.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Parts {
    /// Bins along a value axis, and parts beside it.
    Numbers(Vec<Part>),
    /// Categories.
    Names(Vec<Part>),
}

/// The rows of one part on both sides.
#[derive(Debug, Clone, PartialEq)]
pub(super) struct Part {
    /// The values.
    pub label: String,
    /// Where it is drawn.
    pub position: Position,
    /// Rows of the reference.
    pub reference: u64,
    /// Rows of the current data.
    pub current: u64,
}

/// Where a part is drawn.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Position {
    /// On the axis, between two numbers or at a single one.
    Axis(f64, f64),
    /// Before the axis.
    Below,
    /// After it.
    Above,
    /// Beside it: no value, or the remaining categories.
    OffAxis,
    /// A category.
    Named,
    /// A category whose rows are a lower bound.
    AtLeast,
}

impl Part {
    fn new(label: impl Into<String>, position: Position, reference: u64, current: u64) -> Self {
        Self { label: label.into(), position, reference, current }
    }

    fn is_empty(&self) -> bool {
        self.reference + self.current == 0
    }

    /// Its limits, if it is on the axis.
    pub(super) fn limits(&self) -> Option<(f64, f64)> {
        match self.position {
            Position::Axis(low, high) => Some((low, high)),
            _ => None,
        }
    }

    /// Marks a category that only one side has.
    pub(super) fn mark(&self) -> Option<&'static str> {
        match (self.position, self.reference, self.current) {
            (Position::Named, 0, 1..) => Some("new"),
            (Position::Named, 1.., 0) => Some("gone"),
            _ => None,
        }
    }
}

impl Parts {
    /// The parts of a column.
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
                    .map(|bin| Part::new(of_kind(&bin.kind), Position::OffAxis, bin.reference, bin.current))
                    .collect(),
            ),
        }
    }

    /// The parts of the text lengths of a column with many categories.
    pub(super) fn of_lengths(reference: &ColumnProfile, current: &ColumnProfile) -> Option<Self> {
        match (reference, current) {
            (ColumnProfile::Categorical(reference), ColumnProfile::Categorical(current)) => {
                Some(numbers(reference.lengths()?, current.lengths()?))
            }
            _ => None,
        }
    }

    /// All parts.
    pub(super) fn all(&self) -> &[Part] {
        match self {
            Self::Numbers(parts) | Self::Names(parts) => parts,
        }
    }
}

fn of_kind(kind: &BinKind) -> String {
    match kind {
        BinKind::Present => "present".to_owned(),
        BinKind::OtherKind => "other type".to_owned(),
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
        let (label, position) = match bin.kind {
            BinKind::Interval { low, high } => (interval(low, high), Position::Axis(low, high)),
            BinKind::Below { than } => (format!("below {}", on_axis(than, step)), Position::Below),
            BinKind::Above { than } => (format!("above {}", on_axis(than, step)), Position::Above),
            _ => return None,
        };
        Some(Part::new(label, position, bin.reference, bin.current))
    });
    let off_axis = [
        Part::new("missing", Position::OffAxis, reference.missing(), current.missing()),
        Part::new("not finite", Position::OffAxis, reference.non_finite(), current.non_finite()),
        Part::new("not a number", Position::OffAxis, reference.unreadable(), current.unreadable()),
    ];
    let on_axis = |part: &Part| matches!(part.position, Position::Axis(..));
    Parts::Numbers(bins.chain(off_axis).filter(|part| on_axis(part) || !part.is_empty()).collect())
}

fn interval(low: f64, high: f64) -> String {
    let limit = |value| on_axis(value, high - low);
    if low == high { limit(low) } else { format!("{} to {}", limit(low), limit(high)) }
}

/// The most frequent categories of both sides together, the others, and missing values. `values` are the rows that have a value of
/// the kind of the column.
fn names(reference: &Categorical, current: &Categorical, values: Sides<u64>) -> Parts {
    let mut rows = BTreeMap::<String, (u64, u64)>::new();
    reference.top(usize::MAX).into_iter().for_each(|(name, count)| rows.entry(name).or_default().0 += count);
    current.top(usize::MAX).into_iter().for_each(|(name, count)| rows.entry(name).or_default().1 += count);
    let mut named: Vec<Part> =
        rows.into_iter().map(|(name, (r, c))| Part::new(printable(&name), Position::Named, r, c)).collect();
    named.sort_by(|a, b| larger_share(b, values).total_cmp(&larger_share(a, values)));
    // One more bar takes no more space than a bar for the other values.
    if named.len() > TOP + 1 {
        named.truncate(TOP);
        named.retain(|part| larger_share(part, values) >= LEAST_SHARE);
    }
    if !(reference.is_exact() && current.is_exact()) {
        named.iter_mut().for_each(|part| part.position = Position::AtLeast);
    }
    let (r, c) = named.iter().fold((0, 0), |sum, part| (sum.0 + part.reference, sum.1 + part.current));
    let left = (values.reference.saturating_sub(r), values.current.saturating_sub(c));
    let others = if named.is_empty() { "all values" } else { "other values" };
    let others = Part::new(others, Position::OffAxis, left.0, left.1);
    let missing = Part::new("missing", Position::OffAxis, reference.missing(), current.missing());
    let unreadable = Part::new("other type", Position::OffAxis, reference.unreadable(), current.unreadable());
    named.extend([others, missing, unreadable].into_iter().filter(|part| !part.is_empty()));
    Parts::Names(named)
}

/// The larger of the two shares of a category.
fn larger_share(part: &Part, values: Sides<u64>) -> f64 {
    let share = |rows: u64, of: u64| rows as f64 / of.max(1) as f64;
    share(part.reference, values.reference).max(share(part.current, values.current))
}
