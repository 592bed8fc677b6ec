//! The nouns of rekindle: names, ids, digests, and the lifecycles of runs, model versions,
//! deployments and workflows, as pure values and total functions.
//!
//! This crate does no I/O, knows no async, and never reads a clock or creates an id: times and ids
//! are inputs. Everything that arrives from outside is parsed into one of these types at the edge, and
//! from there on is known to be valid.
//!
//! Invariants kept here:
//! - a [`name`] is always safe as a NATS token, an object key and a Kubernetes label;
//! - every lifecycle ([`run`], [`model_version`], [`workflow`]) has one total transition function;
//! - the [`rollout`] planner moves at most one replica at a time and never leaves a deployment
//!   without a stable version.

pub mod deployment;
pub mod digest;
pub mod event;
pub mod id;
pub mod model_version;
pub mod name;
pub mod policy;
pub mod recipe;
pub mod rollout;
pub mod run;
pub mod workflow;

pub use deployment::{Assignment, DesiredState, ReplicaState, ServedModel, VersionRef};
pub use digest::Digest;
pub use id::{PredictionId, ReportId, RunId, WorkflowId};
pub use name::{AliasName, DatasetName, ExperimentName, ModelName, ReplicaId};
pub use policy::Policy;
pub use recipe::{Architecture, Recipe, Task};
pub use workflow::{Trigger, WorkflowEvent, WorkflowState};
