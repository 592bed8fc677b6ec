//! What the shift of one column does to the predictions and the loss of a model, estimated from the validation rows.

use serde::{Deserialize, Serialize};

use crate::{
    blocks::FixedBins,
    performance::sum_of,
    profile::{ColumnProfile, MAX_ROWS},
};

/// The mean score and the mean loss of the validation rows by the bins of one column.
///
/// They estimate how a shift of that column alone changes the mean score and the mean loss, if both stay the same within a bin. Columns that
/// depend on each other share what they explain: the changes of several columns do not add up.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
#[serde(try_from = "Unchecked")]
pub struct ColumnEffect {
    bins: FixedBins,
    /// Rows of each bin.
    rows: Vec<u64>,
    /// The mean score of each bin; 0 without rows.
    scores: Vec<f64>,
    /// The mean loss of each bin; 0 without rows.
    losses: Vec<f64>,
}

/// The change of the means that the shift of one column explains.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct Moved {
    /// Of the score.
    pub score: f64,
    /// Of the loss.
    pub loss: f64,
}

impl ColumnEffect {
    /// The effect of a column with this reference profile on rows with these scores and losses. `bin` returns the bin of a row. `None` if the
    /// column has no [`FixedBins`].
    pub fn of(
        reference: &ColumnProfile,
        scores: &[f64],
        losses: &[f64],
        bin: impl Fn(&FixedBins, usize) -> usize,
    ) -> Option<Self> {
        let bins = FixedBins::of(reference)?;
        let (mut rows, mut means) = (vec![0_u64; bins.len()], vec![(0.0, 0.0); bins.len()]);
        for (row, (score, loss)) in scores.iter().zip(losses).enumerate() {
            let at = bin(&bins, row);
            let (of_scores, of_losses) = means.get_mut(at)?;
            rows[at] += 1;
            *of_scores += (score - *of_scores) / rows[at] as f64;
            *of_losses += (loss - *of_losses) / rows[at] as f64;
        }
        let (scores, losses): (Vec<f64>, Vec<f64>) = means.into_iter().unzip();
        let is_finite = scores.iter().chain(&losses).all(|mean| mean.is_finite());
        is_finite.then_some(Self { bins, rows, scores, losses })
    }

    /// How far the mean score and the mean loss move if this column alone changes from the distribution of the reference to that of a
    /// window: `sum_k (c_k - r_k) m_k` over the shares of both and the mean in each bin. A bin below or above the numbers of the reference has
    /// the mean of the nearest bin, and another bin without validation rows that of all rows. `None` if the values of the window are too many
    /// to be counted by value, and without rows.
    pub fn moved(&self, reference: &ColumnProfile, window: &ColumnProfile) -> Option<Moved> {
        let shares = |profile: &ColumnProfile| {
            let counts = self.bins.count(reference, profile)?;
            let rows = counts.iter().sum::<u64>() as f64;
            (rows > 0.0).then(|| counts.into_iter().map(|count| count as f64 / rows).collect::<Vec<f64>>())
        };
        let (before, after) = (shares(reference)?, shares(window)?);
        let all = self.rows.iter().sum::<u64>().max(1) as f64;
        let moved = |means: &[f64]| {
            let mean: f64 = means.iter().zip(&self.rows).map(|(mean, rows)| mean * (*rows as f64 / all)).sum();
            let at = |bin: usize| match self.known(bin) {
                Some(bin) => means[bin] - mean,
                None => 0.0,
            };
            let sum: f64 = before.iter().zip(&after).enumerate().map(|(bin, (b, a))| (a - b) * at(bin)).sum();
            Some(sum).filter(|sum| sum.is_finite())
        };
        Some(Moved { score: moved(&self.scores)?, loss: moved(&self.losses)? })
    }

