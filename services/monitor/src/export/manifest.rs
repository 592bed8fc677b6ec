//! The origin of exported rows as one blob: a dataset names it as its parent, however many chunks were read.

use rekindle_domain::{Digest, ModelName};
use serde::Serialize;

use super::Span;
use crate::{Error, chunk::Chunk};

/// Version of this shape. The first one had `format_version` in place of `schema`, and called chunks segments.
const SCHEMA: u32 = 2;

#[derive(Serialize)]
struct Manifest<'a> {
    schema: u32,
    model: &'a str,
    /// First event time that was read, in milliseconds; null is open.
    from: Option<i64>,
    /// First event time after the span, in milliseconds; null is open.
    until: Option<i64>,
    /// Rows until this event time, in milliseconds, were deleted by retention; absent if none of the span were.
    #[serde(skip_serializing_if = "Option::is_none")]
    deleted_until: Option<i64>,
    /// In order of their keys.
    chunks: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    kind: &'static str,
    key: &'a str,
    digest: Digest,
    rows: u64,
}

/// The manifest of an export as canonical JSON (RFC 8785). `read` is the span from the first event time that was read;
/// `deleted_until` the latest event time in it that retention has deleted.
pub(super) fn bytes<'a>(
    model: &ModelName,
    read: Span,
    deleted_until: Option<i64>,
    chunks: impl Iterator<Item = &'a Chunk>,
) -> Result<Vec<u8>, Error> {
    let mut chunks: Vec<Entry<'_>> = chunks.map(entry).collect();
    chunks.sort_unstable_by_key(|entry| entry.key);
    let manifest =
        Manifest { schema: SCHEMA, model: model.as_str(), from: read.from, until: read.until, deleted_until, chunks };
    Ok(serde_json_canonicalizer::to_vec(&manifest)?)
}

fn entry(chunk: &Chunk) -> Entry<'_> {
    Entry { kind: chunk.kind.as_str(), key: &chunk.object_key, digest: chunk.digest, rows: chunk.rows }
}
