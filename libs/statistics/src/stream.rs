//! Change detection on streams. Detectors take one value at a time, in memory that does not grow with the stream (for
//! [`Adwin`], with its logarithm).
//!
//! The monitor finds the onset of a rise of the loss within a window with [`Adwin`]; the others have no caller yet.
//!
//! Every detector is created by `new(Options)`, which rejects invalid options; `Options::default()` has the defaults of river 0.26.1.
//! `update(value)` takes the next value and returns a [`Signal`]. A rejected value does not change the detector. Means are absent before
//! the first value. All state is plain data: a deserialised detector continues where the serialised one stopped, and invalid options or
//! an impossible state are rejected on deserialisation.
//!
//! Heuristic detectors, in the convention of river 0.26.1. Their false-alarm rate depends on the stream, and none has a guarantee over a
//! whole stream:
//!
//! - [`Adwin`]: the mean of any stream with values roughly in [0, 1], with an adaptive window; also in the version of the paper;
//! - [`PageHinkley`]: the mean of any stream, against a threshold in the units of the data;
//! - [`Ddm`], [`Eddm`]: the error rate of a classifier, from 0 (correct) and 1 (wrong);
//! - [`HddmA`], [`HddmW`]: the mean of values in [0, 1], with and without forgetting;
//! - [`Kswin`]: the distribution of any stream.
//!
//! Sequential tests. For bounded values they are valid at any stopping time, and the values need not be independent:
//!
//! - [`ConfidenceSequence`]: an interval for the mean that is valid at all times simultaneously;
//! - [`EProcess`]: evidence that the mean is above a bound, or below it;
//! - [`EDetector`]: evidence that the mean has moved beyond a bound at some time, with a bound on the mean time between false
//!   alarms.

pub mod adwin;
mod bounded;
pub mod confidence_sequence;
pub mod ddm;
pub mod e_detector;
pub mod e_process;
pub mod eddm;
pub mod hddm_a;
pub mod hddm_w;
pub mod kswin;
pub mod page_hinkley;
mod running;

use serde::{Deserialize, Deserializer, Serialize, Serializer, de::Error as _};

pub use adwin::Adwin;
pub use bounded::Bounds;
pub use confidence_sequence::ConfidenceSequence;
pub use ddm::Ddm;
pub use e_detector::EDetector;
pub use e_process::EProcess;
pub use eddm::Eddm;
pub use hddm_a::HddmA;
pub use hddm_w::HddmW;
pub use kswin::Kswin;
pub use page_hinkley::PageHinkley;

use crate::{Error, error::check_option};

/// The state of a detector after a value, in ascending order of alarm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// No change is detected.
    #[default]
    Quiet,
    /// A change is possible. Only [`Ddm`], [`Eddm`], [`HddmA`] and [`HddmW`] warn.
    Warning,
    /// The stream has changed.
    Drift,
}

/// The direction of a change of the mean.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The mean rises.
    Rise,
    /// The mean falls.
    Fall,
    /// Either.
    Both,
}

impl Direction {
    fn rise(self) -> bool {
        self != Direction::Fall
    }

    fn fall(self) -> bool {
        self != Direction::Rise
    }
}

/// The largest absolute value that the detectors with sums of squares accept, so that no stream of 2^64 values overflows.
pub const LARGEST: f64 = 1e100;

/// Validation: of options by `new`, and of whole detectors on deserialisation.
trait Checked {
    /// # Errors
    /// The first option outside its range, or an impossible state of the detector.
    fn check(&self) -> Result<(), Error>;
}

/// Implements serde for detectors derived with `#[serde(remote = "Self")]`, where the derived functions are inherent, and validates what is
/// read.
macro_rules! checked_when_read {
    ($($detector:ty),*) => { $(
        impl Serialize for $detector {
            fn serialize<S: Serializer>(&self, sink: S) -> Result<S::Ok, S::Error> {
                <$detector>::serialize(self, sink)
            }
        }

        impl<'de> Deserialize<'de> for $detector {
            fn deserialize<D: Deserializer<'de>>(source: D) -> Result<Self, D::Error> {
                let detector = <$detector>::deserialize(source)?;
                detector.check().map_err(D::Error::custom)?;
                Ok(detector)
            }
        }
    )* };
}
checked_when_read!(Adwin, ConfidenceSequence, Ddm, EDetector, EProcess, Eddm, HddmA, HddmW, PageHinkley);

/// Rejects an impossible deserialised state.
fn check_state(what: &'static str, sound: bool) -> Result<(), Error> {
    if sound { Ok(()) } else { Err(Error::State { what }) }
}

/// Whether a number is in [0, 1], up to rounding.
fn is_unit(value: f64) -> bool {
    (-1e-9..=1.0 + 1e-9).contains(&value)
}

/// Whether the absolute value of a number is at most `most`, which excludes NaN.
fn is_within(value: f64, most: f64) -> bool {
    value.abs() <= most
}

/// Rejects numbers that are not finite or larger than [`LARGEST`] in absolute value.
fn check_size(what: &'static str, seen: u64, value: f64) -> Result<(), Error> {
    check_value(what, seen, value, value.abs() <= LARGEST, "a number between -1e100 and 1e100")
}

/// Rejects numbers outside [0, 1].
fn check_unit(what: &'static str, seen: u64, value: f64) -> Result<(), Error> {
    check_value(what, seen, value, (0.0..=1.0).contains(&value), "a number from 0 to 1")
}

/// Rejects numbers other than 0 and 1.
fn check_bit(what: &'static str, seen: u64, value: f64) -> Result<(), Error> {
    check_value(what, seen, value, value == 0.0 || value == 1.0, "0 or 1")
}

fn check_value(what: &'static str, seen: u64, value: f64, fits: bool, expected: &'static str) -> Result<(), Error> {
    let row = usize::try_from(seen).unwrap_or(usize::MAX);
    if fits { Ok(()) } else { Err(Error::Value { what, row, value, expected }) }
}
