//! Outcomes: JSON lines, published by other systems or by the monitor's own `ReportOutcomes`.

use std::collections::BTreeMap;

use rekindle_bus::{Message, streams, subject};
use rekindle_domain::ModelName;
use rekindle_service::chain;

use super::{Captured, published_id};
use crate::{
    Error,
    chunk::{self, Draft, Kind},
    outcome::{self, BadLine, Position, ReportedOutcome},
    store::logs::{Log, LogDelta},
    window::Timing,
};

/// Prefix of the message ids of `ReportOutcomes`. Only these are trusted to be unique for ever; other publishers may count from 1
/// each day, so their messages are identified by their position in the stream.
pub(crate) const OWN_IDS: &str = "rekindle-monitor/outcomes/";

/// Characters of a bad line that a status shows.
const EXAMPLE: usize = 200;

/// One message of outcomes.
#[derive(Clone)]
pub(crate) struct OutcomeMessage {
    message_id: String,
    model: ModelName,
    outcomes: Vec<ReportedOutcome>,
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
            Some(id) if id.starts_with(OWN_IDS) => id.to_owned(),
            _ => format!("{}/{at}/{}", message.stream, message.sequence),
        };
        let (good, bad) = outcome::parse(&message.payload);
        let position = |line| Position { at, sequence: message.sequence, line };
        let reported = |(line, outcome)| ReportedOutcome { position: position(line), outcome };
        let outcomes = good.into_iter().map(reported).collect();
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

    fn delta(&self, _: &Log, _: &Timing) -> LogDelta {
        let bad_line = self.bad.first().map(|bad| {
            let text: String = bad.text.chars().filter(|c| !c.is_control()).take(EXAMPLE).collect();
            format!("{text:?}: {}", bad.reason)
        });
        let (outcomes, bad_lines) = (self.outcomes.len() as u64, self.bad.len() as u64);
        LogDelta { outcomes, bad_lines, bad_line, ..LogDelta::default() }
    }

    fn drafts(messages: &[&Self]) -> Result<Vec<Draft>, Error> {
        let mut by_model: BTreeMap<&ModelName, Vec<ReportedOutcome>> = BTreeMap::new();
        for message in messages.iter().filter(|message| !message.outcomes.is_empty()) {
            by_model.entry(&message.model).or_default().extend(message.outcomes.iter().cloned());
        }
        by_model
            .into_iter()
            .map(|(model, outcomes)| {
                let batch = chunk::outcomes::batch(&outcomes)?;
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
        let position = |line| Position { at: 0, sequence: 1, line };
        let reported = |(line, outcome)| ReportedOutcome { position: position(line), outcome };
        let outcomes = outcomes.into_iter().map(reported).collect();
        OutcomeMessage { message_id: "once".into(), model: model.parse().expect("a valid name"), outcomes, bad }
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
