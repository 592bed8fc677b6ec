//! A sample of the validation rows with the loss of each: what the loss of a slice of later rows is compared with.

use std::{collections::HashMap, sync::Arc};

use arrow::{
    array::{ArrayRef, BooleanArray, Float64Array, Int64Array, RecordBatch, StringArray},
    compute::take,
};
use bytes::Bytes;
use serde::{Deserialize, Serialize};

use crate::{Error, column::Cells, manifest::LOSS_SAMPLE};

/// Greater losses are refused: their variance exceeds the range of a double.
const MOST_LOSS: f64 = 1e100;

/// Validation rows in order of time, if they have times, with the loss of each.
#[derive(Debug, Clone, PartialEq)]
pub struct LossSample {
    losses: Vec<f64>,
    features: Vec<(String, ArrayRef)>,
}

/// The stored form.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    losses: Vec<f64>,
    features: Vec<Feature>,
}

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Feature {
    name: String,
    values: Values,
}

/// One value per row; `None` is a missing one.
#[derive(Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
enum Values {
    Integers(Vec<Option<i64>>),
    Numbers(Vec<Option<f64>>),
    Flags(Vec<Option<bool>>),
    Texts {
        /// The different texts, in order of their first row.
        texts: Vec<String>,
        /// The index of each row's text.
        rows: Vec<Option<u32>>,
    },
}

impl LossSample {
    /// The most rows of a sample.
    pub const MOST_ROWS: usize = 5_000;
    /// The most features of a sample.
    pub const MOST_FEATURES: usize = 50;
    /// The most bytes of the columns of a sample: of long texts, it has fewer rows.
    const MOST_MEMORY: usize = 4 << 20;
    /// The largest stored form, in bytes.
    pub(crate) const MOST_BYTES: usize = 16 << 20;

