//! Evidence that a mean is beyond a bound, which may be looked at after every value.

use std::f64::consts::LN_2;

use serde::{Deserialize, Serialize};

use super::{Bounds, Checked, Direction, Signal, bounded::PlugIn, check_state, is_within};
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
/// That is [`Direction::Rise`]. [`Direction::Fall`] is the same of the values, mean and bounds negated: evidence
/// against "the mean is at least `mean`". [`Direction::Both`] is the mean of the two, which is a martingale as they
/// are if every value has the mean `mean` given the values before it: evidence against that, in either direction, a
/// factor of 2 behind the one in the direction that was right.
///
/// The made-up first value of the plug-in mean is the bound itself instead of 1/2, so that nothing is bet before there
/// is a reason to; any choice made before the value is seen keeps the guarantee.
///
/// Edge cases. The hypothesis is about the mean from the first value on. Values that were below the bound for long are
/// held against a later rise, so for a change at an unknown time take [`EDetector`](super::EDetector).
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct EProcess {
    options: Options,
    plug_in: PlugIn,
    /// Natural logarithms of the e-processes against a rise and a fall.
    log_rise: f64,
    log_fall: f64,
    /// Of the one asked for, the largest so far.
    log_peak: f64,
}

/// Hypothesis, level and bounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The largest, least or only mean under the hypothesis, strictly within the bounds.
    pub mean: f64,
    /// The chance of ever rejecting a true hypothesis, in (0, 1).
    pub alpha: f64,
    /// Where all values lie.
    pub bounds: Bounds,
    /// On which side of the mean evidence counts.
    pub direction: Direction,
}

impl Options {
    /// Evidence of a mean above this one: values in [0, 1], at the level 0.05.
    pub fn at_most(mean: f64) -> Self {
        Self { mean, alpha: 0.05, bounds: Bounds::UNIT, direction: Direction::Rise }
    }

    /// Evidence of a mean below this one: values in [0, 1], at the level 0.05.
    pub fn at_least(mean: f64) -> Self {
        Self { direction: Direction::Fall, ..Self::at_most(mean) }
    }
}

impl Checked for Options {
    fn check(&self) -> Result<(), Error> {
        check_share("e-process alpha", self.alpha)?;
        self.bounds.check_mean(self.mean)
    }
}

/// More than the logarithm of any product of 2^64 factors.
const LARGEST_LOG: f64 = 1e22;

impl Checked for EProcess {
    fn check(&self) -> Result<(), Error> {
        self.options.check()?;
        let logs = [self.log_rise, self.log_fall, self.log_peak].iter().all(|log| is_within(*log, LARGEST_LOG));
        check_state("e-process", logs && self.log_peak >= self.log_value().max(0.0) && self.plug_in.is_sound())
    }
}

impl EProcess {
    /// Before the first value: the value is 1.
    ///
    /// # Errors
    /// `alpha` outside (0, 1); bounds that are not finite or not in ascending order; a mean not strictly within them.
    pub fn new(options: Options) -> Result<Self, Error> {
        options.check()?;
        let plug_in = PlugIn::new(options.bounds.scaled_mean(options.mean));
        Ok(Self { options, plug_in, log_rise: 0.0, log_fall: 0.0, log_peak: 0.0 })
    }

    /// Takes the next value; [`Signal::Drift`] from the value on that takes the e-process to `1 / alpha`. Never warns.
    ///
    /// # Errors
    /// A value outside the bounds, or NaN.
    pub fn update(&mut self, value: f64) -> Result<Signal, Error> {
        let Options { mean, bounds, .. } = self.options;
        let x = bounds.scale("e-process", self.plug_in.count, value)?;
        let mean = bounds.scaled_mean(mean);
        let excess = self.plug_in.mean() - mean;
        let bet = excess / (self.plug_in.variance() + excess * excess);
        self.log_rise += (bet.clamp(0.0, 0.5 / mean) * (x - mean)).ln_1p();
        self.log_fall += ((-bet).clamp(0.0, 0.5 / (1.0 - mean)) * (mean - x)).ln_1p();
        self.log_peak = self.log_peak.max(self.log_value());
        self.plug_in.push(x);
        Ok(if self.rejects() { Signal::Drift } else { Signal::Quiet })
    }

    /// Natural logarithm of the e-process: the evidence now.
    pub fn log_value(&self) -> f64 {
        match self.options.direction {
            Direction::Rise => self.log_rise,
            Direction::Fall => self.log_fall,
            Direction::Both => {
                let (larger, smaller) = (self.log_rise.max(self.log_fall), self.log_rise.min(self.log_fall));
                larger + (smaller - larger).exp().ln_1p() - LN_2
            }
        }
    }

    /// The e-process, or the largest number where it is larger still.
    pub fn value(&self) -> f64 {
        self.log_value().exp().min(f64::MAX)
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
