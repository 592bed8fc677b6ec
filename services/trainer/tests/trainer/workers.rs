//! Workers outside of the platform, which claim trainings by calls. That one completes a training is tested with a whole platform.

use std::{collections::BTreeMap, time::Duration};

use rekindle_domain::{
    Digest,
    job::{External, Job, Work},
    run::RunStatus,
};
use rekindle_proto::trainer::{
    self as proto, ClaimJobRequest, CompleteJobRequest, FailJobRequest, RenewClaimRequest,
    workers_client::WorkersClient,
};
use rekindle_testkit::eventually;
use tonic::{Code, transport::Channel};

use crate::world::{World, rows, train};

const POOL: &str = "python";

/// A training of the pool, as the only one.
async fn submitted(world: &World) -> Job {
    submitted_with(world, None).await
}

async fn submitted_with(world: &World, time_limit: Option<Duration>) -> Job {
    world.dataset("flights", rows(0, 1_000, false)).await;
    let mut job = train("flights");
    if let Work::Train(train) = &mut job.work {
        let parameters = BTreeMap::from([("trees".to_owned(), "300".to_owned())]);
        train.time_limit = time_limit;
        train.external = Some(Box::new(External { pool: POOL.to_owned(), parameters }));
    }
    world.submit(&job).await.expect("submitted");
    job
}

async fn workers(world: &World) -> WorkersClient<Channel> {
    WorkersClient::connect(world.address.clone()).await.expect("it listens")
}

async fn claim(workers: &mut WorkersClient<Channel>, pool: &str, seconds: i64) -> Option<proto::Claim> {
    let wait = Some(prost_types::Duration { seconds, nanos: 0 });
    workers.claim_job(ClaimJobRequest { pool: pool.to_owned(), wait }).await.expect("answered").into_inner().claim
}

#[tokio::test]
async fn a_training_is_claimed_by_one_worker_and_by_another_once_its_claim_has_expired() {
    let world = World::start().await;
    let mut workers = workers(&world).await;
    assert_eq!(claim(&mut workers, POOL, 0).await, None);
    let job = submitted(&world).await;
    assert_eq!(world.run(job.id).await.expect("its run").params["external.parameters.trees"], "300");
    let first = claim(&mut workers, POOL, 5).await.expect("a training");
    assert_eq!((first.run_id.as_str(), first.attempt, first.time_column.as_str()), (&*job.id.to_string(), 1, "at"));
    let train = first.train.as_ref().expect("what to train");
    assert_eq!(train.dataset.as_ref().and_then(|dataset| dataset.version), Some(1));
    assert_eq!(train.external.as_ref().map(|external| external.parameters["trees"].as_str()), Some("300"));
    // 15 % of 999 hours.
    let from = first.validation_from.expect("there are times").seconds - 1_704_067_200;
    assert_eq!(from, 999 * 3600 - 999 * 36 * 15);
    assert_eq!(world.run(job.id).await.expect("its run").status, RunStatus::Running);
    // As long as it is renewed, no other worker gets it.
    for _ in 0..4 {
        assert_eq!(claim(&mut workers, POOL, 0).await, None);
        tokio::time::sleep(Duration::from_millis(400)).await;
        let renewed = workers
            .renew_claim(RenewClaimRequest { token: first.token.clone(), ..Default::default() })
            .await
            .expect("held");
        assert!(!renewed.into_inner().cancelled);
    }
    let second = claim(&mut workers, POOL, 10).await.expect("the lease has expired");
    assert_eq!((second.run_id.as_str(), second.attempt), (first.run_id.as_str(), 2));
    // The first worker comes back: it has lost the training, and harms nothing.
    let stale = workers
        .renew_claim(RenewClaimRequest { token: first.token.clone(), ..Default::default() })
        .await
        .expect_err("lost");
    assert_eq!(stale.code(), Code::NotFound);
    let harm = FailJobRequest { token: first.token.clone(), error: "late".to_owned(), retry: false };
    assert_eq!(workers.fail_job(harm).await.expect_err("lost").code(), Code::NotFound);
    let file_digest = Digest::of(b"file").to_string();
    let late = CompleteJobRequest { token: first.token.clone(), file_digest, ..Default::default() };
    assert_eq!(workers.complete_job(late).await.expect_err("lost").code(), Code::NotFound);
    assert_eq!(world.run(job.id).await.expect("its run").status, RunStatus::Running);
    assert_eq!(second.checkpoint_digest, "");
    let checkpoint = world.artifacts.put("half of the trees".into()).await.expect("stored").to_string();
    let with =
        |checkpoint: &str| RenewClaimRequest { token: second.token.clone(), checkpoint_digest: checkpoint.to_owned() };
    for unusable in [Digest::of(b"not stored").to_string(), "no digest".to_owned()] {
        let refused = workers.renew_claim(with(&unusable)).await.expect_err(&unusable);
        assert_eq!(refused.code(), Code::InvalidArgument, "{refused}");
    }
    workers.renew_claim(with(&checkpoint)).await.expect("held");
    workers.renew_claim(with("")).await.expect("held");
    let retry = FailJobRequest { token: second.token.clone(), error: "no room".to_owned(), retry: true };
    workers.fail_job(retry).await.expect("returned to the queue");
    let third = claim(&mut workers, POOL, 20).await.expect("again");
    assert_eq!((third.run_id.as_str(), third.attempt), (first.run_id.as_str(), 3));
    assert_eq!(third.checkpoint_digest, checkpoint, "it continues where the second one was");
    let end = FailJobRequest { token: third.token.clone(), error: "the rows are odd".to_owned(), retry: false };
    workers.fail_job(end).await.expect("ended");
    let run = world.ended(job.id).await;
    assert_eq!((run.status, run.error.as_str()), (RunStatus::Failed, "the rows are odd"));
    assert!(!run.tags.values().any(|tag| *tag == checkpoint), "the checkpoint is garbage: {:?}", run.tags);
    let ended = workers
        .renew_claim(RenewClaimRequest { token: third.token, ..Default::default() })
        .await
        .expect_err("it has ended");
    assert_eq!(ended.code(), Code::NotFound);
}

