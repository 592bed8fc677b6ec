//! A disk that fills and is freed: writes are refused with the reason, predictions are answered, and nothing that was acknowledged is lost.

use std::collections::BTreeSet;

use rekindle_client::PageRequest;
use rekindle_domain::{
    PredictionId, RunId,
    outcome::{Label, Outcome},
    run::Metric,
};
use rekindle_integration_tests::{
    Platform, Wiring,
    scenario::{self, described, model},
    table::{self, csv},
};
use rekindle_testkit::{SmallDisk, eventually};

const SHIFT: u64 = 72;
const METRIC: &str = "validation.log_loss";
/// Enough for a platform, its datasets and its streams, and quickly filled. With less than the streams' default size, which is 2.2 GiB.
const DISK: u64 = 160 << 20;

/// What was acknowledged.
#[derive(Debug, Default)]
struct Acknowledged {
    /// The steps of [`METRIC`].
    metrics: BTreeSet<i64>,
    outcomes: u64,
}

impl Acknowledged {
    /// Writes metrics and outcomes until both are refused, and returns why the last ones were.
    async fn write_until_refused(&mut self, platform: &Platform, run: RunId, prediction: PredictionId) -> [String; 2] {
        let (registry, monitor) = (platform.clients.registry(), platform.clients.monitor());
        let metric = loop {
            let step = self.metrics.last().map_or(0, |last| last + 1);
            let metric = Metric { name: METRIC.into(), value: 0.5, step, time: None };
            match registry.log_metrics(run, &[metric]).await {
                Ok(()) => assert!(self.metrics.insert(step)),
                Err(error) => break described(error),
            }
        };
        let outcome = loop {
            let outcome = Outcome::new(prediction, 0, Label::Class("1".into()));
            match monitor.report_outcomes(&model(), &[outcome], String::new()).await {
                Ok(_) => self.outcomes += 1,
                Err(error) => break described(error),
            }
        };
        [metric, outcome]
    }

    /// One more of each is accepted.
    async fn write_again(&mut self, platform: &Platform, run: RunId, prediction: PredictionId) {
        let (registry, monitor) = (platform.clients.registry(), platform.clients.monitor());
        let step = self.metrics.last().map_or(0, |last| last + 1);
        let metric = Metric { name: METRIC.into(), value: 0.5, step, time: None };
        registry.log_metrics(run, &[metric]).await.expect("there is room");
        self.metrics.insert(step);
        let outcome = Outcome::new(prediction, 0, Label::Class("1".into()));
        monitor.report_outcomes(&model(), &[outcome], String::new()).await.expect("there is room");
        self.outcomes += 1;
    }

    /// Everything that was acknowledged is there.
    async fn assert_present(&self, platform: &Platform, run: RunId) {
        let registry = platform.clients.registry();
        let (mut steps, mut page) = (BTreeSet::new(), PageRequest::first(500));
        loop {
            let found = registry.metric_history(run, METRIC, page).await.expect("listed");
            steps.extend(found.items.iter().map(|metric| metric.step));
            if found.next_page_token.is_empty() {
                break;
            }
            page = PageRequest { token: found.next_page_token, ..PageRequest::first(500) };
        }
        let missing: Vec<_> = self.metrics.difference(&steps).collect();
        assert!(missing.is_empty(), "{} of {} metrics are missing: {missing:?}", missing.len(), self.metrics.len());
        let monitor = platform.clients.monitor();
        eventually("every acknowledged outcome to be captured", async || {
            let captured = monitor.capture_status(&model()).await.map_err(described)?.outcomes;
            if captured >= self.outcomes { Ok(()) } else { Err(format!("{captured} of {}", self.outcomes)) }
        })
        .await;
    }
}

/// Whether the platform is ready, and why not.
async fn problem(platform: &Platform) -> Option<String> {
    let (code, out, _) = platform.command(&["status"]).await;
    let status: serde_json::Value = serde_json::from_str(&out).unwrap_or_else(|error| panic!("{error}: {code} {out}"));
    status["problem"].as_str().map(str::to_owned)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn nothing_acknowledged_is_lost_on_a_disk_that_fills_and_is_freed() {
    let Some(disk) = SmallDisk::mount(DISK) else { return };
    let mut platform = Platform::start_in(disk.path(), Wiring::Embedded, 1).await;
    let clients = platform.clients.clone();
    scenario::register(&clients, csv(&table::rows(0..SHIFT, SHIFT)), "training rows").await;
    let (_, version) = scenario::train(&clients, "01890000-0000-7000-8000-000000000001").await;
    let run = clients.registry().create_run(&scenario::new_run(), "full disk").await.expect("created");
    scenario::promote_and_deploy(&clients, version.version).await;
    let rows = table::rows(SHIFT..SHIFT + 1, SHIFT);
    let replica = clients.replica(0);
    let answered = replica.infer(scenario::request(&rows)).await.expect("answered");
    let prediction = answered.prediction().expect("an id");

    let mut acknowledged = Acknowledged::default();
    for round in 0..3 {
        disk.fill();
        let refusals = acknowledged.write_until_refused(&platform, run.id, prediction).await;
        assert!(refusals.iter().all(|refusal| !refusal.contains("panic")), "{refusals:?}");
        eprintln!(
            "round {round}: {} metrics, {} outcomes, then {refusals:#?}",
            acknowledged.metrics.len(),
            acknowledged.outcomes
        );
        eventually("the full disk to be reported", async || match problem(&platform).await {
            Some(problem) if problem.contains("bytes free") => Ok(()),
            problem => Err(format!("{problem:?}")),
        })
        .await;
        replica.infer(scenario::request(&rows)).await.expect("a full disk stops no prediction");

        disk.free();
        let freed = std::time::Instant::now();
        eventually("the platform to be ready", async || problem(&platform).await.map_or(Ok(()), Err)).await;
        eprintln!("round {round}: ready {:?} after there was room", freed.elapsed());
        acknowledged.write_again(&platform, run.id, prediction).await;
    }

    // It is started again on the full disk.
    disk.fill();
    platform.kill();
    platform.restart_unready().await;
    eventually("predictions to be answered", async || {
        let answer = platform.clients.replica(0).infer(scenario::request(&rows)).await;
        answer.map(drop).map_err(described)
    })
    .await;
    let why = problem(&platform).await;
    assert!(why.as_ref().is_some_and(|why| why.contains("bytes free")), "{why:?}");
    disk.free();
    eventually("the platform to be ready", async || problem(&platform).await.map_or(Ok(()), Err)).await;
    acknowledged.write_again(&platform, run.id, prediction).await;

    platform.kill_and_restart().await;
    acknowledged.assert_present(&platform, run.id).await;
}
