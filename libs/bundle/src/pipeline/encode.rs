//! Encoding of rows with a fitted pipeline.

use std::collections::HashMap;

use arrow::array::{Array, RecordBatch};

use super::{CLIP, Encoding, FIRST_VALUE, Feature, MISSING, Pipeline, UNSEEN};
use crate::{
    Error,
    column::{self, Cells},
};

/// Rows as the input of a network.
#[derive(Debug, Clone, PartialEq)]
pub struct Encoded {
    /// The number of rows.
    pub rows: usize,
    /// Dense features per row.
    pub width: usize,
    /// Categorical features per row.
    pub categories: usize,
    /// Dense features, row-major: `rows * width`.
    pub dense: Vec<f32>,
    /// Indices of categorical features, row-major: `rows * categories`.
    pub indices: Vec<u32>,
}

impl Encoded {
    /// The dense features and the indices of one row.
    pub fn row(&self, row: usize) -> (&[f32], &[u32]) {
        (
            &self.dense[row * self.width..(row + 1) * self.width],
            &self.indices[row * self.categories..(row + 1) * self.categories],
        )
    }
}

/// A pipeline with a lookup table for each vocabulary.
#[derive(Debug)]
pub struct Encoder {
    pipeline: Pipeline,
    width: usize,
    lookups: Vec<HashMap<String, u32>>,
}

impl Encoder {
    /// Builds the lookup tables.
    pub fn new(pipeline: Pipeline) -> Self {
        let lookups = pipeline
            .features
            .iter()
            .filter_map(|feature| match &feature.encoding {
                Encoding::Category { vocabulary, .. } => Some(vocabulary.iter().cloned().zip(FIRST_VALUE..).collect()),
                _ => None,
            })
            .collect();
        Self { width: pipeline.width(), lookups, pipeline }
    }

    /// The fitted pipeline.
    pub fn pipeline(&self) -> &Pipeline {
        &self.pipeline
    }

    /// The fitted pipeline, without the lookup tables.
    pub fn into_pipeline(self) -> Pipeline {
        self.pipeline
    }

    /// Encodes every row. Columns are matched by name and further columns are ignored.
    ///
    /// # Errors
    /// A feature is not among the columns, or its column has a type that the encoding cannot read.
    pub fn encode(&self, batch: &RecordBatch) -> Result<Encoded, Error> {
        let (rows, width, categories) = (batch.num_rows(), self.width, self.lookups.len());
        let mut encoded = Encoded {
            rows,
            width,
            categories,
            dense: vec![0.0; rows * width],
            indices: vec![UNSEEN; rows * categories],
        };
        let (mut slot, mut category) = (0, 0);
        for (position, Feature { name, encoding }) in self.pipeline.features.iter().enumerate() {
            let array = column::find(batch, name, position).ok_or_else(|| Error::InputMissing(name.clone()))?;
            let cells = cells_for(name, encoding, array)?;
            if let Encoding::Category { .. } = encoding {
                let lookup = &self.lookups[category];
                for row in 0..rows {
                    encoded.indices[row * categories + category] = index(lookup, cells.text(row));
                }
                category += 1;
            } else {
                for row in 0..rows {
                    let start = row * width + slot;
                    write(encoding, &cells, row, &mut encoded.dense[start..start + encoding.width()]);
                }
                slot += encoding.width();
            }
        }
        Ok(encoded)
    }
}

fn index(lookup: &HashMap<String, u32>, text: Option<&str>) -> u32 {
    text.map_or(MISSING, |text| lookup.get(text).copied().unwrap_or(UNSEEN))
}

fn write(encoding: &Encoding, cells: &Cells<'_>, row: usize, slots: &mut [f32]) {
    match encoding {
        Encoding::Number { median, mean, std, indicator } => {
            let value = cells.number(row);
            slots[0] = ((value.unwrap_or(*median) - mean) / std).clamp(-CLIP, CLIP) as f32;
            if *indicator {
                slots[1] = f32::from(u8::from(value.is_none()));
            }
        }
        Encoding::Flag { share, indicator } => {
            let value = cells.boolean(row);
            slots[0] = value.map_or(*share as f32, |flag| f32::from(u8::from(flag)));
            if *indicator {
                slots[1] = f32::from(u8::from(value.is_none()));
            }
        }
        Encoding::Calendar(calendar) => calendar.write(cells.timestamp(row), slots),
        Encoding::Category { .. } => {}
    }
}

/// The cells of the column, if the encoding can read their type.
fn cells_for<'a>(name: &str, encoding: &Encoding, array: &'a dyn Array) -> Result<Cells<'a>, Error> {
    let cells = Cells::of(array);
    let (readable, expected) = match encoding {
        Encoding::Number { .. } => (matches!(cells, Some(Cells::Int(_) | Cells::Float(_))), "Int64 or Float64"),
        Encoding::Flag { .. } => (matches!(cells, Some(Cells::Bool(_))), "Boolean"),
        Encoding::Category { .. } => (matches!(cells, Some(Cells::Text(_))), "Utf8"),
        Encoding::Calendar(_) => (matches!(cells, Some(Cells::Timestamp(_) | Cells::Int(_))), "Timestamp(ms) or Int64"),
    };
    cells.filter(|_| readable).ok_or_else(|| Error::InputType {
        input: name.to_owned(),
        expected: expected.to_owned(),
        got: array.data_type().to_string(),
    })
}
