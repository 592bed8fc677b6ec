//! The work of jobs: from the work queue to the end of the run.

use std::{
    collections::{BTreeMap, btree_map::Entry},
    fmt::Display,
    path::PathBuf,
    time::Duration,
};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use nix::sys::statvfs::statvfs;
use rekindle_artifacts::Artifacts;
use rekindle_bundle::{Bundle, Model};
use rekindle_bus::consumer::Disposition;
use rekindle_client::{Connection, wire};
use rekindle_dataset::{Section, Table, is_read_into_memory, read_table, scratch_file, value_bytes};
use rekindle_domain::{
    Digest,
    dataset::DatasetVersion,
    gate_check::GateCheck,
    job::{DatasetRef, Evaluate, Job, Train, Work},
    run::{Run, RunStatus},
    text,
};
use rekindle_service::{Fault as _, chain};
use rekindle_training::{Checkpoint, Origin, TrainInput, search, train_under};
use tokio::io::AsyncWriteExt as _;
use tokio_util::sync::CancellationToken;

use crate::{
    CODE_REVISION, Error, build_id,
    evaluation::{self, Comparison},
    registry::Registry,
    watch::{Deadline, Link, Points, Watch},
};

/// What a worker needs; it keeps nothing between jobs.
pub(crate) struct Worker {
    pub artifacts: Artifacts,
    /// The folder for temporary files.
    pub scratch: PathBuf,
    pub registry: Connection,
    pub report_every: Duration,
    pub checkpoint_every: Duration,
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
        let watch = Watch {
            registry,
            job,
            artifacts: &self.artifacts,
            report_every: self.report_every,
            checkpoint_every: self.checkpoint_every,
            stopping: &self.stopping,
            deadline: Deadline::of(&job.work, &run),
        };
        let outputs = match &job.work {
            Work::Train(train) => self.train(&run, train, &watch).await?,
            Work::Evaluate(evaluate) => self.evaluate(job, evaluate, &watch).await?,
        };
        registry.report_finished(job.id, outputs).await?;
        tracing::info!(run = %job.id, work = job.work.kind(), "run finished");
        Ok(())
    }

    async fn train(&self, run: &Run, work: &Train, watch: &Watch<'_>) -> Result<Outputs, Error> {
        let job = watch.job;
        let rows = watch.beside(self.rows(&job.dataset, watch.registry)).await?;
        let origin = Origin {
            run_id: job.id.to_string(),
            dataset_digests: vec![rows.content],
            code_revision: CODE_REVISION.to_owned(),
        };
        let (task, checkpoint) = (work.clone(), self.checkpoint(run).await?);
        let bundle = watch.over(move |link| learn(&rows, &task, &origin, checkpoint, link)).await?;
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
        let rows = watch.beside(self.rows(&job.dataset, watch.registry)).await?;
        let mut cases: BTreeMap<DatasetRef, Rows> = BTreeMap::new();
        for dataset in work.gate.checks.iter().filter_map(GateCheck::dataset) {
            if let Entry::Vacant(entry) = cases.entry(dataset) {
                let rows = watch.beside(self.rows(entry.key(), watch.registry)).await?;
                entry.insert(rows);
            }
        }
        let (champion, challenger) = (self.bundle(&work.champion).await?, self.bundle(&work.challenger).await?);
        let task = work.clone();
        let evaluation = watch
            .over(move |link| {
                let cases = |check: &GateCheck| match check.dataset().and_then(|dataset| cases.get(&dataset)) {
                    Some(rows) => rows.read().map(Some),
                    None => Ok(None),
                };
                let parts = challenger.parts()?;
                let evaluation = evaluation::evaluate(&Comparison {
                    table: &rows.read()?,
                    time_column: rows.time_column.as_deref(),
                    dataset: rows.content,
                    champion: &Model::from_bundle(&champion)?,
                    challenger: &Model::from_bundle(&challenger)?,
                    challenger_bytes: parts.iter().map(|part| part.len() as u64).sum(),
                    cases: &cases,
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

    /// The stored checkpoint of a run that another trainer has worked on.
    async fn checkpoint(&self, run: &Run) -> Result<Option<Bytes>, Error> {
        let Some(digest) = run.tags.get(Run::CHECKPOINT) else { return Ok(None) };
        let found = match digest.parse::<Digest>() {
            Err(error) => Err(error.to_string()),
            Ok(digest) => match self.artifacts.get(&digest).await {
                Err(error) if error.is_transient() => return Err(error.into()),
                found => found.map_err(|error| chain(&error)),
            },
        };
        Ok(found.map_err(|why| not_used(run.id, &why)).ok())
    }

    async fn rows(&self, dataset: &DatasetRef, registry: &Registry) -> Result<Rows, Error> {
        let version = registry.dataset(dataset).await?;
        self.check_room(&version)?;
        let parquet = self.fetch(&version.blob).await?;
        let scratch = self.scratch.clone();
        Ok(Rows { parquet, scratch, content: version.content, time_column: version.time_column })
    }

    /// Refuses a dataset whose copy and rows would leave less than half of the free space of the folder for temporary files.
    fn check_room(&self, version: &DatasetVersion) -> Result<(), Error> {
        let kinds = || version.columns.iter().map(|column| column.kind);
        let rows = if is_read_into_memory(version.rows, kinds()) {
            0
        } else {
            version.rows.saturating_mul(kinds().map(value_bytes).sum())
        };
        let needed = version.bytes.saturating_add(rows);
        let found = statvfs(&self.scratch).map_err(|error| Error::Scratch(error.into()))?;
        let free = found.blocks_available().saturating_mul(found.fragment_size());
        if needed <= free / 2 {
            return Ok(());
        }
        let (dataset, scratch) = (version.reference(), self.scratch.display().to_string());
        Err(Error::NoRoom { dataset, needed, free, scratch })
    }

    /// Copies a blob to a temporary file.
    async fn fetch(&self, digest: &Digest) -> Result<Section, Error> {
        let mut blob = self.artifacts.reader(digest).await?;
        let mut file = tokio::fs::File::from_std(scratch_file(&self.scratch)?);
        while let Some(chunk) = blob.chunk().await? {
            file.write_all(&chunk).await.map_err(Error::Scratch)?;
        }
        file.flush().await.map_err(Error::Scratch)?;
        Section::whole(file.into_std().await).map_err(Error::Scratch)
    }

    async fn bundle(&self, digest: &Digest) -> Result<Bundle, Error> {
        Ok(Bundle::load(digest, |digest, at_most| async move { self.artifacts.get_at_most(&digest, at_most).await })
            .await?)
    }
}

/// A dataset version, not yet read.
struct Rows {
    parquet: Section,
    scratch: PathBuf,
    content: Digest,
    time_column: Option<String>,
}

impl Rows {
    fn read(&self) -> Result<Table, Error> {
        Ok(read_table(self.parquet.clone(), &self.scratch)?)
    }
}

fn learn(rows: &Rows, work: &Train, origin: &Origin, checkpoint: Option<Bytes>, link: &Link) -> Result<Bundle, Error> {
    let table = before(rows.read()?, rows.time_column.as_deref(), work.until)?;
    let input = TrainInput { table: &table, time_column: rows.time_column.as_deref(), recipe: &work.recipe };
    let from = |checkpoint: Option<Checkpoint>| {
        if work.search.is_needed() {
            search(&input, &work.search, origin, checkpoint, link)
        } else {
            train_under(&input, origin, checkpoint, link)
        }
    };
    let bundle = match checkpoint {
        None => from(None),
        Some(bytes) => match resumed(&bytes, origin).and_then(|checkpoint| from(Some(checkpoint))) {
            Err(rekindle_training::Error::Checkpoint(why)) => {
                not_used(&origin.run_id, &why);
                from(None)
            }
            bundle => bundle,
        },
    }?;
    link.log(best_points(&bundle));
    Ok(bundle)
}

fn resumed(bytes: &[u8], origin: &Origin) -> Result<Checkpoint, rekindle_training::Error> {
    let checkpoint = Checkpoint::from_bytes(bytes, &origin.run_id, build_id::get())?;
    let (run, epoch, trial) = (&origin.run_id, checkpoint.epoch(), checkpoint.trial());
    tracing::info!(run, epoch, trial, "training resumed from a checkpoint");
    Ok(checkpoint)
}

fn not_used(run: impl Display, why: &str) {
    tracing::warn!(%run, why, "the checkpoint of the run is not used: the training begins again, with the same result");
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
