//! When the loss rose within a window.

use rekindle_statistics::stream::{
    Adwin, Signal,
    adwin::{Mode, Options},
};

use crate::Error;

/// The share of the losses above which they are clipped: one extreme value hides every change.
const CLIPPED: f64 = 0.01;

/// The first of the rows after the last rise of the mean loss, in order of time; `None` if it did not rise, or fell again.
///
/// ADWIN (Bifet and Gavalda 2007) keeps the rows since the last change of the mean: the onset is where they begin.
pub(super) fn of(losses: &[f64]) -> Result<Option<usize>, Error> {
    let mut sorted = losses.to_vec();
    sorted.sort_by(f64::total_cmp);
    let largest = (sorted.len() as f64 * (1.0 - CLIPPED)) as usize;
    let (Some(&low), Some(&high)) = (sorted.first(), sorted.get(largest.min(sorted.len().saturating_sub(1)))) else {
        return Ok(None);
    };
    if high <= low {
        return Ok(None);
    }
    let mut detector = Adwin::new(Options { mode: Mode::Paper, ..Options::default() })?;
    let mut onset = None;
    for (row, loss) in losses.iter().enumerate() {
        let before = detector.mean();
        let scaled = ((loss - low) / (high - low)).clamp(0.0, 1.0);
        if detector.update(scaled)? == Signal::Drift {
            let width = usize::try_from(detector.width()).unwrap_or(usize::MAX);
            let rose = detector.mean() > before;
            onset = rose.then(|| (row + 1).saturating_sub(width)).filter(|first| *first > 0);
        }
    }
    Ok(onset)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// Losses in no order, with another mean from a row on.
    fn losses(rows: usize, rise: impl Fn(usize) -> f64) -> Vec<f64> {
        (0..rows).map(|row| (row * 7919 % 1009) as f64 / 1009.0 + rise(row)).collect()
    }

    #[test]
    fn the_onset_is_near_the_row_from_which_the_loss_is_higher() {
        let step = |row: usize| if row >= 3_000 { 0.3 } else { 0.0 };
        let onset = of(&losses(5_000, step)).expect("numbers").expect("a rise");
        assert!((2_800..=3_200).contains(&onset), "{onset}");
        let mut extreme = losses(5_000, step);
        extreme[10] = 1e9;
        let onset = of(&extreme).expect("numbers").expect("a rise");
        assert!((2_800..=3_200).contains(&onset), "{onset}");
    }

    #[test]
    fn losses_that_did_not_rise_or_fell_again_have_none() {
        assert_eq!(of(&losses(5_000, |_| 0.0)).expect("numbers"), None);
        assert_eq!(
            of(&losses(6_000, |row| if (2_000..4_000).contains(&row) { 0.4 } else { 0.0 })).expect("numbers"),
            None
        );
        assert_eq!(of(&losses(5_000, |row| if row >= 3_000 { -0.3 } else { 0.0 })).expect("numbers"), None);
        assert_eq!(of(&[1.0; 500]).expect("numbers"), None);
        assert_eq!(of(&[]).expect("no numbers"), None);
    }
}
