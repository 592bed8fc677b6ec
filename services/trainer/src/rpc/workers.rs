//! The service of workers outside of the platform: decode, call, encode.

use std::time::Duration;

use rekindle_client::wire::{field, job, model_import, time};
use rekindle_domain::job::check_pool;
use rekindle_proto::trainer::{
    self as proto, ClaimJobRequest, ClaimJobResponse, CompleteJobRequest, CompleteJobResponse, FailJobRequest,
    FailJobResponse, RenewClaimRequest, RenewClaimResponse,
    workers_server::{Workers, WorkersServer},
};
use rekindle_service::Call;
use tonic::{Request, Response, Status, async_trait};

use crate::{
    App, Error,
    workers::{Claimed, Completion},
};

/// How long a caller may wait for a training.
const LONGEST_WAIT: Duration = Duration::from_secs(30);

/// The server of the service, for messages of at most `limit` bytes.
pub(crate) fn server(app: App, limit: usize) -> WorkersServer<App> {
    WorkersServer::new(app).max_decoding_message_size(limit)
}

fn to_wire(claimed: Claimed) -> proto::Claim {
    let Claimed { token, lease, job: claimed, train, dataset, validation_from, attempt, checkpoint } = claimed;
    proto::Claim {
        token,
        lease: Some(time::span_to_wire(lease)),
        run_id: claimed.id.to_string(),
        train: Some(job::train_on(&train, &claimed.dataset)),
        blob_digest: dataset.blob.to_string(),
        time_column: dataset.time_column.unwrap_or_default(),
        validation_from: validation_from.map(time::to_wire),
        attempt,
        checkpoint_digest: checkpoint.unwrap_or_default(),
    }
}

#[async_trait]
impl Workers for App {
    async fn claim_job(&self, request: Request<ClaimJobRequest>) -> Result<Response<ClaimJobResponse>, Status> {
        let (_, request) = Call::open(request)?;
        check_pool(&request.pool).map_err(|problem| Error::invalid("pool", problem))?;
        let wait = field::span_or("wait", request.wait, Duration::ZERO).map_err(Error::from)?;
        if wait > LONGEST_WAIT {
            return Err(Error::invalid("wait", format!("is {wait:?}: expected at most {LONGEST_WAIT:?}")).into());
        }
        let claimed = self.claim_training(&request.pool, wait).await?;
        Ok(Response::new(ClaimJobResponse { claim: claimed.map(to_wire) }))
    }

    async fn renew_claim(&self, request: Request<RenewClaimRequest>) -> Result<Response<RenewClaimResponse>, Status> {
        let (_, RenewClaimRequest { token, checkpoint_digest }) = Call::open(request)?;
        let checkpoint = field::parse_optional("checkpoint_digest", &checkpoint_digest).map_err(Error::from)?;
        let cancelled = App::renew_claim(self, &token, checkpoint).await?;
        Ok(Response::new(RenewClaimResponse { cancelled }))
    }

    async fn complete_job(
        &self,
        request: Request<CompleteJobRequest>,
    ) -> Result<Response<CompleteJobResponse>, Status> {
        let (_, request) = Call::open(request)?;
        let completion = Completion {
            file: field::parse("file_digest", &request.file_digest).map_err(Error::from)?,
            classes: request.classes,
            features: request.features,
            nullable: request.nullable,
            output: Some(request.output).filter(|output| !output.is_empty()),
            scores: model_import::scores_from_wire(request.scores).map_err(Error::from)?,
            outputs: request.outputs.into_iter().collect(),
        };
        let (model_version, bundle) = Box::pin(self.complete_training(&request.token, completion)).await?;
        Ok(Response::new(CompleteJobResponse { model_version, bundle_digest: bundle.to_string() }))
    }

    async fn fail_job(&self, request: Request<FailJobRequest>) -> Result<Response<FailJobResponse>, Status> {
        let (_, FailJobRequest { token, error, retry }) = Call::open(request)?;
        self.fail_training(&token, &error, retry).await?;
        Ok(Response::new(FailJobResponse {}))
    }
}
