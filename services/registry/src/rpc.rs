//! The gRPC services: decode, call, encode. Requests are validated here; everything behind this module is valid.

mod artifacts;
mod audit;
mod datasets;
mod models;
mod runs;

use std::str::FromStr;

use chrono::SubsecRound as _;
use rekindle_client::wire::field;
use rekindle_domain::text;
use rekindle_proto::registry::{
    artifacts_server::ArtifactsServer, audit_server::AuditServer, datasets_server::DatasetsServer,
    models_server::ModelsServer, runs_server::RunsServer,
};
use rekindle_runtime::grpc::RoutesBuilder;
use rekindle_store::page::{self, Page};

use crate::{App, Error, bounds::Bounds};

/// Adds the services.
pub(crate) fn register(app: &App, routes: &mut RoutesBuilder) {
    let limit = routes.max_request_bytes();
    routes
        .add_service(ArtifactsServer::new(app.clone()).max_decoding_message_size(limit))
        .add_service(DatasetsServer::new(app.clone()).max_decoding_message_size(limit))
        .add_service(RunsServer::new(app.clone()).max_decoding_message_size(limit))
        .add_service(ModelsServer::new(app.clone()).max_decoding_message_size(limit))
        .add_service(AuditServer::new(app.clone()).max_decoding_message_size(limit));
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

/// The reason that a caller gives.
fn why(text: String) -> Result<String, Error> {
    text::check_reason(&text).map_err(|problem| Error::invalid("why", problem))?;
    Ok(text)
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
