//! One file per table. A model here is a row as it lies in the database; the rest of the service never sees one.
#![expect(unreachable_pub, reason = "the derive macros need public models, whatever the module's own visibility")]

pub mod alias;
pub mod alias_move;
pub mod alias_protection;
pub mod artifact;
pub mod dataset;
pub mod dataset_version;
pub mod experiment;
pub mod logged_model;
pub mod logged_model_metric;
pub mod model;
pub mod model_review;
pub mod model_version;
pub mod run;
pub mod run_last_metric;
pub mod run_link;
pub mod run_metric_chunk;

use std::collections::BTreeMap;

use sea_orm::FromJsonQueryResult;
use serde::{Deserialize, Serialize};

/// Texts by name, as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Texts(pub BTreeMap<String, String>);

/// Numbers by name, as JSON.
#[derive(Debug, Clone, Default, PartialEq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Numbers(pub BTreeMap<String, f64>);

/// Digests in the order given, as JSON.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Digests(pub Vec<rekindle_domain::Digest>);
