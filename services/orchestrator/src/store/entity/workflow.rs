//! A workflow. [`rekindle_domain::workflow::WorkflowState`] defines its transitions; each is an update guarded by the epoch that was read.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "workflows")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub model: String,
    /// The model while the workflow has not ended: unique, so that a model has one active workflow at most.
    #[sea_orm(unique)]
    pub active_model: Option<String>,
    pub state: String,
    pub epoch: i64,
    /// From when in event time the cooldown counts; set once training has begun.
    pub cooldown_from: Option<DateTimeUtc>,
    pub record: Json,
}

impl ActiveModelBehavior for ActiveModel {}
