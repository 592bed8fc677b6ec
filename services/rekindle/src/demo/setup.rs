//! The first model: dataset, training, promotion, deployment and policy.

use std::{collections::BTreeMap, time::Duration};

use anyhow::{Context as _, Result, bail};
use rekindle_bundle::{Bundle, Model};
use rekindle_client::orchestrator::DeployRequest;
use rekindle_domain::{
    AliasName, Gate, Policy, Principal, Recipe, RunId, Search, WatchSettings,
    alias::AliasMove,
    dataset::{DatasetRegistration, FileFormat, ReadOptions, Source, SourceColumns},
    deployment_status::RolloutOutcome,
    job::{DatasetRef, Job, Priority, Train, Work},
    model_version::VersionSelector,
    recipe::{MlpRecipe, ModelRecipe},
    run::{Run, RunStatus},
};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{Plan, timeline::Timeline};
use crate::client::{
    deploy::is_served,
    platform::Platform,
    policy::trigger::{triggers, words},
    suspects,
    upload::{download, upload},
};

const POLL: Duration = Duration::from_millis(100);
/// Time within which every replica must serve the first version.
const DEPLOY_PATIENCE: Duration = Duration::from_secs(60);
const WHY: &str = "first model";

/// The first model, kept for comparison with the one that is served.
pub(crate) struct FirstModel {
    pub model: Model,
    pub bundle: Bundle,
}

/// Trains, deploys and monitors the first model.
pub(crate) async fn first_model(plan: &Plan, platform: &Platform, timeline: &Timeline) -> Result<FirstModel> {
    let platform = platform.clone().called_by("demo".parse::<Principal>()?);
    register(plan, &platform, timeline).await?;
    let run = train(plan, &platform).await?;
    let version: u32 = run.outputs.get(Run::MODEL_VERSION).context("the run registered no version")?.parse()?;
    timeline.add(format!("version {version} trained: {}", metrics(&run)));
    promote(plan, &platform, version).await?;
    deploy(plan, &platform, version).await?;
    timeline.add(format!("version {version} is the champion and served by every replica"));
    let window = crate::model_page::format::words(plan.window);
    let on = set_policy(plan, &platform).await?;
    timeline.add(format!("policy set: windows of {window}, retraining on {on}"));
    let selector = VersionSelector::Number(version);
    let digest = platform.registry().model_version(&plan.model, &selector).await?.bundle;
    let bundle = Bundle::load(&digest, |digest, _| download(platform.registry(), digest)).await?;
    Ok(FirstModel { model: Model::from_bundle(&bundle)?, bundle })
}

async fn register(plan: &Plan, platform: &Platform, timeline: &Timeline) -> Result<()> {
    let registry = platform.registry();
    let digest = upload(&registry, rekindle_dataset::write_parquet(&plan.train)?).await?;
    let registration = DatasetRegistration {
        name: plan.dataset.clone(),
        sources: vec![Source { digest, format: FileFormat::Parquet }],
        time_column: Some(plan.args.time.clone()),
        kinds: BTreeMap::new(),
        parents: Vec::new(),
        description: format!("rows before {}", plan.args.train_until),
        from: None,
        until: None,
        // The rows have been read with the options.
        reading: ReadOptions::default(),
        columns: SourceColumns::Any,
        schema: None,
        accept_violations: false,
    };
    let dataset = registry.register_dataset(&registration, format!("demo-{}", digest.short())).await?;
    timeline.add(format!(
        "dataset {} version {} registered: {} rows, {} columns, sha256:{}",
        dataset.name,
        dataset.version,
        dataset.rows,
        dataset.columns.len(),
        dataset.content.short()
    ));
    for warning in suspects::warnings(&dataset, Some(&plan.train.batch), &recipe(plan)) {
        timeline.add(format!("warning: {warning}"));
    }
    Ok(())
}

