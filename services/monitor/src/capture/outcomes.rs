//! Outcomes: JSON lines, published by other systems or by this service's own `ReportOutcomes`.

use std::collections::BTreeMap;

use rekindle_bus::{Message, streams};
use rekindle_domain::ModelName;

use super::{Capture, Captured, Draft, model_of, published_id};
use crate::{
    Error,
    join::Told,
    outcome::{self, BadLine, Outcome},
    segment::{self, Kind},
    store::logs::{Growth, Log},
    window::Timing,
};

/// What the message ids of `ReportOutcomes` begin with. Only these are trusted to be unique for ever; other publishers may
/// count from 1 each day, so their messages are known by their place in the stream.
pub(crate) const OWN_IDS: &str = "rekindle-monitor/outcomes/";

/// One message of outcomes.
#[derive(Clone)]
pub(crate) struct Truths {
    message_id: String,
    model: ModelName,
    outcomes: Vec<(Told, Outcome)>,
    /// Lines that were set aside.
    bad: Vec<BadLine>,
}

impl Captured for Truths {
    const CONSUMER: &'static str = "monitor-outcomes";
    const STREAM: &'static str = streams::OUTCOMES;
    const PURGES: bool = true;

    fn decode(message: &Message) -> Result<Self, String> {
        let model = model_of(&message.subject)?;
        let at = message.stored_at.timestamp_nanos_opt().unwrap_or(i64::MAX);
        let message_id = match published_id(message) {
            Some(id) if id.starts_with(OWN_IDS) => id.to_owned(),
            _ => format!("{}/{at}/{}", message.stream, message.sequence),
        };
        let (good, bad) = outcome::parse(&message.payload);
        let told = |line| Told { at, sequence: message.sequence, line };
        let outcomes = good.into_iter().map(|(line, outcome)| (told(line), outcome)).collect();
        Ok(Self { message_id, model, outcomes, bad })
    }

    fn bad_lines(&self) -> &[BadLine] {
        &self.bad
    }

    fn message_id(&self) -> &str {
        &self.message_id
    }

    fn model(&self) -> &ModelName {
        &self.model
    }

    fn rows(&self) -> usize {
        self.outcomes.len()
    }

    fn growth(&self, _: &Capture, _: &Log, _: &Timing) -> Growth {
        let (model, rows, bad) = (self.model.to_string(), self.outcomes.len() as u64, self.bad.len() as u64);
        metrics::counter!("rekindle_monitor_outcomes_total", "model" => model.clone()).increment(rows);
        metrics::counter!("rekindle_monitor_bad_outcome_lines_total", "model" => model).increment(bad);
        Growth { outcomes: rows, bad_lines: bad, ..Growth::default() }
    }

    fn drafts(messages: &[&Self]) -> Result<Vec<Draft>, Error> {
        let mut by_model: BTreeMap<&ModelName, Vec<(Told, Outcome)>> = BTreeMap::new();
        for message in messages.iter().filter(|message| !message.outcomes.is_empty()) {
            by_model.entry(&message.model).or_default().extend(message.outcomes.iter().cloned());
        }
        by_model
            .into_iter()
            .map(|(model, outcomes)| {
                let batch = segment::outcome_batch(&outcomes)?;
                Ok(Draft { kind: Kind::Outcome, model: model.clone(), model_version: 0, bundle: None, batch })
            })
            .collect()
    }
}
