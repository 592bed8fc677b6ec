//! Drift reports: the comparison of current data with reference data, rendered as a table, as JSON and as HTML.
//!
//! ```
//! use rekindle_drift_report::{DataSource, DriftReport, Options};
//! use rekindle_statistics::profile::{Column, ColumnProfile, Profile};
//!
//! let profile = |offset: f64| {
//!     let values = (0..2000).map(|row| Some(f64::from(row) + offset));
//!     Profile::new(2000, vec![Column { name: "age".to_owned(), profile: ColumnProfile::of_numbers(values) }])
//! };
//! let reference = DataSource::new("2024.parquet", profile(0.0));
//! let current = DataSource::new("2025.parquet", profile(900.0));
//! let report = DriftReport::compare(reference, current, Options::default())?;
//! assert!(report.to_table(None).contains("Drifted: 1 of 1 column"));
//! # Ok::<(), rekindle_drift_report::Error>(())
//! ```
//!
//! [`DriftReport`] is built from two [`DataSource`]s, or from a comparison that [`rekindle_statistics::drift`] has already
//! computed. [`DriftReport::attribute_by_importance`] and [`DriftReport::attribute_by_prediction`] choose how the shift is
//! attributed to columns. [`profile_table`] renders one profile.
//!
//! The crate reads no files, has no command line and computes no verdicts of its own: verdicts and their reasons come from
//! `rekindle_statistics`.
//!
//! Invariants:
//! - the columns of a report are those of the reference profile, in its order;
//! - a verdict does not depend on the [`Convention`](rekindle_statistics::convention::Convention) that the statistics beside it use;
//! - names and values from the data are text in every format: HTML is escaped, control characters are replaced in tables;
//! - an HTML report is one file without scripts that fetches nothing.

mod error;
mod figures;
mod html;
mod json;
mod prediction;
mod profile;
mod report;
mod source;
mod statistics;
mod summary;
mod table;
mod text;

pub use error::Error;
pub use prediction::{PredictionScan, PredictionShifts};
pub use profile::profile_table;
use report::Attribution;
pub use report::{DriftReport, Options};
pub use source::{DataSource, SkipReason, SkippedColumn};
pub use statistics::profile_buckets;
pub use text::{list_names, printable};
