//! `rekindle runs`: list, show, compare.

use std::collections::BTreeSet;

use anyhow::Result;
use clap::Subcommand;
use rekindle_proto::registry::{GetMetricHistoryRequest, GetRunRequest, ListRunsRequest, Run};

use super::{
    Global,
    connection::Connection,
    output::{self, Fields, Format, main_numbers, number, short, when, word},
    page::Limit,
};

/// What to do with runs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List runs, newest first
    List {
        /// Only those of this experiment
        #[arg(long, value_name = "NAME", default_value = "", hide_default_value = true)]
        experiment: String,
        #[command(flatten)]
        limit: Limit,
    },
    /// Show one run with its params, metrics and outputs
    Show {
        /// The run's id
        id: String,
        /// Also show every step of this metric
        #[arg(long, value_name = "METRIC")]
        history: Option<String>,
    },
    /// Compare runs side by side: metrics, and the params in which they differ
    #[command(after_help = "Example:\n  rekindle runs compare 0199a… 0199b…")]
    Compare {
        /// The runs' ids
        #[arg(required = true, num_args = 2..)]
        ids: Vec<String>,
    },
}

pub(crate) async fn run(command: Command, global: &Global) -> Result<()> {
    let (connection, format) = (global.connect()?, global.format());
    match command {
        Command::List { experiment, limit } => list(&connection, experiment, limit, format).await,
        Command::Show { id, history } => show(&connection, id, history, format).await,
        Command::Compare { ids } => compare(&connection, ids, format).await,
    }
}

async fn get(connection: &Connection, id: String) -> Result<Run> {
    Ok(connection.runs().get_run(GetRunRequest { id }).await?.into_inner())
}

async fn list(connection: &Connection, experiment: String, limit: Limit, format: Format) -> Result<()> {
    let mut client = connection.runs();
    let runs = limit
        .fetch(async |page_size, page_token| {
            let request = ListRunsRequest { experiment: experiment.clone(), page_size, page_token };
            let page = client.list_runs(request).await?.into_inner();
            Ok((page.runs, page.next_page_token))
        })
        .await?;
    format.list(&runs, &["run", "experiment", "status", "created", "metrics", "made"], |run| {
        vec![run.id.clone(), run.experiment.clone(), status(run), when(run.created_at), main(run), made(run)]
    });
    Ok(())
}

/// A run's status in one word.
pub(crate) fn status(run: &Run) -> String {
    word(run.status().as_str_name(), "RUN_STATUS_")
}

/// The last value of each metric on one line.
pub(crate) fn metrics(run: &Run) -> String {
    let told: Vec<_> = run.metrics.iter().map(|metric| format!("{} {}", metric.name, number(metric.value))).collect();
    told.join(", ")
}

fn main(run: &Run) -> String {
    main_numbers(run.metrics.iter().map(|metric| (&metric.name, &metric.value)))
}

/// What a run has made, on one line.
fn made(run: &Run) -> String {
    let mut made: Vec<_> = run.outputs.iter().map(|(name, value)| format!("{name} {}", short(value))).collect();
    made.sort();
    made.join(", ")
}

/// What there is to say of a run.
pub(crate) fn fields(run: &Run) -> Fields {
    let mut params: Vec<_> = run.params.iter().map(|(name, value)| format!("{name} = {value}")).collect();
    params.sort();
    vec![
        ("run", run.id.clone()),
        ("experiment", run.experiment.clone()),
        ("status", status(run)),
        ("error", run.error.clone()),
        ("created", when(run.created_at)),
        ("started", when(run.started_at)),
        ("ended", when(run.ended_at)),
        ("code", run.code_revision.clone()),
        ("seed", run.seed.to_string()),
        ("datasets", run.dataset_digests.join("\n")),
        ("params", params.join("\n")),
        ("metrics", metrics(run).replace(", ", "\n")),
        ("made", made(run)),
    ]
}

async fn show(connection: &Connection, id: String, history: Option<String>, format: Format) -> Result<()> {
    let Some(name) = history else {
        format.message(&get(connection, id).await?, fields);
        return Ok(());
    };
    let request = GetMetricHistoryRequest { run_id: id, name };
    let history = connection.runs().get_metric_history(request).await?.into_inner().metrics;
    format.list(&history, &["step", "value", "time"], |point| {
        vec![point.step.to_string(), number(point.value), when(point.time)]
    });
    Ok(())
}

async fn compare(connection: &Connection, ids: Vec<String>, format: Format) -> Result<()> {
    let mut runs = Vec::with_capacity(ids.len());
    for id in ids {
        runs.push(get(connection, id).await?);
    }
    if format == Format::Json {
        format.list(&runs, &[], |_| Vec::new());
        return Ok(());
    }
    let mut lines = vec![
        line("run", &runs, |run| run.id.clone()),
        line("experiment", &runs, |run| run.experiment.clone()),
        line("status", &runs, status),
    ];
    let metrics: BTreeSet<&String> =
        runs.iter().flat_map(|run| run.metrics.iter().map(|metric| &metric.name)).collect();
    for name in metrics {
        lines.push(line(name, &runs, |run| {
            run.metrics.iter().find(|metric| &metric.name == name).map(|m| number(m.value)).unwrap_or_default()
        }));
    }
    let params: BTreeSet<&String> = runs.iter().flat_map(|run| run.params.keys()).collect();
    for name in params {
        let values = line(name, &runs, |run| run.params.get(name).cloned().unwrap_or_default());
        if values[1..].iter().any(|value| *value != values[1]) {
            lines.push(values);
        }
    }
    output::print_lines(lines);
    Ok(())
}

fn line(name: &str, runs: &[Run], value: impl Fn(&Run) -> String) -> Vec<String> {
    std::iter::once(name.to_owned()).chain(runs.iter().map(value)).collect()
}
