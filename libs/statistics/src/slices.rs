//! The parts of the rows whose mean loss rose most: a search over conditions on one feature, and on two.
//!
//! As SliceFinder (Chung et al. 2019, "Slice Finder: Automated data slicing for model validation"), it looks for large slices that are worse
//! than the other rows. Both sides are compared with the same slice of the reference rows: a slice that was always difficult is not found.

use crate::{
    Error,
    error::{check_parallel, check_share},
    paired::{LEAST_ROWS_IN_BATCHES, batch_means},
    rise::{Reference, Rise, contrast},
};

/// Rows in order of time, with their losses and the conditions that they meet.
#[derive(Debug, Clone)]
pub struct Rows {
    losses: Vec<f64>,
    conditions: Vec<Selection>,
}

/// A set of rows, one bit each.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Selection(Vec<u64>);

/// A search.
#[derive(Debug, Clone, Copy, PartialEq)]
pub struct Search {
    /// The probability of any false finding.
    pub false_alarms: f64,
    /// Smallest relative increase of the loss of a slice.
    pub margin: f64,
    /// Fewest rows of a slice, and of the rows outside of it, in the window; at least [`Self::LEAST_ROWS`], which the reference has to have, too.
    pub least_rows: usize,
    /// The most slices that are found.
    pub most: usize,
}

/// A slice whose mean loss rose.
#[derive(Debug, Clone, PartialEq)]
pub struct Found {
    /// The indices of its conditions, one or two.
    pub conditions: Vec<usize>,
    /// The rise beside the same slice of the reference, with its lower bound.
    pub rise: Rise,
}

impl Search {
    /// The fewest rows of a slice.
    pub const LEAST_ROWS: usize = LEAST_ROWS_IN_BATCHES;
    /// Single conditions that are combined with all others.
    const BEAM: usize = 10;
    /// Slices that are tested, the most conspicuous first, before the search ends.
    const TESTED: usize = 5;
}

impl Selection {
    fn of(rows: &[bool]) -> Self {
        let word = |rows: &[bool]| rows.iter().rev().fold(0, |word, &row| word << 1 | u64::from(row));
        Self(rows.chunks(64).map(word).collect())
    }

    fn and(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a & b).collect())
    }

    fn without(&self, other: &Self) -> Self {
        Self(self.0.iter().zip(&other.0).map(|(a, b)| a & !b).collect())
    }

    fn rows(&self) -> impl Iterator<Item = usize> + '_ {
        self.0.iter().enumerate().flat_map(|(at, &word)| {
            let mut word = word;
            std::iter::from_fn(move || {
                let bit = (word != 0).then(|| word.trailing_zeros() as usize)?;
                word &= word - 1;
                Some(64 * at + bit)
            })
        })
    }
}

impl Rows {
    /// Rows with these losses. `conditions` has for each condition whether each row meets it.
    ///
    /// # Errors
    /// A condition that has not one value per row; a loss that is not finite.
    pub fn new<'a>(losses: Vec<f64>, conditions: impl IntoIterator<Item = &'a [bool]>) -> Result<Self, Error> {
        crate::error::check_finite("losses of slices", &losses)?;
        let conditions = conditions.into_iter().map(|rows| {
            check_parallel("losses of slices", losses.len(), rows.len())?;
            Ok(Selection::of(rows))
        });
        let conditions = conditions.collect::<Result<_, Error>>()?;
        Ok(Self { losses, conditions })
    }

    fn all(&self) -> Selection {
        Selection::of(&vec![true; self.losses.len()])
    }

    fn losses(&self, rows: &Selection) -> Vec<f64> {
        rows.rows().map(|row| self.losses[row]).collect()
    }
}

/// The sums of the losses of some rows.
#[derive(Debug, Clone, Copy, Default)]
struct Sums {
    rows: f64,
    sum: f64,
    squares: f64,
}

impl Sums {
    fn of(rows: &Rows, selected: &Selection) -> Self {
        let add = |sums: Self, row: usize| {
            let loss = rows.losses[row];
            Self { rows: sums.rows + 1.0, sum: sums.sum + loss, squares: sums.squares + loss * loss }
        };
        selected.rows().fold(Self::default(), add)
    }

    fn without(self, other: Self) -> Self {
        Self { rows: self.rows - other.rows, sum: self.sum - other.sum, squares: self.squares - other.squares }
    }

    fn mean(self) -> f64 {
        self.sum / self.rows
    }

    /// The variance of the mean.
    fn variance(self) -> f64 {
        (self.squares / self.rows - self.mean().powi(2)).max(0.0) / self.rows
    }
}

