//! Upload and download of blobs, in chunks.

use std::{pin::Pin, time::Duration};

use bytes::Bytes;
use futures::{Stream, stream::try_unfold};
use rekindle_artifacts::BlobReader;
use rekindle_client::wire::{self, field};
use rekindle_domain::Digest;
use rekindle_proto::registry::{
    CollectGarbageRequest, CollectGarbageResponse, DownloadRequest, DownloadResponse, ScrubRequest, ScrubResponse,
    UploadPurpose, UploadRequest, UploadResponse, artifacts_server::Artifacts,
};
use rekindle_service::Call;
use tokio::{
    sync::mpsc::{self, Receiver, Sender},
    time::timeout,
};
use tonic::{Request, Response, Status, Streaming};

use super::{cursor, page, parse};
use crate::{App, Error, garbage};

/// Bytes of one message, in both directions.
const CHUNK: usize = 1 << 20;
/// Blobs of a page of a check at most.
const SCRUBBED: u32 = 1000;

#[tonic::async_trait]
impl Artifacts for App {
    async fn upload(&self, request: Request<Streaming<UploadRequest>>) -> Result<Response<UploadResponse>, Status> {
        let (_, mut messages) = Call::open(request)?;
        let mut writer = self.0.artifacts.writer().await.map_err(Error::from)?;
        let received: Result<UploadPurpose, Status> = async {
            let mut purpose = None;
            while let Some(message) = messages.message().await? {
                if purpose.is_none() {
                    purpose = Some(purpose_of(&message)?);
                }
                writer.write(checked(message.chunk)?).await.map_err(Error::from)?;
            }
            Ok(purpose.unwrap_or(UploadPurpose::Blob))
        }
        .await;
        let (digest, size) = match received {
            Ok(UploadPurpose::DatasetSource) => writer.finish_staged().await.map_err(Error::from)?,
            Ok(_) => garbage::store(&self.0.db, &self.0.artifacts, writer).await?,
            Err(status) => {
                if let Err(error) = writer.abort().await {
                    tracing::debug!(%error, "staged parts of an upload are left to the sweeper");
                }
                return Err(status);
            }
        };
        Ok(Response::new(UploadResponse { digest: digest.to_string(), size }))
    }

    type DownloadStream = Pin<Box<dyn Stream<Item = Result<DownloadResponse, Status>> + Send>>;

    async fn download(&self, request: Request<DownloadRequest>) -> Result<Response<Self::DownloadStream>, Status> {
        let digest: Digest = parse("digest", &Call::open(request)?.1.digest)?;
        let reader = self.0.artifacts.reader(&digest).await.map_err(Error::of_blob("digest", digest))?;
        let (sender, parts) = mpsc::channel(1);
        let idle = self.0.config.transfer_idle;
        tokio::spawn(send(reader, idle, sender));
        Ok(Response::new(Box::pin(received(parts, idle))))
    }

    async fn collect_garbage(
        &self,
        request: Request<CollectGarbageRequest>,
    ) -> Result<Response<CollectGarbageResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let grace = field::span_or("grace", request.grace, garbage::GRACE).map_err(Error::from)?;
        if grace < garbage::SHORTEST_GRACE {
            return Err(Error::invalid("grace", "is shorter than an hour, which an upload may take").into());
        }
        let (db, artifacts, bus) = (self.0.db.clone(), self.0.artifacts.clone(), self.0.bus.clone());
        let collection = garbage::Collection { db, artifacts, bus, call, grace, dry_run: request.dry_run };
        // It runs to its end, also if the caller does not wait.
        let found = tokio::spawn(collection.run()).await.map_err(Error::from)??;
        Ok(Response::new(wire::blob::garbage_to_wire(&found)))
    }

    async fn scrub(&self, request: Request<ScrubRequest>) -> Result<Response<ScrubResponse>, Status> {
        let (_, request) = Call::open(request)?;
        let page = page(request.page_size.min(SCRUBBED), &request.page_token)?;
        let limit = usize::try_from(page.size).unwrap_or(usize::MAX);
        let (found, last) = garbage::scrub(&self.0.artifacts, cursor(&page)?, limit).await?;
        let next = last.map(|last| rekindle_store::page::encode(&last.to_string())).unwrap_or_default();
        Ok(Response::new(wire::blob::scrubbed_to_wire(&found, next)))
    }
}

fn purpose_of(first: &UploadRequest) -> Result<UploadPurpose, Error> {
    match UploadPurpose::try_from(first.purpose) {
        Ok(UploadPurpose::Unspecified) => Ok(UploadPurpose::Blob),
        Ok(purpose) => Ok(purpose),
        Err(_) => {
            let problem = format!("is {}: use UPLOAD_PURPOSE_BLOB or UPLOAD_PURPOSE_DATASET_SOURCE", first.purpose);
            Err(Error::invalid("purpose", problem))
        }
    }
}

fn checked(chunk: Bytes) -> Result<Bytes, Error> {
    if chunk.len() <= CHUNK {
        return Ok(chunk);
    }
    Err(Error::invalid("chunk", format!("has {} bytes, the limit is {CHUNK}: send smaller chunks", chunk.len())))
}

/// Sends the chunks of a blob until the client has taken nothing for `idle`. The reader verifies the digest before it returns the last
/// chunk.
async fn send(mut reader: BlobReader, idle: Duration, sender: Sender<Part>) {
    loop {
        let mut rest = match reader.chunk().await {
            Ok(Some(chunk)) => chunk,
            Ok(None) => return drop(timeout(idle, sender.send(Part::End)).await),
            Err(error) => return drop(timeout(idle, sender.send(Part::Failed(error.into()))).await),
        };
        while !rest.is_empty() {
            let chunk = rest.split_to(CHUNK.min(rest.len()));
            // The client has gone away, or has stalled.
            if !matches!(timeout(idle, sender.send(Part::Chunk(chunk))).await, Ok(Ok(()))) {
                return;
            }
        }
    }
}

/// What the sender of a download passes on.
enum Part {
    Chunk(Bytes),
    Failed(Error),
    End,
}

/// The messages of a download. A sender that ended before the last chunk has given the client up.
fn received(parts: Receiver<Part>, idle: Duration) -> impl Stream<Item = Result<DownloadResponse, Status>> + Send {
    try_unfold(parts, move |mut parts| async move {
        match parts.recv().await {
            Some(Part::Chunk(chunk)) => Ok(Some((DownloadResponse { chunk }, parts))),
            Some(Part::Failed(error)) => Err(error.into()),
            Some(Part::End) => Ok(None),
            None => {
                let limit = humantime_serde::re::humantime::format_duration(idle);
                let message = format!(
                    "the client took nothing for {limit}, the limit registry.transfer_idle: read on, or repeat the call"
                );
                Err(Status::deadline_exceeded(message))
            }
        }
    })
}
