//! Named leases.

#![expect(elided_lifetimes_in_paths, reason = "async_trait's expansion of the trait allows no named lifetime here")]

use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, string},
};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // The orchestrator's database had a table of leases of its own, with an expiry instead of renewals. Its epochs go on.
        if manager.has_table("leases").await? {
            manager.alter_table(Table::alter().table("leases").drop_column("until").take()).await?;
            let renewals = big_integer("renewals").default(0).take();
            manager.alter_table(Table::alter().table("leases").add_column(renewals).take()).await?;
        } else {
            manager.create_table(leases()).await?;
        }
        // Makes the epoch a key column for PostgreSQL's row locks: a fenced transaction shuts out a change of the epoch only.
        let epochs = Index::create().name("leases_name_epoch").table("leases").col("name").col("epoch").unique().take();
        manager.create_index(epochs).await
    }
}

fn leases() -> TableCreateStatement {
    Table::create()
        .table("leases")
        .col(string("name").primary_key())
        .col(string("holder"))
        .col(big_integer("epoch"))
        .col(big_integer("renewals").default(0))
        .take()
}
