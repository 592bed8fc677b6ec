//! Out-of-distribution scores: how unlike the reference data the inputs of a row are.
//!
//! The score follows ECOD (Li, Zhao, Hu, Botta, Ionescu and Chen, "ECOD: Unsupervised Outlier Detection Using Empirical Cumulative
//! Distribution Functions", 2022): per feature, the negative natural logarithm of the share of reference rows that are at least as extreme
//! as the value. The score of a row is the mean over its features: about 1 on average for rows like the reference rows, and `ln(n + 1)` for
//! a row of which every value is beyond all `n` reference rows. Dependence between features is not taken into account.

use std::collections::HashMap;

use arrow::array::RecordBatch;
use rekindle_statistics::profile::{Categorical, ColumnProfile, Numeric, flag_name};

use crate::{
    Reference,
    column::{self, Cells},
};

/// How far apart the ranks of two knots are, as the difference of their logits: the most by which a feature's term is inexact.
const RESOLUTION: f64 = 0.1;

/// Scores rows against a reference.
#[derive(Debug)]
pub struct OutlierScorer {
    features: Vec<(String, Tail)>,
}

/// The reference rows of one feature, by how extreme their values are.
#[derive(Debug)]
struct Tail {
    rows: u64,
    missing: u64,
    values: Values,
}

#[derive(Debug)]
enum Values {
    /// Ascending, of the finite numbers.
    Numbers(Vec<Knot>),
    /// Reference rows with a value that is as rare as this one or rarer, by value.
    Categories(HashMap<String, u64>),
}

/// Reference rows on both sides of a number, the number included.
#[derive(Debug, Clone, Copy)]
struct Knot {
    value: f64,
    at_most: u64,
    at_least: u64,
}

impl OutlierScorer {
    /// The scorer of a reference; `None` if it counts no rows. Features with too many distinct texts to be counted by value are left
    /// out.
    pub fn new(reference: &Reference) -> Option<Self> {
        let tail = |profile: &ColumnProfile| Tail::of(profile).filter(|tail| tail.rows > 0);
        let features = reference.features.iter();
        let features: Vec<_> =
            features.filter_map(|feature| Some((feature.name.clone(), tail(&feature.profile)?))).collect();
        (!features.is_empty()).then_some(Self { features })
    }

    /// One score per row. Columns are matched by name; a feature without a column is left out.
    pub fn scores(&self, rows: &RecordBatch) -> Vec<f64> {
        let mut scores = vec![0.0; rows.num_rows()];
        let mut features = 0.0;
        for (name, tail) in &self.features {
            let Some(cells) = column::find(rows, name, 0).and_then(Cells::of) else { continue };
            features += 1.0;
            scores.iter_mut().enumerate().for_each(|(row, score)| *score += tail.surprisal(&cells, row));
        }
        scores.iter_mut().for_each(|score| *score /= f64::max(features, 1.0));
        scores
    }
}

impl Tail {
    fn of(profile: &ColumnProfile) -> Option<Self> {
        let values = match profile {
            ColumnProfile::Numeric(numbers) => Values::Numbers(knots(numbers)),
            ColumnProfile::Categorical(values) | ColumnProfile::Boolean(values) if values.is_exact() => {
                Values::Categories(rarities(values))
            }
            _ => return None,
        };
        Some(Self { rows: profile.rows(), missing: profile.missing(), values })
    }

    /// `-ln` of the share of reference rows at least as extreme, of which the row itself is one, so that no share is 0.
    fn surprisal(&self, cells: &Cells<'_>, row: usize) -> f64 {
        let count = if cells.is_missing(row) { self.missing } else { self.as_extreme(cells, row) };
        let share = (count as f64 + 1.0) / (self.rows as f64 + 1.0);
        -share.min(1.0).ln()
    }

    fn as_extreme(&self, cells: &Cells<'_>, row: usize) -> u64 {
        match &self.values {
            Values::Numbers(knots) => cells.number(row).map_or(0, |number| two_sided(knots, number)),
            Values::Categories(rarities) => {
                let value = cells.text(row).or_else(|| cells.boolean(row).map(flag_name));
                value.and_then(|value| rarities.get(value)).copied().unwrap_or(0)
            }
        }
    }
}

/// Twice the rows on the side with fewer.
fn two_sided(knots: &[Knot], number: f64) -> u64 {
    let above = knots.partition_point(|knot| knot.value <= number);
    let below = knots.partition_point(|knot| knot.value < number);
    let at_most = above.checked_sub(1).map_or(0, |at| knots[at].at_most);
    let at_least = knots.get(below).map_or(0, |knot| knot.at_least);
    2 * at_most.min(at_least)
}

/// The distinct numbers, without those whose rank is close to that of their neighbour.
fn knots(numbers: &Numeric) -> Vec<Knot> {
    let rows = numbers.finite();
    let logit = |at_most: u64| ((at_most as f64 + 0.5) / ((rows - at_most) as f64 + 0.5)).ln();
    let (mut knots, mut at_most) = (Vec::<Knot>::new(), 0);
    for (value, count) in numbers.values() {
        let at_least = rows - at_most;
        at_most += count;
        let is_near = knots.last().is_some_and(|last| logit(at_most) - logit(last.at_most) < RESOLUTION);
        if !is_near || at_most == rows {
            knots.push(Knot { value, at_most, at_least });
        }
    }
    knots
}

