//! A real server whose calls are controlled by the test.

use std::{net::SocketAddr, pin::Pin, sync::Arc, time::Duration};

use futures::{Stream, StreamExt as _};
use rekindle_proto::{
    registry::{
        CollectGarbageRequest, CollectGarbageResponse, DownloadRequest, DownloadResponse, ScrubRequest, ScrubResponse,
        UploadRequest, UploadResponse,
        artifacts_server::{Artifacts, ArtifactsServer},
    },
    trainer::{
        CancelJobRequest, CancelJobResponse, SubmitJobRequest, SubmitJobResponse,
        trainer_client::TrainerClient,
        trainer_server::{Trainer, TrainerServer},
    },
};
use rekindle_runtime::{
    Error,
    grpc::{Config, RoutesBuilder, listen, serve},
    health::Health,
    shutdown::Shutdown,
    telemetry,
};
use tokio::{
    net::TcpStream,
    sync::{Semaphore, watch},
    task::JoinHandle,
};
use tonic::{
    Request, Response, Status, Streaming,
    transport::{Channel, Endpoint},
};

/// A running server. Its calls are counted; calls of the job `wait` block until they are released.
pub(crate) struct World {
    pub(crate) address: SocketAddr,
    pub(crate) health: Health,
    pub(crate) shutdown: Shutdown,
    service: Controlled,
    served: JoinHandle<Result<(), Error>>,
}

impl World {
    pub(crate) async fn start(config: Config) -> Self {
        Self::start_at(([127, 0, 0, 1], 0).into(), config).await
    }

    pub(crate) async fn start_at(address: SocketAddr, config: Config) -> Self {
        let world = Self::start_unready_at(address, config).await;
        world.health.set_ready().await;
        world
    }

    pub(crate) async fn start_unready(config: Config) -> Self {
        Self::start_unready_at(([127, 0, 0, 1], 0).into(), config).await
    }

    async fn start_unready_at(address: SocketAddr, config: Config) -> Self {
        let listener = listen(address).await.expect("a port");
        let address = listener.local_addr().expect("an address");
        let (health, shutdown, service) = (Health::new(), Shutdown::new(), Controlled::default());
        let mut routes = RoutesBuilder::for_requests_of(config.max_request_bytes);
        let limit = routes.max_request_bytes();
        routes
            .add_service(TrainerServer::new(service.clone()).max_decoding_message_size(limit))
            .add_service(ArtifactsServer::new(service.clone()));
        let (server_health, server_shutdown) = (health.clone(), shutdown.clone());
        let served = tokio::spawn(async move { serve(listener, routes, server_health, config, server_shutdown).await });
        Self { address, health, shutdown, service, served }
    }

    pub(crate) fn channel(&self) -> Channel {
        channel(&format!("http://{}", self.address))
    }

