//! Taking a job in: everything that can be found wrong with it is found before it is queued.

use async_nats::HeaderMap;
use bytes::Bytes;
use prost::Message as _;
use rekindle_artifacts::Artifacts;
use rekindle_bus::Bus;
use rekindle_domain::{Digest, RunId};
use rekindle_proto::{registry, trainer as wire};

use crate::{
    Error,
    job::{DATASET_VERSION, Evaluate, Job, Train, Work},
    registry::Registry,
};

/// The subject of jobs that need nothing but a CPU.
pub(crate) const SUBJECT: &str = "rekindle.jobs.cpu";
/// Tag of a run: the digest of the job as it was submitted, which tells a repetition from a reused id.
const JOB_DIGEST: &str = "rekindle.job-digest";

/// What submitting needs.
pub(crate) struct Desk<'a> {
    pub bus: &'a Bus,
    pub artifacts: &'a Artifacts,
    pub registry: &'a Registry,
    pub code_revision: &'a str,
}

/// Checks a job, makes its run and queues it. Submitting the same job again changes nothing.
pub(crate) async fn submit(desk: &Desk<'_>, submitted: wire::Job) -> Result<RunId, Error> {
    let job = Job::parse(&submitted)?;
    let digest = digest(&submitted)?;
    let version = match desk.registry.run(job.id).await? {
        Some(run) => match known(&run, &job, &digest)? {
            Some(version) => version,
            None => return Ok(job.id),
        },
        None => create(desk, job.clone(), digest).await?,
    };
    queue(desk.bus, submitted, version).await?;
    Ok(job.id)
}

/// The digest of all that was asked for. Canonical, so that the order of tags does not count.
fn digest(job: &wire::Job) -> Result<Digest, Error> {
    // Who asks may differ from one try to the next; what is asked for may not.
    let asked = wire::Job { correlation_id: String::new(), ..job.clone() };
    let json = serde_json_canonicalizer::to_vec(&rekindle_proto::json::to_value(&asked));
    json.map(|json| Digest::of(&json)).map_err(|error| Error::invalid("job", error))
}

/// The dataset version that a job submitted before was given, unless it has left the queue already.
fn known(run: &registry::Run, job: &Job, digest: &Digest) -> Result<Option<u32>, Error> {
    if run.tags.get(JOB_DIGEST) != Some(&digest.to_string()) {
        return Err(Error::JobReused { id: job.id.to_string() });
    }
    let version = run.params.get(DATASET_VERSION).and_then(|version| version.parse().ok());
    Ok(version.filter(|_| run.status() == registry::RunStatus::Scheduled))
}

/// Checks the job against what exists and makes its run. Returns the version of its dataset.
async fn create(desk: &Desk<'_>, mut job: Job, digest: Digest) -> Result<u32, Error> {
    let dataset = desk.registry.dataset(&job.dataset, job.dataset_version).await?;
    job.dataset_version = dataset.version;
    match &job.work {
        Work::Train(train) => check_train(train, &dataset)?,
        Work::Evaluate(evaluate) => check_evaluate(desk.artifacts, evaluate, &dataset).await?,
    }
    job.tags.insert(JOB_DIGEST.to_owned(), digest.to_string());
    let content = dataset.content_digest.parse().map_err(|error| Error::invalid("dataset.content_digest", error))?;
    desk.registry.create_run(&job, &content, desk.code_revision).await?;
    Ok(dataset.version)
}

fn check_train(train: &Train, dataset: &registry::DatasetVersion) -> Result<(), Error> {
    let target = &train.recipe.target;
    if !has_column(dataset, target) {
        let problem =
            format!("target {target:?} is not a column of {}: choose one of {}", title(dataset), names(dataset));
        return Err(Error::invalid("job.train.recipe_json", problem));
    }
    if train.until.is_some() && dataset.time_column.is_empty() {
        let problem = format!("{} has no time column: register it with one, or leave train_until out", title(dataset));
        return Err(Error::invalid("job.train.train_until", problem));
    }
    Ok(())
}

