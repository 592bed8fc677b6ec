//! Uploads to the registry and downloads from it, each verified by digest.

use std::{fs::File, io::Read as _, path::Path, pin::pin};

use anyhow::{Context as _, Result, ensure};
use bytes::{Bytes, BytesMut};
use futures::{StreamExt as _, stream};
use rekindle_client::{Registry, registry::UploadPurpose};
use rekindle_domain::Digest;
use sha2::{Digest as _, Sha256};
use tokio::sync::mpsc;

/// Bytes of one message.
const CHUNK: usize = 512 * 1024;

/// Uploads a file, chunk by chunk; `sent` is called with the bytes sent so far. Returns the digest, which is
/// also computed here.
pub(crate) async fn upload_file(
    registry: &Registry,
    purpose: UploadPurpose,
    path: &Path,
    sent: impl Fn(u64) + Send + 'static,
) -> Result<Digest> {
    let mut file = File::open(path).with_context(|| format!("cannot read {}", path.display()))?;
    let (sender, mut receiver) = mpsc::channel(2);
    let read = tokio::task::spawn_blocking(move || read_chunks(&mut file, &sender));
    let mut done = 0;
    let chunks = stream::poll_fn(move |context| receiver.poll_recv(context)).inspect(move |chunk: &Bytes| {
        done += chunk.len() as u64;
        sent(done);
    });
    let stored = registry.upload(purpose, chunks).await;
    // A file that could not be read to its end was uploaded incompletely, whatever the registry answered.
    let expected = read.await?.with_context(|| format!("cannot read {}", path.display()))?;
    verified(expected, stored?.0)
}

/// Sends a file chunk by chunk, as fast as the receiver takes them, and returns its digest. Ends early without a receiver.
fn read_chunks(file: &mut File, sender: &mpsc::Sender<Bytes>) -> std::io::Result<Digest> {
    let mut hasher = Sha256::new();
    loop {
        let mut chunk = Vec::with_capacity(CHUNK);
        file.take(CHUNK as u64).read_to_end(&mut chunk)?;
        hasher.update(&chunk);
        if chunk.is_empty() || sender.blocking_send(chunk.into()).is_err() {
            return Ok(Digest::from_bytes(hasher.finalize().into()));
        }
    }
}

/// Uploads bytes as a dataset source. Returns their digest, which is also computed here.
pub(crate) async fn upload(registry: &Registry, bytes: Bytes) -> Result<Digest> {
    let expected = Digest::of(&bytes);
    let (stored, _) = registry.upload_bytes(UploadPurpose::DatasetSource, bytes).await?;
    verified(expected, stored)
}

fn verified(expected: Digest, stored: Digest) -> Result<Digest> {
    ensure!(stored == expected, "the registry stored {stored} instead of {expected}");
    Ok(expected)
}

/// Downloads a blob and verifies its digest.
pub(crate) async fn download(registry: Registry, digest: Digest) -> Result<Bytes> {
    let mut chunks = pin!(registry.download(digest).await.with_context(|| format!("cannot download {digest}"))?);
    let mut bytes = BytesMut::new();
    while let Some(chunk) = chunks.next().await {
        bytes.extend_from_slice(&chunk?);
    }
    let bytes = bytes.freeze();
    ensure!(Digest::of(&bytes) == digest, "the bytes received do not match {digest}");
    Ok(bytes)
}
