//! The memory of a replica does not grow with the versions that it loads and frees.

use rekindle_client::orchestrator::TrafficRequest;
use rekindle_integration_tests::{
    Clients, Cluster, Wiring,
    cluster::Service,
    scenario::{self, MODEL, described},
    table::{self, csv},
};
use rekindle_testkit::eventually;

/// Swaps before the first measurement: caches fill.
const FIRST: u32 = 20;
/// Swaps before the second one.
const LAST: u32 = 200;
/// Resident memory after the last swap, by that after the first ones, at most.
const GROWTH: f64 = 1.05;

/// Loads the second version beside the first, or frees it, and sends a request once the replica has done so.
async fn swap(clients: &Clients, number: u32) {
    let weighted = if number.is_multiple_of(2) { vec![(2, 5_000)] } else { Vec::new() };
    let loaded = 1 + weighted.len();
    let request = TrafficRequest {
        idempotency_key: format!("swap-{number}"),
        model: scenario::model(),
        weighted,
        shadow: None,
        expected_revision: None,
        why: String::new(),
    };
    let generation = clients.orchestrator().set_traffic(&request).await.expect("set").generation;
    eventually("the replica to carry out the routes", async || {
        let replicas = clients.orchestrator().replicas(Default::default()).await.map_err(described)?.items;
        let served = replicas.iter().filter_map(|replica| replica.models.get(&scenario::model())).next().cloned();
        match served {
            Some(served) if served.generation == generation && served.versions.len() == loaded => Ok(()),
            served => Err(format!("{served:?}")),
        }
    })
    .await;
    let rows = table::rows(72..73, u64::MAX);
    clients.replica(0).infer(scenario::request(&rows[..2])).await.expect("answered");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_hundred_swaps_leave_no_memory_behind() {
    let cluster = Cluster::start(Wiring::Embedded, 1).await;
    let clients = cluster.clients.clone();
    scenario::register(&clients, csv(&table::rows(0..48, u64::MAX)), "training rows").await;
    let (_, first) = scenario::train(&clients, "01890000-0000-7000-8000-000000000001").await;
    scenario::train_with_seed(&clients, "01890000-0000-7000-8000-000000000002", 8).await;
    scenario::promote_and_deploy(&clients, first.version).await;
    let memory = || cluster.resident_bytes()[&Service::Inference(0)] as f64;
    for number in 0..FIRST {
        swap(&clients, number).await;
    }
    let early = memory();
    for number in FIRST..LAST {
        swap(&clients, number).await;
    }
    // Freed memory is returned within some seconds.
    let growth = eventually("the memory that is freed", async || {
        let growth = memory() / early;
        if growth <= GROWTH { Ok(growth) } else { Err(format!("{MODEL}: {growth:.3} of {early} bytes")) }
    })
    .await;
    println!("resident memory after {LAST} swaps is {growth:.3} of that after {FIRST}");
}
