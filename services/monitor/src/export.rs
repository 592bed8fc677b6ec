//! Labelled rows of a span of event time, as a dataset for retraining.

mod bound;
mod manifest;

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, UInt32Array},
    compute::{cast, take},
    datatypes::{DataType, Field, Schema},
};
use rekindle_artifacts::Artifacts;
use rekindle_dataset::{Table, canonical_timestamp, write_parquet};
use rekindle_domain::{Digest, ModelName};
use rekindle_model::{Manifest, signature::Kind, target::Targets};
use sea_orm::DatabaseConnection;

use crate::{
    Error,
    frame::{Frame, Wanted},
    join::Sample,
    outcome::{Key, Truth},
    reference::References,
    segment::{self, EVENT_TIME, INPUT, Keys, Segment},
    store::segments,
};

/// What to export.
pub struct Span {
    /// Whose rows.
    pub model: ModelName,
    /// First event time in milliseconds; `None` is open.
    pub from: Option<i64>,
    /// First event time after the span; `None` is open.
    pub until: Option<i64>,
    /// What the target column is called.
    pub target: String,
    /// What the column of event times is called.
    pub time_column: String,
    /// Share of the rows, the latest ones, that the caller will keep aside, in [0, 1).
    pub holdout_share: f64,
}

/// What was exported.
#[derive(Debug, Default, PartialEq, Eq)]
pub struct Exported {
    /// The Parquet blob; `None` where there are no labelled rows.
    pub blob: Option<Digest>,
    /// Rows.
    pub rows: u64,
    /// The earliest and the latest event time in milliseconds.
    pub times: Option<(i64, i64)>,
    /// The event time from which on the share to be kept aside lies, in milliseconds; `None` where that is nothing.
    pub holdout_from: Option<i64>,
    /// The blob that lists every segment that was read; `None` where there are no labelled rows.
    pub manifest: Option<Digest>,
    /// Segments that were read, of predictions and of outcomes.
    pub segments: usize,
    /// Logged rows, the earliest of the span, for which there was no room.
    pub rows_left_out: u64,
}

/// One version's labelled rows.
struct Part {
    version: u32,
    table: Table,
    order: Vec<(i64, Key)>,
}

/// Writes the rows whose truth is known and belongs to the target of the version that answered, in order of event time, prediction id
/// and row. The same log gives the same bytes. Of more than `limit` logged rows the latest are taken.
pub(crate) async fn run(
    db: &DatabaseConnection,
    artifacts: &Artifacts,
    references: &References,
    limit: u64,
    span: &Span,
) -> Result<Exported, Error> {
    let found = segments::in_span(db, &span.model, span.from, span.until).await?;
    let bounded = bound::latest(artifacts, found, span, limit).await?;
    let rows_left_out = bounded.left_out;
    let mut by_version: BTreeMap<(u32, Digest), Vec<Segment>> = BTreeMap::new();
    for segment in bounded.segments {
        let Some(bundle) = segment.bundle else { continue };
        by_version.entry((segment.model_version, bundle)).or_default().push(segment);
    }
    let (mut parts, mut used) = (Vec::new(), BTreeMap::new());
    for ((version, bundle), segments) in by_version {
        let wanted =
            Wanted { from: bounded.from, until: span.until, key: None, sample: Sample { of: 1 }, columns: is_input };
        let frame = Frame::read(artifacts, &segments, wanted).await?;
        let Some(ids) = frame.ids() else { continue };
        let outcomes = segments::outcomes_of(db, &span.model, ids).await?;
        let frame = frame.tell(artifacts, &outcomes).await?;
        used.extend(segments.into_iter().chain(outcomes).map(|segment| (segment.object_key.clone(), segment)));
        let reference = references.get(&bundle).await?;
        let (target, time_column) = (span.target.clone(), span.time_column.clone());
        let part =
            tokio::task::spawn_blocking(move || part(&reference.manifest, version, &frame, &target, &time_column));
        parts.extend(part.await??);
    }
    let segments = used.len();
    if parts.is_empty() {
        return Ok(Exported { segments, rows_left_out, ..Exported::default() });
    }
    let manifest = manifest::bytes(span, bounded.from, used.values())?;
    let (model, time_column, share) = (span.model.clone(), span.time_column.clone(), span.holdout_share);
    let (bytes, exported) = tokio::task::spawn_blocking(move || {
        let table = put_together(&model, parts)?;
        let times = table.times(&time_column)?;
        let range = times.first().copied().zip(times.last().copied());
        let holdout_from = holdout_from(times, share);
        let rows = table.rows() as u64;
        let exported = Exported { rows, times: range, holdout_from, segments, rows_left_out, ..Exported::default() };
        Ok::<_, Error>((write_parquet(&table)?, exported))
    })
    .await??;
    let (blob, manifest) = (artifacts.put(bytes).await?, artifacts.put(manifest.into()).await?);
    Ok(Exported { blob: Some(blob), manifest: Some(manifest), ..exported })
}

