//! Attribution of a shift to columns.

use std::collections::BTreeMap;

use crate::{
    drift::{Bin, BinKind, ColumnDrift, Suspicion, Verdict},
    profile::NAME_BYTES,
};

/// Sets the share of each drifted column: its weighted effect over the sum of the weighted effects of all drifted columns. The weight is
/// 1, or the importance of the column for a model. Differences of other columns are chance or do not matter, so their share is 0; so is
/// that of running numbers and identifiers, which no model uses.
///
/// Weights that are negative or not finite count as 0. If no weighted effect is above 0, every share is 0.
pub fn share_out(columns: &mut [ColumnDrift], weight: impl Fn(&str) -> f64) {
    let weighted = |column: &ColumnDrift| {
        column.effect * Some(weight(&column.name)).filter(|w| w.is_finite()).unwrap_or(0.0).max(0.0)
    };
    let parts: Vec<f64> = columns.iter().map(weighted).collect();
    share_out_parts(columns, &parts);
}

/// Sets the share of each drifted column by how far its shift alone moves the mean prediction. `moved` is
/// [`PredictionByBin::moved`] of every column, in the order of the columns. If no column moves the prediction, every share is 0.
pub fn share_out_moves(columns: &mut [ColumnDrift], moved: &[f64]) {
    share_out_parts(columns, moved);
}

fn share_out_parts(columns: &mut [ColumnDrift], parts: &[f64]) {
    let of_cause = |column: &ColumnDrift, part: f64| if is_cause(column) { part } else { 0.0 };
    let sum: f64 = columns.iter().zip(parts).map(|(column, part)| of_cause(column, *part)).sum();
    for (index, column) in columns.iter_mut().enumerate() {
        let part = of_cause(column, parts.get(index).copied().unwrap_or(0.0));
        column.cause_share = if sum > 0.0 && sum.is_finite() { part / sum } else { 0.0 };
    }
}

/// Whether the column has drifted and may be a feature of a model.
fn is_cause(column: &ColumnDrift) -> bool {
    let is_feature = !matches!(column.suspicion, Some(Suspicion::RunningNumber | Suspicion::Identifier));
    column.verdict == Verdict::Drifted && is_feature
}

/// The predictions on the reference data by the bins of one column. They estimate how a shift of that column alone changes the
/// predictions, if the predictions within a bin stay the same.
#[derive(Debug, Clone)]
pub struct PredictionByBin<'a> {
    column: &'a ColumnDrift,
    /// The largest number of each interval and its bin, ascending.
    intervals: Vec<(f64, usize)>,
    /// Categories and their bins.
    names: BTreeMap<&'a str, usize>,
    /// Whether the stored names, which are cut to a maximum length, are distinct.
    has_names_apart: bool,
    /// Mean and rows of each bin.
    predictions: Vec<(f64, u64)>,
}

impl<'a> PredictionByBin<'a> {
    /// Without rows.
    pub fn new(column: &'a ColumnDrift) -> Self {
        let (mut intervals, mut names, mut has_names_apart) = (Vec::new(), BTreeMap::new(), true);
        for (index, bin) in column.bins.iter().enumerate() {
            match &bin.kind {
                BinKind::Interval { high, .. } => intervals.push((*high, index)),
                BinKind::Category { name } => has_names_apart &= names.insert(name.as_str(), index).is_none(),
                _ => {}
            }
        }
        intervals.sort_by(|a, b| a.0.total_cmp(&b.0));
        Self { column, intervals, names, has_names_apart, predictions: vec![(0.0, 0); column.bins.len()] }
    }

    /// Whether a value determines its bin. It does not if categories are counted in groups, or if cut names are equal.
    pub fn identifies_bins(&self) -> bool {
        self.has_names_apart && !self.column.bins.iter().any(|bin| matches!(bin.kind, BinKind::Group { .. }))
    }

    /// The bin of a number of the reference; `None` if there is none.
    pub fn bin_of_number(&self, value: f64) -> Option<usize> {
        if !value.is_finite() {
            return self.bin_of(&BinKind::NonFinite);
        }
        let at = self.intervals.partition_point(|(high, _)| *high < value);
        self.intervals.get(at).map(|(_, index)| *index)
    }

    /// The bin of a category; `None` if there is none.
    pub fn bin_of_name(&self, name: &str) -> Option<usize> {
        self.names.get(&name[..name.floor_char_boundary(NAME_BYTES)]).copied()
    }

    /// The bin of a kind, such as that of missing values.
    pub fn bin_of(&self, kind: &BinKind) -> Option<usize> {
        self.column.bins.iter().position(|bin| bin.kind == *kind)
    }

