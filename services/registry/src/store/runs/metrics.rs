//! Points of metrics, stored as chunks: one row per call and metric. Points that are logged a few at a time are added to the last chunk until
//! it has [`SMALL`] points.

use std::collections::{BTreeMap, BTreeSet};

use chrono::{DateTime, Utc};
use rekindle_domain::{RunId, run::Metric};
use sea_orm::{
    ColumnTrait, Condition, ConnectionTrait, DbErr, EntityTrait, ExprTrait, IntoActiveModel, PaginatorTrait,
    QueryFilter, QueryOrder, QuerySelect, sea_query::OnConflict,
};
use uuid::Uuid;

use crate::store::entity::{run_last_metric, run_metric_chunk};

/// Points up to which a chunk is extended instead of followed by another.
const SMALL: usize = 64;
/// Bytes of a point: step, time and value.
const POINT: usize = 24;
/// Names or chunks of one statement: SQLite's expressions have at most 1,000 levels, and its statements 32,766 values.
const AT_ONCE: usize = 100;
/// Chunks that are read at a time.
const READ: u64 = 32;

/// A point without its name.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) struct Point {
    pub(crate) step: i64,
    /// In microseconds since 1970 UTC.
    pub(crate) time: i64,
    pub(crate) value: f64,
}

impl Point {
    fn of(metric: &Metric, now: DateTime<Utc>) -> Self {
        let Metric { name: _, value, step, time } = *metric;
        Self { step, time: time.unwrap_or(now).timestamp_micros(), value }
    }

    fn named(self, name: &str) -> Metric {
        let time = DateTime::from_timestamp_micros(self.time);
        Metric { name: name.to_owned(), value: self.value, step: self.step, time }
    }
}

/// The steps of all points, then their times, then their values: eight bytes each, the least significant first.
pub(crate) fn encode(points: &[Point]) -> Vec<u8> {
    let mut bytes = Vec::with_capacity(points.len() * POINT);
    bytes.extend(points.iter().flat_map(|point| point.step.to_le_bytes()));
    bytes.extend(points.iter().flat_map(|point| point.time.to_le_bytes()));
    bytes.extend(points.iter().flat_map(|point| point.value.to_le_bytes()));
    bytes
}

fn decode(row: &run_metric_chunk::Model) -> Result<Vec<Point>, DbErr> {
    let count = row.data.len() / POINT;
    let (eights, rest) = row.data.as_chunks::<8>();
    if !rest.is_empty() || eights.len() != 3 * count {
        let length = row.data.len();
        return Err(DbErr::Type(format!("chunk {} of metric {:?} has {length} bytes", row.sequence, row.name)));
    }
    let point = |at: usize| Point {
        step: i64::from_le_bytes(eights[at]),
        time: i64::from_le_bytes(eights[count + at]),
        value: f64::from_le_bytes(eights[2 * count + at]),
    };
    Ok((0..count).map(point).collect())
}

/// The chunk of points of one metric.
pub(crate) fn chunk(run_id: Uuid, name: &str, sequence: i64, points: &[Point]) -> run_metric_chunk::Model {
    let steps = || points.iter().map(|point| point.step);
    run_metric_chunk::Model {
        run_id,
        name: name.to_owned(),
        sequence,
        points: i64::try_from(points.len()).unwrap_or(i64::MAX),
        min_step: steps().min().unwrap_or_default(),
        max_step: steps().max().unwrap_or_default(),
        data: encode(points),
    }
}

/// Of these names, those of metrics that the run has, with their last points and chunks.
pub(crate) async fn known(
    db: &impl ConnectionTrait,
    id: RunId,
    names: &BTreeSet<&str>,
) -> Result<BTreeMap<String, run_last_metric::Model>, DbErr> {
    let names: Vec<&str> = names.iter().copied().collect();
    let mut known = BTreeMap::new();
    for names in names.chunks(AT_ONCE) {
        let rows = run_last_metric::Entity::find()
            .filter(run_last_metric::Column::RunId.eq(id.uuid()))
            .filter(run_last_metric::Column::Name.is_in(names.iter().copied()))
            .all(db)
            .await?;
        known.extend(rows.into_iter().map(|row| (row.name.clone(), row)));
    }
    Ok(known)
}

