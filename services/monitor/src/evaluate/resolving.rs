//! Outcomes by join key: once their key is indexed, they become outcomes of a prediction id.
//!
//! The index and the waiting outcomes are both written by capture, each in the transaction of its messages, in any order. A pass looks every
//! waiting outcome up whose key is indexed by now, writes them as a chunk of outcomes, and removes them from the table in one
//! transaction. From there on they are outcomes like all others: joined, checked and counted.

use chrono::{DateTime, Utc};
use rekindle_domain::{ModelName, prediction_log::OutcomeCounts};
use rekindle_store::{Fence, in_transaction};
use uuid::Uuid;

use super::{Evaluation, matching::count, now};
use crate::{
    Error,
    chunk::{self, Draft, Kind},
    outcome::{Key, ReportedLabel, RowLabel},
    store::{
        chunks,
        join_keys::{self, Named},
        logs, outcome_checks,
        pending_outcomes::{self, Stored},
    },
};

/// Outcomes of one pass.
const PER_PASS: u64 = 20_000;

/// What the log and the waiting outcomes had come to before a pass: without a change, the next pass finds nothing.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(super) struct Seen {
    chunk: i64,
    pending: i64,
}

impl Evaluation {
    /// Resolves the waiting outcomes of a model as far as their keys are indexed, and gives up those whose wait is over.
    pub(super) async fn resolve(&mut self, model: &ModelName, fence: &Fence) -> Result<(), Error> {
        let pending = pending_outcomes::latest(&self.db).await?;
        if pending == 0 {
            return Ok(());
        }
        let (seen, at) = (Seen { chunk: chunks::latest_position(&self.db).await?, pending }, now());
        if self.memory.entry(model.clone()).or_default().resolved != Some(seen) {
            while self.resolve_part(model, fence, at).await? {}
            self.memory.entry(model.clone()).or_default().resolved = Some(seen);
        }
        while self.expire_part(model, fence, at).await? {}
        Ok(())
    }

    /// Resolves some outcomes; `false` if none is left.
    async fn resolve_part(&self, model: &ModelName, fence: &Fence, at: DateTime<Utc>) -> Result<bool, Error> {
        let found = pending_outcomes::indexed(&self.db, model, PER_PASS).await?;
        if found.is_empty() {
            return Ok(false);
        }
        let keys: Vec<_> = found.iter().map(|(_, outcome)| outcome.join_key).collect();
        let named = join_keys::find(&self.db, &keys).await?;
        let (mut ids, mut labels, mut refused) = (Vec::new(), Vec::new(), OutcomeCounts::default());
        for (id, outcome) in found {
            match named.get(&outcome.join_key) {
                Some(Named::Row(first)) => {
                    let key = Key { row: first.row.saturating_add(outcome.row), ..*first };
                    labels.push(ReportedLabel {
                        position: outcome.position,
                        row: RowLabel { key, label: outcome.label },
                    });
                }
                Some(Named::Ambiguous) => {
                    refused.ambiguous += 1;
                    let example = format!("{}: several predictions have this key", outcome.about);
                    refused.examples.entry("ambiguous".to_owned()).or_insert(example);
                }
                // Deleted by age between the two queries.
                None => continue,
            }
            ids.push(id);
        }
        self.move_outcomes(model, fence, labels, (ids, refused), at).await?;
        Ok(true)
    }

    /// Gives up some outcomes that have waited too long; `false` if none is left.
    async fn expire_part(&self, model: &ModelName, fence: &Fence, at: DateTime<Utc>) -> Result<bool, Error> {
        let Some(before) = at.checked_sub_signed(self.outcome_wait) else { return Ok(false) };
        let found = pending_outcomes::expired(&self.db, model, before, PER_PASS).await?;
        let Some((_, first)) = found.first() else { return Ok(false) };
        let mut refused = OutcomeCounts { unmatched: found.len() as u64, ..OutcomeCounts::default() };
        refused
            .examples
            .insert("unmatched".to_owned(), format!("{}: no prediction with this key was logged", first.about));
        let ids = found.iter().map(|(id, _): &Stored| *id).collect();
        self.move_outcomes(model, fence, Vec::new(), (ids, refused), at).await?;
        Ok(true)
    }

    /// Removes waiting outcomes: `labels` are in a chunk afterwards, `refused` are counted.
    async fn move_outcomes(
        &self,
        model: &ModelName,
        fence: &Fence,
        labels: Vec<ReportedLabel>,
        (ids, refused): (Vec<i64>, OutcomeCounts),
        at: DateTime<Utc>,
    ) -> Result<(), Error> {
        let mut written = None;
        if !labels.is_empty() {
            let draft = Draft {
                kind: Kind::Outcome,
                model: model.clone(),
                model_version: 0,
                bundle: None,
                batch: chunk::outcomes::batch(&labels)?,
            };
            let encoded = tokio::task::spawn_blocking(move || draft.encode(at, Uuid::now_v7())).await??;
            let (mut chunk, bytes) = encoded;
            chunk.digest = self.artifacts.put_object(&chunk.object_key, bytes).await?;
            written = Some(chunk);
        }
        let (fence, owned, counts) = (fence.clone(), model.clone(), refused.clone());
        in_transaction(&self.db, async move |txn| {
            fence.check(txn).await?;
            if let Some(chunk) = &written {
                logs::lock(txn, &owned).await?;
                chunks::insert(txn, chunk, None, at).await?;
                outcome_checks::insert(txn, chunk.id, &owned, chunk.rows, at).await?;
            }
            if counts != OutcomeCounts::default() {
                outcome_checks::insert_refused(txn, Uuid::now_v7(), &owned, &counts, at).await?;
            }
            Ok::<_, Error>(pending_outcomes::remove(txn, &ids).await?)
        })
        .await?;
        count(model, &refused);
        Ok(())
    }
}
