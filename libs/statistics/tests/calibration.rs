//! What the drift verdict does over many windows: it keeps to its alarm budget where nothing moved, and finds
//! what was planted. Draws are seeded, so a failure repeats.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise, in its helpers too")]

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rekindle_statistics::{
    drift::{Drift, Settings, Verdict, compare},
    profile::ColumnProfile,
};

const REFERENCE_ROWS: usize = 10_000;

/// One source of values; the second argument moves it.
type Source = fn(&mut ChaCha8Rng, f64) -> f64;

/// Roughly normal: a sum of uniforms.
fn continuous(rng: &mut ChaCha8Rng, shift: f64) -> f64 {
    (0..12).map(|_| rng.random::<f64>()).sum::<f64>() - 6.0 + shift
}

/// Mostly zero, else a small whole number: many ties.
fn ties(rng: &mut ChaCha8Rng, shift: f64) -> f64 {
    if rng.random::<f64>() < 0.7 - shift { 0.0 } else { (rng.random::<f64>() * 6.0).floor() }
}

fn categories<const K: usize>(rng: &mut ChaCha8Rng, shift: f64) -> f64 {
    // Squared, so that some categories are rare.
    (rng.random::<f64>().powf(2.0 - shift) * K as f64).floor()
}

/// Twenty whole numbers of equal share: each on the brink of having a bin of its own.
fn dice(rng: &mut ChaCha8Rng, shift: f64) -> f64 {
    (rng.random::<f64>().powf(1.0 - shift) * 20.0).floor()
}

struct Column {
    name: &'static str,
    draw: Source,
    text: bool,
    planted: f64,
}

const COLUMNS: [Column; 6] = [
    Column { name: "continuous", draw: continuous, text: false, planted: 0.6 },
    Column { name: "ties", draw: ties, text: false, planted: 0.35 },
    Column { name: "dice", draw: dice, text: false, planted: 0.5 },
    Column { name: "20 categories", draw: categories::<20>, text: true, planted: 0.9 },
    Column { name: "100 categories", draw: categories::<100>, text: true, planted: 0.9 },
    Column { name: "3000 categories", draw: categories::<3000>, text: true, planted: 0.9 },
];

impl Column {
    fn rows(&self, rng: &mut ChaCha8Rng, rows: usize, shift: f64) -> Vec<f64> {
        (0..rows).map(|_| (self.draw)(rng, shift)).collect()
    }

    fn profile(&self, values: &[f64]) -> ColumnProfile {
        if self.text {
            let texts: Vec<String> = values.iter().map(ToString::to_string).collect();
            ColumnProfile::from_categorical(texts.iter().map(|text| Some(text.as_str())))
        } else {
            ColumnProfile::from_numeric(values.iter().copied().map(Some))
        }
    }

    fn compare(&self, profile: &ColumnProfile, window: &[f64], settings: &Settings) -> Drift {
        let counts = if self.text {
            let texts: Vec<String> = window.iter().map(ToString::to_string).collect();
            profile.count_categorical(texts.iter().map(|text| Some(text.as_str())))
        } else {
            profile.count_numeric(window.iter().copied().map(Some))
        };
        compare(profile, &counts.unwrap(), settings).unwrap()
    }
}

/// Upper end of what a binomial count should stay under: its mean and four standard deviations.
fn bound(trials: usize, chance: f64) -> f64 {
    let mean = trials as f64 * chance;
    mean + 4.0 * mean.sqrt() + 1.0
}

#[test]
fn no_change_keeps_to_the_alarm_budget() {
    const TRIALS: usize = 400;
    // Without a margin, so that the test of significance alone is measured. A fresh reference every time: it is a
    // sample too.
    let settings = Settings { margin_psi: 0.0, alpha: 0.05, columns: 1, min_rows: 1 };
    let mut rng = ChaCha8Rng::seed_from_u64(7);
    for column in &COLUMNS {
        for window_rows in [50, 200, 1000, 10_000] {
            let trials = if window_rows == 10_000 { TRIALS / 4 } else { TRIALS };
            let alarms = (0..trials).filter(|_| {
                let reference = column.rows(&mut rng, REFERENCE_ROWS / 4, 0.0);
                let window = column.rows(&mut rng, window_rows, 0.0);
                column.compare(&column.profile(&reference), &window, &settings).p_value < settings.alpha
            });
            let alarms = alarms.count();
            assert!((alarms as f64) < bound(trials, 0.05), "{} x {window_rows}: {alarms}/{trials}", column.name);
        }
    }
}

