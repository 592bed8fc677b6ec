//! The identity of the database, and the position of each event among those that it has published.

#![expect(elided_lifetimes_in_paths, reason = "async_trait's expansion of the trait allows no named lifetime here")]

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, big_integer_null, uuid},
};
use uuid::Uuid;

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut position = big_integer_null("position");
        manager.alter_table(Table::alter().table("outbox").add_column(&mut position).take()).await?;
        // SQLite adds one column per statement, and one that is not null needs a default.
        for mut column in [big_integer("claimed").default(0).take(), uuid("database").default(Uuid::nil()).take()] {
            manager.alter_table(Table::alter().table("outbox_total").add_column(&mut column).take()).await?;
        }
        let begin = Query::update()
            .table("outbox_total")
            .value("claimed", Expr::col("published"))
            .value("database", Uuid::new_v4())
            .take();
        manager.execute(begin).await
    }
}
