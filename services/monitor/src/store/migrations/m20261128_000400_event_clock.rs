//! The rows that are ahead of the event clock of a log.

#![expect(elided_lifetimes_in_paths, reason = "async_trait expects methods as the trait declares them")]

use sea_orm_migration::{prelude::*, schema::*};

use super::name;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let ahead = Table::alter().table(name("logs")).add_column(json(name("ahead")).default("[]")).to_owned();
        manager.alter_table(ahead).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let ahead = Table::alter().table(name("logs")).drop_column(name("ahead")).to_owned();
        manager.alter_table(ahead).await
    }
}
