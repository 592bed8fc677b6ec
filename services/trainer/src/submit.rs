//! Submission: a job is checked against the datasets and blobs that exist before it is enqueued.

use async_nats::HeaderMap;
use bytes::Bytes;
use rekindle_artifacts::Artifacts;
use rekindle_bus::{Bus, subject};
use rekindle_client::wire;
use rekindle_domain::{
    ColumnKind, Digest, Recipe, RunId, Task,
    dataset::DatasetVersion,
    gate_check::GateCheck,
    job::{Evaluate, External, Job, Priority, Train, Work},
    run::{Run, RunStatus},
    text,
    validation::{Checks, Violations},
};
use rekindle_service::RequestError;
use rekindle_training::{MAX_INFERRED_CLASSES, RowsSize, TrainingMemory};

use crate::{
    Error,
    job::{CHECKS, DATASET_VERSION, digest},
    registry::Registry,
};

/// Tag of a run: the digest of the submitted job, which distinguishes a repetition from a reused id.
const JOB_DIGEST: &str = "rekindle.job-digest";

/// What a submission needs.
pub(crate) struct JobSubmission<'a> {
    pub bus: &'a Bus,
    pub artifacts: &'a Artifacts,
    pub registry: &'a Registry,
    pub code_revision: &'a str,
    /// Bytes of memory of a training at most, as estimated.
    pub training_bytes: u64,
}

impl JobSubmission<'_> {
    /// Checks a job, creates its run and enqueues it. Submitting the same job again has no effect.
    pub(crate) async fn submit(&self, job: Job) -> Result<RunId, Error> {
        let digest = digest(&job)?;
        let id = job.id;
        let job = match self.registry.run(id).await? {
            Some(run) => match resume(&run, job, &digest)? {
                Some(job) => job,
                None => return Ok(id),
            },
            None => self.create(job, digest).await?,
        };
        enqueue(self.bus, &job).await?;
        Ok(id)
    }

    /// Checks the job and creates its run. Returns the job with the number of its dataset version.
    async fn create(&self, mut job: Job, digest: Digest) -> Result<Job, Error> {
        let dataset = self.registry.dataset(&job.dataset).await?;
        if dataset.deleted_at.is_some() {
            let (message, metadata) = (
                format!("dataset version {} is deleted: restore it first", dataset.reference()),
                vec![("dataset", dataset.reference())],
            );
            return Err(RequestError::failed_precondition("DATASET_DELETED", message, metadata).into());
        }
        job.dataset.version = Some(dataset.version);
        if let Work::Evaluate(evaluate) = &mut job.work {
            self.pin_cases(&mut evaluate.gate.checks).await?;
        }
        let checked = match &job.work {
            Work::Train(train) => check_train(train, &dataset, self.training_bytes),
            Work::Evaluate(evaluate) => self.check_evaluate(evaluate, &dataset).await?,
        };
        checked.map_err(|violations| violations.within(&format!("job.{}", job.work.kind())))?;
        let mut recorded = job.clone();
        recorded.tags.insert(JOB_DIGEST.to_owned(), digest.to_string());
        self.registry.create_run(&recorded, dataset.content, self.code_revision).await?;
        Ok(job)
    }

    /// Gives the cases that a challenger must predict the number of their latest version, so that a repetition has the same ones.
    async fn pin_cases(&self, checks: &mut [GateCheck]) -> Result<(), Error> {
        for check in checks {
            let Some(dataset) = check.dataset() else { continue };
            let refused = |problem: &str| Error::invalid("job.evaluate.gate.checks", format!("{check}: {problem}"));
            let version = match self.registry.dataset(&dataset).await {
                Err(Error::Registry(error)) if error.is_not_found() => return Err(refused("it does not exist")),
                version => version?,
            };
            if version.deleted_at.is_some() {
                return Err(refused("it is deleted: restore it first"));
            }
            *check = check.clone().of_version(version.version);
        }
        Ok(())
    }

    async fn check_evaluate(
        &self,
        evaluate: &Evaluate,
        dataset: &DatasetVersion,
    ) -> Result<Result<(), Violations>, Error> {
        let mut checks = Checks::new();
        for column in &evaluate.gate.slices {
            if !has_column(dataset, column) {
                checks.violation("gate.slices", not_a_column(column, dataset));
            }
        }
        for column in evaluate.gate.checks.iter().filter_map(GateCheck::column) {
            if !has_column(dataset, column) {
                checks.violation("gate.checks", not_a_column(column, dataset));
            }
        }
        if evaluate.from.is_some() && dataset.time_column.is_none() {
            checks.violation("from", no_time_column(dataset));
        }
        for (field, bundle) in [("champion_bundle", &evaluate.champion), ("challenger_bundle", &evaluate.challenger)] {
            if !self.artifacts.contains(bundle).await? {
                checks.violation(field, format!("bundle {bundle} is not stored: train or import the model first"));
            }
        }
        Ok(checks.finish())
    }
}

