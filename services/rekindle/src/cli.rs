//! The command line: every subcommand, what is global to all, and how an error becomes an exit code.

use std::process::ExitCode;

use clap::{CommandFactory as _, Parser, Subcommand};

use crate::{client, demo, drift, serve, settings, up};

/// Keeps models true to a changing world.
#[derive(Debug, Parser)]
#[command(name = "rekindle", version, max_term_width = 100, after_help = EXIT_CODES)]
pub(crate) struct Cli {
    #[command(flatten)]
    pub global: client::Global,
    #[command(subcommand)]
    command: Command,
}

/// What a script may rely on.
const EXIT_CODES: &str = "\
Exit codes: 0 done; 1 failed; 2 wrong usage; 3 a check said no (a workflow that did not succeed, bits that differ,
drift with --fail-on-drift);
4 not found; 5 the platform cannot be reached.";

#[derive(Debug, Subcommand)]
enum Command {
    #[command(flatten)]
    Platform(Platform),
    #[command(flatten)]
    Files(drift::Command),
}

/// What starts the platform, or talks to it.
#[derive(Debug, Subcommand)]
enum Platform {
    /// Run the whole platform in this process
    Up(up::Args),
    /// Run one service
    Serve(serve::Args),
    /// Show the loop on a file of your own: train on its past, live through its future
    Demo(demo::Args),
    /// Print every setting with its default, as a commented TOML file
    Config,
    /// Print a completion script for a shell
    Completions {
        /// The shell
        shell: clap_complete::Shell,
    },
    #[command(flatten)]
    Client(client::Command),
}

impl Cli {
    /// Carries the command out.
    pub(crate) fn run(self) -> ExitCode {
        match self.command {
            // It reads files and nothing else, so nothing else is started for it.
            Command::Files(command) => ended(drift::run(&command, self.global.format())),
            Command::Platform(command) => match tokio::runtime::Runtime::new() {
                Ok(runtime) => ended(runtime.block_on(command.run(&self.global))),
                Err(error) => {
                    eprintln!("error: cannot start: {error}");
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
            Self::Serve(args) => serve::run(args).await?,
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

fn ended(result: anyhow::Result<ExitCode>) -> ExitCode {
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
