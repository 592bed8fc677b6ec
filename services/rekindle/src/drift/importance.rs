use std::{collections::BTreeMap, fs, path::Path, str::FromStr};

use anyhow::{Context as _, Result, bail, ensure};
/// The value of `--importance`: finite, non-negative feature importances by column.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Importance(BTreeMap<String, f64>);

impl FromStr for Importance {
    type Err = anyhow::Error;

    /// `NAME=WEIGHT,..`, or the path of a file: a JSON object of numbers, or CSV with a header and two columns.
    fn from_str(text: &str) -> Result<Self> {
        let weights = match text.contains('=') && !Path::new(text).exists() {
            true => pairs(text.split(','), '=')?,
            false => of_file(text)?,
        };
        match weights.iter().find(|(_, weight)| !weight.is_finite() || **weight < 0.0) {
            Some((name, weight)) => bail!("the weight of {name:?} is {weight}; expected a finite number of at least 0"),
            None => Ok(Self(weights)),
        }
    }
}

impl Importance {
    /// The importances by column name.
    pub(super) fn by_column(&self) -> &BTreeMap<String, f64> {
        &self.0
    }
}

fn of_file(path: &str) -> Result<BTreeMap<String, f64>> {
    let text = fs::read_to_string(path)
        .with_context(|| format!("cannot read {path}; expected NAME=WEIGHT,.. or a file of weights"))?;
    if text.trim_start().starts_with('{') {
        return serde_json::from_str(&text).with_context(|| format!("{path} is not a JSON object of numbers"));
    }
    pairs(text.lines().skip(1).filter(|line| !line.trim().is_empty()), ',')
        .with_context(|| format!("{path} is not CSV with a header and the columns name and weight"))
}

fn pairs<'a>(parts: impl Iterator<Item = &'a str>, between: char) -> Result<BTreeMap<String, f64>> {
    let mut weights = BTreeMap::new();
    for part in parts {
        let (name, weight) =
            part.rsplit_once(between).with_context(|| format!("{part:?} is not NAME{between}WEIGHT"))?;
        let weight = weight.trim().parse().with_context(|| format!("{weight:?} is not a number"))?;
        let name = name.trim().trim_matches('"').to_owned();
        ensure!(weights.insert(name, weight).is_none(), "{part:?} repeats a name");
    }
    Ok(weights)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn weights_are_read_from_the_argument_or_a_file() {
        let given = "a=1,b c=0.5".parse::<Importance>().expect("weights");
        assert_eq!(given.0, BTreeMap::from([("a".to_owned(), 1.0), ("b c".to_owned(), 0.5)]));
        let folder = tempfile::tempdir().expect("a folder");
        for (name, text) in [("w.json", "{\"a\": 1, \"b c\": 0.5}"), ("w.csv", "name,weight\na,1\n\"b c\",0.5\n\n")] {
            let path = folder.path().join(name);
            fs::write(&path, text).expect("a file");
            assert_eq!(path.to_str().expect("a name").parse::<Importance>().expect("weights"), given);
        }
        for wrong in ["a=-1", "a=x", "a=1,a=2", "a=1,b", "no/such/file", "a=nan"] {
            assert!(wrong.parse::<Importance>().is_err(), "{wrong}");
        }
    }
}
