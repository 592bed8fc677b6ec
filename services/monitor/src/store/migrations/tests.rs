//! Filled databases of earlier releases are migrated and read.

use std::time::Duration;

use chrono::{DateTime, Utc};
use rekindle_domain::{
    Digest, ModelName,
    report::{Verdict, WindowHeader, WindowReport},
};
use rekindle_testkit::Postgres;
use sea_orm::{ConnectionTrait as _, DatabaseConnection};
use sea_orm_migration::sea_query::{Query, Value};
use uuid::Uuid;

use super::*;
use crate::{
    chunk::Kind,
    report::Report,
    store::{chunks, incarnations, reports, watches},
};

/// The migrations of the first release.
struct FirstRelease;

#[async_trait::async_trait]
impl MigratorTrait for FirstRelease {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut all: Vec<Box<dyn MigrationTrait>> = rekindle_store::migrations::shared().into_iter().take(1).collect();
        all.push(Box::new(m20261121_000100_monitor::Migration));
        all.push(Box::new(m20261121_000200_lives::Migration));
        all
    }
}

const INCARNATION: Uuid = Uuid::from_u128(77);
const UNTIL: i64 = 3_600_000;

fn model() -> ModelName {
    "flights".parse().expect("a valid name")
}

fn json(text: &str) -> Value {
    serde_json::from_str::<serde_json::Value>(text).expect("a fixture").into()
}

async fn insert(db: &DatabaseConnection, table: &'static str, row: Vec<(&'static str, Value)>) {
    let (columns, values): (Vec<_>, Vec<_>) = row.into_iter().map(|(column, value)| (name(column), value)).unzip();
    let insert = Query::insert()
        .into_table(name(table))
        .columns(columns)
        .values_panic(values.into_iter().map(Into::into))
        .to_owned();
    db.execute(&insert).await.expect("inserts");
}

fn chunk(kind: &'static str, id: u128) -> Vec<(&'static str, Value)> {
    let (version, bundle, events) = match kind {
        "prediction" => (3i64, Digest::of(b"bundle").to_string(), Some((10i64, 20i64))),
        _ => (0, String::new(), None),
    };
    vec![
        ("id", Uuid::from_u128(id).into()),
        ("kind", kind.into()),
        ("model", "flights".into()),
        ("model_version", version.into()),
        ("bundle_digest", bundle.into()),
        ("object_key", format!("{kind}/{id}.parquet").into()),
        ("digest", Digest::of(b"file").to_string().into()),
        ("rows", 250i64.into()),
        ("bytes", 4000i64.into()),
        ("event_min", events.map(|(min, _)| min).into()),
        ("event_max", events.map(|(_, max)| max).into()),
        ("id_min", Uuid::from_u128(1).into()),
        ("id_max", Uuid::from_u128(9).into()),
        ("latest_before", Option::<i64>::None.into()),
        ("created_at", DateTime::<Utc>::UNIX_EPOCH.into()),
    ]
}

fn report() -> Vec<(&'static str, Value)> {
    vec![
        ("id", Uuid::from_u128(5).into()),
        ("model", "flights".into()),
        ("model_version", 3i64.into()),
        ("bundle_digest", Digest::of(b"bundle").to_string().into()),
        ("from_ms", 0i64.into()),
        ("until_ms", UNTIL.into()),
        ("rows", 250i64.into()),
        ("drift", json(include_str!("../../../tests/fixtures/first-release/drift.json"))),
        ("quality", json(include_str!("../../../tests/fixtures/first-release/quality.json"))),
        ("id_min", Uuid::from_u128(1).into()),
        ("id_max", Uuid::from_u128(9).into()),
        ("closed_at", DateTime::<Utc>::UNIX_EPOCH.into()),
        ("quality_at", Some(DateTime::<Utc>::UNIX_EPOCH).into()),
        ("correlation_id", Some(Uuid::from_u128(6)).into()),
        ("reason", "".into()),
    ]
}

