//! How far the shift of each column moves the predictions of a model.

use std::collections::BTreeMap;

use arrow::{
    array::{Array as _, ArrayRef, AsArray as _, RecordBatch},
    compute,
    datatypes::{DataType, Float64Type, Int32Type},
};
use rekindle_statistics::{
    cause::PredictionByBin,
    drift::{BinKind, ColumnDrift},
    profile::flag_name,
};

use crate::{DriftReport, Error};

/// Reads the rows of the reference data once more, batch by batch, and averages a column of predictions over the bins of every
/// other column. Memory is bounded by the number of bins.
#[derive(Debug)]
pub struct PredictionScan<'a> {
    prediction: &'a str,
    columns: &'a [ColumnDrift],
    by_bin: BTreeMap<&'a str, PredictionByBin<'a>>,
    rows: usize,
}

/// How far the shift of each column of a report, taken alone, moves the mean prediction.
#[derive(Debug, Clone, PartialEq)]
pub struct PredictionShifts {
    /// By column, in the order of the report; in the unit of the prediction; 0 for the prediction column itself.
    pub(crate) by_column: Vec<f64>,
    /// The columns with too many different values for the rows of each bin to be identified.
    pub(crate) undetermined: Vec<String>,
}

impl<'a> PredictionScan<'a> {
    /// A scan for `report` without rows. `prediction` names a column of the reference data, which need not be compared.
    pub fn new(report: &'a DriftReport, prediction: &'a str) -> Self {
        let columns = report.comparison.columns.as_slice();
        let others = columns.iter().filter(|column| column.name != prediction);
        let by_bin = others.map(|column| (column.name.as_str(), PredictionByBin::new(column))).collect();
        Self { prediction, columns, by_bin, rows: 0 }
    }

    /// Adds rows of the reference data. Rows whose prediction is missing or not finite are skipped, and so are columns that the report
    /// does not have. The types are those of a `rekindle_dataset::Scan` in the kinds of the reference: numbers, booleans, timestamps,
    /// `Utf8`, and dictionaries of `Utf8` with `Int32` keys.
    ///
    /// # Errors
    /// [`Error::UnknownColumn`]: the rows have no prediction column. [`Error::Rows`]: a column of another type.
    pub fn add(&mut self, batch: &RecordBatch) -> Result<(), Error> {
        let numbers = floats(self.prediction, self.prediction_of(batch)?)?;
        let numbers = numbers.as_primitive::<Float64Type>();
        let rows: Vec<(usize, f64)> = numbers
            .iter()
            .enumerate()
            .filter_map(|(row, number)| Some((row, number.filter(|number| number.is_finite())?)))
            .collect();
        for (field, array) in batch.schema_ref().fields().iter().zip(batch.columns()) {
            let Some(predictions) = self.by_bin.get_mut(field.name().as_str()) else { continue };
            let bins = bins(field.name(), predictions, array)?;
            for &(row, number) in &rows {
                if let Some(bin) = bins[row] {
                    predictions.add(bin, number);
                }
            }
        }
        self.rows += rows.len();
        Ok(())
    }

    /// The shifts by column.
    ///
    /// # Errors
    /// [`Error::NotNumeric`]: no row had a finite prediction.
    pub fn finish(self) -> Result<PredictionShifts, Error> {
        if self.rows == 0 {
            return Err(Error::NotNumeric { name: self.prediction.to_owned() });
        }
        let shift = |column: &ColumnDrift| self.by_bin.get(column.name.as_str()).map_or(0.0, PredictionByBin::moved);
        let undetermined = self.by_bin.iter().filter(|(_, predictions)| !predictions.identifies_bins());
        Ok(PredictionShifts {
            by_column: self.columns.iter().map(shift).collect(),
            undetermined: undetermined.map(|(name, _)| (*name).to_owned()).collect(),
        })
    }

    fn prediction_of<'b>(&self, batch: &'b RecordBatch) -> Result<&'b ArrayRef, Error> {
        let columns = || batch.schema_ref().fields().iter().map(|field| field.name().as_str());
        let position = columns().position(|name| name == self.prediction).ok_or_else(|| Error::UnknownColumn {
            name: self.prediction.to_owned(),
            columns: crate::list_names(columns(), crate::report::NAMES),
        })?;
        Ok(batch.column(position))
    }
}

/// The bin of every row.
fn bins(name: &str, predictions: &PredictionByBin<'_>, array: &ArrayRef) -> Result<Vec<Option<usize>>, Error> {
    let missing = predictions.bin_of(&BinKind::Missing);
    let bin_of_flag = |flag: bool| predictions.bin_of_name(flag_name(flag));
    let bin_of_text = |text: Option<&str>| text.map_or(missing, |text| predictions.bin_of_name(text));
    Ok(match array.data_type() {
        DataType::Dictionary(..) => {
            let array = array.as_dictionary::<Int32Type>();
            let of_values: Vec<_> = array.values().as_string::<i32>().iter().map(bin_of_text).collect();
            array.keys().iter().map(|key| key.map_or(missing, |key| of_values[key as usize])).collect()
        }
        DataType::Utf8 => array.as_string::<i32>().iter().map(bin_of_text).collect(),
        DataType::Boolean => array.as_boolean().iter().map(|flag| flag.map_or(missing, bin_of_flag)).collect(),
        DataType::Timestamp(..) => {
            let present = predictions.bin_of(&BinKind::Present);
            (0..array.len()).map(|row| if array.is_valid(row) { present } else { missing }).collect()
        }
        _ => {
            let numbers = floats(name, array)?;
            let numbers = numbers.as_primitive::<Float64Type>().iter();
            numbers.map(|number| number.map_or(missing, |number| predictions.bin_of_number(number))).collect()
        }
    })
}

fn floats(name: &str, array: &ArrayRef) -> Result<ArrayRef, Error> {
    compute::cast(array, &DataType::Float64).map_err(|source| Error::Rows { name: name.to_owned(), source })
}
