//! HDDM-W: moving averages before and after the best cut, compared by the bound of McDiarmid.

use serde::{Deserialize, Serialize};

use super::{Checked, Direction, Signal, check_state, check_unit, is_unit};
use crate::{Error, error::check_share};

/// The W-test (Frias-Blanco and others 2015, "Online and non-parametric drift detection methods based on Hoeffding's
/// bounds", IEEE TKDE 27(3)), in the convention of river 0.26.1.
///
/// It keeps three exponentially weighted means: of the stream, of the stream at the cut with the smallest upper bound, and of the
/// values since the cut. The mean has risen if the one since the cut is above the one at the cut by more
/// than `sqrt((v1 + v2) ln(1 / confidence) / 2)`, where `v` is the sum of the squared weights; conversely for a
/// fall. The value after a drift resets the detector.
///
/// Edge cases. Weights start from `v = 1` before the first value, so `v` is slightly larger than the sum of the
/// squared weights. The bound is valid for independent values in [0, 1], for one check; it has no guarantee over all checks and cuts.
/// The cut is chosen by the bound at `drift_confidence` for warnings too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct HddmW {
    options: Options,
    state: State,
}

/// The options of HDDM-W.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Level of a drift, in (0, 1).
    pub drift_confidence: f64,
    /// Level of a warning, in (0, 1).
    pub warning_confidence: f64,
    /// Weight of the newest value, in (0, 1). `lambda_val` in river.
    pub lambda: f64,
    /// The direction of changes. `two_sided_test` in river is [`Direction::Both`].
    pub direction: Direction,
}

impl Default for Options {
    /// The defaults of river 0.26.1: rises only.
    fn default() -> Self {
        Self { drift_confidence: 0.001, warning_confidence: 0.005, lambda: 0.05, direction: Direction::Rise }
    }
}

impl Checked for Options {
    fn check(&self) -> Result<(), Error> {
        check_share("HDDM-W drift_confidence", self.drift_confidence)?;
        check_share("HDDM-W warning_confidence", self.warning_confidence)?;
        check_share("HDDM-W lambda", self.lambda)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct State {
    seen: u64,
    all: Weighted,
    rise: Cut,
    /// The cut of the negated values, for which a fall is a rise.
    fall: Cut,
    last: Signal,
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Cut {
    least: Option<f64>,
    before: Weighted,
    since: Weighted,
}

/// An exponentially weighted mean, absent before the first value, and the sum of its squared weights.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
struct Weighted {
    mean: Option<f64>,
    squares: f64,
}

impl Checked for HddmW {
    fn check(&self) -> Result<(), Error> {
        self.options.check()?;
        let State { all, rise, fall, .. } = self.state;
        let sound = [all, rise.before, rise.since].iter().all(|part| part.is_sound(1.0))
            && [fall.before, fall.since].iter().all(|part| part.is_sound(-1.0))
            && [rise.least, fall.least].into_iter().flatten().all(f64::is_finite);
        check_state("HDDM-W", sound)
    }
}

impl HddmW {
    /// Before the first value.
    ///
    /// # Errors
    /// A level or weight outside (0, 1).
    pub fn new(options: Options) -> Result<Self, Error> {
        options.check()?;
        Ok(Self { options, state: State::default() })
    }

    /// Takes the next value.
    ///
    /// # Errors
    /// A value outside [0, 1].
    pub fn update(&mut self, value: f64) -> Result<Signal, Error> {
        check_unit("HDDM-W", self.state.seen, value)?;
        if self.state.last == Signal::Drift {
            self.state = State::default();
        }
        let Options { direction, lambda, .. } = self.options;
        let state = &mut self.state;
        state.seen = state.seen.saturating_add(1);
        state.all.push(value, lambda);
        state.rise.push(state.all, value, &self.options);
        state.fall.push(state.all.negated(), -value, &self.options);
        let rise = if direction.rise() { state.rise.judge(&self.options) } else { Signal::Quiet };
        let fall = if direction.fall() { state.fall.judge(&self.options) } else { Signal::Quiet };
        state.last = rise.max(fall);
        Ok(state.last)
    }

    /// The weighted mean since the last detection, including the value of the detection; `None` before the first value.
    pub fn mean(&self) -> Option<f64> {
        self.state.all.mean
    }
}

impl Cut {
    /// Moves the cut here if the upper bound is the smallest so far; otherwise adds the value to those since the cut.
    fn push(&mut self, all: Weighted, value: f64, options: &Options) {
        let upper = all.mean.unwrap_or(0.0) + bound(all.squares, options.drift_confidence);
        if self.least.is_none_or(|least| upper < least) {
            *self = Cut { least: Some(upper), before: all, since: Weighted::default() };
        } else {
            self.since.push(value, options.lambda);
        }
    }

    fn judge(&self, options: &Options) -> Signal {
        let (Some(before), Some(since)) = (self.before.mean, self.since.mean) else { return Signal::Quiet };
        let squares = self.before.squares + self.since.squares;
        if since - before > bound(squares, options.drift_confidence) {
            Signal::Drift
        } else if since - before > bound(squares, options.warning_confidence) {
            Signal::Warning
        } else {
            Signal::Quiet
        }
    }
}

impl Weighted {
    fn push(&mut self, value: f64, lambda: f64) {
        self.mean = Some(self.mean.map_or(value, |mean| lambda * value + (1.0 - lambda) * mean));
        self.squares = lambda * lambda + (1.0 - lambda) * (1.0 - lambda) * self.squares;
    }

    /// Whether values between 0 and `end`, which is 1 or -1, can lead to this state.
    fn is_sound(&self, end: f64) -> bool {
        is_unit(self.squares) && self.mean.is_none_or(|mean| is_unit(mean * end))
    }

    fn negated(self) -> Self {
        Self { mean: self.mean.map(|mean| -mean), ..self }
    }
}

impl Default for Weighted {
    fn default() -> Self {
        Self { mean: None, squares: 1.0 }
    }
}

/// McDiarmid's bound for a mean whose squared weights have this sum.
fn bound(squares: f64, confidence: f64) -> f64 {
    (squares * (1.0 / confidence).ln() / 2.0).sqrt()
}
