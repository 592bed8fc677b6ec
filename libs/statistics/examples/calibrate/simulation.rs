//! Streams of windows from known populations, and their drift verdicts.

use rand::{Rng, RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rekindle_statistics::{
    drift::{Settings, Verdict, compare_column},
    profile::ColumnProfile,
};

/// Rows of every reference.
pub(crate) const REFERENCE_ROWS: usize = 10_000;

/// Columns that share the budget.
pub(crate) const COLUMNS: usize = 20;

/// Windows of a stream, which share the budget too.
pub(crate) const WINDOWS: usize = 30;

/// The distribution of the values of a column.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Population {
    /// Standard normal.
    Normal,
    /// The exponential of a standard normal.
    LogNormal,
    /// The same, rounded down to integers: a quarter of the rows are 0, and half have one of two values.
    Ties,
    /// Standard normal, with 2 % missing and 1 % not finite.
    Gaps,
    /// That many categories, the i-th with a share proportional to 1/i.
    Categories(usize),
    /// That many categories with 1 % of the rows each, beside one with all others.
    Rare(usize),
}

/// The shift after the reference.
#[derive(Debug, Clone, Copy, PartialEq)]
pub(crate) enum Shift {
    /// No shift.
    None,
    /// Every number is larger by that many standard deviations of the population.
    Deviations(f64),
    /// This share of all rows moves from the first category to the last.
    Share(f64),
}

/// A generator of rows of one population.
pub(crate) struct Source {
    population: Population,
    /// Upper ends of the categories' shares.
    cumulative: Vec<f64>,
    names: Vec<String>,
    deviation: f64,
}

impl Source {
    pub(crate) fn new(population: Population) -> Self {
        let shares: Vec<f64> = match population {
            Population::Categories(count) => (1..=count).map(|i| 1.0 / i as f64).collect(),
            Population::Rare(count) => (0..=count).map(|i| if i == 0 { 100.0 - count as f64 } else { 1.0 }).collect(),
            _ => Vec::new(),
        };
        let (categories, total) = (shares.len(), shares.iter().sum::<f64>());
        let cumulative = shares.into_iter().scan(0.0, |sum, share| {
            *sum += share / total;
            Some(*sum)
        });
        let deviation = match population {
            Population::Normal | Population::Gaps => 1.0,
            // sqrt((e - 1) e), of the lognormal; the rounded one is within a percent.
            _ => ((std::f64::consts::E - 1.0) * std::f64::consts::E).sqrt(),
        };
        let names = (0..categories).map(|i| format!("category {i}")).collect();
        Self { population, cumulative: cumulative.collect(), names, deviation }
    }

    /// A profile of `rows` rows.
    pub(crate) fn profile(&self, rng: &mut impl Rng, rows: usize, shift: Shift) -> ColumnProfile {
        match self.population {
            Population::Categories(_) | Population::Rare(_) => {
                ColumnProfile::of_texts((0..rows).map(|_| Some(self.names[self.category(rng, shift)].as_str())))
            }
            Population::Gaps => ColumnProfile::of_numbers((0..rows).map(|_| match rng.random::<f64>() {
                at if at < 0.02 => None,
                at if at < 0.03 => Some(f64::NAN),
                _ => Some(self.number(rng, shift)),
            })),
            _ => ColumnProfile::of_numbers((0..rows).map(|_| Some(self.number(rng, shift)))),
        }
    }

    fn number(&self, rng: &mut impl Rng, shift: Shift) -> f64 {
        let (radius, angle): (f64, f64) = (1.0 - rng.random::<f64>(), rng.random());
        // Box and Muller (1958).
        let normal = (-2.0 * radius.ln()).sqrt() * (std::f64::consts::TAU * angle).cos();
        let value = match self.population {
            Population::Normal | Population::Gaps => normal,
            Population::Ties => normal.exp().floor(),
            _ => normal.exp(),
        };
        match shift {
            // The shift is rounded at random, so that ties remain and the mean shift is exact.
            Shift::Deviations(by) if self.population == Population::Ties => {
                value + (by * self.deviation + rng.random::<f64>()).floor()
            }
            Shift::Deviations(by) => value + by * self.deviation,
            _ => value,
        }
    }

    fn category(&self, rng: &mut impl Rng, shift: Shift) -> usize {
        let (last, at) = (self.names.len() - 1, rng.random::<f64>());
        let drawn = self.cumulative.partition_point(|&end| end < at).min(last);
        match shift {
            Shift::Share(share) if drawn == 0 && rng.random::<f64>() < share / self.cumulative[0] => last,
            _ => drawn,
        }
    }
}

/// Whether a stream without a shift raises an alarm in any window and column.
pub(crate) fn alarms_without_cause(population: Population, rows: usize, seed: u64, settings: &Settings) -> bool {
    let source = Source::new(population);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..COLUMNS).any(|_| {
        let reference = source.profile(&mut rng, REFERENCE_ROWS, Shift::None);
        (0..WINDOWS).any(|_| drifted(&reference, &source.profile(&mut rng, rows, Shift::None), settings))
    })
}

/// The p-value of one column of a window without a shift.
pub(crate) fn p_value(population: Population, reference_rows: usize, window_rows: usize, seed: u64) -> f64 {
    let source = Source::new(population);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut profile = |rows| source.profile(&mut rng, rows, Shift::None);
    let (reference, window) = (profile(reference_rows), profile(window_rows));
    compare_column("", &reference, &window, LEVEL, MARGIN).p_value
}

/// The level, on which a verdict depends, but no p-value.
const LEVEL: f64 = 1e-4;
const MARGIN: f64 = 0.02;

/// The window, counted from 1, in which the shift of one of the columns is detected; `None` if it is not.
pub(crate) fn delay(
    population: Population,
    rows: usize,
    shift: Shift,
    seed: u64,
    settings: &Settings,
) -> Option<usize> {
    let source = Source::new(population);
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let reference = source.profile(&mut rng, REFERENCE_ROWS, Shift::None);
    (1..=WINDOWS).find(|_| drifted(&reference, &source.profile(&mut rng, rows, shift), settings))
}

/// The effect of a shift without sampling error, from very many rows.
pub(crate) fn effect(population: Population, shift: Shift, settings: &Settings) -> f64 {
    let source = Source::new(population);
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    let rows = 100 * REFERENCE_ROWS;
    let (reference, current) = (source.profile(&mut rng, rows, Shift::None), source.profile(&mut rng, rows, shift));
    compare_column("", &reference, &current, settings.level(COLUMNS), settings.margin).effect
}

fn drifted(reference: &ColumnProfile, current: &ColumnProfile, settings: &Settings) -> bool {
    let found = compare_column("", reference, current, settings.level(COLUMNS), settings.margin);
    found.verdict == Verdict::Drifted
}
