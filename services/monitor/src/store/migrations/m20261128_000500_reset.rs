//! Test rows are counted apart, windows can be restarted, and the outcomes of each chunk are checked against the predictions.

#![expect(elided_lifetimes_in_paths, reason = "async_trait expects methods as the trait declares them")]

use sea_orm_migration::{prelude::*, schema::*};

use super::{index, name};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

const REPORT_KEY: [&str; 6] = ["model", "from_ms", "until_ms", "bundle_digest", "model_version", "slice"];
/// Table and column of the new counters and positions.
const COUNTERS: [(&str, &str); 3] = [("logs", "tests"), ("logs", "reset_at"), ("reports", "since")];
/// The counters of `outcome_checks`.
const COUNTS: [&str; 6] = ["outcomes", "matched", "unmatched", "row_out_of_range", "wrong_model", "invalid_label"];

fn outcome_checks() -> TableCreateStatement {
    let mut table = Table::create();
    table
        .table(name("outcome_checks"))
        .col(ColumnDef::new(name("chunk_id")).uuid().not_null().primary_key())
        .col(string(name("model")));
    for count in COUNTS {
        table.col(big_integer(name(count)).default(0));
    }
    table
        .col(json(name("examples")))
        .col(timestamp_with_time_zone(name("captured_at")))
        .col(timestamp_with_time_zone_null(name("due_at")));
    table
}

/// A check of each chunk of outcomes that earlier releases captured, due at once.
fn of_captured() -> Result<InsertStatement, DbErr> {
    let captured = ["id", "model", "rows"].map(|column| Expr::col(name(column)));
    let mut select = Query::select();
    select
        .exprs(captured)
        .expr(Expr::value(serde_json::json!({})))
        .exprs(["created_at"; 2].map(|column| Expr::col(name(column))));
    select.from(name("chunks")).and_where(Expr::col(name("kind")).eq("outcome"));
    let mut insert = Query::insert();
    let columns = ["chunk_id", "model", "outcomes", "examples", "captured_at", "due_at"].map(name);
    insert.into_table(name("outcome_checks")).columns(columns);
    insert.select_from(select).map_err(|error| DbErr::Migration(error.to_string()))?;
    Ok(insert)
}

async fn replace_report_key(manager: &SchemaManager<'_>, key: &[&'static str]) -> Result<(), DbErr> {
    manager.drop_index(Index::drop().table(name("reports")).name("reports_once").to_owned()).await?;
    manager.create_index(index("reports", "reports_once", key).unique().to_owned()).await
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (table, column) in COUNTERS {
            let added = Table::alter().table(name(table)).add_column(big_integer(name(column)).default(0)).to_owned();
            manager.alter_table(added).await?;
        }
        let example = Table::alter().table(name("logs")).add_column(text_null(name("bad_line"))).to_owned();
        manager.alter_table(example).await?;
        replace_report_key(manager, &[&REPORT_KEY[..], &["since"]].concat()).await?;
        manager.create_table(outcome_checks()).await?;
        manager.create_index(index("outcome_checks", "outcome_checks_due", &["model", "due_at"])).await?;
        manager.get_connection().execute(&of_captured()?).await?;
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_table(Table::drop().table(name("outcome_checks")).to_owned()).await?;
        replace_report_key(manager, &REPORT_KEY).await?;
        for (table, column) in COUNTERS.into_iter().chain([("logs", "bad_line")]) {
            manager.alter_table(Table::alter().table(name(table)).drop_column(name(column)).to_owned()).await?;
        }
        Ok(())
    }
}
