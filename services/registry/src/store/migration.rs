//! The tables, in the words that SQLite and PostgreSQL share.

use chrono::{DateTime, Utc};
use sea_orm::{FromQueryResult, IntoActiveModel as _};
use sea_orm_migration::{
    prelude::*,
    schema::{
        big_integer, big_integer_null, blob, double, integer, json_binary, string, string_null, text,
        timestamp_with_time_zone, timestamp_with_time_zone_null, uuid, uuid_null,
    },
};
use uuid::Uuid;

use super::runs::metrics;

/// What every service has (outbox, inbox, idempotency keys) and then what is the registry's own.
pub(crate) struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut migrations = rekindle_store::migrations::shared();
        migrations.push(Box::new(Registry));
        migrations.push(Box::new(RunSearch));
        migrations
    }
}

struct Registry;

impl MigrationName for Registry {
    fn name(&self) -> &'static str {
        "m20260101_000001_registry"
    }
}

#[async_trait::async_trait]
#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait leaves the manager's lifetime out, and async_trait distinguishes them"
)]
impl MigrationTrait for Registry {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [
            numbered("datasets"),
            dataset_versions(),
            runs(),
            run_metrics(),
            numbered("models"),
            model_versions(),
            aliases(),
            alias_moves(),
        ] {
            manager.create_table(table).await?;
        }
        for index in indexes() {
            manager.create_index(index).await?;
        }
        Ok(())
    }

    async fn down(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        for table in [
            "alias_moves",
            "aliases",
            "model_versions",
            "models",
            "run_metrics",
            "runs",
            "dataset_versions",
            "datasets",
        ] {
            manager.drop_table(Table::drop().table(table).to_owned()).await?;
        }
        Ok(())
    }
}

/// Runs that are parts of others, leases that clients choose, the last point of each metric, by which runs are found and ordered, and points
/// in chunks.
struct RunSearch;

impl MigrationName for RunSearch {
    fn name(&self) -> &'static str {
        "m20261129_000001_run_search"
    }
}

#[async_trait::async_trait]
#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait leaves the manager's lifetime out, and async_trait distinguishes them"
)]
impl MigrationTrait for RunSearch {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        // SQLite adds one column per statement.
        for mut column in [uuid_null("parent_id"), big_integer_null("lease_ms")] {
            manager.alter_table(Table::alter().table("runs").add_column(&mut column).take()).await?;
        }
        manager.create_table(run_last_metrics()).await?;
        manager.create_table(run_metric_chunks()).await?;
        for (name, table, columns) in [
            ("runs_by_parent", "runs", &["parent_id"][..]),
            ("run_last_metrics_by_value", "run_last_metrics", &["name", "value"]),
        ] {
            manager.create_index(index(name, table, columns)).await?;
        }
        store_in_chunks(manager.get_connection()).await?;
        manager.drop_table(Table::drop().table("run_metrics").take()).await
    }
}

/// A point of the former table.
#[derive(Debug, FromQueryResult)]
struct FormerPoint {
    run_id: Uuid,
    name: String,
    step: i64,
    value: f64,
    time: DateTime<Utc>,
}

/// Copies the points of the former table, which has a row for each, into chunks.
async fn store_in_chunks(db: &SchemaManagerConnection<'_>) -> Result<(), DbErr> {
    /// Points of a chunk.
    const POINTS: u64 = 4096;
    let mut after: Option<FormerPoint> = None;
    let mut sequence = 0;
    loop {
        let mut query = Query::select();
        query.columns(["run_id", "name", "step", "value", "time"]).from("run_metrics").limit(POINTS);
        if let Some(FormerPoint { run_id, name, step, .. }) = &after {
            let key = Expr::tuple([Expr::col("run_id"), Expr::col("name"), Expr::col("step")]);
            query.and_where(key.gt(Expr::tuple([(*run_id).into(), name.as_str().into(), (*step).into()])));
        }
        for column in ["run_id", "name", "step"] {
            query.order_by(column, Order::Asc);
        }
        let rows = FormerPoint::find_by_statement(db.get_database_backend().build(&query)).all(db).await?;
        for rows in rows.chunk_by(|a, b| (a.run_id, &a.name) == (b.run_id, &b.name)) {
            let [FormerPoint { run_id, name, .. }, ..] = rows else { continue };
            let is_continued = after.as_ref().is_some_and(|after| (&after.run_id, &after.name) == (run_id, name));
            sequence = if is_continued { sequence + 1 } else { 0 };
            let point = |row: &FormerPoint| metrics::Point {
                step: row.step,
                time: row.time.timestamp_micros(),
                value: row.value,
            };
            let points: Vec<_> = rows.iter().map(point).collect();
            let Some(&newest) = points.last() else { continue };
            let last = metrics::last_row(*run_id, name, newest, sequence, points.len())?;
            let chunk = metrics::chunk(*run_id, name, sequence, &points);
            metrics::write(db, vec![chunk.into_active_model()], vec![last.into_active_model()]).await?;
            after = rows.last().map(|last| FormerPoint { name: last.name.clone(), ..*last });
        }
        if (rows.len() as u64) < POINTS {
            return Ok(());
        }
    }
}

fn run_last_metrics() -> TableCreateStatement {
    Table::create()
        .table("run_last_metrics")
        .col(uuid("run_id"))
        .col(string("name"))
        .col(double("value"))
        .col(big_integer("step"))
        .col(timestamp_with_time_zone("time"))
        .col(big_integer("last_chunk"))
        .col(big_integer("chunk_points"))
        .primary_key(Index::create().col("run_id").col("name"))
        .foreign_key(ForeignKey::create().from("run_last_metrics", "run_id").to("runs", "id"))
        .to_owned()
}

