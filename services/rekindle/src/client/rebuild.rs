//! `rekindle rebuild`: trains a model version again from its record, and compares the result with what was registered.

use std::collections::BTreeMap;

use anyhow::{Context as _, Result, bail, ensure};
use chrono::{DateTime, Utc};
use rekindle_bundle::{Manifest, manifest::CARD};
use rekindle_client::Registry;
use rekindle_domain::{
    Digest, ModelName, RunId,
    job::{DatasetRef, Job, Priority, Train, Work},
    model_version::VersionSelector,
    run::{Run, RunStatus},
};
use serde_json::json;
use uuid::Uuid;

use super::{
    Global,
    output::{self, Fields},
    parse, runs, train,
    upload::download,
};

/// The arguments of `rekindle rebuild`.
#[derive(Debug, clap::Args)]
#[command(after_help = "Example:\n  rekindle rebuild flight-delay 3")]
pub(crate) struct Args {
    /// Model name
    model: ModelName,
    /// Version number or alias
    #[arg(value_name = "VERSION", default_value = "champion", value_parser = parse::version)]
    version: VersionSelector,
}

/// What a rebuild found.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Comparison {
    /// The blobs with the same content.
    equal: Vec<String>,
    /// The blobs, or `metrics`, with other content.
    different: Vec<String>,
    /// The inputs that differ, each with both values.
    inputs: BTreeMap<&'static str, [String; 2]>,
}

/// Trains the version again. Returns whether the result is the same.
pub(crate) async fn run(args: Args, global: &Global) -> Result<bool> {
    let platform = global.platform()?;
    let registry = platform.registry();
    let version = registry.model_version(&args.model, &args.version).await?;
    let name = format!("{} version {}", version.model, version.version);
    let registered = manifest(&registry, version.bundle).await?;
    let Some(recipe) = registered.provenance.recipe.clone() else {
        bail!("{name} was imported: only models that were trained here can be rebuilt");
    };
    let id = version.run.with_context(|| format!("the registry does not know the run of {name}"))?;
    let record = registry.run(id).await.with_context(|| format!("the run of {name}"))?;
    let job = Job {
        id: RunId::new(Uuid::now_v7()),
        experiment: record.experiment.clone(),
        correlation_id: String::new(),
        tags: BTreeMap::from([("rekindle.rebuilds".to_owned(), format!("{}/{}", version.model, version.version))]),
        priority: Priority::Normal,
        dataset: dataset(&record)?,
        work: Work::Train(Train {
            recipe: *recipe,
            search: Default::default(),
            until: until(&record)?,
            register_as: None,
            description: String::new(),
            time_limit: None,
            external: None,
        }),
    };
    let submitted = platform.trainer().submit(&job).await?;
    let bar = output::bar(1, "rebuilding {elapsed} {msg}");
    let ended = train::wait(&registry, submitted, &bar).await;
    bar.finish_and_clear();
    let ended = ended?;
    ensure!(ended.status == RunStatus::Finished, "the rebuild is {}: {}", runs::status(&ended), ended.error);
    let bundle = ended.outputs.get("bundle").context("the run has no output bundle")?.parse()?;
    let found = compare(&registered, &manifest(&registry, bundle).await?);
    let is_equal = found.different.is_empty();
    global.format().one(&(&name, &ended, &found), to_json, fields);
    Ok(is_equal)
}

async fn manifest(registry: &Registry, bundle: Digest) -> Result<Manifest> {
    Ok(Manifest::from_bytes(&download(registry.clone(), bundle).await?)?)
}

/// A param of the run of a training.
fn param<'a>(run: &'a Run, name: &str) -> Result<&'a str> {
    run.params.get(name).map(String::as_str).with_context(|| format!("run {} has no param {name}", run.id))
}

fn dataset(run: &Run) -> Result<DatasetRef> {
    Ok(DatasetRef {
        name: param(run, "dataset.name")?.parse()?,
        version: Some(param(run, "dataset.version")?.parse().context("param dataset.version")?),
    })
}

fn until(run: &Run) -> Result<Option<DateTime<Utc>>> {
    let text = param(run, "train_until")?;
    let parsed = (!text.is_empty()).then(|| DateTime::parse_from_rfc3339(text)).transpose();
    Ok(parsed.context("param train_until")?.map(Into::into))
}

/// Compares a rebuilt model with the registered one. The card names the run and is left out.
fn compare(registered: &Manifest, rebuilt: &Manifest) -> Comparison {
    let roles =
        registered.blobs.keys().chain(rebuilt.blobs.keys().filter(|role| !registered.blobs.contains_key(*role)));
    let roles = roles.filter(|role| *role != CARD).cloned();
    let (equal, mut different): (Vec<_>, Vec<_>) =
        roles.partition(|role| registered.blobs.get(role) == rebuilt.blobs.get(role));
    if registered.metrics != rebuilt.metrics {
        different.push("metrics".to_owned());
    }
    let (before, after) = (&registered.provenance, &rebuilt.provenance);
    let digests = |digests: &[Digest]| digests.iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
    let until = |until: Option<i64>| until.map_or_else(String::new, |millis| millis.to_string());
    let inputs = [
        ("code revision", before.code_revision.clone(), after.code_revision.clone()),
        ("toolchain", before.toolchain.clone(), after.toolchain.clone()),
        ("datasets", digests(&before.dataset_digests), digests(&after.dataset_digests)),
        ("trained until", until(before.trained_until), until(after.trained_until)),
    ];
    let inputs = inputs.into_iter().filter(|(_, before, after)| before != after);
    Comparison { equal, different, inputs: inputs.map(|(name, before, after)| (name, [before, after])).collect() }
}

fn to_json((name, run, found): &(&String, &Run, &Comparison)) -> serde_json::Value {
    let inputs: BTreeMap<_, _> = found
        .inputs
        .iter()
        .map(|(input, [registered, rebuilt])| (*input, json!({"registered": registered, "rebuilt": rebuilt})))
        .collect();
    json!({
        "version": name,
        "run_id": run.id.to_string(),
        "is_equal": found.different.is_empty(),
        "equal": found.equal,
        "different": found.different,
        "inputs": inputs,
    })
}

fn fields((name, run, found): &(&String, &Run, &Comparison)) -> Fields {
    let result = if found.different.is_empty() { "equal" } else { "different" };
    let inputs = found.inputs.iter().map(|(input, [before, after])| format!("{input}: {before}, now {after}"));
    vec![
        ("version", (*name).clone()),
        ("rebuilt by run", run.id.to_string()),
        ("result", result.to_owned()),
        ("equal", found.equal.join(", ")),
        ("different", found.different.join(", ")),
        ("inputs that differ", inputs.collect::<Vec<_>>().join("\n")),
    ]
}
