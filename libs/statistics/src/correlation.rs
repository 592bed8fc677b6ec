//! Changes of the correlation between columns: the values of each column may stay as usual while rows get those of other rows, as after a
//! wrong join.

use std::collections::BTreeSet;

use serde::{Deserialize, Serialize};
use statrs::distribution::{ContinuousCDF as _, Normal};

use crate::{Error, association::pearson, blocks::FixedBins, error::check_share, prediction, profile::MAX_ROWS};

/// The correlations of all pairs of variables in blocks of the reference rows.
///
/// A column of numbers is one variable: the normal score of the middle rank of each row's bin. Each frequent value of another column is a
/// variable that is 1 in its rows and 0 in the others. The correlation of two variables is Pearson's, over the rows that have both values.
///
/// The correlation in an hour is another one than that in a week, in which the means of the hours differ, too. So rows with times are
/// divided into blocks of several lengths, and a window is compared with blocks of about its own length.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct Correlations {
    columns: Vec<(String, FixedBins)>,
    variables: Vec<Variable>,
    /// By the length of their blocks.
    scales: Vec<Scale>,
}

/// The correlations in blocks of one length.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Scale {
    /// The length of a block in milliseconds; `None` of rows without times.
    length: Option<i64>,
    /// For each pair of variables of two columns, the first with each later one.
    pairs: Vec<OfPair>,
}

/// The correlations of one pair.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct OfPair {
    /// In each block; blocks in which one variable is constant are left out.
    blocks: Vec<f64>,
    /// The mean number of rows of a block that have both values.
    rows: f64,
}

/// A number for each bin of a column.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct Variable {
    /// The column's index.
    column: usize,
    /// The value that it stands for; `None` of numbers.
    value: Option<String>,
    /// `None` of a bin that stands for a missing value.
    numbers: Vec<Option<f64>>,
}

/// The bin of a row, in one byte: a column has a few dozen.
pub fn in_byte(bin: usize) -> u8 {
    u8::try_from(bin).unwrap_or(u8::MAX)
}

/// A column of the reference: its name, its bins and the bin of each row.
#[derive(Debug, Clone)]
pub struct Column {
    /// The name.
    pub name: String,
    /// The bins.
    pub bins: FixedBins,
    /// The most frequent values with their bins; none of numbers.
    pub values: Vec<(String, usize)>,
    /// The bin of each row.
    pub rows: Vec<u8>,
}

/// A column, or one of its values.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Term {
    /// The column.
    pub column: String,
    /// The value, unless the column has numbers.
    pub value: Option<String>,
}

/// A pair of columns whose correlation is not as in the reference.
#[derive(Debug, Clone, PartialEq)]
pub struct Changed {
    /// Both, with the values whose correlation changed most.
    pub terms: [Term; 2],
    /// The correlation in the window.
    pub correlation: f64,
    /// The mean over the blocks of the reference.
    pub reference: f64,
    /// The interval in which that of a window was expected.
    pub expected: (f64, f64),
}

/// The dependence in a window.
#[derive(Debug, Clone, PartialEq, Default)]
pub struct Compared {
    /// Pairs of columns that were compared.
    pub pairs: u32,
    /// Those that changed, each once, the largest change first.
    pub changed: Vec<Changed>,
}

/// The most columns whose pairs are compared.
pub const MOST_COLUMNS: usize = 20;
/// The most values of a column that are variables.
pub const MOST_VALUES: usize = 4;
/// The most variables.
const MOST_VARIABLES: usize = 24;
/// Blocks of one length, at most and at least, and the fewest and the most rows of one that count.
const MOST_BLOCKS: usize = 20;
const LEAST_BLOCKS: usize = 8;
const LEAST_ROWS: usize = 100;
const MOST_ROWS: usize = 5_000;
/// The lengths of blocks, in hours.
const LENGTHS: [i64; 5] = [1, 6, 24, 7 * 24, 28 * 24];
/// A window is compared with blocks of at most so many times its length, and at least this part of it.
const LENGTH_RATIO: f64 = 2.5;
/// The least change of a correlation that matters.
const LEAST_CHANGE: f64 = 0.2;
/// Correlations are bounded, so that their z-transform is finite.
const MOST_CORRELATION: f64 = 0.9999;
/// The most bins of a column: that of a row is one byte.
const MOST_BINS: usize = 1 << u8::BITS;

