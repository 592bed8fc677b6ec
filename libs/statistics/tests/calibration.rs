//! A small part of the simulations of `make calibrate`: without drift, false alarms stay within the budget, and shifts in large windows are
//! detected at once. Draws are seeded, so a failure is reproducible.

#[path = "../examples/calibrate/simulation.rs"]
mod simulation;

use rekindle_statistics::drift::Settings;
use simulation::{Population, Shift, alarms_without_cause, delay, effect, p_value};
use statrs::distribution::{Binomial, DiscreteCDF as _};

/// Window sizes, and the number of streams of each.
const SIZES: [(usize, u64); 5] = [(50, 15), (100, 15), (200, 15), (500, 15), (10_000, 2)];

/// Streams with a shift.
const PLANTED: u64 = 10;

#[track_caller]
fn keeps_to_the_budget(population: Population) {
    let settings = Settings::default();
    let streams: u64 = SIZES.iter().map(|(_, streams)| streams).sum();
    let alarms = SIZES.iter().flat_map(|&(rows, streams)| {
        // Different seeds from those of `make calibrate`.
        (0..streams).map(move |stream| alarms_without_cause(population, rows, 1_000_000 + stream, &settings))
    });
    let alarms = alarms.filter(|alarm| *alarm).count() as u64;
    let most = Binomial::new(settings.false_alarms, streams).expect("a probability").inverse_cdf(0.99);
    println!("{population:?}: {alarms} of {streams} streams raise an alarm; with 99 % at most {most} would");
    assert!(alarms <= most, "{alarms} of {streams} streams raise an alarm, at most {most} expected");
}

#[track_caller]
fn finds_at_once(population: Population, shift: Shift) {
    let settings = Settings::default();
    let effect = effect(population, shift, &settings);
    assert!(effect > settings.margin, "the shift has an effect of {effect}, within the margin");
    let delays: Vec<Option<usize>> =
        (0..PLANTED).map(|seed| delay(population, 10_000, shift, 1_000_000 + seed, &settings)).collect();
    assert!(delays.iter().all(|delay| *delay == Some(1)), "{population:?} {shift:?}: {delays:?}");
}

#[test]
fn normal() {
    keeps_to_the_budget(Population::Normal);
    finds_at_once(Population::Normal, Shift::Deviations(0.2));
}

#[test]
fn lognormal() {
    keeps_to_the_budget(Population::LogNormal);
    finds_at_once(Population::LogNormal, Shift::Deviations(0.1));
}

#[test]
fn heavy_ties() {
    keeps_to_the_budget(Population::Ties);
    finds_at_once(Population::Ties, Shift::Deviations(0.2));
}

#[test]
fn three_categories() {
    keeps_to_the_budget(Population::Categories(3));
    finds_at_once(Population::Categories(3), Shift::Share(0.1));
}

#[test]
fn twenty_categories() {
    keeps_to_the_budget(Population::Categories(20));
    finds_at_once(Population::Categories(20), Shift::Share(0.05));
}

#[test]
fn hundred_categories() {
    keeps_to_the_budget(Population::Categories(100));
    finds_at_once(Population::Categories(100), Shift::Share(0.05));
}

#[test]
fn thousand_categories() {
    keeps_to_the_budget(Population::Categories(1000));
    finds_at_once(Population::Categories(1000), Shift::Share(0.05));
}

/// A shift within the margin is not drift for any number of rows.
#[test]
fn a_shift_within_the_margin_is_not_drift() {
    let settings = Settings::default();
    let shift = Shift::Deviations(0.1);
    assert!(effect(Population::Normal, shift, &settings) < settings.margin);
    assert!((0..3).all(|seed| delay(Population::Normal, 10_000, shift, seed, &settings).is_none()));
}

/// Without the margin, which hides false alarms: p-values below a level are not more frequent than the level, with small references, with
/// windows larger than the reference, and with rare values.
#[test]
fn p_values_are_valid() {
    const COLUMNS: u64 = 4000;
    for (population, reference, window) in [
        (Population::Normal, 80, 2000),
        (Population::Normal, 500, 500),
        (Population::Gaps, 200, 2000),
        (Population::Rare(1), 2000, 800),
        (Population::Rare(3), 2000, 800),
        (Population::Categories(20), 300, 300),
    ] {
        let p_values: Vec<f64> =
            (0..COLUMNS).map(|seed| p_value(population, reference, window, 1_000_000 + seed)).collect();
        for level in [1e-2, 1e-3] {
            let below = p_values.iter().filter(|p_value| **p_value < level).count() as u64;
            let most = Binomial::new(level, COLUMNS).expect("a probability").inverse_cdf(0.999);
            println!("{population:?}, {reference} against {window} rows: {below} of {COLUMNS} p-values below {level}");
            assert!(below <= most, "{below} p-values below {level}, at most {most} expected");
        }
    }
}
