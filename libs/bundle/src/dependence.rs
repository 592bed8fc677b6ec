//! The correlations of the features in the reference rows, and in a window.

use rekindle_statistics::{
    blocks::FixedBins,
    correlation::{Column, Compared, Correlations, MOST_COLUMNS, MOST_VALUES, in_byte},
    profile::{ColumnProfile, flag_name},
};

use crate::{Error, column::Cells, manifest::PROFILE, reference::FeatureProfile};

/// The correlations of the first features in `rows` reference rows. `times` are theirs, in milliseconds.
pub(crate) fn of_reference(
    features: &[(&FeatureProfile, Cells<'_>)],
    rows: usize,
    times: Option<&[i64]>,
) -> Option<Correlations> {
    let column = |(feature, cells): &(&FeatureProfile, Cells<'_>)| {
        let bins = FixedBins::of(&feature.profile)?;
        let values = match &feature.profile {
            // With one flag, the other is known.
            ColumnProfile::Boolean(_) => vec![(flag_name(true).to_owned(), bins.of_flag(Some(true)))],
            ColumnProfile::Categorical(values) => {
                let most = values.top(MOST_VALUES).into_iter();
                most.map(|(value, _)| (value.clone(), bins.of_text(Some(&value)))).collect()
            }
            ColumnProfile::Numeric(_) | ColumnProfile::Timestamp(_) => Vec::new(),
        };
        Some(Column { name: feature.name.clone(), values, rows: binned(cells, &bins, 0..cells.rows()), bins })
    };
    Correlations::of(features.iter().filter_map(column).take(MOST_COLUMNS).collect(), rows, times)
}

/// Compares the correlations of the features in some rows of a window with those of the reference. `feature` returns the values of a feature that
/// is to be compared. `length` is that of the window, in milliseconds, and `level` the probability of any false change.
///
/// # Errors
/// A level outside (0, 1).
pub fn compare<'a>(
    reference: &Correlations,
    feature: impl Fn(&str) -> Option<Cells<'a>>,
    rows: &[usize],
    (length, level): (i64, f64),
) -> Result<Compared, Error> {
    let binned = reference.columns().map(|(name, bins)| Some(binned(&feature(name)?, bins, rows.iter().copied())));
    let binned: Vec<Option<Vec<u8>>> = binned.collect();
    reference.compare(&binned, length, level).map_err(|error| Error::invalid(PROFILE, error))
}

fn binned(cells: &Cells<'_>, bins: &FixedBins, rows: impl Iterator<Item = usize>) -> Vec<u8> {
    rows.map(|row| in_byte(cells.bin(bins, row))).collect()
}
