//! The verdict on a window whose rows depend on their time: whether it differs from the reference by more than the blocks of the reference
//! differ from each other.
//!
//! A column has drifted if it has drifted by the [test of rows](super), with the largest effect of a block as the margin if that is above
//! the configured one, and
//!
//! - a further block of the reference would be as far away with a probability below half of the level; or the distance is [out of
//!   proportion](Distance::is_out_of_proportion) to those of the blocks; or no period explains it: the values appear to have another unit, or
//!   half of them are missing, where hardly any were; or
//! - it is the last of several windows in a row that are each further away than every block. If windows and blocks are exchangeable, `k`
//!   windows are the `k` furthest of `b + k` with a probability of `1 / C(b + k, k)`; the smallest `k` for which that is below half of the
//!   level raises an alarm, and so do `2k`, `4k` and so on. Windows between these alarms are inconclusive, so that one change is reported
//!   when it is established, and again each time that it has lasted twice as long.
//!
//! The second rule counts independent blocks and windows, as estimated from the blocks. Where neighbouring blocks are significantly
//! similar, it counts all: such a column follows a season or a trend, of which the blocks cannot show how far it goes. That the windows are
//! beyond every block is then reported as [`BlockCause::UnseenSeason`], which the false-alarm budget does not cover: a process whose
//! correlation spans many windows, without a season, raises such alarms, too.

use serde::{Deserialize, Serialize};
use statrs::function::gamma::ln_gamma;

use super::{
    Suspicion, Verdict,
    bins::Short,
    column::{ColumnDrift, compare_column},
};
use crate::{
    blocks::{Distance, Variation},
    profile::ColumnProfile,
};

/// A window that is further away than every block is inconclusive if fewer than this share of further blocks would be.
const UNUSUAL: f64 = 0.01;

/// The effective number of blocks below which no window beyond every block is stable.
const ENOUGH_EFFECTIVE: f64 = 8.0;

/// The variation of a column of the reference, and what is known of the windows before.
#[derive(Debug, Clone, Copy)]
pub struct Blockwise<'a> {
    /// Between the blocks of the reference.
    pub variation: &'a Variation,
    /// The number of consecutive windows directly before this one that were further away than every block.
    pub beyond_before: u32,
}

/// A window beside the blocks of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Serialize, Deserialize)]
pub struct BlockTest {
    /// The length of a block, in milliseconds.
    pub block_length: i64,
    /// Complete blocks of the reference.
    pub blocks: u64,
    /// The number of independent blocks that they are worth.
    pub effective_blocks: f64,
    /// The estimated correlation of neighbouring blocks.
    pub autocorrelation: f64,
    /// The effect over bins that are the same for all blocks.
    pub effect: f64,
    /// The largest effect of a block of the reference.
    pub largest_effect: f64,
    /// The probability that a further block of the reference is as far away.
    pub p_value: f64,
    /// Consecutive windows up to this one that are further away than every block.
    pub windows_beyond: u32,
    /// Of a drifted column.
    pub cause: Option<BlockCause>,
}

impl BlockTest {
    /// The length of a block, e.g. `7 days`.
    pub fn length_in_words(&self) -> String {
        Span(self.block_length).to_string()
    }
}

/// What a drifted window is, beside the blocks of the reference.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum BlockCause {
    /// Beyond anything in the reference, whose blocks vary from one to the next.
    BeyondReference,
    /// The column changes slowly from block to block: a season or a trend that the reference does not cover.
    UnseenSeason,
}

/// As [`compare_column`], beside the variation of the reference, if that is known.
pub fn compare_column_in_blocks(
    name: &str,
    reference: &ColumnProfile,
    current: &ColumnProfile,
    blocks: Option<Blockwise<'_>>,
    level: f64,
    margin: f64,
) -> ColumnDrift {
    let distance = blocks.and_then(|blocks| Some((blocks, blocks.variation.distance(reference, current)?)));
    let Some((blocks, distance)) = distance else { return compare_column(name, reference, current, level, margin) };
    let wide = margin.max(blocks.variation.largest_effect);
    let mut column = compare_column(name, reference, current, level, wide);
    conclude(&mut column, blocks, distance, level / 2.0, margin, wide);
    column
}

