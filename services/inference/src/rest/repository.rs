//! The configuration and the statistics of loaded versions, and the index of models, as JSON. The names of fields are those of the
//! messages of gRPC, and none is left out: clients read them without asking whether they are there.

use std::sync::Arc;

use serde_json::{Value, json};

use crate::{
    config::Limits,
    repository::{self, Entry, data_type},
    serving::{LoadedVersion, Slot},
    statistics::Distribution,
};

/// The configuration of a version.
pub(super) fn config(name: &str, version: &LoadedVersion, limits: &Limits) -> Value {
    let signature = version.model.signature();
    let inputs = signature.inputs.iter();
    let inputs: Vec<_> = inputs
        .map(|input| json!({ "name": input.name, "data_type": data_type(input.datatype), "dims": [1] }))
        .collect();
    let outputs = signature.outputs.iter().map(
        |output| json!({ "name": output.name, "data_type": data_type(output.datatype), "dims": output.shape.get(1..) }),
    );
    json!({
        "name": name,
        "platform": version.platform(),
        "backend": version.platform(),
        "version_policy": { "specific": { "versions": [version.version.version] } },
        "max_batch_size": limits.max_rows_per_request,
        "input": inputs,
        "output": outputs.collect::<Vec<_>>(),
        "instance_group": [{ "name": name, "kind": "KIND_CPU", "count": 1 }],
        "model_transaction_policy": { "decoupled": false },
        "response_cache": { "enable": false },
    })
}

/// The statistics of versions.
pub(super) fn statistics<'a>(versions: impl Iterator<Item = &'a LoadedVersion>) -> Value {
    json!({ "model_stats": versions.map(of_version).collect::<Vec<_>>() })
}

fn of_version(version: &LoadedVersion) -> Value {
    let reading = version.statistics.read();
    let duration = |duration: Distribution| json!({ "count": duration.count(), "ns": duration.nanos });
    let [queue, decode, compute, encode] = reading.phases.map(duration);
    let (failed, none) = (reading.failures.iter().sum::<u64>(), json!({ "count": 0, "ns": 0 }));
    json!({
        "name": version.name,
        "version": version.number,
        "last_inference": reading.last_answered,
        "inference_count": reading.rows,
        "execution_count": reading.executions,
        "inference_stats": {
            "success": duration(reading.answered),
            "fail": { "count": failed, "ns": reading.failed_nanos },
            "queue": queue,
            "compute_input": decode,
            "compute_infer": compute,
            "compute_output": encode,
            "cache_hit": none,
            "cache_miss": none,
        },
        "batch_stats": [],
    })
}

/// The versions that are served or cannot be served; with `ready`, only those that are served.
pub(super) fn index(slots: &[Arc<Slot>], ready: bool) -> Value {
    let entry = |Entry { name, version, state, reason }: Entry| json!({ "name": name, "version": version, "state": state, "reason": reason });
    repository::index(slots, ready).into_iter().map(entry).collect()
}
