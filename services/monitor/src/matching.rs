//! Finds the predictions that outcomes are about, and says what is wrong with the outcomes that have none.
//!
//! The ids of the outcomes select the chunks that may hold their predictions; of these, only the key columns are read. Chunks of the same
//! model come first, those of other models only for the ids that it does not have.

use std::collections::{HashMap, HashSet};

use bytes::Bytes;
use rekindle_artifacts::Artifacts;
use rekindle_domain::{Digest, ModelName, outcome::Label};
use rekindle_service::{Fault as _, chain};
use sea_orm::DatabaseConnection;

use crate::{
    Error,
    chunk::{
        self, Chunk,
        columns::{INCARNATION, Keys, PREDICTION_ID, ROW, texts},
    },
    outcome::{Key, RowLabel},
    quality,
    reference::References,
    store::chunks,
};

/// Index entries of chunks that are read at once.
const PAGE: u64 = 256;

/// What became of an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Finding {
    /// The prediction is captured, and the label is valid.
    Matched,
    /// The prediction is not captured, or not completely.
    Pending,
    /// The request has so many rows.
    RowOutOfRange(u32),
    /// The prediction was made by this model.
    WrongModel(ModelName),
    /// The label is no value of the target; why.
    InvalidLabel(String),
}

/// Where predictions are looked up.
#[derive(Clone, Copy)]
pub(crate) struct Log<'a> {
    pub(crate) db: &'a DatabaseConnection,
    pub(crate) artifacts: &'a Artifacts,
    pub(crate) references: &'a References,
}

/// One finding per outcome. After `max_reads` reads, of chunks and of pages of their index, what is not found is pending.
pub(crate) async fn find(
    log: Log<'_>,
    model: &ModelName,
    outcomes: &[RowLabel],
    max_reads: usize,
) -> Result<Vec<Finding>, Error> {
    let mut search = Search::of(outcomes);
    let mut budget = max_reads;
    for is_own in [true, false] {
        search.scan(log, model, is_own, &mut budget).await?;
    }
    let mut findings = Vec::with_capacity(outcomes.len());
    for outcome in outcomes {
        findings.push(match search.find(model, outcome.key) {
            Ok(bundle) => label(log.references, bundle, &outcome.label).await?,
            Err(finding) => finding,
        });
    }
    Ok(findings)
}

/// Checks the label of a captured row. A bundle that cannot be read says nothing about it.
async fn label(references: &References, bundle: Digest, label: &Label) -> Result<Finding, Error> {
    match references.get(&bundle).await {
        Ok(reference) => {
            Ok(quality::invalid_label(&reference.manifest, label).map_or(Finding::Matched, Finding::InvalidLabel))
        }
        Err(error) if error.is_transient() => Err(error),
        Err(_) => Ok(Finding::Matched),
    }
}

/// The rows that outcomes are about, and what was found of them.
struct Search {
    /// Predictions of which rows are sought, sorted; those that were found since the last page of chunks are among them.
    ids: Vec<u128>,
    /// Rows that are not found yet.
    keys: HashSet<Key>,
    /// The number of rows of each prediction that are not found yet.
    left: HashMap<u128, u32>,
    rows: HashMap<Key, Digest>,
    requests: HashMap<u128, Request>,
}

/// The captured rows of one request.
struct Request {
    model: ModelName,
    /// The greatest row.
    last: u32,
    /// Whether its replica has logged another request after it, so that no row is to come.
    is_complete: bool,
}

impl Search {
    fn of(outcomes: &[RowLabel]) -> Self {
        let keys: HashSet<Key> = outcomes.iter().map(|outcome| outcome.key).collect();
        let mut left: HashMap<u128, u32> = HashMap::new();
        for key in &keys {
            *left.entry(key.prediction).or_default() += 1;
        }
        let mut ids: Vec<u128> = left.keys().copied().collect();
        ids.sort_unstable();
        Self { ids, keys, left, rows: HashMap::new(), requests: HashMap::new() }
    }

    /// The bundle that predicted the row, or why there is none.
    fn find(&self, model: &ModelName, key: Key) -> Result<Digest, Finding> {
        match (self.rows.get(&key), self.requests.get(&key.prediction)) {
            (_, Some(request)) if request.model != *model => Err(Finding::WrongModel(request.model.clone())),
            (Some(bundle), _) => Ok(*bundle),
            (None, Some(request)) if request.is_complete => Err(Finding::RowOutOfRange(request.last + 1)),
            (None, _) => Err(Finding::Pending),
        }
    }

