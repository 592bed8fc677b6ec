//! Who acts.

use sea_orm::entity::prelude::*;

#[sea_orm::model]
#[derive(Clone, Debug, PartialEq, Eq, DeriveEntityModel)]
#[sea_orm(table_name = "leases")]
pub struct Model {
    #[sea_orm(primary_key, auto_increment = false)]
    pub name: String,
    pub holder: String,
    /// Grows whenever the holder changes.
    pub epoch: i64,
    pub until: DateTimeUtc,
}

impl ActiveModelBehavior for ActiveModel {}
