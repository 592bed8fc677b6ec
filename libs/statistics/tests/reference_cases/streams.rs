//! River 0.26.1: the positions of alarms and of the first warnings, and the final window of ADWIN.

use rekindle_statistics::stream::{
    Adwin, Ddm, Direction, Eddm, HddmA, HddmW, Kswin, PageHinkley, Signal, adwin, ddm, eddm, hddm_a, hddm_w, kswin,
    page_hinkley,
};

use crate::{Case, expected::Expected, inputs};

pub(crate) fn check(case: &Case<'_>, expected: &Expected<'_>) {
    let stream = inputs::numbers(&case.input["stream"]);
    let name = case.call.split('(').next().and_then(|path| path.rsplit('.').next());
    let signals = match name {
        Some("ADWIN") => return check_adwin(case, expected, &stream),
        Some("PageHinkley") => {
            let mut detector = PageHinkley::new(page_hinkley_options(case)).expect("options");
            signals(&stream, |value| detector.update(value))
        }
        Some("DDM") => {
            let mut detector = Ddm::new(ddm::Options::default()).expect("options");
            signals(&stream, |value| detector.update(value))
        }
        Some("EDDM") => {
            let mut detector = Eddm::new(eddm::Options::default()).expect("options");
            signals(&stream, |value| detector.update(value))
        }
        Some("HDDMA") => {
            let mut detector = HddmA::new(hddm_a::Options::default()).expect("options");
            signals(&stream, |value| detector.update(value))
        }
        Some("HDDMW") => {
            let mut detector = HddmW::new(hddm_w::Options::default()).expect("options");
            signals(&stream, |value| detector.update(value))
        }
        Some("KSWIN") => {
            let mut detector = Kswin::new(kswin_options(case)).expect("options");
            signals(&stream, |value| detector.update(value))
        }
        other => panic!("{other:?} is no detector"),
    };
    compare(expected, &signals);
}

fn check_adwin(case: &Case<'_>, expected: &Expected<'_>, stream: &[f64]) {
    let mut options = adwin::Options::default();
    if let Some(delta) = option(case, "delta") {
        options.delta = delta;
    }
    if let Some(clock) = option(case, "clock") {
        options.clock = clock as _;
    }
    let mut detector = Adwin::new(options).expect("options");
    let signals = signals(stream, |value| detector.update(value));
    compare(expected, &signals);
    expected.number("width", detector.width() as f64);
    expected.number("estimation", detector.mean());
    expected.number("variance", detector.sum_of_squares());
    expected.number("n_detections", detector.detections() as f64);
}

fn page_hinkley_options(case: &Case<'_>) -> page_hinkley::Options {
    let mut options = page_hinkley::Options::default();
    if let Some(threshold) = option(case, "threshold") {
        options.threshold = threshold;
    }
    if case.call.contains("mode='down'") {
        options.direction = Direction::Fall;
    }
    options
}

fn kswin_options(case: &Case<'_>) -> kswin::Options {
    let value = |name| option(case, name).expect("the call names it");
    kswin::Options {
        alpha: value("alpha"),
        window_size: value("window_size") as _,
        stat_size: value("stat_size") as _,
        seed: value("seed") as _,
    }
}

/// The value of an option in the call.
fn option(case: &Case<'_>, name: &str) -> Option<f64> {
    let arguments = case.call.split_once('(')?.1.trim_end_matches(')');
    let value = arguments.split(", ").find_map(|argument| argument.strip_prefix(name)?.strip_prefix('='))?;
    Some(value.parse().expect("a number"))
}

fn signals<E: std::fmt::Debug>(stream: &[f64], update: impl FnMut(f64) -> Result<Signal, E>) -> Vec<Signal> {
    stream.iter().copied().map(update).collect::<Result<_, _>>().expect("the detector takes the values")
}

/// The positions of alarms and of the first warnings.
fn compare(expected: &Expected<'_>, signals: &[Signal]) {
    let drifts: Vec<usize> = (0..signals.len()).filter(|&at| signals[at] == Signal::Drift).collect();
    let warns = |at: usize| signals[at] == Signal::Warning;
    let onsets: Vec<usize> = (0..signals.len()).filter(|&at| warns(at) && (at == 0 || !warns(at - 1))).collect();
    expected.positions("drift_at_index_0based", &drifts);
    expected.number("n_drifts", drifts.len() as f64);
    if expected.has("warning_onset_at") {
        expected.positions("warning_onset_at", &onsets);
        expected.number("n_warning_onsets", onsets.len() as f64);
    }
}
