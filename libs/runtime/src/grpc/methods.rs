//! Metrics per method: looked up once per call, without locks and without building labels.

use std::{
    collections::HashMap,
    sync::{Arc, OnceLock},
    time::Duration,
};

use metrics::{Counter, Gauge, Histogram};
use prost::Message as _;
use prost_types::FileDescriptorSet;
use tonic::Code;

/// gRPC status codes are 0 to 16.
const CODES: usize = 17;

/// Metrics of one method, each registered on first use, so that methods without calls are not listed.
pub(super) struct Method {
    pub(super) service: String,
    pub(super) name: String,
    /// Health and reflection: exempt from limits, since they must answer under overload.
    pub(super) is_infrastructure: bool,
    calls: [OnceLock<Counter>; CODES],
    duration: OnceLock<Histogram>,
}

impl Method {
    fn new(service: &str, name: &str) -> Arc<Self> {
        Arc::new(Self {
            service: service.to_owned(),
            name: name.to_owned(),
            is_infrastructure: service.starts_with("grpc."),
            calls: Default::default(),
            duration: OnceLock::new(),
        })
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
    pub(super) rejected: Counter,
    pub(super) in_flight: Gauge,
}

impl Methods {
    /// The methods of all packages, and of health and reflection.
    pub(super) fn new() -> Self {
        let sets = [
            rekindle_proto::DESCRIPTORS,
            tonic_health::pb::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1::FILE_DESCRIPTOR_SET,
            tonic_reflection::pb::v1alpha::FILE_DESCRIPTOR_SET,
        ];
        Self {
            known: sets.iter().flat_map(|set| methods(set)).collect(),
            unknown: Method::new("unknown", "unknown"),
            rejected: metrics::counter!("rekindle_grpc_requests_rejected_total"),
            in_flight: metrics::gauge!("rekindle_grpc_requests_in_flight"),
        }
    }

    pub(super) fn find(&self, path: &str) -> Arc<Method> {
        self.known.get(path).unwrap_or(&self.unknown).clone()
    }
}

fn methods(set: &[u8]) -> Vec<(String, Arc<Method>)> {
    let set = FileDescriptorSet::decode(set).expect("descriptors are written by build scripts");
    let mut methods = Vec::new();
    for file in &set.file {
        for service in &file.service {
            let full_name = format!("{}.{}", file.package(), service.name());
            for method in &service.method {
                let path = format!("/{full_name}/{}", method.name());
                methods.push((path, Method::new(&full_name, method.name())));
            }
        }
    }
    methods
}
