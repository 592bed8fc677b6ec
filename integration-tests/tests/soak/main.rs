//! Load on every service while faults occur at random: afterwards nothing acknowledged is missing, every workflow has ended, and memory has not
//! grown.
//!
//! `REKINDLE_SOAK_SECONDS` is the length of the load, one minute by default; `make soak` runs ten minutes. The faults follow from
//! `REKINDLE_SOAK_SEED`.

mod faults;
mod ledger;
mod load;

use std::{
    sync::Arc,
    time::{Duration, Instant},
};

use rekindle_integration_tests::{
    Clients, Cluster, Wiring, cluster,
    scenario::{self, described},
    table::{self, csv},
};
use rekindle_testkit::{SmallDisk, eventually};
use serde_json::json;

use self::{faults::Faults, ledger::Ledger, load::Load};

/// Time between the end of a fault and the next one.
const INTERVAL: Duration = Duration::from_secs(5);
/// Size of the disk with the databases and the objects.
const DISK: u64 = 1 << 30;
/// Hours of rows that the first version is trained on.
const TRAINED: u64 = 48;
/// From this length on, memory is compared: before, caches still fill.
const SETTLED: Duration = Duration::from_secs(300);
/// Resident memory at the end, by that at the start, at most.
const GROWTH: f64 = 1.2;

fn setting(variable: &str, default: u64) -> u64 {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// A platform that serves the first of two versions.
async fn prepare(clients: &Clients) {
    scenario::register(clients, csv(&table::rows(0..TRAINED, u64::MAX)), "training rows").await;
    let (_, first) = scenario::train(clients, "01890000-0000-7000-8000-000000000001").await;
    scenario::train_with_seed(clients, "01890000-0000-7000-8000-000000000002", 8).await;
    scenario::promote_and_deploy(clients, first.version).await;
    scenario::set_policy(clients, |policy| policy.triggers.clear()).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_missing_after_random_faults() {
    let length = Duration::from_secs(setting("REKINDLE_SOAK_SECONDS", 60));
    let disk = SmallDisk::mount(DISK);
    let further = disk.as_ref().map_or(json!({}), |disk| cluster::files_in(disk.path()));
    let mut cluster = Cluster::start_with(Wiring::Embedded, 2, further).await;
    let clients = cluster.clients.clone();
    prepare(&clients).await;

    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&clients, &ledger, TRAINED).await;
    let mut faults = Faults::new(setting("REKINDLE_SOAK_SEED", 1), disk.is_some());
    tokio::time::sleep(INTERVAL).await;
    let (began, memory) = (Instant::now(), cluster.resident_bytes());
    while began.elapsed() < length {
        let fault = faults.next();
        eprintln!("{:>4.0} s: {fault:?}", began.elapsed().as_secs_f64());
        faults::inflict(&fault, &mut cluster, disk.as_ref(), &ledger).await;
        tokio::time::sleep(INTERVAL).await;
    }
    load.stop().await;
    cluster.all_ready().await;
    ledger.verify(&clients).await;
    ledger.assert_progress(length);
    the_platform_still_works(&clients).await;

    let after = cluster.resident_bytes();
    for (service, bytes) in &after {
        eprintln!("{service:?}: {} MB resident at the start, {} MB at the end", memory[service] >> 20, bytes >> 20);
    }
    let growth = after.values().sum::<u64>() as f64 / memory.values().sum::<u64>() as f64;
    eprintln!("{ledger}; resident memory at the end is {growth:.2} of that at the start");
    assert!(length < SETTLED || growth <= GROWTH, "memory grew to {growth:.2}");
}

/// A deployment of the other version reaches every replica.
async fn the_platform_still_works(clients: &Clients) {
    scenario::deploy(clients, 2, "after the soak").await;
    scenario::deployed(clients, 2).await;
    eventually("an answer of the version", async || {
        let answer =
            clients.replica(0).infer(scenario::request(&table::rows(0..1, u64::MAX))).await.map_err(described)?;
        if answer.version == "2" { Ok(()) } else { Err(answer.version) }
    })
    .await;
}
