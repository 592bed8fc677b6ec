//! The log of failed requests: every request for a served model that was received and has no answer is published to the bus, or counted as
//! lost.
//!
//! Recording a failure neither waits nor takes memory without bound. Failures of one version with the same reason and message are one entry
//! with their number, so that an overload is one entry. Further entries than [`MAX_ENTRIES`] of a model are counted as lost, and the
//! next message declares their number: listed + declared lost = failed. A message that may have reached the bus is published again under
//! the same id.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::{Mutex, MutexGuard, PoisonError},
    time::Duration,
};

use async_nats::HeaderMap;
use bytes::Bytes;
use chrono::{DateTime, Utc};
use rekindle_bus::{Bus, subject};
use rekindle_client::wire;
use rekindle_domain::{
    ModelName, PredictionId, ReplicaId,
    failure::{FailedRequests, FailureReport},
};
use rekindle_service::chain;
use tokio::{
    sync::watch,
    time::{sleep, timeout},
};
use tokio_util::sync::CancellationToken;
use uuid::Uuid;

use crate::{
    Error,
    bus::connected,
    config::LogConfig,
    error::RequestError,
    tensor::{BODY, shortened},
};

/// Entries of one model that wait to be published.
const MAX_ENTRIES: usize = 100;
/// Longest message of an entry, in characters.
const MAX_MESSAGE: usize = 1000;

/// A request that has no answer.
pub(crate) struct FailedRequest<'a> {
    /// The version that was to answer, if one was selected.
    pub(crate) version: Option<u32>,
    /// When it failed.
    pub(crate) at: DateTime<Utc>,
    /// The client's id of the request.
    pub(crate) request_id: &'a str,
    /// The id that its prediction would have had.
    pub(crate) prediction: PredictionId,
    /// Inputs whose values are not logged, and which messages about them repeat.
    pub(crate) redacted: &'a BTreeSet<String>,
}

/// Whether a message about a field of a request may repeat values of redacted inputs: it is about one of them, or about the whole body.
fn may_repeat(field: &str, redacted: &BTreeSet<String>) -> bool {
    match field.strip_prefix("inputs[") {
        // A long name is shortened.
        Some(name) => redacted.iter().any(|input| name.starts_with(shortened(input).as_str())),
        None => !redacted.is_empty() && field == BODY,
    }
}

/// The log of failed requests of one incarnation of a replica.
pub(crate) struct FailureLog {
    replica: ReplicaId,
    incarnation: Uuid,
    interval: Duration,
    retry_interval: Duration,
    models: Mutex<BTreeMap<ModelName, Pending>>,
}

/// What is not published yet of one model.
#[derive(Default)]
struct Pending {
    /// By version, reason and message.
    entries: BTreeMap<(Option<u32>, &'static str, String), FailedRequests>,
    lost: u64,
    /// The number of the latest message.
    sequence: u64,
}

/// A message as it is published, once or repeatedly.
struct Message {
    model: ModelName,
    id: String,
    payload: Bytes,
    /// The failed requests that it lists or declares.
    requests: u64,
}

impl FailureLog {
    /// The empty log of `incarnation` of `replica`.
    pub(crate) fn new(config: &LogConfig, replica: ReplicaId, incarnation: Uuid) -> Self {
        let (interval, retry_interval) = (config.batch_interval, config.retry_interval);
        Self { replica, incarnation, interval, retry_interval, models: Mutex::default() }
    }

    /// Adds a failed request without waiting.
    pub(crate) fn record(&self, model: &ModelName, error: &RequestError, request: &FailedRequest<'_>) {
        let message = match error {
            RequestError::InvalidInput(invalid) if may_repeat(&invalid.field, request.redacted) => {
                format!("{}: the message is not logged, since inputs are redacted", invalid.field)
            }
            error => error.to_string().chars().take(MAX_MESSAGE).collect(),
        };
        self.models().entry(model.clone()).or_default().add(&self.replica, (error.reason(), message), request);
    }

