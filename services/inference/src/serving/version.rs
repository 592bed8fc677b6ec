//! One loaded version of a model, and its counters.

use std::{
    collections::BTreeSet,
    ops::Deref,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
    time::Instant,
};

use arrow::array::RecordBatch;
use rekindle_bundle::{Bundle, Input, Model};
use rekindle_domain::{Digest, ModelName, ReplicaId, ServedVersion, VersionRef};

use super::ReferenceData;
use crate::{
    Error,
    config::{ModelGuardrails, ModelLog},
    execution::{Cost, Queue},
    guardrails::Guardrails,
    log::LogSchema,
    shadow::Comparison,
    statistics::{Reason, Statistics},
    tensor::{Inputs, output::Outputs},
};

/// What is configured for a model.
#[derive(Debug, Clone)]
pub(crate) struct ModelSettings {
    /// What inputs and outputs may be.
    pub(crate) guardrails: Option<ModelGuardrails>,
    /// How requests are logged.
    pub(crate) log: ModelLog,
}

/// A version that is warmed up, with everything that is the same for all its answers.
pub(crate) struct LoadedVersion {
    /// The model's name.
    pub(crate) name: ModelName,
    /// The version.
    pub(crate) version: VersionRef,
    /// The version's number, as requests and answers state it.
    pub(crate) number: String,
    /// Predicts.
    pub(crate) model: Model,
    /// Decodes requests.
    pub(crate) inputs: Inputs,
    /// Encodes answers.
    pub(crate) outputs: Outputs,
    /// What its inputs and outputs may be.
    pub(crate) guardrails: Guardrails,
    /// The values of its inputs in the reference data.
    pub(crate) reference: ReferenceData,
    /// Inputs whose values are not logged.
    pub(crate) redacted: BTreeSet<String>,
    /// The columns of its rows in the prediction log.
    pub(crate) log: Arc<LogSchema>,
    /// What the version was made from and who serves it, by the name of the answer's parameter.
    pub(crate) provenance: Vec<(&'static str, String)>,
    /// Every blob of its bundle, including the manifest.
    pub(crate) blobs: Vec<Digest>,
    /// What its requests cost.
    pub(crate) statistics: Statistics,
    /// How its answers compare with those of the primary version, while it is the shadow version.
    pub(crate) comparison: Comparison,
    /// What a row of it costs.
    pub(crate) cost: Cost,
    /// Requests that wait for a place.
    pub(crate) queue: Queue,
}

impl LoadedVersion {
    /// Builds the model and warms it up, with the rows of `recorded` requests too, as far as it has their inputs.
    pub(crate) fn build(
        name: ModelName,
        version: VersionRef,
        bundle: &Bundle,
        replica: &ReplicaId,
        settings: &ModelSettings,
        recorded: &[RecordBatch],
    ) -> Result<Self, Error> {
        let invalid = |source: rekindle_bundle::Error| Error::Bundle { bundle: version.bundle, source: source.into() };
        let model = Model::from_bundle(bundle).map_err(invalid)?;
        let (cost, began) = (Cost::default(), Instant::now());
        model.warm_up().map_err(invalid)?;
        cost.record(1, began.elapsed());
        let warmed = warm_up(&model, &cost, recorded);
        tracing::debug!(model = %name, version = version.version, requests = warmed, "warmed up");
        let signature = model.signature();
        let unfit = |problem| Error::Signature { bundle: version.bundle, problem };
        let inputs = Inputs::new(signature).map_err(unfit)?;
        let reference = bundle.reference().map_err(invalid)?;
        let guardrails = settings.guardrails.as_ref();
        let guardrails = guardrails.map(|config| Guardrails::new(&name, config, signature, &reference));
        let log = LogSchema::new(version, signature, &settings.log).map_err(unfit)?;
        Ok(Self {
            version,
            number: version.version.to_string(),
            inputs,
            outputs: Outputs::new(signature),
            guardrails: guardrails.transpose().map_err(unfit)?.unwrap_or_default(),
            reference: ReferenceData::of(signature, &reference, &settings.log.redact),
            redacted: settings.log.redact.clone(),
            log: Arc::new(log),
            provenance: provenance(bundle, version.bundle, replica),
            blobs: bundle.manifest.blobs.values().map(|blob| blob.digest).chain([version.bundle]).collect(),
            statistics: Statistics::default(),
            comparison: Comparison::default(),
            cost,
            queue: Queue::default(),
            name,
            model,
        })
    }

