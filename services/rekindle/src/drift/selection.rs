use std::collections::BTreeMap;

use anyhow::{Result, bail};
use rekindle_domain::ColumnKind;
use rekindle_drift_report::{DataSource, SkipReason, list_names};

/// Column names in an error message.
const NAMES: usize = 30;

/// The columns to compare, and their kinds.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Selection {
    /// Use only these columns
    #[arg(long, value_name = "COL,..", value_delimiter = ',')]
    columns: Vec<String>,
    /// Exclude these columns
    #[arg(long, value_name = "COL,..", value_delimiter = ',')]
    ignore: Vec<String>,
    /// Treat these columns as categorical, even if their values are numbers
    #[arg(long, value_name = "COL,..", value_delimiter = ',')]
    categorical: Vec<String>,
}

impl Selection {
    /// Whether every column is compared in its own kind.
    pub(super) fn is_all(&self) -> bool {
        self.columns.is_empty() && self.ignore.is_empty() && self.categorical.is_empty()
    }

    /// Whether a column is compared.
    pub(super) fn takes(&self, name: &str) -> bool {
        let named = |names: &[String]| names.iter().any(|one| one == name);
        (self.columns.is_empty() || named(&self.columns)) && !named(&self.ignore)
    }

    /// The kinds of the columns to compare, out of the columns `own` of `source`.
    ///
    /// # Errors
    /// A column of an option does not exist, or no column is left.
    pub(super) fn kinds(
        &self,
        own: &BTreeMap<String, ColumnKind>,
        source: &str,
    ) -> Result<BTreeMap<String, ColumnKind>> {
        for (option, name) in self.named() {
            if !own.contains_key(name) {
                bail!(
                    "{option}: {source} has no column {name:?} of a supported type; its columns are: {}",
                    listed(own.keys())
                );
            }
        }
        let mut kinds = own.clone();
        kinds.retain(|name, _| self.takes(name));
        if kinds.is_empty() && !own.is_empty() {
            bail!("no column of {source} is left to compare; its columns are: {}", listed(own.keys()));
        }
        kinds
            .iter_mut()
            .filter(|(name, _)| self.categorical.contains(name))
            .for_each(|(_, kind)| *kind = ColumnKind::Categorical);
        Ok(kinds)
    }

    /// Checks that every ignored column exists in one of the sources.
    ///
    /// # Errors
    /// A column exists in neither; it is probably misspelt.
    pub(super) fn check_ignored(&self, reference: &DataSource, current: &DataSource) -> Result<()> {
        let known = |name: &String| {
            reference.profile.column(name).is_some()
                || reference.skipped.iter().chain(&current.skipped).any(|skipped| skipped.name == *name)
        };
        match self.ignore.iter().find(|name| !known(name)) {
            None => Ok(()),
            Some(name) => {
                let columns = reference.profile.columns.iter().map(|column| &column.name);
                bail!(
                    "--ignore: no column {name:?} in either source; the columns of {} are: {}",
                    reference.name,
                    listed(columns)
                )
            }
        }
    }

    /// Removes the new columns that are not to be compared.
    pub(super) fn retain_new(&self, current: &mut DataSource) {
        current.skipped.retain(|column| column.reason != SkipReason::NotInReference || self.takes(&column.name));
    }

    fn named(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let columns = self.columns.iter().map(|name| ("--columns", name));
        columns.chain(self.categorical.iter().map(|name| ("--categorical", name)))
    }
}

fn listed<'a>(names: impl Iterator<Item = &'a String>) -> String {
    list_names(names.map(String::as_str), NAMES)
}