    /// Reads the chunks of the model, or those of the others, that may hold what is not found yet.
    async fn scan(&mut self, log: Log<'_>, model: &ModelName, is_own: bool, budget: &mut usize) -> Result<(), Error> {
        let mut after = 0;
        while let (Some(&first), Some(&last)) = (self.ids.first(), self.ids.last()) {
            if !take(budget) {
                return Ok(());
            }
            let page = chunks::spanning(log.db, (first, last), after, PAGE).await?;
            let Some(&(position, _)) = page.last() else { break };
            after = position;
            for (_, chunk) in page.into_iter().filter(|(_, chunk)| (chunk.model == *model) == is_own) {
                if self.left.is_empty() {
                    return Ok(());
                }
                if !self.may_hold(&chunk) {
                    continue;
                }
                if !take(budget) {
                    return Ok(());
                }
                self.read(log.artifacts, chunk).await?;
                if 2 * self.left.len() < self.ids.len() {
                    self.prune();
                }
            }
            self.prune();
        }
        // What the model has, no other model has.
        self.ids.retain(|id| !self.requests.contains_key(id));
        Ok(())
    }

    /// Forgets the predictions of which every row was found.
    fn prune(&mut self) {
        self.ids.retain(|id| self.left.contains_key(id));
    }

    fn may_hold(&self, chunk: &Chunk) -> bool {
        let next = self.ids.partition_point(|id| *id < chunk.ids.0);
        self.ids.get(next).is_some_and(|id| *id <= chunk.ids.1)
    }

    async fn read(&mut self, artifacts: &Artifacts, chunk: Chunk) -> Result<(), Error> {
        let bytes = match artifacts.get_object_verified(&chunk.object_key, &chunk.digest).await {
            Ok(bytes) => bytes,
            Err(error) => {
                let error = Error::from(error);
                // Rows that cannot be read are as good as not captured.
                return if error.is_transient() { Err(error) } else { Ok(()) };
            }
        };
        let search = std::mem::replace(self, Self::of(&[]));
        *self = tokio::task::spawn_blocking(move || search.visited(bytes, &chunk)).await?;
        Ok(())
    }

    fn visited(mut self, bytes: Bytes, chunk: &Chunk) -> Self {
        if let Err(error) = self.visit(bytes, chunk) {
            // Rows that cannot be decoded are as good as not captured.
            tracing::error!(chunk = %chunk.id, error = chain(&error), "predictions cannot be read");
        }
        self
    }

    fn visit(&mut self, bytes: Bytes, chunk: &Chunk) -> Result<(), Error> {
        let Some(bundle) = chunk.bundle else { return Ok(()) };
        // The request that each replica logged last.
        let mut logged: HashMap<String, u128> = HashMap::new();
        for batch in chunk::read(bytes, |name| [PREDICTION_ID, ROW, INCARNATION].contains(&name))? {
            let batch = batch?;
            let (keys, incarnations) = (Keys::of(&batch)?, texts(&batch, INCARNATION)?);
            for index in 0..keys.rows() {
                let key = keys.key(index);
                let before = match logged.get_mut(incarnations.value(index)) {
                    Some(before) => Some(std::mem::replace(before, key.prediction)),
                    None => logged.insert(incarnations.value(index).to_owned(), key.prediction),
                };
                if let Some(before) = before.filter(|before| *before != key.prediction)
                    && let Some(request) = self.requests.get_mut(&before)
                {
                    request.is_complete = true;
                }
                self.add(key, bundle, &chunk.model);
            }
        }
        Ok(())
    }

    fn add(&mut self, key: Key, bundle: Digest, model: &ModelName) {
        let Some(left) = self.left.get_mut(&key.prediction) else { return };
        let fresh = || Request { model: model.clone(), last: key.row, is_complete: false };
        let request = self.requests.entry(key.prediction).or_insert_with(fresh);
        request.last = request.last.max(key.row);
        if self.keys.remove(&key) {
            self.rows.insert(key, bundle);
            *left -= 1;
            if *left == 0 {
                self.left.remove(&key.prediction);
            }
        }
    }
}

/// Takes one read from the budget; `false` if it is spent.
fn take(budget: &mut usize) -> bool {
    let left = budget.checked_sub(1);
    *budget = left.unwrap_or_default();
    left.is_some()
}
