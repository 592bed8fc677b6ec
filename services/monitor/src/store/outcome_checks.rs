//! The check of each chunk of outcomes against the predictions.

use std::collections::BTreeMap;

use chrono::{DateTime, Utc};
use rekindle_domain::{ModelName, prediction_log::OutcomeCounts};
use sea_orm::{
    ActiveValue::Set,
    ColumnTrait, ConnectionTrait, DbErr, EntityTrait, QueryFilter, QueryOrder, QuerySelect,
    sea_query::{Expr, ExprTrait as _},
};
use serde_json::json;
use uuid::Uuid;

use super::{counted, entities::outcome_check, stored, unreadable};

/// Checks that are made at once, at most.
const MOST_CHECKS: u64 = 64;

/// Checks whose examples a status shows.
const EXAMPLES: u64 = 16;

/// A check that is due.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Due {
    /// The chunk of outcomes.
    pub(crate) chunk: Uuid,
    /// The number of its outcomes.
    pub(crate) outcomes: u64,
    /// When it was captured.
    pub(crate) captured_at: DateTime<Utc>,
}

/// Adds the first check of a chunk, due at once.
pub(crate) async fn insert(
    txn: &impl ConnectionTrait,
    chunk: Uuid,
    model: &ModelName,
    outcomes: u64,
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    let row = outcome_check::ActiveModel {
        chunk_id: Set(chunk),
        model: Set(model.to_string()),
        outcomes: Set(stored(outcomes)),
        matched: Set(0),
        unmatched: Set(0),
        row_out_of_range: Set(0),
        wrong_model: Set(0),
        invalid_label: Set(0),
        ambiguous: Set(0),
        examples: Set(json!({})),
        captured_at: Set(now),
        due_at: Set(Some(now)),
    };
    outcome_check::Entity::insert(row).exec_without_returning(txn).await?;
    Ok(())
}

/// Adds what became of outcomes by join key that are in no chunk, for good.
pub(crate) async fn insert_refused(
    txn: &impl ConnectionTrait,
    id: Uuid,
    model: &ModelName,
    counts: &OutcomeCounts,
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    let outcomes = counts.refused().into_iter().map(|(_, count)| count).sum();
    insert(txn, id, model, outcomes, now).await?;
    record(txn, id, counts, None).await
}

/// The checks of a model that have been due longest: at least one, and further ones while they have at most `most` outcomes in all.
pub(crate) async fn due(
    db: &impl ConnectionTrait,
    model: &ModelName,
    now: DateTime<Utc>,
    most: u64,
) -> Result<Vec<Due>, DbErr> {
    let query = outcome_check::Entity::find()
        .filter(outcome_check::Column::Model.eq(model.as_str()))
        .filter(outcome_check::Column::DueAt.lte(now))
        .order_by_asc(outcome_check::Column::DueAt)
        .limit(MOST_CHECKS);
    let (mut due, mut outcomes) = (Vec::new(), 0_u64);
    for row in query.all(db).await? {
        let of_row = counted(row.outcomes);
        outcomes = outcomes.saturating_add(of_row);
        if !due.is_empty() && outcomes > most {
            break;
        }
        due.push(Due { chunk: row.chunk_id, outcomes: of_row, captured_at: row.captured_at });
    }
    Ok(due)
}

/// The models with a check that is due.
pub(crate) async fn due_models(db: &impl ConnectionTrait, now: DateTime<Utc>) -> Result<Vec<ModelName>, DbErr> {
    let query = outcome_check::Entity::find().filter(outcome_check::Column::DueAt.lte(now)).select_only();
    let names: Vec<String> = query.column(outcome_check::Column::Model).distinct().into_tuple().all(db).await?;
    names.iter().map(|name| name.parse().map_err(|error| unreadable("outcome_checks.model", error))).collect()
}

/// Records the result of a check; `due_at` is the time of the next one, `None` after the last.
pub(crate) async fn record(
    txn: &impl ConnectionTrait,
    chunk: Uuid,
    counts: &OutcomeCounts,
    due_at: Option<DateTime<Utc>>,
) -> Result<(), DbErr> {
    use outcome_check::Column;
    outcome_check::Entity::update_many()
        .filter(Column::ChunkId.eq(chunk))
        .col_expr(Column::Matched, Expr::value(stored(counts.matched)))
        .col_expr(Column::Unmatched, Expr::value(stored(counts.unmatched)))
        .col_expr(Column::RowOutOfRange, Expr::value(stored(counts.row_out_of_range)))
        .col_expr(Column::WrongModel, Expr::value(stored(counts.wrong_model)))
        .col_expr(Column::InvalidLabel, Expr::value(stored(counts.invalid_label)))
        .col_expr(Column::Ambiguous, Expr::value(stored(counts.ambiguous)))
        .col_expr(Column::Examples, Expr::value(json!(counts.examples)))
        .col_expr(Column::DueAt, Expr::value(due_at))
        .exec(txn)
        .await?;
    Ok(())
}

/// The counts of all outcomes of a model, malformed lines apart, with the latest examples.
pub(crate) async fn counts(db: &impl ConnectionTrait, model: &ModelName) -> Result<OutcomeCounts, DbErr> {
    use outcome_check::Column;
    let of_model = || outcome_check::Entity::find().filter(Column::Model.eq(model.as_str()));
    let mut sums = of_model().select_only();
    let columns = [
        Column::Outcomes,
        Column::Matched,
        Column::Unmatched,
        Column::RowOutOfRange,
        Column::WrongModel,
        Column::InvalidLabel,
        Column::Ambiguous,
    ];
    for (column, name) in columns.into_iter().zip(["a", "b", "c", "d", "e", "f", "g"]) {
        // PostgreSQL's sum of bigint is numeric.
        sums = sums.column_as(column.sum().cast_as("bigint"), name);
    }
    type Sum = Option<i64>;
    type Sums = (Sum, Sum, Sum, Sum, Sum, Sum, Sum);
    let sums: Option<Sums> = sums.into_tuple().one(db).await?;
    let (outcomes, matched, unmatched, row_out_of_range, wrong_model, invalid_label, ambiguous) =
        sums.unwrap_or_default();
    let [outcomes, matched, unmatched, row_out_of_range, wrong_model, invalid_label, ambiguous] =
        [outcomes, matched, unmatched, row_out_of_range, wrong_model, invalid_label, ambiguous]
            .map(|sum| counted(sum.unwrap_or_default()));
    let with_examples = of_model().filter(Expr::col(Column::Outcomes).gt(Expr::col(Column::Matched)));
    let latest = with_examples.order_by_desc(Column::CapturedAt).limit(EXAMPLES).all(db).await?;
    let mut examples: BTreeMap<String, String> = BTreeMap::new();
    for row in latest.into_iter().rev() {
        let found: BTreeMap<String, String> =
            serde_json::from_value(row.examples).map_err(|error| unreadable("outcome_checks.examples", error))?;
        examples.extend(found);
    }
    let counts = OutcomeCounts {
        matched,
        unmatched,
        row_out_of_range,
        wrong_model,
        invalid_label,
        ambiguous,
        examples,
        ..OutcomeCounts::default()
    };
    let decided = counts.refused().into_iter().fold(matched, |sum, (_, count)| sum.saturating_add(count));
    Ok(OutcomeCounts { pending: outcomes.saturating_sub(decided), ..counts })
}
