//! The server continues a caller's trace and exports it to a collector by OTLP. One test, since telemetry is global to the process.

use std::{
    convert::Infallible,
    task::{Context, Poll},
};

use rekindle_proto::{
    trace,
    trainer::{
        CancelJobRequest, CancelJobResponse, SubmitJobRequest, SubmitJobResponse,
        trainer_client::TrainerClient,
        trainer_server::{Trainer, TrainerServer},
    },
};
use rekindle_runtime::{
    grpc::{self, RoutesBuilder},
    health::Health,
    shutdown::Shutdown,
    telemetry,
};
use tokio::sync::mpsc;
use tonic::{Request, Response, Status, body::Body, codegen::BoxFuture, server::NamedService, transport::Endpoint};
use tower::Service;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const CALLER: &str = "b7ad6b7169203331";

/// Reports the trace context of each call, as it would be propagated to another service and to a message.
struct Reporting(mpsc::UnboundedSender<(Option<String>, Option<String>)>);

#[tonic::async_trait]
impl Trainer for Reporting {
    async fn submit_job(&self, _: Request<SubmitJobRequest>) -> Result<Response<SubmitJobResponse>, Status> {
        Err(Status::unimplemented("not needed here"))
    }

    async fn cancel_job(&self, _: Request<CancelJobRequest>) -> Result<Response<CancelJobResponse>, Status> {
        let mut onward = Request::new(());
        trace::inject(onward.metadata_mut());
        let onward = onward.metadata().get("traceparent").and_then(|value| value.to_str().ok()).map(str::to_owned);
        self.0.send((onward, trace::traceparent())).expect("the test listens");
        Ok(Response::new(CancelJobResponse::default()))
    }
}

/// A collector that forwards the bytes that it receives.
#[derive(Clone)]
struct Collector(mpsc::UnboundedSender<Vec<u8>>);

impl NamedService for Collector {
    const NAME: &'static str = "opentelemetry.proto.collector.trace.v1.TraceService";
}

impl Service<http::Request<Body>> for Collector {
    type Response = http::Response<Body>;
    type Error = Infallible;
    type Future = BoxFuture<Self::Response, Infallible>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Infallible>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let sent = self.0.clone();
        Box::pin(async move {
            let bytes = axum::body::to_bytes(axum::body::Body::new(request.into_body()), 1 << 20).await;
            sent.send(bytes.expect("a request").to_vec()).expect("the test listens");
            Ok(Status::ok("").into_http())
        })
    }
}

async fn serve(routes: RoutesBuilder, shutdown: &Shutdown) -> String {
    let listener = grpc::listen(([127, 0, 0, 1], 0).into()).await.expect("a port");
    let address = format!("http://{}", listener.local_addr().expect("an address"));
    tokio::spawn(grpc::serve(listener, routes, Health::new(), grpc::Config::default(), shutdown.clone()));
    address
}

fn contains(bytes: &[u8], part: &[u8]) -> bool {
    bytes.windows(part.len()).any(|window| window == part)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_trace_continues_through_a_call_and_reaches_the_collector() {
    let shutdown = Shutdown::new();
    let (sent, mut collected) = mpsc::unbounded_channel();
    let mut routes = RoutesBuilder::new();
    routes.add_service(Collector(sent));
    let endpoint = serve(routes, &shutdown).await;
    let config = telemetry::Config { otlp_endpoint: Some(endpoint), ..telemetry::Config::default() };
    let guard = telemetry::init("trainer-under-test", &config).expect("telemetry");
    assert!(telemetry::init("again", &config).is_err(), "once per process");

    let (report, mut reported) = mpsc::unbounded_channel();
    let mut routes = RoutesBuilder::new();
    routes.add_service(TrainerServer::new(Reporting(report)));
    let address = serve(routes, &shutdown).await;
    let mut client = TrainerClient::new(Endpoint::from_shared(address).expect("an address").connect_lazy());
    let mut request = Request::new(CancelJobRequest::default());
    request.metadata_mut().insert("traceparent", format!("00-{TRACE}-{CALLER}-01").parse().expect("ascii"));
    client.cancel_job(request).await.expect("fine");

    let (onward, message) = reported.recv().await.expect("a report");
    assert_eq!(onward, message, "calls and messages carry the same context");
    let onward = onward.expect("a traceparent");
    assert!(onward.starts_with(&format!("00-{TRACE}-")), "the same trace: {onward}");
    assert!(!onward.contains(CALLER), "with a span of its own: {onward}");

    // Dropping the guard exports the rest and blocks, so it must not run on a worker that serves the collector.
    tokio::task::spawn_blocking(move || drop(guard)).await.expect("no panic");
    let mut bytes = collected.recv().await.expect("traces arrive");
    let trace: Vec<u8> = (0..16).map(|i| u8::from_str_radix(&TRACE[2 * i..2 * i + 2], 16).expect("hex")).collect();
    while !contains(&bytes, &trace) {
        bytes = collected.recv().await.expect("more traces");
    }
    assert!(contains(&bytes, b"trainer-under-test"));
    assert!(contains(&bytes, b"/rekindle.trainer.v1.Trainer/CancelJob"));
    shutdown.close();
}
