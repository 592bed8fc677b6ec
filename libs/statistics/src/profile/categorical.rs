use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};
use twox_hash::XxHash3_64;

use super::Numeric;
use crate::sketch::{Distinct, Frequent, PrefixCounts, aligned};

/// The largest number of distinct values of a categorical column that are counted by value.
pub const CATEGORIES: usize = 4096;

/// The hash by which values are counted.
pub(crate) fn hash_of(text: &str) -> u64 {
    XxHash3_64::oneshot(text.as_bytes())
}

/// Bytes of a value that are kept as its name. Longer values are still distinguished by all of their bytes.
pub(crate) const NAME_BYTES: usize = 256;

/// The profile of a column of categories or text.
///
/// Up to [`CATEGORIES`] distinct values are counted by name. With more, values are counted in groups by a hash of the value, so that two
/// profiles have the same groups; the number of distinct values is then an estimate, the most frequent values are kept by name, and the
/// text lengths have a numeric profile.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Stored", into = "Stored")]
pub struct Categorical {
    missing: u64,
    unreadable: u64,
    values: Values,
}

/// The values that are neither missing nor unreadable.
#[derive(Debug, Clone, PartialEq)]
enum Values {
    /// By hash of the value.
    Few(BTreeMap<u64, Value>),
    /// More than are counted by value.
    Many(Box<Many>),
}

#[derive(Debug, Clone, PartialEq)]
struct Value {
    /// Cut to [`NAME_BYTES`].
    name: String,
    /// In characters, uncut.
    length: u32,
    rows: u64,
}

#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Many {
    groups: PrefixCounts,
    distinct: Distinct,
    frequent: Frequent,
    lengths: Numeric,
}

/// A value, or a group of values, of one or two profiles.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Group<R> {
    /// The value; `None` of a group.
    pub(crate) name: Option<String>,
    /// Rows.
    pub(crate) rows: R,
}

impl Categorical {
    /// Without rows.
    pub fn new() -> Self {
        Self { missing: 0, unreadable: 0, values: Values::Few(BTreeMap::new()) }
    }

    /// Counts `rows` rows with one value; `None` is a missing value.
    pub fn add(&mut self, text: Option<&str>, rows: u64) {
        let Some(text) = text else {
            self.missing += rows;
            return;
        };
        if rows > 0 {
            let hash = hash_of(text);
            match &mut self.values {
                Values::Few(few) => few.entry(hash).or_insert_with(|| Value::of(text)).rows += rows,
                Values::Many(many) => many.add(hash, &Value { rows, ..Value::of(text) }),
            }
            self.count_in_groups_if_many();
        }
    }

    /// Counts rows with a value that is not of the kind of the column.
    pub fn add_unreadable(&mut self, rows: u64) {
        self.unreadable += rows;
    }

    /// Frees the space for further values, for a profile that is complete. Values can still be added.
    pub fn compact(&mut self) {
        if let Values::Many(many) = &mut self.values {
            many.groups.compact();
            many.lengths.compact();
        }
    }

    /// Adds the rows of another part.
    pub fn merge(&mut self, other: &Self) {
        self.missing += other.missing;
        self.unreadable += other.unreadable;
        match (&mut self.values, &other.values) {
            (Values::Few(mine), Values::Few(theirs)) => {
                for (&hash, value) in theirs {
                    mine.entry(hash).or_insert_with(|| Value { rows: 0, ..value.clone() }).rows += value.rows;
                }
            }
            (Values::Many(mine), Values::Few(theirs)) => mine.add_all(theirs),
            (Values::Few(mine), Values::Many(theirs)) => {
                let mut many = theirs.clone();
                many.add_all(mine);
                self.values = Values::Many(many);
            }
            (Values::Many(mine), Values::Many(theirs)) => mine.merge(theirs),
        }
        self.count_in_groups_if_many();
    }

    /// Rows without a value.
    pub fn missing(&self) -> u64 {
        self.missing
    }

    /// Rows with a value that is not of the kind of the column.
    pub fn unreadable(&self) -> u64 {
        self.unreadable
    }

    /// Whether every distinct value has a count of its own.
    pub fn is_exact(&self) -> bool {
        matches!(self.values, Values::Few(_))
    }

