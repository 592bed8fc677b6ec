//! `rekindle alerts`: list, acknowledge, resolve and silence alerts, and test receivers.

use std::time::Duration;

use anyhow::{Result, bail};
use chrono::{DateTime, TimeDelta, Utc};
use clap::Subcommand;
use rekindle_client::wire::alert as wire;
use rekindle_domain::{
    Alert, IdPrefix, ModelName, SilenceId,
    alert::{AlertKind, Notification, Silence},
};
use uuid::Uuid;

use super::{
    Global,
    output::{Fields, optional, when, words},
    page::Limit,
    parse,
    platform::Platform,
    reason::Reason,
};

/// Commands for alerts.
#[derive(Debug, Subcommand)]
pub(crate) enum Command {
    /// List alerts, the latest first
    #[command(after_help = "\
Examples:
  rekindle alerts list
  rekindle alerts list flight-delay --all")]
    List {
        /// Model name; all models by default
        model: Option<ModelName>,
        /// Resolved alerts, too
        #[arg(long)]
        all: bool,
        #[command(flatten)]
        limit: Limit,
    },
    /// Show what an alert is about, and what became of its notifications
    Show {
        /// Alert id, which may be abbreviated
        id: IdPrefix,
    },
    /// State that you have taken an alert over
    Acknowledge {
        /// Alert id, which may be abbreviated
        id: IdPrefix,
        #[command(flatten)]
        reason: Reason,
    },
    /// Close an alert
    #[command(after_help = "The windows up to the last one of the alert do not open another.")]
    Resolve {
        /// Alert id, which may be abbreviated
        id: IdPrefix,
        #[command(flatten)]
        reason: Reason,
    },
    /// Suppress notifications of a model for some time
    #[command(after_help = "\
Alerts still open and are listed. Receivers are notified of those that are open when the silence ends.

Example:
  rekindle alerts silence flight-delay --for 3d --kind drift --why 'public holidays'")]
    Silence {
        /// Model name
        model: ModelName,
        /// How long
        #[arg(long = "for", value_name = "D", value_parser = parse::span)]
        span: Duration,
        /// Kind of alerts, e.g. drift or data-fault; all by default
        #[arg(long, value_name = "KIND")]
        kind: Option<AlertKind>,
        #[command(flatten)]
        reason: Reason,
    },
    /// List silences that have not ended
    Silences {
        /// Model name; all models by default
        model: Option<ModelName>,
        #[command(flatten)]
        limit: Limit,
    },
    /// End a silence
    Unsilence {
        /// Silence id
        id: SilenceId,
        #[command(flatten)]
        reason: Reason,
    },
    /// Send a test to a receiver; exit with code 3 if it does not accept it
    Test {
        /// Name in monitor.alerts.receivers
        receiver: String,
    },
}

/// Whether a test was accepted; of other commands, true.
pub(crate) async fn run(command: Command, global: &Global) -> Result<bool> {
    let platform = global.platform()?;
    let alerts = platform.alerts();
    let by = |reason: &Reason| global.platform().map(|platform| platform.called_by(reason.by.clone()).alerts());
    match command {
        Command::List { model, all, limit } => {
            let found = limit.fetch(async |page| alerts.list(model.as_ref(), all, page).await).await?;
            if found.is_empty() && !global.json {
                eprintln!("note: no alerts{}", if all { "" } else { " are open" });
            }
            let header = ["alert", "model", "kind", "severity", "state", "opened at", "windows", "summary"];
            global.format().list(&found, wire::to_json, &header, line);
        }
        Command::Show { id } => {
            let shown = alerts.get(&id).await?;
            global.format().one(&shown, wire::notified_to_json, |(alert, sent)| {
                let notifications = sent.iter().map(|sent| ("notification", became(sent)));
                fields(alert).into_iter().chain(notifications).collect()
            });
        }
        Command::Acknowledge { id, reason } => {
            let alert = by(&reason)?.acknowledge(&id, reason.why).await?;
            global.format().one(&alert, wire::to_json, fields);
        }
        Command::Resolve { id, reason } => {
            let alert = by(&reason)?.resolve(&id, reason.why).await?;
            global.format().one(&alert, wire::to_json, fields);
        }
        Command::Silence { model, span, kind, reason } => {
            let span = TimeDelta::from_std(span).unwrap_or(TimeDelta::MAX);
            if span > Silence::LONGEST {
                bail!("--for: is too long: expected at most 366d");
            }
            let until = Utc::now() + span;
            let key = Uuid::now_v7().to_string();
            let silence = by(&reason)?.silence(&model, kind, until, reason.why, key).await?;
            global.format().one(&silence, wire::silence_to_json, silence_fields);
        }
        Command::Silences { model, limit } => {
            let found = limit.fetch(async |page| alerts.silences(model.as_ref(), page).await).await?;
            let header = ["silence", "model", "kind", "until", "by", "reason"];
            global.format().list(&found, wire::silence_to_json, &header, |silence| {
                silence_fields(silence).into_iter().map(|(_, value)| value).collect()
            });
        }
        Command::Unsilence { id, reason } => {
            let silence = by(&reason)?.end_silence(id).await?;
            global.format().one(&silence, wire::silence_to_json, silence_fields);
        }
        Command::Test { receiver } => {
            let sent = alerts.test_receiver(receiver).await?;
            global.format().one(&sent, wire::notification_to_json, |sent| {
                vec![("receiver", sent.receiver.clone()), ("result", became(sent))]
            });
            return Ok(sent.delivered_at.is_some());
        }
    }
    Ok(true)
}

