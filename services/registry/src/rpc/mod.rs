//! The gRPC services: decode, call, encode. Whatever arrives is parsed here; beyond this module everything is valid.

mod artifacts;
mod datasets;
mod models;
mod runs;

use std::{
    collections::{BTreeMap, HashMap},
    fmt::Display,
    str::FromStr,
};

use chrono::{DateTime, SubsecRound as _, Utc};
use prost_types::Timestamp;
use rekindle_domain::Digest;
use rekindle_proto::{client::Context, time};
use rekindle_store::page::{self, Page};
use tonic::{Request, metadata::MetadataMap};

use crate::{Error, call::Call, config::Limits};

/// Splits a request into its surroundings and its message.
fn open<M>(request: Request<M>) -> (Call, M) {
    (arriving(request.metadata()), request.into_inner())
}

fn arriving(metadata: &MetadataMap) -> Call {
    Call::arriving(Context::of(metadata))
}

/// A name, a digest or an id.
fn parse<T: FromStr<Err: Display>>(field: impl Into<String>, text: &str) -> Result<T, Error> {
    text.parse().map_err(|problem| Error::invalid(field, problem))
}

/// Digests of a repeated field.
fn digests(field: &str, texts: &[String], limit: (&str, usize)) -> Result<Vec<Digest>, Error> {
    at_most(field, texts.len(), limit)?;
    texts.iter().enumerate().map(|(index, text)| parse(format!("{field}[{index}]"), text)).collect()
}

/// A count within a limit, which the error names.
fn at_most(field: &str, count: usize, (setting, limit): (&str, usize)) -> Result<(), Error> {
    if count <= limit {
        return Ok(());
    }
    Err(Error::invalid(field, format!("holds {count}, the limit registry.limits.{setting} is {limit}")))
}

/// A free text within the limit.
fn text(field: &str, text: String, limits: &Limits) -> Result<String, Error> {
    at_most(field, text.chars().count(), ("text_chars", limits.text_chars))?;
    Ok(text)
}

/// A map of names to texts within the limits.
fn texts(field: &str, map: HashMap<String, String>, limits: &Limits) -> Result<BTreeMap<String, String>, Error> {
    at_most(field, map.len(), ("entries", limits.entries))?;
    for (name, value) in &map {
        short_name(field, name, limits)?;
        at_most(&format!("{field}[{name}]"), value.chars().count(), ("text_chars", limits.text_chars))?;
    }
    Ok(map.into_iter().collect())
}

/// The name of a param, a tag, an output or a metric.
fn short_name(field: &str, name: &str, limits: &Limits) -> Result<(), Error> {
    if name.is_empty() {
        return Err(Error::invalid(field, "has an empty name: give it one"));
    }
    at_most(field, name.chars().count(), ("name_chars", limits.name_chars))
}

/// A time, which may be unset. Cut to microseconds, as every database keeps it.
fn moment(field: &str, time: Option<Timestamp>) -> Result<Option<DateTime<Utc>>, Error> {
    let Some(time) = time else { return Ok(None) };
    let parsed =
        time::from_wire(time).ok_or_else(|| Error::invalid(field, "is no time between the years 1 and 9999"))?;
    Ok(Some(parsed.trunc_subsecs(6)))
}

/// The page that a list asks for.
fn page(size: u32, token: &str) -> Result<Page, Error> {
    page::parse(size, token).map_err(|problem| Error::invalid("page_token", problem))
}

/// What a page's token stands for.
fn cursor<T: FromStr>(page: &Page) -> Result<Option<T>, Error> {
    let foreign = |_| Error::invalid("page_token", "is of another list: use next_page_token of the previous answer");
    page.after.as_deref().map(str::parse).transpose().map_err(foreign)
}

/// A version number as requests have it: 0 is the latest.
fn number(version: u32) -> Option<u32> {
    (version != 0).then_some(version)
}
