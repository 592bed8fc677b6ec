//! Where exported rows came from, as one blob: a dataset names it as its parent, however many segments were read.

use rekindle_domain::Digest;
use serde::Serialize;

use super::Span;
use crate::{
    Error,
    segment::{Kind, Segment},
};

/// Version of this layout.
const FORMAT: u32 = 1;

#[derive(Serialize)]
struct Manifest<'a> {
    format_version: u32,
    model: &'a str,
    /// First event time that was read, in milliseconds; null is open.
    from: Option<i64>,
    /// First event time after what was read, in milliseconds; null is open.
    until: Option<i64>,
    /// In order of their keys.
    segments: Vec<Entry<'a>>,
}

#[derive(Serialize)]
struct Entry<'a> {
    kind: &'static str,
    key: &'a str,
    digest: Digest,
    rows: u64,
}

/// The manifest of an export as canonical JSON (RFC 8785); `from` is where reading began.
pub(super) fn bytes<'a>(
    span: &Span,
    from: Option<i64>,
    segments: impl Iterator<Item = &'a Segment>,
) -> Result<Vec<u8>, Error> {
    let mut segments: Vec<Entry<'_>> = segments.map(entry).collect();
    segments.sort_unstable_by_key(|entry| entry.key);
    let manifest = Manifest { format_version: FORMAT, model: span.model.as_str(), from, until: span.until, segments };
    Ok(serde_json_canonicalizer::to_vec(&manifest)?)
}

fn entry(segment: &Segment) -> Entry<'_> {
    let kind = match segment.kind {
        Kind::Prediction => "prediction",
        Kind::Outcome => "outcome",
    };
    Entry { kind, key: &segment.object_key, digest: segment.digest, rows: segment.rows }
}
