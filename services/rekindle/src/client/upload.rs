//! Bytes to and from the registry's artifacts.

use anyhow::{Context as _, Result, ensure};
use bytes::{Bytes, BytesMut};
use futures::stream;
use rekindle_domain::Digest;
use rekindle_proto::registry::{DownloadRequest, UploadRequest, artifacts_client::ArtifactsClient};
use tonic::transport::Channel;

/// Bytes in one message.
const CHUNK: usize = 512 * 1024;

/// Stores bytes; `sent` hears how many have left. Returns their digest, which was computed here too.
pub(crate) async fn upload(
    mut client: ArtifactsClient<Channel>,
    bytes: Bytes,
    mut sent: impl FnMut(usize) + Send + 'static,
) -> Result<Digest> {
    let expected = Digest::of(&bytes);
    let chunks = stream::unfold((bytes, 0), move |(mut rest, done)| {
        let chunk = rest.split_to(CHUNK.min(rest.len()));
        let done = done + chunk.len();
        sent(done);
        std::future::ready((!chunk.is_empty()).then_some((UploadRequest { chunk }, (rest, done))))
    });
    let stored = client.upload(chunks).await.context("the registry did not take the bytes")?.into_inner();
    ensure!(stored.digest == expected.to_string(), "the registry stored {} instead of {expected}", stored.digest);
    Ok(expected)
}

/// Fetches bytes and verifies them.
pub(crate) async fn download(mut client: ArtifactsClient<Channel>, digest: Digest) -> Result<Bytes> {
    let request = DownloadRequest { digest: digest.to_string() };
    let mut chunks = client.download(request).await.with_context(|| format!("cannot fetch {digest}"))?.into_inner();
    let mut bytes = BytesMut::new();
    while let Some(message) = chunks.message().await? {
        bytes.extend_from_slice(&message.chunk);
    }
    let bytes = bytes.freeze();
    ensure!(Digest::of(&bytes) == digest, "what came is not {digest}");
    Ok(bytes)
}