#[test]
fn no_change_hardly_ever_alarms_with_the_default_settings() {
    const TRIALS: usize = 300;
    let settings = Settings { columns: COLUMNS.len(), ..Settings::default() };
    let mut rng = ChaCha8Rng::seed_from_u64(11);
    for window_rows in [50, 100, 200, 500, 1000, 2000] {
        let mut alarms = 0;
        for column in &COLUMNS {
            let profile = column.profile(&column.rows(&mut rng, REFERENCE_ROWS, 0.0));
            alarms += (0..TRIALS)
                .filter(|_| {
                    let window = column.rows(&mut rng, window_rows, 0.0);
                    column.compare(&profile, &window, &settings).verdict == Verdict::Drifted
                })
                .count();
        }
        assert!((alarms as f64) < bound(TRIALS, settings.alpha), "{window_rows} rows: {alarms} alarms");
    }
}

#[test]
fn planted_shifts_are_found() {
    let settings = Settings { columns: 25, ..Settings::default() };
    let mut rng = ChaCha8Rng::seed_from_u64(13);
    for column in &COLUMNS {
        let profile = column.profile(&column.rows(&mut rng, REFERENCE_ROWS, 0.0));
        let found = (0..50)
            .filter(|_| {
                let window = column.rows(&mut rng, 2000, column.planted);
                column.compare(&profile, &window, &settings).verdict == Verdict::Drifted
            })
            .count();
        assert!(found >= 49, "{}: {found}/50", column.name);
    }
}

#[test]
fn a_shift_below_the_margin_is_stable_however_many_rows() {
    let column = &COLUMNS[0];
    let mut rng = ChaCha8Rng::seed_from_u64(17);
    let profile = column.profile(&column.rows(&mut rng, 100_000, 0.0));
    let window = column.rows(&mut rng, 100_000, 0.05);
    let drift = column.compare(&profile, &window, &Settings::default());
    assert!(drift.p_value < 1e-6, "{drift:?}");
    assert_eq!(drift.verdict, Verdict::Stable, "{drift:?}");
}

#[test]
fn the_smallest_detectable_shift_is_detected_as_often_as_promised() {
    const TRIALS: usize = 400;
    let settings = Settings { margin_psi: 0.0, alpha: 0.01, columns: 1, min_rows: 1 };
    // Ten categories of equal share, five of which gain what the other five lose: the population index is known.
    let draw = |rng: &mut ChaCha8Rng, tilt: f64| {
        let upper = rng.random::<f64>() < 0.5 + tilt;
        (rng.random::<f64>() * 5.0).floor() + if upper { 5.0 } else { 0.0 }
    };
    let column = Column { name: "tilt", draw, text: true, planted: 0.0 };
    let mut rng = ChaCha8Rng::seed_from_u64(19);
    let reference = column.rows(&mut rng, REFERENCE_ROWS, 0.0);
    let profile = column.profile(&reference);
    let detectable = column.compare(&profile, &column.rows(&mut rng, 500, 0.0), &settings).minimum_detectable_psi;
    let wanted = detectable.unwrap();
    let psi_of = |tilt: f64| tilt * ((0.5 + tilt) / (0.5 - tilt)).ln();
    let tilt = (1..5000).map(|i| f64::from(i) * 1e-4).take_while(|tilt| psi_of(*tilt) < wanted).last().unwrap();
    let found = (0..TRIALS)
        .filter(|_| column.compare(&profile, &column.rows(&mut rng, 500, tilt), &settings).p_value < settings.alpha)
        .count();
    let share = found as f64 / TRIALS as f64;
    assert!((0.70..0.90).contains(&share), "found {share} at an index of {wanted}");
}
