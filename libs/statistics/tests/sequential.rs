//! The guarantees of the sequential tests, checked after every value: simulations with seeded generators,
//! so that a failure is reproducible. The budgets are binomial 99.9 % bounds.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise, in its helpers too")]

use rand::{RngExt as _, SeedableRng as _};
use rand_chacha::ChaCha8Rng;
use rekindle_statistics::stream::{
    Bounds, ConfidenceSequence, Direction, EDetector, EProcess, Signal, confidence_sequence, e_detector,
    e_detector::{BETS, Rule},
    e_process,
};

/// A source of values in [0, 1] with a known mean, by the index of the value and the previous value.
type Source = fn(&mut ChaCha8Rng, u64, f64) -> f64;

fn bit(rng: &mut ChaCha8Rng, rate: f64) -> f64 {
    f64::from(u8::from(rng.random::<f64>() < rate))
}

/// Sources of mean 0.3. The last three are not identically distributed, and the last depends on the previous value.
const SOURCES: [(&str, Source); 5] = [
    ("bits", |rng, _, _| bit(rng, 0.3)),
    ("uniform", |rng, _, _| 0.6 * rng.random::<f64>()),
    ("rare ones", |rng, _, _| 0.29 + 0.71 * bit(rng, 0.01 / 0.71)),
    ("spread that grows", |rng, row, _| 0.3 + (rng.random::<f64>() - 0.5) * (row as f64 / 3000.0).min(0.6)),
    ("spread by the last value", |rng, _, last| if last > 0.3 { bit(rng, 0.3) } else { 0.6 * rng.random::<f64>() }),
];
const MEAN: f64 = 0.3;

/// The values of a source.
fn draw(source: Source, seed: u64) -> impl Iterator<Item = f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    let mut last = MEAN;
    (0..).map(move |row| {
        last = source(&mut rng, row, last);
        last
    })
}

/// The 99.9 % bound of the share of `streams` streams at a true rate of `alpha`, by the normal approximation plus one
/// stream.
fn budget(alpha: f64, streams: u64) -> f64 {
    alpha + 3.1 * (alpha * (1.0 - alpha) / streams as f64).sqrt() + 1.0 / streams as f64
}

const STREAMS: u64 = 300;
const LOOKS: usize = 2000;

/// Whether the interval ever misses the mean, and its final width.
fn watch(source: Source, seed: u64, alpha: f64) -> (bool, f64) {
    let options = confidence_sequence::Options { alpha, ..Default::default() };
    let mut sequence = ConfidenceSequence::new(options).unwrap();
    let mut missed = false;
    let mut width = 0.0;
    for value in draw(source, seed).take(LOOKS) {
        sequence.update(value).unwrap();
        missed |= !sequence.interval().is_some_and(|i| i.low <= MEAN && MEAN <= i.high);
        width = sequence.interval().map_or(width, |i| i.high - i.low);
    }
    (missed, width)
}

#[test]
fn the_confidence_sequence_covers_at_all_times_simultaneously() {
    for (name, source) in SOURCES {
        for alpha in [0.05, 0.3] {
            let all: Vec<(bool, f64)> = (0..STREAMS).map(|seed| watch(source, seed, alpha)).collect();
            let missed = all.iter().filter(|(missed, _)| *missed).count() as f64 / STREAMS as f64;
            let width = all.iter().map(|(_, width)| width).sum::<f64>() / STREAMS as f64;
            println!("{name}, alpha {alpha}: missed {missed:.4}, width after {LOOKS} {width:.4}");
            assert!(missed <= budget(alpha, STREAMS), "{name}: {missed} at {alpha}");
            assert!(width < 0.12, "{name}: an interval this wide ({width}) is uninformative");
        }
    }
}

/// The streams above are long enough to fail an interval that is valid at one time only.
#[test]
fn an_interval_for_a_single_time_fails_the_same_check() {
    let missed = (0..STREAMS).filter(|&seed| {
        let (mut sum, mut squares) = (0.0, 0.0);
        draw(SOURCES[0].1, seed).take(LOOKS).enumerate().any(|(row, value)| {
            (sum, squares) = (sum + value, squares + value * value);
            let n = row as f64 + 1.0;
            let variance = squares / n - (sum / n).powi(2);
            n > 30.0 && (sum / n - MEAN).abs() > 1.96 * (variance / n).sqrt()
        })
    });
    let missed = missed.count() as f64 / STREAMS as f64;
    println!("normal interval at 0.05, checked {LOOKS} times: missed {missed:.4}");
    assert!(missed > 2.0 * budget(0.05, STREAMS), "{missed}");
}