/// Sets the verdict and its reason. `wide` is the margin, or the largest effect of a block if that is larger.
fn conclude(
    column: &mut ColumnDrift,
    Blockwise { variation, beyond_before }: Blockwise<'_>,
    distance: Distance,
    level: f64,
    margin: f64,
    wide: f64,
) {
    let differs = column.verdict == Verdict::Drifted;
    let is_beyond = differs && distance.effect > wide;
    let windows = if is_beyond { beyond_before.saturating_add(1) } else { 0 };
    let is_fault = matches!(column.suspicion, Some(Suspicion::UnitChange { .. })) || is_mostly_without_value(column);
    let is_far = is_beyond && (distance.p_value < level || distance.is_out_of_proportion || is_fault);
    let independent = if variation.is_slow { 1.0 } else { variation.likely_blocks / variation.blocks as f64 };
    let is_lasting = is_beyond && is_alarm(windows, variation.blocks as f64, independent, level);
    let is_unusual = distance.p_value < UNUSUAL || variation.effective_blocks < ENOUGH_EFFECTIVE || windows > 1;
    // No season or trend changes a unit, or is out of all proportion.
    let is_season = variation.is_slow && !distance.is_out_of_proportion && !is_fault;
    let known = Known { variation, distance };
    if is_far || is_lasting {
        column.reason = format!("{}; {}", column.reason, known.drifted((!is_far).then_some(windows), is_season));
    } else if differs {
        (column.verdict, column.suspicion) = (Verdict::Stable, None);
        column.reason = known.stable();
        if is_beyond && is_unusual {
            (column.verdict, column.reason) = (Verdict::Inconclusive, known.inconclusive(windows));
        }
    } else if column.verdict == Verdict::Inconclusive
        && column.is_comparable()
        && column.is_large_enough(wide)
        && distance.p_value >= UNUSUAL
    {
        // Close to the furthest block, which is a block, too.
        (column.verdict, column.reason) = (Verdict::Stable, known.stable());
    } else if column.verdict == Verdict::Stable {
        column.reason = match column.effect > margin {
            true => known.stable(),
            false => format!("an effect of {} is within the margin of {}", Short(column.effect), Short(margin)),
        };
    }
    column.blocks = Some(BlockTest {
        block_length: variation.length,
        blocks: variation.blocks as u64,
        effective_blocks: variation.effective_blocks,
        autocorrelation: variation.autocorrelation,
        effect: distance.effect,
        largest_effect: variation.largest_effect,
        p_value: distance.p_value,
        windows_beyond: windows,
        cause: (is_far || is_lasting).then_some(match is_season {
            true => BlockCause::UnseenSeason,
            false => BlockCause::BeyondReference,
        }),
    });
}

/// Whether at least half of the window's values are missing or not finite, of which the reference has hardly any.
fn is_mostly_without_value(column: &ColumnDrift) -> bool {
    let (before, now) =
        (column.missing.reference + column.non_finite.reference, column.missing.current + column.non_finite.current);
    now >= 0.5 && before <= 0.05
}

/// Whether `windows` in a row beyond all of `blocks` blocks raise an alarm. Of both, the share `independent` is independent.
fn is_alarm(windows: u32, blocks: f64, independent: f64, level: f64) -> bool {
    let chance = |windows: u32| {
        let (k, b) = (f64::from(windows) * independent, blocks * independent);
        // 1 / C(b + k, k), for real numbers.
        (ln_gamma(b + 1.0) + ln_gamma(k + 1.0) - ln_gamma(b + k + 1.0)).exp()
    };
    let least = (1..=windows).find(|&windows| chance(windows) <= level);
    least.is_some_and(|least| windows.is_multiple_of(least) && (windows / least).is_power_of_two())
}

