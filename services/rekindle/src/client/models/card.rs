//! `rekindle models card` and `rekindle models evaluation`.

use std::path::PathBuf;

use anyhow::{Context as _, Result, bail};
use rekindle_bundle::{Backend, Manifest, manifest::CARD};
use rekindle_client::{Registry, registry::UploadPurpose, wire::evaluation};
use rekindle_domain::{
    Digest, ModelName, Task,
    evaluation::Evaluation,
    model_version::{ModelVersion, Update, VersionSelector, VersionStatus},
};
use serde_json::{Value, json};

use crate::client::{
    output::{Fields, number, numbers, when},
    page::Limit,
    parse,
    upload::download,
};

/// The tag with the digest of a card that has taken the place of the bundle's.
const TAG: &str = "rekindle.card";
/// The evidence of a review with the digest of the gate's verdict.
const VERDICT: &str = "verdict";

/// The arguments of `rekindle models card`.
#[derive(Debug, clap::Args)]
#[command(after_help = "\
The card of a version is Markdown with a YAML head, written when the version was made. Another one can be set in its place; the card of the
bundle is kept.

Examples:
  rekindle models card flight-delay
  rekindle models card flight-delay 3 >card.md
  rekindle models card flight-delay 3 --set card.md")]
pub(crate) struct Card {
    /// Model name
    pub(super) model: ModelName,
    /// Version number, or an alias such as champion; the latest version by default
    #[arg(value_parser = parse::version)]
    pub(super) version: Option<VersionSelector>,
    /// File with another card, in Markdown
    #[arg(long, value_name = "FILE")]
    pub(super) set: Option<PathBuf>,
    /// Show the card of the bundle even if another one was set
    #[arg(long, conflicts_with = "set")]
    pub(super) original: bool,
}

/// The card of a version, after another one was set if a file is given.
pub(super) async fn card(given: Card, registry: &Registry) -> Result<String> {
    let selector = given.version.unwrap_or(VersionSelector::Latest);
    let mut version = registry.model_version(&given.model, &selector).await?;
    if let Some(file) = &given.set {
        let text = std::fs::read(file).with_context(|| format!("cannot read {}", file.display()))?;
        std::str::from_utf8(&text).with_context(|| format!("{} is not UTF-8", file.display()))?;
        let (digest, _) = registry.upload_bytes(UploadPurpose::Blob, text.into()).await?;
        let tags = [(TAG.to_owned(), digest.to_string())].into();
        let update = Update { tags, ..Update::default() };
        version = registry.update_version(&given.model, version.version, &update).await?;
    }
    if let Some(digest) = version.tags.get(TAG).filter(|_| !given.original) {
        let digest = digest.parse().with_context(|| format!("tag {TAG} of the version"))?;
        return text(registry, digest).await;
    }
    if version.status == VersionStatus::NotServable {
        bail!("version {} of {} has no card: set one with --set FILE", version.version, version.model);
    }
    let manifest = Manifest::from_bytes(&download(registry.clone(), version.bundle).await?)?;
    let card = manifest.blobs.get(CARD).context("the bundle has no card")?.digest;
    Ok(head(&version, &manifest) + &text(registry, card).await?)
}

async fn text(registry: &Registry, digest: Digest) -> Result<String> {
    String::from_utf8(download(registry.clone(), digest).await?.to_vec()).context("the card is not UTF-8")
}

/// The metadata of a card, with the keys that model hubs read. JSON is YAML, so values are written as JSON.
fn head(version: &ModelVersion, manifest: &Manifest) -> String {
    let library = match manifest.backend {
        Backend::Network => "burn",
        Backend::Onnx => "onnx",
    };
    let task = match manifest.task {
        Task::Regression => "tabular-regression",
        Task::Binary | Task::Multiclass => "tabular-classification",
    };
    let metrics: Vec<Value> =
        version.metrics.iter().map(|(name, value)| json!({ "type": name, "value": value })).collect();
    let results = json!([{ "task": { "type": task }, "metrics": metrics }]);
    let of_registry = json!({
        "model": version.model,
        "version": version.version,
        "bundle": version.bundle,
        "run": version.run,
        "datasets": manifest.provenance.dataset_digests,
        "code_revision": manifest.provenance.code_revision,
        "author": version.author,
        "created": version.created_at,
        "approval": version.review.approval.name(),
        "aliases": version.aliases,
        "tags": version.tags,
        "description": version.description,
    });
    let lines = [
        ("library_name", json!(library)),
        ("pipeline_tag", json!(task)),
        ("model-index", json!([{ "name": format!("{}/{}", version.model, version.version), "results": results }])),
        ("rekindle", of_registry),
    ];
    let lines: String = lines.iter().map(|(key, value)| format!("{key}: {value}\n")).collect();
    format!("---\n{lines}---\n\n")
}

/// The verdict of the gate on a version: that of its last review which has one.
pub(super) async fn verdict(registry: &Registry, model: &ModelName, number: u32) -> Result<Evaluation> {
    let reviews = Limit::NONE.fetch(async |page| registry.reviews(model, number, page).await).await?;
    let digest = reviews.iter().find_map(|review| review.evidence.get(VERDICT)).with_context(|| {
        format!("version {number} of {model} was not evaluated by the gate of a workflow: its metrics are shown by `models show`")
    })?;
    let digest = digest.parse().context("the verdict of the review is no digest")?;
    Ok(evaluation::from_json(&download(registry.clone(), digest).await?)?)
}

/// An evaluation as a table.
pub(super) fn fields(evaluation: &Evaluation) -> Fields {
    let verdict = if evaluation.pass { "passed" } else { "declined" };
    let span = match (evaluation.from, evaluation.until) {
        (Some(from), Some(until)) => format!(" from {} to {}", when(from), when(until)),
        _ => String::new(),
    };
    let mut fields = vec![
        ("verdict", format!("{verdict}: {}", evaluation.reason)),
        ("rows", format!("{}{span}", evaluation.rows)),
        ("champion", format!("{}: {}", evaluation.champion, numbers(&evaluation.champion_metrics))),
        ("challenger", format!("{}: {}", evaluation.challenger, numbers(&evaluation.challenger_metrics))),
        (
            "improvement",
            format!(
                "{} of the loss per row, at least {} with {} % confidence",
                number(evaluation.improvement),
                number(evaluation.improvement_lower_bound),
                number(evaluation.gate.confidence * 100.0)
            ),
        ),
    ];
    for slice in &evaluation.slices {
        let improvement = format!("{}, at most {}", number(slice.improvement), number(slice.improvement_upper_bound));
        fields.push((
            "slice",
            format!("{}={}: {} rows, improvement {improvement}", slice.column, slice.value, slice.rows),
        ));
    }
    for check in &evaluation.checks {
        let passed = if check.pass { "passed" } else { "failed" };
        fields.push(("check", format!("{}: {passed}: {}", check.check, check.explanation)));
    }
    fields
}
