//! `rekindle events replay`: the registry's public view, rebuilt from the events on the bus and compared with what the registry answers.

use std::{collections::BTreeMap, time::Duration};

use anyhow::Result;
use async_nats::jetstream::consumer::{DeliverPolicy, pull::OrderedConfig};
use futures::StreamExt as _;
use rekindle_bus::{
    cloudevent::{self, CloudEvent},
    streams::EVENTS,
    subject,
};
use rekindle_client::{Registry, registry::RunSearch};
use rekindle_domain::{Digest, Namespace, model_version::Approval, run::RunStatus};
use serde_json::{Value, json};
use tokio::time::{Instant, sleep};

use super::{connect, unreachable};
use crate::client::{
    Global,
    output::{print_fields, print_json},
    page::Limit,
};

/// How long events may be on their way before a difference counts.
const SETTLE: Duration = Duration::from_secs(10);
/// Differences that are printed.
const SHOWN: usize = 20;

/// What the registry has, by noun and name.
type View = BTreeMap<String, Value>;

/// Returns whether the view of the events is that of the registry.
pub(super) async fn run(global: &Global) -> Result<bool> {
    let registry = global.platform()?.registry();
    let deadline = Instant::now() + SETTLE;
    let (events, replayed, present) = loop {
        let present = of_registry(&registry).await?;
        let (events, replayed) = of_events(global).await?;
        if replayed == present || Instant::now() > deadline {
            break (events, replayed, present);
        }
        sleep(Duration::from_millis(500)).await;
    };
    let keys: std::collections::BTreeSet<&String> = replayed.keys().chain(present.keys()).collect();
    let differences: Vec<Value> = keys
        .into_iter()
        .filter(|key| replayed.get(*key) != present.get(*key))
        .map(|key| json!({ "name": key, "replayed": replayed.get(key), "registry": present.get(key) }))
        .collect();
    if global.json {
        print_json(&json!({
            "events": events,
            "entries": replayed.len(),
            "replayed": digest(&replayed).to_string(),
            "registry": digest(&present).to_string(),
            "differences": differences.iter().take(SHOWN).collect::<Vec<_>>(),
        }));
    } else {
        let mut fields = vec![
            ("events", events.to_string()),
            ("entries", replayed.len().to_string()),
            ("replayed", digest(&replayed).to_string()),
            ("registry", digest(&present).to_string()),
        ];
        fields.extend(differences.iter().take(SHOWN).map(|difference| ("difference", difference.to_string())));
        print_fields(&fields);
    }
    Ok(differences.is_empty())
}

fn digest(view: &View) -> Digest {
    Digest::of(json!(view).to_string().as_bytes())
}

/// The registry's view of the namespace of the call.
async fn of_registry(registry: &Registry) -> Result<View> {
    let mut view = View::new();
    for latest in Limit::NONE.fetch(async |page| registry.datasets(page).await).await? {
        let versions = Limit::NONE.fetch(async |page| registry.dataset_versions(&latest.name, page).await).await?;
        for version in versions {
            let content = json!({ "content": version.content.to_string(), "rows": version.rows });
            view.insert(format!("dataset-version/{}/{}", version.name, version.version), content);
        }
    }
    for model in Limit::NONE.fetch(async |page| registry.models(page).await).await? {
        let has_words = !model.description.is_empty() || !model.tags.is_empty();
        if has_words || model.title != model.name.as_str() {
            let words = json!({ "title": model.title, "description": model.description, "tags": model.tags });
            view.insert(format!("model/{}", model.name), words);
        }
        for alias in &model.aliases {
            let place = json!({ "version": alias.version, "revision": alias.revision });
            view.insert(format!("alias/{}/{}", alias.model, alias.alias), place);
        }
        for version in Limit::NONE.fetch(async |page| registry.model_versions(&model.name, page).await).await? {
            let approval = version.review.approval;
            let run = version.run.map(|run| run.to_string()).unwrap_or_default();
            view.insert(
                format!("model-version/{}/{}", version.model, version.version),
                json!({ "bundle": version.bundle.to_string(), "run": run, "approval": approval.name() }),
            );
        }
    }
    let all = RunSearch::default();
    for run in Limit::NONE.fetch(async |page| registry.runs(&all, page).await).await? {
        // A run that waits for a worker has no event.
        if run.status != RunStatus::Scheduled {
            view.insert(format!("run/{}", run.id), json!(run.status.name()));
        }
    }
    Ok(view)
}

