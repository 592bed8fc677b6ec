//! From uploaded files to a stored, verified blob, in bounded memory.

use std::{collections::BTreeMap, io::Read as _, path::PathBuf, sync::Arc};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use rekindle_artifacts::{Artifacts, BlobReader};
use rekindle_dataset::{
    Error as DatasetError, IngestError, IngestOptions, Ingested, Limits, Part, Section, ingest, read_rows, scratch_file,
};
use rekindle_domain::{
    Digest,
    dataset::{
        Column, ColumnSummary, DatasetRegistration, DatasetRows, DatasetSchema, DatasetVersion, FileFormat,
        RuleViolation, Source,
    },
    validation::Checks,
};
use sea_orm::DatabaseConnection;
use tokio::{io::AsyncWriteExt as _, sync::Semaphore};

use crate::{Error, garbage};

/// Bytes read from a temporary file at a time.
const CHUNK: usize = 4 << 20;
/// Values of a preview at most: wide versions have fewer rows in one.
const CELLS: usize = 100_000;

/// Imports files, a few registrations at a time, on threads that answer no calls.
#[derive(Debug, Clone)]
pub(crate) struct Importer {
    permits: Arc<Semaphore>,
    /// Of previews, so that these do not wait for registrations, nor registrations for them.
    previews: Arc<Semaphore>,
    limits: Limits,
    scratch: PathBuf,
}

/// A version without its number, whose blob is stored and verified.
pub(super) struct Imported {
    pub(super) version: DatasetVersion,
    /// Sources that exist for this registration only.
    pub(super) staged: Vec<Digest>,
}

/// Sources in one temporary file.
struct Fetched {
    sections: Vec<(Section, FileFormat)>,
    staged: Vec<Digest>,
}

impl Importer {
    /// Imports at most `at_once` registrations at a time. Temporary files are created in the folder `scratch`.
    pub(crate) fn new(at_once: usize, limits: Limits, scratch: PathBuf) -> Self {
        let (permits, previews) = (Arc::new(Semaphore::new(at_once)), Arc::new(Semaphore::new(1)));
        Self { permits, previews, limits, scratch }
    }

    /// Reads the sources and stores their rows.
    pub(super) async fn import(
        &self,
        db: &DatabaseConnection,
        artifacts: &Artifacts,
        registration: DatasetRegistration,
        now: DateTime<Utc>,
    ) -> Result<Imported, Error> {
        // The semaphore is never closed. The permit comes before the files are fetched, because they take disk space.
        let permit = Arc::clone(&self.permits).acquire_owned().await;
        let Fetched { sections, staged } = self.fetch(artifacts, &registration.sources).await?;
        let options = IngestOptions::of(&registration, self.limits, self.scratch.clone());
        // The thread returns the permit, and so holds it also if the caller goes away meanwhile.
        let ingestion = tokio::task::spawn_blocking(move || (ingest(&sections, &options), permit));
        let (ingested, _permit) = ingestion.await?;
        let mut ingested = ingested.map_err(refused)?;
        if ingested.rows == 0 {
            return Err(Error::invalid("from", "no row is in the range: widen from and until, or leave them unset"));
        }
        ingested.violations.extend(old(&registration, &ingested, now));
        if !registration.accept_violations {
            refuse(&ingested.violations)?;
        }
        let (blob, bytes) = store(db, artifacts, ingested.parquet.clone()).await?;
        artifacts.verify(&blob).await?;
        Ok(Imported { version: version(registration, ingested, (blob, bytes), now), staged })
    }

    /// Rows of a version, at most `limit` after `offset`.
    pub(super) async fn rows(
        &self,
        artifacts: &Artifacts,
        version: &DatasetVersion,
        offset: u64,
        limit: u32,
    ) -> Result<DatasetRows, Error> {
        let permit = Arc::clone(&self.previews).acquire_owned().await;
        let source = Source { digest: version.blob, format: FileFormat::Parquet };
        let mut file = self.fetch(artifacts, &[source]).await?;
        let (section, _) = file.sections.remove(0);
        let schema = version.schema.clone().unwrap_or_default();
        let most = (CELLS / version.columns.len().max(1)).max(1);
        let span = (usize::try_from(offset).unwrap_or(usize::MAX), usize::try_from(limit).unwrap_or(most).min(most));
        let reading = move || (read_rows(&section, span, |column| schema.is_sensitive(column)), permit);
        let (read, _permit) = tokio::task::spawn_blocking(reading).await?;
        let (columns, rows) = read.map_err(Error::Scratch)?;
        Ok(DatasetRows { name: version.name.clone(), version: version.version, columns, rows })
    }

    /// Copies the sources to a temporary file, one after the other, and verifies their digests. One that is named several times is copied
    /// once.
    async fn fetch(&self, artifacts: &Artifacts, sources: &[Source]) -> Result<Fetched, Error> {
        let file = scratch_file(&self.scratch).map_err(Error::Scratch)?;
        let mut file = tokio::fs::File::from_std(file);
        let (mut spans, mut staged, mut at) = (BTreeMap::new(), Vec::new(), 0);
        for (index, source) in sources.iter().enumerate() {
            if spans.contains_key(&source.digest) {
                continue;
            }
            let field = || format!("sources[{index}].digest");
            let (mut reader, origin) = open(artifacts, &source.digest).await.map_err(of_blob(field(), source))?;
            if at + reader.size() > self.limits.bytes as u64 {
                return Err(too_large("sources", "bytes", self.limits.bytes));
            }
            while let Some(chunk) = reader.chunk().await.map_err(of_blob(field(), source))? {
                file.write_all(&chunk).await.map_err(scratch("write"))?;
            }
            if origin == Origin::Staged {
                staged.push(source.digest);
            }
            spans.insert(source.digest, (at, reader.size()));
            at += reader.size();
        }
        file.flush().await.map_err(scratch("write"))?;
        let file = Arc::new(file.into_std().await);
        let section = |source: &Source| {
            let &(start, length) = spans.get(&source.digest)?;
            Some((Section::new(Arc::clone(&file), start, length), source.format))
        };
        Ok(Fetched { sections: sources.iter().filter_map(section).collect(), staged })
    }
}

