//! The service `Datasets`.

use rekindle_client::wire;
use rekindle_domain::{
    DatasetName,
    dataset::{DatasetRegistration, DatasetVersion},
    validation::Violations,
};
use rekindle_proto::registry::{
    self as proto, CompareVersionsRequest, CompareVersionsResponse, DeleteDatasetRequest, DeleteDatasetResponse,
    GetVersionRequest, ListDatasetsRequest, ListDatasetsResponse, ListVersionsRequest, ListVersionsResponse,
    PreviewVersionRequest, PreviewVersionResponse, RegisterVersionRequest, RestoreDatasetRequest,
    RestoreDatasetResponse, datasets_server::Datasets,
};
use rekindle_service::{Call, Intent};
use tonic::{Request, Response, Status};

use super::{Bounds, cursor, page, truncated, version};
use crate::{
    App, Error,
    config::Limits,
    dataset::{self, deletion},
};

fn answer(version: &DatasetVersion) -> Response<proto::DatasetVersion> {
    Response::new(wire::dataset::to_wire(version))
}

#[tonic::async_trait]
impl Datasets for App {
    async fn register_version(
        &self,
        request: Request<RegisterVersionRequest>,
    ) -> Result<Response<proto::DatasetVersion>, Status> {
        let (call, request) = Call::open(request)?;
        // Before the conversion, which takes memory for each element.
        few(request.sources.len(), request.parents.len(), &self.0.config.limits).finish().map_err(Error::from)?;
        let intent = Intent::of("RegisterVersion", &call.namespace, &request.idempotency_key, &request)?;
        let mut registration = wire::dataset::registration_from_wire(request).map_err(Error::from)?;
        check(&registration, &self.0.config.limits).map_err(Error::from)?;
        registration.name = call.qualify(registration.name);
        registration.from = registration.from.map(truncated);
        registration.until = registration.until.map(truncated);
        let state = &self.0;
        let created =
            dataset::register(&state.db, &state.artifacts, &state.importer, call, intent, registration).await?;
        Ok(answer(&created))
    }

    async fn get_version(
        &self,
        request: Request<GetVersionRequest>,
    ) -> Result<Response<proto::DatasetVersion>, Status> {
        let (call, request) = Call::open(request)?;
        let name = call.name("name", &request.name).map_err(Error::from)?;
        let found = dataset::get(&self.0.db, &name, version(request.version)?).await?;
        Ok(answer(&found))
    }

    async fn list_datasets(
        &self,
        request: Request<ListDatasetsRequest>,
    ) -> Result<Response<ListDatasetsResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let page = page(request.page_size, &request.page_token)?;
        let fetch = |after, limit| dataset::latest_of_each(&self.0.db, &call.namespace, after, limit);
        let name = |version: &DatasetVersion| version.name.to_string();
        let filled = page.fill(page.after.clone(), fetch, name, wire::dataset::to_wire).await;
        let (datasets, next_page_token) = filled?;
        Ok(Response::new(ListDatasetsResponse { datasets, next_page_token }))
    }

    async fn list_versions(
        &self,
        request: Request<ListVersionsRequest>,
    ) -> Result<Response<ListVersionsResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let name = call.name("name", &request.name).map_err(Error::from)?;
        let page = page(request.page_size, &request.page_token)?;
        let fetch = |before, limit| dataset::versions(&self.0.db, &name, before, limit);
        let number = |version: &DatasetVersion| version.version;
        let (versions, next_page_token) = page.fill(cursor(&page)?, fetch, number, wire::dataset::to_wire).await?;
        Ok(Response::new(ListVersionsResponse { versions, next_page_token }))
    }

    async fn preview_version(
        &self,
        request: Request<PreviewVersionRequest>,
    ) -> Result<Response<PreviewVersionResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let name = call.name("name", &request.name).map_err(Error::from)?;
        let limit = if request.limit == 0 { PREVIEWED_BY_DEFAULT } else { request.limit };
        if limit > PREVIEWED {
            let problem = format!("is {limit}: expected at most {PREVIEWED}; download the blob for all rows");
            return Err(Error::invalid("limit", problem).into());
        }
        let (state, version) = (&self.0, version(request.version)?);
        let span = (request.offset, limit);
        let rows = dataset::rows(&state.db, &state.artifacts, &state.importer, (&name, version), span).await?;
        Ok(Response::new(wire::dataset::rows_to_wire(rows)))
    }

    async fn compare_versions(
        &self,
        request: Request<CompareVersionsRequest>,
    ) -> Result<Response<CompareVersionsResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let name: DatasetName = call.name("name", &request.name).map_err(Error::from)?;
        let base_name = call.optional_name("base_name", &request.base_name).map_err(Error::from)?;
        let base = (base_name.unwrap_or_else(|| name.clone()), version(request.base_version)?);
        let compared = dataset::compare(&self.0.db, base, (name, version(request.version)?)).await?;
        let (base, version, changes) = compared;
        Ok(Response::new(wire::dataset::comparison_to_wire(&base, &version, changes)))
    }

    async fn delete_dataset(
        &self,
        request: Request<DeleteDatasetRequest>,
    ) -> Result<Response<DeleteDatasetResponse>, Status> {
        let (call, DeleteDatasetRequest { name, version, why }) = Call::open(request)?;
        let versions = delete_or_restore(self, call, (&name, version), why, true).await?;
        Ok(Response::new(DeleteDatasetResponse { versions }))
    }

    async fn restore_dataset(
        &self,
        request: Request<RestoreDatasetRequest>,
    ) -> Result<Response<RestoreDatasetResponse>, Status> {
        let (call, RestoreDatasetRequest { name, version, why }) = Call::open(request)?;
        let versions = delete_or_restore(self, call, (&name, version), why, false).await?;
        Ok(Response::new(RestoreDatasetResponse { versions }))
    }
}

/// Rows of a preview at most, and without a number.
const PREVIEWED: u32 = 1000;
const PREVIEWED_BY_DEFAULT: u32 = 20;

async fn delete_or_restore(
    app: &App,
    call: Call,
    (name, version): (&str, Option<u32>),
    why: String,
    is_deleted: bool,
) -> Result<Vec<u32>, Error> {
    let name = call.name("name", name)?;
    let version = super::version(version)?;
    let change = deletion::Change { name, version, why: super::why(why)?, is_deleted };
    deletion::apply(&app.0.db, call, change).await
}

fn few(sources: usize, parents: usize, limits: &Limits) -> Bounds<'_> {
    let mut bounds = Bounds::new(limits);
    bounds.at_most("sources", sources, ("sources", limits.sources));
    bounds.at_most("parents", parents, ("parents", limits.parents));
    bounds
}

fn check(registration: &DatasetRegistration, limits: &Limits) -> Result<(), Violations> {
    let mut bounds = few(registration.sources.len(), registration.parents.len(), limits);
    bounds.text("description", &registration.description);
    let is_sensitive = |column: &String| registration.schema.as_ref().is_some_and(|schema| schema.is_sensitive(column));
    if registration.time_column.as_ref().is_some_and(is_sensitive) {
        let problem = "is sensitive: the first and the last time of a version are shown";
        bounds.checks.violation("time_column", problem);
    }
    bounds.finish()
}
