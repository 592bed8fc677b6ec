use std::collections::BTreeMap;

use rekindle_statistics::{
    blocks::Variations,
    cause,
    convention::{Convention, Scores},
    drift::{self, ColumnDrift, Settings, Suspicion, Verdict},
};

use crate::{DataSource, Error, PredictionShifts, list_names, statistics};

/// Column names in an error message.
pub(crate) const NAMES: usize = 30;

/// How two sources are compared.
#[derive(Debug, Clone, Copy, PartialEq, Default)]
pub struct Options {
    /// How the verdicts are reached.
    pub settings: Settings,
    /// Whose binning and normalisation the statistics beside the verdicts use. Profiles have to be made with
    /// [`profile_buckets`](crate::profile_buckets) of it for these statistics to be exact.
    pub convention: Convention,
}

/// How the shift is attributed to the drifted columns.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub(crate) enum Attribution {
    /// By the effects of the columns.
    #[default]
    Effect,
    /// By the effects of the columns, each weighted by the importance of the column for a model.
    Importance,
    /// By how far the shift of each column alone moves the mean prediction.
    Prediction,
}

/// A comparison of current data with reference data, ready to be rendered.
#[derive(Debug, Clone)]
pub struct DriftReport {
    pub(crate) reference: DataSource,
    pub(crate) current: DataSource,
    pub(crate) comparison: drift::Report,
    pub(crate) options: Options,
    /// The statistics of each column of the comparison, by the convention.
    pub(crate) statistics: Vec<Scores>,
    pub(crate) attribution: Attribution,
    /// The column that a model predicts, which is no cause.
    pub(crate) target: Option<String>,
    pub(crate) notes: Vec<String>,
}

impl DriftReport {
    /// Compares two sources. The shift is attributed to columns by the effect of each.
    ///
    /// # Errors
    /// [`Error::Comparison`]: the settings are out of range.
    pub fn compare(reference: DataSource, current: DataSource, options: Options) -> Result<Self, Error> {
        Self::compare_in_blocks(reference, current, &Variations::new(), options)
    }

    /// As [`compare`](Self::compare), beside the differences between the blocks of the reference, for the columns of which they are given.
    ///
    /// # Errors
    /// [`Error::Comparison`]: the settings are out of range.
    pub fn compare_in_blocks(
        mut reference: DataSource,
        mut current: DataSource,
        variations: &Variations,
        options: Options,
    ) -> Result<Self, Error> {
        let conventional = statistics::by_convention(options.convention, &reference.profile, &current.profile);
        if conventional.is_some() {
            // Larger profiles would make the verdict depend on the convention.
            reference.profile = statistics::of_default_size(reference.profile);
            current.profile = statistics::of_default_size(current.profile);
        }
        let comparison = drift::compare_in_blocks(&reference.profile, &current.profile, variations, &options.settings)?;
        let mut report = Self::from_comparison(comparison, reference, current, options.settings)?;
        if let Some((statistics, notes)) = conventional {
            report.options.convention = options.convention;
            report.statistics = statistics;
            report.notes.extend(notes);
        }
        Ok(report)
    }

    /// A report of a comparison that is already computed, with `settings`, from the profiles of the two sources.
    ///
    /// # Errors
    /// [`Error::ColumnMismatch`]: the columns of the comparison are not those of the reference profile.
    pub fn from_comparison(
        mut comparison: drift::Report,
        reference: DataSource,
        current: DataSource,
        settings: Settings,
    ) -> Result<Self, Error> {
        check_columns(&comparison, &reference)?;
        comparison.new_columns = new_columns(comparison.new_columns, &reference, &current);
        explain_unsupported(&mut comparison.columns, &current);
        let notes = reference.notes.iter().chain(&current.notes).cloned().collect();
        Ok(Self {
            statistics: comparison.columns.iter().map(statistics::of_verdict).collect(),
            reference,
            current,
            comparison,
            options: Options { settings, convention: Convention::Rekindle },
            attribution: Attribution::Effect,
            target: None,
            notes,
        })
    }

    /// Names the column that a model predicts. It is compared, but has no share of the shift: it is a consequence of the others, not a
    /// cause. The shift is attributed by effect again.
    ///
    /// # Errors
    /// [`Error::UnknownColumn`].
    pub fn set_target(&mut self, name: &str) -> Result<(), Error> {
        self.check_column(name)?;
        cause::share_out(&mut self.comparison.columns, |column| if column == name { 0.0 } else { 1.0 });
        self.attribution = Attribution::Effect;
        self.target = Some(name.to_owned());
        Ok(())
    }

