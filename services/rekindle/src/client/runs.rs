//! `rekindle runs`.

use std::{collections::BTreeSet, time::Duration};

use anyhow::Result;
use clap::Subcommand;
use humantime::format_duration;
use rekindle_client::{Registry, registry::RunSearch, wire::run};
use rekindle_domain::{
    ExperimentName, IdPrefix, RunId,
    run::{Better, Run, RunProgress},
};

use super::{
    Global,
    output::{self, Fields, Format, main_numbers, number, short, when, words},
    page::Limit,
    parse,
    reason::Reason,
};

/// Commands for runs.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List runs, newest first
    #[command(after_help = LIST)]
    List {
        /// Only runs of this experiment
        #[arg(long, value_name = "NAME")]
        experiment: Option<ExperimentName>,
        /// Only runs that satisfy these conditions on metrics.NAME, params.NAME, tags.NAME and attributes
        #[arg(long, value_name = "CONDITIONS", default_value = "", hide_default_value = true)]
        filter: String,
        /// Order by these fields instead; with a minus, the greatest first
        #[arg(long, value_name = "[-]FIELD,..", value_delimiter = ',', allow_hyphen_values = true)]
        sort: Vec<String>,
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
        /// Show at most so many steps: the first and the last one, and the extremes of the ranges between
        #[arg(long, value_name = "N", requires = "history", value_parser = clap::value_parser!(u32).range(4..=10_000))]
        points: Option<u32>,
    },
    /// Set tags of a run
    #[command(after_help = "Example:\n  rekindle runs tag 0199a7c2 team=risk note='second attempt' --delete draft")]
    Tag {
        /// Run id, or its first digits
        id: IdPrefix,
        /// Tags to set
        #[arg(value_name = "NAME=VALUE", value_parser = parse::pair, required_unless_present = "delete")]
        tags: Vec<(String, String)>,
        /// Tags to delete
        #[arg(long, value_name = "NAME")]
        delete: Vec<String>,
    },
    /// Delete a run, unless it is in progress or made a model version; nothing of it is lost, and it can be restored
    Delete {
        /// Run id, or its first digits
        id: IdPrefix,
        #[command(flatten)]
        reason: Reason,
    },
    /// Restore a deleted run
    Restore {
        /// Run id
        id: IdPrefix,
        #[command(flatten)]
        reason: Reason,
    },
    /// End the run of a job as killed: a trainer that works on it stops before its next step
    #[command(after_help = "Example:\n  rekindle runs cancel 0199a7c2 --why 'wrong dataset'")]
    Cancel {
        /// Run id, or its first digits
        id: IdPrefix,
        #[command(flatten)]
        reason: Reason,
    },
    /// Compare runs side by side: all metrics, the best value of each with an asterisk, and the params that differ
    #[command(after_help = "Example:\n  rekindle runs compare 0199a7c2 0199b1d4")]
    Compare {
        /// Run ids, or their first digits
        #[arg(required = true, num_args = 2..)]
        ids: Vec<IdPrefix>,
    },
}

/// The output of a training that holds the recipe of the model, which a search may have chosen.
const RECIPE: &str = "recipe";

const LIST: &str = "\
Examples:
  rekindle runs list --sort -metrics.auc
  rekindle runs list --filter \"metrics.auc > 0.9 AND params.epochs IN ('20', '40') AND tags.team IS NOT NULL\"
  rekindle runs list --filter \"status = 'FAILED' AND created_at >= '2026-03-01T00:00:00Z'\" --sort created_at";

