//! The count of rows that are not in the sample of their model.

#![expect(elided_lifetimes_in_paths, reason = "async_trait expects methods as the trait declares them")]

use sea_orm_migration::{prelude::*, schema::*};

use super::name;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let counter = big_integer(name("unsampled")).default(0).to_owned();
        manager.alter_table(Table::alter().table(name("logs")).add_column(counter).to_owned()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.alter_table(Table::alter().table(name("logs")).drop_column(name("unsampled")).to_owned()).await
    }
}