/// Where a source is stored.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Origin {
    Staged,
    Blob,
}

async fn open(artifacts: &Artifacts, digest: &Digest) -> Result<(BlobReader, Origin), rekindle_artifacts::Error> {
    match artifacts.staged_reader(digest).await {
        Ok(reader) => Ok((reader, Origin::Staged)),
        Err(rekindle_artifacts::Error::NotFound { .. }) => Ok((artifacts.reader(digest).await?, Origin::Blob)),
        Err(error) => Err(error),
    }
}

fn of_blob(field: String, source: &Source) -> impl FnOnce(rekindle_artifacts::Error) -> Error {
    Error::of_blob(field, source.digest)
}

fn scratch(operation: &'static str) -> impl FnOnce(std::io::Error) -> Error {
    move |source| Error::Scratch(DatasetError::Scratch { operation, source })
}

/// Stores a temporary file as a blob; returns its digest and size.
async fn store(db: &DatabaseConnection, artifacts: &Artifacts, mut file: Section) -> Result<(Digest, u64), Error> {
    let mut writer = artifacts.writer().await?;
    loop {
        let read = tokio::task::spawn_blocking(move || {
            let mut chunk = Vec::with_capacity(CHUNK);
            file.by_ref().take(CHUNK as u64).read_to_end(&mut chunk).map(|_| (Bytes::from(chunk), file))
        });
        let (chunk, rest) = read.await?.map_err(scratch("read"))?;
        if chunk.is_empty() {
            return garbage::store(db, artifacts, writer).await;
        }
        if let Err(error) = writer.write(chunk).await {
            if let Err(error) = writer.abort().await {
                tracing::debug!(%error, "staged parts are left to the sweeper");
            }
            return Err(error.into());
        }
        file = rest;
    }
}

/// Names the field of the request that an error is about, and the setting of a limit.
fn refused(refusal: IngestError) -> Error {
    let field = match refusal.part {
        Part::Source(index) => format!("sources[{index}]"),
        Part::Sources => "sources".to_owned(),
        Part::Kinds => "kinds".to_owned(),
        Part::Reading => "reading.time_formats".to_owned(),
        Part::TimeColumn => "time_column".to_owned(),
        Part::Schema => "schema".to_owned(),
        Part::Scratch => return Error::Scratch(refusal.error),
    };
    match refusal.error {
        DatasetError::TooLarge { what, limit } => too_large(field, what, limit),
        source => Error::Dataset { field, source },
    }
}

/// The violation of rows that are all older than the schema allows.
fn old(registration: &DatasetRegistration, ingested: &Ingested, now: DateTime<Utc>) -> Option<RuleViolation> {
    let max_age = registration.schema.as_ref()?.max_age?;
    let (_, latest) = ingested.time_range?;
    let is_old = (now - latest).to_std().is_ok_and(|age| age > max_age);
    let span = humantime_serde::re::humantime::format_duration(max_age);
    let message = format!("the latest event time is {}, more than {span} ago", latest.to_rfc3339());
    is_old.then(|| RuleViolation { rule: "max_age".to_owned(), rows: ingested.rows, message })
}

/// Refuses rows that break rules, with a field violation for each.
fn refuse(violations: &[RuleViolation]) -> Result<(), Error> {
    let mut checks = Checks::new();
    for violation in violations {
        checks.violation(format!("schema.{}", violation.rule), &violation.message);
    }
    Ok(checks.finish()?)
}

/// The profile without the values of sensitive columns.
fn shown(profile: Vec<ColumnSummary>, schema: Option<&DatasetSchema>) -> Vec<ColumnSummary> {
    let hide = |summary: ColumnSummary| match schema {
        Some(schema) if schema.is_sensitive(&summary.name) => {
            ColumnSummary { min: None, max: None, mean: None, std: None, top: Vec::new(), ..summary }
        }
        _ => summary,
    };
    // PostgreSQL has no NUL in JSON.
    let without_nul = |mut summary: ColumnSummary| {
        summary.top.iter_mut().for_each(|top| top.value = top.value.replace('\0', "\u{fffd}"));
        summary
    };
    profile.into_iter().map(hide).map(without_nul).collect()
}

fn too_large(field: impl Into<String>, what: &'static str, limit: usize) -> Error {
    Error::invalid(field, format!("has more than {limit} {what}, the limit registry.limits.{what}: split it"))
}

fn version(
    registration: DatasetRegistration,
    ingested: Ingested,
    (blob, bytes): (Digest, u64),
    now: DateTime<Utc>,
) -> DatasetVersion {
    let column = |column: rekindle_dataset::Column| Column {
        data_type: rekindle_dataset::type_name(&column.data_type).to_owned(),
        name: column.name,
        kind: column.kind,
        nullable: column.nullable,
    };
    DatasetVersion {
        name: registration.name,
        version: 0,
        content: ingested.content,
        blob,
        rows: ingested.rows,
        bytes,
        columns: ingested.schema.columns.into_iter().map(column).collect(),
        time_column: registration.time_column,
        time_range: ingested.time_range,
        parents: registration.parents,
        description: registration.description,
        profile: shown(ingested.summaries, registration.schema.as_ref()),
        created_at: now,
        schema: registration.schema,
        violations: ingested.violations,
        deleted_at: None,
    }
}
