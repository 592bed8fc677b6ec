//! A file of a run or of a logged model. Its bytes are a blob.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "artifacts")]
pub struct Model {
    /// The id of the run or of the logged model.
    #[sea_orm(primary_key, auto_increment = false)]
    pub owner: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub path: String,
    pub digest: String,
    pub bytes: i64,
    pub written_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