    /// A call on a new connection.
    pub(crate) fn calling(&self, what: &'static str) -> impl Future<Output = Result<(), Status>> + Send + 'static {
        let mut client = TrainerClient::new(self.channel());
        async move { client.cancel_job(command(what)).await.map(drop) }
    }

    /// Waits until `count` calls block in the service.
    pub(crate) async fn entered(&self, count: usize) {
        self.service.counts.subscribe().wait_for(|counts| counts.entered >= count).await.expect("counted");
    }

    pub(crate) async fn left(&self, count: usize) {
        self.service.counts.subscribe().wait_for(|counts| counts.left >= count).await.expect("counted");
    }

    pub(crate) async fn completed(&self, count: usize) {
        self.service.counts.subscribe().wait_for(|counts| counts.completed >= count).await.expect("counted");
    }

    pub(crate) fn release(&self, count: usize) {
        self.service.gate.add_permits(count);
    }

    /// Waits until the port is closed.
    pub(crate) async fn refuses_connections(&self) {
        while TcpStream::connect(self.address).await.is_ok() {
            tokio::task::yield_now().await;
        }
    }

    pub(crate) async fn served(self) -> Result<(), Error> {
        self.served.await.expect("no panic")
    }

    pub(crate) async fn reflected_v1(&self) -> Vec<String> {
        use tonic_reflection::pb::v1::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut client = ServerReflectionClient::new(self.channel());
        let responses = client.server_reflection_info(futures::stream::iter([request])).await.expect("reflection");
        match responses.into_inner().next().await.expect("one").expect("fine").message_response {
            Some(MessageResponse::ListServicesResponse(list)) => list.service.into_iter().map(|s| s.name).collect(),
            other => panic!("not a list: {other:?}"),
        }
    }

    pub(crate) async fn reflected_v1alpha(&self) -> Vec<String> {
        use tonic_reflection::pb::v1alpha::{
            ServerReflectionRequest, server_reflection_client::ServerReflectionClient,
            server_reflection_request::MessageRequest, server_reflection_response::MessageResponse,
        };
        let request = ServerReflectionRequest {
            host: String::new(),
            message_request: Some(MessageRequest::ListServices(String::new())),
        };
        let mut client = ServerReflectionClient::new(self.channel());
        let responses = client.server_reflection_info(futures::stream::iter([request])).await.expect("reflection");
        match responses.into_inner().next().await.expect("one").expect("fine").message_response {
            Some(MessageResponse::ListServicesResponse(list)) => list.service.into_iter().map(|s| s.name).collect(),
            other => panic!("not a list: {other:?}"),
        }
    }
}

fn channel(address: &str) -> Channel {
    let endpoint = Endpoint::from_shared(address.to_owned()).expect("an address");
    endpoint.timeout(Duration::from_secs(30)).connect_lazy()
}

pub(crate) fn command(what: &str) -> CancelJobRequest {
    CancelJobRequest { job_id: what.to_owned(), ..Default::default() }
}

pub(crate) async fn call(world: &World, what: &str) -> Result<(), Status> {
    TrainerClient::new(world.channel()).cancel_job(command(what)).await.map(drop)
}

/// The value of a series in the metrics.
pub(crate) fn metric(series: &str) -> Option<f64> {
    let text = telemetry::prometheus().render();
    let line = text.lines().find_map(|line| line.strip_prefix(series)).map(str::trim);
    line.map(|value| value.parse().expect("a number"))
}

#[derive(Debug, Default, Clone, Copy)]
struct Counts {
    entered: usize,
    left: usize,
    completed: usize,
}

#[derive(Clone)]
struct Controlled {
    gate: Arc<Semaphore>,
    counts: Arc<watch::Sender<Counts>>,
}

impl Default for Controlled {
    fn default() -> Self {
        Self { gate: Arc::new(Semaphore::new(0)), counts: Arc::new(watch::Sender::new(Counts::default())) }
    }
}

/// Counts a call as left, also when its future is dropped.
struct Leaving(Arc<watch::Sender<Counts>>);

impl Drop for Leaving {
    fn drop(&mut self) {
        self.0.send_modify(|counts| counts.left += 1);
    }
}

#[tonic::async_trait]
impl Trainer for Controlled {
    async fn submit_job(&self, _: Request<SubmitJobRequest>) -> Result<Response<SubmitJobResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn cancel_job(&self, request: Request<CancelJobRequest>) -> Result<Response<CancelJobResponse>, Status> {
        match request.get_ref().job_id.as_str() {
            "panic" => panic!("a secret"),
            "internal" => return Err(Status::internal("requested by the test")),
            "long" => return Err(Status::invalid_argument(format!("columns: {}", "is unknown; ".repeat(10_000)))),
            "wait" => {
                self.counts.send_modify(|counts| counts.entered += 1);
                let _leaving = Leaving(self.counts.clone());
                self.gate.acquire().await.expect("never closed").forget();
            }
            _ => {}
        }
        self.counts.send_modify(|counts| counts.completed += 1);
        Ok(Response::new(CancelJobResponse::default()))
    }
}

#[tonic::async_trait]
impl Artifacts for Controlled {
    type DownloadStream = Pin<Box<dyn Stream<Item = Result<DownloadResponse, Status>> + Send>>;

    async fn upload(&self, _: Request<Streaming<UploadRequest>>) -> Result<Response<UploadResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn collect_garbage(
        &self,
        _: Request<CollectGarbageRequest>,
    ) -> Result<Response<CollectGarbageResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn scrub(&self, _: Request<ScrubRequest>) -> Result<Response<ScrubResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn download(&self, request: Request<DownloadRequest>) -> Result<Response<Self::DownloadStream>, Status> {
        if request.get_ref().digest == "endless" {
            let chunk = || Ok(DownloadResponse { chunk: vec![7; 1 << 20].into() });
            return Ok(Response::new(Box::pin(futures::stream::repeat_with(chunk))));
        }
        let first = futures::stream::once(std::future::ready(Ok(DownloadResponse::default())));
        let second = futures::stream::once(async {
            // Without a pause the first message would be sent together with the error.
            tokio::task::yield_now().await;
            panic!("a secret")
        });
        Ok(Response::new(Box::pin(first.chain(second))))
    }
}
