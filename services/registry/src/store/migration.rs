//! The tables, in the words that SQLite and PostgreSQL share.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sea_orm::FromQueryResult;
use sea_orm_migration::{
    prelude::*,
    schema::{
        big_integer, big_integer_null, big_pk_auto, blob, double, double_null, integer, json_binary, string,
        string_null, text, timestamp_with_time_zone, timestamp_with_time_zone_null, uuid, uuid_null,
    },
};
use uuid::Uuid;

use super::runs::metrics::{Point, encode};

/// What every service has (outbox, inbox, idempotency keys) and then what is the registry's own.
pub(crate) struct Migrator;

impl MigratorTrait for Migrator {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut migrations = rekindle_store::migrations::shared();
        migrations.push(Box::new(Registry));
        migrations.push(Box::new(RunSearch));
        migrations.push(Box::new(Experiments));
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
            ("run_metric_chunks_by_step", "run_metric_chunks", &["run_id", "name", "min_step", "sequence"]),
        ] {
            manager.create_index(index(name, table, columns)).await?;
        }
        store_in_chunks(manager.get_connection()).await?;
        manager.drop_table(Table::drop().table("run_metrics").take()).await
    }
}

/// Experiments as records of their own, runs that are deleted, and files of runs.
struct Experiments;

impl MigrationName for Experiments {
    fn name(&self) -> &'static str {
        "m20261129_000002_experiments"
    }
}

#[async_trait::async_trait]
#[expect(
    elided_lifetimes_in_paths,
    reason = "the trait leaves the manager's lifetime out, and async_trait distinguishes them"
)]
impl MigrationTrait for Experiments {
    async fn up(&self, manager: &SchemaManager) -> Result<(), DbErr> {
        let mut deleted_at = timestamp_with_time_zone_null("deleted_at");
        manager.alter_table(Table::alter().table("runs").add_column(&mut deleted_at).take()).await?;
        manager.create_table(experiments()).await?;
        manager.create_table(run_artifacts()).await?;
        // MLflow's clients take it that there is an experiment with this number and this title.
        let default = Query::insert()
            .into_table("experiments")
            .columns(["id", "name", "title", "tags", "created_at", "updated_at"])
            .values_panic([
                0.into(),
                "default".into(),
                "Default".into(),
                serde_json::json!({}).into(),
                Expr::current_timestamp(),
                Expr::current_timestamp(),
            ])
            .take();
        manager.execute(default).await?;
        manager.get_connection().execute_unprepared(EXPERIMENTS_OF_RUNS).await?;
        Ok(())
    }
}

/// The experiments of earlier runs, the oldest first.
const EXPERIMENTS_OF_RUNS: &str = "\
    INSERT INTO experiments (name, title, tags, created_at, updated_at) \
    SELECT experiment, experiment, '{}', MIN(created_at), MIN(created_at) FROM runs \
    WHERE experiment <> 'default' GROUP BY experiment ORDER BY MIN(created_at)";

fn experiments() -> TableCreateStatement {
    Table::create()
        .table("experiments")
        .col(big_pk_auto("id"))
        .col(string("name").unique_key())
        .col(string("title").unique_key())
        .col(json_binary("tags"))
        .col(timestamp_with_time_zone("created_at"))
        .col(timestamp_with_time_zone("updated_at"))
        .col(timestamp_with_time_zone_null("deleted_at"))
        .to_owned()
}

fn run_artifacts() -> TableCreateStatement {
    Table::create()
        .table("run_artifacts")
        .col(uuid("run_id"))
        .col(string("path"))
        .col(string("digest"))
        .col(big_integer("bytes"))
        .col(timestamp_with_time_zone("written_at"))
        .primary_key(Index::create().col("run_id").col("path"))
        .foreign_key(ForeignKey::create().from("run_artifacts", "run_id").to("runs", "id"))
        .to_owned()
}

/// A point of the former table.
#[derive(Debug, Clone, FromQueryResult)]
struct FormerPoint {
    run_id: Uuid,
    name: String,
    step: i64,
    value: f64,
    time: DateTime<Utc>,
}

/// Inserts chunks. Entities may have further columns later.
fn insert_chunks() -> InsertStatement {
    let columns = ["run_id", "name", "sequence", "points", "min_step", "max_step", "data"];
    Query::insert().into_table("run_metric_chunks").columns(columns).take()
}

/// Inserts the last point of a metric, over that of an earlier chunk.
fn insert_last() -> InsertStatement {
    let columns = ["run_id", "name", "value", "step", "time", "last_chunk", "chunk_points"];
    let replace = OnConflict::columns(["run_id", "name"]).update_columns(columns[2..].iter().copied()).to_owned();
    Query::insert().into_table("run_last_metrics").columns(columns).on_conflict(replace).take()
}

