//! The gRPC services: decode, call, encode. Requests are validated here; everything behind this module is valid.

mod artifacts;
mod datasets;
mod models;
mod runs;

use std::{collections::BTreeMap, str::FromStr};

use chrono::SubsecRound as _;
use rekindle_client::wire::field;
use rekindle_domain::{
    text,
    validation::{Checks, Violations},
};
use rekindle_proto::registry::{
    artifacts_server::ArtifactsServer, datasets_server::DatasetsServer, models_server::ModelsServer,
    runs_server::RunsServer,
};
use rekindle_runtime::grpc::RoutesBuilder;
use rekindle_store::page::{self, Page};

use crate::{App, Error, config::Limits};

/// Adds the services.
pub(crate) fn register(app: &App, routes: &mut RoutesBuilder) {
    let limit = routes.max_request_bytes();
    routes
        .add_service(ArtifactsServer::new(app.clone()).max_decoding_message_size(limit))
        .add_service(DatasetsServer::new(app.clone()).max_decoding_message_size(limit))
        .add_service(RunsServer::new(app.clone()).max_decoding_message_size(limit))
        .add_service(ModelsServer::new(app.clone()).max_decoding_message_size(limit));
}

/// A name, a digest or an id.
fn parse<T: FromStr<Err: std::fmt::Display>>(field: &str, text: &str) -> Result<T, Error> {
    Ok(field::parse(field, text)?)
}

/// A version number, from 1; unset is the latest.
fn version(given: Option<u32>) -> Result<Option<u32>, Error> {
    match given {
        Some(0) => Err(Error::invalid("version", "is 0: expected a number from 1, or unset for the latest")),
        other => Ok(other),
    }
}

/// The page that a list requests.
fn page(size: u32, token: &str) -> Result<Page, Error> {
    page::parse(size, token).map_err(|problem| Error::invalid("page_token", problem))
}

/// The key that the token of a page holds.
fn cursor<T: FromStr>(page: &Page) -> Result<Option<T>, Error> {
    let foreign =
        |_| Error::invalid("page_token", "belongs to another list: use next_page_token of the previous response");
    page.after.as_deref().map(str::parse).transpose().map_err(foreign)
}

/// A time with the precision that every database keeps.
fn truncated(time: chrono::DateTime<chrono::Utc>) -> chrono::DateTime<chrono::Utc> {
    time.trunc_subsecs(6)
}

/// Bytes of a text in a JSON object, with its quotes and the separator.
fn json_bytes(text: &str) -> usize {
    let escaped = text.bytes().map(|byte| match byte {
        b'"' | b'\\' => 2,
        byte if byte.is_ascii_control() => 6,
        _ => 1,
    });
    escaped.sum::<usize>() + 3
}

/// The configured limits of a request, each violation with the name of its setting.
struct Bounds<'a> {
    limits: &'a Limits,
    checks: Checks,
}

impl<'a> Bounds<'a> {
    fn new(limits: &'a Limits) -> Self {
        Self { limits, checks: Checks::new() }
    }

    fn at_most(&mut self, field: &str, count: usize, (setting, limit): (&str, usize)) {
        if count > limit {
            let problem = format!("has {count}: the limit registry.limits.{setting} is {limit}");
            self.checks.violation(field, problem);
        }
    }

    /// A text.
    fn text(&mut self, field: &str, text: &str) {
        self.at_most(field, text.chars().count(), ("text_chars", self.limits.text_chars));
        self.without_nul(field, text);
    }

    /// The name of a param, a tag, an output or a metric.
    fn name(&mut self, field: &str, name: &str) {
        if name.is_empty() {
            self.checks.violation(field, "has an empty name");
        }
        self.at_most(field, name.chars().count(), ("name_chars", self.limits.name_chars));
        self.without_nul(field, name);
    }

    /// A character that PostgreSQL does not keep.
    fn without_nul(&mut self, field: &str, text: &str) {
        if text.contains('\0') {
            self.checks.violation(field, text::InvalidText::Nul);
        }
    }

    /// Texts by name.
    fn texts(&mut self, field: &str, texts: &BTreeMap<String, String>) {
        self.at_most(field, texts.len(), ("entries", self.limits.entries));
        let bytes = texts.iter().map(|(name, value)| json_bytes(name) + json_bytes(value)).sum();
        self.at_most(field, bytes, ("texts_bytes", self.limits.texts_bytes));
        for (name, value) in texts {
            self.name(field, name);
            self.text(&format!("{field}[{name}]"), value);
        }
    }

    fn finish(self) -> Result<(), Violations> {
        self.checks.finish()
    }
}
