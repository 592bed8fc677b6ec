//! Segments become chunks, lives become incarnations, and the key of a report has room for a slice.

#![expect(elided_lifetimes_in_paths, reason = "async_trait expects methods as the trait declares them")]

use sea_orm_migration::{prelude::*, schema::*};

use super::{index, name};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

const REPORT_KEY: [&str; 5] = ["model", "from_ms", "until_ms", "bundle_digest", "model_version"];

async fn rename(manager: &SchemaManager<'_>, from: &'static str, to: &'static str) -> Result<(), DbErr> {
    manager.rename_table(Table::rename().table(name(from), name(to)).to_owned()).await
}

/// SQLite cannot rename an index: it is dropped and created under its new name.
async fn replace(
    manager: &SchemaManager<'_>,
    old: (&'static str, &'static str),
    new: IndexCreateStatement,
) -> Result<(), DbErr> {
    let (table, index) = old;
    manager.drop_index(Index::drop().table(name(table)).name(index).to_owned()).await?;
    manager.create_index(new).await
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        rename(manager, "lives", "incarnations").await?;
        rename(manager, "segments", "chunks").await?;
        let by_event = index("chunks", "chunks_by_event", &["model", "kind", "event_max"]);
        replace(manager, ("chunks", "segments_by_event"), by_event).await?;
        replace(manager, ("chunks", "segments_by_id"), index("chunks", "chunks_by_id", &["kind", "id_max"])).await?;
        let slice = Table::alter().table(name("reports")).add_column(string(name("slice")).default("")).to_owned();
        manager.alter_table(slice).await?;
        let key = [&REPORT_KEY[..], &["slice"]].concat();
        replace(manager, ("reports", "reports_once"), index("reports", "reports_once", &key).unique().to_owned()).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let key = index("reports", "reports_once", &REPORT_KEY).unique().to_owned();
        replace(manager, ("reports", "reports_once"), key).await?;
        let slice = Table::alter().table(name("reports")).drop_column(name("slice")).to_owned();
        manager.alter_table(slice).await?;
        rename(manager, "chunks", "segments").await?;
        rename(manager, "incarnations", "lives").await?;
        let by_event = index("segments", "segments_by_event", &["model", "kind", "event_max"]);
        replace(manager, ("segments", "chunks_by_event"), by_event).await?;
        replace(manager, ("segments", "chunks_by_id"), index("segments", "segments_by_id", &["kind", "id_max"])).await
    }
}
