//! Page-Hinkley: cumulative deviations from the running mean.

use serde::{Deserialize, Serialize};

use super::{
    Checked, Direction, LARGEST, Signal, check_option, check_size, check_state, is_within, running::RunningMean,
};
use crate::Error;

/// The Page-Hinkley test (Page 1954, "Continuous inspection schemes", Biometrika 41; Hinkley 1971), two-sided, with
/// the fading sum of river 0.26.1.
///
/// With `d` a value minus the mean of all values up to and including it, the sum `s <- alpha s + d - delta` is
/// compared with its minimum, and `s' <- alpha s' - d - delta` likewise for a fall; it is a drift if either is more than
/// `threshold` above its minimum after at least `min_instances` values. The value after a detection resets the detector.
///
/// Edge cases. `delta` and `threshold` are in the units of the data and not relative to their spread: at the
/// defaults a stream of standard deviation 1 has many more false alarms than one of 0.3. Standardise first. A constant
/// stream never alarms. The mean does not fade, so a change late in a long stable stream is visible longest.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct PageHinkley {
    options: Options,
    state: State,
}

/// The options of Page-Hinkley.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Values before the first detection.
    pub min_instances: u64,
    /// The tolerated deviation per value, in the units of the data, at least 0.
    pub delta: f64,
    /// The cumulative deviation that is a drift, in the units of the data, above 0.
    pub threshold: f64,
    /// The factor by which a sum fades at every value, above 0 and at most 1.
    pub alpha: f64,
    /// The direction of changes.
    pub direction: Direction,
}

impl Default for Options {
    /// The defaults of river 0.26.1.
    fn default() -> Self {
        Self { min_instances: 30, delta: 0.005, threshold: 50.0, alpha: 1.0 - 0.0001, direction: Direction::Both }
    }
}

impl Checked for Options {
    fn check(&self) -> Result<(), Error> {
        let Self { delta, threshold, alpha, .. } = *self;
        check_option("Page-Hinkley delta", delta, (0.0..=LARGEST).contains(&delta), "a number from 0 to 1e100")?;
        let fits = threshold > 0.0 && threshold.is_finite();
        check_option("Page-Hinkley threshold", threshold, fits, "a finite number above 0")?;
        check_option("Page-Hinkley alpha", alpha, alpha > 0.0 && alpha <= 1.0, "a number above 0 and at most 1")
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct State {
    mean: RunningMean,
    rise: Sum,
    fall: Sum,
    last: Signal,
}

/// A fading sum and its minimum, which is absent before the first value.
#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct Sum {
    sum: f64,
    least: Option<f64>,
}

/// An upper bound of the sum of 2^64 deviations.
const LARGEST_SUM: f64 = 1e20 * 4.0 * LARGEST;

impl Checked for PageHinkley {
    fn check(&self) -> Result<(), Error> {
        self.options.check()?;
        let State { mean, rise, fall, .. } = self.state;
        let sums = [Some(rise.sum), rise.least, Some(fall.sum), fall.least];
        let sound = sums.into_iter().flatten().all(|sum| is_within(sum, LARGEST_SUM));
        check_state("Page-Hinkley", sound && is_within(mean.mean, LARGEST))
    }
}

impl PageHinkley {
    /// Before the first value.
    ///
    /// # Errors
    /// A `delta` that is negative or above [`LARGEST`], a `threshold` that is not above 0 and finite, an `alpha`
    /// outside (0, 1].
    pub fn new(options: Options) -> Result<Self, Error> {
        options.check()?;
        Ok(Self { options, state: State::default() })
    }

    /// Takes the next value. Never warns.
    ///
    /// # Errors
    /// A value that is not finite, or larger than [`LARGEST`] in size.
    pub fn update(&mut self, value: f64) -> Result<Signal, Error> {
        check_size("Page-Hinkley", self.state.mean.count, value)?;
        if self.state.last == Signal::Drift {
            self.state = State::default();
        }
        let Options { min_instances, threshold, direction, .. } = self.options;
        let state = &mut self.state;
        state.mean.push(value);
        let deviation = value - state.mean.mean;
        let rise = state.rise.push(deviation, &self.options);
        let fall = state.fall.push(-deviation, &self.options);
        let moved = direction.rise() && rise > threshold || direction.fall() && fall > threshold;
        state.last = if state.mean.count >= min_instances && moved { Signal::Drift } else { Signal::Quiet };
        Ok(state.last)
    }

    /// Mean of the values since the last detection, including the value of the detection; `None` before the first value.
    pub fn mean(&self) -> Option<f64> {
        self.state.mean.get()
    }
}

impl Sum {
    /// Adds a deviation, and returns how far the sum is above its minimum.
    fn push(&mut self, deviation: f64, options: &Options) -> f64 {
        self.sum = options.alpha * self.sum + deviation - options.delta;
        let least = self.least.map_or(self.sum, |least| least.min(self.sum));
        self.least = Some(least);
        self.sum - least
    }
}
