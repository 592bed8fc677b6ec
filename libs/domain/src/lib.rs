//! The nouns of rekindle as pure values: names, ids and digests; datasets, runs, models and their lineage; policies, workflows,
//! deployments and routes; reports and outcomes; with the lifecycles as total functions.
//!
//! This crate does no I/O, has no async code, and never reads a clock or creates an id: times and ids are inputs. Whatever arrives from
//! outside is parsed into one of these types at the edge, and is valid from there on.
//!
//! Invariants:
//! - each noun and its bounds are defined here once; services, clients and the program use them ([`validation`] reports every violation);
//! - a [`name`] is always safe as a NATS token, an object key and a Kubernetes label;
//! - every lifecycle ([`run`], [`workflow`]) has one total transition function;
//! - the [`rollout`] planner moves at most one replica at a time and never leaves a deployment without a stable version.
//!
//! # Glossary
//!
//! | term | meaning | wire name | type |
//! |---|---|---|---|
//! | dataset version | immutable rows with schema, profile and lineage | `registry.v1.DatasetVersion` | [`dataset::DatasetVersion`] |
//! | run | one training or evaluation | `registry.v1.Run` | [`run::Run`] |
//! | bundle | a manifest and the blobs it names: what is registered and served | `bundle_digest` | [`Digest`] |
//! | model version | a registered bundle | `registry.v1.ModelVersion` | [`model_version::ModelVersion`] |
//! | alias | a named pointer to a model version, e.g. `champion` | `registry.v1.Alias` | [`Alias`] |
//! | champion, challenger | the version that serves; the version that a workflow evaluates | alias `champion` | [`AliasName`] |
//! | recipe | what decides the result of a training besides the rows | `trainer.v1.Recipe` | [`Recipe`] |
//! | gate | the condition under which a challenger replaces the champion | `trainer.v1.Gate` | [`Gate`] |
//! | retraining policy | when and how a model is retrained and rolled out | `orchestrator.v1.Policy` | [`Policy`] |
//! | trigger | what starts a retraining workflow | `orchestrator.v1.Trigger` | [`Trigger`] |
//! | retraining workflow | one retraining, from trigger to rollout | `orchestrator.v1.Workflow` | [`workflow::WorkflowStatus`] |
//! | deployment | the routes of a model and their rollout | `orchestrator.v1.Deployment` | [`deployment_status::DeploymentStatus`] |
//! | routes | which versions answer: primary, weighted, shadow | bucket `rekindle-deployments` | [`Routes`] |
//! | replica | one inference process | `orchestrator.v1.Replica` | [`ReplicaState`] |
//! | prediction | one answered request; its rows are numbered from 0 | `prediction_id` | [`PredictionId`] |
//! | failed requests | prediction requests that have no answer, by reason | `monitor.v1.FailedRequests` | [`failure::FailedRequests`] |
//! | outcome, label | the ground truth of a predicted row | `monitor.v1.Outcome` | [`outcome::Outcome`] |
//! | window | a range of event time that is reported on | `monitor.v1.WindowHeader` | [`report::WindowHeader`] |
//! | report | what one version answered in one window, compared with its reference | `monitor.v1.WindowReport` | [`report::WindowReport`] |
//! | slice | a part of the rows, declared by a condition on the features, or found | `slices` | [`Slice`], [`report::SliceQuality`] |
//! | chunk | a Parquet file of the prediction log or of outcomes | `chunks` | |
//! | detection | an event of drift or degradation | `events.v1.DriftDetected` | [`event::Detection`] |
//! | alert | a condition that requires attention; it is open until it is resolved | `monitor.v1.Alert` | [`alert::Alert`] |
//! | silence | a time in which alerts of a model are not notified | `monitor.v1.Silence` | [`alert::Silence`] |
//! | receiver | where alerts are sent: a webhook or an Alertmanager | `monitor.alerts.receivers` | |
//! | delivery metrics | how fast and how well changes reach production (DORA) | `orchestrator.v1.DeliveryMetrics` | [`delivery::DeliveryMetrics`] |
//! | principal | who calls | metadata `rekindle-principal` | [`Principal`] |
//! | namespace | the tenant of a name | metadata `rekindle-namespace` | [`Namespace`] |

pub mod alert;
pub mod alias;
pub mod audit;
pub mod blob;
pub mod column;
pub mod dataset;
pub mod delivery;
pub mod deployment_status;
pub mod digest;
pub mod evaluation;
pub mod event;
pub mod event_time;
pub mod failure;
pub mod gate;
pub mod gate_check;
pub mod id;
pub mod id_prefix;
pub mod job;
pub mod lineage;
pub mod model_version;
pub mod name;
pub mod namespace;
pub mod outcome;
pub mod policy;
pub mod prediction_log;
pub mod principal;
pub mod recipe;
pub mod replica;
pub mod report;
pub mod rollout;
pub mod routes;
pub mod run;
pub mod schedule;
pub mod schema;
pub mod search;
pub mod slice;
pub mod text;
pub mod traffic;
pub mod trigger;
pub mod validation;
pub mod watch;
pub mod workflow;

pub use alert::Alert;
pub use alias::Alias;
pub use column::ColumnKind;
pub use digest::Digest;
pub use gate::Gate;
pub use id::{AlertId, PredictionId, ReportId, RunId, SilenceId, WorkflowId};
pub use id_prefix::IdPrefix;
pub use name::{AliasName, DatasetName, ExperimentName, ModelName, Qualified, ReplicaId};
pub use namespace::Namespace;
pub use policy::Policy;
pub use principal::Principal;
pub use recipe::{Architecture, Recipe, Task};
pub use replica::{ReplicaState, ServedModel, ServedVersion, ShadowComparison};
pub use routes::{Assignment, Routes, VersionRef};
pub use search::Search;
pub use slice::Slice;
pub use traffic::Traffic;
pub use watch::{ColumnRule, Watch, WatchSettings};
pub use workflow::{Trigger, WorkflowEvent, WorkflowState};
