//! `rekindle`: the platform in one program (`up`, `serve`), its client, a demonstration, and the comparison of files, which needs no
//! platform (`drift`, `profile`).

mod advise;
mod bench;
mod child;
mod cli;
mod client;
mod demo;
mod drift;
mod model_page;
mod reading;
mod serve;
mod settings;
mod storage;
mod up;

use std::process::ExitCode;

use clap::Parser as _;

/// Returns freed memory to the system, and shares it between threads: after trainings and imports, the general allocator keeps what they took.
#[global_allocator]
static ALLOCATOR: tikv_jemallocator::Jemalloc = tikv_jemallocator::Jemalloc;

fn main() -> ExitCode {
    cli::Cli::parse().run()
}