/// The time from which on the latest `share` of ascending `times` lie.
fn holdout_from(times: &[i64], share: f64) -> Option<i64> {
    if share <= 0.0 {
        return None;
    }
    let before = ((1.0 - share) * times.len() as f64).round() as usize;
    times.get(before.min(times.len().saturating_sub(1))).copied()
}

fn is_input(column: &str) -> bool {
    column.starts_with(INPUT)
}

/// The labelled rows of one version; `None` where there are none.
fn part(
    manifest: &Manifest,
    version: u32,
    frame: &Frame,
    target: &str,
    time_column: &str,
) -> Result<Option<Part>, Error> {
    let Some(batch) = frame.batch()? else { return Ok(None) };
    let (places, truths) = targets(manifest, frame.truths())?;
    if places.is_empty() {
        return Ok(None);
    }
    if manifest.signature.input(target).is_some() {
        let problem = format!("{target:?} is a feature of version {version}: give the target's own name");
        return Err(Error::Field { field: "target", problem });
    }
    let keep = UInt32Array::from(places);
    let kept = |column: &dyn arrow::array::Array| take(column, &keep, None);
    let mut columns: Vec<(String, ArrayRef)> = Vec::new();
    for input in manifest.signature.inputs.iter().filter(|input| input.name != time_column) {
        let values = kept(segment::column(&batch, &format!("{INPUT}{}", input.name))?)?;
        let values = if input.kind == Kind::Timestamp { cast(&values, &canonical_timestamp())? } else { values };
        columns.push((input.name.clone(), values));
    }
    let times = kept(segment::column(&batch, EVENT_TIME)?)?;
    columns.push((time_column.to_owned(), cast(&times, &canonical_timestamp())?));
    columns.push((target.to_owned(), truths));
    let order = order(&batch, &keep)?;
    Ok(Some(Part { version, table: table(columns)?, order }))
}

fn table(columns: Vec<(String, ArrayRef)>) -> Result<Table, Error> {
    let fields: Vec<Field> =
        columns.iter().map(|(name, values)| Field::new(name, values.data_type().clone(), true)).collect();
    let values = columns.into_iter().map(|(_, values)| values).collect();
    Ok(Table::from_batch(&RecordBatch::try_new(Arc::new(Schema::new(fields)), values)?)?)
}

fn order(batch: &RecordBatch, keep: &UInt32Array) -> Result<Vec<(i64, Key)>, Error> {
    let (keys, times) = (Keys::of(batch)?, segment::event_times(batch)?);
    Ok(keep.values().iter().map(|&place| (times.value(place as usize), keys.key(place as usize))).collect())
}

