//! The tables, the same on SQLite and PostgreSQL.

#![expect(elided_lifetimes_in_paths, reason = "async_trait wants methods written as the trait writes them")]

use sea_orm_migration::{prelude::*, schema::*};

/// The shared tables (outbox, inbox, idempotency) and the monitor's own.
pub struct Migrator;

#[async_trait::async_trait]
impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut all = rekindle_store::migrations::shared();
        all.push(Box::new(Tables));
        all.push(Box::new(Lives));
        all
    }
}

struct Tables;

/// How far the numbering of each life of a replica has come.
struct Lives;

impl MigrationName for Tables {
    fn name(&self) -> &str {
        "m20261121_000100_monitor"
    }
}

fn id(name: &'static str) -> Alias {
    Alias::new(name)
}

fn segments() -> TableCreateStatement {
    Table::create()
        .table(id("segments"))
        .col(ColumnDef::new(id("position")).big_integer().not_null().auto_increment().primary_key())
        .col(uuid_uniq(id("id")))
        .col(string(id("kind")))
        .col(string(id("model")))
        .col(big_integer(id("model_version")))
        .col(string(id("bundle_digest")))
        .col(string(id("object_key")))
        .col(string(id("digest")))
        .col(big_integer(id("rows")))
        .col(big_integer(id("bytes")))
        .col(big_integer_null(id("event_min")))
        .col(big_integer_null(id("event_max")))
        .col(uuid(id("id_min")))
        .col(uuid(id("id_max")))
        .col(big_integer_null(id("latest_before")))
        .col(timestamp_with_time_zone(id("created_at")))
        .to_owned()
}

fn logs() -> TableCreateStatement {
    Table::create()
        .table(id("logs"))
        .col(ColumnDef::new(id("model")).string().not_null().primary_key())
        .col(big_integer(id("predictions")).default(0))
        .col(big_integer(id("lost")).default(0))
        .col(big_integer(id("late")).default(0))
        .col(big_integer(id("outcomes")).default(0))
        .col(big_integer(id("bad_lines")).default(0))
        .col(big_integer_null(id("latest_event")))
        .col(big_integer_null(id("reported_until")))
        .to_owned()
}

fn reports() -> TableCreateStatement {
    Table::create()
        .table(id("reports"))
        .col(ColumnDef::new(id("id")).uuid().not_null().primary_key())
        .col(string(id("model")))
        .col(big_integer(id("model_version")))
        .col(string(id("bundle_digest")))
        .col(big_integer(id("from_ms")))
        .col(big_integer(id("until_ms")))
        .col(big_integer(id("rows")))
        .col(json(id("drift")))
        .col(json_null(id("quality")))
        .col(uuid(id("id_min")))
        .col(uuid(id("id_max")))
        .col(timestamp_with_time_zone(id("closed_at")))
        .col(timestamp_with_time_zone_null(id("quality_at")))
        .col(uuid_null(id("correlation_id")))
        .col(text(id("reason")))
        .to_owned()
}

fn watches() -> TableCreateStatement {
    Table::create()
        .table(id("watches"))
        .col(ColumnDef::new(id("model")).string().not_null().primary_key())
        .col(json(id("settings")))
        .col(big_integer(id("revision")))
        .to_owned()
}

fn index(table: &'static str, name: &'static str, columns: &[&'static str]) -> IndexCreateStatement {
    let mut index = Index::create();
    index.name(name).table(id(table));
    for &column in columns {
        index.col(id(column));
    }
    index
}

#[async_trait::async_trait]
impl MigrationTrait for Tables {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [segments(), logs(), reports(), watches()] {
            manager.create_table(table).await?;
        }
        let once =
            index("reports", "reports_once", &["model", "from_ms", "until_ms", "bundle_digest", "model_version"])
                .unique()
                .to_owned();
        for index in [
            index("segments", "segments_by_event", &["model", "kind", "event_max"]),
            index("segments", "segments_by_id", &["kind", "id_max"]),
            index("reports", "reports_newest", &["model", "until_ms"]),
            once,
        ] {
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in ["watches", "reports", "logs", "segments"] {
            manager.drop_table(Table::drop().table(id(table)).to_owned()).await?;
        }
        Ok(())
    }
}

impl MigrationName for Lives {
    fn name(&self) -> &str {
        "m20261121_000200_lives"
    }
}

#[async_trait::async_trait]
impl MigrationTrait for Lives {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let lives = Table::create()
            .table(id("lives"))
            .col(ColumnDef::new(id("incarnation")).uuid().not_null().primary_key())
            .col(big_integer(id("highest")))
            .col(timestamp_with_time_zone(id("seen_at")))
            .to_owned();
        manager.create_table(lives).await?;
        let counter =
            Table::alter().table(id("logs")).add_column(big_integer(id("lost_messages")).default(0)).to_owned();
        manager.alter_table(counter).await
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let counter = Table::alter().table(id("logs")).drop_column(id("lost_messages")).to_owned();
        manager.alter_table(counter).await?;
        manager.drop_table(Table::drop().table(id("lives")).to_owned()).await
    }
}
