//! `rekindle failures`.

use std::time::Duration;

use anyhow::Result;
use chrono::{DateTime, TimeDelta, Utc};
use humantime::format_duration;
use rekindle_client::wire;
use rekindle_domain::{ModelName, failure::FailedRequests, model_version::VersionSelector};

use super::{Global, output::when, page::Limit, parse};

/// The failed requests to list.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
A line stands for all requests that one replica refused or failed with the same reason and message within one report.

Example:
  rekindle failures flight-delay --since 10m")]
pub(crate) struct Args {
    /// Model name
    model: ModelName,
    /// How far back, e.g. 10m or 7d
    #[arg(long, value_name = "DURATION", default_value = "1h", value_parser = parse::span)]
    since: Duration,
    #[command(flatten)]
    limit: Limit,
}

pub(crate) async fn run(args: Args, global: &Global) -> Result<()> {
    let platform = global.platform()?;
    let monitor = platform.monitor();
    let span = TimeDelta::from_std(args.since).unwrap_or(TimeDelta::MAX);
    let since = Utc::now().checked_sub_signed(span).unwrap_or(DateTime::UNIX_EPOCH);
    let failures = args.limit.fetch(async |page| monitor.failures(&args.model, Some(since), page).await).await?;
    if failures.is_empty() {
        // A model without failures may not exist: the registry says so.
        platform.registry().model_version(&args.model, &VersionSelector::Latest).await?;
        eprintln!("note: no request for {} has failed within {}", args.model, format_duration(args.since));
    }
    let header = ["last at", "requests", "version", "reason", "message", "first request", "replica"];
    global.format().list(&failures, wire::failure::to_json, &header, line);
    Ok(())
}

fn line(failed: &FailedRequests) -> Vec<String> {
    let request = Some(&failed.request_id).filter(|id| !id.is_empty());
    vec![
        when(failed.last_at),
        failed.requests.to_string(),
        failed.version.map(|version| version.to_string()).unwrap_or_default(),
        failed.reason.clone(),
        failed.message.clone(),
        request.cloned().unwrap_or_else(|| failed.prediction.to_string()),
        failed.replica.to_string(),
    ]
}
