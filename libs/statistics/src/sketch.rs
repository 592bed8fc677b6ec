//! Summaries of more values than one keeps, mergeable in any order.
//!
//! - [`PrefixCounts`]: how many values fell where. It is the histogram under every profile: exact while there are few
//!   different values, and coarser by a known amount after that. The same values give the same counts in whatever order
//!   they come and in whatever tree their parts are merged, to the last bit.
//! - [`Distinct`]: how many different values there were.
//! - [`Frequent`]: the values that occur most.
//!
//! The quantile sketches in use elsewhere were looked at for the first. KLL and REQ (Apache DataSketches) bound the error of
//! a rank, but flip coins, so that two merges of the same parts differ; a t-digest has no bound; DDSketch is as
//! deterministic as this one, but its buckets do not adapt, and at a relative error of 1 % a year such as 2013 shares one with some forty others.
//! For distinct values and frequent ones the sketches of Apache DataSketches are taken as they are.

mod bytes;
mod distinct;
mod frequent;
mod ordered_key;
mod prefix_counts;

pub use distinct::Distinct;
pub use frequent::Frequent;
pub use ordered_key::{float_of, key_of};
pub(crate) use prefix_counts::aligned;
pub use prefix_counts::{PrefixCounts, PrefixCountsError};