/// How many metrics a run has.
pub(crate) async fn count(db: &impl ConnectionTrait, id: RunId) -> Result<u64, DbErr> {
    run_last_metric::Entity::find().filter(run_last_metric::Column::RunId.eq(id.uuid())).count(db).await
}

/// The names of the metrics of a run.
pub(crate) async fn names(db: &impl ConnectionTrait, id: RunId, limit: u64) -> Result<Vec<String>, DbErr> {
    let query = run_last_metric::Entity::find().select_only().column(run_last_metric::Column::Name);
    let query = query.filter(run_last_metric::Column::RunId.eq(id.uuid())).order_by_asc(run_last_metric::Column::Name);
    query.limit(limit).into_tuple().all(db).await
}

/// Appends points. `known` has what [`known`] has found of their names in the same transaction.
pub(crate) async fn append(
    txn: &impl ConnectionTrait,
    id: RunId,
    metrics: &[Metric],
    known: &BTreeMap<String, run_last_metric::Model>,
    now: DateTime<Utc>,
) -> Result<(), DbErr> {
    let mut by_name = BTreeMap::<&str, Vec<Point>>::new();
    for metric in metrics {
        by_name.entry(&metric.name).or_default().push(Point::of(metric, now));
    }
    let mut tails = tails(txn, id, &by_name, known).await?;
    let (mut chunks, mut last) = (Vec::with_capacity(by_name.len()), Vec::with_capacity(by_name.len()));
    for (name, mut points) in by_name {
        // Of several points with the highest step, the last that was logged.
        let newest = |points: &[Point]| points.iter().copied().reduce(|a, b| if b.step >= a.step { b } else { a });
        let numbers: Vec<Point> = points.iter().copied().filter(|point| !point.value.is_nan()).collect();
        let Some(newest) = newest(&numbers).or_else(|| newest(&points)) else { continue };
        let before = known.get(name);
        let sequence = match tails.remove(name) {
            Some((sequence, earlier)) => {
                points.splice(0..0, earlier);
                sequence
            }
            None => before.map_or(0, |row| row.last_chunk + 1),
        };
        let newest = match before {
            Some(run_last_metric::Model { value: Some(value), step, time, .. })
                if *step > newest.step || newest.value.is_nan() =>
            {
                Point { step: *step, time: time.timestamp_micros(), value: *value }
            }
            _ => newest,
        };
        chunks.push(chunk(id.uuid(), name, sequence, &points).into_active_model());
        last.push(last_row(id.uuid(), name, newest, sequence, points.len())?.into_active_model());
    }
    write(txn, chunks, last).await
}

/// The row of the last point of a metric.
pub(crate) fn last_row(
    run_id: Uuid,
    name: &str,
    newest: Point,
    last_chunk: i64,
    chunk_points: usize,
) -> Result<run_last_metric::Model, DbErr> {
    let time = DateTime::from_timestamp_micros(newest.time);
    Ok(run_last_metric::Model {
        run_id,
        name: name.to_owned(),
        value: Some(newest.value).filter(|value| !value.is_nan()),
        step: newest.step,
        time: time.ok_or_else(|| DbErr::Type(format!("the time of a point is {} us", newest.time)))?,
        last_chunk,
        chunk_points: i64::try_from(chunk_points).unwrap_or(i64::MAX),
    })
}

