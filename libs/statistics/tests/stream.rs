//! Properties of every change detector: no panic and no NaN for any input, no effect of rejected values and of a
//! restart; and properties of single detectors.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise, in its helpers too")]

use std::fmt::Debug;

use proptest::prelude::*;
use rand::SeedableRng as _;
use rand_chacha::ChaCha8Rng;
use rekindle_statistics::{
    Error,
    stream::{
        Adwin, Bounds, ConfidenceSequence, Ddm, Direction, EDetector, EProcess, Eddm, HddmA, HddmW, Kswin, PageHinkley,
        Signal, adwin, confidence_sequence, ddm, e_detector, e_process, eddm, hddm_a, hddm_w, kswin, page_hinkley,
    },
};
use serde::{Serialize, de::DeserializeOwned};

trait Detector: Clone + PartialEq + Debug + Serialize + DeserializeOwned {
    fn next(&mut self, value: f64) -> Result<Signal, Error>;
}

macro_rules! detectors {
    ($($name:ty),*) => { $(impl Detector for $name {
        fn next(&mut self, value: f64) -> Result<Signal, Error> { self.update(value) }
    })* };
}
detectors!(Adwin, PageHinkley, Ddm, Eddm, HddmA, HddmW, Kswin, EProcess, EDetector);

impl Detector for ConfidenceSequence {
    fn next(&mut self, value: f64) -> Result<Signal, Error> {
        self.update(value)?;
        Ok(if self.interval().is_none() { Signal::Drift } else { Signal::Quiet })
    }
}

/// Calls a generic function with every detector, with small windows and both modes, and a second argument.
macro_rules! each {
    ($call:ident, $argument:expr) => {{
        let both = Direction::Both;
        $call(Adwin::new(adwin::Options::default()).unwrap(), $argument);
        $call(Adwin::new(adwin::Options::paper()).unwrap(), $argument);
        $call(PageHinkley::new(page_hinkley::Options { threshold: 5.0, ..Default::default() }).unwrap(), $argument);
        $call(Ddm::new(ddm::Options::default()).unwrap(), $argument);
        $call(Eddm::new(eddm::Options::default()).unwrap(), $argument);
        $call(HddmA::new(hddm_a::Options { direction: both, ..Default::default() }).unwrap(), $argument);
        $call(HddmW::new(hddm_w::Options { direction: both, ..Default::default() }).unwrap(), $argument);
        let small = kswin::Options { window_size: 25, stat_size: 10, ..Default::default() };
        $call(Kswin::new(small).unwrap(), $argument);
        $call(ConfidenceSequence::new(confidence_sequence::Options::default()).unwrap(), $argument);
        $call(EProcess::new(e_process::Options::at_most(0.2)).unwrap(), $argument);
        $call(EDetector::new(e_detector::Options::at_most(0.2)).unwrap(), $argument);
    }};
}

/// As [`each!`], for the detectors with two directions, to which a constant other than their mean is a change.
macro_rules! each_two_sided {
    ($call:ident, $argument:expr) => {{
        let direction = Direction::Both;
        $call(EProcess::new(e_process::Options { direction, ..e_process::Options::at_most(0.2) }).unwrap(), $argument);
        let options = e_detector::Options { direction, ..e_detector::Options::at_most(0.2) };
        $call(EDetector::new(options).unwrap(), $argument);
    }};
}

/// Any float, often one that the detectors accept.
fn value() -> impl Strategy<Value = f64> {
    prop_oneof![any::<f64>(), -1e100..1e100_f64, 0.0..=1.0_f64, Just(0.0), Just(1.0), Just(f64::MAX), Just(1e-308)]
}

