//! ADWIN: a window over the recent values that grows while the mean is stable and shrinks when it changes.

use std::collections::VecDeque;

use serde::{Deserialize, Serialize};

use super::{Checked, LARGEST, Signal, check_option, check_size, check_state, is_within};
use crate::{Error, error::check_share};

const WHAT: &str = "ADWIN";

/// The limit of buckets of one size: with few of them, memory grows with the logarithm of the window.
const MOST_BUCKETS: usize = 1 << 16;

/// ADWIN2 (Bifet and Gavalda 2007, "Learning from time-changing data with adaptive windowing", SDM, Section 4).
///
/// The window is split at every boundary between two buckets into an older part of `n0` values and a newer one of `n1`.
/// If the two means differ by more than
///
/// ```text
/// eps = sqrt(2 m v L) + 2/3 m L,   L = ln(2 ln(W) / delta),   v the variance of the window of W values
/// ```
///
/// the oldest bucket is dropped and the window is checked again (Section 3, the bound for an approximately normal
/// difference, with `delta / ln W` for the number of cuts). [`Mode`] defines `m`, and the window after a detection.
///
/// Memory and time per value are O(max_buckets log W): buckets have 1, 1, .., 2, 2, .., 4, .. values, at most
/// `max_buckets` of a size (the exponential histogram of Datar and others 2002; sums of squares are merged by the rule
/// of Chan, Golub and LeVeque 1979, means by that of Welford 1962).
///
/// Edge cases. The second term of the bound assumes values in [0, 1]: scale others first, or changes of large values are detected too
/// often and changes of small values too late. `delta` is the level of each check and not a rate over the whole
/// stream. A constant stream never alarms: the means of equal values are equal to the last bit, for any size. One extreme value raises
/// `v` so far that with few buckets no cut is ever found again: clip such values first.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Adwin {
    options: Options,
    /// From the oldest to the newest, in descending size.
    buckets: VecDeque<Part>,
    window: Part,
    seen: u64,
    detections: u64,
    last: Signal,
}

/// The options of ADWIN.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The level of each check, in (0, 1).
    pub delta: f64,
    /// Values between two checks, at least 1.
    pub clock: u64,
    /// Buckets of one size before two of them are merged, at least 1 and at most 65,536. More buckets mean more cuts.
    pub max_buckets: usize,
    /// The smallest number of values on either side of a cut, at least 1.
    pub min_window_length: u64,
    /// No check until the window has more values than this.
    pub grace_period: u64,
    /// The version of the algorithm.
    pub mode: Mode,
}

impl Default for Options {
    /// The defaults of river 0.26.1.
    fn default() -> Self {
        Self { delta: 0.002, clock: 32, max_buckets: 5, min_window_length: 5, grace_period: 10, mode: Mode::River }
    }
}

impl Options {
    /// The algorithm of the paper: a check after every value, at every cut, including those with a single value on one side.
    /// It requires values in [0, 1]: on lognormal values it alarms 20 times in 10,000.
    pub fn paper() -> Self {
        Self { clock: 1, min_window_length: 1, grace_period: 1, mode: Mode::Paper, ..Self::default() }
    }
}

impl Checked for Options {
    fn check(&self) -> Result<(), Error> {
        let (buckets, length) = (self.max_buckets, self.min_window_length);
        check_share("ADWIN delta", self.delta)?;
        check_option("ADWIN clock", self.clock as f64, self.clock >= 1, "at least 1")?;
        let fits = (1..=MOST_BUCKETS).contains(&buckets);
        check_option("ADWIN max_buckets", buckets as f64, fits, "at least 1 and at most 65,536")?;
        check_option("ADWIN min_window_length", length as f64, length >= 1, "at least 1")
    }
}

/// The two versions of ADWIN.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Mode {
    /// `m = 1/n0 + 1/n1`. A detection drops old buckets and keeps the rest of the window, so that the mean after it is
    /// that of the new regime; [`Adwin::detections`] counts over the whole stream.
    Paper,
    /// As river 0.26.1: `m = 1/(n0 - l + 1) + 1/(n1 - l + 1)` with `l` the minimum length of a part, which tolerates larger differences
    /// of short parts; the value after a detection starts a new window and resets the number of detections and the clock to 0.
    River,
}

impl Adwin {
    /// An empty window.
    ///
    /// # Errors
    /// `delta` outside (0, 1); a clock, bucket count or minimum length of 0; more than 65,536 buckets.
    pub fn new(options: Options) -> Result<Self, Error> {
        options.check()?;
        Ok(Self::empty(options))
    }

    fn empty(options: Options) -> Self {
        let (buckets, window) = (VecDeque::new(), Part::default());
        Self { options, buckets, window, seen: 0, detections: 0, last: Signal::Quiet }
    }

    /// Takes the next value; [`Signal::Drift`] when the window shrank. Never warns.
    ///
    /// # Errors
    /// A value that is not finite, or larger than [`LARGEST`] in size.
    pub fn update(&mut self, value: f64) -> Result<Signal, Error> {
        check_size(WHAT, self.seen, value)?;
        if self.last == Signal::Drift && self.options.mode == Mode::River {
            *self = Self::empty(self.options);
        }
        self.seen = self.seen.saturating_add(1);
        self.insert(value);
        self.last = if self.is_due() && self.shrink() { Signal::Drift } else { Signal::Quiet };
        if self.last == Signal::Drift {
            self.detections = self.detections.saturating_add(1);
        }
        Ok(self.last)
    }

    /// Values in the window.
    pub fn width(&self) -> u64 {
        self.window.count as u64
    }

