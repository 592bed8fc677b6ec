//! Bins that are the same for every block and every window.

use serde::{Deserialize, Serialize};

use crate::{
    drift::interval_limits,
    profile::{Categorical, ColumnProfile, Numeric, flag_name, hash_of},
};

/// Values with a bin of their own, besides a bin for all others.
const VALUES: usize = 31;

/// The bins of one column, from its reference profile: tenths of the numbers, with frequent numbers apart; or the most frequent values. Each
/// kind has further bins for what is outside of the reference, missing, or not of the kind.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", try_from = "Unchecked")]
pub enum FixedBins {
    /// Numbers.
    Numbers {
        /// The smallest number of the reference.
        low: f64,
        /// The largest number of each interval, ascending.
        highs: Vec<f64>,
    },
    /// Values.
    Values {
        /// Their hashes, ascending.
        #[serde(with = "hexadecimal")]
        hashes: Vec<u64>,
    },
}

/// Bins of numbers after the intervals: below, above, missing, not finite, unreadable.
const BESIDE_NUMBERS: usize = 5;

/// Bins of values after the most frequent: other values, unseen ones, missing, unreadable.
const BESIDE_VALUES: usize = 4;

impl FixedBins {
    /// The bins of a column; `None` of timestamps, and of values that are too many to be counted by value.
    pub fn of(reference: &ColumnProfile) -> Option<Self> {
        match reference {
            ColumnProfile::Numeric(numbers) => Some(Self::of_numbers(numbers)),
            ColumnProfile::Categorical(values) | ColumnProfile::Boolean(values) => Self::of_values(values),
            ColumnProfile::Timestamp(_) => None,
        }
    }

    fn of_numbers(numbers: &Numeric) -> Self {
        let low = numbers.range().map_or(0.0, |(low, _)| low);
        Self::Numbers { low, highs: interval_limits(numbers) }
    }

    fn of_values(values: &Categorical) -> Option<Self> {
        let mut counted: Vec<(u64, u64)> = values.by_hash()?.collect();
        counted.sort_unstable_by_key(|&(hash, rows)| (std::cmp::Reverse(rows), hash));
        let mut hashes: Vec<u64> = counted.into_iter().take(VALUES).map(|(hash, _)| hash).collect();
        hashes.sort_unstable();
        Some(Self::Values { hashes })
    }

    /// The number of bins.
    pub(crate) fn len(&self) -> usize {
        match self {
            Self::Numbers { highs, .. } => highs.len() + BESIDE_NUMBERS,
            Self::Values { hashes } => hashes.len() + BESIDE_VALUES,
        }
    }

    /// Bins of numbers within the range of the reference, which are the first ones; 0 of values.
    pub(crate) fn intervals(&self) -> usize {
        match self {
            Self::Numbers { highs, .. } => highs.len(),
            Self::Values { .. } => 0,
        }
    }

    /// The bins of rows without a value that can be read.
    pub(crate) fn absent(&self) -> std::ops::Range<usize> {
        match self {
            Self::Numbers { highs, .. } => highs.len() + 2..self.len(),
            Self::Values { hashes } => hashes.len() + 2..self.len(),
        }
    }

    /// The bin of numbers below those of the reference; `None` of values.
    pub(crate) fn below(&self) -> Option<usize> {
        matches!(self, Self::Numbers { .. }).then(|| self.intervals())
    }

    /// The bin of numbers above those of the reference; `None` of values.
    pub(crate) fn above(&self) -> Option<usize> {
        self.below().map(|below| below + 1)
    }

    /// The bin of a number; `None` is a missing value.
    pub fn of_number(&self, number: Option<f64>) -> usize {
        let Self::Numbers { low, highs } = self else { return self.unreadable() };
        let intervals = highs.len();
        match number {
            None => intervals + 2,
            Some(number) if !number.is_finite() => intervals + 3,
            Some(number) if number < *low => intervals,
            // Numbers above the last interval are `intervals`, which is the bin below: they have the one after it.
            Some(number) => match highs.partition_point(|high| *high < number) {
                bin if bin == intervals => intervals + 1,
                bin => bin,
            },
        }
    }

    /// The bin of a text of the reference; `None` is a missing value.
    pub fn of_text(&self, text: Option<&str>) -> usize {
        self.of_hash(text.map(hash_of))
    }

    /// The bin of a flag; `None` is a missing value.
    pub fn of_flag(&self, flag: Option<bool>) -> usize {
        self.of_text(flag.map(flag_name))
    }

