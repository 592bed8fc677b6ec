//! A model's policy.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "policies")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub model: String,
    pub revision: i64,
    pub policy: Json,
    /// Whether the monitor has acknowledged the policy's watch.
    pub watch_pushed: bool,
    /// Of a policy with a schedule: the latest of its times that was considered, or when the schedule was set.
    pub schedule_from: Option<DateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}
