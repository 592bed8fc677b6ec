//! Points of one metric of one run.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "run_metric_chunks")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub run_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// Counts the chunks of the metric from 0.
    #[sea_orm(primary_key, auto_increment = false)]
    pub sequence: i64,
    pub points: i64,
    pub min_step: i64,
    pub max_step: i64,
    pub data: Vec<u8>,
}

impl ActiveModelBehavior for ActiveModel {}
