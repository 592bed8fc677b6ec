//! Dataset versions: rows read from files, brought into one canonical Parquet blob, and described.
//!
//! The same content registered again under another idempotency key is another version: its digest tells that nothing
//! changed, and its number, description and parents tell that somebody registered it again.

use std::{collections::BTreeMap, sync::Arc};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use rekindle_artifacts::Artifacts;
use rekindle_dataset::{Kind, Limits, Table};
use rekindle_domain::{DatasetName, Digest, event::EventKind};
use rekindle_proto::events::DatasetVersionRegistered;
use rekindle_store::{in_transaction, outbox};
use sea_orm::DatabaseConnection;
use serde::{Deserialize, Serialize};
use tokio::sync::Semaphore;

use crate::{
    Error,
    call::{Call, Intent},
    store,
};

pub(crate) use rekindle_dataset::ColumnSummary;

/// One version of a dataset.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct DatasetVersion {
    pub name: DatasetName,
    pub version: u32,
    /// Of the canonical content.
    pub content: Digest,
    /// Of the Parquet blob that holds the rows.
    pub blob: Digest,
    pub rows: u64,
    /// Of the blob.
    pub bytes: u64,
    pub columns: Vec<Column>,
    pub time_column: Option<String>,
    /// First and last event time.
    pub time_range: Option<(DateTime<Utc>, DateTime<Utc>)>,
    pub parents: Vec<Digest>,
    pub description: String,
    pub profile: Vec<ColumnSummary>,
    pub created_at: DateTime<Utc>,
}

/// One column, with its type as text.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    pub name: String,
    pub data_type: String,
    pub kind: Kind,
    pub nullable: bool,
}

/// How a source is to be read.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Format {
    Csv,
    Parquet,
}

/// A stored file.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Source {
    pub digest: Digest,
    pub format: Format,
}

/// What is to become the next version of a dataset.
#[derive(Debug, Clone)]
pub(crate) struct Registration {
    pub name: DatasetName,
    pub sources: Vec<Source>,
    pub time_column: Option<String>,
    pub kinds: BTreeMap<String, Kind>,
    pub parents: Vec<Digest>,
    pub description: String,
    /// Half-open.
    pub from: Option<DateTime<Utc>>,
    pub until: Option<DateTime<Utc>>,
}

/// Reads rows away from the threads that answer calls, a few files at a time.
#[derive(Debug, Clone)]
pub(crate) struct Reader {
    permits: Arc<Semaphore>,
    limits: Limits,
}

/// Which version a call has made.
#[derive(Debug, Serialize, Deserialize)]
struct Made {
    name: DatasetName,
    version: u32,
}

/// Makes the next version of a dataset, once per intent.
pub(crate) async fn register(
    db: &DatabaseConnection,
    artifacts: &Artifacts,
    reader: &Reader,
    call: Call,
    intent: Intent,
    registration: Registration,
) -> Result<DatasetVersion, Error> {
    // Asked before the work and again in the transaction, where alone the answer is certain.
    if let Some(made) = intent.earlier::<Made>(db).await? {
        return get(db, &made.name, Some(made.version)).await;
    }
    let prepared = reader.prepare(artifacts, registration, call.now).await?;
    artifacts.put(prepared.parquet).await?;
    let version = prepared.version;
    let made = in_transaction(db, async move |txn| {
        if let Some(made) = intent.earlier::<Made>(txn).await? {
            return Ok::<_, Error>(made);
        }
        let number = store::datasets::take_number(txn, &version.name, call.now).await?;
        let version = DatasetVersion { version: number, ..version.clone() };
        store::datasets::insert(txn, &version).await?;
        let made = Made { name: version.name.clone(), version: number };
        intent.remember(txn, &made, call.now).await?;
        outbox::enqueue(txn, event(&call, &version)).await?;
        Ok(made)
    })
    .await?;
    get(db, &made.name, Some(made.version)).await
}

fn event(call: &Call, version: &DatasetVersion) -> outbox::NewEvent {
    let data = DatasetVersionRegistered {
        name: version.name.to_string(),
        version: version.version,
        content_digest: version.content.to_string(),
        rows: version.rows,
        parents: version.parents.iter().map(Digest::to_string).collect(),
    };
    call.event(EventKind::DATASET_VERSION_REGISTERED, &version.name, &version.name, &data)
}

/// A version without its number, and its rows.
struct Prepared {
    version: DatasetVersion,
    parquet: Bytes,
}

impl Reader {
    /// A reader of at most `at_once` registrations at a time.
    pub(crate) fn new(at_once: usize, limits: Limits) -> Self {
        Self { permits: Arc::new(Semaphore::new(at_once)), limits }
    }

