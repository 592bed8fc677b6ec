//! KSWIN: the newest values compared with a random sample of earlier ones by the Kolmogorov-Smirnov test.

use std::collections::VecDeque;

use rand::{SeedableRng, seq::SliceRandom};
use rand_chacha::ChaCha8Rng;
use serde::{Deserialize, Serialize};

use super::{Checked, Signal, check_option, check_state, check_value};
use crate::{Error, error::check_share};

const WHAT: &str = "KSWIN";

/// The largest number of compared values, which are sorted at every update.
const MOST: usize = 1_000_000;

/// The largest window, which is copied at every update.
const MOST_REMEMBERED: usize = 10 * MOST;

/// Kolmogorov-Smirnov windowing (Raab, Heusinger and Schleif 2020, "Reactive soft prototype computing for concept
/// drift streams", Neurocomputing 416), in the convention of river 0.26.1.
///
/// Once the window is full, the newest `stat_size` values are compared after every value with as many drawn without
/// replacement from the rest of the window. Drift when the exact two-sided two-sample p-value is at most `alpha` and
/// the distance is above 0.1. (The paper, and river's documentation, compare the distance with `sqrt(-ln(alpha) /
/// stat_size)`.) The value after a drift starts an empty window.
///
/// The p-value is the closed form for two samples of one size (Gnedenko and Korolyuk 1951); with ties it is
/// conservative. Since it depends on the distance only, the smallest distance that alarms is computed once. Each draw
/// depends only on the seed and the number of values since the start, so equal streams give equal signals, also after
/// a restart.
///
/// Edge cases. With `window_size = 2 stat_size` the draw is all of the older half, and the seed has no effect. A
/// constant stream never alarms. The level applies to every value: at the defaults a stream without change
/// alarms about 10 times in 10,000 values.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored")]
pub struct Kswin {
    options: Options,
    /// The smallest distance that alarms, times `stat_size`, computed from the options.
    #[serde(skip)]
    critical: usize,
    window: VecDeque<f64>,
    /// Values since the start or the last detection.
    seen: u64,
    /// The last distance, times `stat_size`.
    gap: Option<usize>,
    last: Signal,
}

/// The serialised state.
#[derive(Deserialize)]
struct Stored {
    options: Options,
    window: VecDeque<f64>,
    seen: u64,
    gap: Option<usize>,
    last: Signal,
}

impl TryFrom<Stored> for Kswin {
    type Error = Error;

    fn try_from(Stored { options, window, seen, gap, last }: Stored) -> Result<Self, Error> {
        let Options { window_size, stat_size, .. } = options;
        let fits = window.len() <= window_size && window.len() as u64 <= seen && gap.is_none_or(|gap| gap <= stat_size);
        check_state(WHAT, fits && window.iter().all(|value| value.is_finite()))?;
        Ok(Self { window, seen, gap, last, ..Self::new(options)? })
    }
}

/// The options of KSWIN.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Level of each check, in (0, 1).
    pub alpha: f64,
    /// Size of the window, at least twice `stat_size` and at most 10,000,000.
    pub window_size: usize,
    /// Values compared, at least 1 and at most 1,000,000.
    pub stat_size: usize,
    /// Seed of the draws.
    pub seed: u64,
}

impl Default for Options {
    /// The defaults of river 0.26.1, and seed 0.
    fn default() -> Self {
        Self { alpha: 0.005, window_size: 100, stat_size: 30, seed: 0 }
    }
}

impl Checked for Options {
    fn check(&self) -> Result<(), Error> {
        let Self { alpha, window_size, stat_size, .. } = *self;
        check_share("KSWIN alpha", alpha)?;
        let fits = (1..=MOST).contains(&stat_size) && stat_size <= window_size / 2;
        let expected = "at least 1, at most 1,000,000 and at most half of window_size";
        check_option("KSWIN stat_size", stat_size as f64, fits, expected)?;
        let fits = window_size <= MOST_REMEMBERED;
        check_option("KSWIN window_size", window_size as f64, fits, "at most 10,000,000")?;
        let enough = p_value(stat_size, stat_size) <= alpha;
        check_option("KSWIN stat_size", stat_size as f64, enough, "enough values for a p-value as small as alpha")
    }
}

