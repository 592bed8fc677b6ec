//! The last point of one metric of one run: that of the highest step which is a number.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "run_last_metrics")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub run_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// `None` while no point is a number.
    pub value: Option<f64>,
    pub step: i64,
    pub time: DateTimeUtc,
    /// The sequence of the last chunk of the metric.
    pub last_chunk: i64,
    /// The points of that chunk.
    pub chunk_points: i64,
}

impl ActiveModelBehavior for ActiveModel {}