fn survives<D: Detector>(mut detector: D, values: &[f64]) {
    for &value in values {
        let before = detector.clone();
        match detector.next(value) {
            Err(error) => {
                assert!(matches!(error, Error::Value { .. }), "{error}");
                assert_eq!(before, detector, "a rejected value changed the state");
            }
            Ok(_) => assert!(value.is_finite(), "{value} was taken by {detector:?}"),
        }
        let state = format!("{detector:?}");
        assert!(!state.contains("NaN") && !state.contains("inf"), "after {value}: {state}");
    }
    // Every reachable state can be deserialised.
    let written = serde_json::to_string(&detector).unwrap();
    assert!(serde_json::from_str::<D>(&written).is_ok(), "{written}");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn no_values_cause_a_panic_or_nan(values in proptest::collection::vec(value(), 0..120)) {
        each!(survives, &values);
        each_two_sided!(survives, &values);
    }

    #[test]
    fn no_bits_cause_a_panic_or_nan(bits in proptest::collection::vec(any::<bool>(), 0..300)) {
        let values: Vec<f64> = bits.iter().map(|&bit| f64::from(u8::from(bit))).collect();
        each!(survives, &values);
        each_two_sided!(survives, &values);
    }

    /// The window is the end of the stream, and its mean and squares are those of these values.
    #[test]
    fn adwin_describes_the_end_of_the_stream(
        jumps in proptest::collection::vec((0.0..1.0_f64, 1..400_usize), 1..5),
        seed in any::<u64>(),
        paper in any::<bool>(),
    ) {
        let mut detector = Adwin::new(if paper { adwin::Options::paper() } else { adwin::Options::default() }).unwrap();
        let mut rng = ChaCha8Rng::seed_from_u64(seed);
        let mut values = Vec::new();
        for (level, rows) in jumps {
            for _ in 0..rows {
                values.push(level + 0.3 * rng.random::<f64>());
                detector.update(values[values.len() - 1]).unwrap();
                let width = usize::try_from(detector.width()).unwrap();
                prop_assert!(1 <= width && width <= values.len());
                let window = &values[values.len() - width..];
                let mean = window.iter().sum::<f64>() / width as f64;
                let squares: f64 = window.iter().map(|v| (v - mean).powi(2)).sum();
                prop_assert!((detector.mean().unwrap() - mean).abs() < 1e-9);
                prop_assert!((detector.sum_of_squares() - squares).abs() < 1e-9);
            }
        }
    }
}

/// Bits whose rate changes from 0.1 to 0.6, so that all signals occur.
fn bits(seed: u64, rows: usize) -> Vec<f64> {
    let mut rng = ChaCha8Rng::seed_from_u64(seed);
    (0..rows).map(|row| f64::from(u8::from(rng.random::<f64>() < if row < rows / 2 { 0.1 } else { 0.6 }))).collect()
}

fn signals<D: Detector>(detector: &mut D, values: &[f64]) -> Vec<Signal> {
    values.iter().map(|&value| detector.next(value).unwrap()).collect()
}

fn restarts<D: Detector>(fresh: D, values: &[f64]) {
    let whole = signals(&mut fresh.clone(), values);
    let mut detector = fresh;
    let mut pieces = Vec::new();
    for piece in values.chunks(37) {
        pieces.extend(signals(&mut detector, piece));
        detector = serde_json::from_str(&serde_json::to_string(&detector).unwrap()).unwrap();
    }
    assert_eq!(whole, pieces, "{detector:?}");
}

#[test]
fn a_restart_has_no_effect() {
    each!(restarts, &bits(5, 1500));
    each_two_sided!(restarts, &bits(5, 1500));
}

fn finds_the_change<D: Detector>(mut detector: D, values: &[f64]) {
    let found = signals(&mut detector, values).iter().skip(values.len() / 2).position(|&s| s == Signal::Drift);
    assert!(found.is_some_and(|delay| delay < 500), "{found:?} {detector:?}");
}

#[test]
fn a_large_change_is_detected() {
    each!(finds_the_change, &bits(6, 2000));
    each_two_sided!(finds_the_change, &bits(6, 2000));
}

fn is_quiet<D: Detector>(mut detector: D, values: &[f64]) {
    assert!(signals(&mut detector, values).iter().all(|&s| s == Signal::Quiet), "{detector:?}");
}

#[test]
fn a_constant_stream_never_alarms() {
    each!(is_quiet, &[0.0; 3000]);
    // The mean of a constant is that constant to the last bit, despite the rounding of its sum.
    for value in [0.1, 1e10 / 3.0, 1e11 / 3.0, 1e15 / 3.0, 1e20 / 3.0, 1e99, -1e100] {
        for options in [adwin::Options::default(), adwin::Options::paper()] {
            let mut detector = Adwin::new(options).unwrap();
            is_quiet(detector.clone(), &[value; 3000]);
            signals(&mut detector, &[value; 3000]);
            assert_eq!((detector.mean(), detector.sum_of_squares()), (Some(value), 0.0));
        }
        is_quiet(PageHinkley::new(page_hinkley::Options::default()).unwrap(), &[value; 3000]);
        is_quiet(Kswin::new(kswin::Options::default()).unwrap(), &[value; 300]);
    }
}

