//! A sequential test that a mean is beyond a bound, valid after every value.

use std::f64::consts::LN_2;

use serde::{Deserialize, Serialize};

use super::{Bounds, Checked, Direction, Signal, bounded::PlugIn, check_state, is_within};
use crate::{Error, error::check_share};

/// A betting e-process for "the mean is at most `mean`" (Waudby-Smith and Ramdas 2024, "Estimating means of bounded
/// random variables by betting", JRSS-B 86(1); the bets are their aGRAPA).
///
/// The value starts at 1 and is multiplied by `1 + bet (x - m)`, with `x` and `m` the value and the bound scaled to
/// [0, 1], and a bet of `(mu - m) / (v + (mu - m)^2)`, clipped to `[0, 1 / (2 m)]`, from the mean `mu` and variance `v`
/// of the previous values. If every value has a mean of at most the bound given the previous values, it is a
/// nonnegative supermartingale: it ever reaches `1 / alpha` with a probability of at most `alpha` (Ville 1939), for any
/// stopping rule. The values need not be independent.
///
/// That is [`Direction::Rise`]. [`Direction::Fall`] is the same for the negated values, mean and bounds: evidence
/// against "the mean is at least `mean`". [`Direction::Both`] is the mean of the two, which is a martingale if every value has the mean
/// `mean` given the previous values: evidence against that in either direction, at most a factor of 2 below the evidence in the correct
/// direction.
///
/// The initial pseudo-value of the plug-in mean is the bound instead of 1/2, so that the first bet is 0; any choice that does not depend
/// on later values keeps the guarantee.
///
/// Edge cases. The hypothesis is about the mean from the first value on. Many values below the bound offset a later rise, so use
/// [`EDetector`](super::EDetector) for a change at an unknown time.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct EProcess {
    options: Options,
    plug_in: PlugIn,
    /// Natural logarithms of the e-processes against a rise and a fall.
    log_rise: f64,
    log_fall: f64,
    /// The maximum so far of the e-process of the chosen direction.
    log_peak: f64,
}

/// Hypothesis, level and bounds.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The largest, smallest or only mean of the hypothesis, strictly within the bounds.
    pub mean: f64,
    /// The probability of ever rejecting a true hypothesis, in (0, 1).
    pub alpha: f64,
    /// The interval of all possible values.
    pub bounds: Bounds,
    /// The side of the mean on which evidence counts.
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

/// An upper bound of the logarithm of any product of 2^64 factors.
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

    /// Takes the next value; [`Signal::Drift`] from the value on at which the e-process reaches `1 / alpha`. Never warns.
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

    /// Natural logarithm of the e-process: the present evidence.
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

    /// The e-process, capped at the largest float.
    pub fn value(&self) -> f64 {
        self.log_value().exp().min(f64::MAX)
    }

    /// An anytime-valid p-value: 1 over the maximum so far.
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