/// Places of the rows with a usable truth, and the column of those truths, in the type that the training data's spelling suggests.
fn targets<'a>(
    manifest: &Manifest,
    truths: impl Iterator<Item = Option<&'a Truth>>,
) -> Result<(Vec<u32>, ArrayRef), Error> {
    let (mut places, mut values) = (Vec::new(), Vec::new());
    let mut numbers = Vec::new();
    for (place, truth) in (0u32..).zip(truths) {
        let wire = match truth {
            None => continue,
            Some(Truth::Label(label)) => rekindle_model::Truth::Label(label),
            Some(Truth::Number(number)) => rekindle_model::Truth::Number(*number),
        };
        match Targets::from_truths([wire], manifest.classes.as_deref()) {
            Ok(Targets::Classes(classes)) => {
                let Some(class) = classes.first().copied().flatten() else { continue };
                values.push(class);
            }
            Ok(Targets::Numbers(found)) => numbers.extend(found),
            // Told, but not a number: counted as invalid where the window is judged.
            Err(_) => continue,
        }
        places.push(place);
    }
    let column = match manifest.classes.as_deref() {
        Some(classes) => spelled(classes, &values),
        None => Arc::new(Float64Array::from(numbers)),
    };
    Ok((places, column))
}

/// Classes as a column of whole numbers, numbers, truth values or text, whichever spells all of them.
fn spelled(classes: &[String], values: &[usize]) -> ArrayRef {
    let of = |place: &usize| classes[*place].as_str();
    if classes.iter().all(|class| class.parse::<i64>().is_ok()) {
        Arc::new(values.iter().map(|value| of(value).parse().ok()).collect::<Int64Array>())
    } else if classes.iter().all(|class| class.parse::<f64>().is_ok_and(f64::is_finite)) {
        Arc::new(values.iter().map(|value| of(value).parse().ok()).collect::<Float64Array>())
    } else if classes.iter().all(|class| class.parse::<bool>().is_ok()) {
        Arc::new(values.iter().map(|value| of(value).parse().ok()).collect::<BooleanArray>())
    } else {
        Arc::new(StringArray::from_iter_values(values.iter().map(of)))
    }
}

/// One table of all versions' rows, sorted.
fn put_together(model: &ModelName, mut parts: Vec<Part>) -> Result<Table, Error> {
    let names = |part: &Part| part.table.schema.names().map(str::to_owned).collect::<BTreeSet<_>>();
    for pair in parts.windows(2) {
        if names(&pair[0]) != names(&pair[1]) {
            let (first, second) = (pair[0].version, pair[1].version);
            return Err(Error::MixedInputs { model: model.clone(), first, second });
        }
    }
    // The first table's types win, and a column of whole numbers may be one of any numbers to another version.
    let doubles =
        |part: &Part| part.table.schema.columns.iter().filter(|column| column.data_type == DataType::Float64).count();
    parts.sort_by_key(|part| std::cmp::Reverse((doubles(part), part.version)));
    let mut order: Vec<((i64, Key), u32)> =
        parts.iter().flat_map(|part| part.order.iter().copied()).zip(0u32..).collect();
    order.sort_unstable();
    let tables: Vec<Table> = parts.into_iter().map(|part| part.table).collect();
    let sorted = UInt32Array::from_iter_values(order.into_iter().map(|(_, place)| place));
    Ok(Table::concat(&tables)?.take(&sorted)?)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_holdout_is_the_latest_share() {
        let times: Vec<i64> = (0..100).collect();
        assert_eq!(holdout_from(&times, 0.25), Some(75));
        assert_eq!(holdout_from(&times, 0.0), None);
        assert_eq!(holdout_from(&[], 0.5), None);
        assert_eq!(holdout_from(&[7], 0.001), Some(7));
    }

    #[test]
    fn classes_become_the_type_that_spells_them() {
        let column = |classes: &[&str]| {
            let classes: Vec<String> = classes.iter().map(|class| (*class).to_owned()).collect();
            spelled(&classes, &[1, 0, 1]).data_type().clone()
        };
        assert_eq!(column(&["0", "1"]), DataType::Int64);
        assert_eq!(column(&["0.5", "1"]), DataType::Float64);
        assert_eq!(column(&["false", "true"]), DataType::Boolean);
        assert_eq!(column(&["early", "late"]), DataType::Utf8);
    }
}
