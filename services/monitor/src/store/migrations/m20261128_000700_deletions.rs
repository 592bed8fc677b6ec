//! What retention has deleted, and the indexes by which chunks are found by age and models by what is due.

#![expect(elided_lifetimes_in_paths, reason = "async_trait expects methods as the trait declares them")]

use sea_orm_migration::{prelude::*, schema::*};

use super::{index, name};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

fn deletions() -> TableCreateStatement {
    let mut table = Table::create();
    table.table(name("deletions")).col(string(name("model")).primary_key());
    for count in ["predictions", "tests", "outcomes", "chunks", "bytes", "position"] {
        table.col(big_integer(name(count)));
    }
    table.col(big_integer_null(name("events_until"))).col(timestamp_with_time_zone(name("deleted_at")));
    table
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.create_table(deletions()).await?;
        manager.create_index(index("chunks", "chunks_by_age", &["created_at"])).await?;
        manager.create_index(index("outcome_checks", "outcome_checks_by_due", &["due_at", "model"])).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let by_due = Index::drop().table(name("outcome_checks")).name("outcome_checks_by_due").to_owned();
        manager.drop_index(by_due).await?;
        manager.drop_index(Index::drop().table(name("chunks")).name("chunks_by_age").to_owned()).await?;
        manager.drop_table(Table::drop().table(name("deletions")).to_owned()).await
    }
}
