//! A file of a run. Its bytes are a blob.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "run_artifacts")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub run_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub path: String,
    pub digest: String,
    pub bytes: i64,
    pub written_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