    /// Publishes until `closing`, then what is left for at most `flush`.
    pub(crate) async fn run(
        &self,
        mut bus: watch::Receiver<Option<Bus>>,
        closing: CancellationToken,
        flush: Duration,
    ) -> Result<(), Error> {
        let mut unacknowledged = None;
        tokio::select! {
            () = self.publish_forever(&mut bus, &mut unacknowledged) => {}
            () = closing.cancelled() => {}
        }
        if timeout(flush, self.publish_all(&mut bus, &mut unacknowledged)).await.is_err() {
            tracing::error!("failed requests were not logged before shutdown");
        }
        Ok(())
    }

    async fn publish_forever(&self, bus: &mut watch::Receiver<Option<Bus>>, unacknowledged: &mut Option<Message>) {
        loop {
            sleep(self.interval).await;
            self.publish_all(bus, unacknowledged).await;
        }
    }

    /// Publishes everything. `unacknowledged` keeps the message that may or may not have reached the bus, so that cancelling this does
    /// not lose it.
    async fn publish_all(&self, bus: &mut watch::Receiver<Option<Bus>>, unacknowledged: &mut Option<Message>) {
        loop {
            if unacknowledged.is_none() {
                *unacknowledged = self.next_message();
            }
            let Some(message) = unacknowledged else { return };
            let Some(bus) = connected(bus).await else { return };
            if !self.publish(&bus, message).await {
                self.models().entry(message.model.clone()).or_default().lost += message.requests;
                *unacknowledged = None;
                return;
            }
            *unacknowledged = None;
        }
    }

    /// Publishes until the bus has stored the message. Returns `false` if it never will.
    async fn publish(&self, bus: &Bus, Message { model, id, payload, .. }: &Message) -> bool {
        let (subject, mut is_failing) = (subject::failures(model), false);
        while let Err(error) = bus.publish(subject.clone(), id, HeaderMap::new(), payload.clone()).await {
            if !error.is_transient() {
                tracing::error!(error = chain(&error), subject, "failed requests were not logged");
                return false;
            }
            if !is_failing {
                tracing::warn!(error = chain(&error), subject, "failed to log failed requests, retrying");
                is_failing = true;
            }
            sleep(self.retry_interval).await;
        }
        true
    }

    /// What waits for one of the models.
    fn next_message(&self) -> Option<Message> {
        let mut models = self.models();
        let (model, pending) =
            models.iter_mut().find(|(_, pending)| pending.lost > 0 || !pending.entries.is_empty())?;
        pending.sequence += 1;
        let report = FailureReport {
            model: model.clone(),
            replica: self.replica.clone(),
            incarnation: self.incarnation,
            sequence: pending.sequence,
            lost_before: std::mem::take(&mut pending.lost),
            failures: std::mem::take(&mut pending.entries).into_values().collect(),
        };
        drop(models);
        let listed: u64 = report.failures.iter().map(|failed| failed.requests).sum();
        let (id, payload) = (report.message_id(), wire::failure::report_to_json(&report).into());
        Some(Message { model: report.model, id, payload, requests: listed + report.lost_before })
    }

