//! Alerts, notifications and silences; the findings of reports, by which alerts open and resolve; when a feed has stopped; and which late rows
//! were counted.

#![expect(elided_lifetimes_in_paths, reason = "async_trait expects methods as the trait declares them")]

use sea_orm_migration::{prelude::*, schema::*};

use super::{index, name};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

/// Columns that are added to earlier tables.
fn added() -> [(&'static str, ColumnDef); 4] {
    [
        ("reports", json_null(name("findings"))),
        ("watches", big_integer_null(name("feed_timeout_ms"))),
        ("logs", big_integer(name("late_seen")).default(0).to_owned()),
        ("logs", big_integer(name("predictions_seen")).default(0).to_owned()),
    ]
}

fn alerts() -> TableCreateStatement {
    let mut table = Table::create();
    table.table(name("alerts")).col(uuid(name("id")).primary_key());
    table.col(string(name("model"))).col(string(name("kind"))).col(boolean(name("is_open")));
    table
        .col(big_integer(name("since")))
        .col(big_integer(name("until_ms")))
        .col(timestamp_with_time_zone(name("updated_at")));
    table.col(boolean(name("is_announced"))).col(boolean(name("is_pending"))).col(json(name("content")));
    table
}

fn notifications() -> TableCreateStatement {
    let mut table = Table::create();
    table.table(name("notifications")).col(uuid(name("id")).primary_key());
    table.col(uuid(name("alert_id"))).col(string(name("receiver"))).col(string(name("state"))).col(text(name("body")));
    table.col(timestamp_with_time_zone(name("created_at"))).col(integer(name("attempts")));
    for time in ["next_attempt_at", "delivered_at", "failed_at"] {
        table.col(timestamp_with_time_zone_null(name(time)));
    }
    table.col(text(name("error")));
    table
}

fn silences() -> TableCreateStatement {
    let mut table = Table::create();
    table.table(name("silences")).col(uuid(name("id")).primary_key());
    table.col(string(name("model"))).col(string_null(name("kind")));
    table.col(timestamp_with_time_zone(name("created_at"))).col(timestamp_with_time_zone(name("until")));
    table.col(string(name("by"))).col(text(name("why")));
    table
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for (table, column) in added() {
            manager.alter_table(Table::alter().table(name(table)).add_column(column).to_owned()).await?;
        }
        // Rows that were late before are no news.
        let seen = Query::update()
            .table(name("logs"))
            .values([
                (name("late_seen"), Expr::col(name("late"))),
                (name("predictions_seen"), Expr::col(name("predictions"))),
            ])
            .to_owned();
        manager.execute(seen).await?;
        for table in [alerts(), notifications(), silences()] {
            manager.create_table(table).await?;
        }
        manager.create_index(index("alerts", "alerts_by_model", &["model", "kind", "is_open"])).await?;
        manager.create_index(index("alerts", "alerts_by_update", &["updated_at"])).await?;
        manager.create_index(index("alerts", "alerts_open", &["is_open"])).await?;
        manager.create_index(index("alerts", "alerts_pending", &["is_pending", "id"])).await?;
        manager.create_index(index("notifications", "notifications_by_alert", &["alert_id"])).await?;
        let pending = index("notifications", "notifications_by_attempt", &["receiver", "next_attempt_at"]);
        manager.create_index(pending).await?;
        manager.create_index(index("silences", "silences_by_end", &["until"])).await?;
        manager.create_index(index("chunks", "chunks_by_capture", &["model", "kind", "created_at"])).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        manager.drop_index(Index::drop().table(name("chunks")).name("chunks_by_capture").to_owned()).await?;
        for table in ["silences", "notifications", "alerts"] {
            manager.drop_table(Table::drop().table(name(table)).to_owned()).await?;
        }
        for (table, column) in [
            ("logs", "predictions_seen"),
            ("logs", "late_seen"),
            ("watches", "feed_timeout_ms"),
            ("reports", "findings"),
        ] {
            manager.alter_table(Table::alter().table(name(table)).drop_column(name(column)).to_owned()).await?;
        }
        Ok(())
    }
}
