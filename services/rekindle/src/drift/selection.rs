use std::collections::BTreeMap;

use anyhow::{Result, bail};
use rekindle_dataset::Kind;

use super::{comparison::Source, table::printable};

/// Which columns are looked at, and as what.
#[derive(Debug, Clone, Default, clap::Args)]
pub(crate) struct Selection {
    /// Look at these columns alone
    #[arg(long, value_name = "COL,..", value_delimiter = ',')]
    columns: Vec<String>,
    /// Leave these columns out
    #[arg(long, value_name = "COL,..", value_delimiter = ',')]
    ignore: Vec<String>,
    /// Take the values of these columns for names, even if they are numbers
    #[arg(long, value_name = "COL,..", value_delimiter = ',')]
    categorical: Vec<String>,
}

impl Selection {
    /// Whether every column is looked at in its own kind.
    pub(super) fn is_all(&self) -> bool {
        self.columns.is_empty() && self.ignore.is_empty() && self.categorical.is_empty()
    }

    /// Whether a column is looked at.
    pub(super) fn takes(&self, name: &str) -> bool {
        let named = |names: &[String]| names.iter().any(|one| one == name);
        (self.columns.is_empty() || named(&self.columns)) && !named(&self.ignore)
    }

    /// The kinds of the columns that are looked at, of those that `source` has.
    ///
    /// # Errors
    /// A column asked for that is not there; none left.
    pub(super) fn kinds(&self, own: &BTreeMap<String, Kind>, source: &str) -> Result<BTreeMap<String, Kind>> {
        for (option, name) in self.wanted() {
            if !own.contains_key(name) {
                bail!("{option}: {source} has no column {name:?} that can be compared; it has {}", listed(own.keys()));
            }
        }
        let mut kinds = own.clone();
        kinds.retain(|name, _| self.takes(name));
        if kinds.is_empty() && !own.is_empty() {
            bail!("no column of {source} is left to compare; it has {}", listed(own.keys()));
        }
        kinds
            .iter_mut()
            .filter(|(name, _)| self.categorical.contains(name))
            .for_each(|(_, kind)| *kind = Kind::Categorical);
        Ok(kinds)
    }

    /// Refuses to leave out what is in neither source: it is probably misspelt.
    pub(super) fn check_ignored(&self, reference: &Source, new: &[String]) -> Result<()> {
        let known = |name: &String| {
            new.contains(name)
                || reference.profile.column(name).is_some()
                || reference.skipped.iter().any(|skipped| skipped.name == *name)
        };
        match self.ignore.iter().find(|name| !known(name)) {
            None => Ok(()),
            Some(name) => {
                let columns = reference.profile.columns.iter().map(|column| &column.name);
                bail!("--ignore: there is no column {name:?}; {} has {}", reference.name, listed(columns))
            }
        }
    }

    /// The new columns that anyone asked for.
    pub(super) fn of_new(&self, mut new: Vec<String>) -> Vec<String> {
        new.retain(|name| self.takes(name));
        new
    }

    fn wanted(&self) -> impl Iterator<Item = (&'static str, &String)> {
        let columns = self.columns.iter().map(|name| ("--columns", name));
        columns.chain(self.categorical.iter().map(|name| ("--categorical", name)))
    }
}

/// Names for an error message, as many as one reads.
pub(super) fn listed<'a>(names: impl Iterator<Item = &'a String>) -> String {
    const MOST: usize = 30;
    let names: Vec<String> = names.map(|name| printable(name)).collect();
    match names.len() {
        0 => "none".to_owned(),
        all if all > MOST => format!("{} and {} more", names[..MOST].join(", "), all - MOST),
        _ => names.join(", "),
    }
}