impl Correlations {
    /// The correlations of `rows` rows. `times` are theirs, in milliseconds; of rows that are not in their order, none are computed.
    /// Columns whose variables would be too many are left out. `None` of fewer than two columns, or of too few rows.
    pub fn of(columns: Vec<Column>, rows: usize, times: Option<&[i64]>) -> Option<Self> {
        let (mut variables, mut kept) = (Vec::new(), Vec::new());
        for column in columns.into_iter().take(MOST_COLUMNS).filter(|column| column.bins.len() <= MOST_BINS) {
            let of_column = Variable::of(kept.len(), &column);
            if !of_column.is_empty() && variables.len() + of_column.len() <= MOST_VARIABLES {
                variables.extend(of_column);
                kept.push(column);
            }
        }
        let lengths: Vec<(Option<i64>, Vec<Vec<usize>>)> = match times {
            None => vec![(None, consecutive(rows))],
            Some(times) if times.is_sorted() && times.len() == rows => {
                LENGTHS.map(|hours| hours * HOUR).map(|length| (Some(length), of_length(times, length))).into()
            }
            Some(_) => return None,
        };
        let scale = |(length, blocks): (Option<i64>, Vec<Vec<usize>>)| {
            (blocks.len() >= LEAST_BLOCKS).then(|| Scale { length, pairs: in_blocks(&blocks, &variables, &kept) })
        };
        let scales: Vec<Scale> = lengths.into_iter().filter_map(scale).collect();
        let columns: Vec<(String, FixedBins)> =
            kept.iter().map(|column| (column.name.clone(), column.bins.clone())).collect();
        (columns.len() >= 2 && !scales.is_empty()).then_some(Self { columns, variables, scales })
    }

    /// The columns, in the order in which [`Self::compare`] takes their rows.
    pub fn columns(&self) -> impl Iterator<Item = (&str, &FixedBins)> {
        self.columns.iter().map(|(name, bins)| (name.as_str(), bins))
    }

    /// Compares the correlations in a window of a length in milliseconds with those in the blocks of about this length. `rows` has the bin
    /// of each row, by column; `None` of a column that the window does not have, or that is not to be compared. `level` is the probability
    /// of any false change. Without blocks of about this length, no pair is compared.
    ///
    /// The z-transforms of the correlations (Fisher 1921) in windows and blocks are taken as draws from one normal distribution, whose
    /// variance is that between the blocks: two columns may be correlated in one week otherwise than in the next. A window of fewer rows
    /// than a block varies more, by `1/(n - 3)` each. The pairs of variables share the level (Bonferroni). A change is at least 0.2.
    ///
    /// # Errors
    /// A level outside (0, 1).
    pub fn compare(&self, rows: &[Option<Vec<u8>>], length: i64, level: f64) -> Result<Compared, Error> {
        self.compare_by(rows, length, level, LEAST_CHANGE)
    }

    fn compare_by(&self, rows: &[Option<Vec<u8>>], length: i64, level: f64, least: f64) -> Result<Compared, Error> {
        check_share("level of correlations", level)?;
        let Some(scale) = self.scale(length).filter(|_| rows.len() == self.columns.len()) else {
            return Ok(Compared::default());
        };
        let level = level / (scale.pairs.len() as f64).max(1.0);
        let numbers: Vec<Option<Vec<f64>>> =
            self.variables.iter().map(|variable| Some(variable.numbers_of(rows[variable.column].as_ref()?))).collect();
        let (mut compared, mut changed) = (BTreeSet::new(), Vec::new());
        for ((first, second), of_pair) in pairs(&self.variables).zip(&scale.pairs) {
            let (Some(a), Some(b)) = (&numbers[first.0], &numbers[second.0]) else { continue };
            let ([first, second], blocks) = ([first.1, second.1], &of_pair.blocks);
            let Some((current, count)) = correlation(a, b).filter(|_| blocks.len() >= LEAST_BLOCKS) else { continue };
            let columns = (first.column, second.column);
            compared.insert(columns);
            let transformed: Vec<f64> = blocks.iter().map(|correlation| z(*correlation)).collect();
            let noise = |rows: f64| 1.0 / (rows - 3.0).max(1.0);
            let further = (noise(count) - noise(of_pair.rows)).max(0.0);
            let (lower, upper) = prediction::interval(&transformed, further.sqrt(), level)?;
            let reference = blocks.iter().sum::<f64>() / blocks.len() as f64;
            let is_outside = z(current) < lower || z(current) > upper;
            if is_outside && (current - reference).abs() >= least {
                let (terms, expected) =
                    ([first, second].map(|variable| self.term(variable)), (lower.tanh(), upper.tanh()));
                changed.push((columns, Changed { terms, correlation: current, reference, expected }));
            }
        }
        let change = |changed: &Changed| (changed.correlation - changed.reference).abs();
        changed.sort_by(|(_, a), (_, b)| change(b).total_cmp(&change(a)));
        let mut seen = BTreeSet::new();
        changed.retain(|(columns, _)| seen.insert(*columns));
        let pairs = u32::try_from(compared.len()).unwrap_or(u32::MAX);
        Ok(Compared { pairs, changed: changed.into_iter().map(|(_, changed)| changed).collect() })
    }

