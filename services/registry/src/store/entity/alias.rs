//! Where an alias points now: the latest of its moves.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "aliases")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub model: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub alias: String,
    pub version: i32,
    pub bundle_digest: String,
    pub revision: i64,
    pub moved_by: String,
    pub reason: String,
    pub moved_at: DateTimeUtc,
    pub deleted: bool,
}

impl ActiveModelBehavior for ActiveModel {}
