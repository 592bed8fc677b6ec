//! The command line: subcommands, global options and exit codes.

use std::{path::PathBuf, process::ExitCode};

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::{client, demo, drift, serve, settings, up};

/// MLOps platform: train, serve and monitor models, and retrain them when data drifts.
#[derive(Debug, Parser)]
#[command(name = "rekindle", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub global: client::Global,
    #[command(subcommand)]
    command: Command,
}

/// The exit codes, which are stable.
const EXIT_CODES: &str = "\
Exit codes:
  0  success
  1  failure
  2  invalid usage
  3  negative result: a workflow that did not succeed, a replay that differs, drift with --fail-on-drift
  4  not found
  5  the platform is unreachable or unavailable: retry later";

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Platform(Platform),
    #[command(flatten)]
    Files(drift::Command),
    /// Carry out the check of a model in this folder, which the registry has written
    #[command(hide = true)]
    CheckModel { folder: PathBuf },
}

/// Commands that start the platform or call it.
#[derive(Debug, Subcommand)]
enum Platform {
    /// Run the whole platform in this process
    Up(up::Args),
    /// Run one service
    Serve(serve::Args),
    /// Demonstrate drift detection and retraining on a data file: train on early rows, replay later ones
    Demo(demo::Args),
    /// Print every setting with its default as a commented TOML file
    Config,
    /// Print a shell completion script
    Completions {
        /// Shell
        shell: clap_complete::Shell,
    },
    #[command(flatten)]
    Client(client::Command),
}

impl Cli {
    /// Runs the command.
    pub(crate) fn run(self) -> ExitCode {
        match self.command {
            Command::CheckModel { folder } => {
                let checked = rekindle_registry::check_model(&folder).map(|()| ExitCode::SUCCESS);
                exit_code(checked.map_err(anyhow::Error::from))
            }
            Command::Files(command) => exit_code(drift::run(&command, self.global.format())),
            Command::Platform(command) => match tokio::runtime::Runtime::new() {
                Ok(runtime) => exit_code(runtime.block_on(command.run(&self.global))),
                Err(error) => {
                    eprintln!("error: cannot start the async runtime: {error}");
                    ExitCode::FAILURE
                }
            },
        }
    }
}

impl Platform {
    async fn run(self, global: &client::Global) -> anyhow::Result<ExitCode> {
        match self {
            Self::Up(args) => Box::pin(up::run(args)).await?,
            // It holds the configuration of every service.
            Self::Serve(args) => Box::pin(serve::run(args)).await?,
            Self::Demo(args) => demo::run(args).await?,
            Self::Config => print!("{}", settings::defaults()),
            Self::Completions { shell } => {
                let mut script = Vec::new();
                clap_complete::generate(shell, &mut Cli::command(), "rekindle", &mut script);
                client::output::emit(&String::from_utf8_lossy(&script));
            }
            Self::Client(command) => return client::run(command, global).await,
        }
        Ok(ExitCode::SUCCESS)
    }
}

fn exit_code(result: anyhow::Result<ExitCode>) -> ExitCode {
    result.unwrap_or_else(|error| client::exit::report(&error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_command_line_is_consistent() {
        Cli::command().debug_assert();
    }
}
