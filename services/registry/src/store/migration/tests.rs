//! Points of the first release, which had a row each.

use chrono::{DateTime, Utc};
use uuid::Uuid;

use super::*;
use crate::store::runs::metrics;

/// The tables before points were stored in chunks.
struct Former;

#[async_trait::async_trait]
impl MigratorTrait for Former {
    fn migrations() -> Vec<Box<dyn MigrationTrait>> {
        let mut migrations = rekindle_store::migrations::shared();
        migrations.push(Box::new(super::m20260101_000001_registry::Registry));
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
