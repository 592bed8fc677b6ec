//! The registry is killed while eight writers change everything that it keeps: what it has acknowledged is there afterwards, no number is used
//! twice, the audit trail is complete, and the view that its events give is its own.
//!
//! `REKINDLE_MUTATIONS=10000` makes the test longer.

use std::{collections::BTreeSet, time::Duration};

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rekindle_client::{
    PageRequest,
    registry::{ReviewRequest, VersionRegistration},
};
use rekindle_domain::{
    AliasName, Digest, ModelName, RunId,
    alias::AliasMove,
    model_version::{Approval, Update, VersionSelector},
    run::RunReport,
};
use rekindle_integration_tests::{
    Clients, Platform, Wiring, scenario,
    table::{self, csv},
};

const WRITERS: usize = 8;
const SHIFT: u64 = 1_000;

/// What the registry has acknowledged.
#[derive(Debug, Default)]
struct Acknowledged {
    runs: Vec<(RunId, bool)>,
    params: Vec<(RunId, String)>,
    versions: Vec<(ModelName, u32)>,
    moves: Vec<(ModelName, u64, u32)>,
    tags: Vec<(ModelName, String)>,
    reviews: Vec<(ModelName, u32, u64)>,
}

impl Acknowledged {
    fn count(&self) -> usize {
        let Self { runs, params, versions, moves, tags, reviews } = self;
        runs.len() + params.len() + versions.len() + moves.len() + tags.len() + reviews.len()
    }

    fn extend(&mut self, other: Self) {
        self.runs.extend(other.runs);
        self.params.extend(other.params);
        self.versions.extend(other.versions);
        self.moves.extend(other.moves);
        self.tags.extend(other.tags);
        self.reviews.extend(other.reviews);
    }
}

fn model(number: u32) -> ModelName {
    format!("model-{number}").parse().expect("a name")
}