async fn check_evaluate(
    artifacts: &Artifacts,
    evaluate: &Evaluate,
    dataset: &registry::DatasetVersion,
) -> Result<(), Error> {
    for column in &evaluate.gate.slices {
        if !has_column(dataset, column) {
            let problem = format!("{column:?} is not a column of {}: choose of {}", title(dataset), names(dataset));
            return Err(Error::invalid("job.evaluate.gate.slices", problem));
        }
    }
    if evaluate.from.is_some() && dataset.time_column.is_empty() {
        let problem = format!("{} has no time column: register it with one, or leave from out", title(dataset));
        return Err(Error::invalid("job.evaluate.from", problem));
    }
    for (field, bundle) in [("champion_bundle", &evaluate.champion), ("challenger_bundle", &evaluate.challenger)] {
        if !artifacts.contains(bundle).await? {
            let problem = format!("no bundle {bundle} is stored: train or import the model first");
            return Err(Error::invalid(format!("job.evaluate.{field}"), problem));
        }
    }
    Ok(())
}

fn has_column(dataset: &registry::DatasetVersion, name: &str) -> bool {
    dataset.columns.iter().any(|column| column.name == name)
}

fn title(dataset: &registry::DatasetVersion) -> String {
    format!("{} version {}", dataset.name, dataset.version)
}

fn names(dataset: &registry::DatasetVersion) -> String {
    dataset.columns.iter().map(|column| column.name.as_str()).collect::<Vec<_>>().join(", ")
}

/// Puts the job on the work queue with the number of its dataset's version. Its id is the message's, so a repetition that
/// comes soon is not stored; one that comes late finds the run taken or ended.
async fn queue(bus: &Bus, mut job: wire::Job, version: u32) -> Result<(), Error> {
    let dataset = match &mut job.work {
        Some(wire::job::Work::Train(train)) => &mut train.dataset,
        Some(wire::job::Work::Evaluate(evaluate)) => &mut evaluate.dataset,
        None => &mut None,
    };
    if let Some(dataset) = dataset {
        dataset.version = version;
    }
    let payload = Bytes::from(job.encode_to_vec());
    bus.publish(SUBJECT.to_owned(), &job.id, HeaderMap::new(), payload).await?;
    tracing::info!(job = job.id, experiment = job.experiment, "job queued");
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn flights() -> registry::DatasetVersion {
        let column = |name: &str| registry::Column { name: name.into(), ..Default::default() };
        registry::DatasetVersion {
            name: "flights".into(),
            version: 2,
            columns: vec![column("late"), column("carrier")],
            ..Default::default()
        }
    }

    fn train(target: &str) -> Train {
        Train {
            recipe: rekindle_domain::Recipe::for_target(target),
            until: None,
            register_as: None,
            description: String::new(),
        }
    }

    #[test]
    fn a_target_that_is_no_column_is_named_with_those_that_are() {
        check_train(&train("late"), &flights()).expect("a column");
        let error = check_train(&train("lateness"), &flights()).expect_err("no column").to_string();
        assert!(
            error.contains("lateness") && error.contains("flights version 2") && error.contains("carrier"),
            "{error}"
        );
    }

    #[test]
    fn a_time_bound_needs_a_time_column() {
        let bounded = Train { until: Some(chrono::DateTime::UNIX_EPOCH), ..train("late") };
        assert!(check_train(&bounded, &flights()).is_err());
        let timed = registry::DatasetVersion { time_column: "timestamp".into(), ..flights() };
        check_train(&bounded, &timed).expect("a time column");
    }

    #[test]
    fn tags_may_come_in_any_order() {
        let tags = |order: [&str; 2]| order.map(|tag| (tag.to_owned(), "x".to_owned())).into_iter().collect();
        let job = |tags| wire::Job { id: "1".into(), tags, ..Default::default() };
        let first = digest(&job(tags(["a", "b"]))).expect("digest");
        assert_eq!(first, digest(&job(tags(["b", "a"]))).expect("digest"));
        assert_ne!(first, digest(&job(Default::default())).expect("digest"));
    }
}