pub(crate) async fn run(command: Command, global: &Global) -> Result<()> {
    let (platform, format) = (global.platform()?, global.format());
    let registry = platform.registry();
    match command {
        Command::Delete { id, reason } => {
            let id = registry.find_run(&id).await?.id;
            let run = platform.called_by(reason.by).registry().delete_run(id, &reason.why).await?;
            format.one(&run, run::to_json, fields);
        }
        Command::Restore { id, reason } => {
            let id = registry.find_run(&id).await?.id;
            let run = platform.called_by(reason.by).registry().restore_run(id, &reason.why).await?;
            format.one(&run, run::to_json, fields);
        }
        Command::Cancel { id, reason } => {
            let id = registry.find_run(&id).await?.id;
            platform.called_by(reason.by).trainer().cancel(id, &reason.why).await?;
            format.one(&registry.run(id).await?, run::to_json, fields);
        }
        Command::List { experiment, filter, sort, limit } => {
            let search = RunSearch { experiment, filter, order_by: sort.iter().map(|field| order(field)).collect() };
            let runs = limit.fetch(async |page| registry.runs(&search, page).await).await?;
            list(&runs, format);
        }
        Command::Show { id, history: None, .. } => format.one(&registry.find_run(&id).await?, run::to_json, fields),
        Command::Show { id, history: Some(metric), points } => {
            history(&registry, registry.find_run(&id).await?.id, &metric, points, format).await?;
        }
        Command::Tag { id, tags, delete } => {
            let id = registry.find_run(&id).await?.id;
            let run = registry.set_run_tags(id, &tags.into_iter().collect(), &delete).await?;
            format.one(&run, run::to_json, fields);
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

/// How far a run is, e.g. `early stopping: 3 of at most 50 epochs, at most 40s left`.
pub(crate) fn progress(progress: &RunProgress) -> String {
    let RunProgress { stage, completed, total, unit, remaining } = progress;
    let stage = if stage.is_empty() { String::new() } else { format!("{stage}: ") };
    let left = remaining.map(|left| format!(", at most {} left", format_duration(Duration::from_secs(left.as_secs()))));
    format!("{stage}{completed} of at most {total} {unit}{}", left.unwrap_or_default())
}

/// The last value of each metric.
pub(crate) fn metrics(run: &Run) -> Vec<String> {
    run.metrics.iter().map(|metric| format!("{} {}", metric.name, number(metric.value))).collect()
}

fn outputs(run: &Run) -> String {
    // A recipe is not for a cell of a table.
    let shown = run.outputs.iter().filter(|(name, _)| *name != RECIPE);
    shown.map(|(name, value)| format!("{name} {}", short(value))).collect::<Vec<_>>().join(", ")
}

/// The fields shown of a run.
pub(crate) fn fields(run: &Run) -> Fields {
    let params = run.params.iter().map(|(name, value)| format!("{name} = {value}"));
    let tags = run.tags.iter().map(|(name, value)| format!("{name} = {value}"));
    let datasets = run.dataset_digests.iter().map(ToString::to_string);
    vec![
        ("run", run.id.to_string()),
        ("experiment", run.experiment.to_string()),
        ("part of", run.parent_id.map(|id| id.to_string()).unwrap_or_default()),
        ("status", status(run)),
        ("progress", run.progress.as_ref().map(progress).unwrap_or_default()),
        ("error", run.error.clone()),
        ("created", when(run.created_at)),
        ("started", when(run.started_at)),
        ("ended", when(run.ended_at)),
        ("deleted", when(run.deleted_at)),
        ("code", run.code_revision.clone()),
        ("seed", run.seed.to_string()),
        ("datasets", datasets.collect::<Vec<_>>().join("\n")),
        ("params", params.collect::<Vec<_>>().join("\n")),
        ("tags", tags.collect::<Vec<_>>().join("\n")),
        ("metrics", metrics(run).join("\n")),
        ("outputs", outputs(run)),
        ("recipe", run.outputs.get(RECIPE).cloned().unwrap_or_default()),
    ]
}

/// A field to order by as the registry has it: `-metrics.auc` is `metrics.auc DESC`.
fn order(field: &str) -> String {
    field.strip_prefix('-').map_or_else(|| field.to_owned(), |field| format!("{field} DESC"))
}

async fn history(registry: &Registry, id: RunId, metric: &str, at_most: Option<u32>, format: Format) -> Result<()> {
    let points = match at_most {
        Some(at_most) => registry.metric_sample(id, metric, at_most).await?,
        None => Limit::NONE.fetch(async |page| registry.metric_history(id, metric, page).await).await?,
    };
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
        let value = |run: &Run| run.metrics.iter().find(|metric| &metric.name == name).map(|metric| metric.value);
        let best = best(name, runs.iter().filter_map(value));
        lines.push(line(name, runs, |run| match value(run) {
            Some(value) if Some(value) == best => format!("{} *", number(value)),
            Some(value) => number(value),
            None => String::new(),
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

/// The best of the values of a metric: if there are several, and it is known which are better.
fn best(metric: &str, values: impl Iterator<Item = f64>) -> Option<f64> {
    let values: Vec<f64> = values.collect();
    let (first, rest) = values.split_first()?;
    if rest.iter().all(|value| value == first) {
        return None;
    }
    let best = match Better::of(metric)? {
        Better::Lower => f64::min,
        Better::Higher => f64::max,
    };
    values.into_iter().reduce(best)
}

fn line(name: &str, runs: &[Run], value: impl Fn(&Run) -> String) -> Vec<String> {
    std::iter::once(name.to_owned()).chain(runs.iter().map(value)).collect()
}