    /// Every n-th row, so that not too many are kept, with the first [`Self::MOST_FEATURES`] features. `losses` are those of the rows.
    ///
    /// # Errors
    /// A feature that is not among the columns, or not of a canonical type but timestamps; not one loss per row; a loss that is not finite.
    pub fn of<'a>(
        rows: &RecordBatch,
        features: impl IntoIterator<Item = &'a str>,
        losses: &[f64],
    ) -> Result<Self, Error> {
        let columns = features.into_iter().take(Self::MOST_FEATURES).map(|name| {
            let column = rows.column_by_name(name).ok_or_else(|| Error::InputMissing(name.to_owned()))?;
            Ok((name.to_owned(), column.clone()))
        });
        let all = Self { losses: losses.to_vec(), features: columns.collect::<Result<_, Error>>()? };
        all.check()?;
        let mut most = Self::MOST_ROWS;
        loop {
            let sample = all.every_nth(losses.len().div_ceil(most).max(1))?;
            let memory: usize = sample.features.iter().map(|(_, column)| column.get_array_memory_size()).sum();
            if most == 1 || memory <= Self::MOST_MEMORY {
                return Ok(sample);
            }
            most /= 2;
        }
    }

    fn every_nth(&self, nth: usize) -> Result<Self, Error> {
        let rows: Int64Array = (0..self.losses.len()).step_by(nth).filter_map(|row| i64::try_from(row).ok()).collect();
        let columns = self.features.iter().map(|(name, column)| {
            let taken = take(column, &rows, None).map_err(invalid)?;
            Ok((name.clone(), taken))
        });
        let losses = self.losses.iter().step_by(nth).copied().collect();
        Ok(Self { losses, features: columns.collect::<Result<_, Error>>()? })
    }

    fn check(&self) -> Result<(), Error> {
        if self.losses.iter().any(|loss| loss.is_nan() || loss.abs() > MOST_LOSS) {
            return Err(invalid(format!("a loss is no number of at most {MOST_LOSS:e}")));
        }
        for (name, column) in &self.features {
            if column.len() != self.losses.len() {
                return Err(invalid(format!("{name} has {} rows, and the losses {}", column.len(), self.losses.len())));
            }
            if !matches!(Cells::of(column), Some(Cells::Int(_) | Cells::Float(_) | Cells::Text(_) | Cells::Bool(_))) {
                return Err(invalid(format!("{name} has the type {}", column.data_type())));
            }
        }
        Ok(())
    }

    /// The number of rows.
    pub fn rows(&self) -> usize {
        self.losses.len()
    }

    /// The values of a feature.
    pub fn feature(&self, name: &str) -> Option<Cells<'_>> {
        self.features.iter().find(|(feature, _)| feature == name).and_then(|(_, column)| Cells::of(column))
    }

    /// The loss of each row.
    pub fn losses(&self) -> &[f64] {
        &self.losses
    }

    /// The stored form.
    pub fn to_bytes(&self) -> Result<Bytes, Error> {
        let features = self.features.iter().map(|(name, column)| {
            let cells =
                Cells::of(column).ok_or_else(|| invalid(format!("{name} has the type {}", column.data_type())))?;
            Ok(Feature { name: name.clone(), values: Values::of(&cells) })
        });
        let stored = Stored { losses: self.losses.clone(), features: features.collect::<Result<_, Error>>()? };
        serde_json::to_vec(&stored).map(Bytes::from).map_err(invalid)
    }

    /// Parses the stored form.
    ///
    /// # Errors
    /// Another form; features of several lengths; too many rows.
    pub fn from_bytes(bytes: &[u8]) -> Result<Self, Error> {
        let Stored { losses, features } = serde_json::from_slice(bytes).map_err(invalid)?;
        let (rows, most) = (losses.len(), Self::MOST_ROWS);
        if rows > most {
            return Err(invalid(format!("it has {rows} rows, at most {most} allowed")));
        }
        if features.len() > Self::MOST_FEATURES {
            return Err(invalid(format!(
                "it has {} features, at most {} allowed",
                features.len(),
                Self::MOST_FEATURES
            )));
        }
        // One long text of many rows takes more memory than its form.
        let bytes: usize = features.iter().map(|feature| feature.values.text_bytes()).sum();
        if bytes > Self::MOST_BYTES {
            return Err(invalid(format!("its texts have {bytes} bytes, at most {} allowed", Self::MOST_BYTES)));
        }
        let features = features.into_iter().map(|feature| Ok((feature.name, feature.values.into_array()?)));
        let sample = Self { losses, features: features.collect::<Result<_, Error>>()? };
        sample.check()?;
        Ok(sample)
    }
}

impl Values {
    fn of(cells: &Cells<'_>) -> Self {
        let rows = 0..cells.rows();
        match cells {
            Cells::Int(_) | Cells::Timestamp(_) => Self::Integers(rows.map(|row| cells.timestamp(row)).collect()),
            Cells::Float(_) => Self::Numbers(rows.map(|row| cells.number(row)).collect()),
            Cells::Bool(_) => Self::Flags(rows.map(|row| cells.boolean(row)).collect()),
            Cells::Text(_) => {
                let (mut texts, mut indices) = (Vec::new(), HashMap::new());
                let rows = rows.map(|row| {
                    let text = cells.text(row)?;
                    let next = || {
                        texts.push(text.to_owned());
                        u32::try_from(texts.len() - 1).unwrap_or(u32::MAX)
                    };
                    Some(*indices.entry(text).or_insert_with(next))
                });
                let rows = rows.collect();
                Self::Texts { texts, rows }
            }
        }
    }

    /// The bytes of the texts of all rows.
    fn text_bytes(&self) -> usize {
        match self {
            Self::Texts { texts, rows } => {
                rows.iter().flatten().filter_map(|&at| texts.get(at as usize)).map(String::len).sum()
            }
            Self::Integers(_) | Self::Numbers(_) | Self::Flags(_) => 0,
        }
    }

    fn into_array(self) -> Result<ArrayRef, Error> {
        Ok(match self {
            Self::Integers(rows) => Arc::new(Int64Array::from(rows)),
            Self::Numbers(rows) => Arc::new(Float64Array::from(rows)),
            Self::Flags(rows) => Arc::new(BooleanArray::from(rows)),
            Self::Texts { texts, rows } => {
                let of = |at: u32| {
                    texts.get(at as usize).map(String::as_str).ok_or_else(|| invalid(format!("it has no text {at}")))
                };
                let rows = rows.into_iter().map(|row| row.map(of).transpose()).collect::<Result<Vec<_>, _>>()?;
                Arc::new(StringArray::from(rows))
            }
        })
    }
}

