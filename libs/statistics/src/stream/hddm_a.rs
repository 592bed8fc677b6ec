//! HDDM-A: means before and after the best cut, compared by the bound of Hoeffding.

use serde::{Deserialize, Serialize};

use super::{Checked, Direction, Signal, check_state, check_unit, is_unit, running::RunningMean};
use crate::{Error, error::check_share};

/// The A-test (Frias-Blanco and others 2015, "Online and non-parametric drift detection methods based on Hoeffding's
/// bounds", IEEE TKDE 27(3)), in the convention of river 0.26.1.
///
/// Of the means of all prefixes of the stream, it keeps the one with the smallest upper Hoeffding bound. With that
/// mean over `n` values and the present mean over `N`, the mean has risen if
///
/// ```text
/// present - kept >= sqrt((N - n) / (n N) / 2 * ln(2 / confidence))
/// ```
///
/// and conversely for a fall. The value after a drift resets the detector.
///
/// Edge cases. The bound is valid for independent values in [0, 1] of any distribution, for one check; it has no guarantee over all
/// checks and cuts. The cut is chosen by the bound at `drift_confidence` for warnings too.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct HddmA {
    options: Options,
    state: State,
}

/// The options of HDDM-A.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Level of a drift, in (0, 1).
    pub drift_confidence: f64,
    /// Level of a warning, in (0, 1).
    pub warning_confidence: f64,
    /// The direction of changes. `two_sided_test` in river is [`Direction::Both`].
    pub direction: Direction,
}

impl Default for Options {
    /// The defaults of river 0.26.1: rises only.
    fn default() -> Self {
        Self { drift_confidence: 0.001, warning_confidence: 0.005, direction: Direction::Rise }
    }
}

impl Checked for Options {
    fn check(&self) -> Result<(), Error> {
        check_share("HDDM-A drift_confidence", self.drift_confidence)?;
        check_share("HDDM-A warning_confidence", self.warning_confidence)
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct State {
    all: RunningMean,
    lowest: RunningMean,
    highest: RunningMean,
    last: Signal,
}

impl Checked for HddmA {
    fn check(&self) -> Result<(), Error> {
        self.options.check()?;
        let State { all, lowest, highest, .. } = self.state;
        let parts = [all, lowest, highest];
        check_state("HDDM-A", parts.iter().all(|part| is_unit(part.mean) && part.count <= all.count))
    }
}

impl HddmA {
    /// Before the first value.
    ///
    /// # Errors
    /// A level outside (0, 1).
    pub fn new(options: Options) -> Result<Self, Error> {
        options.check()?;
        Ok(Self { options, state: State::default() })
    }

    /// Takes the next value.
    ///
    /// # Errors
    /// A value outside [0, 1].
    pub fn update(&mut self, value: f64) -> Result<Signal, Error> {
        check_unit("HDDM-A", self.state.all.count, value)?;
        if self.state.last == Signal::Drift {
            self.state = State::default();
        }
        self.state.all.push(value);
        self.choose_cuts();
        let State { all, lowest, highest, .. } = self.state;
        let rise =
            if self.options.direction.rise() { self.judge(lowest, all.mean - lowest.mean) } else { Signal::Quiet };
        let fall =
            if self.options.direction.fall() { self.judge(highest, highest.mean - all.mean) } else { Signal::Quiet };
        self.state.last = rise.max(fall);
        Ok(self.state.last)
    }

    /// Mean of the values since the last detection, including the value of the detection; `None` before the first value.
    pub fn mean(&self) -> Option<f64> {
        self.state.all.get()
    }

    fn choose_cuts(&mut self) {
        let bound =
            |of: RunningMean| (1.0 / (2.0 * of.count as f64) * (1.0 / self.options.drift_confidence).ln()).sqrt();
        let State { all, lowest, highest, .. } = self.state;
        if lowest.count == 0 || lowest.mean + bound(lowest) >= all.mean + bound(all) {
            self.state.lowest = all;
        }
        if highest.count == 0 || highest.mean - bound(highest) <= all.mean - bound(all) {
            self.state.highest = all;
        }
    }

    fn judge(&self, before: RunningMean, change: f64) -> Signal {
        let (n, all) = (before.count as f64, self.state.all.count as f64);
        let spread = (all - n) / n * (1.0 / all);
        let beyond = |confidence: f64| all > n && change >= (spread / 2.0 * (2.0 / confidence).ln()).sqrt();
        if beyond(self.options.drift_confidence) {
            Signal::Drift
        } else if beyond(self.options.warning_confidence) {
            Signal::Warning
        } else {
            Signal::Quiet
        }
    }
}