    fn models(&self) -> MutexGuard<'_, BTreeMap<ModelName, Pending>> {
        self.models.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

impl Pending {
    fn add(&mut self, replica: &ReplicaId, (reason, message): (&'static str, String), request: &FailedRequest<'_>) {
        let key = (request.version, reason, message);
        if let Some(entry) = self.entries.get_mut(&key) {
            entry.requests += 1;
            entry.last_at = entry.last_at.max(request.at);
            return;
        }
        if self.entries.len() == MAX_ENTRIES {
            self.lost += 1;
            return;
        }
        let entry = FailedRequests {
            replica: replica.clone(),
            version: request.version,
            reason: reason.to_owned(),
            message: key.2.clone(),
            requests: 1,
            first_at: request.at,
            last_at: request.at,
            request_id: request.request_id.chars().take(rekindle_domain::outcome::PredictedRow::MAX_KEY).collect(),
            prediction: request.prediction,
        };
        self.entries.insert(key, entry);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tensor::InvalidInput;

    fn log() -> FailureLog {
        let second = Duration::from_secs(1);
        let config = LogConfig {
            buffer_bytes: 1,
            batch_rows: 1,
            batch_bytes: 1,
            batch_interval: second,
            retry_interval: second,
            models: Vec::new(),
        };
        FailureLog::new(&config, "replica-1".parse().expect("a name"), Uuid::nil())
    }

    fn record(log: &FailureLog, model: &str, seconds: i64, error: &RequestError) {
        let request = FailedRequest {
            version: Some(3),
            at: DateTime::from_timestamp(seconds, 0).expect("a time"),
            request_id: "mine",
            prediction: PredictionId::new(Uuid::from_u128(7)),
            redacted: &["name".to_owned()].into(),
        };
        log.record(&model.parse().expect("a name"), error, &request);
    }

    fn next(log: &FailureLog) -> Option<FailureReport> {
        let message = log.next_message()?;
        let report = wire::failure::report_from_json(&message.payload).expect("a report");
        assert_eq!(message.id, report.message_id());
        Some(report)
    }

    #[test]
    fn equal_failures_are_one_entry_with_their_number() {
        let log = log();
        for seconds in [5, 6, 9] {
            record(&log, "flights", seconds, &RequestError::TooManyRequests { limit: 2 });
        }
        record(&log, "flights", 7, &InvalidInput::new("inputs", "is empty").into());
        let report = next(&log).expect("a report");
        let failures: Vec<_> = report.failures.iter().map(|failed| (failed.reason.as_str(), failed.requests)).collect();
        assert_eq!(failures, [("INVALID_INPUT", 1), ("TOO_MANY_REQUESTS", 3)]);
        let overload = &report.failures[1];
        assert_eq!((overload.first_at.timestamp(), overload.last_at.timestamp()), (5, 9));
        assert_eq!((report.sequence, report.lost_before), (1, 0));
        assert_eq!(next(&log), None);
    }

    #[test]
    fn entries_beyond_the_limit_are_declared_lost_and_every_model_has_its_own_account() {
        let log = log();
        for number in 0..MAX_ENTRIES + 5 {
            record(&log, "a", 0, &InvalidInput::new("inputs", format!("number {number}")).into());
        }
        record(&log, "b", 0, &RequestError::TooManyRequests { limit: 2 });
        let (a, b) = (next(&log).expect("of a"), next(&log).expect("of b"));
        assert_eq!((a.failures.len(), a.lost_before), (MAX_ENTRIES, 5));
        assert_eq!((b.model.as_str(), b.failures.len(), b.lost_before, b.sequence), ("b", 1, 0, 1));
        record(&log, "a", 0, &RequestError::TooManyRequests { limit: 2 });
        assert_eq!(next(&log).expect("of a").sequence, 2);
    }

    #[test]
    fn messages_about_redacted_inputs_are_not_logged() {
        let log = log();
        record(&log, "a", 0, &InvalidInput::of_tensor("name", "row 0 is Alice").into());
        record(&log, "a", 0, &InvalidInput::of_tensor("age", "row 0 is 200").into());
        record(&log, "a", 0, &InvalidInput::new(BODY, "invalid type: string \"Alice\"").into());
        let messages: Vec<_> = next(&log).expect("a report").failures.into_iter().map(|one| one.message).collect();
        let hidden = |field: &str| format!("{field}: the message is not logged, since inputs are redacted");
        assert_eq!(messages, [hidden("body"), "inputs[age]: row 0 is 200".to_owned(), hidden("inputs[name]")]);
    }

    #[test]
    fn the_largest_report_fits_a_message_of_the_bus() {
        let log = log();
        for number in 0..MAX_ENTRIES {
            let text = format!("{number} {}", "\u{1}".repeat(2 * MAX_MESSAGE));
            record(&log, "a", 0, &InvalidInput::new("inputs", text).into());
        }
        let message = log.next_message().expect("a report");
        assert!(message.payload.len() < 1 << 20, "{}", message.payload.len());
    }
}
