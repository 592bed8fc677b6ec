//! The service `Audit`: the audit trail of the registry.

use rekindle_bus::audit;
use rekindle_client::wire::audit as wire;
use rekindle_domain::event::EventKind;
use rekindle_proto::{
    audit::{ListEntriesRequest, ListEntriesResponse, VerifyRequest, VerifyResponse},
    registry::audit_server::Audit,
};
use rekindle_service::Call;
use tonic::{Request, Response, Status};

use super::{cursor, page};
use crate::{App, Error};

#[tonic::async_trait]
impl Audit for App {
    async fn list_entries(
        &self,
        request: Request<ListEntriesRequest>,
    ) -> Result<Response<ListEntriesResponse>, Status> {
        let (_, request) = Call::open(request)?;
        let page = page(request.page_size, &request.page_token)?;
        let after = cursor(&page)?;
        let filter = wire::filter_from_wire(request).map_err(Error::from)?;
        let found = rekindle_store::audit::list(&self.0.db, &filter, after, page.fetch()).await.map_err(Error::from)?;
        let (entries, next_page_token) = page.cut(found, |(key, _)| key.to_string(), |(_, entry)| wire::to_wire(entry));
        Ok(Response::new(ListEntriesResponse { entries, next_page_token }))
    }

    async fn verify(&self, request: Request<VerifyRequest>) -> Result<Response<VerifyResponse>, Status> {
        Call::open(request)?;
        let found =
            audit::verify(&self.0.bus, &self.0.db, EventKind::REGISTRY_AUDIT_SEALED).await.map_err(Error::from)?;
        Ok(Response::new(wire::verification_to_wire(&found)))
    }
}
