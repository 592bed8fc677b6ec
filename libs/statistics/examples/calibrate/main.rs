//! False-alarm rate and detection delay of the drift verdict, simulated on known populations.
//!
//! Run with `make calibrate`. The first argument, such as `0.1`, runs that part of the streams, and the second one of `rows`, which are
//! independent, and `blocks`, whose rows depend on their time. It exits with 1 if a false-alarm rate is above the 99 % bound of the budget,
//! or if small p-values are more frequent than their level.

mod blocks;
mod simulation;

use std::{
    process::ExitCode,
    sync::atomic::{AtomicUsize, Ordering},
};

use blocks::Dependence;
use rekindle_statistics::drift::Settings;
use simulation::{COLUMNS, Population, REFERENCE_ROWS, Shift, WINDOWS, alarms_without_cause, delay, effect, p_value};
use statrs::distribution::{Binomial, DiscreteCDF as _};

const POPULATIONS: [(&str, Population); 7] = [
    ("normal", Population::Normal),
    ("lognormal", Population::LogNormal),
    ("heavy ties", Population::Ties),
    ("3 categories", Population::Categories(3)),
    ("20 categories", Population::Categories(20)),
    ("100 categories", Population::Categories(100)),
    ("1,000 categories", Population::Categories(1000)),
];

/// Rows of a window, and the number of streams.
const WINDOW_SIZES: [(usize, usize); 5] = [(50, 1000), (100, 1000), (200, 1000), (500, 1000), (10_000, 100)];

const DEVIATIONS: [f64; 4] = [0.1, 0.2, 0.5, 1.0];
const SHARES: [f64; 3] = [0.03, 0.07, 0.15];

/// Levels below which p-values are counted.
const P_LEVELS: [f64; 2] = [1e-2, 1e-3];

const P_POPULATIONS: [(&str, Population); 6] = [
    ("normal", Population::Normal),
    ("with gaps", Population::Gaps),
    ("heavy ties", Population::Ties),
    ("1 rare of 2", Population::Rare(1)),
    ("3 rare of 4", Population::Rare(3)),
    ("20 categories", Population::Categories(20)),
];

/// Rows of the reference and of the window.
const P_SIZES: [(usize, usize); 6] = [(80, 80), (80, 8000), (200, 2000), (1000, 100), (1000, 1000), (500, 5000)];

/// The number of pairs of each size.
const P_COLUMNS: usize = 20_000;

/// How rows depend on their time.
const DEPENDENCES: [(&str, Dependence); 11] = [
    ("independent rows", Dependence::None),
    ("AR(0.5) rows", Dependence::Rows(0.5)),
    ("AR(0.9) rows", Dependence::Rows(0.9)),
    ("weeks of 0.1", Dependence::Weeks(0.1)),
    ("weeks of 0.5", Dependence::Weeks(0.5)),
    ("weeks of 1", Dependence::Weeks(1.0)),
    ("weekly deviation", Dependence::Scales(0.3)),
    ("daily, weekly season", Dependence::Seasons),
    ("3 categories", Dependence::Categories(0.3)),
    ("AR(0.5) weeks", Dependence::CorrelatedWeeks(0.5)),
    ("AR(0.9) weeks", Dependence::CorrelatedWeeks(0.9)),
];

/// Weeks of a reference.
const WEEKS: [usize; 3] = [8, 16, 50];

/// Streams of each dependence and reference.
const BLOCK_STREAMS: usize = 400;

/// Shifts of the weekly means, in their standard deviations.
const BLOCK_SHIFTS: [f64; 4] = [0.5, 1.0, 3.0, 10.0];

/// The number of streams with a shift.
const SHIFTED_STREAMS: usize = 100;

fn main() -> ExitCode {
    let part = std::env::args().nth(1).and_then(|part| part.parse().ok()).unwrap_or(1.0);
    let settings = Settings::default();
    println!(
        "budget: any false alarm in {WINDOWS} windows of {COLUMNS} columns with a chance of at most {}; margin {}; \
         reference of {REFERENCE_ROWS} rows",
        settings.false_alarms, settings.margin
    );
    let only = std::env::args().nth(2);
    let takes = |section: &str| only.as_deref().is_none_or(|only| only == section);
    let (mut kept, mut valid) = (true, true);
    if takes("rows") {
        kept &= no_change(part, &settings);
        valid = p_values(part);
        planted(part, &settings);
    }
    if takes("blocks") {
        kept &= in_blocks(part, &settings);
    }
    if kept && valid { ExitCode::SUCCESS } else { ExitCode::FAILURE }
}

/// Prints the shares of streams with any alarm. Returns whether all are within the budget.
fn no_change(part: f64, settings: &Settings) -> bool {
    println!("\nno shift: streams with any alarm (bound: at most with 99 %)");
    let mut kept = true;
    for (name, population) in POPULATIONS {
        print!("{name:<18}");
        for (rows, streams) in WINDOW_SIZES {
            let streams = scaled(streams, part);
            let alarms = count(streams, |seed| alarms_without_cause(population, rows, seed, settings));
            let bound = bound(streams, settings.false_alarms);
            let mark = if alarms > bound { "!" } else { "" };
            print!("  n={rows}: {alarms}/{streams} ({bound}){mark}");
            kept &= alarms <= bound;
        }
        println!();
    }
    kept
}

