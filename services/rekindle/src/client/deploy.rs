//! `rekindle deploy`, `rekindle rollback` and `rekindle replicas`.

use std::time::Duration;

use anyhow::{Result, bail};
use rekindle_proto::orchestrator::{
    DeployRequest, DeployedVersion, Deployment, DeploymentPhase, GetDeploymentRequest, ListReplicasRequest, Replica,
    ReplicaModel, RollbackRequest,
};
use tokio::time::Instant;
use uuid::Uuid;

use super::{
    Global,
    connection::Connection,
    output::{self, Fields, when, word},
    reason::Reason,
};

/// How often a deployment is looked at while it is waited for.
const POLL: Duration = Duration::from_millis(100);

/// What to deploy.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Replicas move one after the other; whatever goes wrong brings all back to the stable version.

Examples:
  rekindle deploy flight-delay --wait
  rekindle deploy flight-delay --version 3 --why 'hotfix' --wait")]
pub(crate) struct Deploy {
    /// The model
    model: String,
    /// The version; by default the one that champion points at
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    version: u32,
    /// Only if the deployment still has this revision
    #[arg(long, value_name = "N", default_value_t = 0, hide_default_value = true)]
    expected_revision: u64,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    reason: Reason,
}

/// What to take back.
#[derive(Debug, clap::Args)]
pub(crate) struct Rollback {
    /// The model
    model: String,
    #[command(flatten)]
    waiting: Waiting,
    #[command(flatten)]
    reason: Reason,
}

/// Whether to wait.
#[derive(Debug, clap::Args)]
pub(crate) struct Waiting {
    /// Wait until every replica serves the version; ends with 3 where the rollout goes back instead
    #[arg(long)]
    wait: bool,
    /// How long to wait
    #[arg(long, value_name = "D", default_value = "10m", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Deploys. Returns whether the replicas moved, as far as that is known.
pub(crate) async fn deploy(args: Deploy, global: &Global) -> Result<bool> {
    let connection = global.connect()?;
    let request = DeployRequest {
        idempotency_key: Uuid::now_v7().to_string(),
        model: args.model,
        version: args.version,
        expected_revision: args.expected_revision,
        by: args.reason.by,
        why: args.reason.why,
    };
    let deployment = connection.orchestrator().deploy(request).await?.into_inner();
    settle(deployment, &args.waiting, &connection, global).await
}

/// Rolls back. Returns whether the replicas moved, as far as that is known.
pub(crate) async fn rollback(args: Rollback, global: &Global) -> Result<bool> {
    let connection = global.connect()?;
    let request = RollbackRequest {
        idempotency_key: Uuid::now_v7().to_string(),
        model: args.model,
        by: args.reason.by,
        why: args.reason.why,
    };
    let deployment = connection.orchestrator().rollback(request).await?.into_inner();
    settle(deployment, &args.waiting, &connection, global).await
}

async fn settle(asked: Deployment, waiting: &Waiting, connection: &Connection, global: &Global) -> Result<bool> {
    let ended = if waiting.wait { wait(&asked, waiting.timeout, connection).await? } else { asked.clone() };
    global.format().message(&ended, fields);
    Ok(!waiting.wait || is_served(&ended, wanted(&asked)))
}

/// Whether a deployment at rest serves the version on every replica; a first version that no replica could take on is stable in name
/// alone.
pub(crate) fn is_served(deployment: &Deployment, version: u32) -> bool {
    deployment.phase() == DeploymentPhase::Stable
        && deployment.last_outcome != "failed"
        && deployment.stable.as_ref().is_some_and(|stable| stable.version == version)
}

/// The version that a deployment is on its way to, or at.
fn wanted(deployment: &Deployment) -> u32 {
    let version = deployment.target.as_ref().or(deployment.stable.as_ref());
    version.map_or(0, |version| version.version)
}

async fn wait(asked: &Deployment, patience: Duration, connection: &Connection) -> Result<Deployment> {
    let bar = output::bar(0, "{spinner} {msg} {elapsed}");
    let deadline = Instant::now() + patience;
    let mut ticks = tokio::time::interval(POLL);
    loop {
        ticks.tick().await;
        let request = GetDeploymentRequest { model: asked.model.clone() };
        let now = connection.orchestrator().get_deployment(request).await?.into_inner();
        if now.phase() == DeploymentPhase::Stable {
            bar.finish_and_clear();
            return Ok(now);
        }
        bar.set_message(format!("{} version {}: {} replicas moved", phase(&now), wanted(&now), now.moved.len()));
        if Instant::now() > deadline {
            bail!("still {} after {}: {}", phase(&now), humantime::format_duration(patience), now.reason);
        }
    }
}

/// A deployment's phase in one word.
pub(crate) fn phase(deployment: &Deployment) -> String {
    word(deployment.phase().as_str_name(), "DEPLOYMENT_PHASE_")
}

/// A deployed version by number.
pub(crate) fn version(version: Option<&DeployedVersion>) -> String {
    version.map(|version| version.version.to_string()).unwrap_or_default()
}

fn fields(deployment: &Deployment) -> Fields {
    vec![
        ("model", deployment.model.clone()),
        ("phase", phase(deployment)),
        ("stable version", version(deployment.stable.as_ref())),
        ("target version", version(deployment.target.as_ref())),
        ("moved replicas", deployment.moved.join(", ")),
        ("last move", deployment.last_outcome.clone()),
        ("reason", deployment.reason.clone()),
        ("generation", deployment.generation.to_string()),
        ("revision", deployment.revision.to_string()),
        ("changed", when(deployment.changed_at)),
    ]
}

/// Lists replicas and what they serve.
pub(crate) async fn replicas(global: &Global) -> Result<()> {
    let request = ListReplicasRequest {};
    let replicas = global.connect()?.orchestrator().list_replicas(request).await?.into_inner().replicas;
    if global.json {
        global.format().list(&replicas, &[], |_| Vec::new());
    } else {
        print_replicas(&replicas);
    }
    Ok(())
}

/// A line for every model on every replica.
pub(crate) fn print_replicas(replicas: &[Replica]) {
    let lines = replicas.iter().flat_map(|replica| {
        let idle = replica.models.is_empty().then(ReplicaModel::default);
        replica.models.iter().cloned().chain(idle).map(|model| {
            vec![
                replica.id.clone(),
                replica.address.clone(),
                model.model,
                version(model.serving.as_ref()),
                model.answered.to_string(),
                model.failed.to_string(),
                model.in_flight.to_string(),
                model.failure,
            ]
        })
    });
    let header = ["replica", "address", "model", "version", "answered", "failed", "in flight", "problem"];
    output::print_table(&header, lines);
}
