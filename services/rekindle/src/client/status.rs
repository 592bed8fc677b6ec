//! `rekindle status`.

mod differences;

use std::time::Duration;

use anyhow::Result;
use rekindle_client::{PageRequest, wire};
use rekindle_domain::{
    ModelName, ReplicaState, deployment_status::DeploymentStatus, report::WindowReport, workflow::WorkflowStatus,
};
use serde_json::json;

use super::{
    Global, capture, deploy, exit,
    output::{self, optional, when, words},
    page::Limit,
    parse,
    platform::Platform,
    reports,
};

/// The arguments of `rekindle status`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Exits with code 0 if everything is ready, 3 if something is not ready, 5 if the control plane is unreachable.

Examples:
  rekindle status
  rekindle status --wait --timeout 2m && rekindle dataset list")]
pub(crate) struct Args {
    /// Wait until the control plane and every replica are ready
    #[arg(long)]
    wait: bool,
    /// Maximum time to wait
    #[arg(long, value_name = "D", default_value = "60s", value_parser = parse::span)]
    timeout: Duration,
}

/// Deployments and replicas.
#[derive(Default)]
struct Served {
    deployments: Vec<DeploymentStatus>,
    replicas: Vec<ReplicaState>,
}

/// Prints the status. Returns whether everything is ready.
pub(crate) async fn run(args: Args, global: &Global) -> Result<bool> {
    let platform = global.platform()?;
    let ready = if args.wait { platform.wait_ready(args.timeout).await } else { platform.ready().await };
    let problem = match ready {
        Err(error) if exit::is_unreachable(&error) => return Err(error),
        ready => ready.err().map(|error| exit::message(&error)),
    };
    // A platform that is not ready may be unable to list what it serves; that it is not ready is reported all the same.
    let served = served(&platform).await.unwrap_or_default();
    let differences = differences::differences(&served.deployments, &served.replicas, &global.namespace);
    if global.json {
        output::print_json(&json!({
            "ready": problem.is_none(),
            "problem": problem,
            "differences": differences,
            "deployments": served.deployments.iter().map(wire::deployment::to_json).collect::<Vec<_>>(),
            "replicas": served.replicas.iter().map(wire::replica::to_json).collect::<Vec<_>>(),
        }));
    } else {
        output::emit(&problem.as_deref().map_or("ready".to_owned(), |problem| format!("not ready: {problem}")));
        print(&served);
        if !differences.is_empty() {
            output::emit("");
            differences.iter().for_each(|difference| output::emit(difference));
        }
        for deployment in &served.deployments {
            print_last(&platform, &deployment.model).await?;
            print_alerts(&platform, &deployment.model).await?;
            capture::print_notes(&platform.monitor(), &deployment.model).await?;
        }
    }
    Ok(problem.is_none())
}

/// Prints the verdict of the last window of a model and the state of its last workflow, each with its reason.
async fn print_last(platform: &Platform, model: &ModelName) -> Result<()> {
    let page = || PageRequest { size: 1, token: String::new() };
    let reports = platform.monitor().reports(model, page()).await?.items;
    let workflows = platform.orchestrator().workflows(Some(model), page()).await?.items;
    let lines = reports.iter().map(window).chain(workflows.iter().map(workflow));
    for (index, line) in lines.enumerate() {
        if index == 0 {
            output::emit("");
        }
        output::emit(&format!("{model}: {line}"));
    }
    Ok(())
}

/// Prints the open alerts of a model.
async fn print_alerts(platform: &Platform, model: &ModelName) -> Result<()> {
    for alert in Limit::NONE.fetch(async |page| platform.alerts().list(Some(model), false, page).await).await? {
        let (kind, severity, state) = (alert.kind.name(), alert.severity.name(), alert.state().name());
        let (kind, what) = (words(kind), format!("{}, {}", words(severity), words(state)));
        let (id, summary) = (alert.id, &alert.message.summary);
        output::emit(&format!("{model}: alert {kind} ({what}): {summary} `rekindle alerts show {id}`"));
    }
    Ok(())
}

fn window(report: &WindowReport) -> String {
    let drift = words(report.drift.verdict.name());
    let quality = report.quality.as_ref().map(|quality| format!(", quality {}", words(quality.verdict.name())));
    let verdicts = format!("drift {drift}{}", quality.unwrap_or_default());
    match reports::reason(report) {
        Some(reason) => format!("last window {verdicts}: {reason}"),
        None => format!("last window {verdicts}: {} to {}", when(report.window.from), when(report.window.until)),
    }
}

fn workflow(workflow: &WorkflowStatus) -> String {
    let (id, state) = (workflow.id, words(workflow.state.name()));
    let reason = if workflow.reason.is_empty() { String::new() } else { format!(": {}", workflow.reason) };
    format!("last workflow {id} {state}{reason}")
}

async fn served(platform: &Platform) -> Result<Served> {
    let orchestrator = platform.orchestrator();
    let replicas = platform.replica_states().await?;
    let deployments = Limit::NONE.fetch(async |page| orchestrator.deployments(page).await).await?;
    Ok(Served { deployments, replicas })
}

fn print(served: &Served) {
    if !served.deployments.is_empty() {
        output::emit("");
        let lines = served.deployments.iter().map(|deployment| {
            vec![
                deployment.model.to_string(),
                words(deployment.phase.name()),
                deployment.stable.version.to_string(),
                optional(deployment.target.map(|target| target.version)),
                when(deployment.changed_at),
                deployment.reason.clone(),
            ]
        });
        output::print_table(&["model", "phase", "stable", "target", "changed", "reason"], lines);
    }
    if !served.replicas.is_empty() {
        output::emit("");
        deploy::print_replicas(&served.replicas);
    }
}