/// The number of the registry's events, and the view that they give of the namespace.
async fn of_events(global: &Global) -> Result<(u64, View)> {
    let bus = connect(&global.nats).await?;
    let stream = bus.get_stream(EVENTS).await.map_err(|error| unreachable(&global.nats, &error))?;
    let config = OrderedConfig {
        filter_subject: subject::events_matching("registry.*.*", ">"),
        deliver_policy: DeliverPolicy::All,
        ..Default::default()
    };
    let mut consumer = stream.create_consumer(config).await?;
    let waiting = consumer.info().await?.num_pending;
    let mut messages = consumer.messages().await?;
    let mut replay = Replay::default();
    for _ in 0..waiting {
        let Some(message) = messages.next().await else { break };
        replay.apply(&cloudevent::from_message(&message?.message)?);
    }
    Ok((waiting, replay.view(&global.namespace)))
}

/// The events that were applied so far.
#[derive(Default)]
struct Replay {
    view: View,
    /// Names that are deleted: of a model with all that is of it, of a version, or of a run.
    deleted: std::collections::BTreeSet<String>,
    /// The experiments of runs.
    experiments: BTreeMap<String, String>,
}

impl Replay {
    fn apply(&mut self, event: &CloudEvent) {
        let data = &event.data;
        let text = |name: &str| data[name].as_str().unwrap_or_default().to_owned();
        // Numbers of 64 bits are texts.
        let number = |name: &str| match &data[name] {
            Value::String(digits) => digits.parse().unwrap_or_default(),
            number => number.as_u64().unwrap_or_default(),
        };
        let version = || format!("model-version/{}/{}", text("model"), number("version"));
        let alias = || format!("alias/{}/{}", text("model"), text("alias"));
        match (event.kind.noun, event.kind.verb) {
            ("dataset-version", "registered") => {
                let content = json!({ "content": text("content_digest"), "rows": number("rows") });
                self.view.insert(format!("dataset-version/{}/{}", text("name"), number("version")), content);
            }
            ("dataset-version", "changed") => {
                self.mark(format!("dataset-version/{}/{}", text("name"), number("version")), data["deleted"] == true);
            }
            ("run", "changed") => {
                let key = format!("run/{}", text("run_id"));
                self.mark(key.clone(), data["deleted"] == true);
                // A run that waits for a worker has no entry.
                if text("status") == "RUN_STATUS_SCHEDULED" {
                    self.view.remove(&key);
                }
            }
            ("run", verb) => {
                let status = if verb == "started" { RunStatus::Running.name().to_owned() } else { text("status") };
                let status = status.trim_start_matches("RUN_STATUS_");
                self.experiments.insert(text("run_id"), text("experiment"));
                self.view.insert(format!("run/{}", text("run_id")), json!(status));
            }
            ("model-version", "registered") => {
                let pending = Approval::Pending.name();
                let made = json!({ "bundle": text("bundle_digest"), "run": text("run_id"), "approval": pending });
                self.view.insert(version(), made);
            }
            ("model-version", "reviewed") => {
                if let Some(known) = self.view.get_mut(&version()) {
                    known["approval"] = json!(text("approval").trim_start_matches("APPROVAL_"));
                }
            }
            ("model-version", "changed") => self.mark(version(), data["deleted"] == true),
            ("model", "changed") => {
                let name = text("model");
                let tags = data["tags"].as_object().cloned().unwrap_or_default();
                let has_words = !text("description").is_empty() || !tags.is_empty();
                let words = json!({ "title": text("title"), "description": text("description"), "tags": tags });
                if has_words || text("title") != name {
                    self.view.insert(format!("model/{name}"), words);
                } else {
                    self.view.remove(&format!("model/{name}"));
                }
                self.mark(format!("model/{name}"), data["deleted"] == true);
            }
            ("alias", "moved") => {
                let place = json!({ "version": number("version"), "revision": number("revision") });
                self.view.insert(alias(), place);
            }
            ("alias", "deleted") => _ = self.view.remove(&alias()),
            _ => {}
        }
    }

    fn mark(&mut self, name: String, is_deleted: bool) {
        if is_deleted {
            self.deleted.insert(name);
        } else {
            self.deleted.remove(&name);
        }
    }

    /// What is not deleted, of a namespace.
    fn view(self, namespace: &Namespace) -> View {
        let Self { view, deleted, experiments } = self;
        let is_there = |key: &String| {
            let (noun, rest) = key.split_once('/').unwrap_or((key, ""));
            let name = rest.split('/').next().unwrap_or_default();
            let qualified = if noun == "run" { experiments.get(name).map_or("", String::as_str) } else { name };
            let within = qualified.split_once('.').map_or(Namespace::DEFAULT, |(namespace, _)| namespace);
            let of_model = matches!(noun, "model" | "model-version" | "alias");
            within == namespace.as_str()
                && !deleted.contains(key)
                && !(of_model && deleted.contains(&format!("model/{name}")))
        };
        view.into_iter().filter(|(key, _)| is_there(key)).collect()
    }
}