#[tokio::test]
async fn a_worker_that_takes_longer_than_the_limit_of_the_training_is_stopped() {
    let world = World::start().await;
    let mut workers = workers(&world).await;
    let job = submitted_with(&world, Some(Duration::from_secs(12))).await;
    let held = claim(&mut workers, POOL, 5).await.expect("a training");
    let renewal = || RenewClaimRequest { token: held.token.clone(), ..Default::default() };
    assert!(!workers.renew_claim(renewal()).await.expect("held").into_inner().cancelled);
    eventually("the limit", async || {
        let renewed = workers.clone().renew_claim(renewal()).await.map_err(|error| error.to_string())?;
        if renewed.into_inner().cancelled { Ok(()) } else { Err("it continues".to_owned()) }
    })
    .await;
    let run = world.run(job.id).await.expect("its run");
    let why = "the training exceeded its time limit of 12s";
    assert_eq!((run.status, run.error.as_str()), (RunStatus::Failed, why));
    assert_eq!(workers.renew_claim(renewal()).await.expect_err("it has ended").code(), Code::NotFound);
}

#[tokio::test]
async fn a_worker_is_told_of_a_cancelled_run_and_a_training_of_an_ended_run_leaves_the_queue() {
    let world = World::start().await;
    let mut workers = workers(&world).await;
    let job = submitted(&world).await;
    let held = claim(&mut workers, POOL, 5).await.expect("a training");
    world.cancel(&job).await;
    let renewed = workers
        .renew_claim(RenewClaimRequest { token: held.token.clone(), ..Default::default() })
        .await
        .expect("answered");
    assert!(renewed.into_inner().cancelled);
    let gone = workers
        .renew_claim(RenewClaimRequest { token: held.token, ..Default::default() })
        .await
        .expect_err("it has ended");
    assert_eq!(gone.code(), Code::NotFound);
    let unclaimed = submitted(&world).await;
    world.cancel(&unclaimed).await;
    assert_eq!(claim(&mut workers, POOL, 2).await, None);
}

#[tokio::test]
async fn what_is_no_claim_is_refused_and_reaches_nothing_on_the_bus() {
    let world = World::start().await;
    let mut workers = workers(&world).await;
    let job = submitted(&world).await;
    let held = claim(&mut workers, POOL, 5).await.expect("a training");
    let internal = crate::world::train_long("flights", 1_000, 8);
    world.submit(&internal).await.expect("submitted");
    let in_hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    let forged = [
        String::new(),
        "not hex".to_owned(),
        in_hex("rekindle.events.registry.run.ended.x"),
        in_hex("$JS.ACK.REKINDLE_EVENTS.relay.1.1.1.1700000000000000000.0"),
        in_hex("$JS.ACK.REKINDLE_JOBS.trainer-pool-python.1.999999.1.1700000000000000000.0"),
        in_hex("$JS.ACK.REKINDLE_JOBS.>"),
        in_hex("$JS.API.STREAM.DELETE.REKINDLE_JOBS"),
    ];
    let (_, delivery) = held.token.split_once('.').expect("two parts");
    // As of the second job on the stream, which a trainer of the platform works on.
    let of_internal = in_hex("$JS.ACK.REKINDLE_JOBS.trainer-cpu.1.2.1.1700000000000000000.0");
    let forged = forged.into_iter().flat_map(|delivery| [format!("{}.{delivery}", job.id), delivery]);
    let other = [format!("{}.{delivery}", internal.id), format!("{}.{of_internal}", internal.id), of_internal];
    for token in forged.chain(other) {
        let renewed = workers
            .renew_claim(RenewClaimRequest { token: token.clone(), ..Default::default() })
            .await
            .expect_err("no claim");
        assert_eq!(renewed.code(), Code::NotFound, "{token}: {renewed}");
        let file_digest = Digest::of(b"file").to_string();
        let completed = CompleteJobRequest { token: token.clone(), file_digest, ..Default::default() };
        assert_eq!(workers.complete_job(completed).await.expect_err("no claim").code(), Code::NotFound, "{token}");
        let failed = FailJobRequest { token: token.clone(), ..Default::default() };
        assert_eq!(workers.fail_job(failed).await.expect_err("no claim").code(), Code::NotFound, "{token}");
    }
    assert!(!world.run(internal.id).await.expect("its run").status.is_terminal());
    world.cancel(&internal).await;
    workers.renew_claim(RenewClaimRequest { token: held.token, ..Default::default() }).await.expect("still held");
    for (pool, seconds) in [("cpu", 0), ("", 0), ("*", 0), ("a.b", 0), (POOL, 31), (POOL, -1)] {
        let wait = Some(prost_types::Duration { seconds, nanos: 0 });
        let refused = workers.claim_job(ClaimJobRequest { pool: pool.to_owned(), wait }).await.expect_err(pool);
        assert_eq!(refused.code(), Code::InvalidArgument, "{pool} {seconds}: {refused}");
    }
}
