//! The first model: registered rows, a training, a promotion, a deployment and a policy.

use std::time::Duration;

use anyhow::{Context as _, Result, bail};
use rekindle_domain::{Digest, Recipe};
use rekindle_model::{Bundle, Model};
use rekindle_proto::{
    monitor::Watch,
    orchestrator::{DeployRequest, GetDeploymentRequest, Policy, SetPolicyRequest},
    registry::{
        FileFormat, GetModelVersionRequest, GetRunRequest, RegisterVersionRequest, Run, RunStatus, SetAliasRequest,
        Source, get_model_version_request::Which,
    },
    time::span_to_wire,
    trainer::{DatasetRef, Job, SubmitJobRequest, TrainWork, job::Work},
};
use tokio::time::{Instant, sleep};
use uuid::Uuid;

use super::{Plan, story::Story};
use crate::client::{
    connection::Connection,
    deploy::is_served,
    upload::{download, upload},
};

const POLL: Duration = Duration::from_millis(100);
/// A first deployment that takes longer has failed.
const DEPLOY_PATIENCE: Duration = Duration::from_secs(60);
/// Who the demonstration says it is.
const BY: &str = "demo";

/// The model that serves at first, to be kept unchanged beside the live one.
pub(crate) struct FirstModel {
    pub model: Model,
    pub bundle: Bundle,
}

/// Takes all the steps up to a model that is served and watched.
pub(crate) async fn first_model(plan: &Plan, connection: &Connection, story: &Story) -> Result<FirstModel> {
    register(plan, connection, story).await?;
    let run = train(plan, connection).await?;
    let version: u32 = run.outputs.get("model_version").context("the run made no version")?.parse()?;
    story.tell(format!("version {version} trained: {}", metrics(&run)));
    promote_and_deploy(plan, connection, version).await?;
    story.tell(format!("version {version} promoted to champion and served by every replica"));
    set_policy(plan, connection).await?;
    story.tell(format!(
        "policy set: watch windows of {}, retrain upon drift or degradation",
        super::report::words(plan.window)
    ));
    let which = GetModelVersionRequest { model: plan.model.to_string(), which: Some(Which::Version(version)) };
    let registered = connection.models().get_model_version(which).await?.into_inner();
    let digest: Digest = registered.bundle_digest.parse()?;
    let bundle = Bundle::load(&digest, |digest| download(connection.artifacts(), digest)).await?;
    Ok(FirstModel { model: Model::from_bundle(&bundle)?, bundle })
}

async fn register(plan: &Plan, connection: &Connection, story: &Story) -> Result<()> {
    let bytes = rekindle_dataset::write_parquet(&plan.train)?;
    let digest = upload(connection.artifacts(), bytes, |_| ()).await?;
    let request = RegisterVersionRequest {
        idempotency_key: format!("demo-{}", digest.short()),
        name: plan.dataset.to_string(),
        sources: vec![Source { digest: digest.to_string(), format: FileFormat::Parquet.into() }],
        time_column: plan.args.time.clone(),
        description: format!("rows before {}", plan.args.train_until),
        ..Default::default()
    };
    let dataset = connection.datasets().register_version(request).await?.into_inner();
    story.tell(format!(
        "dataset {} version {} registered: {} rows, {} columns, {}",
        dataset.name,
        dataset.version,
        dataset.rows,
        dataset.columns.len(),
        dataset.content_digest.chars().take(19).collect::<String>()
    ));
    Ok(())
}

/// The recipe of every training: the defaults, for this target.
fn recipe(plan: &Plan) -> Result<String> {
    let recipe = Recipe {
        ignore: plan.args.ignore.clone(),
        seed: plan.args.seed,
        ..Recipe::for_target(plan.args.target.clone())
    };
    Ok(serde_json::to_string(&recipe)?)
}

async fn train(plan: &Plan, connection: &Connection) -> Result<Run> {
    let id = Uuid::now_v7().to_string();
    let job = Job {
        id: id.clone(),
        experiment: plan.model.to_string(),
        work: Some(Work::Train(TrainWork {
            dataset: Some(DatasetRef { name: plan.dataset.to_string(), version: 0 }),
            recipe_json: recipe(plan)?,
            register_as: plan.model.to_string(),
            description: "first model of the demonstration".into(),
            ..Default::default()
        })),
        ..Default::default()
    };
    connection.trainer().submit_job(SubmitJobRequest { job: Some(job) }).await?;
    loop {
        let run = connection.runs().get_run(GetRunRequest { id: id.clone() }).await?.into_inner();
        match run.status() {
            RunStatus::Finished => return Ok(run),
            RunStatus::Failed | RunStatus::Killed => {
                bail!("the training ended {}: {}", run.status().as_str_name(), run.error)
            }
            _ => sleep(POLL).await,
        }
    }
}

fn metrics(run: &Run) -> String {
    let wanted = ["log_loss", "auc", "mae", "rmse"];
    let told = run.metrics.iter().filter(|metric| wanted.iter().any(|wanted| metric.name.ends_with(wanted)));
    told.map(|metric| format!("{} {:.4}", metric.name, metric.value)).collect::<Vec<_>>().join(", ")
}

async fn promote_and_deploy(plan: &Plan, connection: &Connection, version: u32) -> Result<()> {
    let alias = SetAliasRequest {
        model: plan.model.to_string(),
        alias: "champion".into(),
        version,
        expected_revision: 0,
        by: BY.into(),
        why: "the first model".into(),
    };
    connection.models().set_alias(alias).await?;
    let request = DeployRequest {
        idempotency_key: "demo-first".into(),
        model: plan.model.to_string(),
        version,
        by: BY.into(),
        why: "the first model".into(),
        ..Default::default()
    };
    connection.orchestrator().deploy(request).await?;
    let deadline = Instant::now() + DEPLOY_PATIENCE;
    loop {
        let request = GetDeploymentRequest { model: plan.model.to_string() };
        let deployment = connection.orchestrator().get_deployment(request).await?.into_inner();
        if is_served(&deployment, version) {
            return Ok(());
        }
        if deployment.last_outcome == "failed" || Instant::now() > deadline {
            bail!("version {version} is not served everywhere: {}", deployment.reason);
        }
        sleep(POLL).await;
    }
}

async fn set_policy(plan: &Plan, connection: &Connection) -> Result<()> {
    let wire = |span: Duration| chrono::TimeDelta::from_std(span).map(span_to_wire);
    let policy = Policy {
        model: plan.model.to_string(),
        on_drift: true,
        on_degradation: true,
        dataset: plan.dataset.to_string(),
        recipe_json: recipe(plan)?,
        // A trigger is followed by at least one window of rows that the next model can be judged on.
        cooldown: Some(wire(plan.window * 2)?),
        watch: Some(Watch {
            window: Some(wire(plan.window)?),
            label_wait: Some(wire(plan.args.label_delay * 2)?),
            ..Default::default()
        }),
        ..Default::default()
    };
    connection.orchestrator().set_policy(SetPolicyRequest { policy: Some(policy), expected_revision: 0 }).await?;
    Ok(())
}
