//! Outcomes can name their row by the request's id, or by an entity key and an event time.

#![expect(elided_lifetimes_in_paths, reason = "async_trait expects methods as the trait declares them")]

use sea_orm_migration::{prelude::*, schema::*};

use super::{index, name};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

fn join_keys() -> TableCreateStatement {
    let mut table = Table::create();
    table
        .table(name("join_keys"))
        .col(ColumnDef::new(name("join_key")).uuid().not_null().primary_key())
        .col(uuid(name("prediction")))
        .col(big_integer(name("row")))
        .col(boolean(name("is_ambiguous")))
        .col(timestamp_with_time_zone(name("captured_at")));
    table
}

fn pending_outcomes() -> TableCreateStatement {
    let mut table = Table::create();
    table
        .table(name("pending_outcomes"))
        .col(ColumnDef::new(name("id")).big_integer().not_null().auto_increment().primary_key())
        .col(string(name("model")))
        .col(uuid(name("join_key")))
        .col(big_integer(name("row")))
        .col(text_null(name("label")))
        .col(double_null(name("number")))
        .col(big_integer(name("reported_at")))
        .col(big_integer(name("reported_sequence")))
        .col(big_integer(name("reported_line")))
        .col(text(name("about")))
        .col(timestamp_with_time_zone(name("captured_at")));
    table
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let ambiguous = big_integer(name("ambiguous")).default(0).to_owned();
        let checks = Table::alter().table(name("outcome_checks")).add_column(ambiguous).to_owned();
        manager.alter_table(checks).await?;
        manager.create_table(join_keys()).await?;
        manager.create_index(index("join_keys", "join_keys_age", &["captured_at"])).await?;
        manager.create_table(pending_outcomes()).await?;
        manager.create_index(index("pending_outcomes", "pending_outcomes_age", &["model", "captured_at"])).await?;
        manager.create_index(index("pending_outcomes", "pending_outcomes_overdue", &["captured_at"])).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["pending_outcomes", "join_keys"] {
            manager.drop_table(Table::drop().table(name(table)).to_owned()).await?;
        }
        let checks = Table::alter().table(name("outcome_checks")).drop_column(name("ambiguous")).to_owned();
        manager.alter_table(checks).await
    }
}
