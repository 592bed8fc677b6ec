//! Carrying out jobs: from the work queue to the end of the run.

use std::{collections::BTreeMap, ops::ControlFlow, time::Duration};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use rekindle_artifacts::Artifacts;
use rekindle_bus::consumer::Outcome;
use rekindle_dataset::{Table, read_parquet};
use rekindle_domain::Digest;
use rekindle_model::{
    Bundle, Model,
    train::{Epoch, Origin, TrainInput, train},
};
use rekindle_proto::registry as wire;
use tokio_util::sync::CancellationToken;
use tonic::transport::Channel;

use crate::{
    CODE_REVISION, Error,
    evaluation::{self, Contest},
    job::{Evaluate, Job, Train, Work},
    registry::Registry,
    watch::{Link, Points, Watch},
};

/// What a worker needs; it keeps nothing between jobs.
pub(crate) struct Worker {
    pub artifacts: Artifacts,
    pub registry: Channel,
    pub report_every: Duration,
    /// Cancelled when jobs are to be handed back.
    pub stopping: CancellationToken,
}

type Outputs = BTreeMap<String, String>;

impl Worker {
    /// Carries out one delivery of a job, and says what becomes of the message.
    pub(crate) async fn handle(&self, payload: &[u8]) -> Outcome {
        let job = match Job::decode(payload) {
            Ok(job) => job,
            Err(error) => return Outcome::Dead(error.to_string()),
        };
        let registry = Registry::new(self.registry.clone(), &job.correlation_id);
        let ended = match self.carry_out(&job, &registry).await {
            Err(error) if error.is_transient() => Err(error),
            Err(Error::Killed) => {
                tracing::info!(run = %job.id, "run was ended by a caller");
                Ok(())
            }
            Err(error) => {
                tracing::warn!(run = %job.id, error = error.chain(), "run failed");
                registry.report_failed(job.id, error.chain()).await
            }
            Ok(()) => Ok(()),
        };
        match ended {
            Ok(()) | Err(Error::Killed) => Outcome::Ack,
            Err(error) if error.is_transient() => Outcome::Retry(error.chain()),
            Err(error) => Outcome::Dead(error.chain()),
        }
    }

    async fn carry_out(&self, job: &Job, registry: &Registry) -> Result<(), Error> {
        let Some(run) = registry.run(job.id).await? else {
            return Err(Error::invalid("job.id", format!("there is no run {}", job.id)));
        };
        use wire::RunStatus::{Failed, Finished, Killed};
        if matches!(run.status(), Finished | Failed | Killed) {
            // Delivered again after its end: nothing is left to do.
            return Ok(());
        }
        registry.report_running(job.id).await?;
        let watch = Watch { registry, run: job.id, report_every: self.report_every, stopping: &self.stopping };
        let outputs = match &job.work {
            Work::Train(train) => self.train(job, train, &watch).await?,
            Work::Evaluate(evaluate) => self.evaluate(job, evaluate, &watch).await?,
        };
        registry.report_finished(job.id, outputs).await?;
        tracing::info!(run = %job.id, work = job.work.field(), "run finished");
        Ok(())
    }

    async fn train(&self, job: &Job, work: &Train, watch: &Watch<'_>) -> Result<Outputs, Error> {
        let rows = self.rows(job, watch.registry).await?;
        let origin = Origin {
            run_id: job.id.to_string(),
            dataset_digests: vec![rows.content],
            code_revision: CODE_REVISION.to_owned(),
        };
        let task = work.clone();
        let bundle = watch.over(move |link| learn(&rows, &task, &origin, link)).await?;
        for part in bundle.parts()? {
            self.artifacts.put(part).await?;
        }
        let digest = bundle.digest()?;
        let mut outputs = Outputs::from([("bundle".to_owned(), digest.to_string())]);
        if let Some(model) = &work.register_as {
            let version = watch.registry.register_model(job.id, model, &digest, &work.description).await?;
            outputs.insert("model_version".to_owned(), version.to_string());
        }
        Ok(outputs)
    }

    async fn evaluate(&self, job: &Job, work: &Evaluate, watch: &Watch<'_>) -> Result<Outputs, Error> {
        let rows = self.rows(job, watch.registry).await?;
        let (champion, challenger) = (self.bundle(&work.champion).await?, self.bundle(&work.challenger).await?);
        let task = work.clone();
        let evaluation = watch
            .over(move |link| {
                let evaluation = evaluation::evaluate(&Contest {
                    table: &read_parquet(rows.parquet)?,
                    time_column: rows.time_column.as_deref(),
                    dataset: rows.content,
                    champion: &Model::from_bundle(&champion)?,
                    challenger: &Model::from_bundle(&challenger)?,
                    work: &task,
                })?;
                link.log(evaluation::points(&evaluation));
                Ok(evaluation)
            })
            .await?;
        let json = serde_json_canonicalizer::to_vec(&rekindle_proto::json::to_value(&evaluation))
            .map_err(|error| Error::Evaluation(error.to_string()))?;
        let digest = self.artifacts.put(Bytes::from(json)).await?;
        let verdict = if evaluation.pass { "pass" } else { "reject" };
        tracing::info!(run = %job.id, verdict, reason = evaluation.reason, "challenger judged");
        Ok(Outputs::from([("evaluation".to_owned(), digest.to_string()), ("verdict".to_owned(), verdict.to_owned())]))
    }

    async fn rows(&self, job: &Job, registry: &Registry) -> Result<Rows, Error> {
        let version = registry.dataset(&job.dataset, job.dataset_version).await?;
        let digest = |text: &str| text.parse().map_err(|error| Error::invalid("dataset", error));
        let blob: Digest = digest(&version.blob_digest)?;
        Ok(Rows {
            parquet: self.artifacts.get(&blob).await?,
            content: digest(&version.content_digest)?,
            time_column: Some(version.time_column).filter(|column| !column.is_empty()),
        })
    }

    async fn bundle(&self, digest: &Digest) -> Result<Bundle, Error> {
        Ok(Bundle::load(digest, |digest| async move { self.artifacts.get(&digest).await }).await?)
    }
}

/// A dataset version, not yet read.
struct Rows {
    parquet: Bytes,
    content: Digest,
    time_column: Option<String>,
}

fn learn(rows: &Rows, work: &Train, origin: &Origin, link: &Link) -> Result<Bundle, Error> {
    let table = before(read_parquet(rows.parquet.clone())?, rows.time_column.as_deref(), work.until)?;
    let input = TrainInput { table: &table, time_column: rows.time_column.as_deref(), recipe: &work.recipe };
    let bundle = train(&input, origin, |epoch| {
        link.log(epoch_points(epoch));
        if link.should_stop() { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })?;
    link.log(best_points(&bundle));
    Ok(bundle)
}

fn before(table: Table, time_column: Option<&str>, until: Option<DateTime<Utc>>) -> Result<Table, Error> {
    match (time_column, until) {
        (Some(column), Some(until)) => Ok(table.slice_time(column, None, Some(until))?),
        _ => Ok(table),
    }
}

fn epoch_points(epoch: &Epoch) -> Points {
    let mut values = epoch.metrics.clone();
    values.insert("train_loss".to_owned(), epoch.train_loss);
    Points { step: i64::from(epoch.epoch), values }
}

/// The metrics of the epoch that was kept, apart from the histories that lead past it.
fn best_points(bundle: &Bundle) -> Points {
    let metrics = &bundle.manifest.metrics;
    Points { step: 0, values: metrics.iter().map(|(name, value)| (format!("best.{name}"), *value)).collect() }
}
