//! `rekindle demo`: the whole loop on anybody's file. It starts a platform of its own, trains on the early rows, replays the later ones as
//! live traffic with the truth following, lets drift and degradation lead to retraining and redeploys as they happen, and ends with a
//! report.
//!
//! Nothing here decides anything: the demonstration makes the calls that a user would make and tells what came of them.

mod chart;
mod platform;
mod report;
mod scoring;
mod setup;
mod story;
mod summary;
mod telling;
mod verdict;

use std::{
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, Utc};
use rekindle_dataset::Table;
use rekindle_domain::{DatasetName, ModelName};

use crate::client::{
    connection::Connection,
    replay::{self, Replay},
};
use platform::Child;
use story::Story;

/// What `demo` can be told.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// The rows: a Parquet or CSV file
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// The column to predict: a class, or a number
    #[arg(long, value_name = "COL")]
    pub target: String,
    /// The column that says when each row happened
    #[arg(long, value_name = "COL")]
    pub time: String,
    /// The first model learns from the rows before this time (a date or RFC 3339, UTC); the later ones are replayed
    #[arg(long, value_name = "TIME", value_parser = crate::client::parse::time)]
    pub train_until: DateTime<Utc>,
    /// Columns that must not become features: identifiers, and whatever is known only with the truth
    #[arg(long, value_name = "COL,COL", value_delimiter = ',')]
    pub ignore: Vec<String>,
    /// How long after its row the truth is reported, in the time of the data
    #[arg(long, value_name = "D", default_value = "1d", value_parser = humantime::parse_duration)]
    pub label_delay: Duration,
    /// Inference replicas
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub replicas: u16,
    /// Folder for report.html, summary.json and the platform's state; emptied first
    #[arg(long, value_name = "DIR", default_value = "rekindle-demo")]
    pub out: PathBuf,
    /// How long the replay takes, in wall time
    #[arg(long, value_name = "D", default_value = "3m", value_parser = humantime::parse_duration)]
    pub replay_for: Duration,
    /// Seed of every training
    #[arg(long, default_value_t = 0)]
    pub seed: u64,
}

/// What is demonstrated, once the file was read.
#[derive(Debug)]
pub(crate) struct Plan {
    pub args: Args,
    pub model: ModelName,
    pub dataset: DatasetName,
    pub train: Table,
    pub live: Table,
    /// Length of the monitor's windows.
    pub window: Duration,
}

/// Runs the demonstration. Fails where a step could not be taken; a request that failed is a result, and told as one.
pub(crate) async fn run(args: Args) -> Result<()> {
    let story = std::sync::Arc::new(Story::begin());
    let plan = plan(args)?;
    story.tell(format!(
        "{}: {} rows before {} to learn from, {} rows after it to live through",
        plan.args.data.display(),
        plan.train.rows(),
        plan.args.train_until.format("%Y-%m-%d"),
        plan.live.rows()
    ));
    fresh_folder(&plan.args.out)?;
    let platform = Child::start(&plan.args.out.join("platform"), plan.args.replicas).await?;
    story.tell(format!("platform ready: 5 services, {} replicas, one process", plan.args.replicas));

    let connection = platform.connection()?;
    let first = setup::first_model(&plan, &connection, &story).await?;
    let following = telling::follow(connection.nats(), story.clone()).await?;
    let replay = live(&plan, &connection, &story).await?;
    story.tell(format!(
        "replay done: {} requests in {:.0} s, {} failed, {} outcomes reported",
        replay.requests, replay.seconds, replay.failed_requests, replay.outcomes
    ));
    verdict::settle(&plan, &connection, &replay).await?;
    drop(following);
    let summary = verdict::conclude(&plan, &connection, &first, &replay, &story).await?;
    platform.stop().await?;
    println!("{}", serde_json::to_string(&summary)?);
    Ok(())
}