/// The job of an earlier submission with the dataset version that it was given, unless it has left the queue already.
fn resume(run: &Run, mut job: Job, digest: &Digest) -> Result<Option<Job>, Error> {
    if run.tags.get(JOB_DIGEST) != Some(&digest.to_string()) {
        let id = job.id.to_string();
        let message = format!("job {id} already exists with different content: use a new id for a different job");
        let metadata = vec![("job_id", id)];
        return Err(RequestError::AlreadyExists { reason: "JOB_REUSED", message, metadata }.into());
    }
    job.dataset.version = run.params.get(DATASET_VERSION).and_then(|version| version.parse().ok());
    if let (Work::Evaluate(evaluate), Some(checks)) = (&mut job.work, run.params.get(CHECKS)) {
        // Without its checks, a challenger would pass that they are to stop.
        evaluate.gate.checks = serde_json::from_str(checks).map_err(|error| Error::invalid(CHECKS, error))?;
    }
    Ok(Some(job).filter(|_| run.status == RunStatus::Scheduled))
}

fn check_train(train: &Train, dataset: &DatasetVersion, training_bytes: u64) -> Result<(), Violations> {
    let mut checks = Checks::new();
    let target = &train.recipe.target;
    if !has_column(dataset, target) {
        checks.violation("recipe.target", not_a_column(target, dataset));
    }
    // A dataset that is made of others, as for a retraining, need not have the columns that were ignored in them.
    let ignored = train.recipe.ignore.iter().enumerate().filter(|_| dataset.parents.is_empty());
    for (index, name) in ignored.filter(|(_, name)| !has_column(dataset, name)) {
        checks.violation(format!("recipe.ignore[{index}]"), not_a_column(name, dataset));
    }
    // The registry would refuse it after the training.
    checks.parsed("description", text::check_description(&train.description));
    if train.until.is_some() && dataset.time_column.is_none() {
        checks.violation("train_until", no_time_column(dataset));
    }
    let is_limited = train.time_limit.is_none_or(|limit| !limit.is_zero());
    checks.require(is_limited, "time_limit", "0", "above 0, or none");
    let weights = &train.recipe.weights;
    for (field, is_set) in [
        ("recipe.lookback", train.recipe.lookback.is_some()),
        ("recipe.weights.half_life", weights.half_life.is_some()),
    ] {
        if is_set && dataset.time_column.is_none() {
            checks.violation(field, no_time_column(dataset));
        }
    }
    if let Some(column) = weights.column.as_ref().filter(|column| !has_column(dataset, column)) {
        checks.violation("recipe.weights.column", not_a_column(column, dataset));
    }
    if let Some(external) = &train.external {
        checks.nested("external", external.validate());
        checks.require(
            train.register_as.is_some(),
            "register_as",
            "empty",
            "a model: workers register what they train",
        );
        checks.require(!train.search.is_needed(), "search", "set", "nothing: workers search for themselves");
        return checks.finish();
    }
    let memory = TrainingMemory::estimate_search(&train.recipe, &train.search, &size(&train.recipe, dataset));
    if memory.total() > training_bytes {
        let limit = format!("the limit trainer.training_bytes is {training_bytes}");
        checks.violation(
            "recipe",
            format!("needs {memory}: {limit}; use smaller layers or batches, fewer members or bins, or fewer rows"),
        );
    }
    checks.finish()
}

/// What the dataset version tells of the rows that the recipe trains on.
fn size(recipe: &Recipe, dataset: &DatasetVersion) -> RowsSize {
    let summary = |name: &str| dataset.profile.iter().find(|summary| summary.name == name);
    let features = dataset.columns.iter().filter(|column| !recipe.ignore.contains(&column.name));
    let target = dataset.columns.iter().find(|column| column.name == recipe.target);
    let is_number = target.is_some_and(|target| target.kind == ColumnKind::Numeric);
    let outputs = match (recipe.task, summary(&recipe.target).map_or(1, |target| target.distinct)) {
        (Some(Task::Binary | Task::Regression), _) => 1,
        // Without a task, it is a regression.
        (None, distinct) if is_number && distinct > MAX_INFERRED_CLASSES as u64 => 1,
        (_, distinct) => distinct.min(MAX_CLASSES),
    };
    RowsSize {
        rows: dataset.rows,
        columns: features.map(|column| (column.kind, summary(&column.name).map(|summary| summary.distinct))).collect(),
        read: dataset.columns.iter().map(|column| column.kind).collect(),
        outputs,
    }
}

