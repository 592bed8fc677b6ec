//! Labelled rows of a span of event time, as a dataset for retraining.

mod bound;
mod manifest;

use std::{
    borrow::Cow,
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use arrow::{
    array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray, UInt32Array},
    compute::{cast, take},
    datatypes::{Field, Schema},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use rekindle_artifacts::Artifacts;
use rekindle_bundle::{Manifest, target::Targets};
use rekindle_dataset::{Table, canonical_timestamp, write_parquet};
use rekindle_domain::{
    ColumnKind, Digest, ModelName,
    event_time::{self, RANGE},
    outcome::Label,
    prediction_log::{ExportRequest, LabelledExport},
};
use rekindle_service::RequestError;
use sea_orm::DatabaseConnection;

use crate::{
    Error,
    chunk::{
        Chunk,
        columns::{self, EVENT_TIME, INPUT, Keys},
    },
    frame::{Frame, ScanFilter},
    join::Sample,
    outcome::Key,
    quality::as_target,
    reference::References,
    store::{chunks, deletions},
};

/// The span of event time to export, in milliseconds; `None` is open.
#[derive(Debug, Clone, Copy)]
struct Span {
    from: Option<i64>,
    until: Option<i64>,
}

/// One version's labelled rows.
struct Part {
    version: u32,
    table: Table,
    order: Vec<(i64, Key)>,
}

/// Writes the rows with a valid label for the target of the version that answered, in order of event time, prediction id and row. The same
/// log gives the same bytes. Of more than `limit` logged rows the latest are exported.
pub(crate) async fn run(
    db: &DatabaseConnection,
    artifacts: &Artifacts,
    references: &References,
    limit: u64,
    request: &ExportRequest,
) -> Result<LabelledExport, Error> {
    let millis = |time: DateTime<Utc>| time.timestamp_millis();
    let span = Span { from: request.from.map(millis), until: request.until.map(millis) };
    let found = chunks::in_span(db, &request.model, span.from, span.until).await?;
    let bounded = bound::latest(artifacts, found, span, limit).await?;
    let read = Span { from: bounded.from, ..span };
    let (parts, used) = read_parts(db, artifacts, references, request, read, bounded.chunks).await?;
    let none = LabelledExport {
        blob: None,
        rows: 0,
        time_range: None,
        manifest: None,
        holdout_from: None,
        rows_left_out: bounded.left_out,
    };
    let (model, chunks, left_out) = (&request.model, used.len(), bounded.left_out);
    let deleted = deletions::get(db, model).await?.and_then(|deleted| deleted.events_until);
    let deleted = deleted.filter(|&until| span.from.is_none_or(|from| from <= until));
    if parts.is_empty() {
        if let Some(until) = deleted {
            return Err(all_deleted(model, until));
        }
        tracing::info!(%model, chunks, left_out, "no labelled rows to export");
        return Ok(none);
    }
    let manifest = manifest::bytes(model, read, deleted, used.values())?;
    let (bytes, exported) = write(request.clone(), parts, none).await?;
    let (blob, manifest) = (artifacts.put(bytes).await?, artifacts.put(manifest.into()).await?);
    tracing::info!(%model, rows = exported.rows, chunks, left_out, "labelled rows exported");
    Ok(LabelledExport { blob: Some(blob), manifest: Some(manifest), ..exported })
}

/// The refusal of an export whose span has no labelled rows, some of which retention has deleted.
fn all_deleted(model: &ModelName, until: i64) -> Error {
    let until = event_time::clamped(until);
    let message = format!(
        "{model} has no labelled rows in this span: rows until {until} were deleted by retention (monitor.retention); \
         export later ones"
    );
    RequestError::failed_precondition("DELETED_BY_RETENTION", message, [("until", until.to_rfc3339())]).into()
}

/// The labelled rows of each version, and the chunks that were read, by their keys.
async fn read_parts(
    db: &DatabaseConnection,
    artifacts: &Artifacts,
    references: &References,
    request: &ExportRequest,
    span: Span,
    chunks: Vec<Chunk>,
) -> Result<(Vec<Part>, BTreeMap<String, Chunk>), Error> {
    let mut by_version: BTreeMap<(u32, Digest), Vec<Chunk>> = BTreeMap::new();
    for chunk in chunks {
        let Some(bundle) = chunk.bundle else { continue };
        by_version.entry((chunk.model_version, bundle)).or_default().push(chunk);
    }
    let (mut parts, mut used) = (Vec::new(), BTreeMap::new());
    for ((version, bundle), read) in by_version {
        // Former builds accepted event times that no dataset can hold.
        let (from, until) = (span.from.unwrap_or(*RANGE.start()), span.until.unwrap_or(*RANGE.end() + 1));
        let sample = Sample { of: 1 };
        let filter = ScanFilter { from: Some(from), until: Some(until), sample, columns: Box::new(is_input) };
        let frame = Frame::scan(artifacts, &read, filter).await?;
        let Some(ids) = frame.ids() else { continue };
        let outcomes = chunks::outcomes_of(db, &request.model, ids).await?;
        let frame = frame.with_labels(artifacts, &outcomes).await?;
        used.extend(read.into_iter().chain(outcomes).map(|chunk| (chunk.object_key.clone(), chunk)));
        let reference = references.get(&bundle).await?;
        let (target, time_column) = (request.target.clone(), request.time_column.clone());
        let part =
            tokio::task::spawn_blocking(move || part(&reference.manifest, version, &frame, &target, &time_column));
        parts.extend(part.await??);
    }
    Ok((parts, used))
}

/// The sorted rows as a Parquet file, and the export that describes them.
async fn write(
    request: ExportRequest,
    parts: Vec<Part>,
    export: LabelledExport,
) -> Result<(Bytes, LabelledExport), Error> {
    tokio::task::spawn_blocking(move || {
        let table = combine(&request.model, parts)?;
        let times = table.times(&request.time_column)?;
        let range = times.first().copied().zip(times.last().copied());
        let holdout_from = holdout_from(times, request.holdout_share).map(event_time::clamped);
        let time_range = range.map(|(first, last)| (event_time::clamped(first), event_time::clamped(last)));
        let rows = table.rows() as u64;
        Ok((write_parquet(&table)?, LabelledExport { rows, time_range, holdout_from, ..export }))
    })
    .await?
}

/// The event time from which on the latest `share` of ascending `times` lie.
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

/// The labelled rows of one version; `None` if there are none.
fn part(
    manifest: &Manifest,
    version: u32,
    frame: &Frame,
    target: &str,
    time_column: &str,
) -> Result<Option<Part>, Error> {
    let Some(batch) = frame.batch()? else { return Ok(None) };
    let (indices, targets) = targets(manifest, frame.labels())?;
    if indices.is_empty() {
        return Ok(None);
    }
    if manifest.signature.input(target).is_some() {
        let problem = format!("{target:?} is a feature of version {version}: specify the name of the target");
        return Err(RequestError::invalid("target", problem).into());
    }
    let keep = UInt32Array::from(indices);
    let kept = |column: &dyn arrow::array::Array| take(column, &keep, None);
    let mut exported: Vec<(String, ArrayRef)> = Vec::new();
    for input in manifest.signature.inputs.iter().filter(|input| input.name != time_column) {
        let logged = columns::column(&batch, &format!("{INPUT}{}", input.name));
        let values = kept(logged.map_err(|_| not_logged(version, &input.name))?)?;
        let values = if input.kind == ColumnKind::Timestamp { cast(&values, &canonical_timestamp())? } else { values };
        exported.push((input.name.clone(), values));
    }
    let times = kept(columns::column(&batch, EVENT_TIME)?)?;
    exported.push((time_column.to_owned(), cast(&times, &canonical_timestamp())?));
    exported.push((target.to_owned(), targets));
    let order = order(&batch, &keep)?;
    Ok(Some(Part { version, table: table(exported)?, order }))
}

fn table(columns: Vec<(String, ArrayRef)>) -> Result<Table, Error> {
    let fields: Vec<Field> =
        columns.iter().map(|(name, values)| Field::new(name, values.data_type().clone(), true)).collect();
    let values = columns.into_iter().map(|(_, values)| values).collect();
    Ok(Table::from_batch(&RecordBatch::try_new(Arc::new(Schema::new(fields)), values)?)?)
}

fn order(batch: &RecordBatch, keep: &UInt32Array) -> Result<Vec<(i64, Key)>, Error> {
    let (keys, times) = (Keys::of(batch)?, columns::event_times(batch)?);
    Ok(keep.values().iter().map(|&index| (times.value(index as usize), keys.key(index as usize))).collect())
}

/// Indices of the rows with a valid label, and the column of these labels. A class that the model does not know is valid: the next training
/// learns it.
fn targets<'a>(
    manifest: &Manifest,
    labels: impl Iterator<Item = Option<&'a Label>>,
) -> Result<(Vec<u32>, ArrayRef), Error> {
    let known = manifest.classes.as_deref();
    let (mut indices, mut classes, mut numbers) = (Vec::new(), Vec::new(), Vec::new());
    for (index, label) in (0u32..).zip(labels) {
        let Some(label) = label else { continue };
        match Targets::from_labels([as_target(label)], known) {
            Ok(Targets::Numbers(found)) => numbers.extend(found),
            Ok(Targets::Classes(found)) => {
                let class = found.first().copied().flatten();
                let class = class.zip(known).map(|(class, known)| Cow::Borrowed(known[class].as_str()));
                let Some(class) = class.or_else(|| as_target(label).class()) else { continue };
                classes.push(class);
            }
            // Not a number: the quality of its window counts it as invalid.
            Err(_) => continue,
        }
        indices.push(index);
    }
    let column = if let Some(known) = known { spelled(known, &classes) } else { Arc::new(Float64Array::from(numbers)) };
    Ok((indices, column))
}

