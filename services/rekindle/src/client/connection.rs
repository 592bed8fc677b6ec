//! Where a platform answers, and clients of each of its services.

use std::time::Duration;

use anyhow::{Result, bail};
use rekindle_proto::{
    client::channel,
    inference::{ServerReadyRequest, grpc_inference_service_client::GrpcInferenceServiceClient},
    monitor::monitor_client::MonitorClient,
    orchestrator::{ListReplicasRequest, orchestrator_client::OrchestratorClient},
    registry::{
        artifacts_client::ArtifactsClient, datasets_client::DatasetsClient, models_client::ModelsClient,
        runs_client::RunsClient,
    },
    trainer::trainer_client::TrainerClient,
};
use tokio::time::{Instant, sleep};
use tonic::transport::Channel;
use tonic_health::pb::{HealthCheckRequest, health_check_response::ServingStatus, health_client::HealthClient};

/// Longest call; uploads of large files and exports are the slow ones.
const TIMEOUT: Duration = Duration::from_secs(300);
const POLL: Duration = Duration::from_millis(50);

/// Clients of one platform. Channels connect when first used, and are shared.
#[derive(Debug, Clone)]
pub(crate) struct Connection {
    control: Channel,
    nats: String,
    /// Empty: as the orchestrator tells.
    replicas: Vec<String>,
}

impl Connection {
    /// A connection to the control plane at `control` (`http://host:port`).
    pub(crate) fn open(control: &str, nats: &str, replicas: Vec<String>) -> Result<Self> {
        Ok(Self { control: channel(control, TIMEOUT)?, nats: nats.to_owned(), replicas })
    }

    /// The control plane's channel.
    pub(crate) fn channel(&self) -> Channel {
        self.control.clone()
    }

    /// The bus's address.
    pub(crate) fn nats(&self) -> &str {
        &self.nats
    }

    pub(crate) fn artifacts(&self) -> ArtifactsClient<Channel> {
        ArtifactsClient::new(self.channel())
    }

    pub(crate) fn datasets(&self) -> DatasetsClient<Channel> {
        DatasetsClient::new(self.channel())
    }

    pub(crate) fn runs(&self) -> RunsClient<Channel> {
        RunsClient::new(self.channel())
    }

    pub(crate) fn models(&self) -> ModelsClient<Channel> {
        ModelsClient::new(self.channel())
    }

    pub(crate) fn trainer(&self) -> TrainerClient<Channel> {
        TrainerClient::new(self.channel())
    }

    pub(crate) fn monitor(&self) -> MonitorClient<Channel> {
        MonitorClient::new(self.channel())
    }

    pub(crate) fn orchestrator(&self) -> OrchestratorClient<Channel> {
        OrchestratorClient::new(self.channel())
    }

    /// `host:port` of every replica.
    pub(crate) async fn replicas(&self) -> Result<Vec<String>> {
        if !self.replicas.is_empty() {
            return Ok(self.replicas.clone());
        }
        let listed = self.orchestrator().list_replicas(ListReplicasRequest {}).await?.into_inner().replicas;
        if listed.is_empty() {
            bail!("no inference replica is alive: start one, or name it with --inference HOST:PORT");
        }
        Ok(listed.into_iter().map(|replica| replica.address).collect())
    }

    /// Waits until the control plane and every known replica are ready; says at the end what is not.
    pub(crate) async fn wait_ready(&self, patience: Duration) -> Result<()> {
        let deadline = Instant::now() + patience;
        loop {
            let problem = match self.ready().await {
                Ok(()) => return Ok(()),
                Err(problem) => problem,
            };
            if Instant::now() > deadline {
                return Err(problem.context(format!("not ready within {patience:?}")));
            }
            sleep(POLL).await;
        }
    }

    /// Whether everything is ready now; the error says what is not.
    pub(crate) async fn ready(&self) -> Result<()> {
        let request = HealthCheckRequest { service: String::new() };
        let health = HealthClient::new(self.channel()).check(request).await?.into_inner();
        if health.status() != ServingStatus::Serving {
            bail!("the control plane is {}", health.status().as_str_name());
        }
        for address in self.replicas().await? {
            let mut replica = GrpcInferenceServiceClient::new(channel(&format!("http://{address}"), TIMEOUT)?);
            if !replica.server_ready(ServerReadyRequest {}).await?.into_inner().ready {
                bail!("replica {address} is not ready");
            }
        }
        Ok(())
    }
}