/// Classes of a target at most: more are refused by the training.
const MAX_CLASSES: u64 = 1000;

fn has_column(dataset: &DatasetVersion, name: &str) -> bool {
    dataset.columns.iter().any(|column| column.name == name)
}

fn not_a_column(name: &str, dataset: &DatasetVersion) -> String {
    let names: Vec<&str> = dataset.columns.iter().map(|column| column.name.as_str()).collect();
    format!("{name:?} is not a column of {}: expected one of {}", dataset.reference(), names.join(", "))
}

fn no_time_column(dataset: &DatasetVersion) -> String {
    format!("requires a time column, which {} does not have: register the dataset with one", dataset.reference())
}

/// The pool of the trainers for jobs of a priority.
pub(crate) fn pool_of(priority: Priority) -> &'static str {
    match priority {
        Priority::Normal => External::INTERNAL_POOL,
        Priority::High => External::HIGH_PRIORITY_POOL,
    }
}

/// Puts the job on the work queue. Its id is that of the message, so an early repetition is not stored; a late one finds the run started
/// or ended.
async fn enqueue(bus: &Bus, job: &Job) -> Result<(), Error> {
    let payload = Bytes::from(wire::job::encode(job));
    let pool = match &job.work {
        Work::Train(Train { external: Some(external), .. }) => external.pool.as_str(),
        Work::Train(_) | Work::Evaluate(_) => pool_of(job.priority),
    };
    bus.publish(subject::jobs(pool), &job.id.to_string(), HeaderMap::new(), payload).await?;
    tracing::info!(job = %job.id, experiment = %job.experiment, "job enqueued");
    Ok(())
}

#[cfg(test)]
pub(crate) mod tests {
    use std::collections::BTreeMap;

    use chrono::{DateTime, Utc};
    use rekindle_domain::{
        Gate,
        dataset::{Column, ColumnSummary},
        job::{DatasetRef, Requirement},
        recipe::{MlpRecipe, ModelRecipe},
    };

    use super::*;

    const LIMIT: u64 = 1 << 30;

    fn flights() -> DatasetVersion {
        let column = |name: &str| Column {
            name: name.into(),
            data_type: "Int64".into(),
            kind: ColumnKind::Numeric,
            nullable: false,
        };
        DatasetVersion {
            name: "flights".parse().expect("a name"),
            version: 2,
            content: Digest::of(b"rows"),
            blob: Digest::of(b"file"),
            rows: 10,
            bytes: 100,
            columns: vec![column("late"), column("carrier")],
            time_column: None,
            time_range: None,
            parents: vec![],
            description: String::new(),
            profile: vec![],
            created_at: DateTime::UNIX_EPOCH,
            schema: None,
            violations: Vec::new(),
            deleted_at: None,
        }
    }

    /// A dataset with a time column whose rows span this time.
    pub(crate) fn timed(first: DateTime<Utc>, last: DateTime<Utc>) -> DatasetVersion {
        DatasetVersion { time_column: Some("timestamp".into()), time_range: Some((first, last)), ..flights() }
    }

    fn train(target: &str) -> Train {
        let (recipe, search) = (Recipe::for_target(target), Default::default());
        Train {
            recipe,
            search,
            until: None,
            register_as: None,
            description: String::new(),
            time_limit: None,
            external: None,
        }
    }

    #[test]
    fn a_target_that_is_not_a_column_is_refused_with_the_columns() {
        check_train(&train("late"), &flights(), LIMIT).expect("a column");
        let error = check_train(&train("lateness"), &flights(), LIMIT).expect_err("not a column").to_string();
        assert!(
            error.starts_with("recipe.target") && error.contains("flights/2") && error.contains("carrier"),
            "{error}"
        );
    }

    #[test]
    fn an_ignored_column_that_no_dataset_has_is_refused() {
        let ignoring = |name: &str| {
            let recipe = Recipe { ignore: vec!["carrier".into(), name.into()], ..Recipe::for_target("late") };
            Train { recipe, ..train("late") }
        };
        check_train(&ignoring("carrier"), &flights(), LIMIT).expect("a column");
        let error = check_train(&ignoring("carier"), &flights(), LIMIT).expect_err("a typing error").to_string();
        assert!(error.starts_with("recipe.ignore[1]") && error.contains("\"carier\" is not a column"), "{error}");
        let assembled = DatasetVersion { parents: vec![Digest::of(b"base")], ..flights() };
        check_train(&ignoring("flight"), &assembled, LIMIT).expect("its parents may have the column");
    }

