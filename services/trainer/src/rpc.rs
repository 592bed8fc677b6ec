//! The gRPC services: decode, call, encode.

pub(crate) mod workers;

use rekindle_client::wire::{field, job};
use rekindle_domain::{RunId, text};
use rekindle_proto::trainer::{
    CancelJobRequest, CancelJobResponse, SubmitJobRequest, SubmitJobResponse,
    trainer_server::{Trainer, TrainerServer},
};
use rekindle_service::Call;
use tonic::{Request, Response, Status, async_trait};

use crate::{App, CODE_REVISION, Error, registry::Registry, submit::JobSubmission};

/// The server of the service, for messages of at most `limit` bytes.
pub(crate) fn server(app: App, limit: usize) -> TrainerServer<App> {
    TrainerServer::new(app).max_decoding_message_size(limit)
}

#[async_trait]
impl Trainer for App {
    async fn submit_job(&self, request: Request<SubmitJobRequest>) -> Result<Response<SubmitJobResponse>, Status> {
        let (call, request) = Call::open(request)?;
        let job = field::nested("job", request.job, job::from_wire).map_err(Error::from)?;
        let mut job = job.or_within(&call.namespace);
        if job.correlation_id.is_empty() {
            job.correlation_id = call.context.correlation_id;
        }
        let registry = Registry::new(&self.0.registry, &job.correlation_id);
        let submission = JobSubmission {
            bus: &self.0.bus,
            artifacts: &self.0.artifacts,
            registry: &registry,
            code_revision: CODE_REVISION,
            training_bytes: self.0.config.training_bytes,
        };
        let run = submission.submit(job).await?;
        Ok(Response::new(SubmitJobResponse { run_id: run.to_string() }))
    }

    async fn cancel_job(&self, request: Request<CancelJobRequest>) -> Result<Response<CancelJobResponse>, Status> {
        let (call, CancelJobRequest { job_id, why }) = Call::open(request)?;
        let run: RunId = field::parse("job_id", &job_id).map_err(Error::from)?;
        text::check_reason(&why).map_err(|error| Error::invalid("why", error))?;
        let registry = Registry::new(&self.0.registry, &call.context.correlation_id);
        registry.report_killed(run, why).await?;
        tracing::info!(job = job_id, principal = %call.principal, "job cancelled");
        Ok(Response::new(CancelJobResponse {}))
    }
}
