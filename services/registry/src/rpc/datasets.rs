//! The service `Datasets`.

use rekindle_client::wire;
use rekindle_domain::{
    dataset::{DatasetRegistration, DatasetVersion},
    validation::Violations,
};
use rekindle_proto::registry::{
    self as proto, GetVersionRequest, ListDatasetsRequest, ListDatasetsResponse, ListVersionsRequest,
    ListVersionsResponse, RegisterVersionRequest, datasets_server::Datasets,
};
use rekindle_service::{Call, Intent};
use tonic::{Request, Response, Status};

use super::{Bounds, cursor, page, truncated, version};
use crate::{App, Error, config::Limits, dataset};

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
    bounds.finish()
}
