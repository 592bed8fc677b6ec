//! EDDM: the distance between errors compared with its maximum.

use serde::{Deserialize, Serialize};

use super::{Checked, Signal, check_bit, check_option, check_state, running::RunningVariance};
use crate::{Error, error::check_share};

/// The early drift detection method (Baena-Garcia and others 2006, "Early drift detection method", IWKDDS), in the
/// convention of river 0.26.1. Values are 1 for a wrong prediction, 0 for a correct one.
///
/// With `p` the mean and `s` the standard deviation of the number of values from one error to the next, it keeps
/// the largest `p + 2 s` and signals if the ratio of the present value to it is below `warning` or `drift`. The value
/// after a drift resets the detector.
///
/// Edge cases. The first distance counts from the start of the stream. Only errors change the state: a warning lasts
/// until the next error, and a stream without errors never alarms. The maximum is kept from value `warm_start + 1` on,
/// and signals are possible from error `warm_start + 1` on (the paper has 30 errors for both). An error with a new
/// maximum does not change the last signal. The ratio ignores the number of errors, so a stream without
/// change alarms often: about 4 to 15 times in 10,000 values at the defaults, depending on the error rate.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(remote = "Self")]
pub struct Eddm {
    options: Options,
    state: State,
}

/// The options of EDDM.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Options {
    /// Errors before the first signal.
    pub warm_start: u64,
    /// The ratio below which it warns, in (0, 1). `alpha` in river.
    pub warning: f64,
    /// The ratio below which it detects drift, in (0, 1) and at most `warning`. `beta` in river.
    pub drift: f64,
}

impl Default for Options {
    /// The defaults of river 0.26.1.
    fn default() -> Self {
        Self { warm_start: 30, warning: 0.95, drift: 0.9 }
    }
}

impl Checked for Options {
    fn check(&self) -> Result<(), Error> {
        check_share("EDDM warning", self.warning)?;
        check_share("EDDM drift", self.drift)?;
        check_option("EDDM drift", self.drift, self.drift <= self.warning, "at most the ratio for a warning")
    }
}

#[derive(Debug, Clone, Copy, Default, PartialEq, Serialize, Deserialize)]
struct State {
    seen: u64,
    last_error: u64,
    distances: RunningVariance,
    largest: f64,
    last: Signal,
}

/// An upper bound of a distance, and of the mean plus two standard deviations.
const LONGEST: f64 = 2.0 * u64::MAX as f64;

impl Checked for Eddm {
    fn check(&self) -> Result<(), Error> {
        self.options.check()?;
        let State { seen, last_error, distances, largest, .. } = self.state;
        let sound = distances.is_of_values_up_to(LONGEST) && (0.0..=4.0 * LONGEST).contains(&largest);
        check_state("EDDM", sound && last_error <= seen && distances.mean.count <= seen)
    }
}

impl Eddm {
    /// Before the first value.
    ///
    /// # Errors
    /// A ratio outside (0, 1); a drift ratio above the warning ratio.
    pub fn new(options: Options) -> Result<Self, Error> {
        options.check()?;
        Ok(Self { options, state: State::default() })
    }

    /// Takes the next outcome: 1 for an error, 0 for none.
    ///
    /// # Errors
    /// Any other value.
    pub fn update(&mut self, value: f64) -> Result<Signal, Error> {
        check_bit("EDDM", self.state.seen, value)?;
        if self.state.last == Signal::Drift {
            self.state = State::default();
        }
        self.state.seen = self.state.seen.saturating_add(1);
        if value == 1.0 {
            self.error();
        }
        Ok(self.state.last)
    }

    fn error(&mut self) {
        let Options { warm_start, warning, drift } = self.options;
        let state = &mut self.state;
        state.distances.push(state.seen.saturating_sub(state.last_error) as f64);
        state.last_error = state.seen;
        if state.seen <= warm_start {
            return;
        }
        let reach = state.distances.mean.mean + 2.0 * state.distances.std();
        if reach > state.largest {
            state.largest = reach;
        } else if state.distances.mean.count > warm_start {
            state.last = match reach / state.largest {
                ratio if ratio < drift => Signal::Drift,
                ratio if ratio < warning => Signal::Warning,
                _ => Signal::Quiet,
            };
        }
    }
}