    /// The number of distinct values, and its bounds; all three are equal while the profile is exact.
    pub fn distinct(&self) -> (f64, (f64, f64)) {
        match &self.values {
            Values::Few(few) => (few.len() as f64, (few.len() as f64, few.len() as f64)),
            Values::Many(many) => (many.distinct.estimate(), many.distinct.bounds()),
        }
    }

    /// A lower bound of the share of the distinct values of `other` that this column has; `None` if both are exact, so that values can be
    /// compared one by one, and without values.
    pub(crate) fn common_share(&self, other: &Self) -> Option<f64> {
        let sketches = (!self.is_exact() || !other.is_exact()).then(|| (self.sketch(), other.sketch()));
        let shares = sketches.map(|(mine, theirs)| mine.common_at_least(&theirs) / theirs.estimate());
        shares.filter(|share| share.is_finite())
    }

    fn sketch(&self) -> Distinct {
        match &self.values {
            Values::Many(many) => many.distinct.clone(),
            Values::Few(few) => {
                let mut distinct = Distinct::new();
                few.keys().for_each(|&hash| distinct.add(hash));
                distinct
            }
        }
    }

    /// The most frequent values, at most `limit`, in descending order. If the profile is not exact, only values that are certain to be
    /// among them, each with a lower bound of its rows.
    pub fn top(&self, limit: usize) -> Vec<(String, u64)> {
        match &self.values {
            Values::Many(many) => many.frequent.top(limit),
            Values::Few(few) => {
                let mut top: Vec<_> = few.values().map(|value| (value.name.clone(), value.rows)).collect();
                top.sort_unstable_by(|a, b| b.1.cmp(&a.1).then_with(|| a.0.cmp(&b.0)));
                top.truncate(limit);
                top
            }
        }
    }

    /// The rows of each value by its hash; `None` if there are too many values.
    pub(crate) fn by_hash(&self) -> Option<impl Iterator<Item = (u64, u64)>> {
        match &self.values {
            Values::Few(few) => Some(few.iter().map(|(&hash, value)| (hash, value.rows))),
            Values::Many(_) => None,
        }
    }

    /// Whether a value is among the values that are counted one by one.
    pub(crate) fn has(&self, hash: u64) -> bool {
        matches!(&self.values, Values::Few(few) if few.contains_key(&hash))
    }

    /// The text lengths in characters, if there are too many distinct texts for a comparison by value.
    pub fn lengths(&self) -> Option<&Numeric> {
        match &self.values {
            Values::Few(_) => None,
            Values::Many(many) => Some(&many.lengths),
        }
    }

    /// The values, or groups of values, of two profiles with the rows of each, in the order of their hashes, which is symmetric in the two
    /// profiles.
    pub(crate) fn aligned(&self, other: &Self) -> Vec<Group<(u64, u64)>> {
        match (&self.values, &other.values) {
            (Values::Few(mine), Values::Few(theirs)) => {
                let mut both: BTreeMap<u64, Group<(u64, u64)>> = BTreeMap::new();
                let mut count = |hash: u64, value: &Value, rows: (u64, u64)| {
                    let empty = || Group { name: Some(value.name.clone()), rows: (0, 0) };
                    let sum = &mut both.entry(hash).or_insert_with(empty).rows;
                    *sum = (sum.0 + rows.0, sum.1 + rows.1);
                };
                mine.iter().for_each(|(&hash, value)| count(hash, value, (value.rows, 0)));
                theirs.iter().for_each(|(&hash, value)| count(hash, value, (0, value.rows)));
                both.into_values().collect()
            }
            (mine, theirs) => {
                let pairs = aligned(&mine.groups(), &theirs.groups());
                pairs.into_iter().map(|(_, rows)| Group { name: None, rows }).collect()
            }
        }
    }

    pub(super) fn checked_rows(&self) -> Option<u64> {
        let rows = match &self.values {
            Values::Few(few) => few.values().try_fold(0_u64, |sum, value| sum.checked_add(value.rows))?,
            Values::Many(many) => many.groups.rows(),
        };
        rows.checked_add(self.missing)?.checked_add(self.unreadable)
    }

    fn count_in_groups_if_many(&mut self) {
        if let Values::Few(few) = &self.values
            && few.len() > CATEGORIES
        {
            let mut many = Many::new();
            many.add_all(few);
            self.values = Values::Many(Box::new(many));
        }
    }
}

