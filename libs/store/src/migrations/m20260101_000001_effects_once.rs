//! Outbox, inbox and idempotency keys.

#![expect(elided_lifetimes_in_paths, reason = "async_trait's expansion of the trait allows no named lifetime here")]

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, big_pk_auto, integer, json, string, string_null, timestamp_with_time_zone, uuid},
};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(outbox()).await?;
        manager.create_table(outbox_total_table()).await?;
        manager.create_table(inbox()).await?;
        manager.create_table(idempotency()).await?;
        for (table, column) in [("inbox", "received_at"), ("idempotency", "answered_at")] {
            let index = Index::create().name(format!("{table}_{column}")).table(table).col(column).take();
            manager.create_index(index).await?;
        }
        let none_yet = Query::insert()
            .into_table("outbox_total")
            .columns(["id", "published"])
            .values_panic([1.into(), 0.into()])
            .take();
        manager.execute(none_yet).await
    }
}

fn outbox() -> TableCreateStatement {
    Table::create()
        .table("outbox")
        .col(big_pk_auto("sequence"))
        .col(uuid("id").unique_key())
        .col(string_null("source"))
        .col(string("kind"))
        .col(string("name"))
        .col(json("data"))
        .col(string("correlation_id"))
        .col(string("causation_id"))
        .col(string("partition_key"))
        .col(string_null("traceparent"))
        .col(timestamp_with_time_zone("time"))
        .take()
}

fn outbox_total_table() -> TableCreateStatement {
    Table::create().table("outbox_total").col(integer("id").primary_key()).col(big_integer("published")).take()
}

fn inbox() -> TableCreateStatement {
    Table::create()
        .table("inbox")
        .col(string("consumer"))
        .col(string("message_id"))
        .col(timestamp_with_time_zone("received_at"))
        .primary_key(Index::create().col("consumer").col("message_id"))
        .take()
}

fn idempotency() -> TableCreateStatement {
    Table::create()
        .table("idempotency")
        .col(string("scope"))
        .col(string("key"))
        .col(string("request_digest"))
        .col(json("response"))
        .col(timestamp_with_time_zone("answered_at"))
        .primary_key(Index::create().col("scope").col("key"))
        .take()
}
