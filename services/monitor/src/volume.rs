//! The rows of a window beside those of earlier windows. Pure.

use rekindle_domain::{
    WatchSettings,
    report::{Interval, Volume, VolumeSeason},
};
use rekindle_statistics::prediction;

use crate::window::Window;

const HOUR: i64 = 3_600_000;
const DAY: i64 = 24 * HOUR;
/// The fewest windows of a season that a volume is compared with. Of the latest days, two weeks: they have weekends.
const LEAST_WINDOWS: usize = 8;
const LEAST_DAYS: usize = 14;
/// The most windows: of a volume that grows, those long ago are too few.
const MOST_WINDOWS: usize = 26;
/// The least relative change, up or down, that is unusual.
const LEAST_CHANGE: f64 = 0.25;
/// How far back windows are read, at most: thirteen weeks of hours.
pub(crate) const READ: u64 = 13 * 7 * 24;

/// A window of earlier rows, over all versions.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Earlier {
    pub(crate) window: Window,
    pub(crate) rows: u64,
}

/// The volume of a window with `rows` rows. `earlier` has the windows before it, the latest first, without those that the log covers in part.
/// `None` if too few of them are of the same length and season.
///
/// The logarithms of the rows of windows of one season are taken as draws from one normal distribution, beside the variation of a count
/// (Poisson). Windows without rows have no report, and are not among them.
pub(crate) fn of(window: Window, rows: u64, earlier: &[Earlier], settings: &WatchSettings) -> Option<Volume> {
    let length = window.until - window.from;
    let seasons = if length < DAY {
        vec![(VolumeSeason::HourOfWeek, 7 * DAY, LEAST_WINDOWS), (VolumeSeason::HourOfDay, DAY, LEAST_WINDOWS)]
    } else if length == DAY {
        vec![(VolumeSeason::HourOfWeek, 7 * DAY, LEAST_WINDOWS), (VolumeSeason::None, DAY, LEAST_DAYS)]
    } else {
        vec![(VolumeSeason::None, length, LEAST_WINDOWS)]
    };
    let (season, alike) = seasons.into_iter().find_map(|(season, period, least)| {
        let is_alike = |earlier: &&Earlier| {
            let other = earlier.window;
            other.until - other.from == length && (window.from - other.from).rem_euclid(period) == 0
        };
        let alike: Vec<f64> =
            earlier.iter().filter(is_alike).take(MOST_WINDOWS).map(|earlier| earlier.rows.max(1) as f64).collect();
        (alike.len() >= least).then_some((season, alike))
    })?;
    let logarithms: Vec<f64> = alike.iter().map(|rows| rows.ln()).collect();
    let count = (alike.iter().sum::<f64>() / alike.len() as f64).recip().sqrt();
    let level = settings.false_alarm_rate / f64::from(WatchSettings::WINDOWS);
    let (lower, upper) = prediction::interval(&logarithms, count, level).ok()?;
    let centre = logarithms.iter().sum::<f64>() / logarithms.len() as f64;
    let per_hour = |rows: f64| (rows * HOUR as f64 / length as f64).min(f64::MAX);
    let expected = Interval {
        lower: per_hour(lower.min(centre + (-LEAST_CHANGE).ln_1p()).exp()),
        upper: per_hour(upper.max(centre + LEAST_CHANGE.ln_1p()).exp()),
    };
    Some(Volume { rows_per_hour: per_hour(rows as f64), expected, windows: u32::try_from(alike.len()).ok()?, season })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn window(from: i64, length: i64) -> Window {
        Window { from, until: from + length }
    }

    /// The volume of the window after `rows`, whose windows have this length.
    fn after(length: i64, earlier: &[u64], rows: u64) -> Option<Volume> {
        let windows = (0..).zip(earlier).map(|(n, &rows)| Earlier { window: window(n * length, length), rows });
        let mut windows: Vec<Earlier> = windows.collect();
        windows.reverse();
        of(
            window(i64::try_from(earlier.len()).expect("few") * length, length),
            rows,
            &windows,
            &WatchSettings::default(),
        )
    }

    fn unusual(volume: Option<Volume>) -> Option<bool> {
        volume.map(|volume| volume.is_unusual())
    }

    #[test]
    fn far_more_or_fewer_rows_than_in_earlier_windows_are_unusual() {
        let weeks = [1_000, 1_060, 980, 1_020, 940, 1_010, 1_050, 990, 1_000, 970];
        for (rows, expected) in [(1_000, false), (1_150, false), (850, false), (2_000, true), (400, true), (0, true)] {
            assert_eq!(unusual(after(7 * DAY, &weeks, rows)), Some(expected), "{rows}");
        }
        let volume = after(7 * DAY, &weeks, 1_000).expect("ten weeks");
        assert_eq!((volume.windows, volume.season), (10, VolumeSeason::None));
        assert!((volume.rows_per_hour - 1_000.0 / 168.0).abs() < 1e-9, "{volume:?}");
        // Windows without any variation: a count varies, and small changes do not matter.
        assert_eq!(unusual(after(7 * DAY, &[1_000_000; 9], 1_200_000)), Some(false));
        assert_eq!(unusual(after(7 * DAY, &[1_000_000; 9], 1_300_000)), Some(true));
        assert_eq!(unusual(after(7 * DAY, &[9; 9], 20)), Some(false), "few rows vary more");
    }

    #[test]
    fn hours_are_compared_with_the_same_hours() {
        // Nights have a tenth of the rows of days.
        let hour = |n: usize| if n % 24 < 8 { 100 } else { 1_000 };
        let hours = |days: usize| (0..24 * days + 3).map(|n| hour(n) + (n as u64 * 37) % 20).collect::<Vec<u64>>();
        assert_eq!(after(HOUR, &hours(7), 100), None, "seven nights");
        let night = after(HOUR, &hours(9), 110);
        assert_eq!(night.map(|volume| volume.season), Some(VolumeSeason::HourOfDay));
        assert_eq!(unusual(night), Some(false));
        assert_eq!(unusual(after(HOUR, &hours(9), 1_000)), Some(true), "the rows of a day in the night");
        let volume = after(HOUR, &hours(9 * 7), 110).expect("nine weeks");
        assert_eq!((volume.season, volume.windows), (VolumeSeason::HourOfWeek, 9));
    }

    #[test]
    fn days_are_compared_with_the_same_days_of_the_week() {
        let days =
            |count: usize| (0..count).map(|n| if n % 7 >= 5 { 200 } else { 1_000 + n as u64 }).collect::<Vec<u64>>();
        assert_eq!(after(DAY, &days(13), 200), None);
        assert_eq!(after(DAY, &days(20), 200).map(|volume| volume.season), Some(VolumeSeason::None));
        // The next day is a Saturday.
        let saturday = after(DAY, &days(61), 200).expect("eight weeks");
        assert_eq!((saturday.season, saturday.is_unusual()), (VolumeSeason::HourOfWeek, false));
        assert_eq!(unusual(after(DAY, &days(61), 1_000)), Some(true));
    }

    #[test]
    fn windows_of_another_length_are_not_compared() {
        let earlier: Vec<Earlier> = (0..20).map(|n| Earlier { window: window(n * HOUR, HOUR), rows: 10 }).collect();
        assert_eq!(of(window(20 * HOUR, 7 * DAY), 1_000, &earlier, &WatchSettings::default()), None);
    }
}
