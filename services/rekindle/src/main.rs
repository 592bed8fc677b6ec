//! `rekindle`: the platform in one program (`up`, `serve`), its client, and a demonstration of the loop.

mod cli;
mod client;
mod demo;
mod serve;
mod settings;
mod up;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    cli::Cli::parse().run()
}
