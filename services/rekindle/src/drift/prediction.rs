//! Which columns' shifts move a model's predictions.

use std::{collections::BTreeMap, path::Path};

use anyhow::{Context as _, Result, bail};
use arrow::{
    array::{Array as _, ArrayRef, AsArray as _},
    compute,
    datatypes::{DataType, Float64Type, Int32Type},
};
use rekindle_dataset::{Kind, ScanBatch, ScanColumn};
use rekindle_statistics::{
    cause::{PredictionByBin, share_out_moves},
    drift::{BinKind, ColumnDrift},
    profile::flag_name,
};

use super::source::Reader;

/// Shares the shift out among the columns by how far each alone moves the mean of `prediction`, a column of the reference, whose rows are
/// read once more. Tells of what columns that cannot be said.
///
/// # Errors
/// A reference without rows to read, such as a profile; no column of that name, or without numbers.
pub(super) fn share_out(
    columns: &mut [ColumnDrift],
    prediction: &str,
    path: &Path,
    reader: Reader<'_>,
    mut kinds: BTreeMap<String, Kind>,
) -> Result<Vec<String>> {
    let own = kinds.get(prediction).copied().unwrap_or(Kind::Numeric);
    kinds.insert(prediction.to_owned(), if own == Kind::Boolean { own } else { Kind::Numeric });
    let mut by_bin: BTreeMap<&str, PredictionByBin<'_>> = columns
        .iter()
        .filter(|column| column.name != prediction)
        .map(|column| (column.name.as_str(), PredictionByBin::new(column)))
        .collect();
    let mut rows = 0;
    reader.visit(path, kinds, |scanned, batch| {
        rows += add(&mut by_bin, prediction, scanned, batch)?;
        Ok(())
    })?;
    if rows == 0 {
        bail!("--prediction: {prediction:?} has no numbers in {}; name a column of scores", path.display());
    }
    let unable = by_bin.iter().filter(|(_, predictions)| !predictions.can_tell());
    let unable = unable.map(|(name, _)| {
        format!("{name:?} has too many different values: what it does to the prediction cannot be told")
    });
    let notes = unable.collect();
    let moved = |column: &ColumnDrift| by_bin.get(column.name.as_str()).map_or(0.0, PredictionByBin::moved);
    let moved: Vec<f64> = columns.iter().map(moved).collect();
    share_out_moves(columns, &moved);
    Ok(notes)
}

/// Adds the rows of a batch whose prediction is a number, and tells how many they were.
fn add(
    by_bin: &mut BTreeMap<&str, PredictionByBin<'_>>,
    prediction: &str,
    scanned: &[ScanColumn],
    batch: &ScanBatch,
) -> Result<usize> {
    let at = scanned.iter().position(|column| column.name == prediction);
    let at = at.with_context(|| format!("--prediction: the reference has no column {prediction:?}"))?;
    let numbers = floats(batch.rows.column(at))?;
    let numbers = numbers.as_primitive::<Float64Type>();
    let rows: Vec<(usize, f64)> = (0..numbers.len())
        .filter(|&row| numbers.is_valid(row) && numbers.value(row).is_finite())
        .map(|row| (row, numbers.value(row)))
        .collect();
    for (column, array) in scanned.iter().zip(batch.rows.columns()) {
        let Some(predictions) = by_bin.get_mut(column.name.as_str()) else { continue };
        let bins = bins(predictions, array)?;
        for &(row, number) in &rows {
            if let Some(bin) = bins[row] {
                predictions.add(bin, number);
            }
        }
    }
    Ok(rows.len())
}

/// The bin of every row.
fn bins(predictions: &PredictionByBin<'_>, array: &ArrayRef) -> Result<Vec<Option<usize>>> {
    let missing = predictions.bin_of(&BinKind::Missing);
    let bin_of_flag = |flag: bool| predictions.bin_of_name(flag_name(flag));
    Ok(match array.data_type() {
        DataType::Dictionary(..) => {
            let array = array.as_dictionary::<Int32Type>();
            let names = array.values().as_string::<i32>();
            let of_names: Vec<_> =
                names.iter().map(|name| name.map_or(missing, |name| predictions.bin_of_name(name))).collect();
            array.keys().iter().map(|key| key.map_or(missing, |key| of_names[key as usize])).collect()
        }
        DataType::Boolean => array.as_boolean().iter().map(|flag| flag.map_or(missing, bin_of_flag)).collect(),
        DataType::Timestamp(..) => {
            let present = predictions.bin_of(&BinKind::Present);
            (0..array.len()).map(|row| if array.is_valid(row) { present } else { missing }).collect()
        }
        _ => {
            let numbers = floats(array)?;
            let numbers = numbers.as_primitive::<Float64Type>().iter();
            numbers.map(|number| number.map_or(missing, |number| predictions.bin_of_number(number))).collect()
        }
    })
}

fn floats(array: &ArrayRef) -> Result<ArrayRef> {
    Ok(compute::cast(array, &DataType::Float64)?)
}
