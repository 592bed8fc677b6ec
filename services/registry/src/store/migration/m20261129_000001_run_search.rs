//! Runs that are parts of others, leases that clients choose, the last point of each metric, by which runs are found and ordered, and points in
//! chunks.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use sea_orm::FromQueryResult;
use sea_orm_migration::{
    prelude::*,
    schema::{big_integer, big_integer_null, blob, double_null, string, timestamp_with_time_zone, uuid, uuid_null},
};
use uuid::Uuid;

use super::index;
use crate::store::runs::metrics::{Point, encode};

pub(super) struct RunSearch;

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
