//! The verdict of the gate: a pure function of the losses of both models, row by row in order of time.

use rekindle_domain::{Gate, evaluation::SliceEvaluation, job::Requirement};
use rekindle_statistics::paired::{Improvement, improvement_in_order};

use super::{mean, slices::Slice};
use crate::Error;

/// The losses of both models on the same rows.
pub(super) struct Losses<'a> {
    pub champion: &'a [f64],
    pub challenger: &'a [f64],
}

/// What must be shown, as [`Requirement`] explains.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(super) enum Shown {
    Better,
    NotWorse,
    /// With the difference of the predictions.
    Consistent(f64),
}

/// The verdict and the figures that it is based on.
#[derive(Debug)]
pub(super) struct Verdict {
    pub pass: bool,
    pub reason: String,
    pub improvement: Improvement,
    /// The slices with enough rows.
    pub slices: Vec<SliceEvaluation>,
}

/// Compares the losses. Every bound holds with the one-sided confidence of the gate; those of the slices hold together (Bonferroni), so that
/// a good challenger is not rejected because there are many slices.
pub(super) fn of(losses: &Losses<'_>, slices: &[Slice], gate: &Gate, shown: Shown) -> Result<Verdict, Error> {
    let margin = match shown {
        Shown::Better => gate.margin,
        Shown::NotWorse | Shown::Consistent(_) => -Requirement::TOLERANCE,
    };
    let found = paired(losses.champion, losses.challenger, gate.confidence)?;
    // The margin is deducted from the losses of the champion row by row, so that the bound covers its uncertainty too.
    let reduced: Vec<f64> = losses.champion.iter().map(|loss| loss * (1.0 - margin)).collect();
    let beyond_margin = paired(&reduced, losses.challenger, gate.confidence)?;
    let (large, small): (Vec<&Slice>, Vec<&Slice>) =
        slices.iter().partition(|slice| slice.members.len() as u64 >= gate.min_rows);
    let evaluated = of_slices(losses, &large, gate)?;
    let worse = evaluated.iter().find(|slice| slice.improvement_upper_bound < 0.0);
    let is_shown = match shown {
        Shown::Better | Shown::NotWorse => beyond_margin.lower > 0.0,
        // A refit has seen the rows: that it is worse there says that something went wrong. Where the data has changed it differs, and is
        // nearer to the outcomes.
        Shown::Consistent(disagreement) => {
            let differs_and_is_better = found.lower > 0.0 && disagreement.is_finite();
            differs_and_is_better || (found.upper >= 0.0 && disagreement <= Requirement::MAX_DISAGREEMENT)
        }
    };
    let numbers = numbers(gate, &found, mean(losses.champion));
    let mut reason = match (worse, shown) {
        (Some(slice), _) => format!("the challenger is worse where {} is {}: {numbers}", slice.column, slice.value),
        (None, Shown::Better) => better(gate, is_shown, &numbers),
        (None, Shown::NotWorse) => not_worse(is_shown, &numbers),
        (None, Shown::Consistent(disagreement)) => consistent(is_shown, disagreement, &numbers),
    };
    if !small.is_empty() {
        let (count, least) = (small.len(), gate.min_rows);
        reason = format!("{reason}; slices with fewer than {least} rows, which are not compared: {count}");
    }
    Ok(Verdict { pass: is_shown && worse.is_none(), reason, improvement: found, slices: evaluated })
}

fn of_slices(losses: &Losses<'_>, slices: &[&Slice], gate: &Gate) -> Result<Vec<SliceEvaluation>, Error> {
    let confidence = 1.0 - (1.0 - gate.confidence) / slices.len().max(1) as f64;
    let evaluate = |slice: &&Slice| {
        let of = |losses: &[f64]| slice.members.iter().map(|&row| losses[row]).collect::<Vec<f64>>();
        let found = paired(&of(losses.champion), &of(losses.challenger), confidence)?;
        Ok(SliceEvaluation {
            column: slice.column.clone(),
            value: slice.value.clone(),
            rows: slice.members.len() as u64,
            improvement: found.mean,
            improvement_upper_bound: found.upper,
        })
    };
    slices.iter().map(evaluate).collect()
}

/// The improvement with bounds that each hold with this one-sided confidence. The rows are in order of time, and neighbouring rows are
/// dependent.
fn paired(champion: &[f64], challenger: &[f64], confidence: f64) -> Result<Improvement, Error> {
    let two_sided = 2.0 * confidence - 1.0;
    improvement_in_order(champion, challenger, two_sided).map_err(|error| Error::Evaluation(error.to_string()))
}

/// The comparison in numbers.
fn numbers(gate: &Gate, found: &Improvement, champion_loss: f64) -> String {
    let percent = 100.0 * gate.confidence;
    let bound = if found.lower > 0.0 {
        format!("lower by at least {:.4}", found.lower)
    } else {
        format!("higher by at most {:.4}", -found.lower)
    };
    let challenger_loss = champion_loss - found.mean;
    format!(
        "its mean loss is {challenger_loss:.4}, that of the champion {champion_loss:.4}; with {percent} % confidence it is {bound}"
    )
}

fn better(gate: &Gate, is_shown: bool, numbers: &str) -> String {
    match is_shown {
        true => format!("the challenger is better: {numbers}"),
        false if gate.margin > 0.0 => {
            format!("the challenger is not shown to be better by the margin of {}: {numbers}", gate.margin)
        }
        false => format!("the challenger is not shown to be better: {numbers}"),
    }
}

fn not_worse(is_shown: bool, numbers: &str) -> String {
    let shown = if is_shown { "is" } else { "is not shown to be" };
    let percent = 100.0 * Requirement::TOLERANCE;
    format!("the champion has degraded, and the challenger {shown} at most {percent} % worse: {numbers}")
}

