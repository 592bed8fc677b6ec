//! Clients of a running platform, whichever way it was started.

use std::time::Duration;

use rekindle_proto::{
    client::channel,
    inference::grpc_inference_service_client::GrpcInferenceServiceClient as InferenceClient,
    monitor::monitor_client::MonitorClient,
    orchestrator::orchestrator_client::OrchestratorClient,
    registry::{
        artifacts_client::ArtifactsClient, datasets_client::DatasetsClient, models_client::ModelsClient,
        runs_client::RunsClient,
    },
    trainer::trainer_client::TrainerClient,
};
use tonic::transport::Channel;

/// Where each service of a platform answers.
#[derive(Debug, Clone)]
pub struct Clients {
    /// `http://host:port` of the registry.
    pub registry: String,
    /// The trainer's.
    pub trainer: String,
    /// The monitor's.
    pub monitor: String,
    /// The orchestrator's.
    pub orchestrator: String,
    /// `host:port` of each replica.
    pub inference: Vec<String>,
    /// `nats://host:port`.
    pub nats: String,
}

fn open(address: &str) -> Channel {
    channel(address, Duration::from_secs(60)).expect("an address made by the harness")
}

impl Clients {
    /// Blobs.
    pub fn artifacts(&self) -> ArtifactsClient<Channel> {
        ArtifactsClient::new(open(&self.registry))
    }

    /// Datasets.
    pub fn datasets(&self) -> DatasetsClient<Channel> {
        DatasetsClient::new(open(&self.registry))
    }

    /// Runs.
    pub fn runs(&self) -> RunsClient<Channel> {
        RunsClient::new(open(&self.registry))
    }

    /// Models.
    pub fn models(&self) -> ModelsClient<Channel> {
        ModelsClient::new(open(&self.registry))
    }

    /// Jobs.
    pub fn trainer(&self) -> TrainerClient<Channel> {
        TrainerClient::new(open(&self.trainer))
    }

    /// Reports and outcomes.
    pub fn monitor(&self) -> MonitorClient<Channel> {
        MonitorClient::new(open(&self.monitor))
    }

    /// Policies, workflows and deployments.
    pub fn orchestrator(&self) -> OrchestratorClient<Channel> {
        OrchestratorClient::new(open(&self.orchestrator))
    }

    /// One replica.
    pub fn replica(&self, index: usize) -> InferenceClient<Channel> {
        InferenceClient::new(open(&format!("http://{}", self.inference[index])))
    }
}
