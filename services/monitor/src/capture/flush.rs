//! Makes messages durable: objects first, then one transaction with everything that follows from them.

use std::collections::{BTreeMap, HashSet};

use chrono::{DateTime, TimeDelta, Utc};
use rekindle_domain::ModelName;
use rekindle_store::{Fence, in_transaction, inbox};
use sea_orm::{DatabaseConnection, DatabaseTransaction};
use uuid::Uuid;

use super::{Capture, Captured};
use crate::{
    Error,
    chunk::{Chunk, Kind},
    metrics,
    store::{
        chunks, incarnations, join_keys,
        logs::{self, LogDelta},
        outcome_checks, pending_outcomes, watches,
    },
    window::Timing,
};

impl Capture {
    /// Makes messages durable: afterwards they may be acknowledged. Messages that were captured before have no effect. Fails without the
    /// lease.
    pub(super) async fn flush<M: Captured>(
        &self,
        fence: &Fence,
        messages: Vec<M>,
        now: DateTime<Utc>,
    ) -> Result<(), Error> {
        if messages.is_empty() {
            let fence = fence.clone();
            return in_transaction(&self.db, async move |txn| Ok(fence.check(txn).await?)).await;
        }
        for part in parts(messages, self.flush_rows) {
            self.flush_part(fence, part, now).await?;
        }
        Ok(())
    }

    async fn flush_part<M: Captured>(&self, fence: &Fence, part: Vec<M>, now: DateTime<Utc>) -> Result<(), Error> {
        let mut seen = HashSet::new();
        let mut part: Vec<M> =
            part.into_iter().filter(|message| seen.insert(message.message_id().to_owned())).collect();
        while !part.is_empty() {
            let chunks = self.write(&part, now).await?;
            let count = chunks.len();
            let insertion = Insertion { part: part.clone(), chunks, horizon: self.event_horizon, now };
            match commit(&self.db, fence, insertion).await {
                Ok(()) => {
                    tracing::debug!(consumer = M::CONSUMER, messages = part.len(), chunks = count, "captured");
                    self.captured.notify_one();
                    return Ok(());
                }
                Err(Error::Duplicates(ids)) => {
                    tracing::info!(consumer = M::CONSUMER, messages = ids.len(), "duplicate messages skipped");
                    part.retain(|message| !ids.contains(message.message_id()));
                }
                Err(error) => return Err(error),
            }
        }
        Ok(())
    }

    /// Writes the rows as objects.
    async fn write<M: Captured>(&self, part: &[M], now: DateTime<Utc>) -> Result<Vec<Chunk>, Error> {
        let owned = part.to_vec();
        let encoded = tokio::task::spawn_blocking(move || {
            let drafts = M::drafts(&owned.iter().collect::<Vec<_>>())?;
            drafts.into_iter().map(|draft| draft.encode(now, Uuid::now_v7())).collect::<Result<Vec<_>, Error>>()
        })
        .await??;
        let mut chunks = Vec::with_capacity(encoded.len());
        for (mut chunk, bytes) in encoded {
            chunk.digest = self.artifacts.put_object(&chunk.object_key, bytes).await?;
            chunks.push(chunk);
        }
        Ok(chunks)
    }
}

/// Messages and the chunks of their rows, to be inserted together.
pub(super) struct Insertion<M> {
    pub(super) part: Vec<M>,
    pub(super) chunks: Vec<Chunk>,
    pub(super) horizon: TimeDelta,
    pub(super) now: DateTime<Utc>,
}

/// Commits an insertion and only then counts it: a transaction that lost a race runs again.
pub(super) async fn commit<M: Captured>(
    db: &DatabaseConnection,
    fence: &Fence,
    insertion: Insertion<M>,
) -> Result<(), Error> {
    let fence = fence.clone();
    let insert = async move |txn: &DatabaseTransaction| {
        fence.check(txn).await?;
        insert(txn, &insertion).await
    };
    for (model, delta) in in_transaction(db, insert).await? {
        count(&model, &delta);
    }
    Ok(())
}

