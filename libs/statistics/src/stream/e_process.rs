//! Evidence that a mean is above a bound, which may be looked at after every value.

use serde::{Deserialize, Serialize};

use super::{Bounds, Checked, Signal, bounded::PlugIn, check_option};
use crate::{Error, error::check_share};

/// A betting e-process for "the mean is at most `mean`" (Waudby-Smith and Ramdas 2024, "Estimating means of bounded
/// random variables by betting", JRSS-B 86(1); the bets are their aGRAPA).
///
/// The value starts at 1 and is multiplied by `1 + bet (x - m)`, with `x` and `m` the value and the bound scaled to
/// [0, 1], and a bet of `(mu - m) / (v + (mu - m)^2)`, kept from 0 to `1 / (2 m)`, from the mean `mu` and variance `v`
/// of the values before. As long as every value has a mean of at most the bound given the values before it, it is a
/// nonnegative supermartingale: it ever reaches `1 / alpha` with a chance of at most `alpha` (Ville 1939), whatever
/// rule decides when to look and stop. The values need not be independent.
///
/// The made-up first value of the plug-in mean is the bound itself instead of 1/2, so that nothing is bet before there
/// is a reason to; any choice made before the value is seen keeps the guarantee.
///
/// Edge cases. The hypothesis is about the mean from the first value on. Values that were below the bound for long are
/// held against a later rise, so for a change at an unknown time take [`EDetector`](super::EDetector). For "the mean
/// is at least" negate the values, the mean and the bounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EProcess {
    #[serde(deserialize_with = "super::checked")]
    options: Options,
    plug_in: PlugIn,
    log_value: f64,
    log_peak: f64,
}

/// Hypothesis, level and bounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The largest mean under the hypothesis, strictly within the bounds.
    pub mean: f64,
    /// The chance of ever rejecting a true hypothesis, in (0, 1).
    pub alpha: f64,
    /// Where all values lie.
    pub bounds: Bounds,
}

impl Options {
    /// Values in [0, 1], at the level 0.05.
    pub fn at_most(mean: f64) -> Self {
        Self { mean, alpha: 0.05, bounds: Bounds::UNIT }
    }

    /// The mean scaled to [0, 1].
    pub(super) fn scaled_mean(&self) -> f64 {
        (self.mean - self.bounds.low) / (self.bounds.high - self.bounds.low)
    }
}

impl Checked for Options {
    fn check(&self) -> Result<(), Error> {
        check_share("alpha of the e-values", self.alpha)?;
        self.bounds.check()?;
        let scaled = self.scaled_mean();
        let fits = scaled > SMALLEST_MEAN && scaled < 1.0;
        check_option("mean under the hypothesis", self.mean, fits, "a mean strictly within the bounds")
    }
}

/// The least scaled mean: below it the bets would overflow.
const SMALLEST_MEAN: f64 = 1e-100;

impl EProcess {
    /// Before the first value: the value is 1.
    ///
    /// # Errors
    /// `alpha` outside (0, 1); bounds that are not finite or not in ascending order; a mean not strictly within them.
    pub fn new(options: Options) -> Result<Self, Error> {
        options.check()?;
        Ok(Self { options, plug_in: PlugIn::new(options.scaled_mean()), log_value: 0.0, log_peak: 0.0 })
    }

    /// Takes the next value; [`Signal::Drift`] from the value on that takes the e-process to `1 / alpha`. Never warns.
    ///
    /// # Errors
    /// A value outside the bounds, or NaN.
    pub fn update(&mut self, value: f64) -> Result<Signal, Error> {
        let x = self.options.bounds.scale("e-process", self.plug_in.count, value)?;
        let mean = self.options.scaled_mean();
        let excess = self.plug_in.mean() - mean;
        let bet = (excess / (self.plug_in.variance() + excess * excess)).clamp(0.0, 0.5 / mean);
        self.log_value += (bet * (x - mean)).ln_1p();
        self.log_peak = self.log_peak.max(self.log_value);
        self.plug_in.push(x);
        Ok(if self.rejects() { Signal::Drift } else { Signal::Quiet })
    }

    /// Natural logarithm of the e-process: the evidence now.
    pub fn log_value(&self) -> f64 {
        self.log_value
    }

    /// The e-process, or the largest number where it is larger still.
    pub fn value(&self) -> f64 {
        self.log_value.exp().min(f64::MAX)
    }

    /// A p-value that holds at all times at once: 1 over the largest value so far.
    pub fn p_value(&self) -> f64 {
        (-self.log_peak).exp()
    }

    /// Whether the e-process ever reached `1 / alpha`.
    pub fn rejects(&self) -> bool {
        self.log_peak >= -self.options.alpha.ln()
    }

    /// Values so far.
    pub fn seen(&self) -> u64 {
        self.plug_in.count
    }
}
