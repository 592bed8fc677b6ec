//! A model: its names, and the number of its latest version. Updating this row is what puts two registrations of the same model one after the
//! other.

use sea_orm::entity::prelude::*;

use super::Texts;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "models")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    /// 0 without a version. Numbers of deleted versions are not used again.
    pub latest: i32,
    pub created_at: DateTimeUtc,
    #[sea_orm(unique)]
    pub title: String,
    pub description: String,
    pub tags: Texts,
    pub updated_at: Option<DateTimeUtc>,
    pub deleted_at: Option<DateTimeUtc>,
}

impl ActiveModelBehavior for ActiveModel {}
