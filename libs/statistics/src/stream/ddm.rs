//! DDM: the error rate of a classifier compared with its minimum.

use serde::{Deserialize, Serialize};

use super::{Checked, Signal, check_bit, check_option, check_state, is_unit, running::RunningMean};
use crate::Error;

/// The drift detection method (Gama, Medas, Castillo and Rodrigues 2004, "Learning with drift detection", SBIA), in
/// the convention of river 0.26.1. Values are 1 for a wrong prediction, 0 for a correct one.
///
/// With `p` the error rate so far and `s = sqrt(p (1 - p) / n)`, it keeps the pair with the smallest `p + s` after the
/// first `warm_start` values, and signals if `p + s` is strictly above `p_min + k s_min` (the paper has "at
/// least"). The value after a drift resets the detector.
///
/// Edge cases. If the warm start has no error, `s_min` is 0 and the first error is a drift. The minimum never increases, so on a long
/// stream without change the probability of a false alarm does not go to 0. A falling error rate is not a drift.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Ddm {
    options: Options,
    state: State,
}

/// The options of DDM.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Values before the first signal.
    pub warm_start: u64,
    /// Threshold of a warning in standard deviations, above 0.
    pub warning_threshold: f64,
    /// Threshold of a drift in standard deviations, at least that of a warning.
    pub drift_threshold: f64,
}

impl Default for Options {
    /// The defaults of river 0.26.1.
    fn default() -> Self {
        Self { warm_start: 30, warning_threshold: 2.0, drift_threshold: 3.0 }
    }
}

impl Checked for Options {
    fn check(&self) -> Result<(), Error> {
        let (warning, drift) = (self.warning_threshold, self.drift_threshold);
        check_option("DDM warning_threshold", warning, warning > 0.0, "a number above 0")?;
        let fits = drift >= warning && drift.is_finite();
        check_option("DDM drift_threshold", drift, fits, "a finite number, at least the warning threshold")
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct State {
    errors: RunningMean,
    best: Option<Level>,
    last: Signal,
}

/// An error rate and its standard deviation.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Level {
    rate: f64,
    deviation: f64,
}

impl Checked for Ddm {
    fn check(&self) -> Result<(), Error> {
        self.options.check()?;
        let best = self.state.best.is_none_or(|best| is_unit(best.rate) && is_unit(best.deviation));
        check_state("DDM", best && is_unit(self.state.errors.mean))
    }
}

impl Ddm {
    /// Before the first value.
    ///
    /// # Errors
    /// A warning threshold that is not above 0; a drift threshold that is lower, or not finite.
    pub fn new(options: Options) -> Result<Self, Error> {
        options.check()?;
        Ok(Self { options, state: State::default() })
    }

    /// Takes the next outcome: 1 for an error, 0 for none.
    ///
    /// # Errors
    /// Any other value.
    pub fn update(&mut self, value: f64) -> Result<Signal, Error> {
        check_bit("DDM", self.state.errors.count, value)?;
        if self.state.last == Signal::Drift {
            self.state = State::default();
        }
        self.state.errors.push(value);
        if self.state.errors.count > self.options.warm_start {
            self.state.last = self.judge();
        }
        Ok(self.state.last)
    }

    /// Share of errors since the last detection, including the value of the detection; `None` before the first value.
    pub fn error_rate(&self) -> Option<f64> {
        self.state.errors.get()
    }

    fn judge(&mut self) -> Signal {
        let RunningMean { count, mean: rate } = self.state.errors;
        let now = Level { rate, deviation: (rate * (1.0 - rate) / count as f64).max(0.0).sqrt() };
        let best = self.state.best.filter(|best| best.above(1.0) < now.above(1.0)).unwrap_or(now);
        self.state.best = Some(best);
        if now.above(1.0) > best.above(self.options.drift_threshold) {
            Signal::Drift
        } else if now.above(1.0) > best.above(self.options.warning_threshold) {
            Signal::Warning
        } else {
            Signal::Quiet
        }
    }
}

impl Level {
    /// The rate plus a number of standard deviations.
    fn above(self, deviations: f64) -> f64 {
        self.rate + deviations * self.deviation
    }
}