    /// Adds the finite prediction of a row to a bin.
    pub fn add(&mut self, bin: usize, prediction: f64) {
        if let Some((mean, rows)) = self.predictions.get_mut(bin) {
            *rows += 1;
            *mean += (prediction - *mean) / *rows as f64;
        }
    }

    /// How far the mean prediction moves if this column alone is distributed as in the window: `|sum_k (c_k - r_k) m_k|` over the
    /// shares of both sides and the mean prediction on the reference in each bin. Values below or above the range of the reference
    /// are assumed to have the mean prediction of the nearest bin, and other values without reference rows the overall mean.
    pub fn moved(&self) -> f64 {
        let (reference, current) =
            self.column.bins.iter().fold((0, 0), |sum, bin| (sum.0 + bin.reference, sum.1 + bin.current));
        let (n, m) = (reference.max(1) as f64, current.max(1) as f64);
        if reference == 0 || current == 0 {
            return 0.0;
        }
        let rows: u64 = self.predictions.iter().map(|(_, rows)| rows).sum();
        let mean = self.predictions.iter().map(|(mean, part)| mean * (*part as f64 / rows.max(1) as f64)).sum();
        let parts = self.column.bins.iter().enumerate().map(|(index, bin)| {
            (bin.current as f64 / m - bin.reference as f64 / n) * (self.prediction(index, bin).unwrap_or(mean) - mean)
        });
        Some(parts.sum::<f64>().abs()).filter(|moved| moved.is_finite()).unwrap_or(0.0)
    }

    /// The mean prediction in a bin, or in the nearest bin with an interval.
    fn prediction(&self, index: usize, bin: &Bin) -> Option<f64> {
        let index = match bin.kind {
            BinKind::Below { .. } => self.intervals.first()?.1,
            BinKind::Above { .. } => self.intervals.last()?.1,
            _ => index,
        };
        self.predictions.get(index).filter(|(_, rows)| *rows > 0).map(|(mean, _)| *mean)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{drift::compare_column, profile::ColumnProfile};

    fn drift(reference: &[Option<&str>], current: &[Option<&str>]) -> ColumnDrift {
        let texts = |values: &[Option<&str>]| ColumnProfile::of_texts(values.iter().copied());
        compare_column("x", &texts(reference), &texts(current), 1e-4, 0.1)
    }

    #[test]
    fn a_column_moves_the_prediction_by_the_change_of_its_shares() {
        let column = drift(&[Some("a"), Some("a"), Some("b"), None], &[Some("a"), Some("b"), Some("b"), Some("new")]);
        let mut predictions = PredictionByBin::new(&column);
        for (name, prediction) in [("a", 1.0), ("a", 3.0), ("b", 7.0)] {
            predictions.add(predictions.bin_of_name(name).expect("a bin"), prediction);
        }
        predictions.add(predictions.bin_of(&BinKind::Missing).expect("a bin"), 5.0);
        // Means: a 2, b 7, missing 5, all 4. Shares: a from 1/2 to 1/4, b from 1/4 to 1/2, missing from 1/4 to 0, new 1/4.
        let expected = -0.25 * (2.0 - 4.0) + 0.25 * (7.0 - 4.0) - 0.25 * (5.0 - 4.0);
        assert!((predictions.moved() - expected).abs() < 1e-12, "{}", predictions.moved());
        assert_eq!(predictions.bin_of_name("nowhere"), None);
    }

    #[test]
    fn numbers_out_of_range_have_the_prediction_of_the_nearest_bin() {
        let numbers = |from: u32, to: u32| ColumnProfile::of_numbers((from..to).map(|i| Some(f64::from(i))));
        let column = compare_column("x", &numbers(0, 1000), &numbers(500, 1500), 1e-4, 0.1);
        let mut predictions = PredictionByBin::new(&column);
        for i in 0..1000 {
            let value = f64::from(i);
            predictions.add(predictions.bin_of_number(value).expect("a bin"), value);
        }
        // The upper half from 1/2 to 1/2 of the rows, and the other half at the mean of the last tenth: 949.5.
        assert!((predictions.moved() - (0.5 * 749.5 + 0.5 * 949.5 - 499.5)).abs() < 5.0, "{}", predictions.moved());
        assert_eq!(predictions.bin_of_number(f64::NAN), None);
        let mut columns = [column.clone(), column];
        columns.iter_mut().for_each(|column| column.suspicion = None);
        share_out_moves(&mut columns, &[1.0, 3.0]);
        assert_eq!((columns[0].cause_share, columns[1].cause_share), (0.25, 0.75));
        share_out_moves(&mut columns, &[0.0, 0.0]);
        assert_eq!(columns[0].cause_share, 0.0);
        columns[0].suspicion = Some(Suspicion::RunningNumber);
        share_out(&mut columns, |_| 1.0);
        assert_eq!((columns[0].cause_share, columns[1].cause_share), (0.0, 1.0));
    }
}
