//! Metrics per method: looked up once per call, without locks and without building labels.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use metrics::{Counter, Gauge, Histogram};
use prost::Message as _;
use prost_types::{FileDescriptorSet, MethodDescriptorProto};
use tonic::Code;

use super::{Config, measure::Shapes};

/// gRPC status codes are 0 to 16.
const CODES: usize = 17;

/// Kinds of calls. Each has places of its own, so that no kind takes those of another.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Kind {
    /// Predictions.
    Predictions,
    /// All other calls with one request and one response.
    Control,
    /// Uploads and downloads, which hold part of a blob in memory.
    Transfers,
    /// Watches.
    Streams,
    /// Health, readiness and reflection.
    Health,
}

/// How many kinds there are.
pub(super) const KINDS: usize = 5;

impl Kind {
    /// The name of the setting that limits it, and its value.
    pub(super) fn limit(self, config: &Config) -> (&'static str, usize) {
        match self {
            Self::Transfers => ("grpc.max_concurrent_transfers", config.max_concurrent_transfers),
            // That of a replica is the smaller of the two.
            Self::Predictions => {
                ("grpc.max_concurrent_calls or inference.limits.max_concurrent_requests", config.max_concurrent_calls)
            }
            Self::Control | Self::Streams | Self::Health => ("grpc.max_concurrent_calls", config.max_concurrent_calls),
        }
    }

    /// All kinds, in the order of their numbers.
    pub(super) const ALL: [Self; KINDS] =
        [Self::Predictions, Self::Control, Self::Transfers, Self::Streams, Self::Health];

    fn of(service: &str, method: &MethodDescriptorProto) -> Self {
        match (service, method.name()) {
            ("inference.GRPCInferenceService", "ModelInfer") | ("rekindle.inference.v1.Inference", _) => {
                Self::Predictions
            }
            ("inference.GRPCInferenceService", "ServerLive" | "ServerReady" | "ModelReady") => Self::Health,
            (service, _) if is_infrastructure(service) => Self::Health,
            ("rekindle.registry.v1.Artifacts", _) => Self::Transfers,
            _ if method.client_streaming() || method.server_streaming() => Self::Streams,
            _ => Self::Control,
        }
    }
}

fn is_infrastructure(service: &str) -> bool {
    service.starts_with("grpc.")
}

/// Metrics of one method, each registered on first use, so that methods without calls are not listed.
pub(super) struct Method {
    pub(super) service: String,
    pub(super) name: String,
    pub(super) kind: Kind,
    /// Health and reflection: without a deadline.
    pub(super) is_infrastructure: bool,
    pub(super) is_client_streaming: bool,
    /// The shape of its request, if the method is known.
    pub(super) request: Option<usize>,
    calls: [OnceLock<Counter>; CODES],
    duration: OnceLock<Histogram>,
}

impl Method {
    fn new(service: &str, descriptor: &MethodDescriptorProto, request: Option<usize>) -> Arc<Self> {
        Arc::new(Self {
            service: service.to_owned(),
            name: descriptor.name().to_owned(),
            kind: Kind::of(service, descriptor),
            is_infrastructure: is_infrastructure(service),
            is_client_streaming: descriptor.client_streaming(),
            request,
            calls: Default::default(),
            duration: OnceLock::new(),
        })
    }

    /// All paths that no service has.
    fn unknown() -> Arc<Self> {
        let descriptor = MethodDescriptorProto { name: Some("unknown".to_owned()), ..Default::default() };
        Self::new("unknown", &descriptor, None)
    }

    pub(super) fn record(&self, code: Code, took: Duration) {
        self.calls[code as usize]
            .get_or_init(|| {
                let labels =
                    [("service", self.service.clone()), ("method", self.name.clone()), ("code", format!("{code:?}"))];
                metrics::counter!("rekindle_grpc_requests_total", &labels)
            })
            .increment(1);
        self.duration
            .get_or_init(|| {
                let labels = [("service", self.service.clone()), ("method", self.name.clone())];
                metrics::histogram!("rekindle_grpc_request_duration_seconds", &labels)
            })
            .record(took.as_secs_f64());
    }
}

/// Every method that can be called, by path.
pub(super) struct Methods {
    known: HashMap<String, Arc<Method>>,
    /// Unknown paths share one entry, so that clients cannot create labels.
    unknown: Arc<Method>,
    /// Of every message.
    pub(super) shapes: Shapes,
    pub(super) rejected: Counter,
    pub(super) in_flight: Gauge,
}

impl Methods {
    /// The methods of all packages, and of health and reflection.
    pub(super) fn new() -> Self {
        let (mut known, mut shapes) = (HashMap::new(), Shapes::default());
        for set in [
            rekindle_proto::DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ] {
            let set = FileDescriptorSet::decode(set).expect("descriptors are written by build scripts");
            shapes.add(&set);
            known.extend(methods(&set, &shapes));
        }
        Self {
            known,
            unknown: Method::unknown(),
            shapes,
            rejected: metrics::counter!("rekindle_grpc_requests_rejected_total"),
            in_flight: metrics::gauge!("rekindle_grpc_requests_in_flight"),
        }
    }

    pub(super) fn find(&self, path: &str) -> Arc<Method> {
        self.known.get(path).unwrap_or(&self.unknown).clone()
    }
}

fn methods(set: &FileDescriptorSet, shapes: &Shapes) -> Vec<(String, Arc<Method>)> {
    let mut methods = Vec::new();
    for file in &set.file {
        for service in &file.service {
            let full_name = format!("{}.{}", file.package(), service.name());
            for method in &service.method {
                let path = format!("/{full_name}/{}", method.name());
                methods.push((path, Method::new(&full_name, method, shapes.find(method.input_type()))));
            }
        }
    }
    methods
}
