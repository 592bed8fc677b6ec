use serde::{Deserialize, Serialize};

use super::{check_option, check_value, is_unit};
use crate::Error;

/// The interval of all possible values of a stream, known in advance and not estimated.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Bounds {
    /// The least possible value.
    pub low: f64,
    /// The largest possible value.
    pub high: f64,
}

/// The smallest scaled mean of a hypothesis: below it the bets overflow.
const SMALLEST_MEAN: f64 = 1e-100;

impl Bounds {
    /// Shares, probabilities, zero-one losses.
    pub const UNIT: Bounds = Bounds { low: 0.0, high: 1.0 };

    pub(super) fn check(self) -> Result<(), Error> {
        let width = self.high - self.low;
        check_option("width of the bounds", width, width > 0.0 && width.is_finite(), "a finite number above 0")
    }

    /// Rejects invalid bounds, and a mean that is not strictly within them.
    pub(super) fn check_mean(self, mean: f64) -> Result<(), Error> {
        self.check()?;
        let scaled = self.scaled_mean(mean);
        let fits = scaled > SMALLEST_MEAN && scaled < 1.0;
        check_option("mean under the hypothesis", mean, fits, "a mean strictly within the bounds")
    }

    /// The position of a mean between the bounds, from 0 to 1.
    pub(super) fn scaled_mean(self, mean: f64) -> f64 {
        (mean - self.low) / (self.high - self.low)
    }

    /// The position of a value between the bounds, from 0 to 1.
    pub(super) fn scale(self, what: &'static str, seen: u64, value: f64) -> Result<f64, Error> {
        let fits = (self.low..=self.high).contains(&value);
        check_value(what, seen, value, fits, "a number within the stated bounds")?;
        Ok(((value - self.low) / (self.high - self.low)).clamp(0.0, 1.0))
    }

    /// The value at a position.
    pub(super) fn unscale(self, share: f64) -> f64 {
        (self.low + (self.high - self.low) * share).clamp(self.low, self.high)
    }
}

/// Mean and variance of values in [0, 1] so far, with one initial pseudo-value of variance 1/4, so that both are defined
/// before the first value and the variance is never 0 (Waudby-Smith and Ramdas 2024, as in their Theorem 2).
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub(super) struct PlugIn {
    pub(super) count: u64,
    sum: f64,
    squares: f64,
}

impl PlugIn {
    /// Before the first value; `guess` is the pseudo-value.
    pub(super) fn new(guess: f64) -> Self {
        Self { count: 0, sum: guess, squares: 0.25 }
    }

    pub(super) fn mean(&self) -> f64 {
        self.sum / (self.count as f64 + 1.0)
    }

    pub(super) fn variance(&self) -> f64 {
        self.squares / (self.count as f64 + 1.0)
    }

    /// Whether values in [0, 1] can lead to this state.
    pub(super) fn is_sound(&self) -> bool {
        is_unit(self.mean()) && is_unit(self.variance())
    }

    pub(super) fn push(&mut self, value: f64) {
        self.count = self.count.saturating_add(1);
        self.sum += value;
        self.squares += (value - self.mean()) * (value - self.mean());
    }
}
