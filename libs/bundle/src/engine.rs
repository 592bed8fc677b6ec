//! The loaded form of a backend: from rows to raw outputs.

use arrow::array::RecordBatch;

use crate::{
    Backend, Bundle, Error, Manifest,
    manifest::{MANIFEST, PIPELINE, WEIGHTS},
    network::{Network, Shape},
    onnx::Sessions,
    pipeline::{Encoder, Pipeline},
    prediction::raw_width,
};

/// A backend that is ready to compute.
#[derive(Debug)]
pub(crate) enum Engine {
    /// [`Backend::Network`].
    Network { encoder: Encoder, network: Network },
    /// [`Backend::Onnx`].
    Onnx(Sessions),
}

/// What a backend computes for each row, row-major.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Outputs {
    /// Logits or numbers, [`raw_width`] per row.
    Raw(Vec<f32>),
    /// Probabilities, [`raw_width`] per row.
    Probabilities(Vec<f32>),
}

impl Engine {
    /// Loads the bundle's backend and checks that its blobs fit each other.
    pub(crate) fn load(bundle: &Bundle) -> Result<Self, Error> {
        match bundle.manifest.backend {
            Backend::Network => {
                let pipeline = Pipeline::from_bytes(bundle.blob(PIPELINE)?)?;
                check_features(&bundle.manifest, &pipeline)?;
                let classes = bundle.manifest.classes.as_ref().map_or(0, Vec::len);
                let outputs = raw_width(bundle.manifest.task, classes);
                let architecture = bundle.manifest.architecture.as_ref();
                let architecture = architecture.ok_or_else(|| Error::invalid(MANIFEST, "architecture is missing"))?;
                let shape = Shape::new(architecture, &pipeline, outputs);
                let network = Network::from_bytes(bundle.blob(WEIGHTS)?, &shape)?;
                Ok(Self::Network { encoder: Encoder::new(pipeline), network })
            }
            Backend::Onnx => Ok(Self::Onnx(Sessions::load(bundle)?)),
        }
    }

    /// The outputs of every row.
    pub(crate) fn run(&self, rows: &RecordBatch) -> Result<Outputs, Error> {
        match self {
            Self::Network { encoder, network } => Ok(Outputs::Raw(network.forward(&encoder.encode(rows)?))),
            Self::Onnx(sessions) => sessions.run(rows),
        }
    }
}

fn check_features(manifest: &Manifest, pipeline: &Pipeline) -> Result<(), Error> {
    let inputs = manifest.signature.inputs.iter().map(|input| input.name.as_str());
    if inputs.eq(pipeline.features.iter().map(|feature| feature.name.as_str())) {
        Ok(())
    } else {
        Err(Error::invalid(PIPELINE, "its features differ from the inputs of the signature"))
    }
}