    /// The blocks of about the length of a window; those of rows without times have any.
    fn scale(&self, window: i64) -> Option<&Scale> {
        let ratio =
            |scale: &Scale| scale.length.map_or(0.0, |length| (length as f64 / window.max(1) as f64).ln().abs());
        let nearest = self.scales.iter().min_by(|one, other| ratio(one).total_cmp(&ratio(other)))?;
        (ratio(nearest) <= LENGTH_RATIO.ln()).then_some(nearest)
    }

    fn term(&self, variable: &Variable) -> Term {
        Term { column: self.columns[variable.column].0.clone(), value: variable.value.clone() }
    }
}

impl Variable {
    /// The variables of a column.
    fn of(index: usize, column: &Column) -> Vec<Self> {
        let bins = &column.bins;
        if bins.intervals() == 0 {
            let of_value = |(value, bin): &(String, usize)| {
                let mut numbers: Vec<Option<f64>> =
                    (0..bins.len()).map(|at| Some(f64::from(u8::from(at == *bin)))).collect();
                bins.absent().for_each(|bin| numbers[bin] = None);
                Self { column: index, value: Some(value.clone()), numbers }
            };
            return column.values.iter().take(MOST_VALUES).map(of_value).collect();
        }
        let mut counts = vec![0.0; bins.len()];
        column
            .rows
            .iter()
            .filter_map(|bin| counts.get_mut(usize::from(*bin)).map(|count| *count += 1.0))
            .for_each(drop);
        let intervals = bins.intervals();
        let rows: f64 = counts[..intervals].iter().sum();
        let mut below = 0.0;
        let mut numbers: Vec<Option<f64>> = vec![None; bins.len()];
        for (number, count) in numbers.iter_mut().zip(&counts[..intervals]) {
            let rank = (below + count / 2.0) / f64::max(rows, 1.0);
            *number = Some(rounded(Normal::standard().inverse_cdf(rank.clamp(0.001, 0.999))));
            below += count;
        }
        // Numbers outside of the reference have those of its ends.
        bins.below().into_iter().for_each(|bin| numbers[bin] = numbers[0]);
        bins.above().into_iter().for_each(|bin| numbers[bin] = numbers[intervals - 1]);
        vec![Self { column: index, value: None, numbers }]
    }

    /// The number of each row; NaN of a missing one.
    fn numbers_of(&self, rows: &[u8]) -> Vec<f64> {
        rows.iter().map(|bin| self.numbers.get(usize::from(*bin)).copied().flatten().unwrap_or(f64::NAN)).collect()
    }
}

/// The correlations of each pair of variables in blocks of rows.
fn in_blocks(blocks: &[Vec<usize>], variables: &[Variable], columns: &[Column]) -> Vec<OfPair> {
    let mut of_pairs = vec![Vec::new(); pairs(variables).count()];
    for block in blocks {
        let numbers = |variable: &Variable| {
            let rows = &columns[variable.column].rows;
            variable.numbers_of(&block.iter().filter_map(|&row| rows.get(row)).copied().collect::<Vec<u8>>())
        };
        let numbers: Vec<Vec<f64>> = variables.iter().map(numbers).collect();
        for (of_pair, (first, second)) in of_pairs.iter_mut().zip(pairs(variables)) {
            of_pair.extend(correlation(&numbers[first.0], &numbers[second.0]));
        }
    }
    let of_pair = |found: Vec<(f64, f64)>| {
        let rows = found.iter().map(|(_, rows)| rows).sum::<f64>() / (found.len() as f64).max(1.0);
        OfPair { blocks: found.into_iter().map(|(correlation, _)| rounded(correlation)).collect(), rows: rows.round() }
    };
    of_pairs.into_iter().map(of_pair).collect()
}

