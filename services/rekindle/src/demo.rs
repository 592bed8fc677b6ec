//! `rekindle demo`: drift detection and retraining on a data file. It starts a platform, trains a model on the early rows, replays the later
//! rows as live traffic with delayed outcomes while the platform detects drift, retrains and redeploys, and writes a report.
//!
//! The demonstration makes only calls that a user can make.

mod events;
mod platform;
mod report;
mod results;
mod scoring;
mod setup;
mod summary;
mod timeline;

use std::{
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, Utc};
use rekindle_dataset::Table;
use rekindle_domain::{DatasetName, Gate, ModelName, WatchSettings};

use self::{platform::Child, timeline::Timeline};
use crate::{
    client::{
        platform::Platform,
        policy::trigger::{On, triggers},
        replay::{self, Replay},
    },
    reading::ReadArgs,
};

/// The arguments of `rekindle demo`.
#[derive(Debug, Clone, clap::Args)]
pub(crate) struct Args {
    /// Parquet or CSV file
    #[arg(long, value_name = "FILE")]
    pub data: PathBuf,
    /// Column to predict: classes or numbers
    #[arg(long, value_name = "COL")]
    pub target: String,
    /// Timestamp column
    #[arg(long, value_name = "COL")]
    pub time: String,
    /// Train the first model on the rows before this time (a date or RFC 3339, UTC) and replay the later ones
    #[arg(long, value_name = "TIME", value_parser = crate::client::parse::time)]
    pub train_until: DateTime<Utc>,
    /// Columns to exclude from the features: identifiers, and columns that leak the target
    #[arg(long, value_name = "COL,COL", value_delimiter = ',')]
    pub ignore: Vec<String>,
    /// Delay of a label after its row, in event time
    #[arg(long, value_name = "D", default_value = "1d", value_parser = crate::client::parse::span)]
    pub label_delay: Duration,
    /// Number of inference replicas
    #[arg(long, value_name = "N", default_value_t = 3, value_parser = clap::value_parser!(u16).range(1..=64))]
    pub replicas: u16,
    /// Folder for report.html, summary.json and the state of the platform; earlier results in it are removed
    #[arg(long, value_name = "DIR", default_value = "rekindle-demo")]
    pub out: PathBuf,
    /// Duration of the replay, in wall time
    #[arg(long, value_name = "D", default_value = "3m", value_parser = crate::client::parse::span)]
    pub replay_for: Duration,
    /// What starts a retraining
    #[arg(long, value_name = "TRIGGER,..", value_delimiter = ',', default_value = "drift,degradation,window")]
    pub on: Vec<On>,
    /// One-sided confidence that the gate asks for, above 0.5 and below 1
    #[arg(long, value_name = "C", default_value_t = Gate::default().confidence)]
    pub confidence: f64,
    /// Seed of all trainings
    #[arg(long, default_value_t = 0, value_parser = crate::client::parse::whole::<u64>)]
    pub seed: u64,
    #[command(flatten)]
    pub reading: ReadArgs,
}

/// Quarters of the longest window: ten years, which monitoring accepts at most.
const MAX_QUARTERS: f64 = 40.0;

/// The data and the settings of a demonstration.
#[derive(Debug)]
pub(crate) struct Plan {
    pub args: Args,
    pub model: ModelName,
    pub dataset: DatasetName,
    pub train: Table,
    pub live: Table,
    /// Length of the monitoring windows.
    pub window: Duration,
}

/// Runs the demonstration. Failed requests are a result, not an error.
pub(crate) async fn run(args: Args) -> Result<()> {
    let timeline = Arc::new(Timeline::start());
    let plan = plan(args)?;
    timeline.add(format!(
        "{}: {} training rows before {}, {} rows to replay",
        plan.args.data.display(),
        plan.train.rows(),
        plan.args.train_until.format("%Y-%m-%d"),
        plan.live.rows()
    ));
    empty_folder(&plan.args.out)?;
    let child = Child::start(&plan.args.out.join("platform"), plan.args.replicas).await?;
    timeline.add(format!("platform ready: 5 services, {} replicas, one process", plan.args.replicas));

    let platform = child.platform()?;
    let first = setup::first_model(&plan, &platform, &timeline).await?;
    let subscription = events::subscribe(platform.nats(), timeline.clone()).await?;
    let replay = replay(&plan, &platform, &timeline).await?;
    timeline.add(format!(
        "replay done: {} requests in {:.0} s, {} failed, {} outcomes reported",
        replay.requests, replay.seconds, replay.failures.count, replay.outcomes.accepted
    ));
    results::settle(&plan, &platform, &replay).await?;
    drop(subscription);
    let summary = results::write(&plan, &platform, &first, &replay, &timeline).await?;
    child.stop().await?;
    println!("{}", serde_json::to_string(&summary)?);
    Ok(())
}

async fn replay(plan: &Plan, platform: &Platform, timeline: &Timeline) -> Result<Replay> {
    let rate = plan.live.rows() as f64 / plan.args.replay_for.as_secs_f64();
    timeline.add(format!("replaying {} rows at {rate:.0} requests per second", plan.live.rows()));
    let options = replay::Options {
        model: plan.model.clone(),
        table: plan.live.clone(),
        time_column: Some(plan.args.time.clone()),
        replicas: platform.replicas().await?,
        rate,
        outcomes: Some(replay::Outcomes {
            target: plan.args.target.clone(),
            delay: plan.args.label_delay,
            monitor: platform.monitor(),
        }),
    };
    let observe = |progress: replay::Progress| {
        if let Some(time) = progress.event_time {
            timeline.set_event_time(time.format("%Y-%m-%d").to_string());
        }
    };
    let replay = replay::replay(options, observe).await?;
    if let Some((_, error)) = replay.failures.first.first() {
        timeline.add(format!("first failed request: {error}"));
    }
    Ok(replay)
}