fn consistent(is_shown: bool, disagreement: f64, numbers: &str) -> String {
    let most = Requirement::MAX_DISAGREEMENT;
    let (found, required) = match (is_shown, disagreement <= most) {
        (true, true) => ("agrees with the evaluated model", "and is not worse"),
        (true, false) => {
            ("differs from the evaluated model", "and is better on the latest rows, which it has learned besides")
        }
        (false, true) => ("agrees with the evaluated model", "but is worse"),
        (false, false) => ("differs from the evaluated model", "and is not shown to be better"),
    };
    format!("the refit {found} (mean difference {disagreement:.4}, at most {most} agrees) {required}: {numbers}")
}

#[cfg(test)]
mod tests {
    use rand::{RngExt as _, SeedableRng as _};
    use rand_chacha::ChaCha8Rng;

    use super::*;

    const ROWS: usize = 4_000;

    /// Losses of two models whose difference has the same mean in every row, besides the effects of `periods` periods of equal length and
    /// noise. The challenger is better by `gain` on average.
    fn losses(seed: u64, periods: usize, gain: f64) -> (Vec<f64>, Vec<f64>) {
        let mut random = ChaCha8Rng::seed_from_u64(seed);
        let mut centered = |scale: f64| scale * (random.random::<f64>() - 0.5);
        let effects: Vec<f64> = (0..periods).map(|_| centered(1.0)).collect();
        let row = |row: usize| {
            let champion = 2.0 + centered(1.0);
            (champion, champion - gain + effects[row * periods / ROWS] + centered(2.0))
        };
        (0..ROWS).map(row).unzip()
    }

    fn judged(losses: &(Vec<f64>, Vec<f64>), slices: &[Slice], shown: Shown) -> Verdict {
        judged_with(0.95, losses, slices, shown)
    }

    fn judged_with(
        confidence: f64,
        (champion, challenger): &(Vec<f64>, Vec<f64>),
        slices: &[Slice],
        shown: Shown,
    ) -> Verdict {
        let gate = Gate { confidence, ..Gate::default() };
        of(&Losses { champion, challenger }, slices, &gate, shown).expect("enough rows")
    }

    /// An equal challenger, on rows of one period that share its effect: the declared error is 5 % or 20 %, and 71 and 239 of 1,000 are its
    /// binomial bounds at 99.9 %.
    #[test]
    fn equal_challengers_pass_as_rarely_as_the_confidence_says_whatever_the_length_of_a_period() {
        for (confidence, most) in [(0.95, 71), (Gate::default().confidence, 239)] {
            for periods in [ROWS, 60, 13, 7] {
                let pass = |seed| judged_with(confidence, &losses(seed, periods, 0.0), &[], Shown::Better).pass;
                let passes = (0..1_000).filter(|&seed| pass(seed)).count();
                println!("{passes} of 1,000 equal challengers pass at {confidence}, {ROWS} rows in {periods} periods");
                assert!(passes <= most, "{confidence}, {periods} periods: {passes} of 1,000");
            }
        }
    }

    #[test]
    fn a_refit_that_differs_must_be_better_and_one_that_agrees_must_not_be_worse() {
        let close = Requirement::MAX_DISAGREEMENT;
        for (gain, disagreement, passes, words) in [
            (0.0, close, true, "the refit agrees with the evaluated model (mean difference 0.1000"),
            (-0.3, close, false, "but is worse"),
            (0.3, 0.5, true, "and is better on the latest rows"),
            (0.0, 0.5, false, "and is not shown to be better"),
        ] {
            let verdict = judged(&losses(1, 60, gain), &[], Shown::Consistent(disagreement));
            assert_eq!(verdict.pass, passes, "{}", verdict.reason);
            assert!(verdict.reason.contains(words), "{}", verdict.reason);
        }
    }

    /// The slices of a column with twenty values, each of 5 % of the rows.
    fn twenty() -> Vec<Slice> {
        let slice = |value: usize| Slice {
            column: "place".to_owned(),
            value: value.to_string(),
            members: (value..ROWS).step_by(20).collect(),
        };
        (0..20).map(slice).collect()
    }

    #[test]
    fn a_challenger_that_is_better_but_for_one_slice_of_five_percent_is_rejected_and_the_slice_is_named() {
        let (mut blocked, mut passed) = (0, 0);
        for seed in 0..100 {
            let (champion, mut challenger) = losses(seed, 60, 0.3);
            passed += usize::from(judged(&(champion.clone(), challenger.clone()), &twenty(), Shown::Better).pass);
            twenty()[7].members.iter().for_each(|&row| challenger[row] += 0.8);
            let verdict = judged(&(champion, challenger), &twenty(), Shown::Better);
            let named = verdict.reason.starts_with("the challenger is worse where place is 7: ");
            blocked += usize::from(!verdict.pass && named);
        }
        assert!(blocked >= 95, "{blocked} of 100");
        assert!(passed >= 90, "without the regression the slices reject none too many: {passed} of 100 pass");
    }

    #[test]
    fn slices_that_are_too_small_are_counted_in_the_reason() {
        let small = Slice { column: "place".to_owned(), value: "x".to_owned(), members: (0..199).collect() };
        let verdict = judged(&losses(1, ROWS, 0.3), &[small], Shown::Better);
        assert!(verdict.pass && verdict.slices.is_empty());
        let counted = "; slices with fewer than 200 rows, which are not compared: 1";
        assert!(verdict.reason.ends_with(counted), "{}", verdict.reason);
    }
}
