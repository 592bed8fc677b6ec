//! `rekindle replay`.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context as _, Result};
use humantime::format_duration;
use rekindle_dataset::Table;
use rekindle_domain::{ModelName, Watch};
use serde_json::json;

use super::{
    Global, capture, file,
    output::{self, number},
    parse,
    replay::{self, Options, Outcomes, Progress, Replay},
};
use crate::reading::ReadArgs;

/// A replay.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
Each row is one request, sent once, in time order. Rows that fail or cannot be sent are counted, the first of them are named, and none
is retried. With --target, the label of each row
is reported as its outcome --label-delay later, in event time. Exits with code 3 if a request failed or an outcome was refused.

Examples:
  rekindle replay flights.parquet --model flight-delay --time time_hour --rate 500
  rekindle replay flights.csv --model flight-delay --time time_hour --speed 86400 --target late --label-delay 1d")]
pub(crate) struct Args {
    /// CSV or Parquet file
    file: PathBuf,
    /// Model name
    #[arg(long, value_name = "NAME")]
    model: ModelName,
    /// Timestamp column that orders the rows
    #[arg(long, value_name = "COL")]
    time: String,
    /// Rows per second
    #[arg(long, value_name = "N", value_parser = parse::positive, default_value_t = 100.0, conflicts_with = "speed")]
    rate: f64,
    /// Seconds of event time per second of wall time, on average
    #[arg(long, value_name = "N", value_parser = parse::positive)]
    speed: Option<f64>,
    /// Column with the labels to report as outcomes
    #[arg(long, value_name = "COL")]
    target: Option<String>,
    /// Delay of a label after its row, in event time
    #[arg(long, value_name = "D", default_value = "0s", value_parser = parse::span)]
    label_delay: Duration,
    /// Replay only rows at or after this time
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    from: Option<chrono::DateTime<chrono::Utc>>,
    /// Replay only rows before this time
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    until: Option<chrono::DateTime<chrono::Utc>>,
    #[command(flatten)]
    reading: ReadArgs,
}

/// Replays a file. Returns whether every request was answered.
pub(crate) async fn run(args: Args, global: &Global) -> Result<bool> {
    let platform = global.platform()?;
    let (model, monitor) = (args.model.clone(), platform.monitor());
    // The notes are best effort: a replay needs the replicas alone.
    if args.target.is_some()
        && let Ok(watch) = monitor.watch(&model).await
        && let Some(warning) = waits_too_briefly(&watch, args.label_delay)
    {
        eprintln!("warning: {warning}");
    }
    let before = monitor.capture_status(&model).await.ok();
    let reading = args.reading.options(Some(&args.time))?;
    let replicas = platform.replicas().await?;
    let replica = replicas.first().context("no inference replica is known")?;
    let metadata = replica.model_metadata(model.as_str()).await?;
    let table = file::read_for(&metadata, &args.file, &reading)?.sort_by_time(&args.time).context("--time")?;
    let table = table.slice_time(&args.time, args.from, args.until)?;
    if let Some(target) = &args.target {
        table.column(target).context("--target")?;
    }
    let bar = output::bar(table.rows() as u64, "{msg} {bar:30} {pos}/{len} rows, {per_sec}, {eta} left");
    let outcomes = args.target.as_ref().map(|target| Outcomes {
        target: target.clone(),
        delay: args.label_delay,
        monitor: monitor.clone(),
    });
    let options = Options {
        rate: args.speed.map_or(Ok(args.rate), |speed| rate(&table, &args.time, speed))?,
        model: args.model,
        table,
        time_column: Some(args.time),
        replicas,
        outcomes,
    };
    let shown = bar.clone();
    let result = replay::replay(options, move |Progress { sent, event_time }| {
        shown.set_position(sent as u64);
        shown.set_message(output::when(event_time));
    })
    .await;
    bar.finish_and_clear();
    let result = result?;
    print(&result, global);
    if let Some(before) = before {
        let answered = result.answers.iter().flatten().count() as u64;
        if let Err(error) = capture::print_late(&monitor, &before, answered).await {
            tracing::debug!(%error, "no notes");
        }
    }
    result.failures.print();
    if let Some(reason) = &result.outcomes.first_refusal {
        eprintln!("{} outcomes refused, the first: {reason}", result.outcomes.refused);
    }
    Ok(result.failures.count == 0 && result.outcomes.refused == 0)
}

/// Whether windows are judged before the labels of their last rows are due.
fn waits_too_briefly(watch: &Watch, delay: Duration) -> Option<String> {
    let (model, wait) = (&watch.model, watch.settings.label_wait);
    (wait < delay).then(|| {
        let (wait, delay) = (format_duration(wait), format_duration(delay));
        format!(
            "labels follow their rows after {delay} (--label-delay), but the monitor waits {wait} for those of a window of {model}: later \
             ones do not count; to wait longer: rekindle policy set {model} --label-wait \"{delay}\""
        )
    })
}

/// Rows per second at which event time passes `speed` times as fast as wall time.
fn rate(table: &Table, time: &str, speed: f64) -> Result<f64> {
    let (first, last) = table.time_range(time)?.context("the file has no rows in that range")?;
    let seconds = (last - first).as_seconds_f64() / speed;
    Ok(table.rows() as f64 / seconds.max(1e-3))
}

fn print(result: &Replay, global: &Global) {
    let json = |result: &Replay| {
        json!({
            "requests": result.requests,
            "failed_requests": result.failures.count,
            "rows": result.rows,
            "outcomes": result.outcomes.accepted,
            "refused_outcomes": result.outcomes.refused,
            "seconds": result.seconds,
            "first_error": result.failures.first.first().map(|(_, reason)| reason),
        })
    };
    global.format().one(result, json, |result| {
        vec![
            ("requests", result.requests.to_string()),
            ("failed", result.failures.count.to_string()),
            ("outcomes", result.outcomes.accepted.to_string()),
            ("refused outcomes", result.outcomes.refused.to_string()),
            ("seconds", format!("{:.1}", result.seconds)),
            ("requests per second", number(result.requests as f64 / result.seconds.max(1e-9))),
        ]
    });
}

#[cfg(test)]
mod tests {
    use rekindle_domain::WatchSettings;

    use super::*;

    #[test]
    fn labels_that_come_after_the_wait_are_warned_of() {
        const DAY: Duration = Duration::from_secs(86_400);
        let settings = WatchSettings { label_wait: DAY, ..WatchSettings::default() };
        let watch = Watch { model: "tips".parse().expect("a name"), settings, revision: 0 };
        assert_eq!(waits_too_briefly(&watch, DAY), None);
        let warning = waits_too_briefly(&watch, 2 * DAY).expect("a day too short");
        assert!(warning.contains("after 2days (--label-delay), but the monitor waits 1day"), "{warning}");
        assert!(warning.ends_with("rekindle policy set tips --label-wait \"2days\""), "{warning}");
    }

    #[test]
    fn speed_is_an_average_over_the_file() {
        let csv = "t,x\n2013-01-01 00:00:00,1\n2013-01-01 00:30:00,2\n2013-01-01 01:00:00,3\n";
        let table = rekindle_dataset::read_csv(csv.as_bytes().to_vec().into()).expect("a table");
        let rate = rate(&table, "t", 360.0).expect("a rate");
        assert!((rate - 0.3).abs() < 1e-12, "three rows in ten seconds, not {rate}");
    }
}
