//! The client: one module per noun, each a function from arguments to calls to output. Nothing is decided here that the services do not
//! decide for every other caller too.

pub(crate) mod connection;
mod dataset;
pub(crate) mod deploy;
pub(crate) mod encode;
mod events;
pub(crate) mod exit;
pub(crate) mod file;
mod lineage;
mod models;
mod outcomes;
pub(crate) mod output;
mod page;
pub(crate) mod parse;
mod policy;
mod predict;
mod reason;
pub(crate) mod replay;
mod reports;
mod runs;
mod status;
mod traffic;
mod train;
pub(crate) mod upload;
mod workflows;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use connection::Connection;
use output::Format;

/// What every client command can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// The control plane's gRPC address
    #[arg(
        long,
        global = true,
        help_heading = "Platform and output",
        value_name = "URL",
        env = "REKINDLE_ADDRESS",
        default_value = "http://127.0.0.1:7000"
    )]
    pub address: String,
    /// gRPC addresses of the inference replicas; by default as the orchestrator knows them
    #[arg(
        long,
        global = true,
        help_heading = "Platform and output",
        value_name = "HOST:PORT,..",
        env = "REKINDLE_INFERENCE",
        value_delimiter = ','
    )]
    pub inference: Vec<String>,
    /// The bus that events are followed on
    #[arg(
        long,
        global = true,
        help_heading = "Platform and output",
        value_name = "URL",
        env = "REKINDLE_NATS",
        default_value = "nats://127.0.0.1:4222"
    )]
    pub nats: String,
    /// Print JSON for programs instead of tables for people
    #[arg(long, global = true, help_heading = "Platform and output")]
    pub json: bool,
}

impl Global {
    /// Clients of the platform that these name.
    pub(crate) fn connect(&self) -> Result<Connection> {
        Connection::open(&self.address, &self.nats, self.inference.clone())
    }

    /// How to print.
    pub(crate) fn format(&self) -> Format {
        if self.json { Format::Json } else { Format::Table }
    }
}

/// The commands that talk to a running platform.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Datasets: register, list, show
    #[command(subcommand)]
    Dataset(dataset::Command),
    /// Train a model from a dataset
    Train(train::Args),
    /// Runs: list, show, compare
    #[command(subcommand)]
    Runs(runs::Command),
    /// Models: list, show, versions, history, approve, reject
    #[command(subcommand)]
    Models(models::Command),
    /// Point an alias, champion by default, at a version
    Promote(models::Promote),
    /// Roll a version out over all replicas, one after the other
    Deploy(deploy::Deploy),
    /// Go back to the stable version before this one
    Rollback(deploy::Rollback),
    /// Policies: what keeps a model true
    #[command(subcommand)]
    Policy(policy::Command),
    /// Workflows: trips round the loop
    #[command(subcommand)]
    Workflows(workflows::Command),
    /// Ask a model
    Predict(predict::Args),
    /// Tell what turned out to be true
    Outcomes(outcomes::Args),
    /// Walk from an answer back to its version, run, datasets and code
    Lineage(lineage::Args),
    /// Send a file's rows as requests, in the order of time
    Replay(traffic::Args),
    /// Follow the events on the bus
    Events(events::Args),
    /// What the monitor saw in each window
    Reports(reports::Args),
    /// Replicas and what they serve
    Replicas,
    /// Whether the platform is ready, and what it serves
    Status(status::Args),
}

/// Carries a client command out.
pub(crate) async fn run(command: Command, global: &Global) -> Result<ExitCode> {
    let said_yes = match command {
        Command::Dataset(command) => dataset::run(command, global).await.map(|()| true),
        Command::Train(args) => train::run(args, global).await,
        Command::Runs(command) => runs::run(command, global).await.map(|()| true),
        Command::Models(command) => models::run(command, global).await.map(|()| true),
        Command::Promote(args) => models::promote(args, global).await.map(|()| true),
        Command::Deploy(args) => deploy::deploy(args, global).await,
        Command::Rollback(args) => deploy::rollback(args, global).await,
        Command::Policy(command) => policy::run(command, global).await.map(|()| true),
        Command::Workflows(command) => workflows::run(command, global).await,
        Command::Predict(args) => predict::run(args, global).await.map(|()| true),
        Command::Outcomes(args) => outcomes::run(args, global).await.map(|()| true),
        Command::Lineage(args) => lineage::run(args, global).await,
        Command::Replay(args) => traffic::run(args, global).await,
        Command::Events(args) => events::run(args, global).await.map(|()| true),
        Command::Reports(args) => reports::run(args, global).await.map(|()| true),
        Command::Replicas => deploy::replicas(global).await.map(|()| true),
        Command::Status(args) => return status::run(args, global).await,
    };
    let said_yes = said_yes.map_err(|error| {
        if !exit::is_unreachable(&error) {
            return error;
        }
        error.context(format!("is the platform up (`rekindle up`) at {} (--address)?", global.address))
    });
    Ok(if said_yes? { ExitCode::SUCCESS } else { ExitCode::from(exit::SAID_NO) })
}
