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
use crate::{App, Error, config::Limits, dataset, store};

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
        let found =
            store::datasets::latest_of_each(&self.0.db, &call.namespace, page.after.as_deref(), page.fetch()).await;
        let (found, next_page_token) = page.cut(found.map_err(Error::from)?, |version| version.name.to_string());
        let datasets = found.iter().map(wire::dataset::to_wire).collect();
        Ok(Response::new(ListDatasetsResponse { datasets, next_page_token }))
    }

    async fn list_versions(
        &self,
        request: Request<ListVersionsRequest>,
    ) -> Result<Response<ListVersionsResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let name = call.name("name", &request.name).map_err(Error::from)?;
        let page = page(request.page_size, &request.page_token)?;
        let found = dataset::versions(&self.0.db, &name, cursor(&page)?, page.fetch()).await?;
        let (found, next_page_token) = page.cut(found, |version| version.version.to_string());
        let versions = found.iter().map(wire::dataset::to_wire).collect();
        Ok(Response::new(ListVersionsResponse { versions, next_page_token }))
    }
}

fn check(registration: &DatasetRegistration, limits: &Limits) -> Result<(), Violations> {
    let mut bounds = Bounds::new(limits);
    bounds.at_most("sources", registration.sources.len(), ("sources", limits.sources));
    bounds.at_most("parents", registration.parents.len(), ("parents", limits.parents));
    bounds.text("description", &registration.description);
    bounds.finish()
}