/// The recipe of every training: the defaults for this target, but for the kind of model. The replay of months takes minutes, and a training
/// that takes as long as usual would end months later. The network is trained several times faster than the ensemble.
fn recipe(plan: &Plan) -> Recipe {
    let ignore = plan.args.ignore.iter().filter(|name| !name.is_empty()).cloned().collect();
    let model = ModelRecipe::Mlp(MlpRecipe::default());
    Recipe { ignore, model, seed: plan.args.seed, ..Recipe::for_target(plan.args.target.clone()) }
}

async fn train(plan: &Plan, platform: &Platform) -> Result<Run> {
    let job = Job {
        id: RunId::new(Uuid::now_v7()),
        experiment: plan.model.as_str().parse()?,
        correlation_id: String::new(),
        tags: BTreeMap::new(),
        priority: Priority::Normal,
        dataset: DatasetRef { name: plan.dataset.clone(), version: None },
        work: Work::Train(Train {
            recipe: recipe(plan),
            search: Search::default(),
            until: None,
            register_as: Some(plan.model.clone()),
            description: "first model of the demonstration".to_owned(),
            time_limit: None,
            external: None,
        }),
    };
    let id = platform.trainer().submit(&job).await?;
    loop {
        let run = platform.registry().run(id).await?;
        match run.status {
            RunStatus::Finished => return Ok(run),
            RunStatus::Failed | RunStatus::Killed => bail!("the training is {}: {}", run.status.name(), run.error),
            RunStatus::Scheduled | RunStatus::Running | RunStatus::Lost => sleep(POLL).await,
        }
    }
}

fn metrics(run: &Run) -> String {
    const SHOWN: [&str; 4] = ["log_loss", "auc", "mae", "rmse"];
    let shown = run.metrics.iter().filter(|metric| SHOWN.iter().any(|name| metric.name.ends_with(name)));
    shown.map(|metric| format!("{} {:.4}", metric.name, metric.value)).collect::<Vec<_>>().join(", ")
}

async fn promote(plan: &Plan, platform: &Platform, version: u32) -> Result<()> {
    let target = AliasMove {
        model: plan.model.clone(),
        alias: AliasName::champion(),
        version,
        expected_revision: 0,
        why: WHY.to_owned(),
    };
    platform.registry().set_alias(&target).await?;
    Ok(())
}

/// Deploys the version and waits until every replica serves it.
async fn deploy(plan: &Plan, platform: &Platform, version: u32) -> Result<()> {
    let orchestrator = platform.orchestrator();
    let request = DeployRequest {
        idempotency_key: "demo-first".to_owned(),
        model: plan.model.clone(),
        version: Some(version),
        expected_revision: None,
        why: WHY.to_owned(),
    };
    orchestrator.deploy(&request).await?;
    let deadline = Instant::now() + DEPLOY_PATIENCE;
    loop {
        let deployment = orchestrator.deployment(&plan.model).await?;
        if is_served(&deployment, version) {
            return Ok(());
        }
        if deployment.outcome == Some(RolloutOutcome::Failed) || Instant::now() > deadline {
            bail!("version {version} is not served by every replica: {}", deployment.reason);
        }
        sleep(POLL).await;
    }
}

/// Sets the policy. Returns its triggers in words.
async fn set_policy(plan: &Plan, platform: &Platform) -> Result<String> {
    let watch =
        WatchSettings { window: plan.window, label_wait: plan.args.label_delay * 2, ..WatchSettings::default() };
    let policy = Policy {
        triggers: triggers(&plan.args.on)?,
        gate: Gate { confidence: plan.args.confidence, ..Gate::default() },
        // At least one window of rows after a trigger, on which the next model can be evaluated.
        cooldown: plan.window * 2,
        watch: Some(watch),
        ..Policy::new(plan.model.clone(), plan.dataset.clone(), recipe(plan))
    };
    platform.orchestrator().set_policy(&policy, 0).await?;
    Ok(words(&policy))
}
