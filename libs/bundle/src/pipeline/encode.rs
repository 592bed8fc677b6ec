//! Encoding of rows with a fitted pipeline.

use std::{collections::HashMap, ops::Range};

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
    /// The rows at these positions.
    #[must_use]
    pub fn take(&self, positions: &[usize]) -> Self {
        let rows = || positions.iter().map(|&row| self.row(row));
        Self {
            rows: positions.len(),
            width: self.width,
            categories: self.categories,
            dense: rows().flat_map(|(dense, _)| dense).copied().collect(),
            indices: rows().flat_map(|(_, indices)| indices).copied().collect(),
        }
    }

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

    /// Encodes every row. Columns are matched by name and further columns are ignored.
    ///
    /// # Errors
    /// A feature is not among the columns, or its column has a type that the encoding cannot read.
    pub fn encode(&self, batch: &RecordBatch) -> Result<Encoded, Error> {
        self.encode_rows(batch, 0..batch.num_rows())
    }

    /// Encodes the rows at these positions.
    ///
    /// # Errors
    /// As for [`Self::encode`].
    ///
    /// # Panics
    /// If a position is not that of a row.
    pub fn encode_rows(
        &self,
        batch: &RecordBatch,
        positions: impl ExactSizeIterator<Item = usize> + Clone,
    ) -> Result<Encoded, Error> {
        let (rows, width, categories) = (positions.len(), self.width, self.lookups.len());
        let mut encoded = Encoded {
            rows,
            width,
            categories,
            dense: vec![0.0; rows * width],
            indices: vec![UNSEEN; rows * categories],
        };
        self.columns(batch)?.write(positions, &mut encoded.dense, width, &mut encoded.indices);
        Ok(encoded)
    }

    /// The columns of the features, to be encoded.
    ///
    /// # Errors
    /// As for [`Self::encode`].
    pub(crate) fn columns<'a>(&'a self, batch: &'a RecordBatch) -> Result<Columns<'a>, Error> {
        let cells = self.pipeline.features.iter().enumerate().map(|(position, Feature { name, encoding })| {
            let array = column::find(batch, name, position).ok_or_else(|| Error::InputMissing(name.clone()))?;
            cells_for(name, encoding, array)
        });
        Ok(Columns { encoder: self, cells: cells.collect::<Result<_, _>>()? })
    }
}

/// Where a feature is in the input of a network.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Slots {
    /// Dense features.
    Dense(Range<usize>),
    /// A categorical feature, by its position among them.
    Category(usize),
}

impl Encoder {
    /// The rows with the values of the feature at a position in another order.
    pub fn permuted(&self, rows: &Encoded, feature: usize, order: &[usize]) -> Encoded {
        let mut permuted = rows.clone();
        match &self.slots()[feature] {
            Slots::Dense(range) => {
                for (row, &from) in order.iter().enumerate() {
                    let (to, from) = (row * rows.width, from * rows.width);
                    permuted.dense[to + range.start..to + range.end]
                        .copy_from_slice(&rows.dense[from + range.start..from + range.end]);
                }
            }
            &Slots::Category(at) => {
                for (row, &from) in order.iter().enumerate() {
                    permuted.indices[row * rows.categories + at] = rows.indices[from * rows.categories + at];
                }
            }
        }
        permuted
    }

    /// Where each feature is.
    pub(crate) fn slots(&self) -> Vec<Slots> {
        let (mut slot, mut category) = (0, 0);
        let features = self.pipeline.features.iter().map(|feature| match feature.encoding {
            Encoding::Category { .. } => {
                category += 1;
                Slots::Category(category - 1)
            }
            _ => {
                slot += feature.encoding.width();
                Slots::Dense(slot - feature.encoding.width()..slot)
            }
        });
        features.collect()
    }