/// Prints the shares of streams whose rows depend on their time, without a change, with any alarm, and the power for shifts of the weekly
/// means. Returns whether the alarms are within the budget, which does not cover weeks that are correlated: these are a season to the verdict.
fn in_blocks(part: f64, settings: &Settings) -> bool {
    let (columns, windows) = (blocks::COLUMNS, blocks::WINDOWS);
    println!(
        "\nrows that depend on their time, {columns} columns and {windows} weekly windows: streams without a change with any alarm \
         (bound: at most with 99 %), and by the test of rows; share of shifts of 0.5, 1, 3 and 10 deviations of the weekly means that \
         are detected within the {windows} windows, and in the first"
    );
    let mut kept = true;
    for (name, dependence) in DEPENDENCES {
        for weeks in WEEKS {
            let streams = scaled(BLOCK_STREAMS, part);
            let of_rows = AtomicUsize::new(0);
            let alarms = count(streams, |seed| {
                let found = blocks::alarms(dependence, weeks, seed, settings);
                of_rows.fetch_add(usize::from(found.of_rows), Ordering::Relaxed);
                found.in_blocks
            });
            let bound = bound(streams, settings.false_alarms);
            let is_bounded = !matches!(dependence, Dependence::CorrelatedWeeks(_));
            kept &= !is_bounded || alarms <= bound;
            let mark = if alarms > bound { "!" } else { "" };
            let of_rows = of_rows.into_inner();
            print!("{name:<21} {weeks:>2} weeks: {alarms}/{streams} ({bound}){mark}, by rows {of_rows}/{streams};");
            for deviations in BLOCK_SHIFTS {
                let streams = scaled(SHIFTED_STREAMS, part);
                let first = AtomicUsize::new(0);
                let found = count(streams, |seed| {
                    let delay = blocks::delay(dependence, weeks, deviations, seed, settings);
                    first.fetch_add(usize::from(delay == Some(1)), Ordering::Relaxed);
                    delay.is_some()
                });
                let percent = |count: usize| 100.0 * count as f64 / streams as f64;
                print!(" {deviations}: {:.0} % ({:.0} %)", percent(found), percent(first.into_inner()));
            }
            println!();
        }
    }
    kept
}

/// Prints the frequency of p-values below a level without drift and without the margin, for small references, windows larger
/// than the reference, and rare values, where approximations are worst. Returns whether all are within the bound.
fn p_values(part: f64) -> bool {
    println!("\nno shift: p-values below {P_LEVELS:?} (bound: at most with 99.9 %)");
    let mut valid = true;
    for (name, population) in P_POPULATIONS {
        print!("{name:<18}");
        for (reference, window) in P_SIZES {
            let columns = scaled(P_COLUMNS, part);
            let found = P_LEVELS.map(|level| {
                let below = count(columns, |seed| p_value(population, reference, window, seed) < level);
                let bound = Binomial::new(level, columns as u64).map_or(0, |below| below.inverse_cdf(0.999) as usize);
                valid &= below <= bound;
                format!("{below} ({bound}){}", if below > bound { "!" } else { "" })
            });
            print!("  {reference}/{window}: {}", found.join(", "));
        }
        println!();
    }
    valid
}

/// Prints the median detection delay of shifts, in windows.
fn planted(part: f64, settings: &Settings) {
    println!("\na shift in one column: median delay in windows (share detected in the first window)");
    for (name, population) in POPULATIONS {
        let shifts: Vec<Shift> = match population {
            Population::Categories(_) => SHARES.map(Shift::Share).to_vec(),
            _ => DEVIATIONS.map(Shift::Deviations).to_vec(),
        };
        for shift in shifts {
            print!("{name:<18} {shift:?} effect {:.3}:", effect(population, shift, settings));
            for (rows, _) in WINDOW_SIZES {
                print!("  n={rows}: {}", delays(population, rows, shift, scaled(SHIFTED_STREAMS, part), settings));
            }
            println!();
        }
    }
}

fn delays(population: Population, rows: usize, shift: Shift, streams: usize, settings: &Settings) -> String {
    let mut delays: Vec<usize> =
        (0..streams as u64).map(|seed| delay(population, rows, shift, seed, settings).unwrap_or(usize::MAX)).collect();
    delays.sort_unstable();
    let first = delays.iter().filter(|&&delay| delay == 1).count() as f64 / streams as f64;
    match delays[streams / 2] {
        usize::MAX => format!("over {WINDOWS} ({:.0} %)", 100.0 * first),
        median => format!("{median} ({:.0} %)", 100.0 * first),
    }
}

/// The number of seeds for which `is_true` holds, computed on all cores.
fn count(streams: usize, is_true: impl Fn(u64) -> bool + Sync) -> usize {
    let (next, found) = (AtomicUsize::new(0), AtomicUsize::new(0));
    let work = || {
        while let Some(seed) = Some(next.fetch_add(1, Ordering::Relaxed)).filter(|&seed| seed < streams) {
            found.fetch_add(usize::from(is_true(seed as u64)), Ordering::Relaxed);
        }
    };
    std::thread::scope(|scope| {
        for _ in 0..std::thread::available_parallelism().map_or(1, usize::from) {
            scope.spawn(work);
        }
    });
    found.into_inner()
}

/// The 99 % bound of the number of alarms in `streams` streams at a rate.
fn bound(streams: usize, rate: f64) -> usize {
    Binomial::new(rate, streams as u64).map_or(0, |alarms| alarms.inverse_cdf(0.99) as usize)
}

fn scaled(streams: usize, part: f64) -> usize {
    ((streams as f64 * part) as usize).max(1)
}