/// What is left of both sides, from which the rows of found slices were removed.
struct Left<'a> {
    window: (&'a Rows, Selection),
    reference: (&'a Rows, Selection),
    /// The sums of all rows of both.
    sums: (Sums, Sums),
}

/// A slice and how conspicuous it is.
struct Candidate {
    conditions: Vec<usize>,
    /// The logarithm of the likelihood ratio, less that of the number of slices of as many conditions.
    evidence: f64,
}

/// The slices of `window` whose mean loss rose by more than the margin beside the same slice of `reference`, and by more than that of the
/// other rows; the most conspicuous first. Each is found among the rows that are in none before it. Conditions are combined in pairs if they are about different features;
/// `features` has the feature of each condition.
///
/// Every slice that could have been found is one test of the budget (Bonferroni), and losses are compared by batch means, since neighbouring
/// rows may depend on each other.
///
/// # Errors
/// Not as many conditions as features on both sides; a budget outside (0, 1).
pub fn worst(window: &Rows, reference: &Rows, features: &[usize], search: &Search) -> Result<Vec<Found>, Error> {
    if features.is_empty() && window.conditions.is_empty() && reference.conditions.is_empty() {
        return Ok(Vec::new());
    }
    check_parallel("conditions of slices", features.len(), window.conditions.len())?;
    check_parallel("conditions of slices", features.len(), reference.conditions.len())?;
    check_share("false alarms", search.false_alarms)?;
    let singles = features.len();
    let pairs = (0..singles).map(|one| features[one + 1..].iter().filter(|other| **other != features[one]).count());
    let (singles, pairs) = (singles as f64, pairs.sum::<usize>() as f64);
    let tests = (singles + pairs) * search.most as f64;
    let level = search.false_alarms / tests.max(1.0);
    let mut left = Left {
        window: (window, window.all()),
        reference: (reference, reference.all()),
        sums: (Sums::default(), Sums::default()),
    };
    let mut found: Vec<Found> = Vec::new();
    while found.len() < search.most {
        left.sums = (Sums::of(window, &left.window.1), Sums::of(reference, &left.reference.1));
        let candidates = left.candidates(features, search, (singles.ln(), pairs.max(1.0).ln()));
        let tested = candidates.into_iter().take(Search::TESTED).map(|candidate| left.test(candidate, search, level));
        let Some(next) = tested.filter_map(Result::transpose).next().transpose()? else { break };
        left = left.without(&next.conditions);
        found.push(next);
    }
    Ok(found)
}

impl Left<'_> {
    fn slices(&self, conditions: &[usize]) -> (Selection, Selection) {
        let of = |(rows, left): &(&Rows, Selection)| {
            conditions.iter().fold(left.clone(), |slice, &condition| slice.and(&rows.conditions[condition]))
        };
        (of(&self.window), of(&self.reference))
    }

    fn without(self, conditions: &[usize]) -> Self {
        let (window, reference) = self.slices(conditions);
        Self {
            window: (self.window.0, self.window.1.without(&window)),
            reference: (self.reference.0, self.reference.1.without(&reference)),
            sums: self.sums,
        }
    }

    /// Slices of one condition and of two, the most conspicuous first. `(singles, pairs)` are the logarithms of their numbers.
    fn candidates(&self, features: &[usize], search: &Search, (singles, pairs): (f64, f64)) -> Vec<Candidate> {
        let rank = |candidates: &mut Vec<Candidate>| candidates.sort_by(|a, b| b.evidence.total_cmp(&a.evidence));
        let one = |condition: usize| self.candidate(vec![condition], search, singles);
        let mut candidates: Vec<Candidate> = (0..features.len()).filter_map(one).collect();
        rank(&mut candidates);
        let beam: Vec<usize> = candidates.iter().take(Search::BEAM).map(|candidate| candidate.conditions[0]).collect();
        for (at, &first) in beam.iter().enumerate() {
            let second = (0..features.len()).filter(|&second| features[second] != features[first]);
            let second = second.filter(|second| !beam[..at].contains(second));
            candidates.extend(second.filter_map(|second| self.candidate(vec![first, second], search, pairs)));
        }
        rank(&mut candidates);
        candidates
    }

    /// `None` if the slice or the other rows are too few, or the losses of the others rose as much.
    fn candidate(&self, conditions: Vec<usize>, search: &Search, number: f64) -> Option<Candidate> {
        let (window, reference) = self.slices(&conditions);
        let (window, reference) = (Sums::of(self.window.0, &window), Sums::of(self.reference.0, &reference));
        let others = (self.sums.0.without(window), self.sums.1.without(reference));
        let all = [window, reference, others.0, others.1];
        let (least, of_window) = (Search::LEAST_ROWS as f64, search.least_rows as f64);
        if all.iter().any(|sums| sums.rows < least) || window.rows.min(others.0.rows) < of_window {
            return None;
        }
        let further = (window.mean() - reference.mean()) - (others.0.mean() - others.1.mean());
        let variance: f64 = all.iter().map(|sums| sums.variance()).sum();
        let evidence = further * further / (2.0 * variance);
        (further > 0.0 && evidence.is_finite()).then_some(Candidate { conditions, evidence: evidence - number })
    }

    /// The finding, if the rise beside the reference is above the margin, and above that of the other rows.
    fn test(&self, candidate: Candidate, search: &Search, level: f64) -> Result<Option<Found>, Error> {
        let slices = self.slices(&candidate.conditions);
        let means = |rows: &Rows, selected: &Selection| Reference::of(&batch_means(&rows.losses(selected))?);
        let window = means(self.window.0, &slices.0)?;
        let reference = means(self.reference.0, &slices.1)?;
        let others = (
            means(self.window.0, &self.window.1.without(&slices.0))?,
            means(self.reference.0, &self.reference.1.without(&slices.1))?,
        );
        let rise = contrast(&[(1.0, window), (-1.0, reference)], level)?;
        let further = contrast(&[(1.0, window), (-1.0, reference), (-1.0, others.0), (1.0, others.1)], level)?;
        let is_found = rise.lower_bound > search.margin * reference.mean.abs() && further.lower_bound > 0.0;
        Ok(is_found.then_some(Found { conditions: candidate.conditions, rise }))
    }
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const SEARCH: Search = Search { false_alarms: 0.05, margin: 0.1, least_rows: 100, most: 3 };
    /// Four features with five values each.
    const FEATURES: usize = 4;
    const VALUES: usize = 5;

    fn features() -> Vec<usize> {
        (0..FEATURES * VALUES).map(|condition| condition / VALUES).collect()
    }

    /// Rows whose losses `rise` makes greater, by the values of their features. Losses of neighbours depend on each other.
    fn rows(count: usize, random: &mut ChaCha8Rng, rise: impl Fn(&[usize]) -> f64) -> Rows {
        let values: Vec<Vec<usize>> =
            (0..count).map(|_| (0..FEATURES).map(|_| random.random_range(0..VALUES)).collect()).collect();
        let mut shared = 0.0;
        let losses = values.iter().map(|row| {
            shared = 0.9 * shared + 0.1 * (random.random::<f64>() - 0.5);
            // The third value of the last feature was always difficult.
            let usual = if row[3] == 2 { 1.0 } else { 0.4 };
            -random.random::<f64>().max(1e-9).ln() * usual + shared + rise(row)
        });
        let losses = losses.collect();
        let conditions: Vec<Vec<bool>> = (0..FEATURES * VALUES)
            .map(|condition| values.iter().map(|row| row[condition / VALUES] == condition % VALUES).collect())
            .collect();
        Rows::new(losses, conditions.iter().map(Vec::as_slice)).expect("one value per row")
    }

    fn found(seed: u64, rise: impl Fn(&[usize]) -> f64) -> Vec<Vec<usize>> {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let (reference, window) = (rows(5_000, &mut random, |_| 0.0), rows(4_000, &mut random, rise));
        let mut found: Vec<_> = worst(&window, &reference, &features(), &SEARCH)
            .expect("valid")
            .into_iter()
            .map(|found| found.conditions)
            .collect();
        found.iter_mut().for_each(|conditions| conditions.sort_unstable());
        found
    }

    #[test]
    fn slices_are_found_by_their_exact_conditions() {
        // One value of one feature; two values of two; and both at once, the more conspicuous one first.
        assert_eq!(found(1, |row| if row[1] == 3 { 0.5 } else { 0.0 }), [vec![8]]);
        assert_eq!(found(2, |row| if row[0] == 1 && row[2] == 4 { 1.5 } else { 0.0 }), [vec![1, 14]]);
        let both = |row: &[usize]| {
            if row[1] == 3 {
                1.0
            } else if row[2] == 0 {
                0.6
            } else {
                0.0
            }
        };
        assert_eq!(found(3, both), [vec![8], vec![10]]);
    }

    #[test]
    fn nothing_is_found_where_all_rows_are_alike() {
        // 100 searches at 5 %: the binomial 99.9 % bound is 13. The bounds of unions are conservative.
        let alike = (100..200).filter(|&seed| !found(seed, |_| 0.0).is_empty()).count();
        assert!(alike <= 13, "{alike}");
        // The loss of all rows rose: no slice is worse than the others.
        let risen = (200..300).filter(|&seed| !found(seed, |_| 0.7).is_empty()).count();
        assert!(risen <= 13, "{risen}");
    }

    #[test]
    fn too_few_rows_are_not_searched_and_wrong_shapes_are_refused() {
        let mut random = ChaCha8Rng::seed_from_u64(1);
        let (few, many) = (rows(99, &mut random, |_| 9.0), rows(500, &mut random, |_| 0.0));
        assert_eq!(worst(&few, &many, &features(), &SEARCH), Ok(Vec::new()));
        assert_eq!(worst(&many, &few, &features(), &SEARCH), Ok(Vec::new()));
        assert!(worst(&many, &many, &[0], &SEARCH).is_err());
        assert!(worst(&many, &many, &features(), &Search { false_alarms: 0.0, ..SEARCH }).is_err());
        assert!(Rows::new(vec![1.0], [[true, false].as_slice()]).is_err());
        assert!(Rows::new(vec![f64::NAN], []).is_err());
        let empty = Rows::new(Vec::new(), []).expect("no rows");
        assert_eq!(worst(&empty, &empty, &[], &SEARCH), Ok(Vec::new()));
    }

    #[test]
    fn the_order_of_bits_is_that_of_rows() {
        let rows: Vec<bool> = (0..130).map(|row| row % 7 == 3).collect();
        let expected: Vec<usize> = (0..130).filter(|row| row % 7 == 3).collect();
        assert_eq!(Selection::of(&rows).rows().collect::<Vec<_>>(), expected);
    }
}