    /// What executes the model.
    pub(crate) fn platform(&self) -> &'static str {
        self.model.platform()
    }

    /// The counters.
    pub(crate) fn report(&self) -> ServedVersion {
        let reading = self.statistics.read();
        ServedVersion {
            bundle: self.version.bundle,
            answered: reading.answered.count(),
            failed: reading.failures(Reason::Backend),
            in_flight: reading.in_flight,
            p99_micros: self.statistics.p99_micros(),
            guarded: self.statistics.guarded_requests(),
        }
    }
}

/// Predicts the rows of recorded requests, as far as the model has their inputs. What fails says so in the log: the request was answered
/// by another version. Returns how many requests were predicted.
fn warm_up(model: &Model, cost: &Cost, recorded: &[RecordBatch]) -> usize {
    let mut predicted = 0;
    let has_inputs = |rows: &&RecordBatch| {
        let schema = rows.schema();
        let accepts =
            |input: &Input| schema.field_with_name(&input.name).is_ok_and(|field| input.accepts(field.data_type()));
        model.signature().inputs.iter().all(accepts)
    };
    for rows in recorded.iter().filter(has_inputs) {
        let began = Instant::now();
        match catch_unwind(AssertUnwindSafe(|| model.predict(rows))) {
            Ok(Ok(_)) => {
                cost.record(rows.num_rows(), began.elapsed());
                predicted += 1;
            }
            Ok(Err(error)) => {
                tracing::warn!(%error, "a request that an earlier version answered fails in the new version");
            }
            Err(_) => tracing::error!("a request that an earlier version answered makes the new version panic"),
        }
    }
    predicted
}

fn provenance(bundle: &Bundle, digest: Digest, replica: &ReplicaId) -> Vec<(&'static str, String)> {
    let provenance = &bundle.manifest.provenance;
    let datasets: Vec<_> = provenance.dataset_digests.iter().map(ToString::to_string).collect();
    vec![
        ("bundle_digest", digest.to_string()),
        ("run_id", provenance.run_id.clone()),
        ("dataset_digests", datasets.join(",")),
        ("code_revision", provenance.code_revision.clone()),
        ("replica", replica.as_str().to_owned()),
    ]
}

/// A request in flight on a version, which it keeps loaded.
pub(crate) struct InFlight(Arc<LoadedVersion>);

impl InFlight {
    /// Counts a request in flight until this is dropped.
    pub(crate) fn enter(version: Arc<LoadedVersion>) -> Self {
        version.statistics.enter();
        Self(version)
    }

    /// The version, which another thread may share.
    pub(crate) fn version(&self) -> &Arc<LoadedVersion> {
        &self.0
    }
}

impl Deref for InFlight {
    type Target = LoadedVersion;

    fn deref(&self) -> &LoadedVersion {
        &self.0
    }
}

impl Drop for InFlight {
    fn drop(&mut self) {
        self.0.statistics.leave();
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{ArrayRef, Float64Array},
        datatypes::{Field, Schema},
    };

    use super::*;
    use crate::serving::fixture::{loaded, rows};

    #[test]
    fn a_version_is_warmed_up_with_the_requests_that_have_its_inputs() {
        let column: ArrayRef = Arc::new(Float64Array::from(vec![1.0]));
        let other = Schema::new(vec![Field::new("distance", column.data_type().clone(), false)]);
        let other = RecordBatch::try_new(Arc::new(other), vec![column]).expect("a column");
        let version = loaded(1);
        assert_eq!(warm_up(&version.model, &version.cost, &[rows(2), other, rows(3)]), 2);
    }
}