#[test]
fn a_moved_mean_leaves_an_empty_interval() {
    let mut sequence = ConfidenceSequence::new(confidence_sequence::Options::default()).unwrap();
    let step = (0..4000).map(|row| if row < 2000 { 0.2 } else { 0.8 });
    let empty = step.map(|value| (sequence.update(value).unwrap(), sequence.interval()).1).position(|i| i.is_none());
    assert!(empty.is_some_and(|row| (2000..2500).contains(&row)), "{empty:?}");
}

/// Compared with the formula of the paper, with every sum computed from the start.
#[test]
fn the_confidence_sequence_equals_its_formula() {
    let values = [1.0, 0.4, 0.7, 0.9, 0.0, 0.6, 0.5, 0.8];
    let repeated: Vec<f64> = values.iter().cycle().take(400).copied().collect();
    let mut sequence = ConfidenceSequence::new(confidence_sequence::Options::default()).unwrap();
    for &value in &repeated {
        sequence.update(value).unwrap();
    }
    let (low, high) = by_definition(&repeated, 0.05);
    let interval = sequence.interval().unwrap();
    assert!((interval.low - low).abs() < 1e-12 && (interval.high - high).abs() < 1e-12, "{interval:?} {low} {high}");
    assert!(low > 0.5 && high < 0.7, "{low} {high}");
}

/// The interval after all values, by Theorem 2.
fn by_definition(values: &[f64], alpha: f64) -> (f64, f64) {
    let mean = |t: usize| (0.5 + values[..t].iter().sum::<f64>()) / (t as f64 + 1.0);
    let variance =
        |t: usize| (0.25 + (1..=t).map(|i| (values[i - 1] - mean(i)).powi(2)).sum::<f64>()) / (t as f64 + 1.0);
    let log = (2.0 / alpha).ln();
    let bets: Vec<f64> = (1..=values.len())
        .map(|t| (2.0 * log / (variance(t - 1) * t as f64 * (t as f64 + 1.0).ln())).sqrt().min(0.5))
        .collect();
    let (mut low, mut high) = (0.0_f64, 1.0_f64);
    for t in 1..=values.len() {
        let total: f64 = bets[..t].iter().sum();
        let centre = (0..t).map(|i| bets[i] * values[i]).sum::<f64>() / total;
        let psi = |bet: f64| (-(1.0 - bet).ln() - bet) / 4.0;
        let spread: f64 = (0..t).map(|i| 4.0 * (values[i] - mean(i)).powi(2) * psi(bets[i])).sum();
        (low, high) = (low.max(centre - (log + spread) / total), high.min(centre + (log + spread) / total));
    }
    (low, high)
}

#[test]
fn bounds_are_a_change_of_scale() {
    let bounds = Bounds { low: -3.0, high: 5.0 };
    let there = |value: f64| -3.0 + 8.0 * value;
    let mut unit = ConfidenceSequence::new(confidence_sequence::Options::default()).unwrap();
    let mut wide = ConfidenceSequence::new(confidence_sequence::Options { bounds, ..Default::default() }).unwrap();
    let mut unit_e = EProcess::new(e_process::Options::at_most(0.2)).unwrap();
    let options = e_process::Options { mean: there(0.2), bounds, ..e_process::Options::at_most(0.2) };
    let mut wide_e = EProcess::new(options).unwrap();
    for value in draw(SOURCES[1].1, 4).take(500) {
        unit.update(value).unwrap();
        wide.update(there(value)).unwrap();
        unit_e.update(value).unwrap();
        wide_e.update(there(value)).unwrap();
    }
    let (unit, wide) = (unit.interval().unwrap(), wide.interval().unwrap());
    assert!((there(unit.low) - wide.low).abs() < 1e-9 && (there(unit.high) - wide.high).abs() < 1e-9);
    assert!((unit_e.log_value() - wide_e.log_value()).abs() < 1e-9 && unit_e.log_value() > 3.0);
}

