//! Outcomes: JSON lines, published by other systems or by this service's own `ReportOutcomes`.

use std::collections::BTreeMap;

use rekindle_bus::{Message, streams};
use rekindle_domain::ModelName;

use super::{Captured, Draft, model_of, published_id};
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

    fn growth(&self, _: &Log, _: &Timing, _: i64) -> Growth {
        Growth { outcomes: self.outcomes.len() as u64, bad_lines: self.bad.len() as u64, ..Growth::default() }
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

#[cfg(test)]
mod tests {
    use chrono::{TimeDelta, Utc};
    use rekindle_runtime::telemetry::prometheus;
    use rekindle_store::in_transaction;
    use sea_orm::DatabaseTransaction;

    use super::*;
    use crate::{
        capture::{commit, enter},
        store::Migrator,
    };

    #[tokio::test]
    async fn what_is_rolled_back_is_not_counted_and_what_is_committed_is_counted_once() {
        let metrics = prometheus();
        let counted = || {
            let told = metrics.render();
            let line = |what: &str| format!("rekindle_monitor_{what}_total{{model=\"counted\"}} ");
            ["outcomes", "bad_outcome_lines"].map(|what| {
                let line = told.lines().find_map(|told| told.strip_prefix(line(what).as_str()).map(str::to_owned));
                line.map(|count| count.parse::<u64>().expect("a count"))
            })
        };
        let config = rekindle_store::Config { url: "sqlite::memory:".into(), max_connections: 1 };
        let db = rekindle_store::connect(&config).await.expect("it opens");
        rekindle_store::migrate::<Migrator>(&db).await.expect("an empty database");
        let (outcomes, bad) = outcome::parse(
            b"{\"prediction_id\":\"0199a7c2-6f0e-7b7e-9d0e-3f1a2b3c4d5e\",\"label\":\"1\"}\nnonsense\nnonsense",
        );
        let outcomes =
            outcomes.into_iter().map(|(line, outcome)| (Told { at: 0, sequence: 1, line }, outcome)).collect();
        let model = "counted".parse().expect("a name");
        let part = vec![Truths { message_id: "once".into(), model, outcomes, bad }];

        let messages = part.clone();
        let undone = in_transaction(&db, async move |txn: &DatabaseTransaction| {
            enter(txn, &messages, &[], TimeDelta::zero(), Utc::now()).await?;
            Err::<(), _>(Error::Repeated(Default::default()))
        });
        assert!(undone.await.is_err());
        assert_eq!(counted(), [None, None]);
        commit(&db, part.clone(), Vec::new(), TimeDelta::zero(), Utc::now()).await.expect("commits");
        assert_eq!(counted(), [Some(1), Some(2)]);
        let again = commit(&db, part, Vec::new(), TimeDelta::zero(), Utc::now()).await;
        assert!(matches!(again, Err(Error::Repeated(_))), "{again:?}");
        assert_eq!(counted(), [Some(1), Some(2)]);
    }
}
