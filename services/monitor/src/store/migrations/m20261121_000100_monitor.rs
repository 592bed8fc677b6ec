//! The first tables. A chunk was called a segment then.

#![expect(elided_lifetimes_in_paths, reason = "async_trait expects methods as the trait declares them")]

use sea_orm_migration::{prelude::*, schema::*};

use super::{index, name};

#[derive(DeriveMigrationName)]
pub(super) struct Migration;

fn segments() -> TableCreateStatement {
    Table::create()
        .table(name("segments"))
        .col(ColumnDef::new(name("position")).big_integer().not_null().auto_increment().primary_key())
        .col(uuid_uniq(name("id")))
        .col(string(name("kind")))
        .col(string(name("model")))
        .col(big_integer(name("model_version")))
        .col(string(name("bundle_digest")))
        .col(string(name("object_key")))
        .col(string(name("digest")))
        .col(big_integer(name("rows")))
        .col(big_integer(name("bytes")))
        .col(big_integer_null(name("event_min")))
        .col(big_integer_null(name("event_max")))
        .col(uuid(name("id_min")))
        .col(uuid(name("id_max")))
        .col(big_integer_null(name("latest_before")))
        .col(timestamp_with_time_zone(name("created_at")))
        .to_owned()
}

fn logs() -> TableCreateStatement {
    Table::create()
        .table(name("logs"))
        .col(ColumnDef::new(name("model")).string().not_null().primary_key())
        .col(big_integer(name("predictions")).default(0))
        .col(big_integer(name("lost")).default(0))
        .col(big_integer(name("late")).default(0))
        .col(big_integer(name("outcomes")).default(0))
        .col(big_integer(name("bad_lines")).default(0))
        .col(big_integer_null(name("latest_event")))
        .col(big_integer_null(name("reported_until")))
        .to_owned()
}

fn reports() -> TableCreateStatement {
    Table::create()
        .table(name("reports"))
        .col(ColumnDef::new(name("id")).uuid().not_null().primary_key())
        .col(string(name("model")))
        .col(big_integer(name("model_version")))
        .col(string(name("bundle_digest")))
        .col(big_integer(name("from_ms")))
        .col(big_integer(name("until_ms")))
        .col(big_integer(name("rows")))
        .col(json(name("drift")))
        .col(json_null(name("quality")))
        .col(uuid(name("id_min")))
        .col(uuid(name("id_max")))
        .col(timestamp_with_time_zone(name("closed_at")))
        .col(timestamp_with_time_zone_null(name("quality_at")))
        .col(uuid_null(name("correlation_id")))
        .col(text(name("reason")))
        .to_owned()
}

fn watches() -> TableCreateStatement {
    Table::create()
        .table(name("watches"))
        .col(ColumnDef::new(name("model")).string().not_null().primary_key())
        .col(json(name("settings")))
        .col(big_integer(name("revision")))
        .to_owned()
}

#[async_trait::async_trait]
impl MigrationTrait for Migration {
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
            manager.drop_table(Table::drop().table(name(table)).to_owned()).await?;
        }
        Ok(())
    }
}