fn plan(args: Args) -> Result<Plan> {
    triggers(&args.on)?;
    Gate { confidence: args.confidence, ..Gate::default() }.validate().context("--confidence")?;
    let reading = args.reading.options(Some(&args.time))?;
    let table = crate::client::file::read(&args.data, &reading)?.sort_by_time(&args.time).context("--time")?;
    table.column(&args.target).context("--target")?;
    for name in args.ignore.iter().filter(|name| !name.is_empty()) {
        table.column(name).context("--ignore")?;
    }
    let train = table.slice_time(&args.time, None, Some(args.train_until))?;
    let live = table.slice_time(&args.time, Some(args.train_until), None)?;
    ensure!(train.rows() > 0, "no row of {} is before --train-until {}", args.data.display(), args.train_until);
    ensure!(live.rows() > 0, "no row of {} is at or after --train-until {}", args.data.display(), args.train_until);
    let name = slug(&args.data);
    let window = window_length(&train, &args.time)?;
    Ok(Plan {
        model: name.parse().context("the file name gives no model name")?,
        dataset: name.parse().context("the file name gives no dataset name")?,
        args,
        train,
        live,
        window,
    })
}

/// The file name as a model name: lower case, with hyphens in place of other characters than letters and digits.
fn slug(path: &Path) -> String {
    let stem = path.file_stem().unwrap_or_default().to_string_lossy().to_lowercase();
    // The name of a compressed file has two extensions.
    let stem = stem.trim_end_matches(".csv");
    let slug: String = stem.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).take(40).collect();
    slug.trim_matches('-').to_owned()
}

/// The length of the monitoring windows, by the rate of the training rows.
fn window_length(train: &Table, time: &str) -> Result<Duration> {
    let (first, last) = train.time_range(time)?.context("no training row has a time")?;
    Ok(window_of(train.rows(), (last - first).as_seconds_f64()))
}

/// The shortest usual length that contains at least 500 rows if `rows` rows take `seconds`. Data of more than two months has windows of at
/// least a week, so that weekends do not count as drift. Rows that are rarer have windows of as many quarters as hold the rows that a
/// verdict takes, and some more: of whole years if these are more than two, so that seasons do not count as drift.
fn window_of(rows: usize, seconds: f64) -> Duration {
    const HOUR: u64 = 3600;
    const QUARTER: u64 = 91 * 24 * HOUR;
    const CHOICES: [u64; 6] = [HOUR, 6 * HOUR, 24 * HOUR, 7 * 24 * HOUR, 28 * 24 * HOUR, QUARTER];
    const ENOUGH: f64 = 500.0;
    let seconds = seconds.max(1.0);
    let pace = rows as f64 / seconds;
    let shortest = if seconds > 60.0 * 24.0 * HOUR as f64 { 7 * 24 * HOUR } else { HOUR };
    let fits = |&&length: &&u64| length >= shortest && pace * length as f64 >= ENOUGH;
    if let Some(&length) = CHOICES.iter().find(fits) {
        return Duration::from_secs(length);
    }
    let least = 1.25 * WatchSettings::default().min_rows as f64;
    let quarters = (least / (pace * QUARTER as f64)).ceil().clamp(1.0, MAX_QUARTERS);
    let quarters = if quarters > 2.0 { (quarters as u64).next_multiple_of(4) } else { quarters as u64 };
    Duration::from_secs(quarters * QUARTER)
}

/// Creates the output folder and removes the results of an earlier demonstration.
fn empty_folder(out: &Path) -> Result<()> {
    for name in ["platform", "report.html", "summary.json"] {
        let old = out.join(name);
        if old.is_dir() {
            std::fs::remove_dir_all(&old).with_context(|| format!("cannot remove {}", old.display()))?;
        } else if old.exists() {
            std::fs::remove_file(&old).with_context(|| format!("cannot remove {}", old.display()))?;
        }
    }
    std::fs::create_dir_all(out).with_context(|| format!("cannot create {}", out.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn windows_hold_the_rows_that_a_verdict_takes() {
        const DAY: u64 = 86_400;
        let days = |rows: usize, days: u64| window_of(rows, (days * DAY) as f64).as_secs() / DAY;
        assert_eq!((days(221_950, 365), days(17_000, 730)), (7, 28));
        assert_eq!((days(12_000, 12_000), days(24_000, 12_000)), (364, 182), "one row a day, and two");
        assert_eq!(days(600, 6_000), 2548, "a row in ten days");
        assert_eq!(days(10, 36_500), 3640);
        assert_eq!(window_of(100_000, 86_400.0), Duration::from_secs(3600));
    }

    #[test]
    fn a_file_name_becomes_a_model_name() {
        for (path, name) in [
            ("x/flights_2013.parquet", "flights-2013"),
            ("Bike Hourly (1).csv", "bike-hourly--1"),
            ("sales.csv.gz", "sales"),
        ] {
            assert_eq!(slug(Path::new(path)), name);
            name.parse::<ModelName>().expect("valid");
        }
    }
}