/// Changes at random, until a call fails because the registry is gone.
async fn write(clients: Clients, bundle: Digest, seed: u64) -> Acknowledged {
    let registry = clients.registry();
    let mut random = ChaCha8Rng::seed_from_u64(seed);
    let mut made = Acknowledged::default();
    let champion = AliasName::champion();
    for step in 0_u64.. {
        let model = model(random.random_range(0..3));
        let key = format!("{seed}-{step}");
        let done: Result<(), rekindle_client::Error> = async {
            match random.random_range(0..6) {
                0 => {
                    let run = registry.create_run(&scenario::new_run(), &key).await?;
                    made.runs.push((run.id, false));
                    registry.report_run(run.id, RunReport::Running).await?;
                    registry.report_run(run.id, RunReport::Finished { outputs: [].into() }).await?;
                    made.runs.push((run.id, true));
                }
                1 => {
                    let Some((run, _)) = made.runs.last().copied() else { return Ok(()) };
                    registry.log_params(run, &[(key.clone(), "1".to_owned())].into()).await?;
                    made.params.push((run, key.clone()));
                }
                2 => {
                    let registration = VersionRegistration {
                        idempotency_key: key.clone(),
                        model: model.clone(),
                        bundle,
                        description: String::new(),
                    };
                    made.versions.push((model.clone(), registry.register_version(&registration).await?.version));
                }
                3 => {
                    let Ok(latest) = registry.model_version(&model, &VersionSelector::Latest).await else {
                        return Ok(());
                    };
                    let expected_revision = registry.alias(&model, &champion).await.map_or(0, |alias| alias.revision);
                    let (alias, why) = (champion.clone(), key.clone());
                    let target = AliasMove { model, alias, version: latest.version, expected_revision, why };
                    match registry.set_alias(&target).await {
                        Ok(moved) => made.moves.push((moved.model, moved.revision, moved.version)),
                        // Another writer was first, or the answer to a call that was repeated is lost.
                        Err(error) if error.code() == tonic::Code::Aborted => {}
                        Err(error) => return Err(error),
                    }
                }
                4 => {
                    let update = Update { tags: [(key.clone(), "1".to_owned())].into(), ..Update::default() };
                    match registry.update_model(&model, &update).await {
                        Ok(_) => made.tags.push((model, key.clone())),
                        Err(error) if error.is_not_found() => {}
                        Err(error) => return Err(error),
                    }
                }
                _ => {
                    let Ok(latest) = registry.model_version(&model, &VersionSelector::Latest).await else {
                        return Ok(());
                    };
                    let review = ReviewRequest {
                        model: model.clone(),
                        version: latest.version,
                        approval: Approval::Approved,
                        why: key.clone(),
                        expected_revision: latest.revision,
                        evidence: [].into(),
                    };
                    match registry.review(&review).await {
                        Ok(reviewed) => made.reviews.push((model, latest.version, reviewed.revision)),
                        Err(error) if error.code() == tonic::Code::Aborted => {}
                        Err(error) => return Err(error),
                    }
                }
            }
            Ok(())
        }
        .await;
        if done.is_err() {
            break;
        }
    }
    made
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_the_registry_acknowledges_survives_kills() {
    let wanted: usize = std::env::var("REKINDLE_MUTATIONS").map_or(1_000, |count| count.parse().expect("a number"));
    let seed = uuid::Uuid::new_v4().as_fields().0;
    let mut random = ChaCha8Rng::seed_from_u64(seed.into());
    let mut platform = Platform::start(Wiring::Embedded, 1).await;
    scenario::register(&platform.clients, csv(&table::rows(0..48, SHIFT)), "training rows").await;
    let (_, first) = scenario::train(&platform.clients, "01890000-0000-7000-8000-000000000001").await;
    let mut all = Acknowledged::default();
    let mut rounds = 0;
    while all.count() < wanted {
        rounds += 1;
        let writers: Vec<_> = (0..WRITERS)
            .map(|writer| {
                let seed = (u64::from(seed) << 16) + rounds * 100 + writer as u64;
                tokio::spawn(write(platform.clients.clone(), first.bundle, seed))
            })
            .collect();
        tokio::time::sleep(Duration::from_millis(random.random_range(300..1500))).await;
        platform.kill();
        for writer in writers {
            all.extend(writer.await.expect("it ended"));
        }
        platform.restart().await;
    }
    println!("seed {seed}: {} acknowledged in {rounds} rounds", all.count());
    check(&platform, &all).await;

    let verified = platform.json(&["audit", "verify"]).await;
    for trail in verified["trails"].as_array().expect("a list") {
        assert_eq!(trail["faults"].as_array().map(Vec::len), Some(0), "seed {seed}: {trail}");
    }
    let replayed = platform.json(&["events", "replay"]).await;
    assert_eq!(replayed["replayed"], replayed["registry"], "seed {seed}: {replayed}");
    assert!(replayed["entries"].as_u64() > Some(20), "{replayed}");
}

/// Everything that was acknowledged is there, once.
async fn check(platform: &Platform, all: &Acknowledged) {
    let registry = platform.clients.registry();
    for (id, has_ended) in &all.runs {
        let run = registry.run(*id).await.unwrap_or_else(|error| panic!("run {id}: {error}"));
        assert!(!has_ended || run.ended_at.is_some(), "run {id}: {run:?}");
    }
    for (id, param) in &all.params {
        assert!(registry.run(*id).await.expect("a run").params.contains_key(param), "run {id}: param {param}");
    }
    let numbers: BTreeSet<_> = all.versions.iter().collect();
    assert_eq!(numbers.len(), all.versions.len(), "a version number was given twice");
    for (model, number) in numbers {
        let version = registry.model_version(model, &VersionSelector::Number(*number)).await;
        version.unwrap_or_else(|error| panic!("{model} {number}: {error}"));
    }
    let revisions: BTreeSet<_> = all.moves.iter().map(|(model, revision, _)| (model, revision)).collect();
    assert_eq!(revisions.len(), all.moves.len(), "a revision of an alias was given twice");
    for model in (0..3).map(model) {
        let (mut history, mut token) = (Vec::new(), String::new());
        while let Ok(page) =
            registry.alias_history(&model, &AliasName::champion(), PageRequest { size: 500, token }).await
        {
            history.extend(page.items);
            token = page.next_page_token;
            if token.is_empty() {
                break;
            }
        }
        for (of, revision, version) in all.moves.iter().filter(|(of, ..)| *of == model) {
            let kept = history.iter().find(|moved| moved.revision == *revision);
            assert_eq!(kept.map(|moved| moved.version), Some(*version), "{of}: move {revision}");
        }
    }
    for (model, tag) in &all.tags {
        assert!(registry.model(model).await.expect("a model").tags.contains_key(tag), "{model}: tag {tag}");
    }
    for (model, number, revision) in &all.reviews {
        let version = registry.model_version(model, &VersionSelector::Number(*number)).await.expect("a version");
        assert!(version.revision >= *revision, "{model} {number}: review {revision}");
    }
}
