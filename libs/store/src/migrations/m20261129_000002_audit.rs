//! The audit trail.

#![expect(elided_lifetimes_in_paths, reason = "async_trait's expansion of the trait allows no named lifetime here")]

use sea_orm_migration::{
    prelude::*,
    schema::{
        big_integer, big_integer_null, big_pk_auto, integer, string, string_null, text, timestamp_with_time_zone, uuid,
    },
};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let entries = Table::create()
            .table("audit")
            .col(big_pk_auto("sequence"))
            .col(big_integer_null("position").unique_key())
            .col(string_null("hash"))
            .col(uuid("request_id"))
            .col(string("actor"))
            .col(string("action"))
            .col(string("object"))
            .col(text("before"))
            .col(text("after"))
            .col(text("reason"))
            .col(string("correlation_id"))
            .col(timestamp_with_time_zone("time"))
            .to_owned();
        manager.create_table(entries).await?;
        let head = Table::create()
            .table("audit_head")
            .col(integer("id").primary_key())
            .col(big_integer("entries"))
            .col(string("hash"))
            .to_owned();
        manager.create_table(head).await?;
        for (name, columns) in [("audit_by_object", ["object", "sequence"]), ("audit_by_actor", ["actor", "sequence"])]
        {
            let mut index = Index::create().name(name).table("audit").to_owned();
            for column in columns {
                index.col(column);
            }
            manager.create_index(index).await?;
        }
        let empty = Query::insert()
            .into_table("audit_head")
            .columns(["id", "entries", "hash"])
            .values_panic([1.into(), 0_i64.into(), "".into()])
            .take();
        manager.execute(empty).await
    }
}
