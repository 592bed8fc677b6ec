//! The trainer: jobs.

use rekindle_domain::{RunId, job::Job};
use rekindle_proto::trainer::{self as proto, trainer_client::TrainerClient};

use crate::{
    Connection, Error,
    wire::{field, job},
};

/// A client of the trainer; clones share the connection.
#[derive(Debug, Clone)]
pub struct Trainer(Connection);

impl Trainer {
    /// A client on a connection.
    pub fn new(connection: Connection) -> Self {
        Self(connection)
    }

    /// Creates the run of a job and enqueues the job, once per id. Returns the run.
    pub async fn submit(&self, submitted: &Job) -> Result<RunId, Error> {
        let operation = "submit the job";
        let request = proto::SubmitJobRequest { job: Some(job::to_wire(submitted)) };
        let call = || async { TrainerClient::new(self.0.stub()).submit_job(request.clone()).await };
        let answer = self.0.call(operation, call).await?;
        field::parse("run_id", &answer.run_id).map_err(Error::response(operation))
    }

    /// Ends the run of a job as KILLED.
    pub async fn cancel(&self, id: RunId, why: impl Into<String>) -> Result<(), Error> {
        let request = proto::CancelJobRequest { job_id: id.to_string(), why: why.into() };
        let call = || async { TrainerClient::new(self.0.stub()).cancel_job(request.clone()).await };
        self.0.call("cancel the job", call).await.map(|proto::CancelJobResponse {}| ())
    }
}