/// Copies the points of the former table, which has a row for each, into chunks.
async fn store_in_chunks(db: &SchemaManagerConnection<'_>) -> Result<(), DbErr> {
    /// Points of a chunk.
    const POINTS: u64 = 4096;
    let mut after: Option<FormerPoint> = None;
    let mut sequence = 0_i64;
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
        let (mut chunks, mut last) = (insert_chunks(), BTreeMap::new());
        for rows in rows.chunk_by(|a, b| (a.run_id, &a.name) == (b.run_id, &b.name)) {
            let [FormerPoint { run_id, name, .. }, ..] = rows else { continue };
            let is_continued = after.as_ref().is_some_and(|after| (&after.run_id, &after.name) == (run_id, name));
            sequence = if is_continued { sequence + 1 } else { 0 };
            let point =
                |row: &FormerPoint| Point { step: row.step, time: row.time.timestamp_micros(), value: row.value };
            let points: Vec<_> = rows.iter().map(point).collect();
            let Some(newest) = rows.last() else { continue };
            let count: i64 = std::convert::TryFrom::try_from(rows.len()).unwrap_or(i64::MAX);
            chunks.values_panic([
                (*run_id).into(),
                name.as_str().into(),
                sequence.into(),
                count.into(),
                rows[0].step.into(),
                newest.step.into(),
                encode(&points).into(),
            ]);
            last.insert((*run_id, name.clone()), (newest.clone(), sequence, count));
            after = Some(newest.clone());
        }
        if !rows.is_empty() {
            db.execute(&chunks).await?;
        }
        for ((run_id, name), (newest, sequence, points)) in last {
            let mut insert = insert_last();
            insert.values_panic([
                run_id.into(),
                name.into(),
                newest.value.into(),
                newest.step.into(),
                newest.time.into(),
                sequence.into(),
                points.into(),
            ]);
            db.execute(&insert).await?;
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
        .col(double_null("value"))
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::store::runs::metrics;

    /// The tables before points were stored in chunks.
    struct Former;

    #[async_trait::async_trait]
    impl MigratorTrait for Former {
        fn migrations() -> Vec<Box<dyn MigrationTrait>> {
            let mut migrations = rekindle_store::migrations::shared();
            migrations.push(Box::new(Registry));
            migrations
        }
    }

    async fn points_are_kept(url: String) {
        let db = rekindle_store::connect(&rekindle_store::Config::at(url)).await.expect("it opens");
        rekindle_store::migrate::<Former>(&db).await.expect("an empty database");
        let run = rekindle_domain::RunId::new(Uuid::from_u128(7));
        let now: DateTime<Utc> = "2026-03-01T12:00:00.123456Z".parse().expect("a time");
        let insert = Query::insert()
            .into_table("runs")
            .columns([
                "id",
                "experiment",
                "status",
                "params",
                "tags",
                "code_revision",
                "dataset_digests",
                "seed",
                "outputs",
                "error",
                "created_at",
                "revision",
            ])
            .values_panic([
                run.uuid().into(),
                "flights".into(),
                "FINISHED".into(),
                serde_json::json!({}).into(),
                serde_json::json!({}).into(),
                "".into(),
                serde_json::json!([]).into(),
                0_i64.into(),
                serde_json::json!({}).into(),
                "".into(),
                now.into(),
                1_i64.into(),
            ])
            .take();
        db.execute(&insert).await.expect("a run");
        // Chunks end within a metric, at its end, and before it.
        let counts = [("a", 4_097_i64), ("b", 4_095), ("c", 8_192), ("d", 1)];
        for (name, count) in counts {
            for first in (0..count).step_by(1_000) {
                let mut insert = Query::insert();
                insert.into_table("run_metrics").columns(["run_id", "name", "step", "value", "time"]);
                for step in first..Ord::min(count, first + 1_000) {
                    let value = step as f64 / 3.0;
                    insert.values_panic([run.uuid().into(), name.into(), step.into(), value.into(), now.into()]);
                }
                db.execute(&insert).await.expect("points");
            }
        }
        rekindle_store::migrate::<Migrator>(&db).await.expect("migrated");
        for (name, count) in counts {
            let points = metrics::history(&db, run, name, None, 10_000).await.expect("readable");
            let expected: Vec<_> = (0..count).map(|step| (step, step as f64 / 3.0, Some(now))).collect();
            assert_eq!(points.iter().map(|point| (point.step, point.value, point.time)).collect::<Vec<_>>(), expected);
            let known = metrics::known(&db, run, &[name].into()).await.expect("readable");
            let last = &known[name];
            assert_eq!((last.step, last.value), (count - 1, Some((count - 1) as f64 / 3.0)), "{name}");
            // Further points are added after those.
            let next = rekindle_domain::run::Metric { name: name.into(), value: 1.0, step: count, time: None };
            metrics::append(&db, run, &[next], &known, now).await.expect("appended");
            let steps = metrics::history(&db, run, name, None, 10_000).await.expect("readable");
            assert_eq!(steps.last().map(|point| (point.step, point.value)), Some((count, 1.0)));
        }
        let experiment = crate::store::experiments::by_title(&db, "flights").await.expect("readable").expect("there");
        assert!((experiment.id, experiment.created_at) > (0, DateTime::UNIX_EPOCH));
    }

    #[tokio::test]
    async fn points_are_kept_on_sqlite() {
        points_are_kept("sqlite::memory:".to_owned()).await;
    }

    #[tokio::test]
    async fn points_are_kept_on_postgresql() {
        let server = rekindle_testkit::Postgres::start().await;
        points_are_kept(server.fresh_database().await).await;
    }
}
