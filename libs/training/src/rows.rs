//! Rows as the input of a network: encoded once if the encoding is small enough to be kept, else whenever they are needed.

use std::sync::Arc;

use arrow::array::RecordBatch;
use rekindle_bundle::{
    network::Network,
    pipeline::{Encoded, Encoder},
};

use crate::Error;

/// Bytes of the encoding of all rows up to which it is kept.
pub(crate) const MOST_KEPT: u64 = 512 << 20;

/// Whether the encoding of so many rows with so many features is kept.
pub(crate) fn is_kept(rows: u64, features: u64) -> bool {
    rows.saturating_mul(features).saturating_mul(size_of::<f32>() as u64) <= MOST_KEPT
}

/// Rows that a fitted pipeline encodes. The encoding of a row has the same bits whether it is kept or not.
#[derive(Debug)]
pub(crate) struct Rows {
    encoder: Arc<Encoder>,
    batch: RecordBatch,
    kept: Option<Encoded>,
}

impl Rows {
    /// Encodes the rows at once if the encoding is to be kept.
    pub(crate) fn new(encoder: Arc<Encoder>, batch: &RecordBatch, keep: bool) -> Result<Self, Error> {
        // In the order of the features, so that they are not searched for again and again.
        let names = encoder.pipeline().features.iter().map(|feature| feature.name.as_str());
        let positions: Vec<usize> = names.filter_map(|name| batch.schema().index_of(name).ok()).collect();
        let batch =
            batch.project(&positions).map_err(|error| Error::unreadable("the columns of the features", error))?;
        let kept = keep.then(|| encoder.encode(&batch)).transpose()?;
        Ok(Self { kept, encoder, batch })
    }

    pub(crate) fn len(&self) -> usize {
        self.batch.num_rows()
    }

    /// The rows at these positions, encoded.
    pub(crate) fn take(&self, positions: &[usize]) -> Result<Encoded, Error> {
        match &self.kept {
            Some(encoded) => Ok(encoded.take(positions)),
            None => Ok(self.encoder.encode_rows(&self.batch, positions.iter().copied())?),
        }
    }

    /// The outputs of a network for every row.
    pub(crate) fn forward(&self, network: &Network) -> Result<Vec<f32>, Error> {
        match &self.kept {
            Some(encoded) => Ok(network.forward(encoded)),
            None => Ok(network.forward_batch(&self.encoder, &self.batch)?),
        }
    }
}

#[cfg(test)]
impl From<Encoded> for Rows {
    /// Rows that are encoded already.
    fn from(encoded: Encoded) -> Self {
        let pipeline = rekindle_bundle::pipeline::Pipeline { features: Vec::new() };
        let options = arrow::array::RecordBatchOptions::new().with_row_count(Some(encoded.rows));
        let batch = RecordBatch::try_new_with_options(arrow::datatypes::Schema::empty().into(), Vec::new(), &options);
        Self { encoder: Arc::new(Encoder::new(pipeline)), batch: batch.expect("no columns"), kept: Some(encoded) }
    }
}

#[cfg(test)]
mod tests {
    use arrow::array::{ArrayRef, Float64Array, StringArray};
    use rekindle_bundle::{
        column::Cells,
        network::{Layer, Matrix},
        pipeline::{Feature, Pipeline},
    };
    use rekindle_domain::ColumnKind;

    use super::*;
    use crate::fit::fit;

    #[test]
    fn rows_have_the_same_bits_whether_their_encoding_is_kept_or_not() {
        let rows = 100;
        let number = |row: usize| (!row.is_multiple_of(7)).then_some((row as f64 * 0.37).sin());
        let numbers: Float64Array = (0..rows).map(number).collect();
        let texts: StringArray = (0..rows).map(|row| Some(["a", "b", "c"][row % 3])).collect();
        let feature = |name: &str, kind, cells: &Cells<'_>| Feature {
            name: name.to_owned(),
            encoding: fit(name, kind, cells, 0..rows, 8).expect("fitted"),
        };
        let features = vec![
            feature("x", ColumnKind::Numeric, &Cells::Float(&numbers)),
            feature("t", ColumnKind::Categorical, &Cells::Text(&texts)),
        ];
        let encoder = Arc::new(Encoder::new(Pipeline { features }));
        let columns: [(&str, ArrayRef); 2] = [("x", Arc::new(numbers)), ("t", Arc::new(texts))];
        let batch = RecordBatch::try_from_iter(columns).expect("columns of one length");
        let all = |keep| Rows::new(encoder.clone(), &batch, keep).expect("encoded");
        let (kept, not_kept) = (all(true), all(false));
        let positions = [7, 3, 99, 3];
        assert_eq!(kept.take(&positions).expect("rows"), not_kept.take(&positions).expect("rows"));
        let width = encoder.pipeline().width();
        let weights = (0..width).map(|at| at as f32 + 0.5).collect();
        let network = Network {
            convolution: None,
            embeddings: vec![Matrix { rows: 5, columns: 1, data: vec![0.1, 0.2, 0.3, 0.4, 0.5] }],
            members: None,
            hidden: vec![],
            output: Layer { weight: Matrix { rows: width, columns: 1, data: weights }, bias: vec![0.25] },
        };
        assert_eq!(kept.forward(&network).expect("outputs"), not_kept.forward(&network).expect("outputs"));
        assert_eq!((kept.len(), not_kept.len()), (rows, rows));
    }
}