/// Rows with a value that is as rare as this one or rarer, by value.
fn rarities(values: &Categorical) -> HashMap<String, u64> {
    let (mut rarities, mut rarer) = (HashMap::new(), 0);
    let rarest_first: Vec<_> = values.top(usize::MAX).into_iter().rev().collect();
    for equal in rarest_first.chunk_by(|one, other| one.1 == other.1) {
        rarer += equal.iter().map(|(_, rows)| rows).sum::<u64>();
        rarities.extend(equal.iter().map(|(value, _)| (value.clone(), rarer)));
    }
    rarities
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use arrow::{
        array::{ArrayRef, BooleanArray, Float64Array, StringArray},
        datatypes::{Field, Schema},
    };

    use super::*;
    use crate::reference::FeatureProfile;

    fn scorer(name: &str, profile: ColumnProfile) -> OutlierScorer {
        let features = vec![FeatureProfile { name: name.to_owned(), profile }];
        OutlierScorer::new(&Reference {
            features,
            prediction: ColumnProfile::of_numbers([]),
            blocks: None,
            repeated: None,
            correlations: None,
            validation: None,
        })
        .expect("rows")
    }

    fn scores(scorer: &OutlierScorer, name: &str, column: ArrayRef) -> Vec<f64> {
        let field = Field::new(name, column.data_type().clone(), true);
        let rows = RecordBatch::try_new(Arc::new(Schema::new(vec![field])), vec![column]).expect("a column");
        scorer.scores(&rows)
    }

    fn close(found: &[f64], expected: &[f64]) {
        assert_eq!(found.len(), expected.len());
        let is_close = |(found, expected): (&f64, &f64)| (found - expected).abs() < 1e-12;
        assert!(found.iter().zip(expected).all(is_close), "{found:?} instead of {expected:?}");
    }

    #[test]
    fn numbers_are_as_extreme_as_their_nearer_tail() {
        let scorer = scorer("x", ColumnProfile::of_numbers([1.0, 2.0, 3.0, 4.0].map(Some).into_iter().chain([None])));
        let given = [Some(0.0), Some(1.0), Some(2.5), Some(4.0), Some(9.0), None];
        let found = scores(&scorer, "x", Arc::new(Float64Array::from(given.to_vec())));
        // Of 5 rows and the row itself: 0, 2 * 1, 2 * 2, 2 * 1, 0, and the missing one.
        close(&found, &[1.0, 3.0, 5.0, 3.0, 1.0, 2.0].map(|count| -f64::ln(count / 6.0)));
    }

    #[test]
    fn categories_are_as_extreme_as_those_as_rare_or_rarer() {
        let texts = [["a"; 4].as_slice(), &["b"; 2], &["c"; 2], &["d"]].concat();
        let scorer = scorer("x", ColumnProfile::of_texts(texts.into_iter().map(Some)));
        let found = scores(&scorer, "x", Arc::new(StringArray::from(vec!["a", "b", "c", "d", "e"])));
        close(&found, &[10.0, 6.0, 6.0, 2.0, 1.0].map(|count| -f64::ln(count / 10.0)));
    }

    #[test]
    fn flags_are_as_extreme_as_the_rarer_one() {
        let flags = [true, false, false].map(Some);
        let scorer = scorer("x", ColumnProfile::of_flags(flags));
        let found = scores(&scorer, "x", Arc::new(BooleanArray::from(vec![true, false])));
        close(&found, &[2.0, 4.0].map(|count| -f64::ln(count / 4.0)));
    }

    #[test]
    fn rows_like_the_reference_score_about_one_on_average() {
        let values: Vec<f64> = (0..10_000).map(|at| f64::from(at).sin().tan()).collect();
        let scorer = scorer("x", ColumnProfile::of_numbers(values.iter().map(|&value| Some(value))));
        let found = scores(&scorer, "x", Arc::new(Float64Array::from(values)));
        let mean = found.iter().sum::<f64>() / found.len() as f64;
        assert!((mean - 1.0).abs() < RESOLUTION, "{mean}");
        assert!(scorer.features[0].1.values.len() < 400, "{}", scorer.features[0].1.values.len());
    }

    #[test]
    fn a_reference_without_rows_scores_nothing() {
        let features = vec![FeatureProfile { name: "x".to_owned(), profile: ColumnProfile::of_numbers([]) }];
        let reference = Reference {
            features,
            prediction: ColumnProfile::of_numbers([]),
            blocks: None,
            repeated: None,
            correlations: None,
            validation: None,
        };
        assert!(OutlierScorer::new(&reference).is_none());
    }

    impl Values {
        fn len(&self) -> usize {
            match self {
                Self::Numbers(knots) => knots.len(),
                Self::Categories(rarities) => rarities.len(),
            }
        }
    }
}