async fn live(plan: &Plan, connection: &Connection, story: &Story) -> Result<Replay> {
    let rate = plan.live.rows() as f64 / plan.args.replay_for.as_secs_f64();
    story.tell(format!("replaying {} rows at {rate:.0} requests a second", plan.live.rows()));
    let options = replay::Options {
        model: plan.model.to_string(),
        table: plan.live.clone(),
        time_column: Some(plan.args.time.clone()),
        replicas: connection.replicas().await?,
        rate,
        outcomes: Some(replay::Outcomes {
            target: plan.args.target.clone(),
            delay: plan.args.label_delay,
            monitor: connection.channel(),
        }),
    };
    let reached = |progress: replay::Progress| {
        if let Some(time) = progress.event_time {
            story.reached(time.format("%Y-%m-%d").to_string());
        }
    };
    let replay = replay::replay(options, reached).await?;
    if let Some(error) = &replay.first_error {
        story.tell(format!("the first failed request: {error}"));
    }
    Ok(replay)
}

fn plan(args: Args) -> Result<Plan> {
    let table = crate::client::file::read(&args.data)?.sort_by_time(&args.time)?;
    table.column(&args.target)?;
    let train = table.slice_time(&args.time, None, Some(args.train_until))?;
    let live = table.slice_time(&args.time, Some(args.train_until), None)?;
    ensure!(train.rows() > 0, "no row of {} lies before --train-until {}", args.data.display(), args.train_until);
    ensure!(live.rows() > 0, "no row of {} lies at or after --train-until {}", args.data.display(), args.train_until);
    let name = slug(&args.data);
    let window = window_length(&train, &args.time)?;
    Ok(Plan {
        model: name.parse().context("the file's name gives no model name")?,
        dataset: name.parse().context("the file's name gives no dataset name")?,
        args,
        train,
        live,
        window,
    })
}

/// The file's name as a name: lower case, everything else than letters and digits a hyphen.
fn slug(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    let slug: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
    slug.trim_matches('-').to_owned()
}

/// Windows that a person would choose, the shortest in which the training rows' own pace gives at least 500 rows. Data of more than two
/// months is looked at by the week or longer, so that a weekend is not taken for drift.
fn window_length(train: &Table, time: &str) -> Result<Duration> {
    const HOUR: u64 = 3600;
    const CHOICES: [u64; 6] = [HOUR, 6 * HOUR, 24 * HOUR, 7 * 24 * HOUR, 28 * 24 * HOUR, 91 * 24 * HOUR];
    const ENOUGH: f64 = 500.0;
    let (first, last) = train.time_range(time)?.context("the training rows have no time")?;
    let seconds = (last - first).as_seconds_f64().max(1.0);
    let pace = train.rows() as f64 / seconds;
    let shortest = if seconds > 60.0 * 24.0 * HOUR as f64 { 7 * 24 * HOUR } else { HOUR };
    let fits = |&&length: &&u64| length >= shortest && pace * length as f64 >= ENOUGH;
    Ok(Duration::from_secs(CHOICES.iter().find(fits).copied().unwrap_or(91 * 24 * HOUR)))
}

/// Makes the output folder, without what an earlier demonstration left in it.
fn fresh_folder(out: &Path) -> Result<()> {
    for name in ["platform", "report.html", "summary.json"] {
        let old = out.join(name);
        if old.is_dir() {
            std::fs::remove_dir_all(&old).with_context(|| format!("cannot empty {}", old.display()))?;
        } else if old.exists() {
            std::fs::remove_file(&old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
    }
    std::fs::create_dir_all(out).with_context(|| format!("cannot make {}", out.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_file_name_becomes_a_name() {
        for (path, name) in [("x/flights_2013.parquet", "flights-2013"), ("Bike Hourly (1).csv", "bike-hourly--1")] {
            assert_eq!(slug(Path::new(path)), name);
            name.parse::<ModelName>().expect("valid");
        }
    }
}
