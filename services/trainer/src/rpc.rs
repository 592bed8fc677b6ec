//! Decode, call, encode.

use rekindle_domain::RunId;
use rekindle_proto::{
    client::Context,
    trainer::{CancelJobRequest, CancelJobResponse, SubmitJobRequest, SubmitJobResponse, trainer_server::Trainer},
};
use tonic::{Request, Response, Status, async_trait};

use crate::{App, CODE_REVISION, Error, registry::Registry, submit};

#[async_trait]
impl Trainer for App {
    async fn submit_job(&self, request: Request<SubmitJobRequest>) -> Result<Response<SubmitJobResponse>, Status> {
        let context = Context::of(request.metadata());
        let mut job = request.into_inner().job.ok_or_else(|| Error::invalid("job", "must be given"))?;
        if job.correlation_id.is_empty() {
            job.correlation_id = context.correlation_id;
        }
        let registry = Registry::new(self.0.registry.clone(), &job.correlation_id);
        let desk = submit::Desk {
            bus: &self.0.bus,
            artifacts: &self.0.artifacts,
            registry: &registry,
            code_revision: CODE_REVISION,
        };
        let run = submit::submit(&desk, job).await?;
        Ok(Response::new(SubmitJobResponse { run_id: run.to_string() }))
    }

    async fn cancel_job(&self, request: Request<CancelJobRequest>) -> Result<Response<CancelJobResponse>, Status> {
        let context = Context::of(request.metadata());
        let CancelJobRequest { job_id, why } = request.into_inner();
        let run: RunId = job_id.parse().map_err(|error| Error::invalid("job_id", error))?;
        let registry = Registry::new(self.0.registry.clone(), &context.correlation_id);
        registry.report_killed(run, why).await?;
        tracing::info!(job = job_id, "job cancelled");
        Ok(Response::new(CancelJobResponse {}))
    }
}
