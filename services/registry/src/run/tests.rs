//! Leases, with times as inputs.

use chrono::TimeDelta;
use rekindle_domain::{Namespace, Principal, event::EventContext};
use uuid::Uuid;

use super::*;
use crate::store::migration::Migrator;

#[derive(serde::Deserialize)]
struct File {
    registry: crate::Config,
}

fn call(second: i64) -> Call {
    Call {
        principal: Principal::anonymous(),
        namespace: Namespace::default(),
        context: EventContext::default(),
        now: DateTime::UNIX_EPOCH + TimeDelta::seconds(second),
        id: Uuid::now_v7(),
    }
}

#[tokio::test]
async fn logging_renews_the_lease_of_a_running_run() {
    let db = rekindle_store::connect(&rekindle_store::Config::at("sqlite::memory:")).await.expect("it opens");
    rekindle_store::migrate::<Migrator>(&db).await.expect("migrated");
    let layers = rekindle_runtime::config::Layers::new(crate::DEFAULTS);
    let limits = layers.parse::<File>().expect("the defaults are valid").registry.limits;
    let leases = Leases { scheduled: Duration::from_secs(60), running: Duration::from_secs(60) };
    let new = NewRun::new("nightly".parse().expect("a name"));
    let request = rekindle_client::wire::run::new_to_wire(&new, "key".to_owned());
    let intent = Intent::of("CreateRun", &Namespace::default(), "key", &request).expect("valid");
    let run = create(&db, call(0), intent, new, leases).await.expect("created");
    report(&db, call(0), run.id, RunReport::Running, leases).await.expect("started");
    let point = Metric { name: "loss".into(), value: 0.5, step: 0, time: None };
    let tags = [("team".to_owned(), "risk".to_owned())].into();
    for (second, batch) in
        [(50, Batch { metrics: vec![point], ..Batch::default() }), (100, Batch { tags, ..Batch::default() })]
    {
        log(&db, run.id, batch, limits, leases, call(second)).await.expect("logged");
        assert!(!lose_if_expired(&db, call(second + 59), run.id).await.expect("checked"), "renewed at {second} s");
    }
    assert!(lose_if_expired(&db, call(161), run.id).await.expect("checked"), "nothing is logged for 61 s");
    assert_eq!(get(&db, run.id).await.expect("there").status, RunStatus::Lost);
}
