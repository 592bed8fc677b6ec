//! The loaded form of a backend: from rows to raw outputs.

use arrow::array::RecordBatch;

use crate::{
    Backend, Bundle, Error, Explanation, Manifest,
    manifest::{PIPELINE, WEIGHTS},
    network::{Block, Contributions, Network, Point, Program, Shape},
    pipeline::{Encoder, Pipeline, Slots},
    prediction::raw_width,
};

/// A backend that is ready to compute.
#[derive(Debug)]
pub(crate) enum Engine {
    /// [`Backend::Network`].
    Network { encoder: Encoder, program: Program },
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
                let shape = Shape::new(&bundle.manifest.architecture, &pipeline, outputs);
                let network = Network::from_bytes(bundle.blob(WEIGHTS)?, &shape)?;
                Ok(Self::Network { encoder: Encoder::new(pipeline), program: Program::new(&network) })
            }
        }
    }

    /// Why every row has its score.
    pub(crate) fn explain(&self, rows: &RecordBatch, class: impl Fn(usize) -> usize) -> Result<Explanation, Error> {
        match self {
            Self::Network { encoder, program } => explain_network(encoder, program, rows, class),
        }
    }

    /// The raw outputs of every row, row-major: logits or numbers, [`raw_width`] per row.
    pub(crate) fn run(&self, rows: &RecordBatch) -> Result<Vec<f32>, Error> {
        match self {
            Self::Network { encoder, program } => {
                let columns = encoder.columns(rows)?;
                Ok(program.forward(rows.num_rows(), |Block { range, dense, stride, indices }| {
                    columns.write(range, dense, stride, indices);
                }))
            }
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
    let mut explanation =
        Explanation { features: slots.len(), contributions: Vec::new(), baselines: Vec::new(), scores: Vec::new() };
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

fn check_features(manifest: &Manifest, pipeline: &Pipeline) -> Result<(), Error> {
    let inputs = manifest.signature.inputs.iter().map(|input| input.name.as_str());
    if inputs.eq(pipeline.features.iter().map(|feature| feature.name.as_str())) {
        Ok(())
    } else {
        Err(Error::invalid(PIPELINE, "its features differ from the inputs of the signature"))
    }
}
