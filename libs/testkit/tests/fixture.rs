//! Every fixture can be restored on both databases, with the same rows.

use rekindle_testkit::{Fixture, Postgres};
use sea_orm::{ConnectionTrait as _, Database, Statement};

const SERVICES: [&str; 3] = ["registry", "monitor", "orchestrator"];
/// At least one row of each of these is in every fixture.
const FILLED: [(&str, &str); 12] = [
    ("registry", "dataset_versions"),
    ("registry", "runs"),
    ("registry", "run_metrics"),
    ("registry", "model_versions"),
    ("registry", "alias_moves"),
    ("registry", "outbox"),
    ("monitor", "reports"),
    ("monitor", "logs"),
    ("monitor", "watches"),
    ("orchestrator", "workflows"),
    ("orchestrator", "deployments"),
    ("orchestrator", "policies"),
];

async fn count(url: &str, table: &str) -> i64 {
    let database = Box::pin(Database::connect(url)).await.expect("it opens");
    let statement =
        Statement::from_string(database.get_database_backend(), format!("SELECT COUNT(*) AS n FROM {table}"));
    let row = database.query_one_raw(statement).await.expect("it answers").expect("one row");
    let rows = row.try_get("", "n").expect("a number");
    database.close().await.expect("it was open");
    rows
}

#[tokio::test]
async fn every_fixture_restores_to_both_databases_with_the_same_rows() {
    let (folder, server) = (tempfile::tempdir().expect("a folder"), Postgres::start().await);
    let fixtures = Fixture::all();
    assert!(!fixtures.is_empty());
    for (n, fixture) in fixtures.iter().enumerate() {
        let folder = folder.path().join(n.to_string());
        std::fs::create_dir(&folder).expect("a folder");
        for service in SERVICES {
            let sqlite = fixture.restore_sqlite(service, &folder).await;
            let postgres = fixture.restore_postgres(service, &server).await;
            for (_, table) in FILLED.iter().filter(|(of, _)| *of == service) {
                let rows = count(&sqlite, table).await;
                assert!(rows > 0, "{fixture:?}: {table} is empty");
                assert_eq!(rows, count(&postgres, table).await, "{fixture:?}: {table}");
            }
        }
    }
}

#[tokio::test]
async fn a_fixture_stays_as_it_is() {
    let (fixture, folder) = (Fixture::of("0.1.0"), tempfile::tempdir().expect("a folder"));
    fixture.copy_objects(&folder.path().join("objects"));
    fixture.copy_cache(&folder.path().join("cache"));
    let manifest = "c2/c284b79ab6af260054adf12ec700c012dead89a8656876a00da7e14e1aad980d";
    let recorded = fixture.read(format!("objects/blobs/sha256/{manifest}"));
    let copied = folder.path().join("objects/blobs/sha256").join(manifest);
    std::fs::write(&copied, b"changed").expect("it is a copy");
    assert_eq!(fixture.read(format!("objects/blobs/sha256/{manifest}")), recorded);
    let cached = folder.path().join("cache/blobs").join(&manifest[3..]);
    assert_eq!(std::fs::read(cached).expect("the cache has it by its hex digits"), recorded);
}
