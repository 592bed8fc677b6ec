//! Outcomes: JSON lines, published by other systems or by the monitor's own `ReportOutcomes`.

use std::collections::BTreeMap;

use rekindle_bus::{Message, streams, subject};
use rekindle_domain::ModelName;
use rekindle_service::chain;

use super::{Captured, published_id};
use crate::{
    Error,
    chunk::{self, Draft, Kind},
    outcome::{self, BadLine, PendingOutcome, Position, Reported, ReportedLabel},
    store::logs::{Log, LogDelta},
    window::Timing,
};

/// Prefix of the message ids of `ReportOutcomes`. Only these are trusted to be unique for ever; other publishers may count from 1
/// each day, so their messages are identified by their position in the stream.
pub(crate) const OWN_IDS: &str = "rekindle-monitor/outcomes/";

/// Longest message id of `ReportOutcomes`, in bytes.
const MAX_ID: usize = 1_000;

/// Characters of a bad line, and of the reason, that a status shows.
const EXAMPLE: usize = 200;

/// Whether a message id is one of `ReportOutcomes`. Anyone can publish an id that begins like one.
fn is_own(id: &str) -> bool {
    id.starts_with(OWN_IDS) && id.len() <= MAX_ID && id.bytes().all(|byte| byte.is_ascii_graphic())
}

/// One message of outcomes.
#[derive(Clone)]
pub(crate) struct OutcomeMessage {
    message_id: String,
    model: ModelName,
    labels: Vec<ReportedLabel>,
    /// Outcomes by join key.
    pending: Vec<PendingOutcome>,
    /// Invalid lines.
    bad: Vec<BadLine>,
}

impl Captured for OutcomeMessage {
    const CONSUMER: &'static str = "monitor-outcomes";
    const STREAM: &'static str = streams::OUTCOMES;
    const PURGES: bool = true;
    const OF_KNOWN_MODELS: bool = true;

    fn decode(message: &Message) -> Result<Self, String> {
        let model = subject::parse_outcomes(&message.subject).map_err(|error| chain(&error))?;
        let at = message.stored_at.timestamp_nanos_opt().unwrap_or(i64::MAX);
        let message_id = match published_id(message) {
            Some(id) if is_own(id) => id.to_owned(),
            _ => format!("{}/{at}/{}", message.stream, message.sequence),
        };
        let (good, bad) = outcome::parse(&message.payload);
        let position = |line| Position { at, sequence: message.sequence, line };
        let (mut labels, mut pending) = (Vec::with_capacity(good.len()), Vec::new());
        for (line, outcome) in good {
            match Reported::new(&model, position(line), outcome) {
                Reported::Label(label) => labels.push(label),
                Reported::Pending(outcome) => pending.push(outcome),
            }
        }
        Ok(Self { message_id, model, labels, pending, bad })
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
        self.labels.len() + self.pending.len()
    }

    fn pending(&self) -> &[PendingOutcome] {
        &self.pending
    }

    fn delta(&self, _: &Log, _: &Timing) -> LogDelta {
        let bad_line = self.bad.first().map(|bad| {
            // Both repeat what was published: a database stores no NUL, and a terminal prints no control characters.
            let shown = |text: &str| text.chars().filter(|c| !c.is_control()).take(EXAMPLE).collect::<String>();
            format!("{:?}: {}", shown(&bad.text), shown(&bad.reason))
        });
        let (outcomes, bad_lines) = (self.rows() as u64, self.bad.len() as u64);
        LogDelta { outcomes, bad_lines, bad_line, ..LogDelta::default() }
    }

    fn drafts(messages: &[&Self]) -> Result<Vec<Draft>, Error> {
        let mut by_model: BTreeMap<&ModelName, Vec<ReportedLabel>> = BTreeMap::new();
        for message in messages.iter().filter(|message| !message.labels.is_empty()) {
            by_model.entry(&message.model).or_default().extend(message.labels.iter().cloned());
        }
        by_model
            .into_iter()
            .map(|(model, labels)| {
                let batch = chunk::outcomes::batch(&labels)?;
                Ok(Draft { kind: Kind::Outcome, model: model.clone(), model_version: 0, bundle: None, batch })
            })
            .collect()
    }
}

#[cfg(test)]
mod tests {
    use chrono::{TimeDelta, Utc};
    use rekindle_runtime::telemetry::prometheus;
    use rekindle_store::in_transaction;
    use sea_orm::DatabaseTransaction;

    use super::*;
    use crate::{
        capture::flush::{Insertion, commit, insert},
        ownership::{
            self,
            tests::{database, holding, take_over},
        },
        store::logs,
    };

    fn message(model: &str) -> OutcomeMessage {
        let (outcomes, bad) = outcome::parse(
            b"{\"prediction_id\":\"0199a7c2-6f0e-7b7e-9d0e-3f1a2b3c4d5e\",\"label\":\"1\"}\nnonsense\nnonsense",
        );
        let model: ModelName = model.parse().expect("a valid name");
        let mut labels = Vec::new();
        for (line, outcome) in outcomes {
            if let Reported::Label(label) = Reported::new(&model, Position { at: 0, sequence: 1, line }, outcome) {
                labels.push(label);
            }
        }
        OutcomeMessage { message_id: "once".into(), model, labels, pending: Vec::new(), bad }
    }

    fn insertion(message: &OutcomeMessage) -> Insertion<OutcomeMessage> {
        Insertion { part: vec![message.clone()], chunks: Vec::new(), horizon: TimeDelta::zero(), now: Utc::now() }
    }

    #[tokio::test]
    async fn a_former_holder_inserts_nothing() {
        let db = database().await;
        let (_leases, fence) = holding(&db, ownership::CAPTURE).await;
        take_over(&db).await;
        let message = message("owned");
        let refused = commit(&db, &fence, insertion(&message)).await.expect_err("another instance holds the lease");
        assert!(refused.is_lost_lease(), "{refused:?}");
        assert_eq!(logs::get(&db, &message.model).await.expect("readable").outcomes, 0);
        // The message id was not recorded either: the holder captures the message.
        let inserted = in_transaction(&db, async move |txn| insert(txn, &insertion(&message)).await).await;
        assert_eq!(inserted.expect("its first time").len(), 1);
    }

    #[tokio::test]
    async fn only_committed_messages_are_counted_and_each_once() {
        let metrics = prometheus();
        let counted = || {
            let rendered = metrics.render();
            let line = |what: &str| format!("rekindle_monitor_{what}_total{{model=\"counted\"}} ");
            ["outcomes", "bad_outcome_lines"].map(|what| {
                let line =
                    rendered.lines().find_map(|rendered| rendered.strip_prefix(line(what).as_str()).map(str::to_owned));
                line.map(|count| count.parse::<u64>().expect("a count"))
            })
        };
        let db = database().await;
        let message = message("counted");
        let rolled_back = insertion(&message);
        let rolled_back = in_transaction(&db, async move |txn: &DatabaseTransaction| {
            insert(txn, &rolled_back).await?;
            Err::<(), _>(Error::Duplicates(Default::default()))
        });
        assert!(rolled_back.await.is_err());
        assert_eq!(counted(), [None, None]);
        let (_leases, fence) = holding(&db, ownership::CAPTURE).await;
        commit(&db, &fence, insertion(&message)).await.expect("commits");
        assert_eq!(counted(), [Some(1), Some(2)]);
        let repeated = commit(&db, &fence, insertion(&message)).await;
        assert!(matches!(repeated, Err(Error::Duplicates(_))), "{repeated:?}");
        assert_eq!(counted(), [Some(1), Some(2)]);
    }
}
