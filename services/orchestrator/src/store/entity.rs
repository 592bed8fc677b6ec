//! The tables' rows as they lie in the database. What is looked for has a column; all else lies in one JSON record, which is
//! written together with them.
#![expect(unreachable_pub, reason = "the derive macros need public models, whatever the module's own visibility")]

pub mod deployment;
pub mod deployment_history;
pub mod ignored_trigger;
pub mod policy;
pub mod workflow;
pub mod workflow_step;
