//! `rekindle report`.

use std::path::PathBuf;

use anyhow::{Context as _, Result, ensure};
use chrono::{DateTime, Utc};
use rekindle_client::Registry;
use rekindle_domain::{Alias, ModelName};
use serde_json::json;

use super::{
    Global, alerts,
    output::{self, Format, optional, when},
    page::Limit,
    parse,
};
use crate::model_page::{self, Figures, Material, format::number, story};

/// The arguments of `rekindle report`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The span selects windows by the event time at which they begin, and alerts, workflows and moves of aliases by the time at which they happened. The
page is one file that fetches nothing.

Examples:
  rekindle report flight-delay
  rekindle report flight-delay --html report.html
  rekindle report flight-delay --html may.html --from 2026-05-01 --until 2026-06-01")]
pub(crate) struct Args {
    /// Model name
    model: ModelName,
    /// Write the page with charts, tables and reasons to this file
    #[arg(long, value_name = "FILE")]
    html: Option<PathBuf>,
    /// Start of the span (a date or RFC 3339, UTC)
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    from: Option<DateTime<Utc>>,
    /// End of the span, exclusive
    #[arg(long, value_name = "TIME", value_parser = parse::time)]
    until: Option<DateTime<Utc>>,
}

impl Args {
    fn contains(&self, time: DateTime<Utc>) -> bool {
        self.from.is_none_or(|from| from <= time) && self.until.is_none_or(|until| time < until)
    }

    /// The span as a sentence.
    fn span(&self) -> String {
        match (self.from, self.until) {
            (None, None) => "All windows, alerts, workflows and moves of aliases.".to_owned(),
            (Some(from), None) => format!("From {} on, UTC.", when(from)),
            (None, Some(until)) => format!("Until {}, UTC.", when(until)),
            (Some(from), Some(until)) => format!("From {} until {}, UTC.", when(from), when(until)),
        }
    }
}

pub(crate) async fn run(args: Args, global: &Global) -> Result<()> {
    if let (Some(from), Some(until)) = (args.from, args.until) {
        ensure!(from < until, "--until {until} is not after --from {from}");
    }
    let platform = global.platform()?;
    let (registry, monitor, orchestrator) = (platform.registry(), platform.monitor(), platform.orchestrator());
    // A model that does not exist has no reports either.
    let model = registry.model(&args.model).await?;
    let mut versions = Limit::NONE.fetch(async |page| registry.model_versions(&args.model, page).await).await?;
    versions.sort_by_key(|version| version.version);
    let mut reports = Limit::NONE.fetch(async |page| monitor.reports(&args.model, page).await).await?;
    reports.retain(|report| report.window.slice.is_empty() && args.contains(report.window.from));
    let mut workflows = Limit::NONE.fetch(async |page| orchestrator.workflows(Some(&args.model), page).await).await?;
    workflows.retain(|workflow| args.contains(workflow.queued_at));
    workflows.reverse();
    let mut alerts = alerts::oldest_first(&platform, &args.model).await?;
    alerts.retain(|alert| args.contains(alert.opened_at));
    let mut moves = moves(&registry, &args.model).await?;
    moves.retain(|moved| args.contains(moved.moved_at));
    let material = Material {
        model: if model.title.is_empty() { args.model.as_str() } else { &model.title },
        reports: &reports,
        alerts: &alerts,
        workflows: &workflows,
        versions: &versions,
        moves: &moves,
    };
    let figures = Figures::of(&material);
    if let Some(file) = &args.html {
        let page = model_page::render(&material, &figures, &args.span(), Utc::now())?;
        std::fs::write(file, page).with_context(|| format!("cannot write {}", file.display()))?;
    }
    print(&args, &material, &figures, global.format())
}

fn print(args: &Args, material: &Material<'_>, figures: &Figures, format: Format) -> Result<()> {
    if format == Format::Json {
        let (mut value, path) = (serde_json::to_value(figures)?, args.html.as_ref());
        value["model"] = json!(args.model);
        value["html"] = json!(path.map(|path| path.display().to_string()));
        output::print_json(&value);
        return Ok(());
    }
    story::of(material, figures).iter().for_each(|sentence| output::emit(sentence));
    output::print_fields(&vec![
        ("champion", optional(figures.champion)),
        ("windows drifted", format!("{} of {}", figures.drifted, figures.windows)),
        ("windows degraded", format!("{} of {} with outcomes", figures.degraded, figures.labelled)),
        (figures.metric, figures.score.map(|score| number(Some(score))).unwrap_or_default()),
        ("open alerts", figures.open_alerts.to_string()),
        ("retrainings", format!("{} of {} deployed a better model", figures.succeeded, figures.workflows)),
        ("page", args.html.as_ref().map(|path| path.display().to_string()).unwrap_or_default()),
    ]);
    Ok(())
}

/// The moves of all aliases of a model, oldest first.
pub(crate) async fn moves(registry: &Registry, model: &ModelName) -> Result<Vec<Alias>> {
    let mut all = Vec::new();
    for alias in registry.model(model).await?.aliases {
        all.extend(Limit::NONE.fetch(async |page| registry.alias_history(model, &alias.alias, page).await).await?);
    }
    all.sort_by(|a, b| (a.moved_at, a.alias.as_str(), a.revision).cmp(&(b.moved_at, b.alias.as_str(), b.revision)));
    Ok(all)
}
