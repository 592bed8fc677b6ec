//! The client: one module per noun, each a function from arguments to calls to output. Nothing is decided here that the services do not
//! decide for every other caller too.

pub(crate) mod connection;
pub(crate) mod encode;
pub(crate) mod exit;
pub(crate) mod file;
pub(crate) mod replay;
mod status;
pub(crate) mod upload;

use std::process::ExitCode;

use anyhow::Result;
use clap::Subcommand;

use connection::Connection;

/// What every client command can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Global {
    /// The control plane's gRPC address
    #[arg(long, global = true, value_name = "URL", env = "REKINDLE_ADDRESS", default_value = "http://127.0.0.1:7000")]
    pub address: String,
    /// gRPC addresses of the inference replicas; by default as the orchestrator knows them
    #[arg(long, global = true, value_name = "HOST:PORT,..", env = "REKINDLE_INFERENCE", value_delimiter = ',')]
    pub inference: Vec<String>,
    /// The bus that events are followed on
    #[arg(long, global = true, value_name = "URL", env = "REKINDLE_NATS", default_value = "nats://127.0.0.1:4222")]
    pub nats: String,
    /// Print JSON for programs instead of tables for people
    #[arg(long, global = true)]
    pub json: bool,
}

impl Global {
    /// Clients of the platform that these name.
    pub(crate) fn connect(&self) -> Result<Connection> {
        Connection::open(&self.address, &self.nats, self.inference.clone())
    }
}

/// The commands that talk to a running platform.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// Whether the platform is ready, and what it serves
    Status(status::Args),
}

/// Carries a client command out.
pub(crate) async fn run(command: Command, global: &Global) -> Result<ExitCode> {
    match command {
        Command::Status(args) => status::run(args, global).await,
    }
}