/// Classes as a column of integers, booleans or text: the first type in which these and the known classes come back as they are spelled.
/// Classes that are fractions are text, since a column of fractions is a quantity.
fn spelled(known: &[String], classes: &[Cow<'_, str>]) -> ArrayRef {
    let all = |is_spelled: fn(&str) -> bool| {
        known.iter().map(String::as_str).chain(classes.iter().map(AsRef::as_ref)).all(is_spelled)
    };
    if all(|class| class.parse::<i64>().is_ok_and(|number| number.to_string() == class)) {
        Arc::new(classes.iter().map(|class| class.parse().ok()).collect::<Int64Array>())
    } else if all(|class| class.parse::<bool>().is_ok()) {
        Arc::new(classes.iter().map(|class| class.parse().ok()).collect::<BooleanArray>())
    } else {
        Arc::new(StringArray::from_iter_values(classes))
    }
}

/// One sorted table of the rows of all versions.
fn combine(model: &ModelName, mut parts: Vec<Part>) -> Result<Table, Error> {
    let names = |part: &Part| part.table.schema.names().map(str::to_owned).collect::<BTreeSet<_>>();
    for pair in parts.windows(2) {
        if names(&pair[0]) != names(&pair[1]) {
            let (first, second) = (pair[0].version, pair[1].version);
            return Err(mixed_inputs(model, first, second).into());
        }
    }
    parts.sort_by_key(|part| std::cmp::Reverse(part.version));
    let mut order: Vec<((i64, Key), u32)> =
        parts.iter().flat_map(|part| part.order.iter().copied()).zip(0u32..).collect();
    order.sort_unstable();
    let tables: Vec<Table> = parts.into_iter().map(|part| part.table).collect();
    let sorted = UInt32Array::from_iter_values(order.into_iter().map(|(_, index)| index));
    Ok(Table::concat(&tables)?.take(&sorted)?)
}

fn not_logged(version: u32, input: &str) -> RequestError {
    let message =
        format!("the values of input {input:?} of version {version} are not logged: rows without them train no model");
    RequestError::failed_precondition("REDACTED_INPUT", message, [("input", input.to_owned())])
}

fn mixed_inputs(model: &ModelName, first: u32, second: u32) -> RequestError {
    let message = format!(
        "versions {first} and {second} of {model} have different inputs: export time ranges that only one of them served"
    );
    RequestError::failed_precondition("MIXED_INPUTS", message, [("model", model.to_string())])
}

#[cfg(test)]
mod tests {
    use arrow::{array::AsArray as _, datatypes::DataType};

    use super::*;

    #[test]
    fn the_holdout_is_the_latest_share_of_the_rows() {
        let times: Vec<i64> = (0..100).collect();
        assert_eq!(holdout_from(&times, 0.25), Some(75));
        assert_eq!(holdout_from(&times, 0.0), None);
        assert_eq!(holdout_from(&[], 0.5), None);
        assert_eq!(holdout_from(&[7], 0.001), Some(7));
    }

    #[test]
    fn a_column_of_classes_has_the_first_type_that_parses_all_of_them() {
        let column = |classes: &[&str]| {
            let classes: Vec<String> = classes.iter().map(|class| (*class).to_owned()).collect();
            spelled(&classes, &[Cow::from(&classes[1]), Cow::from(&classes[0])]).data_type().clone()
        };
        assert_eq!(column(&["0", "1"]), DataType::Int64);
        assert_eq!(column(&["0.5", "1"]), DataType::Utf8);
        assert_eq!(column(&["false", "true"]), DataType::Boolean);
        assert_eq!(column(&["early", "late"]), DataType::Utf8);
        for classes in [["01", "02"], ["1.0", "2.0"], ["1e3", "2e3"], ["+1", "-1"], ["007", "1"], ["0.10", "0.2"]] {
            assert_eq!(column(&classes), DataType::Utf8, "{classes:?} would come back in another spelling");
        }
        let known = ["0".to_owned(), "1".to_owned()];
        let with_new = spelled(&known, &["1".into(), "unknown".into()]);
        assert_eq!(with_new.as_string::<i32>().iter().flatten().collect::<Vec<_>>(), ["1", "unknown"]);
    }
}
