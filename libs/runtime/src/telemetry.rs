//! Logs, traces and metrics of one process.

use std::{
    sync::{
        OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

use metrics_exporter_prometheus::{Matcher, PrometheusBuilder, PrometheusHandle};
use opentelemetry::trace::TracerProvider as _;
use opentelemetry_otlp::{SpanExporter, WithExportConfig as _};
use opentelemetry_sdk::{Resource, trace::SdkTracerProvider};
use rekindle_domain::validation::{Checks, Violations};
use serde::Deserialize;
use tracing::Subscriber;
use tracing_subscriber::{
    EnvFilter, Layer, layer::SubscriberExt as _, registry::LookupSpan, util::SubscriberInitExt as _,
};

use crate::Error;

/// Logging and trace export.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
pub struct Config {
    /// Log filter: a level, or directives such as `info,rekindle_bus=debug`.
    pub log: String,
    /// Format of log lines.
    pub format: Format,
    /// OTLP endpoint (gRPC) to which traces are exported, e.g. `http://collector:4317`. Without it, traces are not exported.
    pub otlp_endpoint: Option<String>,
}

/// Format of log lines.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Format {
    /// Human-readable.
    Text,
    /// One JSON object per line, for log collectors.
    Json,
}

impl Default for Config {
    fn default() -> Self {
        Self { log: "info".to_owned(), format: Format::Text, otlp_endpoint: None }
    }
}

impl Config {
    /// Validates every field and reports all violations.
    pub fn validate(&self) -> Result<(), Violations> {
        let mut checks = Checks::new();
        checks.parsed("log", EnvFilter::try_new(&self.log).map_err(|error| format!("is {:?}: {error}", self.log)));
        if let Some(endpoint) = &self.otlp_endpoint {
            let is_http = endpoint.starts_with("http://") || endpoint.starts_with("https://");
            checks.require(is_http, "otlp_endpoint", endpoint, "an address such as http://collector:4317");
        }
        checks.finish()
    }
}

/// Keeps telemetry running; buffered spans are exported when it is dropped.
#[derive(Debug)]
#[must_use = "traces are no longer exported once this is dropped"]
pub struct Guard {
    traces: Option<SdkTracerProvider>,
}

impl Drop for Guard {
    fn drop(&mut self) {
        EXPORTING.store(false, Ordering::Relaxed);
        if let Some(Err(error)) = self.traces.take().map(|traces| traces.shutdown_with_timeout(Duration::from_secs(3)))
        {
            // The subscriber itself may be at fault, so this bypasses it.
            eprintln!("failed to export the last traces: {error}");
        }
    }
}

/// Whether spans are exported, so that every call needs one even if its caller does not trace it.
static EXPORTING: AtomicBool = AtomicBool::new(false);

pub(crate) fn is_exporting() -> bool {
    EXPORTING.load(Ordering::Relaxed)
}

/// Initialises logs (on standard error), traces and metrics for the whole process. With an OTLP endpoint it must be called within
/// a tokio runtime.
///
/// # Errors
/// [`Error::Telemetry`] for an invalid filter or endpoint, and on a second call.
pub fn init(service: &str, config: &Config) -> Result<Guard, Error> {
    let failed = |reason: String| Error::Telemetry { reason };
    let filter = EnvFilter::try_new(&config.log).map_err(|error| failed(format!("log {:?}: {error}", config.log)))?;
    let traces = config.otlp_endpoint.as_deref().map(|endpoint| provider(service, endpoint)).transpose()?;
    let export = traces.as_ref().map(|traces| tracing_opentelemetry::layer().with_tracer(traces.tracer("rekindle")));
    tracing_subscriber::registry()
        .with(filter)
        .with(lines(config.format))
        .with(export)
        .try_init()
        .map_err(|error| failed(error.to_string()))?;
    EXPORTING.store(traces.is_some(), Ordering::Relaxed);
    prometheus();
    Ok(Guard { traces })
}

fn lines<S>(format: Format) -> Box<dyn Layer<S> + Send + Sync>
where
    S: Subscriber + for<'a> LookupSpan<'a>,
{
    let layer = tracing_subscriber::fmt::layer().with_writer(std::io::stderr);
    match format {
        Format::Text => layer.with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr())).boxed(),
        Format::Json => layer.json().flatten_event(true).boxed(),
    }
}

fn provider(service: &str, endpoint: &str) -> Result<SdkTracerProvider, Error> {
    let exporter = SpanExporter::builder()
        .with_tonic()
        .with_endpoint(endpoint)
        .with_timeout(Duration::from_secs(5))
        .build()
        .map_err(|error| Error::Telemetry { reason: format!("otlp_endpoint: {error}") })?;
    let resource = Resource::builder().with_service_name(service.to_owned()).build();
    Ok(SdkTracerProvider::builder().with_batch_exporter(exporter).with_resource(resource).build())
}

/// Upper bounds of histogram buckets in seconds: from one prediction of a small model to one step of a training.
const SECONDS: [f64; 14] = [0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 10.0, 60.0];

/// The metrics of this process; the recorder is installed on first use. Histograms whose names end in `_seconds` have buckets, others
/// are summaries.
pub fn prometheus() -> PrometheusHandle {
    static HANDLE: OnceLock<PrometheusHandle> = OnceLock::new();
    HANDLE.get_or_init(install).clone()
}

fn install() -> PrometheusHandle {
    let recorder = PrometheusBuilder::new()
        .set_buckets_for_metric(Matcher::Suffix("_seconds".to_owned()), &SECONDS)
        .expect("the list of buckets is not empty")
        .build_recorder();
    let handle = recorder.handle();
    if metrics::set_global_recorder(recorder).is_err() {
        tracing::warn!("another metrics recorder is installed, /metrics stays empty");
    }
    handle
}