/// Inserts everything, or nothing, and returns the change of each log.
pub(super) async fn insert<M: Captured>(
    txn: &DatabaseTransaction,
    insertion: &Insertion<M>,
) -> Result<Vec<(ModelName, LogDelta)>, Error> {
    let Insertion { part, chunks, horizon, now } = insertion;
    let mut duplicates = HashSet::new();
    for message in part {
        if !inbox::first_time(txn, M::CONSUMER, message.message_id(), *now).await? {
            duplicates.insert(message.message_id().to_owned());
        }
    }
    if !duplicates.is_empty() {
        return Err(Error::Duplicates(duplicates));
    }
    let mut by_model: BTreeMap<&ModelName, Vec<&M>> = BTreeMap::new();
    for message in part {
        by_model.entry(message.model()).or_default().push(message);
    }
    let mut deltas = Vec::with_capacity(by_model.len());
    for (model, messages) in by_model {
        let before = logs::get(txn, model).await?;
        let timing = Timing::of(&watches::get(txn, model).await?.settings);
        let of_messages = messages.iter().map(|message| message.delta(&before, &timing));
        let delta = LogDelta { lost_messages: missing(txn, &messages, *now).await?, ..of_messages.sum() };
        for chunk in chunks.iter().filter(|chunk| chunk.model == *model) {
            chunks::insert(txn, chunk, before.clock.latest(), *now).await?;
            if chunk.kind == Kind::Outcome {
                outcome_checks::insert(txn, chunk.id, model, chunk.rows, *now).await?;
            }
        }
        for message in &messages {
            join_keys::insert(txn, message.join_keys(), *now).await?;
            pending_outcomes::insert(txn, model, message.pending(), *now).await?;
        }
        let mut clock = before.clock.clone();
        for (request, times) in messages.iter().flat_map(|message| message.event_times(horizon.num_milliseconds())) {
            clock.take(request, times, timing.length);
        }
        if !logs::apply(txn, model, &before, &delta, &clock).await? {
            return Err(Error::LostRace { what: "the event clock", model: model.clone() });
        }
        deltas.push((model.clone(), delta));
    }
    Ok(deltas)
}

fn count(model: &ModelName, delta: &LogDelta) {
    for (metric, by) in [
        (metrics::PREDICTIONS, delta.predictions),
        (metrics::LOST_ROWS, delta.lost),
        (metrics::LATE_ROWS, delta.late),
        (metrics::TESTS, delta.tests),
        (metrics::OUTCOMES, delta.outcomes),
        (metrics::BAD_OUTCOME_LINES, delta.bad_lines),
    ] {
        metrics::add(metric, model, by);
    }
    let missing = delta.lost_messages;
    if missing > 0 {
        tracing::warn!(%model, missing, "messages of the prediction log are missing");
        metrics::add(metrics::LOST_MESSAGES, model, missing.unsigned_abs());
    }
}

/// By how much the number of missing messages grew, from their numbers. The order of arrival does not matter.
async fn missing<M: Captured>(txn: &DatabaseTransaction, messages: &[&M], now: DateTime<Utc>) -> Result<i64, Error> {
    let mut senders: BTreeMap<Uuid, (u64, u64)> = BTreeMap::new();
    for (incarnation, sequence) in messages.iter().filter_map(|message| message.numbered()) {
        let (highest, count) = senders.entry(incarnation).or_default();
        *highest = sequence.max(*highest);
        *count += 1;
    }
    let mut missing = 0;
    for (incarnation, (highest, count)) in senders {
        missing = i64::saturating_add(missing, incarnations::advance(txn, incarnation, highest, count, now).await?);
    }
    Ok(missing)
}

/// Splits messages into runs of about `rows` rows.
fn parts<M: Captured>(messages: Vec<M>, rows: usize) -> Vec<Vec<M>> {
    let mut parts: Vec<Vec<M>> = Vec::new();
    let mut pending = usize::MAX;
    for message in messages {
        if pending >= rows {
            parts.push(Vec::new());
            pending = 0;
        }
        pending += message.rows();
        parts.last_mut().expect("pushed above").push(message);
    }
    parts
}