/// The last chunks that points are added to, with their sequences, by name.
async fn tails(
    txn: &impl ConnectionTrait,
    id: RunId,
    by_name: &BTreeMap<&str, Vec<Point>>,
    known: &BTreeMap<String, run_last_metric::Model>,
) -> Result<BTreeMap<String, (i64, Vec<Point>)>, DbErr> {
    let extended: Vec<_> = by_name
        .iter()
        .filter_map(|(name, points)| known.get(*name).map(|row| (row, points.len())))
        .filter(|(row, points)| usize::try_from(row.chunk_points).is_ok_and(|has| has + points <= SMALL))
        .map(|(row, _)| row)
        .collect();
    let mut tails = BTreeMap::new();
    for rows in extended.chunks(AT_ONCE) {
        let any = rows.iter().fold(Condition::any(), |any, row| {
            let name = run_metric_chunk::Column::Name.eq(row.name.as_str());
            any.add(name.and(run_metric_chunk::Column::Sequence.eq(row.last_chunk)))
        });
        let query = run_metric_chunk::Entity::find().filter(run_metric_chunk::Column::RunId.eq(id.uuid())).filter(any);
        for row in query.all(txn).await? {
            // Readers go from chunk to chunk by the first steps: that of a chunk never changes.
            let begins = by_name
                .get(row.name.as_str())
                .is_none_or(|points| points.iter().all(|point| point.step >= row.min_step));
            if begins {
                tails.insert(row.name.clone(), (row.sequence, decode(&row)?));
            }
        }
    }
    Ok(tails)
}

/// Writes chunks and last points, over those with the same keys.
pub(crate) async fn write(
    txn: &impl ConnectionTrait,
    chunks: Vec<run_metric_chunk::ActiveModel>,
    last: Vec<run_last_metric::ActiveModel>,
) -> Result<(), DbErr> {
    use run_metric_chunk::Column as Chunk;
    for rows in chunks.chunks(AT_ONCE) {
        let replace = OnConflict::columns([Chunk::RunId, Chunk::Name, Chunk::Sequence])
            .update_columns([Chunk::Points, Chunk::MinStep, Chunk::MaxStep, Chunk::Data])
            .to_owned();
        run_metric_chunk::Entity::insert_many(rows.iter().cloned())
            .on_conflict(replace)
            .exec_without_returning(txn)
            .await?;
    }
    use run_last_metric::Column as Last;
    for rows in last.chunks(AT_ONCE) {
        let replace = OnConflict::columns([Last::RunId, Last::Name])
            .update_columns([Last::Value, Last::Step, Last::Time, Last::LastChunk, Last::ChunkPoints])
            .to_owned();
        run_last_metric::Entity::insert_many(rows.iter().cloned())
            .on_conflict(replace)
            .exec_without_returning(txn)
            .await?;
    }
    Ok(())
}

/// How many points of a metric a run has, replaced ones included.
pub(crate) async fn points(db: &impl ConnectionTrait, id: RunId, name: &str) -> Result<u64, DbErr> {
    let counts: Vec<i64> = run_metric_chunk::Entity::find()
        .select_only()
        .column(run_metric_chunk::Column::Points)
        .filter(run_metric_chunk::Column::RunId.eq(id.uuid()))
        .filter(run_metric_chunk::Column::Name.eq(name))
        .into_tuple()
        .all(db)
        .await?;
    Ok(counts.into_iter().filter_map(|points| u64::try_from(points).ok()).sum())
}

/// The points of one metric, by step, after a step. Of several points of a step, the one that was logged last.
pub(crate) async fn history(
    db: &impl ConnectionTrait,
    id: RunId,
    name: &str,
    after: Option<i64>,
    limit: u64,
) -> Result<Vec<Metric>, DbErr> {
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    // By step: the position at which the point was logged, and the point.
    let mut first = BTreeMap::<i64, ((i64, usize), Point)>::new();
    let mut position: Option<(i64, i64)> = None;
    loop {
        let rows = chunks(db, id, name, after, position).await?;
        for row in &rows {
            if first.len() >= limit && first.last_key_value().is_some_and(|(&last, _)| row.min_step > last) {
                // This chunk and those that follow begin after the points that are returned.
                return Ok(named(first, name));
            }
            for (at, point) in decode(row)?.into_iter().enumerate() {
                // A point that is no number replaces none.
                if point.value.is_nan() || after.is_some_and(|after| point.step <= after) {
                    continue;
                }
                let logged = (row.sequence, at);
                let kept = first.entry(point.step).or_insert((logged, point));
                if logged > kept.0 {
                    *kept = (logged, point);
                }
            }
            while first.len() > limit {
                first.pop_last();
            }
        }
        match rows.last() {
            Some(last) if rows.len() as u64 == READ => position = Some((last.min_step, last.sequence)),
            _ => return Ok(named(first, name)),
        }
    }
}