fn run_metric_chunks() -> TableCreateStatement {
    Table::create()
        .table("run_metric_chunks")
        .col(uuid("run_id"))
        .col(string("name"))
        .col(big_integer("sequence"))
        .col(big_integer("points"))
        .col(big_integer("min_step"))
        .col(big_integer("max_step"))
        .col(blob("data"))
        .primary_key(Index::create().col("run_id").col("name").col("sequence"))
        .foreign_key(ForeignKey::create().from("run_metric_chunks", "run_id").to("runs", "id"))
        .to_owned()
}

/// A name whose versions are numbered.
fn numbered(table: &'static str) -> TableCreateStatement {
    Table::create()
        .table(table)
        .col(string("name").primary_key())
        .col(integer("latest"))
        .col(timestamp_with_time_zone("created_at"))
        .to_owned()
}

fn dataset_versions() -> TableCreateStatement {
    Table::create()
        .table("dataset_versions")
        .col(string("name"))
        .col(integer("version"))
        .col(string("content_digest"))
        .col(string("blob_digest"))
        .col(big_integer("rows"))
        .col(big_integer("bytes"))
        .col(json_binary("columns"))
        .col(string_null("time_column"))
        .col(timestamp_with_time_zone_null("time_min"))
        .col(timestamp_with_time_zone_null("time_max"))
        .col(json_binary("parents"))
        .col(text("description"))
        .col(json_binary("profile"))
        .col(timestamp_with_time_zone("created_at"))
        .primary_key(Index::create().col("name").col("version"))
        .foreign_key(ForeignKey::create().from("dataset_versions", "name").to("datasets", "name"))
        .to_owned()
}

fn runs() -> TableCreateStatement {
    Table::create()
        .table("runs")
        .col(uuid("id").primary_key())
        .col(string("experiment"))
        .col(string("status"))
        .col(json_binary("params"))
        .col(json_binary("tags"))
        .col(string("code_revision"))
        .col(json_binary("dataset_digests"))
        .col(big_integer("seed"))
        .col(json_binary("outputs"))
        .col(text("error"))
        .col(timestamp_with_time_zone("created_at"))
        .col(timestamp_with_time_zone_null("started_at"))
        .col(timestamp_with_time_zone_null("ended_at"))
        .col(timestamp_with_time_zone_null("lease_until"))
        .col(big_integer("revision"))
        .to_owned()
}

fn run_metrics() -> TableCreateStatement {
    Table::create()
        .table("run_metrics")
        .col(uuid("run_id"))
        .col(string("name"))
        .col(big_integer("step"))
        .col(double("value"))
        .col(timestamp_with_time_zone("time"))
        .primary_key(Index::create().col("run_id").col("name").col("step"))
        .foreign_key(ForeignKey::create().from("run_metrics", "run_id").to("runs", "id"))
        .to_owned()
}

fn model_versions() -> TableCreateStatement {
    Table::create()
        .table("model_versions")
        .col(string("model"))
        .col(integer("version"))
        .col(string("status"))
        .col(text("status_reason"))
        .col(string("bundle_digest"))
        .col(uuid_null("run_id"))
        .col(json_binary("dataset_digests"))
        .col(text("description"))
        .col(json_binary("metrics"))
        .col(string("approval"))
        .col(string("reviewed_by"))
        .col(text("review_reason"))
        .col(timestamp_with_time_zone_null("reviewed_at"))
        .col(timestamp_with_time_zone("created_at"))
        .col(big_integer("revision"))
        .primary_key(Index::create().col("model").col("version"))
        .foreign_key(ForeignKey::create().from("model_versions", "model").to("models", "name"))
        .to_owned()
}

fn aliases() -> TableCreateStatement {
    pointer("aliases").primary_key(Index::create().col("model").col("alias")).to_owned()
}

fn alias_moves() -> TableCreateStatement {
    pointer("alias_moves").primary_key(Index::create().col("model").col("alias").col("revision")).to_owned()
}

fn pointer(table: &'static str) -> TableCreateStatement {
    Table::create()
        .table(table)
        .col(string("model"))
        .col(string("alias"))
        .col(big_integer("revision"))
        .col(integer("version"))
        .col(string("bundle_digest"))
        .col(string("moved_by"))
        .col(text("reason"))
        .col(timestamp_with_time_zone("moved_at"))
        .foreign_key(ForeignKey::create().from(table, ("model", "version")).to("model_versions", ("model", "version")))
        .to_owned()
}

fn index(name: &'static str, table: &'static str, columns: &[&'static str]) -> IndexCreateStatement {
    let mut index = Index::create().name(name).table(table).to_owned();
    for &column in columns {
        index.col(column);
    }
    index
}

fn indexes() -> [IndexCreateStatement; 6] {
    [
        index("dataset_versions_by_content", "dataset_versions", &["content_digest"]),
        index("dataset_versions_by_blob", "dataset_versions", &["blob_digest"]),
        index("runs_by_experiment", "runs", &["experiment", "created_at"]),
        index("runs_by_age", "runs", &["created_at"]),
        index("runs_by_lease", "runs", &["lease_until"]),
        index("model_versions_by_bundle", "model_versions", &["bundle_digest"]),
    ]
}
