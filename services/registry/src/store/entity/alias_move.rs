//! Every move of every alias; written once, never changed.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "alias_moves")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub model: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub alias: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub revision: i64,
    pub version: i32,
    pub bundle_digest: String,
    pub moved_by: String,
    pub reason: String,
    pub moved_at: DateTimeUtc,
    pub deleted: bool,
}

impl ActiveModelBehavior for ActiveModel {}
