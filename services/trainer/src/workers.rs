//! Workers outside of the platform: they claim the trainings of a pool, and complete them with a file that the registry imports.
//!
//! The service keeps no state of a claim, so that any instance answers any call. The run is the record of the training, the work queue has it
//! until it has ended, and a worker that has lost its claim to another one has no effect on it: the run has the number of the latest claim.

use std::{collections::BTreeMap, time::Duration};

use async_nats::HeaderMap;
use chrono::{DateTime, TimeDelta, Utc};
use rekindle_bus::{claim::Claim, consumer::Consumer, streams::JOBS, subject};
use rekindle_client::wire;
use rekindle_domain::{
    Digest, RunId,
    dataset::DatasetVersion,
    event_time,
    job::{Job, Train, Work},
    model_version::{ImportedTraining, ModelImport, Scores},
    run::{Run, RunStatus},
    text,
};
use rekindle_service::{RequestError, chain};
use tokio::time::Instant;

use crate::{App, Error, registry::Registry, watch::Deadline};

/// Delay of a training that a worker returns to the queue.
const RETRY: Duration = Duration::from_secs(5);

/// The tag of a run with the number of its latest claim: a claim that was lost to another worker has no effect any more.
const ATTEMPT: &str = "rekindle.attempt";

/// A training of a pool.
struct Training {
    job: Job,
    train: Train,
    registry: Registry,
}

/// A training that a worker has claimed.
#[derive(Debug)]
pub(crate) struct Claimed {
    pub token: String,
    pub lease: Duration,
    pub job: Job,
    pub train: Train,
    pub dataset: DatasetVersion,
    /// When the validation rows begin; `None` without a time column.
    pub validation_from: Option<DateTime<Utc>>,
    /// How often the training has been claimed, this claim included.
    pub attempt: u64,
    /// The digest of the latest checkpoint.
    pub checkpoint: Option<String>,
}

/// What a worker has made.
#[derive(Debug)]
pub(crate) struct Completion {
    /// The file in the ONNX format.
    pub file: Digest,
    pub classes: Vec<String>,
    pub features: Vec<String>,
    pub nullable: Vec<String>,
    pub output: Option<String>,
    pub scores: Option<Scores>,
    /// Further outputs of the run.
    pub outputs: BTreeMap<String, String>,
}

/// The name of a claim: the run, and the delivery of its job.
fn token(run: RunId, delivery: &str) -> String {
    format!("{run}.{delivery}")
}

impl App {
    fn consumer(&self, pool: &str) -> Consumer {
        Consumer {
            ack_wait: self.0.config.worker_lease,
            ..Consumer::new(consumer_of(pool), JOBS, [subject::jobs(pool)])
        }
    }

    /// The training that a message of a pool holds.
    fn training(&self, payload: &[u8]) -> Option<Training> {
        let job = wire::job::decode(payload).ok()?;
        let Work::Train(train) = &job.work else { return None };
        train.external.as_ref()?;
        let registry = Registry::new(&self.0.registry, &job.correlation_id);
        Some(Training { train: train.clone(), registry, job })
    }

    /// The training of a claim, its run, and the delivery. `None` if the claim has ended, if another worker has claimed the training since, or
    /// if there never was such a claim.
    async fn held(&self, token: &str) -> Result<Option<(Training, Run, String)>, Error> {
        let Some((id, delivery)) = token.split_once('.') else { return Ok(None) };
        let Some(claimed) = self.0.bus.claimed(JOBS, delivery).await? else { return Ok(None) };
        let Some(training) = self.training(&claimed.payload) else { return Ok(None) };
        let pool = training.train.external.as_ref().map(|external| consumer_of(&external.pool));
        if training.job.id.to_string() != id || pool != Some(claimed.consumer) {
            return Ok(None);
        }
        let Some(run) = training.registry.run(training.job.id).await? else { return Ok(None) };
        let is_latest = run.tags.get(ATTEMPT) == Some(&claimed.deliveries.to_string());
        Ok(is_latest.then(|| (training, run, delivery.to_owned())))
    }

    /// Claims a training whose run has not ended. Those of other runs leave the queue.
    pub(crate) async fn claim_training(&self, pool: &str, wait: Duration) -> Result<Option<Claimed>, Error> {
        let deadline = Instant::now() + wait;
        loop {
            let left = deadline.saturating_duration_since(Instant::now());
            let Some(claim) = self.0.bus.claim(&self.consumer(pool), left).await? else { return Ok(None) };
            match self.begin(pool, &claim).await {
                Ok(Some(begun)) => return Ok(Some(begun)),
                Ok(None) => self.0.bus.end_claim(JOBS, &claim.token).await?,
                Err(error) => {
                    // Another worker gets it once the registry answers.
                    self.0.bus.release_claim(JOBS, &claim.token, RETRY).await?;
                    return Err(error);
                }
            }
        }
    }