/// What is known of the reference and the window, in words.
struct Known<'a> {
    variation: &'a Variation,
    distance: Distance,
}

impl Known<'_> {
    fn drifted(&self, windows: Option<u32>, is_season: bool) -> String {
        let blocks = self.blocks();
        let beyond = match windows {
            None => format!("further from the reference than its {blocks} are from each other"),
            Some(windows) => {
                format!("each of the last {windows} windows is further from the reference than all of its {blocks}")
            }
        };
        if is_season {
            return format!(
                "{beyond}, which change slowly: possible season or trend that the reference does not cover"
            );
        }
        beyond
    }

    fn stable(&self) -> String {
        let (effect, largest) = (Short(self.distance.effect), Short(self.variation.largest_effect));
        let blocks = self.blocks();
        if self.distance.effect <= self.variation.largest_effect {
            return format!(
                "an effect of {effect} is within the differences between the {blocks} of the reference, up to {largest}"
            );
        }
        format!("an effect of {effect} is not unusual beside the {blocks} of the reference, which have up to {largest}")
    }

    fn inconclusive(&self, windows: u32) -> String {
        let (effect, largest) = (Short(self.distance.effect), Short(self.variation.largest_effect));
        let Variation { effective_blocks, .. } = self.variation;
        let lasting = if windows > 1 { format!(" in window {windows} in a row") } else { String::new() };
        let few = match *effective_blocks < ENOUGH_EFFECTIVE {
            true => format!(
                ", but similar to their neighbours and worth {} independent ones",
                Short(round(*effective_blocks))
            ),
            false => String::new(),
        };
        format!(
            "an effect of {effect} is beyond the {} of the reference, up to {largest}{lasting}{few}: not yet more than chance",
            self.blocks()
        )
    }

    /// E.g. `17 blocks of 7 days`.
    fn blocks(&self) -> String {
        format!("{} blocks of {}", self.variation.blocks, Span(self.variation.length))
    }
}

fn round(number: f64) -> f64 {
    (number * 10.0).round() / 10.0
}

/// A span of time in its largest unit.
struct Span(i64);

impl std::fmt::Display for Span {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        const UNITS: [(&str, f64); 4] =
            [("day", 86_400_000.0), ("hour", 3_600_000.0), ("minute", 60_000.0), ("second", 1000.0)];
        let millis = self.0 as f64;
        let (unit, size) = UNITS.into_iter().find(|(_, size)| millis >= *size).unwrap_or(("second", 1000.0));
        let count = millis / size;
        write!(f, "{} {unit}{}", Short(count), if count == 1.0 { "" } else { "s" })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_alarm_repeats_when_a_run_has_doubled() {
        // 1 / C(18, 2) = 1 / 153, 1 / C(19, 3) = 1 / 969.
        let alarms = |level: f64| (1..30).filter(|&windows| is_alarm(windows, 16.0, 1.0, level)).collect::<Vec<_>>();
        assert_eq!(alarms(1.0 / 968.0), [3, 6, 12, 24]);
        assert_eq!(alarms(1.0 / 152.0), [2, 4, 8, 16]);
        assert_eq!(alarms(0.0), Vec::<u32>::new());
        assert!(!is_alarm(0, 16.0, 1.0, 0.5));
        // Half as many: 1 / C(10, 2) = 1 / 45 after four windows.
        assert!(!is_alarm(3, 16.0, 0.5, 1.0 / 44.0) && is_alarm(4, 16.0, 0.5, 1.0 / 44.0));
    }

    #[test]
    fn spans_have_their_largest_unit() {
        for (millis, text) in
            [(604_800_000, "7 days"), (86_400_000, "1 day"), (5_400_000, "1.5 hours"), (500, "0.5 seconds")]
        {
            assert_eq!(Span(millis).to_string(), text);
        }
    }
}
