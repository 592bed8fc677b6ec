//! The last value of a metric of a logged model.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, DeriveEntityModel)]
#[sea_orm(table_name = "logged_model_metrics")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub model_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub run_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub dataset_name: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub dataset_digest: String,
    /// `None`: not a number.
    pub value: Option<f64>,
    pub step: i64,
    pub time_ms: Option<i64>,
}

impl ActiveModelBehavior for ActiveModel {}
