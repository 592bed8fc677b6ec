//! The configuration and the statistics of loaded versions, and the index of models, as messages.

use rekindle_bundle::Datatype;
use rekindle_proto::inference::{
    DataType, InferStatistics, ModelConfig, ModelInput, ModelInstanceGroup, ModelOutput, ModelResponseCache,
    ModelStatistics, ModelTransactionPolicy, ModelVersionPolicy, StatisticDuration,
    model_instance_group::Kind,
    model_version_policy::{PolicyChoice, Specific},
    repository_index_response::ModelIndex,
};

use crate::{
    config::Limits,
    infer::Engine,
    repository::{self, Entry},
    serving::LoadedVersion,
    statistics::Distribution,
};

/// The configuration of a version.
pub(super) fn config(name: String, version: &LoadedVersion, limits: &Limits) -> ModelConfig {
    let signature = version.model.signature();
    let inputs = signature.inputs.iter().map(|input| ModelInput {
        name: input.name.clone(),
        data_type: data_type(input.datatype).into(),
        dims: vec![1],
    });
    let outputs = signature.outputs.iter().map(|output| ModelOutput {
        name: output.name.clone(),
        data_type: data_type(output.datatype).into(),
        dims: output.shape.iter().skip(1).copied().collect(),
    });
    let versions = vec![i64::from(version.version.version)];
    ModelConfig {
        platform: version.platform().to_owned(),
        backend: version.platform().to_owned(),
        version_policy: Some(ModelVersionPolicy { policy_choice: Some(PolicyChoice::Specific(Specific { versions })) }),
        max_batch_size: i32::try_from(limits.max_rows_per_request).unwrap_or(i32::MAX),
        input: inputs.collect(),
        output: outputs.collect(),
        instance_group: vec![ModelInstanceGroup { name: name.clone(), count: 1, kind: Kind::Cpu.into() }],
        model_transaction_policy: Some(ModelTransactionPolicy { decoupled: false }),
        response_cache: Some(ModelResponseCache { enable: false }),
        name,
    }
}

fn data_type(datatype: Datatype) -> DataType {
    DataType::from_str_name(repository::data_type(datatype)).unwrap_or(DataType::TypeInvalid)
}

/// The statistics of a version.
pub(super) fn statistics(version: &LoadedVersion) -> ModelStatistics {
    let reading = version.statistics.read();
    let [queue, decode, compute, encode] = reading.phases.map(duration);
    ModelStatistics {
        name: version.name.to_string(),
        version: version.number.clone(),
        last_inference: reading.last_answered,
        inference_count: reading.rows,
        execution_count: reading.executions,
        inference_stats: Some(InferStatistics {
            success: duration(reading.answered),
            fail: Some(StatisticDuration { count: reading.failures.iter().sum(), ns: reading.failed_nanos }),
            queue,
            compute_input: decode,
            compute_infer: compute,
            compute_output: encode,
            cache_hit: Some(StatisticDuration::default()),
            cache_miss: Some(StatisticDuration::default()),
        }),
        batch_stats: Vec::new(),
    }
}

fn duration(distribution: Distribution) -> Option<StatisticDuration> {
    Some(StatisticDuration { count: distribution.count(), ns: distribution.nanos })
}

/// The versions that are served or cannot be served; with `ready`, only those that are served.
pub(super) fn index(engine: &Engine, ready: bool) -> Vec<ModelIndex> {
    repository::index(&engine.slots(), ready)
        .into_iter()
        .map(|Entry { name, version, state, reason }| ModelIndex { name, version, state: state.to_owned(), reason })
        .collect()
}