fn invalid(problem: impl ToString) -> Error {
    Error::invalid(LOSS_SAMPLE, problem)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn rows(count: usize, text: &str) -> RecordBatch {
        let numbers: ArrayRef = Arc::new((0..).take(count).map(Some).collect::<Int64Array>());
        let texts: ArrayRef = Arc::new((0..count).map(|row| (row % 3 > 0).then_some(text)).collect::<StringArray>());
        RecordBatch::try_from_iter([("n", numbers), ("text", texts)]).expect("columns of one length")
    }

    fn losses(count: usize) -> Vec<f64> {
        (0..count).map(|row| row as f64).collect()
    }

    #[test]
    fn every_nth_row_is_kept_with_its_loss() {
        let sample = LossSample::of(&rows(12_345, "a"), ["text", "n"], &losses(12_345)).expect("two features");
        assert_eq!(sample.rows(), 12_345_usize.div_ceil(3));
        let numbers = sample.feature("n").expect("a feature");
        assert!((0..sample.rows()).all(|row| numbers.number(row) == Some(sample.losses()[row])));
        assert_eq!(LossSample::from_bytes(&sample.to_bytes().expect("bytes")).expect("it reads"), sample);
        let few = LossSample::of(&rows(3, "a"), ["n"], &losses(3)).expect("a feature");
        assert_eq!((few.losses(), few.feature("text").is_none()), ([0.0, 1.0, 2.0].as_slice(), true));
        assert!(LossSample::of(&rows(3, "a"), ["other"], &losses(3)).is_err());
    }

    #[test]
    fn long_texts_leave_fewer_rows() {
        let long = "x".repeat(20_000);
        let sample = LossSample::of(&rows(5_000, &long), ["n", "text"], &losses(5_000)).expect("two features");
        assert!((100..1_000).contains(&sample.rows()), "{}", sample.rows());
        let bytes = sample.to_bytes().expect("bytes");
        assert!(bytes.len() <= LossSample::MOST_BYTES, "{}", bytes.len());
        assert_eq!(LossSample::from_bytes(&bytes).expect("it reads").rows(), sample.rows());
    }

    #[test]
    fn what_is_no_sample_is_refused() {
        let bytes =
            LossSample::of(&rows(300, "a"), ["n", "text"], &losses(300)).expect("ok").to_bytes().expect("bytes");
        assert!(LossSample::from_bytes(b"").is_err());
        let many = Stored { losses: losses(5_001), features: Vec::new() };
        assert!(LossSample::from_bytes(&serde_json::to_vec(&many).expect("json")).is_err());
        let repeated = Values::Texts { texts: vec!["x".repeat(20_000)], rows: vec![Some(0); 5_000] };
        let feature = Feature { name: "text".to_owned(), values: repeated };
        let long = Stored { losses: losses(5_000), features: vec![feature] };
        assert!(LossSample::from_bytes(&serde_json::to_vec(&long).expect("json")).is_err());
        for at in (0..bytes.len()).step_by(7) {
            let mut damaged = bytes.to_vec();
            damaged[at] ^= 0x55;
            // Refused, or read as other values: never a panic.
            drop(LossSample::from_bytes(&damaged));
            drop(LossSample::from_bytes(&bytes[..at]));
        }
        let of = |loss: f64| {
            let mut losses = losses(3);
            losses[1] = loss;
            LossSample::of(&rows(3, "a"), ["n"], &losses)
        };
        assert!(of(f64::NAN).is_err() && of(1e101).is_err() && of(0.5).is_ok());
        let feature = |n: usize| Feature { name: n.to_string(), values: Values::Flags(vec![None; 3]) };
        let wide = Stored { losses: losses(3), features: (0..51).map(feature).collect() };
        assert!(LossSample::from_bytes(&serde_json::to_vec(&wide).expect("json")).is_err());
    }
}
