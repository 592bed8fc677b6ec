//! Sequential detection of a mean that moves beyond a bound at an unknown time.

use serde::{Deserialize, Serialize};

use super::{Bounds, Checked, Direction, Signal, check_state};
use crate::{Error, error::check_option};

/// An e-detector for the rise of a bounded mean (Shin, Ramdas and Rinaldo 2024, "E-detectors: a nonparametric
/// framework for sequential change detection", arXiv 2203.03532: a mixture of their e-SR or e-CUSUM detectors).
///
/// With `E = 1 + bet (x - m)`, where `x` and `m` are the value and the bound scaled to [0, 1], each of [`BETS`] fixed
/// bets keeps `M <- E (M + 1)` ([`Rule::ShiryaevRoberts`]) or `M <- E max(M, 1)` ([`Rule::Cusum`]), from 0, and the
/// value is the mean over the bets: `1 / (2 m)` and its halves, so that one bet suits a rise of any size. It is a drift if
/// the value is at least `run_length`; the next value resets the detector.
///
/// If every value has a mean of at most the bound given the previous values, then the mean number of values to a
/// false alarm is at least `run_length`, and the probability of one within the first `n` is at most `n / run_length`, since
/// the expectation of `M` at any stopping time grows by at most 1 per value. The values need not be independent.
///
/// That is [`Direction::Rise`]. [`Direction::Fall`] is the same for the negated values, mean and bounds: the mean is at
/// least the bound until it falls. [`Direction::Both`] is the mean of the two: the mean is the bound until it moves.
///
/// The rules share the guarantee, but not the behaviour. The sum gains 1 per value from small bets even without a change, so it alarms about
/// every `run_length` values. The maximum does not: on a stream of bits at the bound, false alarms are about 50 times rarer than
/// guaranteed, and a rise is detected after 1.3 times (large) to 2.5 times (small) as many values.
///
/// Edge cases. There is no guarantee of the kind "never with probability 1 - alpha", as for an
/// [`EProcess`](super::EProcess): a detector on an infinite stream alarms eventually.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct EDetector {
    options: Options,
    rise: [f64; BETS],
    fall: [f64; BETS],
    seen: u64,
    last: Signal,
}

/// The options of an e-detector.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Options {
    /// The bound of the mean, strictly within the bounds of the values.
    pub mean: f64,
    /// The smallest mean number of values to a false alarm, above 1.
    pub run_length: f64,
    /// The interval of all possible values.
    pub bounds: Bounds,
    /// The direction of changes.
    pub direction: Direction,
    /// How evidence accumulates.
    pub rule: Rule,
}

impl Options {
    /// A rise above this mean: values in [0, 1], at least 10,000 values to a false alarm on average, by the maximum.
    pub fn at_most(mean: f64) -> Self {
        Self { mean, run_length: 1e4, bounds: Bounds::UNIT, direction: Direction::Rise, rule: Rule::Cusum }
    }

    /// A fall below this mean: values in [0, 1], at least 10,000 values to a false alarm on average, by the maximum.
    pub fn at_least(mean: f64) -> Self {
        Self { direction: Direction::Fall, ..Self::at_most(mean) }
    }
}

impl Checked for Options {
    fn check(&self) -> Result<(), Error> {
        let length = self.run_length;
        check_option("e-detector run_length", length, length > 1.0 && length.is_finite(), "a finite number above 1")?;
        self.bounds.check_mean(self.mean)
    }
}

/// How evidence accumulates over the possible times of the change.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Rule {
    /// The sum over all times: never later than the maximum, with as many false alarms as the guarantee allows.
    ShiryaevRoberts,
    /// The maximum over all times: later, with far fewer false alarms.
    Cusum,
}

/// Number of bets in the mixture; they span a factor of 2048.
pub const BETS: usize = 12;

impl Checked for EDetector {
    fn check(&self) -> Result<(), Error> {
        self.options.check()?;
        let values = self.rise.iter().chain(&self.fall);
        check_state("e-detector", { values }.all(|value| (0.0..=f64::MAX).contains(value)))
    }
}

impl EDetector {
    /// Before the first value: the value is 0.
    ///
    /// # Errors
    /// A run length that is not above 1 and finite; bounds that are not finite or not in ascending order; a mean not
    /// strictly within them.
    pub fn new(options: Options) -> Result<Self, Error> {
        options.check()?;
        Ok(Self::empty(options))
    }

    fn empty(options: Options) -> Self {
        Self { options, rise: [0.0; BETS], fall: [0.0; BETS], seen: 0, last: Signal::Quiet }
    }

    /// Takes the next value. Never warns.
    ///
    /// # Errors
    /// A value outside the bounds, or NaN.
    pub fn update(&mut self, value: f64) -> Result<Signal, Error> {
        let Options { mean, bounds, rule, .. } = self.options;
        let x = bounds.scale("e-detector", self.seen, value)?;
        if self.last == Signal::Drift {
            *self = Self::empty(self.options);
        }
        self.seen = self.seen.saturating_add(1);
        let mean = bounds.scaled_mean(mean);
        step(rule, &mut self.rise, 0.5 / mean, x - mean);
        step(rule, &mut self.fall, 0.5 / (1.0 - mean), mean - x);
        self.last = if self.value() >= self.options.run_length { Signal::Drift } else { Signal::Quiet };
        Ok(self.last)
    }

    /// The e-detector: the evidence that the mean has moved since the start or the last detection.
    pub fn value(&self) -> f64 {
        let mean = |values: &[f64; BETS]| values.iter().map(|value| value / BETS as f64).sum::<f64>();
        match self.options.direction {
            Direction::Rise => mean(&self.rise),
            Direction::Fall => mean(&self.fall),
            Direction::Both => f64::midpoint(mean(&self.rise), mean(&self.fall)),
        }
    }
}

/// Updates every value with its bet, each half of the previous one, on a deviation from the mean. Values are capped below infinity, so that
/// they can be serialised.
fn step(rule: Rule, values: &mut [f64; BETS], mut bet: f64, deviation: f64) {
    for value in values {
        let sum = match rule {
            Rule::ShiryaevRoberts => *value + 1.0,
            Rule::Cusum => value.max(1.0),
        };
        *value = (sum * (1.0 + bet * deviation)).min(f64::MAX);
        bet /= 2.0;
    }
}
