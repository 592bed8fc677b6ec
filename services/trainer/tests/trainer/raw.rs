//! Messages that no typed client sends.

use rekindle_client::wire;
use rekindle_proto::trainer::{Job, SubmitJobRequest, job::Work, trainer_client::TrainerClient};
use tonic::{Code, Status};

use crate::world::{World, evaluate, rows, train};

async fn submit(world: &World, job: Option<Job>) -> Status {
    let mut client = TrainerClient::connect(world.address.clone()).await.expect("connected");
    client.submit_job(SubmitJobRequest { job }).await.expect_err("refused")
}

#[tokio::test]
async fn malformed_jobs_are_refused_by_field() {
    let world = World::without_worker().await;
    world.dataset("flights", rows(0, 10, false)).await;
    let good = wire::job::to_wire(&train("flights"));
    let mut impatient = good.clone();
    if let Some(Work::Train(work)) = &mut impatient.work {
        let recipe = work.recipe.as_mut().expect("a recipe");
        recipe.target = String::new();
        recipe.validation_share = Some(0.9);
    }
    let mut loose = wire::job::to_wire(&evaluate("flights", digest(), digest(), Default::default()));
    if let Some(Work::Evaluate(work)) = &mut loose.work {
        work.gate.as_mut().expect("a gate").confidence = Some(0.5);
    }
    for (job, words) in [
        (None, vec!["job"]),
        (Some(Job { id: "7".into(), ..good.clone() }), vec!["job.id"]),
        (Some(Job { work: None, ..good.clone() }), vec!["job.work"]),
        (Some(Job { experiment: "Not A Name".into(), ..good }), vec!["job.experiment"]),
        (Some(impatient), vec!["job.train.recipe.target", "job.train.recipe.validation_share"]),
        (Some(loose), vec!["job.evaluate.gate.confidence", "above 0.5"]),
    ] {
        let status = submit(&world, job).await;
        assert_eq!(status.code(), Code::InvalidArgument, "{status:?}");
        for word in words {
            assert!(status.message().contains(word), "{word}: {status:?}");
        }
    }
}

fn digest() -> rekindle_domain::Digest {
    rekindle_domain::Digest::of(b"bundle")
}
