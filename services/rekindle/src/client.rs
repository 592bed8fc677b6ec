//! The client commands, one module per noun: from arguments to calls to output. The services decide; the commands add no rules of their
//! own.

pub(crate) mod alerts;
mod audit;
mod blobs;
mod capture;
mod dataset;
pub(crate) mod deploy;
mod deployments;
pub(crate) mod encode;
mod events;
pub(crate) mod exit;
mod external;
mod failed_requests;
mod failures;
pub(crate) mod file;
mod flag;
mod lineage;
mod models;
mod outcomes;
pub(crate) mod output;
pub(crate) mod page;
pub(crate) mod parse;
pub(crate) mod platform;
pub(crate) mod policy;
mod predict;
mod preview;
mod reason;
mod rebuild;
pub(crate) mod replay;
pub(crate) mod report;
mod reports;
mod runs;
mod search;
mod status;
pub(crate) mod suspects;
mod tensor;
mod traffic;
mod train;
pub(crate) mod upload;
mod watch;
mod workflows;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;
use rekindle_domain::Namespace;

use crate::{advise, bench};
use output::Format;
use platform::Platform;

/// Options of every client command.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// gRPC address of the control plane
    #[arg(
        long,
        global = true,
        help_heading = "Platform and output",
        value_name = "URL",
        env = "REKINDLE_ADDRESS",
        default_value = "http://127.0.0.1:7000"
    )]
    pub address: String,
    /// gRPC addresses of the inference replicas; by default those that the orchestrator lists
    #[arg(
        long,
        global = true,
        help_heading = "Platform and output",
        value_name = "HOST:PORT,..",
        env = "REKINDLE_INFERENCE",
        value_delimiter = ','
    )]
    pub inference: Vec<String>,
    /// Address of NATS, from which `rekindle events` reads
    #[arg(
        long,
        global = true,
        help_heading = "Platform and output",
        value_name = "URL",
        env = "REKINDLE_NATS",
        default_value = "nats://127.0.0.1:4222"
    )]
    pub nats: String,
    /// Namespace of names that do not say theirs (`NAMESPACE.NAME`), and of lists
    #[arg(
        long,
        global = true,
        help_heading = "Platform and output",
        value_name = "NAME",
        env = "REKINDLE_NAMESPACE",
        default_value_t
    )]
    pub namespace: Namespace,
    /// Print JSON instead of tables
    #[arg(long, global = true, help_heading = "Platform and output")]
    pub json: bool,
}

impl Global {
    /// The platform at these addresses.
    pub(crate) fn platform(&self) -> Result<Platform> {
        let platform = Platform::open(&self.address, &self.nats, self.inference.clone())?;
        Ok(platform.within(self.namespace.clone()))
    }

    /// The format of the output.
    pub(crate) fn format(&self) -> Format {
        if self.json { Format::Json } else { Format::Table }
    }
}

/// Commands that call a running platform.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Register, list and show datasets
    #[command(subcommand)]
    Dataset(dataset::Command),
    /// Train a model from a dataset
    Train(train::Args),
    /// Train a model version again from its record, and compare the result with what was registered; exit with code 3 if it differs
    Rebuild(rebuild::Args),
    /// List, show and compare runs
    #[command(subcommand)]
    Runs(runs::Command),
    /// List, show and review registered models and their versions
    #[command(subcommand)]
    Models(models::Command),
    /// List changes of every kind with their authors and reasons, and verify that none is missing
    #[command(subcommand)]
    Audit(audit::Command),
    /// Delete blobs that nothing refers to, and check the others
    #[command(subcommand)]
    Blobs(blobs::Command),
    /// Point an alias (by default `champion`) at a model version
    Promote(models::Promote),
    /// Roll a model version out to all replicas, one at a time
    Deploy(deploy::Deploy),
    /// Roll a deployment back to its previous stable version
    Rollback(deploy::Rollback),
    /// Send a share of a model's requests to other versions, or a copy to a shadow version
    Traffic(deployments::Traffic),
    /// List and show deployments
    #[command(subcommand)]
    Deployments(deployments::Command),
    /// Set and show retraining policies
    #[command(subcommand)]
    Policy(policy::Command),
    /// Start, watch and manage retraining workflows
    #[command(subcommand)]
    Workflows(workflows::Command),
    /// Send prediction requests
    Predict(predict::Args),
    /// Test a server of the Open Inference Protocol under load
    Bench(bench::Args),
    /// Measure a model, and recommend replicas and rows per request
    Advise(advise::Args),
    /// Report outcomes (ground-truth labels) of predictions
    Outcomes(outcomes::Args),
    /// Show the model version, run, datasets and code behind a prediction
    Lineage(lineage::Args),
    /// Replay the rows of a file as prediction requests, in time order
    Replay(traffic::Args),
    /// Print events as they are published
    Events(events::Args),
    /// List monitoring reports, one per window
    Reports(reports::Args),
    /// Summarize a model: its quality and drift over time, workflows, versions and aliases
    Report(report::Args),
    /// List, acknowledge, resolve and silence alerts, and test receivers
    #[command(subcommand)]
    Alerts(alerts::Command),
    /// List prediction requests that have no answer, by reason
    Failures(failed_requests::Args),
    /// Restart the monitoring windows of a model
    #[command(subcommand)]
    Watch(watch::Command),
    /// List inference replicas and the versions they serve
    Replicas,
    /// Show whether the platform is ready, its deployments and its replicas
    Status(status::Args),
}

