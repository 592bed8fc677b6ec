//! `rekindle`: the platform in one program (`up`, `serve`), its client, a demonstration, and the comparison of files, which needs no
//! platform (`drift`, `profile`).

mod advise;
mod bench;
mod child;
mod cli;
mod client;
mod demo;
mod drift;
mod reading;
mod serve;
mod settings;
mod storage;
mod up;

use std::process::ExitCode;

use clap::Parser as _;

fn main() -> ExitCode {
    cli::Cli::parse().run()
}