#[test]
fn the_mean_is_absent_before_the_first_value() {
    let mut page_hinkley = PageHinkley::new(page_hinkley::Options::default()).unwrap();
    let mut ddm = Ddm::new(ddm::Options::default()).unwrap();
    let mut a = HddmA::new(hddm_a::Options::default()).unwrap();
    let mut w = HddmW::new(hddm_w::Options::default()).unwrap();
    let mut adwin = Adwin::new(adwin::Options::default()).unwrap();
    assert_eq!([page_hinkley.mean(), ddm.error_rate(), a.mean(), w.mean(), adwin.mean()], [None; 5]);
    page_hinkley.update(1.0).unwrap();
    ddm.update(1.0).unwrap();
    a.update(1.0).unwrap();
    w.update(1.0).unwrap();
    adwin.update(1.0).unwrap();
    assert_eq!([page_hinkley.mean(), ddm.error_rate(), a.mean(), w.mean(), adwin.mean()], [Some(1.0); 5]);
}

#[test]
fn the_memory_of_adwin_is_logarithmic_in_the_window() {
    let mut detector = Adwin::new(adwin::Options::default()).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(1);
    for _ in 0..300_000 {
        detector.update(rng.random()).unwrap();
    }
    let (width, most) = (detector.width(), adwin::Options::default().max_buckets);
    assert!(width > 200_000, "{width}");
    let sizes = usize::try_from(width.ilog2()).unwrap() + 1;
    assert!(detector.buckets() <= most * sizes, "{} buckets for {width} values", detector.buckets());
}

#[test]
fn adwin_modes_differ_after_a_detection() {
    let step: Vec<f64> = (0..400).map(|row| if row < 200 { 0.1 } else { 0.9 }).collect();
    let after = |options: adwin::Options| {
        let mut detector = Adwin::new(options).unwrap();
        let first = signals(&mut detector, &step).iter().position(|&s| s == Signal::Drift).unwrap();
        let mut detector = Adwin::new(options).unwrap();
        signals(&mut detector, &step[..=first]);
        let width = detector.width();
        detector.update(0.9).unwrap();
        (width, detector.width(), detector.detections())
    };
    let (kept, next, detections) = after(adwin::Options { mode: adwin::Mode::Paper, ..Default::default() });
    assert!(kept > 1 && next == kept + 1, "{kept} {next}");
    assert_eq!(detections, 1);
    let (kept, next, detections) = after(adwin::Options::default());
    assert!(kept > 1 && next == 1, "{kept} {next}");
    assert_eq!(detections, 0);
}

#[test]
fn adwin_recovers_from_an_outlier() {
    // With the default of five buckets per size, no cut has enough newer values to outweigh the outlier, which then stays.
    let mut detector = Adwin::new(adwin::Options { max_buckets: 40, ..adwin::Options::paper() }).unwrap();
    let mut rng = ChaCha8Rng::seed_from_u64(2);
    for row in 0..5000 {
        detector.update(if row == 40 { 1e60 } else { rng.random() }).unwrap();
    }
    let mean = detector.mean().unwrap();
    assert!(detector.detections() > 0);
    assert!((mean - 0.5).abs() < 0.05, "{mean} over {} values", detector.width());
}

#[test]
fn page_hinkley_depends_on_the_direction() {
    let fall: Vec<f64> = (0..600).map(|row| if row < 300 { 1.0 } else { 0.0 }).collect();
    let drifts = |direction| {
        let options = page_hinkley::Options { threshold: 20.0, direction, ..Default::default() };
        signals(&mut PageHinkley::new(options).unwrap(), &fall).iter().filter(|&&s| s == Signal::Drift).count()
    };
    assert_eq!([drifts(Direction::Rise), drifts(Direction::Fall), drifts(Direction::Both)], [0, 1, 1]);
}

#[test]
fn two_sided_hddm_detects_a_fall_and_one_sided_does_not() {
    let fall: Vec<f64> = bits(7, 2000).into_iter().rev().collect();
    for direction in [Direction::Rise, Direction::Fall, Direction::Both] {
        let mut a = HddmA::new(hddm_a::Options { direction, ..Default::default() }).unwrap();
        let mut w = HddmW::new(hddm_w::Options { direction, ..Default::default() }).unwrap();
        let found = [signals(&mut a, &fall).contains(&Signal::Drift), signals(&mut w, &fall).contains(&Signal::Drift)];
        assert_eq!(found, [direction != Direction::Rise; 2], "{direction:?}");
    }
}

