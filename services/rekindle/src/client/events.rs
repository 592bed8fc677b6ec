//! `rekindle events`.

mod replay;

use std::time::Duration;

use anyhow::{Result, bail};
use async_nats::jetstream::{
    self,
    consumer::{DeliverPolicy, pull::OrderedConfig},
};
use futures::StreamExt as _;
use rekindle_bus::{
    cloudevent::{self, CloudEvent},
    streams::EVENTS,
    subject,
};
use rekindle_domain::{Namespace, RunId};
use serde_json::{Value, json};

use super::{Global, exit::Unreachable, output};
use crate::up::without_credentials;

/// Deadline of the connection to NATS.
const CONNECT_DEADLINE: Duration = Duration::from_secs(5);

/// The events to print.
#[derive(Debug, clap::Args)]
#[command(
    after_help = "\
A kind is SERVICE.NOUN.VERB; * matches any of the three: registry.alias.moved, monitor.drift.detected, orchestrator.*.*

Examples:
  rekindle events
  rekindle events --kind orchestrator.workflow.* --name flight-delay --json
  rekindle events --all --correlation 0199a7c2-6f0e-7b7e-9d0e-3f1a2b3c4d5e --no-follow
  rekindle events replay",
    args_conflicts_with_subcommands = true
)]
pub(crate) struct Args {
    #[command(subcommand)]
    command: Option<Command>,
    /// Only events of this kind
    #[arg(long, visible_alias = "type", value_name = "KIND", default_value = "*.*.*", value_parser = kind)]
    kind: String,
    /// Only events about the model, dataset or run of this name: NAME in the namespace of --namespace, NAMESPACE.NAME in another. The name of
    /// a run is its id, which is in no namespace. By default every name of the namespace
    #[arg(long, value_name = "NAME", default_value = "*", value_parser = name, hide_default_value = true)]
    name: String,
    /// Only events with this correlation id, i.e. of this workflow
    #[arg(long, value_name = "ID")]
    correlation: Option<String>,
    /// Start with the oldest retained event instead of the next one
    #[arg(long)]
    all: bool,
    /// Exit after this many events
    #[arg(long, value_name = "N")]
    count: Option<usize>,
    /// Exit after the latest event instead of waiting for further ones
    #[arg(long)]
    no_follow: bool,
}

/// What else is done with events.
#[derive(Debug, clap::Subcommand)]
enum Command {
    /// Rebuild the registry's view of a namespace from its events, and compare it with what the registry answers; exit with code 3 if they differ
    Replay,
}

/// Three tokens of a NATS subject.
fn kind(text: &str) -> Result<String, String> {
    if text.split('.').count() != 3 {
        return Err("expected SERVICE.NOUN.VERB, e.g. registry.alias.moved or monitor.*.*".into());
    }
    text.split('.').try_for_each(|part| token(part).map(drop))?;
    Ok(text.to_owned())
}

/// One token of a NATS subject, or two: a name, qualified by its namespace.
fn name(text: &str) -> Result<String, String> {
    if text.split('.').count() > 2 {
        return Err("expected NAME or NAMESPACE.NAME, e.g. flight-delay, team-a.flight-delay or team-a.*".into());
    }
    text.split('.').try_for_each(|part| token(part).map(drop))?;
    Ok(text.to_owned())
}

fn token(text: &str) -> Result<String, String> {
    let named = !text.is_empty() && text.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'-');
    if named || text == "*" { Ok(text.to_owned()) } else { Err(format!("{text:?} is not valid: expected a name or *")) }
}

