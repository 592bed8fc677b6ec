//! A platform with many models, and as many policies of models that do not exist, does next to nothing while nothing happens.
//!
//! `REKINDLE_MODELS` is their number, 500 by default.

use std::{fs, time::Duration};

use futures::{StreamExt as _, stream};
use rekindle_client::registry::VersionRegistration;
use rekindle_domain::{Digest, ModelName, Policy, watch::WatchSettings};
use rekindle_integration_tests::{
    Clients, Platform, Wiring,
    scenario::{self, deployment, described},
    table::{self, csv},
};
use rekindle_testkit::eventually;

/// Calls at a time.
const AT_ONCE: usize = 16;
/// How long the idle platform is measured.
const MEASURED: Duration = Duration::from_secs(10);
/// Processor time of the idle platform, as a share of a core, at most.
const MOST: f64 = 0.03;

fn setting(variable: &str, default: usize) -> usize {
    std::env::var(variable).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

/// Registers a bundle as a version of a model of its own, and deploys it.
async fn deploy(clients: &Clients, number: usize, bundle: Digest) {
    let model: ModelName = format!("model-{number}").parse().expect("a name");
    let registration = VersionRegistration {
        idempotency_key: format!("version-{number}"),
        model: model.clone(),
        bundle,
        description: String::new(),
    };
    let version = clients.registry().register_version(&registration).await.expect("registered");
    let request = deployment(model, version.version, &format!("deployment-{number}"));
    clients.orchestrator().deploy(&request).await.expect("accepted");
}

/// Sets the policy of a model that does not exist.
async fn set_policy(clients: &Clients, number: usize) {
    let model: ModelName = format!("unknown-{number}").parse().expect("a name");
    let watch = Some(WatchSettings::default());
    let policy = Policy { watch, ..Policy::new(model, scenario::dataset(), scenario::recipe(7)) };
    clients.orchestrator().set_policy(&policy, 0).await.expect("set");
}

/// The processor time that a process and its threads have taken.
fn processor_time(process: u32) -> Duration {
    let stat = fs::read_to_string(format!("/proc/{process}/stat")).expect("the process runs");
    // After the name, which may have spaces: user and system time are the 12th and 13th of the fields that follow.
    let fields = stat.rsplit_once(')').expect("a name").1;
    let ticks: Vec<u64> = fields.split_whitespace().skip(11).take(2).map(|text| text.parse().expect("ticks")).collect();
    // Linux reports them in hundredths of a second, whatever the kernel's own tick is.
    Duration::from_millis(10 * ticks.iter().sum::<u64>())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn idle_they_take_next_to_no_processor_time() {
    let models = setting("REKINDLE_MODELS", 500);
    let platform = Platform::start(Wiring::Embedded, 1).await;
    let clients = &platform.clients;
    scenario::register(clients, csv(&table::rows(0..48, u64::MAX)), "training rows").await;
    let (_, first) = scenario::train(clients, "01890000-0000-7000-8000-000000000001").await;
    stream::iter(0..models).for_each_concurrent(AT_ONCE, |number| deploy(clients, number, first.bundle)).await;
    stream::iter(0..models).for_each_concurrent(AT_ONCE, |number| set_policy(clients, number)).await;
    eventually("every model to be served and no rollout to be in progress", async || {
        let replicas = clients.orchestrator().replicas(Default::default()).await.map_err(described)?.items;
        let served = replicas.iter().map(|replica| replica.models.len()).sum::<usize>();
        let status = platform.json(&["status"]).await;
        let stable = status["deployments"]
            .as_array()
            .map_or(0, |all| all.iter().filter(|one| one["phase"] == "DEPLOYMENT_PHASE_STABLE").count());
        if (served, stable) == (models, models) { Ok(()) } else { Err(format!("{served} served, {stable} stable")) }
    })
    .await;

    let process = platform.process_id();
    // What the rollouts have left to do ends by itself.
    let share = eventually("an idle platform", async || {
        let before = processor_time(process);
        tokio::time::sleep(MEASURED).await;
        let share = (processor_time(process) - before).as_secs_f64() / MEASURED.as_secs_f64();
        if share < MOST { Ok(share) } else { Err(format!("{:.1} % of a core", share * 100.0)) }
    })
    .await;
    println!("{models} models, idle: {:.1} % of a core", share * 100.0);
}
