//! A trace goes on from the publisher of a message into its handler, and from there into what the handler publishes and calls.

use std::time::Duration;

use async_nats::HeaderMap;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use rekindle_bus::{
    Bus, Config, Message,
    consumer::{self, Consumer, Outcome},
    streams,
};
use rekindle_proto::{client::Context, trace};
use rekindle_testkit::NatsServer;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tonic::{Request, service::Interceptor as _};
use tracing::Instrument as _;
use tracing_subscriber::layer::SubscriberExt as _;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PUBLISHER: &str = "b7ad6b7169203331";

/// The `traceparent` of a message, and that of a call made while it was handled.
type Told = (Option<String>, Option<String>);

fn header(message: &Message) -> Option<String> {
    message.headers.as_ref()?.get(trace::TRACEPARENT).map(ToString::to_string)
}

fn of_a_call() -> Option<String> {
    let request = Context::default().call(Request::new(())).expect("passes");
    request.metadata().get(trace::TRACEPARENT).map(|value| value.to_str().expect("ascii").to_owned())
}

async fn told(from: &mut mpsc::UnboundedReceiver<Told>) -> Told {
    tokio::time::timeout(Duration::from_secs(60), from.recv()).await.expect("in time").expect("handled")
}

#[tokio::test]
async fn a_trace_goes_on_from_message_to_message() {
    let provider = SdkTracerProvider::default();
    let export = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let _default = tracing::subscriber::set_default(tracing_subscriber::registry().with(export));

    let server = NatsServer::start().await;
    let bus = Bus::connect(&Config::at(server.url())).await.expect("connects");
    let (tell, mut heard) = mpsc::unbounded_channel();
    let spec = Consumer::new("tracing", streams::OUTCOMES, ["rekindle.outcomes.>".to_owned()]);
    let (shutdown, onward) = (CancellationToken::new(), bus.clone());
    let handler = async move |message: Message| {
        tell.send((header(&message), of_a_call())).expect("the test listens");
        if message.subject.ends_with("first") {
            let next = onward.publish("rekindle.outcomes.second".into(), "second", HeaderMap::new(), "{}".into());
            next.await.expect("published");
        }
        Outcome::Ack
    };
    let running = tokio::spawn(consumer::run(bus.clone(), spec, handler, shutdown.clone()));

    let span = tracing::info_span!("publisher");
    trace::continue_message(&span, &format!("00-{TRACE}-{PUBLISHER}-01"));
    let publishing = bus.publish("rekindle.outcomes.first".into(), "first", HeaderMap::new(), "{}".into());
    publishing.instrument(span).await.expect("published");

    let mut spans = Vec::new();
    for _ in 0..2 {
        let (message, call) = told(&mut heard).await;
        for traceparent in [message.expect("the message has one"), call.expect("the call has one")] {
            assert!(traceparent.starts_with(&format!("00-{TRACE}-")), "the same trace: {traceparent}");
            spans.push(traceparent);
        }
    }
    assert_ne!(spans[0], spans[1], "the first handler has a span of its own");
    assert_eq!(spans[1], spans[2], "what it publishes comes from that span, as what it calls does");
    assert_ne!(spans[2], spans[3]);
    shutdown.cancel();
    running.await.expect("no panic").expect("ends well");
}