const HOUR: i64 = 3_600_000;

/// The rows of consecutive blocks of equal size.
fn consecutive(rows: usize) -> Vec<Vec<usize>> {
    let blocks = (rows / LEAST_ROWS).min(MOST_BLOCKS);
    (0..blocks).map(|n| thinned(n * rows / blocks..(n + 1) * rows / blocks)).collect()
}

/// The rows of blocks of one length, evenly spaced among those that are complete and have enough rows.
fn of_length(times: &[i64], length: i64) -> Vec<Vec<usize>> {
    let mut blocks: Vec<std::ops::Range<usize>> = Vec::new();
    let mut from = 0;
    while from < times.len() {
        let end = times[from].div_euclid(length).saturating_add(1).saturating_mul(length);
        let until = from + times[from..].partition_point(|time| *time < end);
        blocks.push(from..until.max(from + 1));
        from = until.max(from + 1);
    }
    // The first and the last need not be complete.
    let complete = blocks.get(1..blocks.len().saturating_sub(1)).unwrap_or_default();
    let large: Vec<_> = complete.iter().filter(|block| block.len() >= LEAST_ROWS).collect();
    let kept = large.len().min(MOST_BLOCKS);
    (0..kept).map(|n| thinned(large[n * large.len() / kept].clone())).collect()
}

fn thinned(block: std::ops::Range<usize>) -> Vec<usize> {
    let step = block.len().div_ceil(MOST_ROWS).max(1);
    block.step_by(step).collect()
}

/// A variable with its position.
type At<'a> = (usize, &'a Variable);

/// The pairs of variables of two columns.
fn pairs(variables: &[Variable]) -> impl Iterator<Item = (At<'_>, At<'_>)> {
    let numbered = || variables.iter().enumerate();
    numbered().flat_map(move |first| {
        numbered()
            .skip(first.0 + 1)
            .filter(move |second| second.1.column != first.1.column)
            .map(move |second| (first, second))
    })
}

/// Pearson's correlation of the rows that have both values, and their number; `None` of few rows, or if one is constant.
fn correlation(first: &[f64], second: &[f64]) -> Option<(f64, f64)> {
    let both = first.iter().zip(second).filter(|(a, b)| !a.is_nan() && !b.is_nan());
    let (first, second): (Vec<f64>, Vec<f64>) = both.map(|(a, b)| (*a, *b)).unzip();
    if first.len() < LEAST_ROWS / 2 {
        return None;
    }
    Some((pearson(&first, &second)?, first.len() as f64))
}

fn z(correlation: f64) -> f64 {
    correlation.clamp(-MOST_CORRELATION, MOST_CORRELATION).atanh()
}

/// To four decimals, which a stored profile needs.
fn rounded(number: f64) -> f64 {
    (number * 1e4).round() / 1e4
}

/// The stored fields, which are validated on reading.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    columns: Vec<(String, FixedBins)>,
    variables: Vec<Variable>,
    scales: Vec<Scale>,
}

impl TryFrom<Unchecked> for Correlations {
    type Error = &'static str;

