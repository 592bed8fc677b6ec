//! The times of schedules, and triggers that started no workflow.

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, string, text, timestamp_with_time_zone, timestamp_with_time_zone_null},
};

pub(super) struct Triggers;

impl MigrationName for Triggers {
    fn name(&self) -> &'static str {
        "m20261130_000001_triggers"
    }
}

#[async_trait::async_trait]
#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait leaves the manager's lifetime out, and async_trait distinguishes them"
)]
impl MigrationTrait for Triggers {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut since = timestamp_with_time_zone_null("schedule_from");
        manager.alter_table(Table::alter().table("policies").add_column(&mut since).take()).await?;
        manager.create_table(ignored_triggers()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table("ignored_triggers").take()).await?;
        manager.alter_table(Table::alter().table("policies").drop_column("schedule_from").take()).await
    }
}

fn ignored_triggers() -> TableCreateStatement {
    Table::create()
        .table("ignored_triggers")
        .col(string("model"))
        .col(string("trigger"))
        .col(string("reason"))
        .col(text("explanation"))
        .col(big_integer("count"))
        .col(timestamp_with_time_zone("first_at"))
        .col(timestamp_with_time_zone("last_at"))
        .primary_key(Index::create().col("model").col("trigger").col("reason"))
        .to_owned()
}
