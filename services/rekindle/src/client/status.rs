//! `rekindle status`: whether the platform is ready.

use std::{process::ExitCode, time::Duration};

use anyhow::Result;

use super::{Global, exit};

/// What `status` can be told.
#[derive(Debug, clap::Args)]
pub(crate) struct Args {
    /// Wait until the control plane and every replica are ready
    #[arg(long)]
    wait: bool,
    /// How long to wait
    #[arg(long, value_name = "D", default_value = "60s", value_parser = humantime::parse_duration)]
    timeout: Duration,
}

/// Ends with 0 where everything is ready, with 3 where something is not yet.
pub(crate) async fn run(args: Args, global: &Global) -> Result<ExitCode> {
    let connection = global.connect()?;
    let ready = if args.wait { connection.wait_ready(args.timeout).await } else { connection.ready().await };
    let problem = ready.err().map(|error| format!("{error:#}"));
    if global.json {
        println!("{}", serde_json::json!({ "ready": problem.is_none(), "problem": problem }));
    } else {
        println!("{}", problem.as_deref().unwrap_or("ready"));
    }
    Ok(if problem.is_none() { ExitCode::SUCCESS } else { ExitCode::from(exit::SAID_NO) })
}