/// Every point of one metric in the order in which they were logged, those that are no numbers included, after the first `skip`.
pub(crate) async fn all(
    db: &impl ConnectionTrait,
    id: RunId,
    name: &str,
    mut skip: u64,
    limit: u64,
) -> Result<Vec<Metric>, DbErr> {
    use run_metric_chunk::Column;
    let of_metric =
        || run_metric_chunk::Entity::find().filter(Column::RunId.eq(id.uuid())).filter(Column::Name.eq(name));
    let sizes: Vec<(i64, i64)> = of_metric()
        .select_only()
        .columns([Column::Sequence, Column::Points])
        .order_by_asc(Column::Sequence)
        .into_tuple()
        .all(db)
        .await?;
    let limit = usize::try_from(limit).unwrap_or(usize::MAX);
    let mut found = Vec::new();
    for (sequence, points) in sizes {
        let points = u64::try_from(points).unwrap_or(0);
        if skip >= points {
            skip -= points;
            continue;
        }
        if found.len() >= limit {
            break;
        }
        let Some(row) = of_metric().filter(Column::Sequence.eq(sequence)).one(db).await? else { continue };
        let wanted = limit - found.len();
        let first = usize::try_from(skip).unwrap_or(usize::MAX);
        found.extend(decode(&row)?.into_iter().skip(first).take(wanted).map(|point| point.named(name)));
        skip = 0;
    }
    Ok(found)
}

fn named(points: BTreeMap<i64, ((i64, usize), Point)>, name: &str) -> Vec<Metric> {
    points.into_values().map(|(_, point)| point.named(name)).collect()
}

/// The next chunks with points after a step, by their first steps, after a first step and a sequence.
async fn chunks(
    db: &impl ConnectionTrait,
    id: RunId,
    name: &str,
    after: Option<i64>,
    position: Option<(i64, i64)>,
) -> Result<Vec<run_metric_chunk::Model>, DbErr> {
    use run_metric_chunk::Column;
    let mut query = run_metric_chunk::Entity::find().filter(Column::RunId.eq(id.uuid())).filter(Column::Name.eq(name));
    if let Some(after) = after {
        query = query.filter(Column::MaxStep.gt(after));
    }
    if let Some((min_step, sequence)) = position {
        let same = Column::MinStep.eq(min_step).and(Column::Sequence.gt(sequence));
        query = query.filter(Condition::any().add(Column::MinStep.gt(min_step)).add(same));
    }
    query.order_by_asc(Column::MinStep).order_by_asc(Column::Sequence).limit(READ).all(db).await
}

/// The point with the highest step of each metric of each of these runs, by name.
pub(crate) async fn last(db: &impl ConnectionTrait, ids: &[RunId]) -> Result<BTreeMap<RunId, Vec<Metric>>, DbErr> {
    let ids: Vec<_> = ids.iter().map(|id| id.uuid()).collect();
    let rows = run_last_metric::Entity::find()
        .filter(run_last_metric::Column::RunId.is_in(ids))
        .order_by_asc(run_last_metric::Column::Name)
        .all(db)
        .await?;
    let mut by_run = BTreeMap::<RunId, Vec<Metric>>::new();
    for row in rows {
        let Some(value) = row.value else { continue };
        let metric = Metric { name: row.name, value, step: row.step, time: Some(row.time) };
        by_run.entry(RunId::new(row.run_id)).or_default().push(metric);
    }
    Ok(by_run)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn points_survive_and_a_damaged_chunk_is_an_error() {
        let points: Vec<Point> =
            (-2..5_i64).map(|step| Point { step, time: step * 7, value: 0.1 * step as f64 }).collect();
        let row = chunk(Uuid::nil(), "loss", 3, &points);
        assert_eq!((row.points, row.min_step, row.max_step, row.data.len()), (7, -2, 4, 7 * POINT));
        assert_eq!(decode(&row).expect("complete"), points);
        let cut = run_metric_chunk::Model { data: row.data[1..].to_vec(), ..row };
        assert!(decode(&cut).is_err());
    }
}