    async fn prepare(
        &self,
        artifacts: &Artifacts,
        registration: Registration,
        now: DateTime<Utc>,
    ) -> Result<Prepared, Error> {
        // The semaphore is never closed. Taken before the files are, for they lie in memory from then on.
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let mut files = Vec::with_capacity(registration.sources.len());
        for (index, Source { format, digest }) in registration.sources.iter().enumerate() {
            let bytes = artifacts.get(digest).await;
            files.push((*format, bytes.map_err(Error::of_blob(format!("sources[{index}].digest"), *digest))?));
        }
        let limits = self.limits;
        tokio::task::spawn_blocking(move || {
            // Held to the end of the work, also when the caller has gone.
            let _permit = permit;
            prepare(registration, files, &limits, now)
        })
        .await?
    }
}

fn prepare(
    registration: Registration,
    files: Vec<(Format, Bytes)>,
    limits: &Limits,
    now: DateTime<Utc>,
) -> Result<Prepared, Error> {
    let table = read(files, limits)?;
    let table = arrange(&registration, table)?;
    if table.rows() == 0 {
        return Err(Error::invalid("from", "no row lies in the range: widen from and until, or leave them unset"));
    }
    let parquet = rekindle_dataset::write_parquet(&table).map_err(in_field("sources"))?;
    let time_range = match &registration.time_column {
        Some(column) => table.time_range(column).map_err(in_field("time_column"))?,
        None => None,
    };
    let version = DatasetVersion {
        name: registration.name,
        version: 0,
        content: rekindle_dataset::content_digest(&table),
        blob: Digest::of(&parquet),
        rows: table.rows() as u64,
        bytes: parquet.len() as u64,
        columns: columns(&table),
        time_column: registration.time_column,
        time_range,
        parents: registration.parents,
        description: registration.description,
        profile: rekindle_dataset::summarise(&table),
        created_at: now,
    };
    Ok(Prepared { version, parquet })
}

fn read(files: Vec<(Format, Bytes)>, limits: &Limits) -> Result<Table, Error> {
    let mut tables = Vec::with_capacity(files.len());
    for (index, (format, bytes)) in files.into_iter().enumerate() {
        let table = match format {
            Format::Csv => rekindle_dataset::read_csv_within(bytes, limits),
            Format::Parquet => rekindle_dataset::read_parquet_within(bytes, limits),
        };
        tables.push(table.map_err(in_field(format!("sources[{index}]")))?);
    }
    if tables.len() == 1 {
        return Ok(tables.remove(0));
    }
    let rows = tables.iter().map(Table::rows).sum::<usize>();
    if rows > limits.rows {
        let limit = limits.rows;
        return Err(Error::invalid(
            "sources",
            format!("{rows} rows together, the limit registry.limits.rows is {limit}"),
        ));
    }
    Table::concat(&tables).map_err(in_field("sources"))
}

/// Kinds, order and range, as asked for.
fn arrange(registration: &Registration, table: Table) -> Result<Table, Error> {
    let table = if registration.kinds.is_empty() {
        table
    } else {
        table.with_kinds(&registration.kinds).map_err(in_field("kinds"))?
    };
    let Some(column) = &registration.time_column else { return Ok(table) };
    let table = table.sort_by_time(column).map_err(in_field("time_column"))?;
    table.slice_time(column, registration.from, registration.until).map_err(in_field("time_column"))
}

fn columns(table: &Table) -> Vec<Column> {
    let column = |column: &rekindle_dataset::Column| Column {
        name: column.name.clone(),
        data_type: rekindle_dataset::type_name(&column.data_type).to_owned(),
        kind: column.kind,
        nullable: column.nullable,
    };
    table.schema.columns.iter().map(column).collect()
}

fn in_field(field: impl Into<String>) -> impl FnOnce(rekindle_dataset::Error) -> Error {
    move |source| Error::Dataset { field: field.into(), source }
}

/// One version; `None` asks for the latest.
pub(crate) async fn get(
    db: &DatabaseConnection,
    name: &DatasetName,
    version: Option<u32>,
) -> Result<DatasetVersion, Error> {
    let found = store::datasets::get(db, name, version).await?;
    found.ok_or_else(|| match version {
        Some(version) => Error::not_found("dataset version", format!("{name}/{version}")),
        None => Error::not_found("dataset", name),
    })
}

/// The versions of one dataset, newest first, before a version; one more than `limit` where there are.
pub(crate) async fn versions(
    db: &DatabaseConnection,
    name: &DatasetName,
    before: Option<u32>,
    limit: u64,
) -> Result<Vec<DatasetVersion>, Error> {
    let versions = store::datasets::versions(db, name, before, limit).await?;
    if versions.is_empty() && before.is_none() {
        return Err(Error::not_found("dataset", name));
    }
    Ok(versions)
}
