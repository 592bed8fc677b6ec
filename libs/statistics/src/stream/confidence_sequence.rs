//! A confidence interval for a mean that is valid after every value.

use serde::{Deserialize, Serialize};

use super::{Bounds, Checked, bounded::PlugIn, check_state};
use crate::{Error, error::check_share};

/// The predictable plug-in empirical Bernstein confidence sequence (Waudby-Smith and Ramdas 2024, "Estimating means of
/// bounded random variables by betting", JRSS-B 86(1), Theorem 2), with the running intersection.
///
/// If every value is within the bounds and has the same mean given the previous values, then with a probability of at
/// least `1 - alpha` the interval contains that mean after every value simultaneously. Independence and equal
/// distributions are not required. With `x` scaled to [0, 1], `mu` and `v` the plug-in mean and variance of the previous values,
/// and
///
/// ```text
/// bet    = min(sqrt(2 ln(2/alpha) / (v t ln(1 + t))), 1/2)
/// centre = sum(bet x) / sum(bet)
/// radius = (ln(2/alpha) + sum((x - mu)^2 (-ln(1 - bet) - bet))) / sum(bet)
/// ```
///
/// the interval after `t` values is the intersection of all `centre +- radius` so far. Its width decreases as
/// `sqrt(ln(t) / t)` up to a factor and scales with the unknown standard deviation.
///
/// Edge cases. Before the first value, and for some values after it, the interval equals the bounds. An empty intersection
/// means that no single mean fits: the mean has moved, or, with probability `alpha`, the interval has missed it.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct ConfidenceSequence {
    options: Options,
    plug_in: PlugIn,
    /// Sum of the bets, of the bets times their values, and of the variance terms.
    bets: f64,
    weighted: f64,
    spread: f64,
    /// Scaled to [0, 1].
    interval: Interval,
}

/// Level and bounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// The probability that the interval ever misses the mean, in (0, 1).
    pub alpha: f64,
    /// The interval of all possible values.
    pub bounds: Bounds,
}

impl Default for Options {
    fn default() -> Self {
        Self { alpha: 0.05, bounds: Bounds::UNIT }
    }
}

impl Checked for Options {
    fn check(&self) -> Result<(), Error> {
        check_share("confidence sequence alpha", self.alpha)?;
        self.bounds.check()
    }
}

/// A closed interval.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Interval {
    /// The lower end.
    pub low: f64,
    /// The upper end.
    pub high: f64,
}

/// The largest bet, which keeps all factors of the martingale away from 0 (the paper recommends 1/2 or 3/4).
const LARGEST_BET: f64 = 0.5;

impl Checked for ConfidenceSequence {
    fn check(&self) -> Result<(), Error> {
        self.options.check()?;
        let Self { bets, weighted, spread, interval, .. } = *self;
        let sums = [bets, weighted, spread].iter().all(|sum| (0.0..=f64::MAX).contains(sum));
        // Without bets the interval would divide by 0; an empty interval has its ends crossed.
        let has_bet = (bets > 0.0) == (self.plug_in.count > 0);
        let ends = (0.0..=f64::MAX).contains(&interval.low) && (f64::MIN..=1.0).contains(&interval.high);
        check_state("confidence sequence", sums && has_bet && ends && self.plug_in.is_sound())
    }
}

impl ConfidenceSequence {
    /// Before the first value.
    ///
    /// # Errors
    /// `alpha` outside (0, 1); bounds that are not finite or not in ascending order.
    pub fn new(options: Options) -> Result<Self, Error> {
        options.check()?;
        let interval = Interval { low: 0.0, high: 1.0 };
        Ok(Self { options, plug_in: PlugIn::new(0.5), bets: 0.0, weighted: 0.0, spread: 0.0, interval })
    }

    /// Takes the next value.
    ///
    /// # Errors
    /// A value outside the bounds, or NaN.
    pub fn update(&mut self, value: f64) -> Result<(), Error> {
        let x = self.options.bounds.scale("confidence sequence", self.plug_in.count, value)?;
        let log = (2.0 / self.options.alpha).ln();
        let bet = self.bet(log);
        self.bets += bet;
        self.weighted += bet * x;
        self.spread += (x - self.plug_in.mean()).powi(2) * (-(-bet).ln_1p() - bet);
        self.plug_in.push(x);
        let (centre, radius) = (self.weighted / self.bets, (log + self.spread) / self.bets);
        self.interval.low = self.interval.low.max(centre - radius);
        self.interval.high = self.interval.high.min(centre + radius);
        Ok(())
    }

    /// The interval, in the units of the values; `None` if no single mean fits all values so far.
    pub fn interval(&self) -> Option<Interval> {
        let Interval { low, high } = self.interval;
        let bounds = self.options.bounds;
        (low <= high).then(|| Interval { low: bounds.unscale(low), high: bounds.unscale(high) })
    }

    /// Values so far.
    pub fn seen(&self) -> u64 {
        self.plug_in.count
    }

    /// The next bet, from the previous values only.
    fn bet(&self, log: f64) -> f64 {
        let t = self.plug_in.count as f64 + 1.0;
        (2.0 * log / (self.plug_in.variance() * t * t.ln_1p())).sqrt().min(LARGEST_BET)
    }
}