#[test]
fn ddm_alarms_at_the_first_error_after_a_warm_start_without_errors() {
    let mut detector = Ddm::new(ddm::Options::default()).unwrap();
    is_quiet(detector.clone(), &[0.0; 100]);
    signals(&mut detector, &[0.0; 100]);
    assert_eq!(detector.update(1.0), Ok(Signal::Drift));
}

/// Values of scipy 1.17.1, `ks_2samp(method="exact")`, at distances of 8, 11, 12, 13 and 30 thirtieths.
#[test]
fn kswin_has_the_exact_p_value() {
    for (gap, expected) in KS_30 {
        let mut detector = Kswin::new(kswin::Options { window_size: 60, ..Default::default() }).unwrap();
        // Each value of the newer half is `gap` ranks above that of the older half.
        let values = (0..30).map(f64::from).chain((0..30).map(|i| f64::from(i + gap) - 0.5));
        let last = values.map(|value| detector.update(value).unwrap()).last().unwrap();
        let p_value = detector.p_value().unwrap();
        assert!((p_value / expected - 1.0).abs() < 1e-12, "{gap}: {p_value} for {expected}");
        assert_eq!(last == Signal::Drift, p_value <= 0.005, "{gap}");
    }
}

const KS_30: [(i32, f64); 5] = [
    (8, 0.23907300248018645),
    (11, 0.034580084963334506),
    (12, 0.015643390496754332),
    (13, 0.006548396368058784),
    (30, 1.6911233892144742e-17),
];

#[test]
fn kswin_depends_on_the_seed_only_if_it_draws() {
    let values: Vec<f64> =
        bits(8, 1500).iter().enumerate().map(|(i, bit)| bit + (i * 37 % 101) as f64 / 101.0).collect();
    let p_values = |window_size, seed| -> Vec<Option<f64>> {
        let mut detector = Kswin::new(kswin::Options { window_size, seed, ..Default::default() }).unwrap();
        values.iter().map(|&value| (detector.update(value).unwrap(), detector.p_value()).1).collect()
    };
    assert_eq!(p_values(60, 1), p_values(60, 2));
    assert_eq!(p_values(100, 1), p_values(100, 1));
    assert_ne!(p_values(100, 1), p_values(100, 2));
}

#[test]
fn invalid_options_are_rejected() {
    let adwin = |options| Adwin::new(options).is_err();
    assert!(adwin(adwin::Options { delta: 0.0, ..Default::default() }));
    assert!(adwin(adwin::Options { delta: f64::NAN, ..Default::default() }));
    assert!(adwin(adwin::Options { clock: 0, ..Default::default() }));
    assert!(adwin(adwin::Options { max_buckets: 0, ..Default::default() }));
    assert!(adwin(adwin::Options { max_buckets: usize::MAX, ..Default::default() }));
    assert!(adwin(adwin::Options { min_window_length: 0, ..Default::default() }));
    for (delta, threshold, alpha) in [(-0.1, 50.0, 0.9), (0.1, 0.0, 0.9), (0.1, f64::NAN, 0.9), (0.1, 50.0, 1.1)] {
        let options = page_hinkley::Options { delta, threshold, alpha, ..Default::default() };
        assert!(PageHinkley::new(options).is_err(), "{options:?}");
    }
    assert!(Ddm::new(ddm::Options { drift_threshold: 1.0, ..Default::default() }).is_err());
    assert!(Eddm::new(eddm::Options { drift: 0.97, ..Default::default() }).is_err());
    assert!(HddmA::new(hddm_a::Options { drift_confidence: 1.0, ..Default::default() }).is_err());
    assert!(HddmW::new(hddm_w::Options { lambda: 0.0, ..Default::default() }).is_err());
    for (window_size, stat_size) in [(100, 0), (100, 51), (100, 4), (usize::MAX, usize::MAX / 2), (usize::MAX, 30)] {
        let options = kswin::Options { window_size, stat_size, ..Default::default() };
        assert!(Kswin::new(options).is_err(), "{options:?}");
    }
    for (low, high) in [(1.0, 1.0), (1.0, 0.0), (f64::MIN, f64::MAX), (0.0, f64::NAN)] {
        let options = confidence_sequence::Options { alpha: 0.05, bounds: Bounds { low, high } };
        assert!(ConfidenceSequence::new(options).is_err(), "{options:?}");
    }
    for mean in [0.0, 1.0, f64::NAN] {
        assert!(EProcess::new(e_process::Options::at_most(mean)).is_err());
        assert!(EDetector::new(e_detector::Options::at_most(mean)).is_err());
    }
    for run_length in [1.0, -5.0, f64::INFINITY, f64::NAN] {
        assert!(EDetector::new(e_detector::Options { run_length, ..e_detector::Options::at_most(0.2) }).is_err());
    }
}

