//! The estimate of a report, whether the metrics that were measured later were outside of its interval, and the revisions of its quality.

#![expect(elided_lifetimes_in_paths, reason = "async_trait expects methods as the trait declares them")]

use sea_orm_migration::{prelude::*, schema::*};

use super::{index, name};

const BY_POSITION: &str = "chunks_by_position";

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let columns = [
            json_null(name("estimate")),
            boolean_null(name("estimate_missed")),
            integer(name("revision")).default(1).to_owned(),
            text(name("changes")).default("").to_owned(),
            big_integer(name("outcomes_position")).default(0).to_owned(),
            json_null(name("announced")),
        ];
        for column in columns {
            manager.alter_table(Table::alter().table(name("reports")).add_column(column).to_owned()).await?;
        }
        // Windows that earlier releases measured are not measured again.
        let counted = "UPDATE reports SET outcomes_position = (SELECT COALESCE(MAX(position), 0) FROM chunks)";
        manager.get_connection().execute_unprepared(counted).await?;
        manager.create_index(index("chunks", BY_POSITION, &["model", "kind", "position"])).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_index(Index::drop().table(name("chunks")).name(BY_POSITION).to_owned()).await?;
        for column in ["announced", "outcomes_position", "changes", "revision", "estimate_missed", "estimate"] {
            manager.alter_table(Table::alter().table(name("reports")).drop_column(name(column)).to_owned()).await?;
        }
        Ok(())
    }
}
