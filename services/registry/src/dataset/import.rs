//! From uploaded files to a stored, verified blob, in bounded memory.

use std::{collections::BTreeMap, io::Read as _, path::PathBuf, sync::Arc};

use bytes::Bytes;
use chrono::{DateTime, Utc};
use rekindle_artifacts::{Artifacts, BlobReader};
use rekindle_dataset::{
    Error as DatasetError, IngestError, IngestOptions, Ingested, Limits, Part, Section, ingest, scratch_file,
};
use rekindle_domain::{
    Digest,
    dataset::{Column, DatasetRegistration, DatasetVersion, FileFormat, Source},
};
use tokio::{io::AsyncWriteExt as _, sync::Semaphore};

use crate::Error;

/// Bytes read from a temporary file at a time.
const CHUNK: usize = 4 << 20;

/// Imports files, a few registrations at a time, on threads that answer no calls.
#[derive(Debug, Clone)]
pub(crate) struct Importer {
    permits: Arc<Semaphore>,
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
        Self { permits: Arc::new(Semaphore::new(at_once)), limits, scratch }
    }

    /// Reads the sources and stores their rows.
    pub(super) async fn import(
        &self,
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
        let ingested = ingested.map_err(refused)?;
        if ingested.rows == 0 {
            return Err(Error::invalid("from", "no row is in the range: widen from and until, or leave them unset"));
        }
        let (blob, bytes) = store(artifacts, ingested.parquet.clone()).await?;
        artifacts.verify(&blob).await?;
        Ok(Imported { version: version(registration, ingested, (blob, bytes), now), staged })
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
async fn store(artifacts: &Artifacts, mut file: Section) -> Result<(Digest, u64), Error> {
    let mut writer = artifacts.writer().await?;
    loop {
        let read = tokio::task::spawn_blocking(move || {
            let mut chunk = Vec::with_capacity(CHUNK);
            file.by_ref().take(CHUNK as u64).read_to_end(&mut chunk).map(|_| (Bytes::from(chunk), file))
        });
        let (chunk, rest) = read.await?.map_err(scratch("read"))?;
        if chunk.is_empty() {
            return Ok(writer.finish().await?);
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
        Part::Scratch => return Error::Scratch(refusal.error),
    };
    match refusal.error {
        DatasetError::TooLarge { what, limit } => too_large(field, what, limit),
        source => Error::Dataset { field, source },
    }
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
        profile: ingested.summaries,
        created_at: now,
    }
}
