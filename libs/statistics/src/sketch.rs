//! Sketches: mergeable summaries of bounded size.
//!
//! - [`PrefixCounts`]: the histogram of every profile. It is exact for few distinct values and coarser by a known amount for more. Equal
//!   values give equal counts, to the last bit, for any order of the values and any order of merges.
//! - [`Distinct`]: the number of distinct values.
//! - [`Frequent`]: the most frequent values.
//!
//! Other quantile sketches do not serve for the first. KLL and REQ (Apache DataSketches) bound the error of a rank, but are random, so
//! that two merges of the same parts differ; a t-digest has no bound; DDSketch is deterministic, but its buckets do not adapt: at a
//! relative error of 1 % a year such as 2013 shares a bucket with about forty others. Distinct and frequent values use the sketches of
//! Apache DataSketches.

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