    fn try_from(stored: Unchecked) -> Result<Self, Self::Error> {
        let Unchecked { columns, variables, scales } = stored;
        let names: BTreeSet<&str> = columns.iter().map(|(name, _)| name.as_str()).collect();
        let has_small_bins = columns.iter().all(|(_, bins)| bins.len() <= MOST_BINS);
        if columns.len() > MOST_COLUMNS || names.len() < columns.len() || !has_small_bins {
            return Err("the columns are too many, or have a name twice or too many bins");
        }
        let fits = |variable: &Variable| {
            columns.get(variable.column).is_some_and(|(_, bins)| bins.len() == variable.numbers.len())
        };
        if !variables.iter().all(fits) {
            return Err("the bins of a column do not have one number each");
        }
        let count = pairs(&variables).count();
        let is_complete = scales.len() <= LENGTHS.len() && scales.iter().all(|scale| scale.pairs.len() == count);
        if variables.len() > MOST_VARIABLES || !is_complete {
            return Err("the correlations are not those of the pairs of the variables");
        }
        let is_sound = |pair: &OfPair| {
            let are_correlations = pair.blocks.iter().all(|number| (-1.0..=1.0).contains(number));
            are_correlations && pair.blocks.len() <= MOST_BLOCKS && (0.0..=MAX_ROWS as f64).contains(&pair.rows)
        };
        if !scales.iter().flat_map(|scale| &scale.pairs).all(is_sound) {
            return Err("a correlation is not between -1 and 1, or the blocks are too many");
        }
        Ok(Self { columns, variables, scales })
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;
    use crate::profile::ColumnProfile;

    /// Rows of a week.
    const BLOCK: usize = 500;
    const WEEK: i64 = 7 * 24 * HOUR;

    /// Two numbers that depend on each other as strongly as `weight` says, a text that depends on the first, and noise; each week has its
    /// own strength.
    struct Rows {
        numbers: [Vec<f64>; 3],
        texts: Vec<&'static str>,
    }

    fn rows(count: usize, random: &mut ChaCha8Rng, weight: f64, between: f64) -> Rows {
        let mut rows = Rows { numbers: [const { Vec::new() }; 3], texts: Vec::new() };
        let mut of_week = weight;
        for row in 0..count {
            if row % BLOCK == 0 {
                of_week = weight + between * (random.random::<f64>() - 0.5);
            }
            let mut normal = || (0..12).map(|_| random.random::<f64>()).sum::<f64>() - 6.0;
            let (first, second, third) = (normal(), normal(), normal());
            rows.numbers[0].push(first);
            rows.numbers[1].push(of_week * first + (1.0 - of_week * of_week).max(0.0).sqrt() * second);
            rows.numbers[2].push(third);
            rows.texts.push(if first + second / 4.0 > 0.5 { "high" } else { "low" });
        }
        rows
    }

    fn reference(rows: &Rows) -> Correlations {
        let mut columns = Vec::new();
        for (name, numbers) in ["a", "b", "noise"].into_iter().zip(&rows.numbers) {
            let profile = ColumnProfile::of_numbers(numbers.iter().copied().map(Some));
            let bins = FixedBins::of(&profile).expect("numbers");
            let rows = numbers.iter().map(|number| in_byte(bins.of_number(Some(*number)))).collect();
            columns.push(Column { name: name.to_owned(), bins, values: Vec::new(), rows });
        }
        let profile = ColumnProfile::of_texts(rows.texts.iter().copied().map(Some));
        let bins = FixedBins::of(&profile).expect("few values");
        let of_rows = rows.texts.iter().map(|text| in_byte(bins.of_text(Some(text)))).collect();
        let values = ["high", "low"].map(|value| (value.to_owned(), bins.of_text(Some(value)))).into();
        columns.push(Column { name: "kind".to_owned(), bins, values, rows: of_rows });
        let count = rows.texts.len();
        let times: Vec<i64> = (0..).take(count).map(|row: i64| row * (WEEK / 500)).collect();
        Correlations::of(columns, count, Some(&times)).expect("enough rows")
    }

    fn window(reference: &Correlations, rows: &Rows) -> Vec<Option<Vec<u8>>> {
        let of_column = |(at, (_, bins)): (usize, (&str, &FixedBins))| match rows.numbers.get(at) {
            Some(numbers) => numbers.iter().map(|number| in_byte(bins.of_number(Some(*number)))).collect(),
            None => rows.texts.iter().map(|text| in_byte(bins.of_text(Some(text)))).collect::<Vec<u8>>(),
        };
        reference.columns().enumerate().map(of_column).map(Some).collect()
    }

    #[test]
    fn values_of_other_rows_change_the_correlation_and_nothing_else() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let reference = reference(&rows(10_000, &mut random, 0.8, 0.1));
        let rows = rows(1_000, &mut random, 0.8, 0.1);
        let same = window(&reference, &rows);
        let compared = reference.compare(&same, WEEK, 0.001).expect("a level");
        assert_eq!((compared.pairs, compared.changed.len()), (6, 0), "{compared:?}");
        let mut joined = same.clone();
        joined[1].as_mut().expect("a column").rotate_left(7);
        let compared = reference.compare(&joined, WEEK, 0.001).expect("a level");
        let names = |compared: &Compared| -> Vec<[String; 2]> {
            compared.changed.iter().map(|changed| changed.terms.each_ref().map(|term| term.column.clone())).collect()
        };
        assert_eq!(names(&compared), [["a", "b"], ["b", "kind"]]);
        let changed = &compared.changed[0];
        assert!(changed.reference > 0.7 && changed.correlation.abs() < 0.15, "{changed:?}");
        assert!(changed.expected.0 > 0.3 && changed.expected.1 < 1.0, "{changed:?}");
        // A text whose rows are those of others.
        let mut joined = same.clone();
        joined[3].as_mut().expect("a column").rotate_left(7);
        let compared = reference.compare(&joined, WEEK, 0.001).expect("a level");
        assert_eq!(names(&compared), [["a", "kind"], ["b", "kind"]]);
        let value = &compared.changed[0].terms[1].value;
        assert!(["high", "low"].contains(&value.as_deref().expect("a value")), "{value:?}");
    }

