//! `rekindle deploy`, `rekindle rollback` and `rekindle replicas`.

use std::time::Duration;

use anyhow::{Result, bail};
use rekindle_client::{Orchestrator, orchestrator::DeployRequest, wire};
use rekindle_domain::{
    ModelName, ReplicaState, ServedModel,
    deployment_status::{DeploymentPhase, DeploymentStatus, RolloutOutcome},
};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Global, deployments,
    output::{self, Fields, optional, when, words},
    parse,
    reason::Reason,
};

/// Interval between two reads of a deployment in progress.
const POLL: Duration = Duration::from_millis(100);

/// A deployment.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Replicas are updated one at a time. If an update fails, all replicas return to the stable version.

Examples:
  rekindle deploy flight-delay --wait
  rekindle deploy flight-delay --version 3 --why 'hotfix' --wait")]
pub(crate) struct Deploy {
    /// Model name
    model: ModelName,
    /// Version; by default the one that the alias champion points at
    #[arg(long, value_name = "N", value_parser = parse::whole::<u32>)]
    version: Option<u32>,
    /// Expected revision of the deployment; the command fails if it differs
    #[arg(long, value_name = "N", value_parser = parse::whole::<u64>)]
    expected_revision: Option<u64>,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    reason: Reason,
}

/// A rollback.
#[derive(Debug, clap::Args)]
pub(crate) struct Rollback {
    /// Model name
    model: ModelName,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    reason: Reason,
}

/// Whether to wait for the end of the rollout.
#[derive(Debug, clap::Args)]
pub(crate) struct Waiting {
    /// Wait until every replica serves the version; exit with code 3 if the rollout is rolled back
    #[arg(long)]
    wait: bool,
    /// Maximum time to wait
    #[arg(long, value_name = "D", default_value = "10m", value_parser = parse::span)]
    timeout: Duration,
}

/// Deploys. Returns whether the rollout completed; without `--wait`, whether it started.
pub(crate) async fn deploy(args: Deploy, global: &Global) -> Result<bool> {
    let orchestrator = global.platform()?.called_by(args.reason.by).orchestrator();
    let request = DeployRequest {
        idempotency_key: Uuid::now_v7().to_string(),
        model: args.model,
        version: args.version,
        expected_revision: args.expected_revision,
        why: args.reason.why,
    };
    let started = orchestrator.deploy(&request).await?;
    settle(started, &args.waiting, &orchestrator, global).await
}

/// Rolls back. Returns whether the rollout completed; without `--wait`, whether it started.
pub(crate) async fn rollback(args: Rollback, global: &Global) -> Result<bool> {
    let orchestrator = global.platform()?.called_by(args.reason.by).orchestrator();
    let started = orchestrator.rollback(&args.model, args.reason.why, Uuid::now_v7().to_string()).await?;
    settle(started, &args.waiting, &orchestrator, global).await
}

async fn settle(
    started: DeploymentStatus,
    waiting: &Waiting,
    orchestrator: &Orchestrator,
    global: &Global,
) -> Result<bool> {
    let version = destination(&started);
    let last = if waiting.wait { wait(started, waiting.timeout, orchestrator).await? } else { started };
    global.format().one(&last, wire::deployment::to_json, fields);
    Ok(!waiting.wait || is_served(&last, version))
}

/// Whether every replica serves `version` and no rollout is in progress. A first version that a replica could not load is the stable
/// version without being served.
pub(crate) fn is_served(deployment: &DeploymentStatus, version: u32) -> bool {
    deployment.phase == DeploymentPhase::Stable
        && deployment.outcome != Some(RolloutOutcome::Failed)
        && deployment.stable.version == version
}

/// The version that every replica serves once the rollout completes.
fn destination(deployment: &DeploymentStatus) -> u32 {
    deployment.target.unwrap_or(deployment.stable).version
}

async fn wait(started: DeploymentStatus, patience: Duration, orchestrator: &Orchestrator) -> Result<DeploymentStatus> {
    let bar = output::bar(0, "{spinner} {msg} {elapsed}");
    let deadline = Instant::now() + patience;
    let mut ticks = tokio::time::interval(POLL);
    loop {
        ticks.tick().await;
        let now = orchestrator.deployment(&started.model).await?;
        let phase = words(now.phase.name());
        if now.phase == DeploymentPhase::Stable {
            bar.finish_and_clear();
            return Ok(now);
        }
        bar.set_message(format!("{phase}: version {} on {} replicas", destination(&now), now.moved.len()));
        if Instant::now() > deadline {
            bail!("the deployment is still {phase} after {}: {}", humantime::format_duration(patience), now.reason);
        }
    }
}

/// The fields of a deployment.
pub(crate) fn fields(deployment: &DeploymentStatus) -> Fields {
    let moved: Vec<_> = deployment.moved.iter().map(ToString::to_string).collect();
    vec![
        ("model", deployment.model.to_string()),
        ("phase", words(deployment.phase.name())),
        ("stable version", deployment.stable.version.to_string()),
        ("traffic", deployments::traffic(deployment)),
        ("shadow version", optional(deployment.shadow.map(|shadow| shadow.version))),
        ("target version", optional(deployment.target.map(|target| target.version))),
        ("canary step", optional(deployment.canary_step)),
        ("updated replicas", moved.join(", ")),
        ("last rollout", deployment.outcome.map(|outcome| words(outcome.name())).unwrap_or_default()),
        ("reason", deployment.reason.clone()),
        ("generation", deployment.generation.to_string()),
        ("revision", deployment.revision.to_string()),
        ("changed", when(deployment.changed_at)),
    ]
}

/// Lists the replicas and the versions they serve.
pub(crate) async fn replicas(global: &Global) -> Result<()> {
    let replicas = global.platform()?.replica_states().await?;
    if global.json {
        output::print_json(&replicas.iter().map(wire::replica::to_json).collect());
    } else {
        print_replicas(&replicas);
    }
    Ok(())
}

/// Prints a line per model and replica.
pub(crate) fn print_replicas(replicas: &[ReplicaState]) {
    let lines = replicas.iter().flat_map(|replica| {
        let idle = replica.models.is_empty().then(|| line(replica, None));
        replica.models.iter().map(|model| line(replica, Some(model))).chain(idle)
    });
    let header = ["replica", "address", "model", "version", "answered", "failed", "in flight", "problem"];
    output::print_table(&header, lines);
}

fn line(replica: &ReplicaState, model: Option<(&ModelName, &ServedModel)>) -> Vec<String> {
    let (name, served) = model.map(|(name, served)| (name.to_string(), served.clone())).unwrap_or_default();
    let sum = |count: fn(&rekindle_domain::ServedVersion) -> u64| {
        served.versions.values().map(count).fold(0, u64::saturating_add)
    };
    vec![
        replica.replica.to_string(),
        replica.address.clone(),
        name,
        optional(served.primary),
        sum(|version| version.answered).to_string(),
        sum(|version| version.failed).to_string(),
        served.in_flight().to_string(),
        served.failure.clone().unwrap_or_default(),
    ]
}
