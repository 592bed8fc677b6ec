use std::fmt;

use serde::{Deserialize, Serialize};

use super::Sides;

/// The rows of one part of a column's values in the reference and in the window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// Which values.
    #[serde(flatten)]
    pub kind: BinKind,
    /// Rows of the reference.
    pub reference: u64,
    /// Rows of the window.
    pub current: u64,
}

/// Which values a bin holds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "bin", rename_all = "snake_case")]
pub enum BinKind {
    /// Numbers from `low` to `high`, both included.
    Interval {
        /// The smallest.
        low: f64,
        /// The largest.
        high: f64,
    },
    /// Numbers below all of the reference.
    Below {
        /// The reference's smallest.
        than: f64,
    },
    /// Numbers above all of the reference.
    Above {
        /// The reference's largest.
        than: f64,
    },
    /// One category.
    Category {
        /// Its name.
        name: String,
    },
    /// Categories that are counted together.
    Group {
        /// Their number among the groups, from 0.
        number: usize,
    },
    /// Any value, of a kind whose values are not compared.
    Present,
    /// Values of another kind than the column's.
    OtherKind,
    /// No value.
    Missing,
    /// NaN and the infinities.
    NonFinite,
}

impl Bin {
    pub(super) fn new(kind: BinKind, reference: u64, current: u64) -> Self {
        Self { kind, reference, current }
    }

    /// About its part of the population stability index of samples with so many rows: that of the index over the bins as they are, before
    /// those with few rows are put together.
    pub fn psi_part(&self, rows: Sides<u64>) -> f64 {
        let share = |count: u64, rows: u64| (count as f64 + 0.5) / rows.max(1) as f64;
        let (r, c) = (share(self.reference, rows.reference), share(self.current, rows.current));
        (r - c) * (r / c).ln()
    }

    /// Whether it holds values as the reference has them, or could.
    pub(super) fn is_ordinary(&self) -> bool {
        matches!(
            self.kind,
            BinKind::Interval { .. } | BinKind::Category { .. } | BinKind::Group { .. } | BinKind::Present
        )
    }

    /// Whether it is an interval of more than one number.
    pub(super) fn is_span(&self) -> bool {
        matches!(self.kind, BinKind::Interval { low, high } if low < high)
    }

    /// Whether it lies below or above all of the reference.
    pub(super) fn is_beyond(&self) -> bool {
        matches!(self.kind, BinKind::Below { .. } | BinKind::Above { .. })
    }

    /// Whether its limits were chosen by the reference's own counts, which then are no chance outcome.
    pub(super) fn is_cut_by_reference(&self) -> bool {
        self.is_beyond() || matches!(self.kind, BinKind::Interval { .. })
    }
}

impl fmt::Display for BinKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interval { low, high } if low == high => write!(f, "{}", Short(*low)),
            Self::Interval { low, high } => write!(f, "{} to {}", Short(*low), Short(*high)),
            Self::Below { than } => write!(f, "below {}", Short(*than)),
            Self::Above { than } => write!(f, "above {}", Short(*than)),
            Self::Category { name } => write!(f, "{name:?}"),
            Self::Group { number } => write!(f, "group {number} of values"),
            Self::Present => write!(f, "any value"),
            Self::OtherKind => write!(f, "of another kind"),
            Self::Missing => write!(f, "missing"),
            Self::NonFinite => write!(f, "not a finite number"),
        }
    }
}

/// A number in four significant digits.
pub(super) struct Short(pub(super) f64);

impl fmt::Display for Short {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.abs();
        if self.0 == 0.0 {
            return write!(f, "0");
        }
        if !(1e-4..1e7).contains(&magnitude) {
            return write!(f, "{:.3e}", self.0);
        }
        let decimals = (3 - magnitude.log10().floor() as i32).clamp(0, 8) as usize;
        let text = format!("{:.decimals$}", self.0);
        let text = if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text };
        write!(f, "{text}")
    }
}
