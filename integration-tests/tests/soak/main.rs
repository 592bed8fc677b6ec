//! Load on every service while faults occur at random: afterwards nothing acknowledged is missing, every workflow has ended, and memory has not
//! grown.
//!
//! `REKINDLE_SOAK_SECONDS` is the length of the load, one minute by default; `make soak` runs ten minutes. The faults follow from
//! `REKINDLE_SOAK_SEED`.

mod faults;
mod ledger;
mod load;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use rekindle_integration_tests::{
    Clients, Cluster, Wiring,
    cluster::{self, Service},
    scenario::{self, described},
    table::{self, csv},
};
use rekindle_testkit::{Clock, SmallDisk, eventually};
use serde_json::json;

use self::{faults::Faults, ledger::Ledger, load::Load};

/// Time between the end of a fault and the next one.
const INTERVAL: Duration = Duration::from_secs(5);
/// Size of the disk with the databases and the objects.
const DISK: u64 = 1 << 30;
/// Hours of rows that the first version is trained on.
const TRAINED: u64 = 48;
/// From this length on, memory is compared.
const SETTLED: Duration = Duration::from_secs(300);
/// Until then caches fill, and every kind of work is done for the first time. The memory of a service is the most that it has between the two
/// times: one that was killed has less for some time.
const WARM: [Duration; 2] = [Duration::from_secs(60), Duration::from_secs(120)];
/// Resident memory at the end, by that of the warm services, at most.
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
    let clock = Clock::find_or_say_skipped();
    let environment = clock.as_ref().map(Clock::environment).unwrap_or_default();
    let further = disk.as_ref().map_or(json!({}), |disk| cluster::files_in(disk.path()));
    let mut cluster = Cluster::start_in(&environment, Wiring::Embedded, 2, further).await;
    let clients = cluster.clients.clone();
    prepare(&clients).await;

    let ledger = Arc::new(Ledger::default());
    let load = Load::start(&clients, &ledger, TRAINED).await;
    let mut faults = Faults::new(setting("REKINDLE_SOAK_SEED", 1), disk.is_some(), clock.is_some());
    tokio::time::sleep(INTERVAL).await;
    let (began, cold) = (Instant::now(), cluster.resident_bytes());
    let mut warm = cold.clone();
    while began.elapsed() < length {
        let fault = faults.next();
        eprintln!("{:>4.0} s: {fault:?}", began.elapsed().as_secs_f64());
        faults::inflict(&fault, &mut cluster, disk.as_ref(), clock.as_ref(), &ledger).await;
        tokio::time::sleep(INTERVAL).await;
        if (WARM[0]..WARM[1]).contains(&began.elapsed()) {
            let now = cluster.resident_bytes();
            warm.iter_mut().for_each(|(service, most)| *most = now[service].max(*most));
        }
    }
    load.stop().await;
    cluster.all_ready().await;
    ledger.verify(&clients).await;
    ledger.assert_progress(length);
    the_platform_still_works(&clients).await;

    eprintln!("{ledger}");
    let total = |memory: &BTreeMap<Service, u64>| memory.values().sum::<u64>() as f64;
    // Freed memory is returned within some seconds.
    let compared = eventually("memory that has not grown", async || {
        let after = cluster.resident_bytes();
        let megabytes = |service| [&cold, &warm, &after].map(|memory| memory[service] >> 20);
        let services = after.keys().map(|service| format!("{service:?} {:?}", megabytes(service)));
        let services = services.collect::<Vec<_>>().join(", ");
        let [cold, growth] = [&cold, &warm].map(|before| total(&after) / total(before));
        let compared = format!(
            "resident memory at the end is {growth:.2} of that of the warm services, and {cold:.2} of that at the start; in MB at the start, \
             warm and at the end: {services}"
        );
        if length < SETTLED || growth <= GROWTH { Ok(compared) } else { Err(compared) }
    })
    .await;
    eprintln!("{compared}");
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
