//! Whether the quality of a version is associated with the rows per hour of its windows.
//!
//! It follows from the measured windows up to a report. Their outcomes may arrive later, so that it is read, and never stored, with a
//! report.

use rekindle_domain::{
    ModelName, VersionRef, WatchSettings,
    report::{LoadAssociation, Quality},
};
use rekindle_statistics::association::rank_correlation;
use sea_orm::{ConnectionTrait, DbErr};

use crate::{report::Report, store::reports};

/// The fewest and the most windows that are compared.
const LEAST_WINDOWS: usize = 8;
const MOST_WINDOWS: usize = 60;

/// The level of the test of the changes from window to window.
const LEVEL_OF_STEPS: f64 = 0.05;

const HOUR: f64 = 3_600_000.0;

/// A measured window of a version.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Measured {
    /// The end of the window, in milliseconds.
    pub(crate) until: i64,
    /// The rows of all versions.
    pub(crate) rows_per_hour: f64,
    pub(crate) quality: Quality,
}

/// Sets the association of each quality of consecutive reports of one model, with two queries for each version.
pub(crate) async fn associate(db: &impl ConnectionTrait, reports: &mut [Report]) -> Result<(), DbErr> {
    let measured = |report: &&Report| report.content.quality.is_some();
    let mut versions: Vec<(VersionRef, i64)> = Vec::new();
    for report in reports.iter().filter(measured) {
        let version = (report.content.window.version, report.since);
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    let (windows, level) = ((reports.len() + MOST_WINDOWS) as u64, level());
    for version in versions {
        let of_version = |report: &Report| (report.content.window.version, report.since) == version;
        let Some(latest) = reports.iter().filter(|report| of_version(report)).max_by_key(|report| report.window.until)
        else {
            continue;
        };
        let (model, until) = (latest.content.window.model.clone(), latest.window.until);
        let history = history(db, &model, version, until, windows).await?;
        for report in reports.iter_mut().filter(|report| of_version(report)) {
            let until = report.window.until;
            let up_to_here: Vec<&Measured> =
                history.iter().filter(|measured| measured.until <= until).take(MOST_WINDOWS).collect();
            if let Some(quality) = &mut report.content.quality {
                quality.load = of_windows(&up_to_here, level);
            }
        }
    }
    Ok(())
}

/// The measured windows of a version up to the one that ends at `until`, the latest first.
async fn history(
    db: &impl ConnectionTrait,
    model: &ModelName,
    (version, since): (VersionRef, i64),
    until: i64,
    windows: u64,
) -> Result<Vec<Measured>, DbErr> {
    let qualities = reports::qualities(db, model, (version, since), until, windows).await?;
    let Some(first) = qualities.last().map(|(window, _)| window.from) else { return Ok(Vec::new()) };
    let volumes = reports::volumes(db, model, since, (first, until), windows).await?;
    let measured = qualities.into_iter().filter_map(|(window, quality)| {
        let volume = volumes.iter().find(|volume| volume.window == window)?;
        let rows_per_hour = volume.rows as f64 * HOUR / (window.until - window.from) as f64;
        Some(Measured { until: window.until, rows_per_hour, quality })
    });
    Ok(measured.collect())
}

/// The level of the test: a window's share of the default budget. It is no setting, since the windows may have been measured with several.
fn level() -> f64 {
    WatchSettings::default().false_alarm_rate / f64::from(WatchSettings::WINDOWS)
}

/// The association of a metric with the load over measured windows, the latest first; `None` if it does not become worse, or of too few
/// windows.
fn of_windows(windows: &[&Measured], level: f64) -> Option<LoadAssociation> {
    let metric = ["accuracy", "log_loss", "rmse"]
        .into_iter()
        .find(|name| windows.first().is_some_and(|window| window.quality.metrics.contains_key(*name)))?;
    let mut pairs: Vec<(f64, f64)> = windows
        .iter()
        .filter(|window| window.quality.labelled_rows > 0)
        .filter_map(|window| Some((window.rows_per_hour, *window.quality.metrics.get(metric)?)))
        .collect();
    if pairs.len() < LEAST_WINDOWS {
        return None;
    }
    let (loads, values): (Vec<f64>, Vec<f64>) = pairs.iter().copied().unzip();
    let found = rank_correlation(&loads, &values).ok()??;
    let is_worse = |correlation: f64| if metric == "accuracy" { correlation < 0.0 } else { correlation > 0.0 };
    if found.p_value > level || !is_worse(found.correlation) || !is_worse(found.given_order) {
        return None;
    }
    // A season that both share changes little from one window to the next.
    let steps = |values: &[f64]| values.windows(2).map(|pair| pair[1] - pair[0]).collect::<Vec<f64>>();
    let of_steps = rank_correlation(&steps(&loads), &steps(&values)).ok()??;
    if of_steps.p_value > LEVEL_OF_STEPS || !is_worse(of_steps.correlation) {
        return None;
    }
    pairs.sort_by(|a, b| a.0.total_cmp(&b.0));
    let third = pairs.len() / 3;
    let means = |pairs: &[(f64, f64)]| {
        let sums = pairs.iter().fold((0.0, 0.0), |sums, pair| (sums.0 + pair.0, sums.1 + pair.1));
        (sums.0 / pairs.len() as f64, sums.1 / pairs.len() as f64)
    };
    let (low, high) = (means(&pairs[..third]), means(&pairs[pairs.len() - third..]));
    Some(LoadAssociation {
        metric: metric.to_owned(),
        correlation: found.correlation,
        p_value: found.p_value,
        windows: u32::try_from(pairs.len()).unwrap_or(u32::MAX),
        means: [low.1, high.1],
        rows_per_hour: [low.0, high.0],
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn association(metric: &str, pairs: &[(f64, f64)]) -> Option<LoadAssociation> {
        let windows: Vec<Measured> = (0..)
            .zip(pairs)
            .map(|(n, &(rows_per_hour, value))| Measured {
                until: -n,
                rows_per_hour,
                quality: Quality {
                    labelled_rows: 100,
                    metrics: [(metric.to_owned(), value)].into(),
                    ..Quality::inconclusive()
                },
            })
            .collect();
        of_windows(&windows.iter().collect::<Vec<_>>(), level())
    }

    const FALLING: [(f64, f64); 12] = [
        (10e3, 0.98),
        (50e3, 0.90),
        (30e3, 0.95),
        (60e3, 0.85),
        (11e3, 0.98),
        (48e3, 0.91),
        (33e3, 0.95),
        (61e3, 0.84),
        (12e3, 0.97),
        (51e3, 0.90),
        (29e3, 0.96),
        (59e3, 0.86),
    ];

    #[test]
    fn accuracy_that_falls_as_load_rises_is_an_association() {
        let found = association("accuracy", &FALLING).expect("an association");
        assert!(found.correlation < -0.95 && found.p_value < 1e-4, "{found:?}");
        assert_eq!((found.metric.as_str(), found.windows), ("accuracy", 12));
        assert!(found.means[0] > 0.96 && found.means[1] < 0.87, "{found:?}");
        assert!(found.rows_per_hour[0] < 20e3 && found.rows_per_hour[1] > 55e3, "{found:?}");
        let losses = FALLING.map(|(load, accuracy)| (load, 1.0 - accuracy));
        assert!(association("log_loss", &losses).is_some());
    }

    #[test]
    fn what_becomes_better_has_no_relation_or_too_few_windows_is_none() {
        assert_eq!(association("log_loss", &FALLING), None, "the loss falls");
        assert_eq!(association("accuracy", &FALLING[..7]), None);
        let shuffled: Vec<(f64, f64)> = (0..12).map(|n| (FALLING[n].0, FALLING[(n * 5 + 3) % 12].1)).collect();
        assert_eq!(association("accuracy", &shuffled), None);
        // Both follow the season of a year, and the changes from week to week have nothing in common.
        let season = |n: u64| (n as f64 * std::f64::consts::TAU / 52.0).sin();
        let noise = |n: u64, seed: u64| {
            let bits = (n + 1 + 1_000 * seed).wrapping_mul(0x9e37_79b9_7f4a_7c15);
            let bits = (bits ^ (bits >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
            let bits = (bits ^ (bits >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
            ((bits ^ (bits >> 31)) >> 40) as f64 / (1_u64 << 24) as f64 - 0.5
        };
        let of_week = |n| (50e3 + 30e3 * season(n) + 20e3 * noise(n, 5), 0.9 - 0.05 * season(n) + 0.03 * noise(n, 11));
        let seasonal: Vec<(f64, f64)> = (0..52).map(of_week).collect();
        assert_eq!(association("accuracy", &seasonal), None);
        assert_eq!(association("auc", &FALLING), None);
        assert_eq!(association("accuracy", &[]), None);
    }
}
