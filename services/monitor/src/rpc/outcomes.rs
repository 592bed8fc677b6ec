//! `ReportOutcomes`: what can be known at once is checked, and the rest is published for capture.

use futures::{StreamExt as _, TryStreamExt as _, stream};
use rekindle_bus::subject;
use rekindle_client::wire::outcome::from_wire;
use rekindle_domain::{
    Digest, ModelName,
    outcome::{Outcome, PredictedRow},
    validation::{Checks, Violations},
};
use rekindle_proto::monitor as proto;
use rekindle_service::{Call, chain};

use crate::{
    App, Error,
    capture::outcomes::OWN_IDS,
    join_key::RowName,
    matching::{self, Finding},
    outcome::{self, Key, RowLabel},
    store::join_keys::{self, Named},
};

/// Outcomes of one call at most.
const MAX_OUTCOMES: usize = 10_000;
/// Reads at most, of chunks and of pages of their index, to check the outcomes of one call.
const CHECK_READS: usize = 16;
/// Bytes of one message of outcomes at most.
const MESSAGE_BYTES: usize = 512 * 1024;
/// Concurrent publications of outcome messages.
const PUBLISHES: usize = 8;
/// Longest idempotency key, in bytes.
const MAX_KEY: usize = 200;

/// The outcomes of a request.
pub(super) fn parse(request: &proto::ReportOutcomesRequest) -> Result<Vec<Outcome>, Violations> {
    let mut checks = Checks::new();
    let given = request.outcomes.len();
    if !(1..=MAX_OUTCOMES).contains(&given) {
        checks.violation("outcomes", format!("has {given} outcomes: expected 1 to {MAX_OUTCOMES}"));
    }
    let length = request.idempotency_key.len();
    if length > MAX_KEY {
        checks.violation("idempotency_key", format!("has {length} bytes: expected at most {MAX_KEY}"));
    }
    checks.finish()?;
    let mut checks = Checks::new();
    let parsed = request.outcomes.iter().enumerate();
    let parsed =
        parsed.filter_map(|(index, given)| checks.taken(&format!("outcomes[{index}]"), from_wire(given.clone())));
    let parsed = parsed.collect();
    checks.finish().map(|()| parsed)
}

/// Publishes outcomes. The same key gives the same message ids, which capture recognises.
pub(super) async fn publish(
    app: &App,
    call: &Call,
    model: &ModelName,
    outcomes: &[Outcome],
    key: &str,
) -> Result<(), Error> {
    let key = match key {
        "" => call.id.to_string(),
        // A key is any text, and a header accepts only some.
        key => Digest::of(key.as_bytes()).hex(),
    };
    let subject = subject::outcomes(model);
    let messages = outcome::encode(outcomes, MESSAGE_BYTES).into_iter().enumerate().map(|(part, message)| {
        let (subject, id) = (subject.clone(), format!("{OWN_IDS}{model}/{key}/{part}"));
        async move { app.0.bus.publish(subject, &id, async_nats::HeaderMap::new(), message.into()).await }
    });
    let publishes: Vec<_> = messages.collect();
    stream::iter(publishes).buffer_unordered(PUBLISHES).try_collect::<Vec<_>>().await?;
    Ok(())
}

/// Refuses outcomes that are known to be wrong, and returns how many are known to be right. The others are checked once their
/// predictions are captured.
pub(super) async fn check(app: &App, model: &ModelName, outcomes: &[Outcome]) -> Result<u64, Error> {
    match find(app, model, outcomes).await {
        Ok(findings) => {
            refuse(outcomes, &findings)?;
            Ok(findings.iter().filter(|finding| **finding == Known::Row(Finding::Matched)).count() as u64)
        }
        Err(error) => {
            tracing::warn!(%model, error = chain(&error), "outcomes accepted without a check");
            Ok(0)
        }
    }
}

/// What is known of an outcome.
#[derive(Debug, Clone, PartialEq, Eq)]
enum Known {
    Row(Finding),
    /// Its join key names several rows.
    Ambiguous,
}

/// One entry per outcome.
async fn find(app: &App, model: &ModelName, outcomes: &[Outcome]) -> Result<Vec<Known>, Error> {
    let inner = &app.0;
    let names: Vec<RowName> = outcomes.iter().map(|outcome| RowName::of(model, &outcome.row)).collect();
    let join_keys = names.iter().filter_map(|name| match name {
        RowName::JoinKey { join_key, .. } => Some(*join_key),
        RowName::Key(_) => None,
    });
    let named = join_keys::find(&inner.db, &join_keys.collect::<Vec<_>>()).await?;
    let key = |name: &RowName| match *name {
        RowName::Key(key) => Ok(key),
        RowName::JoinKey { join_key, row } => match named.get(&join_key) {
            Some(Named::Row(first)) => Ok(Key { row: first.row.saturating_add(row), ..*first }),
            Some(Named::Ambiguous) => Err(Known::Ambiguous),
            None => Err(Known::Row(Finding::Pending)),
        },
    };
    let keys: Vec<Result<Key, Known>> = names.iter().map(key).collect();
    let rows = keys.iter().zip(outcomes).filter_map(|(key, outcome)| {
        let key = *key.as_ref().ok()?;
        Some(RowLabel { key, label: outcome.label.clone() })
    });
    let log = matching::Log { db: &inner.db, artifacts: &inner.artifacts, references: &inner.export_references };
    let mut findings = matching::find(log, model, &rows.collect::<Vec<_>>(), CHECK_READS).await?.into_iter();
    let known = keys.into_iter().map(|key| match key {
        Ok(_) => Known::Row(findings.next().unwrap_or(Finding::Pending)),
        Err(known) => known,
    });
    Ok(known.collect())
}

fn refuse(outcomes: &[Outcome], findings: &[Known]) -> Result<(), Violations> {
    let mut checks = Checks::new();
    for (index, (outcome, finding)) in outcomes.iter().zip(findings).enumerate() {
        let (field, problem) = match finding {
            Known::Row(Finding::Matched | Finding::Pending) => continue,
            Known::Row(Finding::RowOutOfRange(rows)) => {
                ("row", format!("{}: the request has {rows} rows, from 0", outcome.row))
            }
            Known::Row(Finding::WrongModel(other)) => {
                (key_field(&outcome.row), format!("is a prediction of {other}: report its outcome for that model"))
            }
            Known::Row(Finding::InvalidLabel(problem)) => ("label", problem.clone()),
            Known::Ambiguous => {
                (key_field(&outcome.row), "is that of several predictions: specify prediction_id".to_owned())
            }
        };
        checks.violation(format!("outcomes[{index}].{field}"), problem);
    }
    checks.finish()
}

/// The field that names the row.
fn key_field(row: &PredictedRow) -> &'static str {
    match row {
        PredictedRow::Prediction { .. } => "prediction_id",
        PredictedRow::Request { .. } => "request_id",
        PredictedRow::Entity { .. } => "entity_key",
    }
}