/// Runs a client command.
pub(crate) async fn run(command: Command, global: &Global) -> Result<ExitCode> {
    match dispatch(command, global).await {
        Err(error) if exit::is_unreachable(&error) => Err(error.context(unreachable(global).await)),
        done => done,
    }
}

/// What was not reached, and what to do: the control plane, or a replica if the control plane answers.
async fn unreachable(global: &Global) -> String {
    let Ok(platform) = global.platform() else { return String::new() };
    if !platform.is_reachable().await {
        let address = &global.address;
        return format!("the platform is unreachable: check that it runs (`rekindle up`) at {address} (--address)");
    }
    let addresses = platform.replica_addresses().await.unwrap_or_default().join(", ");
    format!("a replica is unreachable: check that those at {addresses} run (`rekindle replicas`, --inference)")
}

async fn dispatch(command: Command, global: &Global) -> Result<ExitCode> {
    let is_positive = match command {
        Command::Dataset(command) => dataset::run(command, global).await.map(|()| true),
        Command::Train(args) => train::run(args, global).await,
        Command::Rebuild(args) => rebuild::run(args, global).await,
        Command::Runs(command) => runs::run(command, global).await.map(|()| true),
        Command::Models(command) => models::run(command, global).await.map(|()| true),
        Command::Audit(command) => audit::run(command, global).await,
        Command::Blobs(command) => blobs::run(command, global).await,
        Command::Promote(args) => models::promote(args, global).await.map(|()| true),
        Command::Deploy(args) => deploy::deploy(args, global).await,
        Command::Rollback(args) => deploy::rollback(args, global).await,
        Command::Traffic(args) => deployments::set_traffic(args, global).await.map(|()| true),
        Command::Deployments(command) => deployments::run(command, global).await.map(|()| true),
        Command::Policy(command) => policy::run(command, global).await.map(|()| true),
        Command::Workflows(command) => workflows::run(command, global).await,
        Command::Predict(args) => predict::run(args, global).await,
        Command::Advise(args) => advise::run(args, global).await,
        Command::Bench(args) => bench::run(args, global).await,
        Command::Outcomes(args) => outcomes::run(args, global).await.map(|()| true),
        Command::Lineage(args) => lineage::run(args, global).await,
        Command::Replay(args) => traffic::run(args, global).await,
        Command::Events(args) => events::run(args, global).await,
        Command::Reports(args) => reports::run(args, global).await.map(|()| true),
        Command::Report(args) => report::run(args, global).await.map(|()| true),
        Command::Alerts(command) => alerts::run(command, global).await,
        Command::Failures(args) => failed_requests::run(args, global).await.map(|()| true),
        Command::Watch(command) => watch::run(command, global).await.map(|()| true),
        Command::Replicas => deploy::replicas(global).await.map(|()| true),
        Command::Status(args) => status::run(args, global).await,
    };
    Ok(if is_positive? { ExitCode::SUCCESS } else { ExitCode::from(exit::NEGATIVE) })
}
