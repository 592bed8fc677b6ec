use std::fmt;

use serde::{Deserialize, Serialize};

use super::Sides;

/// The rows of one bin in the reference and in the window.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Bin {
    /// The values of the bin.
    #[serde(flatten)]
    pub kind: BinKind,
    /// Rows of the reference.
    pub reference: u64,
    /// Rows of the window.
    pub current: u64,
}

/// The values of a bin.
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
    /// Numbers below the range of the reference.
    Below {
        /// The smallest value of the reference.
        than: f64,
    },
    /// Numbers above the range of the reference.
    Above {
        /// The largest value of the reference.
        than: f64,
    },
    /// One category.
    Category {
        /// Its name.
        name: String,
    },
    /// A group of categories that are counted together.
    Group {
        /// The index of the group, from 0.
        number: usize,
    },
    /// Any value of a kind whose values are not compared.
    Present,
    /// Values that are not of the kind of the column.
    OtherKind,
    /// Missing values.
    Missing,
    /// NaN and the infinities.
    NonFinite,
}

impl Bin {
    pub(super) fn new(kind: BinKind, reference: u64, current: u64) -> Self {
        Self { kind, reference, current }
    }

    /// The approximate contribution to the population stability index of samples with `rows` rows: that of the index over the bins before
    /// bins with few rows are pooled.
    pub fn psi_part(&self, rows: Sides<u64>) -> f64 {
        let share = |count: u64, rows: u64| (count as f64 + 0.5) / rows.max(1) as f64;
        let (r, c) = (share(self.reference, rows.reference), share(self.current, rows.current));
        (r - c) * (r / c).ln()
    }

    /// Whether its values are in the domain of the reference.
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

    /// Whether it is below or above the range of the reference.
    pub(super) fn is_beyond(&self) -> bool {
        matches!(self.kind, BinKind::Below { .. } | BinKind::Above { .. })
    }

    /// Whether its limits depend on the values of the reference, so that its reference count is not random.
    pub(super) fn is_cut_by_reference(&self) -> bool {
        self.is_beyond() || matches!(self.kind, BinKind::Interval { .. })
    }
}

impl fmt::Display for BinKind {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Interval { low, high } if low == high => write!(f, "{}", Short(*low)),
            Self::Interval { low, high } => write!(f, "{} to {}", Short(*low), Short(*high)),
            Self::Below { than } => write!(f, "below {}", Limit(*than)),
            Self::Above { than } => write!(f, "above {}", Limit(*than)),
            Self::Category { name } => write!(f, "{name:?}"),
            Self::Group { number } => write!(f, "group {number} of values"),
            Self::Present => write!(f, "any value"),
            Self::OtherKind => write!(f, "of another type"),
            Self::Missing => write!(f, "missing"),
            Self::NonFinite => write!(f, "not a finite number"),
        }
    }
}

/// A limit of the reference. With as few digits as [`Short`] it could equal a value on its other side.
struct Limit(f64);

impl fmt::Display for Limit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let magnitude = self.0.abs();
        match magnitude {
            _ if self.0.fract() == 0.0 && magnitude < 1e15 => write!(f, "{}", self.0 + 0.0),
            _ if (1e-4..1e9).contains(&magnitude) => {
                let decimals = (8 - magnitude.log10().floor() as i32).clamp(0, 12) as usize;
                let text = format!("{:.decimals$}", self.0);
                write!(
                    f,
                    "{}",
                    if text.contains('.') { text.trim_end_matches('0').trim_end_matches('.') } else { &text }
                )
            }
            _ => write!(f, "{:e}", self.0),
        }
    }
}

/// A number with four significant digits.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_limit_differs_from_the_values_beyond_it() {
        for (than, text) in [
            (4.0, "above 4"),
            (-0.0, "above 0"),
            (12_345_678.0, "above 12345678"),
            (1234.56, "above 1234.56"),
            (0.1 + 0.2, "above 0.3"),
            (f64::from(41.972_93_f32), "above 41.9729309"),
            (1.5e300, "above 1.5e300"),
        ] {
            assert_eq!(BinKind::Above { than }.to_string(), text);
        }
    }
}
