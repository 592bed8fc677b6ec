//! A trace continues from the publisher of a message into its handler, and from there into what the handler publishes.

use std::time::Duration;

use ::tracing::Instrument as _;
use async_nats::HeaderMap;
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_sdk::trace::SdkTracerProvider;
use rekindle_bus::{
    Bus, Config, Message,
    consumer::{self, Consumer, Disposition},
    streams,
};
use rekindle_proto::trace;
use rekindle_testkit::NatsServer;
use tokio::sync::mpsc;
use tokio_util::sync::CancellationToken;
use tracing_subscriber::layer::SubscriberExt as _;

const TRACE: &str = "0af7651916cd43dd8448eb211c80319c";
const PUBLISHER: &str = "b7ad6b7169203331";

/// The `traceparent` of a message, and that of the span in which it was handled.
type Observed = (Option<String>, Option<String>);

fn header(message: &Message) -> Option<String> {
    message.headers.as_ref()?.get(trace::TRACEPARENT).map(ToString::to_string)
}

async fn next(observed: &mut mpsc::UnboundedReceiver<Observed>) -> Observed {
    tokio::time::timeout(Duration::from_secs(60), observed.recv()).await.expect("in time").expect("handled")
}

#[tokio::test]
async fn a_trace_continues_from_message_to_message() {
    let provider = SdkTracerProvider::default();
    let export = tracing_opentelemetry::layer().with_tracer(provider.tracer("test"));
    let _default = ::tracing::subscriber::set_default(tracing_subscriber::registry().with(export));

    let server = NatsServer::start().await;
    let bus = Bus::connect(&Config::at(server.url())).await.expect("connects");
    let (observe, mut observed) = mpsc::unbounded_channel();
    let spec = Consumer::new("tracing", streams::OUTCOMES, []);
    let (shutdown, onward) = (CancellationToken::new(), bus.clone());
    let handler = async move |message: Message| {
        observe.send((header(&message), trace::traceparent())).expect("the test listens");
        if message.subject.ends_with("first") {
            let next = onward.publish("rekindle.outcomes.second".into(), "second", HeaderMap::new(), "{}".into());
            next.await.expect("published");
        }
        Disposition::Ack
    };
    let running = tokio::spawn(consumer::run(bus.clone(), spec, handler, shutdown.clone()));

    let span = ::tracing::info_span!("publisher");
    trace::continue_message(&span, &format!("00-{TRACE}-{PUBLISHER}-01"));
    let publishing = bus.publish("rekindle.outcomes.first".into(), "first", HeaderMap::new(), "{}".into());
    publishing.instrument(span).await.expect("published");

    let mut spans = Vec::new();
    for _ in 0..2 {
        let (message, handler) = next(&mut observed).await;
        for traceparent in [message.expect("the message has one"), handler.expect("the handler has one")] {
            assert!(traceparent.starts_with(&format!("00-{TRACE}-")), "the same trace: {traceparent}");
            spans.push(traceparent);
        }
    }
    assert_ne!(spans[0], spans[1], "the first handler has its own span");
    assert_eq!(spans[1], spans[2], "what it publishes continues from that span");
    assert_ne!(spans[2], spans[3]);
    shutdown.cancel();
    running.await.expect("no panic").expect("ends well");
}