impl Default for Categorical {
    fn default() -> Self {
        Self::new()
    }
}

impl Values {
    fn groups(&self) -> PrefixCounts {
        match self {
            Self::Few(few) => groups(few),
            Self::Many(many) => many.groups.clone(),
        }
    }
}

fn groups(few: &BTreeMap<u64, Value>) -> PrefixCounts {
    let mut groups = PrefixCounts::new(CATEGORIES);
    few.iter().for_each(|(&hash, value)| groups.add(hash, value.rows));
    groups
}

impl Value {
    /// A value without rows.
    fn of(text: &str) -> Self {
        let name = text[..text.floor_char_boundary(NAME_BYTES)].to_owned();
        Self { name, length: u32::try_from(text.chars().count()).unwrap_or(u32::MAX), rows: 0 }
    }
}

impl Many {
    fn new() -> Self {
        Self {
            groups: PrefixCounts::new(CATEGORIES),
            distinct: Distinct::new(),
            frequent: Frequent::new(),
            lengths: Numeric::new(),
        }
    }

    fn add(&mut self, hash: u64, value: &Value) {
        self.groups.add(hash, value.rows);
        self.distinct.add(hash);
        self.frequent.add(&value.name, value.rows);
        self.lengths.add_rows(f64::from(value.length), value.rows);
    }

    fn add_all(&mut self, few: &BTreeMap<u64, Value>) {
        few.iter().for_each(|(&hash, value)| self.add(hash, value));
    }

    fn merge(&mut self, other: &Self) {
        self.groups.merge(&other.groups);
        self.distinct.merge(&other.distinct);
        self.frequent.merge(&other.frequent);
        self.lengths.merge(&other.lengths);
    }
}

/// Name and rows; where the name was cut, the hash (in hexadecimal, as JSON readers may round integers) and the length.
type StoredValue = (String, u64, Option<(String, u32)>);

/// The stored fields, which are validated on reading.
#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Stored {
    missing: u64,
    #[serde(default, skip_serializing_if = "super::is_zero")]
    unreadable: u64,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    values: Option<Vec<StoredValue>>,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    many: Option<Box<Many>>,
}

impl From<Categorical> for Stored {
    fn from(categorical: Categorical) -> Self {
        let Categorical { missing, unreadable, values } = categorical;
        let (values, many) = match values {
            Values::Many(many) => (None, Some(many)),
            Values::Few(few) => (Some(few.into_iter().map(stored_value).collect()), None),
        };
        Self { missing, unreadable, values, many }
    }
}

fn stored_value((hash, value): (u64, Value)) -> StoredValue {
    let cut = hash_of(&value.name) != hash;
    (value.name, value.rows, cut.then(|| (format!("{hash:016x}"), value.length)))
}

impl TryFrom<Stored> for Categorical {
    type Error = &'static str;

    fn try_from(stored: Stored) -> Result<Self, Self::Error> {
        let values = match (stored.values, stored.many) {
            (Some(values), None) => Values::Few(few(values)?),
            (None, Some(many)) => {
                let texts = many.lengths.finite();
                let rows = [many.groups.rows(), many.frequent.rows()];
                if rows != [texts; 2] || many.lengths.checked_rows() != Some(texts) {
                    return Err("the groups, the frequent texts and the lengths are inconsistent");
                }
                Values::Many(many)
            }
            _ => return Err("expected either values or groups"),
        };
        Ok(Self { missing: stored.missing, unreadable: stored.unreadable, values })
    }
}

fn few(values: Vec<StoredValue>) -> Result<BTreeMap<u64, Value>, &'static str> {
    let rows = values.len();
    let few: BTreeMap<u64, Value> = values.into_iter().map(value).collect::<Result<_, _>>()?;
    if few.len() != rows || rows > CATEGORIES || few.values().any(|value| value.rows == 0) {
        return Err("a value has no rows or occurs twice, or there are too many values");
    }
    Ok(few)
}

fn value((name, rows, cut): StoredValue) -> Result<(u64, Value), &'static str> {
    let whole = Value { rows, ..Value::of(&name) };
    let Some((hash, length)) = cut else { return Ok((hash_of(&name), whole)) };
    let hash = u64::from_str_radix(&hash, 16).map_err(|_| "the hash of a value is not a hexadecimal number")?;
    Ok((hash, Value { length, ..whole }))
}
