//! A dataset that a run has read, or a model that it has read or written.

use sea_orm::entity::prelude::*;

/// What a run has to do with it, as the database spells it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, EnumIter, DeriveActiveEnum)]
#[sea_orm(rs_type = "String", db_type = "String(StringLen::None)", rename_all = "SCREAMING_SNAKE_CASE")]
pub enum Kind {
    Dataset,
    ModelInput,
    ModelOutput,
}

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "run_links")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub run_id: Uuid,
    #[sea_orm(primary_key, auto_increment = false)]
    pub kind: Kind,
    #[sea_orm(primary_key, auto_increment = false)]
    pub key: String,
    /// As MLflow's API has it.
    pub data: Json,
    pub written_at: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
