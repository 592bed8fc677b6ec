//! How far each incarnation of a replica has numbered its messages, and the count of missing ones. An incarnation was called a life then.

#![expect(elided_lifetimes_in_paths, reason = "async_trait expects methods as the trait declares them")]

use sea_orm_migration::{prelude::*, schema::*};

use super::name;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let lives = Table::create()
            .table(name("lives"))
            .col(ColumnDef::new(name("incarnation")).uuid().not_null().primary_key())
            .col(big_integer(name("highest")))
            .col(timestamp_with_time_zone(name("seen_at")))
            .to_owned();
        manager.create_table(lives).await?;
        let counter =
            Table::alter().table(name("logs")).add_column(big_integer(name("lost_messages")).default(0)).to_owned();
        manager.alter_table(counter).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let counter = Table::alter().table(name("logs")).drop_column(name("lost_messages")).to_owned();
        manager.alter_table(counter).await?;
        manager.drop_table(Table::drop().table(name("lives")).to_owned()).await
    }
}