    #[test]
    fn windows_like_the_blocks_keep_the_level_also_where_blocks_differ() {
        // 400 windows at 5 %, whatever the size of the change: the binomial 99.9 % bound is 35, and by the pairs' dependence fewer are
        // found.
        for between in [0.0, 0.4] {
            let changed = (0..400).filter(|&seed| {
                let mut random = ChaCha8Rng::seed_from_u64(seed);
                let reference = reference(&rows(22 * BLOCK, &mut random, 0.5, between));
                let rows = rows(BLOCK, &mut random, 0.5, between);
                let compared = reference.compare_by(&window(&reference, &rows), WEEK, 0.05, 0.0).expect("a level");
                !compared.changed.is_empty()
            });
            let changed = changed.count();
            assert!((1..=35).contains(&changed), "{between}: {changed}");
        }
    }

    #[test]
    fn a_window_is_compared_with_blocks_of_about_its_length() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let reference = reference(&rows(22 * BLOCK, &mut random, 0.8, 0.0));
        let lengths: Vec<Option<i64>> = reference.scales.iter().map(|scale| scale.length).collect();
        assert_eq!(lengths, [Some(WEEK)], "days have too few rows, and months are too few");
        let rows = window(&reference, &rows(BLOCK, &mut random, 0.0, 0.0));
        let pairs = |length| reference.compare(&rows, length, 0.05).expect("a level").pairs;
        assert_eq!([pairs(WEEK), pairs(WEEK / 2), pairs(2 * WEEK)], [6; 3]);
        assert_eq!([pairs(WEEK / 7), pairs(4 * WEEK), pairs(0)], [0; 3]);
        let backwards: Vec<i64> = (0..1_000).rev().collect();
        let column = |name: &str| {
            let bins = reference.columns[0].1.clone();
            Column {
                name: name.to_owned(),
                bins,
                values: Vec::new(),
                rows: (0..1_000).map(|row| (row * 7 % 9) as u8).collect(),
            }
        };
        let columns = || vec![column("a"), column("b")];
        assert_eq!(Correlations::of(columns(), 1_000, Some(&backwards)), None);
        let without = Correlations::of(columns(), 1_000, None).expect("consecutive blocks");
        let rows: Vec<Option<Vec<u8>>> = columns().into_iter().map(|column| Some(column.rows)).collect();
        assert_eq!(
            [1, WEEK, i64::MAX].map(|length| without.compare(&rows, length, 0.05).expect("a level").pairs),
            [1; 3]
        );
    }

    #[test]
    fn few_rows_missing_columns_and_forged_forms_are_not_compared() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let reference = reference(&rows(12 * BLOCK, &mut random, 0.8, 0.0));
        let few = window(&reference, &rows(49, &mut random, 0.0, 0.0));
        assert_eq!(reference.compare(&few, WEEK, 0.05), Ok(Compared::default()));
        let mut without = window(&reference, &rows(1_000, &mut random, 0.0, 0.0));
        without[0] = None;
        let compared = reference.compare(&without, WEEK, 0.05).expect("a level");
        assert_eq!((compared.pairs, compared.changed.len()), (3, 1), "{compared:?}");
        assert!(reference.compare(&without, WEEK, 0.0).is_err());
        let json = serde_json::to_value(&reference).expect("json");
        assert_eq!(serde_json::from_value::<Correlations>(json.clone()).expect("it reads"), reference);
        for (path, value) in [
            ("/scales/0/pairs/0/blocks/0", serde_json::json!(1.5)),
            ("/scales/0/pairs", serde_json::json!([])),
            ("/columns/1/0", serde_json::json!("a")),
            ("/variables/0/numbers", serde_json::json!([])),
        ] {
            let mut forged = json.clone();
            *forged.pointer_mut(path).expect("a field") = value;
            assert!(serde_json::from_value::<Correlations>(forged).is_err(), "{path}");
        }
    }
}
