//! Blobs, piece by piece.

use std::pin::Pin;

use bytes::Bytes;
use futures::{Stream, StreamExt as _};
use rekindle_domain::Digest;
use rekindle_proto::registry::{
    DownloadRequest, DownloadResponse, UploadRequest, UploadResponse, artifacts_server::Artifacts,
};
use tonic::{Request, Response, Status, Streaming};

use super::parse;
use crate::{App, Error};

/// Bytes of one message, either way.
const CHUNK: usize = 1 << 20;

#[tonic::async_trait]
impl Artifacts for App {
    async fn upload(&self, request: Request<Streaming<UploadRequest>>) -> Result<Response<UploadResponse>, Status> {
        let mut chunks = request.into_inner();
        let mut writer = self.0.artifacts.writer().await.map_err(Error::from)?;
        let received: Result<(), Status> = async {
            while let Some(UploadRequest { chunk }) = chunks.message().await? {
                if chunk.len() > CHUNK {
                    let problem =
                        format!("has {} bytes, a message may hold {CHUNK}: send more, smaller ones", chunk.len());
                    return Err(Error::invalid("chunk", problem).into());
                }
                writer.write(chunk).await.map_err(Error::from)?;
            }
            Ok(())
        }
        .await;
        if let Err(status) = received {
            if let Err(error) = writer.abort().await {
                tracing::debug!(%error, "what was staged of an upload stays for the sweeper");
            }
            return Err(status);
        }
        let (digest, size) = writer.finish().await.map_err(Error::from)?;
        Ok(Response::new(UploadResponse { digest: digest.to_string(), size }))
    }

    type DownloadStream = Pin<Box<dyn Stream<Item = Result<DownloadResponse, Status>> + Send>>;

    async fn download(&self, request: Request<DownloadRequest>) -> Result<Response<Self::DownloadStream>, Status> {
        let digest: Digest = parse("digest", &request.into_inner().digest)?;
        // Read and verified whole before the first chunk leaves; a blob's size is bounded by artifacts.max_blob_bytes.
        let bytes = self.0.artifacts.get(&digest).await.map_err(Error::of_blob("digest", digest))?;
        let chunks = futures::stream::iter(pieces(bytes)).map(|chunk| Ok(DownloadResponse { chunk }));
        Ok(Response::new(Box::pin(chunks)))
    }
}

fn pieces(bytes: Bytes) -> impl Iterator<Item = Bytes> {
    let starts = (0..bytes.len()).step_by(CHUNK);
    starts.map(move |start| bytes.slice(start..bytes.len().min(start + CHUNK)))
}
