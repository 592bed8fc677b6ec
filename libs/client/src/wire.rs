//! Conversions between wire messages and domain types, one file per noun.
//!
//! `from_wire` may fail, and reports every field that is not valid by its path within the message; `to_wire` cannot fail.

pub mod alert;
pub mod alias;
pub mod audit;
pub mod blob;
pub mod dataset;
pub mod dataset_schema;
pub mod delivery;
pub mod deployment;
pub mod evaluation;
pub mod event;
pub mod failure;
pub mod field;
pub mod gate;
pub mod inference;
pub mod job;
pub mod lineage;
pub mod model_import;
pub mod model_version;
pub mod outcome;
pub mod policy;
pub mod prediction_log;
pub mod raw;
pub mod reading;
pub mod recipe;
pub mod replica;
pub mod report;
pub mod run;
pub mod search;
pub mod tensor;
pub mod time;
pub mod trigger;
pub mod watch;
pub mod workflow;
