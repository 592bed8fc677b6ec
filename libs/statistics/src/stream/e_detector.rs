//! Evidence that a mean rose above a bound at some time.

use serde::{Deserialize, Serialize};

use super::{Checked, Signal, e_process};
use crate::Error;

/// An e-detector for the rise of a bounded mean (Shin, Ramdas and Rinaldo 2024, "E-detectors: a nonparametric
/// framework for sequential change detection", arXiv 2203.03532: a mixture of their e-SR or e-CUSUM detectors).
///
/// With `E = 1 + bet (x - m)`, where `x` and `m` are the value and the bound scaled to [0, 1], each of [`BETS`] fixed
/// bets keeps `M <- E (M + 1)` ([`Rule::ShiryaevRoberts`]) or `M <- E max(M, 1)` ([`Rule::Cusum`]), from 0, and the
/// value is the mean over the bets: `1 / (2 m)` and its halves, so that some bet suits a rise of any size. Drift when
/// the value is at least `1 / alpha`; the value after it starts anew.
///
/// As long as every value has a mean of at most the bound given the values before it: the mean number of values to a
/// false alarm is at least `1 / alpha`, and the chance of one within the first `n` is at most `n alpha`, since `M` has
/// at most gained 1 per value in expectation when it is stopped. The values need not be independent.
///
/// The rules share the guarantee, not the behaviour. The sum gains 1 per value from small bets even where nothing
/// moves, so it alarms about every `1 / alpha` values whatever comes. The maximum does not: on a stream of bits at the
/// bound, false alarms are some 50 times rarer than promised, and a rise is found after 1.3 times (large) to 2.5 times
/// (small) as many values.
///
/// Edge cases. There is no guarantee of the kind "never with probability 1 - alpha": a detector that goes on for ever
/// alarms some time. `alpha` is a rate per value: 1e-4 is at most one false alarm in 10,000 values on average. For
/// falls negate the values, the mean and the bounds.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct EDetector {
    #[serde(deserialize_with = "super::checked")]
    options: Options,
    values: [f64; BETS],
    seen: u64,
    last: Signal,
}

/// The bound, the rate of false alarms and the rule.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// What the mean is at most before the change; `alpha` is 1 over the least mean number of values to a false alarm.
    pub before: e_process::Options,
    /// How evidence adds up.
    pub rule: Rule,
}

impl Options {
    /// Values in [0, 1], at least 10,000 values to a false alarm on average, by the maximum.
    pub fn at_most(mean: f64) -> Self {
        let before = e_process::Options { alpha: 1e-4, ..e_process::Options::at_most(mean) };
        Self { before, rule: Rule::Cusum }
    }
}

impl Checked for Options {
    fn check(&self) -> Result<(), Error> {
        self.before.check()
    }
}

/// How evidence adds up over the times at which the change may have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The sum over all times: never later than the other, and all of the promised false alarms are spent.
    ShiryaevRoberts,
    /// The largest over all times: later, with far fewer false alarms.
    Cusum,
}

/// Bets in the mixture: they span a factor of 2048.
pub const BETS: usize = 12;

impl EDetector {
    /// Before the first value: the value is 0.
    ///
    /// # Errors
    /// `alpha` outside (0, 1); bounds that are not finite or not in ascending order; a mean not strictly within them.
    pub fn new(options: Options) -> Result<Self, Error> {
        options.check()?;
        Ok(Self { options, values: [0.0; BETS], seen: 0, last: Signal::Quiet })
    }

    /// Takes the next value. Never warns.
    ///
    /// # Errors
    /// A value outside the bounds, or NaN.
    pub fn update(&mut self, value: f64) -> Result<Signal, Error> {
        let x = self.options.before.bounds.scale("e-detector", self.seen, value)?;
        if self.last == Signal::Drift {
            (self.values, self.seen) = ([0.0; BETS], 0);
        }
        self.seen = self.seen.saturating_add(1);
        let mean = self.options.before.scaled_mean();
        let mut bet = 0.5 / mean;
        for value in &mut self.values {
            *value = step(self.options.rule, *value, 1.0 + bet * (x - mean));
            bet /= 2.0;
        }
        self.last = if self.value() >= 1.0 / self.options.before.alpha { Signal::Drift } else { Signal::Quiet };
        Ok(self.last)
    }

    /// The e-detector: the evidence that the mean has risen since the start or the last detection.
    pub fn value(&self) -> f64 {
        self.values.iter().map(|value| value / BETS as f64).sum()
    }
}

/// Kept below the largest number, so that it can be written down.
fn step(rule: Rule, value: f64, e: f64) -> f64 {
    let sum = match rule {
        Rule::ShiryaevRoberts => value + 1.0,
        Rule::Cusum => value.max(1.0),
    };
    (sum * e).min(f64::MAX)
}
