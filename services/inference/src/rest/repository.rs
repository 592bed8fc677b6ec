//! The configuration and the statistics of loaded versions, and the index of models, as JSON. The names of fields are those of the
//! messages of gRPC, and none is left out: clients read them without asking whether they are there.

use rekindle_proto::inference::{InferStatistics, ModelConfig, ModelStatistics, StatisticDuration};
use serde_json::{Value, json};

use crate::{
    config::Limits,
    grpc::repository,
    repository::{self as models, Entry},
    serving::{LoadedVersion, Slot},
};

/// The configuration of a version.
pub(super) fn config(name: &str, version: &LoadedVersion, limits: &Limits) -> Value {
    let config = repository::config(name.to_owned(), version, limits);
    let inputs: Vec<_> = config
        .input
        .iter()
        .map(|input| json!({ "name": input.name, "data_type": input.data_type().as_str_name(), "dims": input.dims }))
        .collect();
    let outputs: Vec<_> = config
        .output
        .iter()
        .map(
            |output| json!({ "name": output.name, "data_type": output.data_type().as_str_name(), "dims": output.dims }),
        )
        .collect();
    let ModelConfig { name, platform, backend, max_batch_size, .. } = config;
    json!({
        "name": name,
        "platform": platform,
        "backend": backend,
        "version_policy": { "specific": { "versions": [version.version.version] } },
        "max_batch_size": max_batch_size,
        "input": inputs,
        "output": outputs,
        "instance_group": [{ "name": name, "kind": "KIND_CPU", "count": 1 }],
        "model_transaction_policy": { "decoupled": false },
        "response_cache": { "enable": false },
    })
}

/// The statistics of versions.
pub(super) fn statistics<'a>(versions: impl Iterator<Item = &'a LoadedVersion>) -> Value {
    let duration = |duration: Option<StatisticDuration>| {
        let StatisticDuration { count, ns } = duration.unwrap_or_default();
        json!({ "count": count, "ns": ns })
    };
    let statistics = |version: &LoadedVersion| {
        let statistics = repository::statistics(version);
        let phases = statistics.inference_stats.unwrap_or_default();
        let InferStatistics { success, fail, queue, compute_input, compute_infer, compute_output, .. } = phases;
        let ModelStatistics { name, version, last_inference, inference_count, execution_count, .. } = statistics;
        json!({
            "name": name,
            "version": version,
            "last_inference": last_inference,
            "inference_count": inference_count,
            "execution_count": execution_count,
            "inference_stats": {
                "success": duration(success),
                "fail": duration(fail),
                "queue": duration(queue),
                "compute_input": duration(compute_input),
                "compute_infer": duration(compute_infer),
                "compute_output": duration(compute_output),
                "cache_hit": duration(phases.cache_hit),
                "cache_miss": duration(phases.cache_miss),
            },
            "batch_stats": [],
        })
    };
    json!({ "model_stats": versions.map(statistics).collect::<Vec<_>>() })
}

/// The versions that are served or cannot be served; with `ready`, only those that are served.
pub(super) fn index(slots: &[std::sync::Arc<Slot>], ready: bool) -> Value {
    let entry = |Entry { name, version, state, reason }: Entry| json!({ "name": name, "version": version, "state": state, "reason": reason });
    models::index(slots, ready).into_iter().map(entry).collect()
}