/// Every alert of a model.
pub(crate) async fn oldest_first(platform: &Platform, model: &ModelName) -> Result<Vec<Alert>> {
    let alerts = platform.alerts();
    let mut found = Limit::NONE.fetch(async |page| alerts.list(Some(model), true, page).await).await?;
    found.reverse();
    Ok(found)
}

fn line(alert: &Alert) -> Vec<String> {
    vec![
        alert.id.to_string(),
        alert.model.to_string(),
        words(alert.kind.name()),
        words(alert.severity.name()),
        words(alert.state().name()),
        when(alert.opened_at),
        alert.windows.to_string(),
        alert.message.summary.clone(),
    ]
}

fn fields(alert: &Alert) -> Fields {
    let message = &alert.message;
    let note = |note: &Option<rekindle_domain::alert::Note>| match note {
        None => String::new(),
        Some(note) if note.why.is_empty() => format!("by {} at {}", note.by, when(note.at)),
        Some(note) => format!("by {} at {}: {}", note.by, when(note.at), note.why),
    };
    let mut fields = vec![
        ("alert", alert.id.to_string()),
        ("model", alert.model.to_string()),
        ("version", optional(alert.version)),
        ("kind", words(alert.kind.name())),
        ("severity", words(alert.severity.name())),
        ("state", words(alert.state().name())),
        ("what happened", message.summary.clone()),
    ];
    fields.extend(message.causes.iter().map(|cause| ("why", cause.clone())));
    fields.extend([
        ("what rekindle does", message.response.clone()),
        ("what you can do", message.advice.clone()),
        ("windows", alert.windows.to_string()),
        ("from", when(alert.from)),
        ("until", when(alert.until)),
        ("report", optional(alert.report)),
        ("opened at", when(alert.opened_at)),
        ("acknowledged", note(&alert.acknowledged)),
        ("resolved", note(&alert.resolved)),
    ]);
    fields
}

fn silence_fields(silence: &Silence) -> Fields {
    vec![
        ("silence", silence.id.to_string()),
        ("model", silence.model.to_string()),
        ("kind", silence.kind.map_or_else(|| "all".to_owned(), |kind| words(kind.name()))),
        ("until", when(silence.until)),
        ("by", silence.by.clone()),
        ("reason", silence.why.clone()),
    ]
}

/// What became of a notification.
fn became(sent: &Notification) -> String {
    let about = format!("{} to {}", words(sent.state.name()), sent.receiver);
    let attempts = if sent.attempts == 1 { "1 attempt".to_owned() } else { format!("{} attempts", sent.attempts) };
    let time = |time: Option<DateTime<Utc>>| time.map(when).unwrap_or_default();
    match (sent.delivered_at, sent.failed_at) {
        (Some(at), _) => format!("{about}: delivered at {} ({attempts})", when(at)),
        (None, Some(at)) => format!("{about}: given up at {} ({attempts}): {}", when(at), sent.error),
        (None, None) if sent.attempts == 0 => format!("{about}: waiting"),
        (None, None) => {
            format!("{about}: refused ({attempts}), next at {}: {}", time(sent.next_attempt_at), sent.error)
        }
    }
}
