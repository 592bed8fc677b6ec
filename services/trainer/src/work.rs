//! The work of jobs: from the work queue to the end of the run.

use std::{
    collections::BTreeMap,
    ops::ControlFlow,
    time::{Duration, Instant},
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use rekindle_artifacts::Artifacts;
use rekindle_bundle::{Bundle, Model};
use rekindle_bus::consumer::Disposition;
use rekindle_client::{Connection, wire};
use rekindle_dataset::{Table, read_parquet};
use rekindle_domain::{
    Digest,
    job::{Evaluate, Job, Train, Work},
    run::{Run, RunStatus},
    text,
};
use rekindle_service::{Fault as _, chain};
use rekindle_training::{Control, Epoch, Origin, TrainInput, Trial, search, train_unless_stopped};
use tokio_util::sync::CancellationToken;

use crate::{
    CODE_REVISION, Error,
    evaluation::{self, Comparison},
    job::epoch_points,
    registry::Registry,
    watch::{Link, Points, Watch},
};

/// What a worker needs; it keeps nothing between jobs.
pub(crate) struct Worker {
    pub artifacts: Artifacts,
    pub registry: Connection,
    pub report_every: Duration,
    /// Cancelled when jobs must be returned to the queue.
    pub stopping: CancellationToken,
}

type Outputs = BTreeMap<String, String>;

impl Worker {
    /// Works on one delivery of a job. Returns what to do with the message.
    pub(crate) async fn handle(&self, payload: &[u8]) -> Disposition {
        let job = match wire::job::decode(payload) {
            Ok(job) => job,
            Err(error) => return Disposition::DeadLetter(error.to_string()),
        };
        let registry = Registry::new(&self.registry, &job.correlation_id);
        let ended = match self.carry_out(&job, &registry).await {
            Err(error) if error.is_transient() => Err(error),
            Err(Error::Killed) => {
                tracing::info!(run = %job.id, "the run was cancelled");
                Ok(())
            }
            Err(error) => {
                tracing::warn!(run = %job.id, error = chain(&error), "run failed");
                registry.report_failed(job.id, text::reason(&chain(&error))).await
            }
            Ok(()) => Ok(()),
        };
        match ended {
            Ok(()) | Err(Error::Killed) => Disposition::Ack,
            Err(error) if error.is_transient() => Disposition::Nak(chain(&error)),
            Err(error) => Disposition::DeadLetter(chain(&error)),
        }
    }

    async fn carry_out(&self, job: &Job, registry: &Registry) -> Result<(), Error> {
        let Some(run) = registry.run(job.id).await? else {
            return Err(Error::invalid("job.id", format!("run {} does not exist", job.id)));
        };
        use RunStatus::{Failed, Finished, Killed};
        if matches!(run.status, Finished | Failed | Killed) {
            // Redelivered after its end.
            return Ok(());
        }
        registry.report_running(job.id).await?;
        let watch = Watch { registry, job, report_every: self.report_every, stopping: &self.stopping };
        let outputs = match &job.work {
            Work::Train(train) => self.train(job, train, &watch).await?,
            Work::Evaluate(evaluate) => self.evaluate(job, evaluate, &watch).await?,
        };
        registry.report_finished(job.id, outputs).await?;
        tracing::info!(run = %job.id, work = job.work.kind(), "run finished");
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
        let mut outputs = Outputs::from([(Run::BUNDLE.to_owned(), digest.to_string())]);
        if let Some(recipe) = &bundle.manifest.provenance.recipe {
            // A search may have chosen another one than was given.
            outputs.insert("recipe".to_owned(), serde_json::to_string(recipe).unwrap_or_default());
        }
        if let Some(model) = &work.register_as {
            let version = watch.registry.register_model(job.id, model, &digest, &work.description).await?;
            outputs.insert(Run::MODEL_VERSION.to_owned(), version.to_string());
        }
        Ok(outputs)
    }

    async fn evaluate(&self, job: &Job, work: &Evaluate, watch: &Watch<'_>) -> Result<Outputs, Error> {
        let rows = self.rows(job, watch.registry).await?;
        let (champion, challenger) = (self.bundle(&work.champion).await?, self.bundle(&work.challenger).await?);
        let task = work.clone();
        let evaluation = watch
            .over(move |link| {
                let evaluation = evaluation::evaluate(&Comparison {
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
        let json = serde_json_canonicalizer::to_vec(&wire::evaluation::to_json(&evaluation))
            .map_err(|error| Error::Evaluation(error.to_string()))?;
        let digest = self.artifacts.put(Bytes::from(json)).await?;
        let verdict = if evaluation.pass { "pass" } else { "reject" };
        tracing::info!(run = %job.id, verdict, reason = evaluation.reason, "challenger evaluated");
        Ok(Outputs::from([("evaluation".to_owned(), digest.to_string()), ("verdict".to_owned(), verdict.to_owned())]))
    }

    async fn rows(&self, job: &Job, registry: &Registry) -> Result<Rows, Error> {
        let version = registry.dataset(&job.dataset).await?;
        let parquet = self.artifacts.get(&version.blob).await?;
        Ok(Rows { parquet, content: version.content, time_column: version.time_column })
    }

    async fn bundle(&self, digest: &Digest) -> Result<Bundle, Error> {
        Ok(Bundle::load(digest, |digest, at_most| async move { self.artifacts.get_at_most(&digest, at_most).await })
            .await?)
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
    let bundle = if work.search.is_needed() { best(&input, work, origin, link) } else { only(&input, origin, link) }?;
    link.log(best_points(&bundle));
    Ok(bundle)
}

/// The model of the recipe of `input`.
fn only(input: &TrainInput<'_>, origin: &Origin, link: &Link) -> Result<Bundle, Error> {
    let observe = |epoch: &Epoch| {
        link.log(epoch_points(epoch));
        ControlFlow::Continue(())
    };
    Ok(train_unless_stopped(input, origin, observe, &|| link.should_stop())?)
}

/// The model of the best recipe of a search.
fn best(input: &TrainInput<'_>, work: &Train, origin: &Origin, link: &Link) -> Result<Bundle, Error> {
    let started = Instant::now();
    let observe = |trial: &Trial| {
        let loss = trial.result.as_ref().map(|loss| ("trial.loss".to_owned(), *loss));
        link.log(Points { step: trial.number.into(), values: loss.into_iter().collect() });
        link.record(trial);
    };
    let control = Control { should_stop: &|| link.should_stop(), is_over: &|| started.elapsed() >= work.search.budget };
    Ok(search(input, &work.search, origin, observe, &control)?)
}

fn before(table: Table, time_column: Option<&str>, until: Option<DateTime<Utc>>) -> Result<Table, Error> {
    match (time_column, until) {
        (Some(column), Some(until)) => Ok(table.slice_time(column, None, Some(until))?),
        _ => Ok(table),
    }
}

/// The metrics of the epoch that was kept, apart from the histories that lead past it.
fn best_points(bundle: &Bundle) -> Points {
    let metrics = &bundle.manifest.metrics;
    Points { step: 0, values: metrics.iter().map(|(name, value)| (format!("best.{name}"), *value)).collect() }
}