/// The index of the value at which the e-process rejects, if it does.
fn rejection(source: Source, seed: u64, mean: f64, alpha: f64) -> Option<usize> {
    let mut process = EProcess::new(e_process::Options { alpha, ..e_process::Options::at_most(mean) }).unwrap();
    draw(source, seed).take(LOOKS).position(|value| process.update(value).unwrap() == Signal::Drift)
}

#[test]
fn the_e_process_rejects_a_true_hypothesis_within_its_level() {
    for (name, source) in SOURCES {
        for alpha in [0.05, 0.3] {
            let count = (0..STREAMS).filter(|&seed| rejection(source, seed, MEAN, alpha).is_some()).count();
            let share = count as f64 / STREAMS as f64;
            println!("{name}, alpha {alpha}: rejected {share:.4}");
            assert!(share <= budget(alpha, STREAMS), "{name}: {share} at {alpha}");
        }
    }
}

#[test]
fn the_e_process_detects_a_mean_above_the_bound() {
    for (name, source, most) in [("bits", SOURCES[0].1, 400), ("uniform", SOURCES[1].1, 150)] {
        let mut delays: Vec<usize> =
            (0..STREAMS).map(|seed| rejection(source, seed, 0.2, 0.05).unwrap_or(LOOKS)).collect();
        delays.sort_unstable();
        let (median, slow) = (delays[delays.len() / 2], delays[delays.len() * 95 / 100]);
        println!("{name}, mean 0.3 above 0.2: median {median}, 95 % {slow}");
        assert!(slow < most, "{name}: {slow}");
    }
}

#[test]
fn the_anytime_p_value_never_increases_and_is_that_of_the_maximum() {
    let mut process = EProcess::new(e_process::Options::at_most(0.25)).unwrap();
    let (mut last, mut peak) = (1.0, 1.0_f64);
    for value in draw(SOURCES[0].1, 9).take(LOOKS) {
        process.update(value).unwrap();
        peak = peak.max(process.value());
        assert!(process.p_value() <= last && (process.p_value() * peak - 1.0).abs() < 1e-9);
        last = process.p_value();
    }
    assert!(peak > 2.0 && process.value() < f64::MAX, "{peak}");
}

fn e_detector(mean: f64, run_length: f64, rule: Rule) -> EDetector {
    EDetector::new(e_detector::Options { run_length, rule, ..e_detector::Options::at_most(mean) }).unwrap()
}

/// The number of values up to and including the first alarm.
fn run_length(mut detector: EDetector, values: impl Iterator<Item = f64>) -> usize {
    values.map(|value| detector.update(value).unwrap()).position(|s| s == Signal::Drift).unwrap_or(usize::MAX - 1) + 1
}

#[test]
fn the_e_detector_has_its_guaranteed_run_length() {
    let (promise, cap) = (100.0, 5000);
    for ((name, source), rule) in SOURCES.into_iter().flat_map(|s| [(s, Rule::ShiryaevRoberts), (s, Rule::Cusum)]) {
        let runs: Vec<usize> = (0..STREAMS)
            .map(|seed| run_length(e_detector(MEAN, promise, rule), draw(source, seed).take(cap)).min(cap))
            .collect();
        let mean = runs.iter().sum::<usize>() as f64 / STREAMS as f64;
        let early = runs.iter().filter(|&&run| run <= 60).count() as f64 / STREAMS as f64;
        println!("{name}, {rule:?}: mean run length {mean:.0} at a promise of {promise}; {early:.4} within 60");
        assert!(mean > promise, "{name}: {mean}");
        assert!(rule != Rule::Cusum || mean > 5.0 * promise, "{name}: {mean}");
        assert!(early <= budget(60.0 / promise, STREAMS), "{name}: {early}");
    }
}