    /// The bin of a value of the reference, by its hash.
    pub(super) fn of_hash(&self, hash: Option<u64>) -> usize {
        let Self::Values { hashes } = self else { return self.unreadable() };
        match hash {
            None => hashes.len() + 2,
            Some(hash) => hashes.binary_search(&hash).unwrap_or(hashes.len()),
        }
    }

    /// The bin of values that the reference does not have, which only [`Self::grown`] tells apart from its other values; `None` of numbers.
    pub fn unseen(&self) -> Option<usize> {
        match self {
            Self::Numbers { .. } => None,
            Self::Values { hashes } => Some(hashes.len() + 1),
        }
    }

    pub(super) fn unreadable(&self) -> usize {
        self.len() - 1
    }

    /// The bin whose share of the rows of a window exceeds that of the reference most; `None` if none does, or if the values are too many to be
    /// counted by value.
    pub fn grown(&self, reference: &ColumnProfile, window: &ColumnProfile) -> Option<usize> {
        let shares = |profile: &ColumnProfile| {
            let counts = self.count(reference, profile)?;
            let rows = counts.iter().sum::<u64>().max(1) as f64;
            Some(counts.into_iter().map(move |count| count as f64 / rows))
        };
        let growth = shares(window)?.zip(shares(reference)?).map(|(after, before)| after - before).enumerate();
        let (bin, growth) = growth.max_by(|(_, one), (_, other)| one.total_cmp(other))?;
        (growth > 0.0).then_some(bin)
    }

    /// The rows of a window in each bin; `None` if its values are too many to be counted by value.
    pub(crate) fn count(&self, reference: &ColumnProfile, window: &ColumnProfile) -> Option<Vec<u64>> {
        use ColumnProfile::{Boolean, Categorical, Numeric};
        let mut counts = vec![0; self.len()];
        match (self, reference, window) {
            (Self::Numbers { .. }, Numeric(_), Numeric(window)) => self.count_numbers(window, &mut counts),
            (Self::Values { .. }, Categorical(reference), Categorical(window))
            | (Self::Values { .. }, Boolean(reference), Boolean(window)) => {
                self.count_values(reference, window, &mut counts)?;
            }
            // Values of another kind.
            (_, _, window) => {
                let missing = self.unreadable() - if matches!(self, Self::Numbers { .. }) { 2 } else { 1 };
                counts[missing] = window.missing();
                counts[self.unreadable()] = window.rows() - window.missing();
            }
        }
        Some(counts)
    }

    fn count_numbers(&self, window: &Numeric, counts: &mut [u64]) {
        for (number, rows) in window.values() {
            counts[self.of_number(Some(number))] += rows;
        }
        counts[self.of_number(None)] += window.missing();
        counts[self.of_number(Some(f64::NAN))] += window.non_finite();
        counts[self.unreadable()] += window.unreadable();
    }

    fn count_values(&self, reference: &Categorical, window: &Categorical, counts: &mut [u64]) -> Option<()> {
        for (hash, rows) in window.by_hash()? {
            let unseen = counts.len() - BESIDE_VALUES + 1;
            counts[if reference.has(hash) { self.of_hash(Some(hash)) } else { unseen }] += rows;
        }
        counts[self.of_hash(None)] += window.missing();
        counts[self.unreadable()] += window.unreadable();
        Some(())
    }
}

/// The stored fields, which are validated on reading.
#[derive(Deserialize)]
#[serde(tag = "kind", rename_all = "snake_case", deny_unknown_fields)]
enum Unchecked {
    Numbers {
        low: f64,
        highs: Vec<f64>,
    },
    Values {
        #[serde(with = "hexadecimal")]
        hashes: Vec<u64>,
    },
}

impl TryFrom<Unchecked> for FixedBins {
    type Error = &'static str;

    fn try_from(stored: Unchecked) -> Result<Self, Self::Error> {
        match stored {
            Unchecked::Numbers { low, highs } if highs.is_sorted() && highs.iter().all(|high| *high >= low) => {
                Ok(Self::Numbers { low, highs })
            }
            Unchecked::Values { hashes } if hashes.is_sorted() => Ok(Self::Values { hashes }),
            _ => Err("the bins are not in ascending order"),
        }
    }
}

/// Hashes as text, since JSON readers may round integers.
mod hexadecimal {
    use serde::{Deserialize as _, Deserializer, Serializer, de::Error as _};

    pub(super) fn serialize<S: Serializer>(hashes: &[u64], serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(hashes.iter().map(|hash| format!("{hash:016x}")))
    }

    pub(super) fn deserialize<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Vec<u64>, D::Error> {
        let texts = Vec::<String>::deserialize(deserializer)?;
        texts.iter().map(|text| u64::from_str_radix(text, 16).map_err(D::Error::custom)).collect()
    }
}
