//! What values mean: one file per kind of value, each row of a table a spelling and what it is read as when a dataset is registered, from
//! CSV and from Parquet.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise, in its helpers too")]

mod booleans;
mod compressed;
mod instants;
mod missing;
mod numbers;
mod several_files;
mod support;
mod tables;
mod texts;
