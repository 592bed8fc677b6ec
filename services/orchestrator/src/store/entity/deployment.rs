//! A deployment. The planner in [`rekindle_domain::rollout`] decides its changes; each is an update guarded by the revision that was read.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "deployments")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub model: String,
    pub revision: i64,
    pub record: Json,
}

impl ActiveModelBehavior for ActiveModel {}
