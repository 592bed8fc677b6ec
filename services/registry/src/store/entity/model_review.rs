//! Every review of every version; written once, never changed.

use sea_orm::entity::prelude::*;

use super::{Texts, model_version::Approval};

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "model_reviews")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub model: String,
    #[sea_orm(primary_key, auto_increment = false)]
    pub version: i32,
    /// The revision of the version that the review has made.
    #[sea_orm(primary_key, auto_increment = false)]
    pub number: i64,
    pub approval: Approval,
    pub reviewed_by: String,
    pub reason: String,
    pub evidence: Texts,
    pub reviewed_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
