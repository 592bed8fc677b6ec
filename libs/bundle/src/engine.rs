//! The loaded form of a backend: from rows to raw outputs.

use arrow::array::RecordBatch;
use rekindle_domain::{
    Architecture,
    recipe::{MAX_MEMBERS, check_filters},
};

use crate::{
    Backend, Bundle, Error, Explanation, Manifest,
    manifest::{MANIFEST, PIPELINE, WEIGHTS},
    network::{Contributions, Network, Point, Program, Shape},
    onnx::Sessions,
    pipeline::{Encoder, Pipeline, Slots},
    prediction::raw_width,
};

/// A backend that is ready to compute.
#[derive(Debug)]
pub(crate) enum Engine {
    /// [`Backend::Network`].
    Network { encoder: Encoder, program: Program },
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
                check_architecture(architecture, &pipeline)?;
                let shape = Shape::new(architecture, &pipeline, outputs);
                if shape.members.is_some() && shape.inputs() == 0 {
                    return Err(Error::invalid(PIPELINE, "an ensemble needs at least one input"));
                }
                let network = Network::from_bytes(bundle.blob(WEIGHTS)?, &shape)?;
                Ok(Self::Network { encoder: Encoder::new(pipeline), program: Program::new(&network) })
            }
            Backend::Onnx => Ok(Self::Onnx(Sessions::load(bundle)?)),
        }
    }

    /// Why every row has its score; `None` if the backend does not tell.
    pub(crate) fn explain(
        &self,
        rows: &RecordBatch,
        class: impl Fn(usize) -> usize,
    ) -> Option<Result<Explanation, Error>> {
        match self {
            Self::Network { encoder, program } if program.has_contributions() => {
                Some(explain_network(encoder, program, rows, class))
            }
            Self::Network { .. } | Self::Onnx(_) => None,
        }
    }

    /// The outputs of every row.
    pub(crate) fn run(&self, rows: &RecordBatch) -> Result<Outputs, Error> {
        match self {
            Self::Network { encoder, program } => Ok(Outputs::Raw(program.forward_batch(encoder, rows)?)),
            Self::Onnx(sessions) => sessions.run(rows),
        }
    }
}

/// The contributions of the features of every row to the output of its class: `class` is that of each row.
fn explain_network(
    encoder: &Encoder,
    program: &Program,
    rows: &RecordBatch,
    class: impl Fn(usize) -> usize,
) -> Result<Explanation, Error> {
    let (encoded, slots) = (encoder.encode(rows)?, encoder.slots());
    let (dense, indices) = encoder.baseline();
    let baseline = Point { dense, indices };
    let mut explanation = Explanation::new(slots.len());
    for row in 0..encoded.rows {
        let (dense, indices) = encoded.row(row);
        let point = Point { dense: dense.iter().map(|&value| f64::from(value)).collect(), indices: indices.to_vec() };
        let Contributions { dense, categories, baseline, output } =
            program.contributions(&point, &baseline, class(row));
        explanation.contributions.extend(slots.iter().map(|slots| match slots {
            Slots::Dense(range) => dense[range.clone()].iter().sum(),
            Slots::Category(at) => categories[*at],
        }));
        explanation.baselines.push(baseline);
        explanation.scores.push(output);
    }
    Ok(explanation)
}

/// The sizes of an ensemble and of an image, which nothing else of the bundle limits.
fn check_architecture(architecture: &Architecture, pipeline: &Pipeline) -> Result<(), Error> {
    match architecture {
        Architecture::TabM { members, hidden, .. } if !(1..=MAX_MEMBERS).contains(members) || hidden.is_empty() => {
            let problem = format!("an ensemble has 1 to {MAX_MEMBERS} members and at least one hidden layer");
            Err(Error::invalid(MANIFEST, problem))
        }
        Architecture::Cnn { image, filters, hidden, .. } => {
            check_filters(*image, filters).map_err(|violations| Error::invalid(MANIFEST, violations))?;
            let is_image = pipeline.width() == image.values() && pipeline.cardinalities().is_empty();
            if is_image && !hidden.is_empty() {
                return Ok(());
            }
            let problem = format!("an image of {image} needs as many features, and a hidden layer");
            Err(Error::invalid(MANIFEST, problem))
        }
        _ => Ok(()),
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