    /// Starts the run of a claim. `None` if there is nothing to do: the run has ended, or its training was claimed too often.
    async fn begin(&self, pool: &str, claim: &Claim) -> Result<Option<Claimed>, Error> {
        let Some(Training { job, train, registry }) = self.training(&claim.payload) else {
            let reason = "it is no training for workers of a pool";
            tracing::error!(pool, reason, "message dead-lettered");
            let (consumer, payload) = (consumer_of(pool), claim.payload.clone());
            let id = format!("{consumer}/{}", claim.token);
            self.0.bus.publish(subject::dead_letters(&consumer), &id, HeaderMap::new(), payload).await?;
            return Ok(None);
        };
        let Some(run) = registry.run(job.id).await? else { return Ok(None) };
        if run.status.is_terminal() && run.status != RunStatus::Lost {
            return Ok(None);
        }
        let most = self.0.config.max_deliveries;
        if claim.deliveries > most {
            let error = format!("it was claimed {most} times, and no worker has completed it");
            return ended(registry.report_failed(job.id, error).await).map(|()| None);
        }
        if let Some(deadline) = Deadline::of(&job.work, &run).filter(Deadline::is_over) {
            let error = Error::from(deadline).to_string();
            return ended(registry.report_failed(job.id, error).await).map(|()| None);
        }
        match registry.report_running(job.id).await {
            Err(Error::Killed) => return Ok(None),
            result => result?,
        }
        registry.set_tag(job.id, ATTEMPT, claim.deliveries.to_string()).await?;
        let dataset = registry.dataset(&job.dataset).await?;
        tracing::info!(run = %job.id, attempt = claim.deliveries, "training claimed");
        Ok(Some(Claimed {
            token: token(job.id, &claim.token),
            lease: self.0.config.worker_lease,
            validation_from: validation_from(&train, &dataset),
            attempt: claim.deliveries,
            checkpoint: run.tags.get(Run::CHECKPOINT).cloned(),
            job,
            train,
            dataset,
        }))
    }

    /// Renews the lease of a claim and of its run, and records a checkpoint. Returns whether a caller has ended the run, which ends the claim.
    pub(crate) async fn renew_claim(&self, token: &str, checkpoint: Option<Digest>) -> Result<bool, Error> {
        let Some((Training { job, registry, .. }, run, delivery)) = self.held(token).await? else {
            return Err(no_claim(token));
        };
        if let Some(deadline) = Deadline::of(&job.work, &run).filter(Deadline::is_over) {
            ended(registry.report_failed(job.id, Error::from(deadline).to_string()).await)?;
            self.0.bus.end_claim(JOBS, &delivery).await?;
            return Ok(true);
        }
        match registry.report_running(job.id).await {
            Ok(()) => self.0.bus.renew_claim(JOBS, &delivery).await?,
            Err(Error::Killed) => {
                self.0.bus.end_claim(JOBS, &delivery).await?;
                return Ok(true);
            }
            Err(error) => return Err(error),
        }
        // The claim is renewed, whatever the checkpoint is.
        if let Some(digest) = checkpoint {
            if !self.0.artifacts.contains(&digest).await? {
                let problem = format!("no blob has the digest {digest}: upload it first");
                return Err(Error::invalid("checkpoint_digest", problem));
            }
            registry.set_tag(job.id, Run::CHECKPOINT, digest.to_string()).await?;
        }
        Ok(false)
    }

    /// Ends the run of a claim as failed, or returns the training to the queue.
    pub(crate) async fn fail_training(&self, token: &str, error: &str, retry: bool) -> Result<(), Error> {
        let Some((Training { job, registry, .. }, _, delivery)) = self.held(token).await? else {
            return Err(no_claim(token));
        };
        tracing::warn!(run = %job.id, error, retry, "a worker failed");
        if retry {
            return Ok(self.0.bus.release_claim(JOBS, &delivery, RETRY).await?);
        }
        ended(registry.report_failed(job.id, text::reason(error)).await)?;
        if let Err(error) = self.0.bus.end_claim(JOBS, &delivery).await {
            // It is redelivered, and its run has ended.
            tracing::warn!(run = %job.id, error = chain(&error), "the claim is not ended");
        }
        Ok(())
    }

