//! Has a stream changed? Detectors that take one value at a time, in memory that does not grow with the stream (for
//! [`Adwin`], by its logarithm).
//!
//! Every detector is made by `new(Options)`, which refuses options that make no sense; `Options::default()` has the
//! defaults of river 0.26.1. `update(value)` takes the next value and answers with a [`Signal`]. A value it refuses
//! leaves the detector as it was. Means are absent before the first value. All state is plain data: a detector that
//! was serialised and read back goes on where it stopped, and one whose options make no sense, or whose state no
//! values lead to, is refused when it is read.
//!
//! Heuristic detectors, in the convention of river 0.26.1. Their false-alarm rate depends on the stream, and none
//! states a guarantee over a whole stream:
//!
//! - [`Adwin`]: the mean of any stream whose values lie roughly in [0, 1], with a window that adapts; also as the
//!   paper has it;
//! - [`PageHinkley`]: the mean of any stream, against a threshold in the units of the data;
//! - [`Ddm`], [`Eddm`]: the error rate of a classifier, from 0 (right) and 1 (wrong);
//! - [`HddmA`], [`HddmW`]: the mean of values in [0, 1], with and without forgetting;
//! - [`Kswin`]: the distribution of any stream.
//!
//! Sequential tests. They hold for bounded values however often they are looked at, and the values need not be
//! independent:
//!
//! - [`ConfidenceSequence`]: an interval for the mean that is right at all times at once;
//! - [`EProcess`]: evidence that the mean is above a bound, or below it;
//! - [`EDetector`]: evidence that the mean has moved beyond a bound at some time, with a stated mean time between false
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

/// What a detector says after a value. The order is that of alarm.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Signal {
    /// No sign of a change.
    #[default]
    Quiet,
    /// A change may be under way. Only [`Ddm`], [`Eddm`], [`HddmA`] and [`HddmW`] warn.
    Warning,
    /// The stream has changed.
    Drift,
}

/// Which changes of a mean count.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum Direction {
    /// The mean grows.
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

/// The largest absolute value taken by the detectors that add up squares: with it, no stream of 2^64 values overflows.
pub const LARGEST: f64 = 1e100;

/// What may make no sense: options, by `new`, and whole detectors when they are read back.
trait Checked {
    /// # Errors
    /// Names the first option outside its range, or the detector whose state no values lead to.
    fn check(&self) -> Result<(), Error>;
}

/// Reads and writes detectors as derived with `#[serde(remote = "Self")]`, under which the derived functions are
/// inherent ones, and checks what was read.
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

/// Refuses a state read back that no values lead to.
fn check_state(what: &'static str, sound: bool) -> Result<(), Error> {
    if sound { Ok(()) } else { Err(Error::State { what }) }
}

/// Whether a number is in [0, 1] but for rounding.
fn is_unit(value: f64) -> bool {
    (-1e-9..=1.0 + 1e-9).contains(&value)
}

/// Whether a number is at most `most` in size, and so not NaN either.
fn is_within(value: f64, most: f64) -> bool {
    value.abs() <= most
}

/// Refuses what is not a finite number of at most [`LARGEST`] in size.
fn check_size(what: &'static str, seen: u64, value: f64) -> Result<(), Error> {
    check_value(what, seen, value, value.abs() <= LARGEST, "a number between -1e100 and 1e100")
}

/// Refuses what is not in [0, 1].
fn check_unit(what: &'static str, seen: u64, value: f64) -> Result<(), Error> {
    check_value(what, seen, value, (0.0..=1.0).contains(&value), "a number from 0 to 1")
}

/// Refuses all but 0 and 1.
fn check_bit(what: &'static str, seen: u64, value: f64) -> Result<(), Error> {
    check_value(what, seen, value, value == 0.0 || value == 1.0, "0 or 1")
}

fn check_value(what: &'static str, seen: u64, value: f64, fits: bool, expected: &'static str) -> Result<(), Error> {
    let row = usize::try_from(seen).unwrap_or(usize::MAX);
    if fits { Ok(()) } else { Err(Error::Value { what, row, value, expected }) }
}
