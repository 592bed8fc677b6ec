//! One version of a dataset; written once, and only deleted and restored.

use rekindle_domain::dataset::{Column as DatasetColumn, ColumnSummary, DatasetSchema, RuleViolation};
use sea_orm::{FromJsonQueryResult, entity::prelude::*};
use serde::{Deserialize, Serialize};

use super::Digests;

/// The columns, in order, as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Columns(pub Vec<DatasetColumn>);

/// What the columns hold, in order, as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Profile(pub Vec<ColumnSummary>);

/// What is declared of the columns, as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Declared(pub DatasetSchema);

/// The rules that rows break, as JSON.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize, FromJsonQueryResult)]
pub struct Violations(pub Vec<RuleViolation>);

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "dataset_versions")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub version: i32,
    pub content_digest: String,
    pub blob_digest: String,
    pub rows: i64,
    pub bytes: i64,
    pub columns: Columns,
    pub time_column: Option<String>,
    pub time_min: Option<DateTimeUtc>,
    pub time_max: Option<DateTimeUtc>,
    pub parents: Digests,
    pub description: String,
    pub profile: Profile,
    pub created_at: DateTimeUtc,
    pub declared: Option<Declared>,
    pub violations: Option<Violations>,
    pub deleted_at: Option<DateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}