impl Kswin {
    /// An empty window.
    ///
    /// # Errors
    /// `alpha` outside (0, 1); a `stat_size` of 0, above a million or above half the window, or so small that even
    /// the largest distance has a p-value above `alpha`; a window of more than ten million.
    pub fn new(options: Options) -> Result<Self, Error> {
        options.check()?;
        let critical = critical_gap(options.alpha, options.stat_size);
        Ok(Self { options, critical, window: VecDeque::new(), seen: 0, gap: None, last: Signal::Quiet })
    }

    /// Takes the next value. Never warns.
    ///
    /// # Errors
    /// A value that is not finite.
    pub fn update(&mut self, value: f64) -> Result<Signal, Error> {
        check_value(WHAT, self.seen, value, value.is_finite(), "a finite number")?;
        if self.last == Signal::Drift {
            self.window.clear();
            (self.seen, self.gap) = (0, None);
        }
        self.seen = self.seen.saturating_add(1);
        self.window.push_back(value);
        if self.window.len() > self.options.window_size {
            self.window.pop_front();
        }
        self.gap = (self.window.len() >= self.options.window_size).then(|| self.compare());
        self.last = if self.gap.is_some_and(|gap| gap >= self.critical) { Signal::Drift } else { Signal::Quiet };
        Ok(self.last)
    }

    /// P-value of the last comparison; `None` until the window is full.
    pub fn p_value(&self) -> Option<f64> {
        self.gap.map(|gap| p_value(gap, self.options.stat_size))
    }

    fn compare(&mut self) -> usize {
        let newest = self.window.len().saturating_sub(self.options.stat_size);
        let mut older: Vec<f64> = self.window.iter().take(newest).copied().collect();
        let mut newer: Vec<f64> = self.window.iter().skip(newest).copied().collect();
        let mut random = ChaCha8Rng::seed_from_u64(self.options.seed);
        random.set_stream(self.seen);
        let (drawn, _) = older.partial_shuffle(&mut random, newer.len());
        drawn.sort_unstable_by(f64::total_cmp);
        newer.sort_unstable_by(f64::total_cmp);
        largest_gap(drawn, &newer)
    }
}

/// The smallest gap above a tenth of `n` with a p-value of at most `alpha`. The p-value decreases with the gap.
fn critical_gap(alpha: f64, n: usize) -> usize {
    let (mut low, mut high) = (n / 10 + 1, n);
    while low < high {
        let middle = low + (high - low) / 2;
        if p_value(middle, n) <= alpha {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    low
}

/// The largest difference of the cumulative counts of two sorted samples.
fn largest_gap(left: &[f64], right: &[f64]) -> usize {
    let (mut i, mut j, mut gap) = (0, 0, 0);
    while i < left.len() && j < right.len() {
        let at = left[i].min(right[j]);
        i += left[i..].iter().take_while(|&&value| value <= at).count();
        j += right[j..].iter().take_while(|&&value| value <= at).count();
        gap = gap.max(i.abs_diff(j));
    }
    gap
}

/// Probability of a distance of at least `gap / n` between two samples of `n` values of one continuous distribution: `2 sum over k >=
/// 1 of (-1)^(k-1) C(2n, n - k gap) / C(2n, n)` (Gnedenko and Korolyuk 1951).
fn p_value(gap: usize, n: usize) -> f64 {
    let gap = gap.min(n);
    if gap == 0 {
        return 1.0;
    }
    let (mut sum, mut term, mut sign) = (0.0, 1.0, 1.0);
    for start in (0..=n - gap).step_by(gap) {
        let range = start + 1..=start + gap;
        term *= range.map(|i| (n - i + 1) as f64 / (n + i) as f64).product::<f64>();
        sum += sign * term;
        sign = -sign;
    }
    (2.0 * sum).clamp(0.0, 1.0)
}