    /// The bin whose mean a bin has: its own, or of numbers outside of the reference the nearest one with rows.
    fn known(&self, bin: usize) -> Option<usize> {
        let has_rows = |bin: &usize| self.rows[*bin] > 0;
        let intervals = self.bins.intervals();
        match bin {
            _ if has_rows(&bin) => Some(bin),
            _ if Some(bin) == self.bins.below() => (0..intervals).find(has_rows),
            _ if Some(bin) == self.bins.above() => (0..intervals).rfind(has_rows),
            _ => None,
        }
    }
}

/// The stored fields, which are validated on reading.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Unchecked {
    bins: FixedBins,
    rows: Vec<u64>,
    scores: Vec<f64>,
    losses: Vec<f64>,
}

impl TryFrom<Unchecked> for ColumnEffect {
    type Error = &'static str;

    fn try_from(stored: Unchecked) -> Result<Self, Self::Error> {
        let Unchecked { bins, rows, scores, losses } = stored;
        if [rows.len(), scores.len(), losses.len()].iter().any(|numbers| *numbers != bins.len()) {
            return Err("the bins of the column do not have one number each");
        }
        if sum_of(&rows) > MAX_ROWS {
            return Err("the bins of the column have too many rows");
        }
        Ok(Self { bins, rows, scores, losses })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn near(found: Moved, score: f64, loss: f64) {
        assert!((found.score - score).abs() < 1e-9 && (found.loss - loss).abs() < 1e-9, "{found:?} {score} {loss}");
    }

    #[test]
    fn a_column_moves_the_means_by_the_change_of_its_shares() {
        let texts = |values: &[&str]| ColumnProfile::of_texts(values.iter().map(|value| Some(*value)));
        let names = ["a", "a", "a", "b"];
        let (reference, window) = (texts(&names), texts(&["a", "b", "b", "new"]));
        let effect = ColumnEffect::of(&reference, &[1.0, 2.0, 3.0, 6.0], &[0.1, 0.1, 0.1, 0.5], |bins, row| {
            bins.of_text(Some(names[row]))
        });
        let effect = effect.expect("few values");
        // Means: a 2, b 6, all 3. Shares: a from 3/4 to 1/4, b from 1/4 to 1/2; the new value counts as the mean of all.
        let (mean, loss) = (3.0, 0.2);
        let expected = |a: f64, b: f64, all: f64| -0.5 * (a - all) + 0.25 * (b - all);
        near(effect.moved(&reference, &window).expect("rows"), expected(2.0, 6.0, mean), expected(0.1, 0.5, loss));
        near(effect.moved(&reference, &reference).expect("rows"), 0.0, 0.0);
        assert_eq!(effect.moved(&reference, &texts(&[])), None);
    }

    #[test]
    fn numbers_beyond_the_reference_have_the_mean_of_the_nearest_bin() {
        let numbers = |from: u32| ColumnProfile::of_numbers((from..from + 1_000).map(|n| Some(f64::from(n))));
        let scores: Vec<f64> = (0..1_000).map(f64::from).collect();
        let reference = numbers(0);
        let effect = ColumnEffect::of(&reference, &scores, &scores, |bins, row| bins.of_number(Some(scores[row])));
        let effect = effect.expect("numbers");
        let moved = effect.moved(&reference, &numbers(5_000)).expect("rows");
        // All rows at the mean of the last tenth.
        assert!((moved.score - (949.5 - 499.5)).abs() < 5.0 && moved.score == moved.loss, "{moved:?}");
        let moved = effect.moved(&reference, &ColumnProfile::of_numbers([Some(-7.0)])).expect("rows");
        assert!((moved.score - (49.5 - 499.5)).abs() < 5.0, "{moved:?}");
        let json = serde_json::to_value(&effect).expect("json");
        assert_eq!(serde_json::from_value::<ColumnEffect>(json.clone()).expect("it reads"), effect);
        let mut wrong = json;
        wrong["scores"] = serde_json::json!([1.0]);
        assert!(serde_json::from_value::<ColumnEffect>(wrong).is_err());
    }
}
