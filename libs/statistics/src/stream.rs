//! Has a stream changed? Detectors that take one value at a time, in memory that does not grow with the stream (for
//! [`Adwin`], by its logarithm).
//!
//! Every detector is made by `new(Options)`, which refuses options that make no sense; `Options::default()` has the
//! defaults of river 0.26.1. `update(value)` takes the next value and answers with a [`Signal`]. A value it refuses
//! leaves the detector as it was. All state is plain data: a detector that was serialised and read back goes on where
//! it stopped.
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
//! - [`EProcess`]: evidence that the mean is above a bound;
//! - [`EDetector`]: evidence that the mean has risen above a bound at some time, with a stated mean time between false
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

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

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

/// Options that may make no sense. They are checked by `new` and when a detector is read back.
trait Checked {
    /// # Errors
    /// Names the first option outside its range.
    fn check(&self) -> Result<(), Error>;
}

fn checked<'de, D: Deserializer<'de>, T: Deserialize<'de> + Checked>(source: D) -> Result<T, D::Error> {
    let options = T::deserialize(source)?;
    options.check().map_err(D::Error::custom)?;
    Ok(options)
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