    /// Registers what a worker has made as the next version of the model, once, and ends the run. Returns the version and its bundle.
    pub(crate) async fn complete_training(&self, token: &str, given: Completion) -> Result<(u32, Digest), Error> {
        let Some((training, run, delivery)) = self.held(token).await? else { return self.completed(token).await };
        let Training { job, train, registry } = training;
        if matches!(run.status, RunStatus::Killed | RunStatus::Failed) {
            self.0.bus.end_claim(JOBS, &delivery).await?;
            return Err(over(&run));
        }
        let deadline = Deadline::of(&job.work, &run).filter(|_| run.status != RunStatus::Finished);
        if let Some(deadline) = deadline.filter(Deadline::is_over) {
            let error = Error::from(deadline).to_string();
            ended(registry.report_failed(job.id, error.clone()).await)?;
            self.0.bus.end_claim(JOBS, &delivery).await?;
            return Err(over(&Run { status: RunStatus::Failed, error, ..run }));
        }
        let dataset = registry.dataset(&job.dataset).await?;
        let model = train.register_as.clone().ok_or_else(|| Error::invalid("token", "the training names no model"))?;
        let import = ModelImport {
            model: model.clone(),
            file: given.file,
            target: train.recipe.target.clone(),
            task: train.recipe.task,
            classes: given.classes,
            features: given.features,
            nullable: given.nullable,
            output: given.output,
            scores: given.scores,
            dataset: Some((dataset.name.clone(), Some(dataset.version))),
            ignore: train.recipe.ignore.clone(),
            description: train.description.clone(),
            training: Some(ImportedTraining {
                run: job.id,
                until: train.until,
                validation_from: validation_from(&train, &dataset),
            }),
        };
        // A worker before this one may have got as far as the version.
        let version = match registry.version_of(&model, job.id).await? {
            Some(version) => version,
            None => registry.import_model(&import, job.id).await?,
        };
        let mut outputs = given.outputs;
        outputs.insert(Run::BUNDLE.to_owned(), version.bundle.to_string());
        outputs.insert(Run::MODEL_VERSION.to_owned(), version.version.to_string());
        match registry.report_finished(job.id, outputs).await {
            // A caller has ended it meanwhile.
            Err(Error::Killed) => {
                tracing::warn!(run = %job.id, version = version.version, "the run has ended otherwise")
            }
            result => result?,
        }
        self.0.bus.end_claim(JOBS, &delivery).await?;
        tracing::info!(run = %job.id, version = version.version, "training completed by a worker");
        Ok((version.version, version.bundle))
    }

    /// The result of a training that has finished, for a worker that completes it again because it had no answer.
    async fn completed(&self, token: &str) -> Result<(u32, Digest), Error> {
        let id = token.split_once('.').and_then(|(id, _)| id.parse::<RunId>().ok());
        let run = match id {
            Some(id) => Registry::new(&self.0.registry, "").run(id).await?,
            None => None,
        };
        let run = run.filter(|run| run.status == RunStatus::Finished && run.tags.contains_key(ATTEMPT));
        let outputs = run.as_ref().and_then(|run| {
            let version = run.outputs.get(Run::MODEL_VERSION)?.parse().ok()?;
            Some((version, run.outputs.get(Run::BUNDLE)?.parse().ok()?))
        });
        outputs.ok_or_else(|| no_claim(token))
    }
}

fn consumer_of(pool: &str) -> String {
    format!("trainer-pool-{pool}")
}

fn no_claim(token: &str) -> Error {
    RequestError::not_found("claim", token.chars().take(40).collect::<String>()).into()
}

fn over(run: &Run) -> Error {
    let message = format!("run {} is {}: {}", run.id, run.status.name(), run.error);
    RequestError::failed_precondition("RUN_ENDED", message, [("run_id", run.id.to_string())]).into()
}

/// Ends that the run does not allow are not errors: it has ended otherwise.
fn ended(result: Result<(), Error>) -> Result<(), Error> {
    match result {
        Err(Error::Killed) => Ok(()),
        result => result,
    }
}

/// When the validation rows begin: the latest share of the time that the training rows span. `None` without a time column.
fn validation_from(train: &Train, dataset: &DatasetVersion) -> Option<DateTime<Utc>> {
    let (first, last) = dataset.time_range?;
    let end = train.until.map_or(last, |until| until.min(last));
    let lookback = train.recipe.lookback.and_then(|lookback| TimeDelta::from_std(lookback).ok());
    let begin = lookback.map_or(first, |lookback| first.max(end - lookback));
    Some(event_time::latest_share((begin, end), train.recipe.validation_share))
}

#[cfg(test)]
mod tests {
    use rekindle_domain::Recipe;

    use super::*;

    fn at(day: i64) -> DateTime<Utc> {
        DateTime::UNIX_EPOCH + TimeDelta::days(day)
    }

    fn validated_from(until: Option<i64>, lookback: Option<u64>) -> Option<i64> {
        let days = |days: u64| Duration::from_secs(days * 86_400);
        let recipe = Recipe { lookback: lookback.map(days), validation_share: 0.1, ..Recipe::for_target("late") };
        let train = Train {
            recipe,
            search: Default::default(),
            until: until.map(at),
            register_as: None,
            description: String::new(),
            time_limit: None,
            external: None,
        };
        let dataset = crate::submit::tests::timed(at(0), at(100));
        validation_from(&train, &dataset).map(|from| (from - DateTime::UNIX_EPOCH).num_days())
    }

    #[test]
    fn the_validation_rows_are_the_latest_of_those_that_are_trained_on() {
        assert_eq!(validated_from(None, None), Some(90));
        assert_eq!(validated_from(Some(50), None), Some(45));
        assert_eq!(validated_from(Some(500), Some(50)), Some(95), "not after the last row");
    }
}