    /// The encoding of an average row: numbers at their medians, flags at their means, no calendar features, and unseen categories.
    pub(crate) fn baseline(&self) -> (Vec<f64>, Vec<u32>) {
        let mut dense = vec![0.0; self.width];
        for (feature, slots) in self.pipeline.features.iter().zip(self.slots()) {
            match (&feature.encoding, slots) {
                (Encoding::Flag { share, .. }, Slots::Dense(range)) => dense[range.start] = *share,
                (Encoding::Scaled { scaling, .. }, Slots::Dense(range)) => {
                    let mut median = vec![0.0; scaling.width()];
                    scaling.write(None, &mut median);
                    dense[range].iter_mut().zip(median).for_each(|(slot, value)| *slot = f64::from(value));
                }
                _ => {}
            }
        }
        (dense, vec![UNSEEN; self.lookups.len()])
    }
}

/// The columns of the features of one batch.
pub(crate) struct Columns<'a> {
    encoder: &'a Encoder,
    cells: Vec<Cells<'a>>,
}

impl Columns<'_> {
    /// Encodes the rows at these positions: dense features into rows of `dense` that are `stride` apart, and the indices of categorical
    /// features into `indices`, row-major.
    pub(crate) fn write(
        &self,
        rows: impl Iterator<Item = usize> + Clone,
        dense: &mut [f32],
        stride: usize,
        indices: &mut [u32],
    ) {
        let categories = self.encoder.lookups.len();
        let (mut slot, mut category) = (0, 0);
        for (Feature { encoding, .. }, cells) in self.encoder.pipeline.features.iter().zip(&self.cells) {
            if let Encoding::Category { .. } = encoding {
                let lookup = &self.encoder.lookups[category];
                for (at, row) in rows.clone().enumerate() {
                    indices[at * categories + category] = index(lookup, cells.text(row));
                }
                category += 1;
                continue;
            }
            let width = encoding.width();
            match (encoding, cells) {
                (Encoding::Scaled { .. } | Encoding::Number { .. }, Cells::Float(array)) if array.null_count() == 0 => {
                    let values: &[f64] = array.values();
                    for (at, row) in rows.clone().enumerate() {
                        let (value, start) = (Some(values[row]).filter(|value| value.is_finite()), at * stride + slot);
                        write_number(encoding, value, &mut dense[start..start + width]);
                    }
                }
                _ => {
                    for (at, row) in rows.clone().enumerate() {
                        let start = at * stride + slot;
                        write(encoding, cells, row, &mut dense[start..start + width]);
                    }
                }
            }
            slot += width;
        }
    }
}

fn index(lookup: &HashMap<String, u32>, text: Option<&str>) -> u32 {
    text.map_or(MISSING, |text| lookup.get(text).copied().unwrap_or(UNSEEN))
}

fn write(encoding: &Encoding, cells: &Cells<'_>, row: usize, slots: &mut [f32]) {
    match encoding {
        Encoding::Scaled { .. } | Encoding::Constant { .. } | Encoding::Number { .. } => {
            write_number(encoding, cells.number(row), slots);
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

#[inline]
fn write_number(encoding: &Encoding, value: Option<f64>, slots: &mut [f32]) {
    let indicator = match encoding {
        Encoding::Scaled { scaling, indicator } => {
            scaling.write(value, slots);
            *indicator
        }
        Encoding::Constant { indicator } => *indicator,
        Encoding::Number { median, mean, std, indicator } => {
            slots[0] = ((value.unwrap_or(*median) - mean) / std).clamp(-CLIP, CLIP) as f32;
            *indicator
        }
        _ => false,
    };
    if let Some(last) = slots.last_mut().filter(|_| indicator) {
        *last = f32::from(u8::from(value.is_none()));
    }
}

/// The cells of the column, if the encoding can read their type.
fn cells_for<'a>(name: &str, encoding: &Encoding, array: &'a dyn Array) -> Result<Cells<'a>, Error> {
    let cells = Cells::of(array);
    let (readable, expected) = match encoding {
        Encoding::Scaled { .. } | Encoding::Number { .. } => {
            (matches!(cells, Some(Cells::Int(_) | Cells::Float(_))), "Int64 or Float64")
        }
        Encoding::Constant { .. } => {
            (matches!(cells, Some(Cells::Int(_) | Cells::Float(_) | Cells::Bool(_))), "Int64, Float64 or Boolean")
        }
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