async fn fill(db: &DatabaseConnection) {
    insert(db, "segments", chunk("prediction", 1)).await;
    insert(db, "segments", chunk("outcome", 2)).await;
    let life = vec![
        ("incarnation", INCARNATION.into()),
        ("highest", 7i64.into()),
        ("seen_at", DateTime::<Utc>::UNIX_EPOCH.into()),
    ];
    insert(db, "lives", life).await;
    insert(db, "reports", report()).await;
    let settings = json(include_str!("../../../tests/fixtures/first-release/settings.json"));
    insert(db, "watches", vec![("model", "flights".into()), ("settings", settings), ("revision", 4i64.into())]).await;
}

async fn assert_readable(db: &DatabaseConnection) {
    let newest = chunks::newest_first(db, &model(), None, 10).await.expect("readable");
    let [(1, chunk)] = newest.as_slice() else { panic!("one prediction chunk at its position: {newest:?}") };
    assert_eq!((chunk.kind, chunk.rows, chunk.events), (Kind::Prediction, 250, Some((10, 20))));
    assert_eq!(chunks::outcomes_of(db, &model(), (5, 5)).await.expect("readable").len(), 1);
    assert_eq!(incarnations::advance(db, INCARNATION, 9, 1, Utc::now()).await.expect("known"), 1);
    let watch = watches::get(db, &model()).await.expect("readable");
    assert_eq!((watch.revision, watch.settings.window, watch.settings.min_rows), (4, Duration::from_secs(3600), 50));
    let reports = reports::list(db, &model(), None, 10).await.expect("readable");
    let [report] = reports.as_slice() else { panic!("one report: {reports:?}") };
    let WindowReport { window, drift, quality, .. } = &report.content;
    assert_eq!((window.slice.as_str(), drift.verdict, drift.causes().len()), ("", Verdict::Drifted, 2));
    assert_eq!(drift.features[1].verdict, Verdict::Inconclusive);
    assert_eq!(quality.as_ref().map(|quality| quality.labelled_rows), Some(1500));
}

async fn assert_slices_are_reported_apart(db: &DatabaseConnection) {
    let report = reports::list(db, &model(), None, 10).await.expect("readable").pop().expect("one");
    let with = |id, slice: &str| {
        let content = report.content.clone();
        let report_id = rekindle_domain::ReportId::new(Uuid::from_u128(id));
        let window = WindowHeader { report: report_id, slice: slice.into(), ..content.window };
        Report { content: WindowReport { window, ..content }, ..report.clone() }
    };
    reports::insert(db, &with(8, "carrier=AA")).await.expect("a new key");
    let refused = reports::insert(db, &with(9, "")).await.expect_err("the window is reported");
    assert!(matches!(refused.sql_err(), Some(sea_orm::SqlErr::UniqueConstraintViolation(_))), "{refused}");
}

async fn a_filled_database_of_the_first_release_is_migrated(url: String) {
    let config = rekindle_store::Config { max_connections: 1, ..rekindle_store::Config::at(url) };
    let db = rekindle_store::connect(&config).await.expect("opens");
    rekindle_store::migrate::<FirstRelease>(&db).await.expect("an empty database");
    fill(&db).await;
    rekindle_store::migrate::<Migrator>(&db).await.expect("migrates");
    assert_readable(&db).await;
    Migrator::down(&db, Some(1)).await.expect("reverts");
    Migrator::up(&db, None).await.expect("migrates again");
    assert_slices_are_reported_apart(&db).await;
    // The order of commit goes on after the chunks of the first release.
    insert(&db, "chunks", chunk("prediction", 3)).await;
    let newest = chunks::newest_first(&db, &model(), None, 10).await.expect("readable");
    assert_eq!(newest.first().map(|(position, chunk)| (*position, chunk.id)), Some((3, Uuid::from_u128(3))));
}

#[tokio::test]
async fn a_filled_sqlite_database_of_the_first_release_is_migrated() {
    a_filled_database_of_the_first_release_is_migrated("sqlite::memory:".into()).await;
}

#[tokio::test]
async fn a_filled_postgres_database_of_the_first_release_is_migrated() {
    let postgres = Postgres::start().await;
    a_filled_database_of_the_first_release_is_migrated(postgres.fresh_database().await).await;
}
