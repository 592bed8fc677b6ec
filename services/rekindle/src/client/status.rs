//! `rekindle status`: whether the platform is ready, and what it serves.

use std::{process::ExitCode, time::Duration};

use anyhow::Result;
use rekindle_proto::{
    json,
    orchestrator::{Deployment, ListDeploymentsRequest, ListReplicasRequest, Replica},
};
use serde_json::{Value, json};

use super::{
    Global,
    connection::Connection,
    deploy, exit,
    output::{self, when},
};

/// What `status` can be told.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Ends with 0 where everything is ready, with 3 where something is not yet, with 5 where the control plane cannot be reached.

Examples:
  rekindle status
  rekindle status --wait --timeout 2m && rekindle dataset list")]
pub(crate) struct Args {
    /// Wait until the control plane and every replica are ready
    #[arg(long)]
    wait: bool,
    /// How long to wait
    #[arg(long, value_name = "D", default_value = "60s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// What the platform serves, as far as it tells.
#[derive(Default)]
struct Served {
    deployments: Vec<Deployment>,
    replicas: Vec<Replica>,
}

/// Ends with 0 where everything is ready, with 3 where something is not yet.
pub(crate) async fn run(args: Args, global: &Global) -> Result<ExitCode> {
    let connection = global.connect()?;
    let ready = if args.wait { connection.wait_ready(args.timeout).await } else { connection.ready().await };
    let problem = match ready {
        Err(error) if exit::is_unreachable(&error) => return Err(error),
        ready => ready.err().map(|error| exit::words(&error)),
    };
    // What is not ready may well not tell what it serves; that it is not ready is the news.
    let served = served(&connection).await.unwrap_or_default();
    if global.json {
        output::print_json(&json!({
            "ready": problem.is_none(),
            "problem": problem,
            "deployments": served.deployments.iter().map(json::to_value).collect::<Value>(),
            "replicas": served.replicas.iter().map(json::to_value).collect::<Value>(),
        }));
    } else {
        output::emit(&problem.as_deref().map_or("ready".to_owned(), |problem| format!("not ready: {problem}")));
        print(&served);
    }
    Ok(if problem.is_none() { ExitCode::SUCCESS } else { ExitCode::from(exit::SAID_NO) })
}

async fn served(connection: &Connection) -> Result<Served> {
    let mut client = connection.orchestrator();
    let replicas = client.list_replicas(ListReplicasRequest {}).await?.into_inner().replicas;
    let deployments = client.list_deployments(ListDeploymentsRequest::default()).await?.into_inner().deployments;
    Ok(Served { deployments, replicas })
}

fn print(served: &Served) {
    if !served.deployments.is_empty() {
        output::emit("");
        let lines = served.deployments.iter().map(|deployment| {
            vec![
                deployment.model.clone(),
                deploy::phase(deployment),
                deploy::version(deployment.stable.as_ref()),
                deploy::version(deployment.target.as_ref()),
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