/// Prints events. Of a replay, returns whether it gives the registry's view; otherwise true.
pub(crate) async fn run(args: Args, global: &Global) -> Result<bool> {
    if let Some(Command::Replay) = args.command {
        return replay::run(global).await;
    }
    let bus = connect(&global.nats).await?;
    let stream = bus.get_stream(EVENTS).await.map_err(|error| unreachable(&global.nats, &error))?;
    let config = OrderedConfig {
        filter_subject: subject::events_matching(&args.kind, &args.qualified_name(&global.namespace)),
        deliver_policy: if args.all { DeliverPolicy::All } else { DeliverPolicy::New },
        ..Default::default()
    };
    let mut consumer = stream.create_consumer(config).await?;
    let mut waiting = consumer.info().await?.num_pending;
    let mut messages = consumer.messages().await?;
    let mut shown = 0;
    while args.count.is_none_or(|count| shown < count) && !(args.no_follow && waiting == 0) {
        let Some(message) = messages.next().await else { bail!("NATS closed the subscription") };
        let message = message?;
        waiting = waiting.saturating_sub(1);
        match cloudevent::from_message(&message.message) {
            Ok(event) if args.matches(&event) => {
                print(&event, global);
                shown += 1;
            }
            Ok(_) => {}
            Err(error) => eprintln!("skipped an invalid event on {}: {error}", message.subject),
        }
    }
    Ok(true)
}

async fn connect(url: &str) -> Result<jetstream::Context> {
    let config = rekindle_bus::Config { connect_timeout: CONNECT_DEADLINE, ..rekindle_bus::Config::at(url) };
    let client =
        rekindle_bus::connect(&config).await.map_err(|error| unreachable(&without_credentials(url), &error))?;
    Ok(jetstream::new(client))
}

fn unreachable(url: &str, error: &dyn std::error::Error) -> Unreachable {
    Unreachable(format!(
        "cannot read events from {url}: {error}; check that the platform runs (`rekindle up`) and that this is its NATS (--nats)"
    ))
}

impl Args {
    /// The name as it is in subjects. Ids of runs are not qualified.
    fn qualified_name(&self, namespace: &Namespace) -> String {
        let is_qualified = self.name.contains('.') || self.name.parse::<RunId>().is_ok();
        if is_qualified { self.name.clone() } else { namespace.qualify(&self.name) }
    }

    fn matches(&self, event: &CloudEvent) -> bool {
        self.correlation.as_ref().is_none_or(|id| event.context.correlation_id == *id)
    }
}

fn print(event: &CloudEvent, global: &Global) {
    if global.json {
        output::emit_json(&attributes(event));
        return;
    }
    let data = event.data.as_object().into_iter().flatten().filter(|(_, value)| has_content(value));
    let data: Vec<_> = data.map(|(name, value)| format!("{name}={}", word(value))).collect();
    let (time, kind) = (output::when(event.time), event.kind.to_string());
    output::emit(&format!("{time}  {kind:<34}  {:<20}  {}", event.name, data.join(" ")));
}

/// A value as text. Lists show the names of their items.
fn word(value: &Value) -> String {
    match value {
        Value::String(text) => text.clone(),
        Value::Array(things) => {
            things.iter().map(|thing| word(thing.get("name").unwrap_or(thing))).collect::<Vec<_>>().join(",")
        }
        other => other.to_string(),
    }
}

fn has_content(value: &Value) -> bool {
    !(value.is_null() || *value == json!("") || *value == json!([]) || *value == json!({}))
}

/// The event in the JSON format of CloudEvents.
fn attributes(event: &CloudEvent) -> Value {
    json!({
        "specversion": "1.0",
        "id": event.id,
        "source": event.source,
        "type": event.kind.ce_type(),
        "subject": event.kind.ce_subject(&event.name),
        "time": event.time,
        "datacontenttype": "application/json",
        "correlationid": event.context.correlation_id,
        "causationid": event.context.causation_id,
        "partitionkey": event.partition_key,
        "recordedtime": event.recorded_time,
        "sequence": event.position.map(|position| format!("{:020}", position.sequence)),
        "database": event.position.map(|position| position.database),
        "data": event.data,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn kinds_are_three_tokens() {
        for good in ["*.*.*", "registry.alias.moved", "monitor.*.detected"] {
            assert_eq!(kind(good).as_deref(), Ok(good));
        }
        assert_eq!(word(&json!([{"name": "temp", "psi": 1.5}, "x", 2])), "temp,x,2");
        for bad in ["registry", "registry.alias", "registry.alias.>", "a..b", "A.b.c", "a.b.c.d"] {
            assert!(kind(bad).is_err(), "{bad}");
        }
    }
}