    /// Attributes the shift by effect times importance. Columns without an importance have 0.
    ///
    /// # Errors
    /// [`Error::UnknownColumn`], or [`Error::Importance`] for a negative one.
    pub fn attribute_by_importance(&mut self, importances: &BTreeMap<String, f64>) -> Result<(), Error> {
        for (name, importance) in importances {
            self.check_column(name)?;
            if !importance.is_finite() || *importance < 0.0 {
                return Err(Error::Importance { name: name.clone(), importance: *importance });
            }
        }
        let target = self.target.as_deref();
        let importance = |name: &str| importances.get(name).copied().filter(|_| target != Some(name));
        cause::share_out(&mut self.comparison.columns, |name| importance(name).unwrap_or(0.0));
        self.attribution = Attribution::Importance;
        Ok(())
    }

    /// Attributes the shift by how far each column moves the mean prediction, as a [`PredictionScan`](crate::PredictionScan) of
    /// this report has found. Adds a note for every column for which that is unknown.
    pub fn attribute_by_prediction(&mut self, mut shifts: PredictionShifts) {
        for (column, moved) in self.comparison.columns.iter().zip(&mut shifts.by_column) {
            *moved = if self.is_target(column) { 0.0 } else { *moved };
        }
        cause::share_out_moves(&mut self.comparison.columns, &shifts.by_column);
        self.attribution = Attribution::Prediction;
        self.notes.extend(shifts.undetermined.into_iter().map(|name| {
            format!("{name:?} has too many different values: its influence on the prediction is not computed")
        }));
    }

    /// The verdict over all columns.
    pub fn verdict(&self) -> Verdict {
        self.comparison.verdict
    }

    /// The comparison: verdicts by column and what they are based on.
    pub fn comparison(&self) -> &drift::Report {
        &self.comparison
    }

    /// Notes on the data and the numbers, in sentences. Text from the data is not escaped.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    /// The columns by descending share of the shift; among equals drifted ones first, then inconclusive ones.
    pub(crate) fn columns_by_share(&self) -> Vec<&ColumnDrift> {
        let rank = |column: &ColumnDrift| match column.verdict {
            Verdict::Drifted => 0,
            Verdict::Inconclusive => 1,
            Verdict::Stable => 2,
        };
        let mut ordered: Vec<&ColumnDrift> = self.comparison.columns.iter().collect();
        ordered.sort_by(|a, b| b.cause_share.total_cmp(&a.cause_share).then_with(|| rank(a).cmp(&rank(b))));
        ordered
    }

    pub(crate) fn is_target(&self, column: &ColumnDrift) -> bool {
        self.target.as_ref() == Some(&column.name)
    }

    /// Why a drifted column has no share of the shift, in a few words; `None` if it is a cause.
    pub(crate) fn not_counted(&self, column: &ColumnDrift) -> Option<&'static str> {
        match column.suspicion {
            _ if column.verdict != Verdict::Drifted => None,
            _ if self.is_target(column) => Some("the target"),
            Some(Suspicion::RunningNumber) => Some("a running number"),
            Some(Suspicion::Identifier) => Some("an identifier"),
            _ => None,
        }
    }

    fn check_column(&self, name: &str) -> Result<(), Error> {
        if self.reference.profile.column(name).is_some() {
            return Ok(());
        }
        let columns = self.reference.profile.columns.iter().map(|column| column.name.as_str());
        Err(Error::UnknownColumn { name: name.to_owned(), columns: list_names(columns, NAMES) })
    }
}

fn check_columns(comparison: &drift::Report, reference: &DataSource) -> Result<(), Error> {
    let found: Vec<&str> = comparison.columns.iter().map(|column| column.name.as_str()).collect();
    let expected: Vec<&str> = reference.profile.columns.iter().map(|column| column.name.as_str()).collect();
    let differs = |position: &usize| found.get(*position) != expected.get(*position);
    match (0..found.len().max(expected.len())).find(differs) {
        None => Ok(()),
        Some(position) => {
            let name = |names: &[&str]| names.get(position).map(|name| (*name).to_owned());
            Err(Error::ColumnMismatch { position, found: name(&found), expected: name(&expected) })
        }
    }
}

/// The columns that only the current data have. A column that the reference has, but skips, is not new.
fn new_columns(profiled: Vec<String>, reference: &DataSource, current: &DataSource) -> Vec<String> {
    let unprofiled = current.not_in_reference().map(str::to_owned);
    profiled.into_iter().chain(unprofiled).filter(|name| !reference.has(name)).collect()
}

/// A column that arrives as an unsupported type is not an absent column.
fn explain_unsupported(columns: &mut [ColumnDrift], current: &DataSource) {
    for skipped in current.unsupported() {
        let column = columns.iter_mut().find(|column| column.name == skipped.name);
        column.into_iter().for_each(|column| column.reason = skipped.reason.to_string());
    }
}
