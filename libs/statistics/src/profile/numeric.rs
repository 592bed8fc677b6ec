use serde::{Deserialize, Serialize};

use super::Moments;
use crate::sketch::{PrefixCounts, float_of, key_of};

/// The number of buckets of a numeric column. Up to that many distinct values have counts of their own; with more, neighbours share a
/// bucket. The fullest bucket of a normal distribution then has about 0.4 % of the rows.
pub const BUCKETS: usize = 4096;

/// The profile of a numeric column.
///
/// Finite numbers are counted in buckets whose limits are floats of few significant bits, so that the buckets of two profiles nest: at
/// the coarser resolution of the two, both have exact counts over the same limits.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Numeric {
    buckets: PrefixCounts,
    missing: u64,
    non_finite: u64,
    unreadable: u64,
    moments: Moments,
    /// The smallest and the largest finite value.
    range: Option<(f64, f64)>,
}

/// The rows of one bucket of one or two profiles.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Bucket<R> {
    /// The smallest float in it.
    pub(crate) low: f64,
    /// The largest.
    pub(crate) high: f64,
    /// Rows.
    pub(crate) rows: R,
}

impl<R> Bucket<R> {
    /// The representative of its values: the middle.
    pub(crate) fn middle(&self) -> f64 {
        f64::midpoint(self.low, self.high)
    }
}

impl Numeric {
    /// Without rows.
    pub fn new() -> Self {
        Self::with_buckets(BUCKETS)
    }

    /// Without rows, with another number of buckets: more for exact statistics, fewer for a smaller profile.
    pub fn with_buckets(buckets: usize) -> Self {
        let buckets = PrefixCounts::new(buckets);
        Self { buckets, missing: 0, non_finite: 0, unreadable: 0, moments: Moments::new(), range: None }
    }

    /// Counts one row; `None` is a missing value.
    pub fn add(&mut self, value: Option<f64>) {
        match value {
            Some(value) => self.add_all(&[value]),
            None => self.missing += 1,
        }
    }

    /// Counts rows that have a value.
    pub fn add_all(&mut self, values: &[f64]) {
        // Without an early exit, so that the loop is vectorised.
        if values.iter().fold(true, |all, value| all & value.is_finite()) {
            self.add_finite(values);
        } else {
            let finite: Vec<f64> = values.iter().copied().filter(|value| value.is_finite()).collect();
            self.non_finite += (values.len() - finite.len()) as u64;
            self.add_finite(&finite);
        }
    }

    /// Frees the space for further values, for a profile that is complete. Values can still be added.
    pub fn compact(&mut self) {
        self.buckets.compact();
    }

    /// Counts `rows` rows with one finite number.
    pub(super) fn add_rows(&mut self, value: f64, rows: u64) {
        self.buckets.add(key_of(value), rows);
        self.moments.merge(&Moments::of_rows(value, rows));
        self.widen((value, value));
    }

    /// Counts rows without a value.
    pub fn add_missing(&mut self, rows: u64) {
        self.missing += rows;
    }

    /// Counts rows with a value that is not a number.
    pub fn add_unreadable(&mut self, rows: u64) {
        self.unreadable += rows;
    }

    /// Adds the rows of another part.
    pub fn merge(&mut self, other: &Self) {
        self.buckets.merge(&other.buckets);
        self.missing += other.missing;
        self.non_finite += other.non_finite;
        self.unreadable += other.unreadable;
        self.moments.merge(&other.moments);
        if let Some(range) = other.range {
            self.widen(range);
        }
    }

    /// Rows without a value.
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// Rows with NaN or an infinity.
    pub fn non_finite(&self) -> u64 {
        self.non_finite
    }

    /// Rows with a value that is not a number.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// Rows with a finite number.
    pub fn finite(&self) -> u64 {
        self.moments.rows()
    }

    /// The smallest and the largest finite number.
    pub fn range(&self) -> Option<(f64, f64)> {
        self.range
    }

    /// Mean and standard deviation of the finite numbers.
    pub fn moments(&self) -> &Moments {
        &self.moments
    }

    /// Whether every distinct value has a count of its own, so that every statistic of the finite numbers is exact.
    pub fn is_exact(&self) -> bool {
        self.buckets.is_exact()
    }

    /// The number of distinct values; `None` once values share buckets.
    pub fn distinct(&self) -> Option<usize> {
        self.is_exact().then(|| self.buckets.len())
    }

    /// The largest error of a rank: the share of finite numbers in the fullest bucket of more than one value. Zero while the profile is
    /// exact.
    pub fn rank_error(&self) -> f64 {
        if self.is_exact() || self.finite() == 0 {
            return 0.0;
        }
        let fullest = self.buckets.at_shift(self.buckets.shift()).into_iter().map(|(_, rows)| rows).max().unwrap_or(0);
        fullest as f64 / self.finite() as f64
    }