#[test]
fn the_e_detector_detects_a_rise_early_and_its_sum_before_its_maximum() {
    let calm = 2000;
    for (rise, most) in [(0.05, 2500), (0.1, 900), (0.3, 150)] {
        let mut delays = Vec::new();
        for seed in 0..100 {
            let mut rng = ChaCha8Rng::seed_from_u64(seed);
            let values: Vec<f64> =
                (0..calm + 5000).map(|row| bit(&mut rng, if row < calm { 0.3 } else { 0.3 + rise })).collect();
            let sum = run_length(e_detector(0.3, 1e4, Rule::ShiryaevRoberts), values.iter().copied());
            let maximum = run_length(e_detector(0.3, 1e4, Rule::Cusum), values.iter().copied());
            assert!(sum <= maximum, "seed {seed}: {sum} {maximum}");
            delays.push(sum.saturating_sub(calm));
        }
        delays.sort_unstable();
        println!("rise of {rise} from 0.3: median delay {}, 95 % {}", delays[50], delays[95]);
        assert!(delays[95] < most && delays[5] > 0, "rise {rise}: {} {}", delays[5], delays[95]);
    }
}

/// By hand: the first value is the mean over the bets of `1 + bet (x - m)`, and the sum of the bets is nearly twice the first
/// one.
#[test]
fn the_first_value_of_the_e_detector_equals_its_formula() {
    let mut detector = e_detector(0.25, 100.0, Rule::ShiryaevRoberts);
    assert_eq!(detector.value(), 0.0);
    detector.update(1.0).unwrap();
    let bets = 2.0 * (2.0 - 2.0_f64.powi(1 - i32::try_from(BETS).unwrap()));
    assert!((detector.value() - (1.0 + bets * 0.75 / BETS as f64)).abs() < 1e-12, "{}", detector.value());
    detector.update(0.25).unwrap();
    assert!((detector.value() - (2.0 + bets * 0.75 / BETS as f64)).abs() < 1e-12, "{}", detector.value());
}

/// A fall is a rise of the complements, to the last bit where the complement is exact.
#[test]
fn a_fall_is_a_rise_of_the_complements() {
    let mut rise = EProcess::new(e_process::Options::at_most(0.25)).unwrap();
    let mut fall = EProcess::new(e_process::Options::at_least(0.75)).unwrap();
    let mut up = e_detector(0.25, 1e3, Rule::Cusum);
    let down = e_detector::Options { run_length: 1e3, ..e_detector::Options::at_least(0.75) };
    let mut down = EDetector::new(down).unwrap();
    for value in draw(SOURCES[0].1, 3).take(LOOKS) {
        assert_eq!(rise.update(value), fall.update(1.0 - value));
        assert!((rise.log_value() - fall.log_value()).abs() < 1e-9, "{rise:?} {fall:?}");
        assert_eq!(up.update(value), down.update(1.0 - value));
        assert!((up.value() - down.value()).abs() < 1e-9 * (1.0 + up.value()), "{up:?} {down:?}");
    }
    assert!(rise.rejects());
}

/// Both directions together detect either change, with half of the evidence, and keep the level and the run length.
#[test]
fn both_directions_detect_either_change_within_the_level() {
    let process = |mean| e_process::Options { direction: Direction::Both, ..e_process::Options::at_most(mean) };
    let reject = |mean: f64, seed: u64| {
        let mut both = EProcess::new(process(mean)).unwrap();
        draw(SOURCES[0].1, seed).take(LOOKS).any(|value| both.update(value).unwrap() == Signal::Drift)
    };
    assert!((0..20).all(|seed| reject(0.2, seed) && reject(0.4, seed)));
    let share = (0..STREAMS).filter(|&seed| reject(MEAN, seed)).count() as f64 / STREAMS as f64;
    assert!(share <= budget(0.05, STREAMS), "{share}");

    let detector = |mean| {
        let options =
            e_detector::Options { direction: Direction::Both, run_length: 100.0, ..e_detector::Options::at_most(mean) };
        EDetector::new(options).unwrap()
    };
    let run = |mean: f64, seed: u64| run_length(detector(mean), draw(SOURCES[0].1, seed).take(5000)).min(5000);
    assert!((0..20).all(|seed| run(0.1, seed) < 500 && run(0.5, seed) < 500));
    let mean = (0..STREAMS).map(|seed| run(MEAN, seed)).sum::<usize>() as f64 / STREAMS as f64;
    assert!(mean > 100.0, "{mean}");
}