/// Whether a detector, serialised after the values and changed, is accepted on deserialisation.
fn is_accepted<D: Detector>(mut detector: D, values: &[f64], changes: &[(&str, &str)]) -> bool {
    signals(&mut detector, values);
    let mut written = serde_json::to_string(&detector).unwrap();
    assert!(serde_json::from_str::<D>(&written).is_ok(), "{written}");
    for (from, to) in changes {
        assert!(written.contains(from), "no {from} in {written}");
        written = written.replace(from, to);
    }
    serde_json::from_str::<D>(&written).is_ok()
}

#[test]
fn invalid_options_and_states_are_rejected_on_deserialisation() {
    let rejected = |accepted: bool| assert!(!accepted);
    let ones = [1.0; 3];
    let adwin = || Adwin::new(adwin::Options::default()).unwrap();
    rejected(is_accepted(adwin(), &ones, &[(r#""clock":32"#, r#""clock":0"#)]));
    rejected(is_accepted(adwin(), &ones, &[(r#""mean":1.0"#, r#""mean":1e308"#)]));
    rejected(is_accepted(adwin(), &ones, &[(r#""count":3.0"#, r#""count":-3.0"#)]));
    rejected(is_accepted(adwin(), &ones, &[(r#""count":3.0"#, r#""count":40.0"#)]));
    rejected(is_accepted(adwin(), &ones, &[(r#""count":1.0"#, r#""count":0.0"#)]));
    rejected(is_accepted(adwin(), &ones, &[(r#""squares":0.0"#, r#""squares":-1.0"#)]));
    let kswin = || Kswin::new(kswin::Options::default()).unwrap();
    rejected(is_accepted(kswin(), &ones, &[(r#""window_size":100"#, r#""window_size":18446744073709551615"#)]));
    rejected(is_accepted(kswin(), &ones, &[(r#""gap":null"#, r#""gap":31"#)]));
    rejected(is_accepted(kswin(), &ones, &[(r#""seen":3"#, r#""seen":2"#)]));
    let page_hinkley = PageHinkley::new(page_hinkley::Options::default()).unwrap();
    rejected(is_accepted(page_hinkley, &ones, &[(r#""mean":1.0"#, r#""mean":1e308"#)]));
    let ddm = Ddm::new(ddm::Options::default()).unwrap();
    rejected(is_accepted(ddm, &ones, &[(r#""mean":1.0"#, r#""mean":2.0"#)]));
    let eddm = Eddm::new(eddm::Options::default()).unwrap();
    rejected(is_accepted(eddm, &ones, &[(r#""last_error":3"#, r#""last_error":4"#)]));
    let hddm = HddmA::new(hddm_a::Options::default()).unwrap();
    rejected(is_accepted(hddm, &ones, &[(r#""mean":1.0"#, r#""mean":-1.0"#)]));
    let hddm = HddmW::new(hddm_w::Options::default()).unwrap();
    rejected(is_accepted(hddm, &ones, &[(r#""mean":1.0"#, r#""mean":2.0"#)]));
    let sequence = ConfidenceSequence::new(confidence_sequence::Options::default()).unwrap();
    rejected(is_accepted(sequence, &ones, &[(r#""bets":1.5"#, r#""bets":0.0"#)]));
    let process = EProcess::new(e_process::Options::at_most(0.5)).unwrap();
    rejected(is_accepted(process, &[], &[(r#""log_peak":0.0"#, r#""log_peak":-1.0"#)]));
    let detector = EDetector::new(e_detector::Options::at_most(0.5)).unwrap();
    rejected(is_accepted(detector, &[], &[(r#""rise":[0.0"#, r#""rise":[-1.0"#)]));
}

/// Derived state is recomputed from the options.
#[test]
fn kswin_ignores_a_serialised_threshold() {
    let written = serde_json::to_string(&Kswin::new(kswin::Options::default()).unwrap()).unwrap();
    assert!(!written.contains("critical"), "{written}");
    let changed = written.replace(r#""window":"#, r#""critical":0,"window":"#);
    is_quiet(serde_json::from_str::<Kswin>(&changed).unwrap(), &[1.0; 300]);
}
