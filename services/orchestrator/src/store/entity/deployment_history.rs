//! A version that was stable: a rollback returns to the one before.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "deployment_history")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub model: String,
    /// The deployment's revision when the version became stable.
    #[sea_orm(primary_key, auto_increment = false)]
    pub revision: i64,
    pub version: i32,
    pub bundle_digest: String,
    /// Whether it was rolled back.
    pub withdrawn: bool,
    pub stable_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