    /// The `q` quantile of the finite numbers (type 1 of Hyndman and Fan 1996), at the resolution of the buckets; `None` without
    /// numbers.
    pub fn quantile(&self, q: f64) -> Option<f64> {
        let rank = (q.clamp(0.0, 1.0) * self.finite() as f64).ceil().max(1.0) as u64;
        let mut below = 0;
        let bucket = self.buckets().into_iter().find(|bucket| {
            below += bucket.rows;
            below >= rank
        })?;
        self.range.map(|(min, max)| bucket.middle().clamp(min, max))
    }

    /// The distinct finite values, ascending, with their rows; shared buckets by their middle.
    pub fn values(&self) -> Vec<(f64, u64)> {
        let Some((min, max)) = self.range else { return Vec::new() };
        self.buckets().into_iter().map(|bucket| (bucket.middle().clamp(min, max), bucket.rows)).collect()
    }

    pub(crate) fn buckets(&self) -> Vec<Bucket<u64>> {
        let shift = self.buckets.shift();
        self.buckets.at_shift(shift).into_iter().map(|(prefix, rows)| bucket(prefix, shift, rows)).collect()
    }

    /// The buckets of two profiles at the coarser resolution of the two, ascending, with the rows of each.
    pub(crate) fn aligned(&self, other: &Self) -> Vec<Bucket<(u64, u64)>> {
        let shift = self.buckets.shift().max(other.buckets.shift());
        let pairs = crate::sketch::aligned(&self.buckets, &other.buckets);
        pairs.into_iter().map(|(prefix, rows)| bucket(prefix, shift, rows)).collect()
    }

    pub(super) fn checked_rows(&self) -> Option<u64> {
        self.finite().checked_add(self.missing)?.checked_add(self.non_finite)?.checked_add(self.unreadable)
    }

    fn add_finite(&mut self, values: &[f64]) {
        let Some(range) = range(values) else { return };
        self.buckets.add_all(values.iter().map(|&value| key_of(value)));
        self.widen(range);
        self.moments.merge(&Moments::of(values));
    }

    fn widen(&mut self, (low, high): (f64, f64)) {
        self.range = Some(self.range.map_or((low, high), |(min, max)| (min.min(low), max.max(high))));
    }
}

impl Default for Numeric {
    fn default() -> Self {
        Self::new()
    }
}

/// The smallest and the largest of finite numbers, in several independent folds, so that the loop is vectorised.
fn range(values: &[f64]) -> Option<(f64, f64)> {
    const LANES: usize = 8;
    let &first = values.first()?;
    let (chunks, rest) = values.as_chunks::<LANES>();
    let (mut least, mut most) = ([first; LANES], [first; LANES]);
    for chunk in chunks {
        least.iter_mut().zip(chunk).for_each(|(least, &value)| *least = if value < *least { value } else { *least });
        most.iter_mut().zip(chunk).for_each(|(most, &value)| *most = if value > *most { value } else { *most });
    }
    let ends = least.iter().chain(&most).chain(rest);
    Some(ends.fold((first, first), |(min, max), &value| (min.min(value), max.max(value))))
}

fn bucket<R>(prefix: u64, shift: u32, rows: R) -> Bucket<R> {
    let (first, last) = PrefixCounts::keys_of(prefix, shift);
    // The outermost prefixes extend beyond the finite floats, into the keys of NaN.
    let low = float_of(first.max(key_of(f64::MIN)));
    let high = float_of(last.min(key_of(f64::MAX)));
    Bucket { low, high, rows }
}

/// The stored fields, which are validated on reading.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    buckets: PrefixCounts,
    missing: u64,
    non_finite: u64,
    #[serde(default, skip_serializing_if = "super::is_zero")]
    unreadable: u64,
    moments: Moments,
    range: Option<(f64, f64)>,
}

impl From<Numeric> for Stored {
    fn from(numeric: Numeric) -> Self {
        let Numeric { buckets, missing, non_finite, unreadable, moments, range } = numeric;
        Self { buckets, missing, non_finite, unreadable, moments, range }
    }
}

impl TryFrom<Stored> for Numeric {
    type Error = &'static str;

    fn try_from(stored: Stored) -> Result<Self, Self::Error> {
        let Stored { buckets, missing, non_finite, unreadable, moments, range } = stored;
        if !is_range_of(range, &buckets) || !moments.are_sound() || moments.rows() != buckets.rows() {
            return Err("the buckets, the range and the moments are inconsistent");
        }
        Ok(Self { buckets, missing, non_finite, unreadable, moments, range })
    }
}

/// Whether the smallest and the largest value are finite and in the first and the last bucket, so that no bucket is in the keys of
/// NaN.
fn is_range_of(range: Option<(f64, f64)>, buckets: &PrefixCounts) -> bool {
    let prefixes = buckets.at_shift(buckets.shift());
    match (range, prefixes.first(), prefixes.last()) {
        (Some((min, max)), Some((first, _)), Some((last, _))) => {
            let is_in = |value: f64, prefix: u64| value.is_finite() && key_of(value) >> buckets.shift() == prefix;
            min <= max && is_in(min, *first) && is_in(max, *last)
        }
        (None, None, None) => true,
        _ => false,
    }
}
