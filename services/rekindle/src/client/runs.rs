//! `rekindle runs`.

use std::collections::BTreeSet;

use anyhow::Result;
use clap::Subcommand;
use rekindle_client::{Registry, wire::run};
use rekindle_domain::{ExperimentName, IdPrefix, RunId, run::Run};

use super::{
    Global,
    output::{self, Fields, Format, main_numbers, number, short, when, words},
    page::Limit,
};

/// Commands for runs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List runs, newest first
    List {
        /// Only runs of this experiment
        #[arg(long, value_name = "NAME")]
        experiment: Option<ExperimentName>,
        #[command(flatten)]
        limit: Limit,
    },
    /// Show a run with its params, metrics and outputs
    Show {
        /// Run id, or its first digits
        id: IdPrefix,
        /// Show every step of this metric instead
        #[arg(long, value_name = "METRIC")]
        history: Option<String>,
    },
    /// Compare runs side by side: all metrics, and the params that differ
    #[command(after_help = "Example:\n  rekindle runs compare 0199a7c2 0199b1d4")]
    Compare {
        /// Run ids, or their first digits
        #[arg(required = true, num_args = 2..)]
        ids: Vec<IdPrefix>,
    },
}

pub(crate) async fn run(command: Command, global: &Global) -> Result<()> {
    let (registry, format) = (global.platform()?.registry(), global.format());
    match command {
        Command::List { experiment, limit } => {
            let runs = limit.fetch(async |page| registry.runs(experiment.as_ref(), page).await).await?;
            list(&runs, format);
        }
        Command::Show { id, history: None } => format.one(&registry.find_run(&id).await?, run::to_json, fields),
        Command::Show { id, history: Some(metric) } => {
            history(&registry, registry.find_run(&id).await?.id, &metric, format).await?;
        }
        Command::Compare { ids } => compare(&registry, ids, format).await?,
    }
    Ok(())
}

fn list(runs: &[Run], format: Format) {
    format.list(runs, run::to_json, &["run", "experiment", "status", "created", "metrics", "outputs"], |run| {
        let metrics = main_numbers(run.metrics.iter().map(|metric| (&metric.name, &metric.value)));
        let (id, experiment) = (run.id.to_string(), run.experiment.to_string());
        vec![id, experiment, status(run), when(run.created_at), metrics, outputs(run)]
    });
}

/// The status in lower case.
pub(crate) fn status(run: &Run) -> String {
    words(run.status.name())
}

/// The last value of each metric.
pub(crate) fn metrics(run: &Run) -> Vec<String> {
    run.metrics.iter().map(|metric| format!("{} {}", metric.name, number(metric.value))).collect()
}

fn outputs(run: &Run) -> String {
    run.outputs.iter().map(|(name, value)| format!("{name} {}", short(value))).collect::<Vec<_>>().join(", ")
}

/// The fields shown of a run.
pub(crate) fn fields(run: &Run) -> Fields {
    let params = run.params.iter().map(|(name, value)| format!("{name} = {value}"));
    let datasets = run.dataset_digests.iter().map(ToString::to_string);
    vec![
        ("run", run.id.to_string()),
        ("experiment", run.experiment.to_string()),
        ("status", status(run)),
        ("error", run.error.clone()),
        ("created", when(run.created_at)),
        ("started", when(run.started_at)),
        ("ended", when(run.ended_at)),
        ("code", run.code_revision.clone()),
        ("seed", run.seed.to_string()),
        ("datasets", datasets.collect::<Vec<_>>().join("\n")),
        ("params", params.collect::<Vec<_>>().join("\n")),
        ("metrics", metrics(run).join("\n")),
        ("outputs", outputs(run)),
    ]
}

async fn history(registry: &Registry, id: RunId, metric: &str, format: Format) -> Result<()> {
    let points = Limit::NONE.fetch(async |page| registry.metric_history(id, metric, page).await).await?;
    format.list(&points, run::metric_to_json, &["step", "value", "time"], |point| {
        vec![point.step.to_string(), number(point.value), when(point.time)]
    });
    Ok(())
}

async fn compare(registry: &Registry, ids: Vec<IdPrefix>, format: Format) -> Result<()> {
    let mut runs = Vec::with_capacity(ids.len());
    for id in &ids {
        runs.push(registry.find_run(id).await?);
    }
    match format {
        Format::Json => output::print_json(&runs.iter().map(run::to_json).collect()),
        Format::Table => output::print_lines(comparison(&runs)),
    }
    Ok(())
}

/// A line per field, a column per run.
fn comparison(runs: &[Run]) -> Vec<Vec<String>> {
    let mut lines = vec![
        line("run", runs, |run| run.id.to_string()),
        line("experiment", runs, |run| run.experiment.to_string()),
        line("status", runs, status),
    ];
    let metrics: BTreeSet<&String> =
        runs.iter().flat_map(|run| run.metrics.iter().map(|metric| &metric.name)).collect();
    for name in metrics {
        lines.push(line(name, runs, |run| {
            run.metrics.iter().find(|metric| &metric.name == name).map(|m| number(m.value)).unwrap_or_default()
        }));
    }
    let params: BTreeSet<&String> = runs.iter().flat_map(|run| run.params.keys()).collect();
    for name in params {
        let values = line(name, runs, |run| run.params.get(name).cloned().unwrap_or_default());
        if values[1..].iter().any(|value| *value != values[1]) {
            lines.push(values);
        }
    }
    lines
}

fn line(name: &str, runs: &[Run], value: impl Fn(&Run) -> String) -> Vec<String> {
    std::iter::once(name.to_owned()).chain(runs.iter().map(value)).collect()
}