    #[test]
    fn a_repeated_submission_has_the_checks_of_the_first_one() {
        let digest = Digest::of(b"job");
        let run = |checks: &str| Run {
            id: RunId::new(uuid::Uuid::nil()),
            parent_id: None,
            experiment: "tests".parse().expect("a name"),
            status: RunStatus::Scheduled,
            params: BTreeMap::from([(DATASET_VERSION.into(), "2".into()), (CHECKS.into(), checks.into())]),
            tags: BTreeMap::from([(JOB_DIGEST.into(), digest.to_string())]),
            code_revision: String::new(),
            dataset_digests: vec![],
            seed: 0,
            metrics: vec![],
            outputs: BTreeMap::new(),
            error: String::new(),
            created_at: DateTime::UNIX_EPOCH,
            started_at: None,
            ended_at: None,
            progress: None,
            deleted_at: None,
            revision: 1,
        };
        let checks = vec!["must_pass:cases".parse().expect("a check")];
        let job = Job {
            id: RunId::new(uuid::Uuid::nil()),
            experiment: "tests".parse().expect("a name"),
            correlation_id: String::new(),
            tags: BTreeMap::new(),
            priority: Priority::Normal,
            dataset: DatasetRef { name: "flights".parse().expect("a name"), version: None },
            work: Work::Evaluate(Evaluate {
                champion: digest,
                challenger: digest,
                from: None,
                gate: Gate { checks, ..Gate::default() },
                requirement: Requirement::Better,
            }),
        };
        let resumed = resume(&run(r#"["must_pass:cases:3"]"#), job.clone(), &digest).expect("the same").expect("a job");
        assert_eq!(resumed.dataset.version, Some(2));
        let Work::Evaluate(evaluate) = resumed.work else { panic!("an evaluation") };
        assert_eq!(evaluate.gate.checks[0].to_string(), "must_pass:cases:3");
        // A check that this release does not know is not left out.
        assert!(resume(&run(r#"["fair"]"#), job, &digest).is_err());
    }

    #[test]
    fn a_training_by_workers_needs_a_pool_and_a_model_and_no_memory_here() {
        let external = |pool: &str| Some(Box::new(External { pool: pool.into(), parameters: BTreeMap::new() }));
        let register_as = Some("m".parse().expect("a name"));
        let good = Train { external: external("python"), register_as: register_as.clone(), ..train("late") };
        check_train(&good, &flights(), 0).expect("no memory of the trainer is needed");
        let nameless = Train { register_as: None, ..good.clone() };
        let searching = Train { search: rekindle_domain::Search::for_lookbacks(), ..good.clone() };
        let internal = Train { external: external("cpu"), ..good };
        for (field, train) in [("register_as", nameless), ("search", searching), ("external.pool", internal)] {
            let violations = check_train(&train, &flights(), LIMIT).expect_err(field);
            assert_eq!(violations.iter().map(|violation| violation.field.as_str()).collect::<Vec<_>>(), [field]);
        }
    }

    #[test]
    fn a_training_beyond_the_memory_is_refused_with_the_figures() {
        let model = ModelRecipe::Mlp(MlpRecipe { hidden: vec![4096; 8], ..MlpRecipe::default() });
        let large = Train { recipe: Recipe { model, ..Recipe::for_target("late") }, ..train("late") };
        let error = check_train(&large, &flights(), LIMIT).expect_err("too large").to_string();
        for part in ["recipe: needs some", "weights", "trainer.training_bytes is 1073741824"] {
            assert!(error.contains(part), "{part}: {error}");
        }
        let rows = DatasetVersion { rows: 1 << 32, ..flights() };
        assert!(check_train(&train("late"), &rows, LIMIT).is_err(), "the rows alone take more");
    }

    #[test]
    fn a_number_of_many_values_has_one_output_and_classes_have_one_each() {
        let of = |distinct, kind, task| {
            let summary = ColumnSummary {
                name: "late".into(),
                missing: 0,
                distinct,
                min: None,
                max: None,
                mean: None,
                std: None,
                top: vec![],
            };
            let mut dataset = DatasetVersion { profile: vec![summary], ..flights() };
            dataset.columns[0].kind = kind;
            size(&Recipe { task, ..Recipe::for_target("late") }, &dataset).outputs
        };
        assert_eq!(of(869, ColumnKind::Numeric, None), 1);
        assert_eq!(of(869, ColumnKind::Numeric, Some(Task::Multiclass)), 869);
        assert_eq!((of(20, ColumnKind::Numeric, None), of(869, ColumnKind::Categorical, None)), (20, 869));
    }

    #[test]
    fn a_time_bound_requires_a_time_column() {
        let bounded = Train { until: Some(DateTime::UNIX_EPOCH), ..train("late") };
        assert!(check_train(&bounded, &flights(), LIMIT).is_err());
        let timed = DatasetVersion { time_column: Some("timestamp".into()), ..flights() };
        check_train(&bounded, &timed, LIMIT).expect("a time column");
    }
}
