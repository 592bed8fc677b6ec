//! A model that a run has logged with MLflow's client, with its files.

use sea_orm::entity::prelude::*;

use super::Texts;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "logged_models")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub id: Uuid,
    pub experiment_id: i64,
    pub name: String,
    pub model_type: String,
    pub run_id: Option<Uuid>,
    pub status: String,
    pub status_message: String,
    pub params: Texts,
    pub tags: Texts,
    pub created_at: DateTimeUtc,
    pub updated_at: DateTimeUtc,
    pub deleted_at: Option<DateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}