    /// Mean of the window (river's `estimation`), or `None` before the first value.
    pub fn mean(&self) -> Option<f64> {
        (self.window.count > 0.0).then_some(self.window.mean)
    }

    /// Sum of the squared deviations from the mean of the window, which river calls `variance`. Divide by the width for the variance.
    pub fn sum_of_squares(&self) -> f64 {
        self.window.squares
    }

    /// Detections so far; in river mode since the last reset of the window, so 0 or 1.
    pub fn detections(&self) -> u64 {
        self.detections
    }

    /// The number of buckets, which need 24 bytes each.
    pub fn buckets(&self) -> usize {
        self.buckets.len()
    }

    fn is_due(&self) -> bool {
        self.seen.is_multiple_of(self.options.clock) && self.window.count > self.options.grace_period as f64
    }

    fn insert(&mut self, value: f64) {
        let part = Part { count: 1.0, mean: value, squares: 0.0 };
        self.window = self.window.with(part);
        self.buckets.push_back(part);
        self.compress();
    }

    /// Merges the two oldest buckets of every size with too many buckets, starting at the newest size.
    fn compress(&mut self) {
        let most = self.options.max_buckets;
        let mut end = self.buckets.len();
        while end > most {
            let oldest = end - 1 - most;
            if self.buckets[oldest].count != self.buckets[end - 1].count {
                return;
            }
            if let Some(next) = self.buckets.remove(oldest + 1) {
                self.buckets[oldest] = self.buckets[oldest].with(next);
            }
            end = oldest + 1;
        }
    }

    /// Drops the oldest buckets until no cut has a significant difference. Returns whether one had.
    fn shrink(&mut self) -> bool {
        let mut shrunk = false;
        while self.has_cut() {
            self.buckets.pop_front();
            // Recomputed rather than subtracted: subtracting a huge value would lose the digits of the rest.
            self.window = self.buckets.iter().fold(Part::default(), |sum, &part| sum.with(part));
            shrunk = true;
        }
        shrunk
    }

    fn has_cut(&self) -> bool {
        let least = self.options.min_window_length as f64;
        let log = (2.0 * self.window.count.ln() / self.options.delta).ln();
        let spread = 2.0 * self.window.squares / self.window.count * log;
        let mut older = Part::default();
        for (&bucket, newer) in self.buckets.iter().zip(self.newer_parts()) {
            older = older.with(bucket);
            if newer.count < least {
                return false;
            }
            let harmonic = self.reciprocals(older.count, newer.count);
            let bound = (harmonic * spread).sqrt() + 2.0 / 3.0 * log * harmonic;
            if older.count >= least && (older.mean - newer.mean).abs() > bound {
                return true;
            }
        }
        false
    }

    /// The sum of all buckets newer than each bucket except the newest, from the oldest on. Accumulated from the newest rather than
    /// subtracted from the window, so that older values leave no rounding error.
    fn newer_parts(&self) -> Vec<Part> {
        let newest_first = self.buckets.iter().skip(1).rev();
        let sums = newest_first.scan(Part::default(), |newer, bucket| {
            *newer = bucket.with(*newer);
            Some(*newer)
        });
        let mut parts: Vec<Part> = sums.collect();
        parts.reverse();
        parts
    }

    /// The `m` of the mode.
    fn reciprocals(&self, older: f64, newer: f64) -> f64 {
        let correction = match self.options.mode {
            Mode::Paper => 0.0,
            Mode::River => self.options.min_window_length as f64 - 1.0,
        };
        1.0 / (older - correction) + 1.0 / (newer - correction)
    }
}

/// Count, mean and squared deviations of neighbouring values. The count is exact up to 2^53. It has the mean and not the sum, since the
/// merged mean of equal means is the same to the last bit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Part {
    count: f64,
    mean: f64,
    squares: f64,
}

impl Part {
    /// Both parts as one.
    fn with(self, other: Part) -> Part {
        if self.count <= 0.0 || other.count <= 0.0 {
            return if self.count <= 0.0 { other } else { self };
        }
        let (count, apart) = (self.count + other.count, other.mean - self.mean);
        let squares = self.squares + other.squares + apart * apart * (self.count * other.count / count);
        Part { count, mean: self.mean + apart * (other.count / count), squares }
    }

    fn is_sound(&self) -> bool {
        let whole = (0.0..=MOST_VALUES).contains(&self.count) && self.count.fract() == 0.0;
        whole && is_within(self.mean, LARGEST) && (0.0..=MOST_VALUES * 4.0 * LARGEST * LARGEST).contains(&self.squares)
    }
}

/// The largest exact count.
const MOST_VALUES: f64 = (1_u64 << 53) as f64;

impl Checked for Adwin {
    fn check(&self) -> Result<(), Error> {
        self.options.check()?;
        let Self { buckets, window, .. } = self;
        let all = buckets.iter().fold(Part::default(), |sum, &part| sum.with(part));
        // Both are sums of the same values with different rounding.
        let largest = buckets.iter().fold(0.0, |largest: f64, part| largest.max(part.mean.abs()));
        let is_sum = window.count == all.count && is_within(window.mean - all.mean, 1e-6 * largest);
        let sizes = buckets.iter().zip(buckets.iter().skip(1)).all(|(older, newer)| older.count >= newer.count);
        let each = buckets.iter().chain([window]).all(Part::is_sound) && buckets.iter().all(|part| part.count >= 1.0);
        check_state(WHAT, each && sizes && is_sum && self.seen as f64 >= window.count)
    }
}
