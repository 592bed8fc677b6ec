//! NannyML 0.13.1: the score of a window, and the upper threshold: the mean plus three standard deviations of the
//! scores of tenths of the reference compared with all of it.

use rekindle_statistics::two_sample::{
    Method, Sample, binning,
    contingency::{ChiSquare, Correction, Statistic, homogeneity},
    divergence::{Base, Shares, hellinger, jensen_shannon},
    ks, wasserstein,
};

use crate::{Case, expected::Expected, inputs};

pub(crate) fn check(case: &Case<'_>, expected: &Expected<'_>) {
    if case.call.starts_with("StandardDeviationThreshold") {
        let [lower, upper] = mean_and_three_deviations(&inputs::numbers(&case.input["data"]));
        expected.number("lower", lower);
        expected.number("upper", upper);
    } else if case.call.contains("continuous") {
        check_continuous(case, expected);
    } else {
        check_categorical(case, expected);
    }
}

fn check_continuous(case: &Case<'_>, expected: &Expected<'_>) {
    let (reference, window) = (inputs::numbers(&case.input["ref"]), inputs::numbers(&case.input["cur"]));
    let reference_sample = sample(&reference);
    let score = |window: &[f64]| {
        let window = sample(window);
        let statistic = match method(case) {
            "jensen_shannon" => jensen_shannon_of_numbers,
            "kolmogorov_smirnov" => kolmogorov_smirnov_statistic,
            "wasserstein" => wasserstein_distance,
            other => panic!("unknown method {other}"),
        };
        (!window.is_empty()).then(|| statistic(&reference_sample, &window))
    };
    check_score_and_threshold(expected, &reference, &window, score);
}

fn check_categorical(case: &Case<'_>, expected: &Expected<'_>) {
    let (reference, window) = (inputs::names(&case.input["ref"]), inputs::names(&case.input["cur"]));
    if method(case) == "chi2" {
        let test = chi_square(&reference, &window);
        expected.number("value", test.statistic);
        expected.number("pvalue", test.p_value);
        expected.flag("alert", test.p_value < 0.05);
        assert!(expected.value("upper_threshold").is_null(), "the p-value decides");
        return expected.no_statistic("upper_threshold");
    }
    let score = |window: &[String]| {
        let [r, w] = counts(&reference, window).map(|counts| Shares::of_counts(&counts).expect("no side is empty"));
        let score = match method(case) {
            "jensen_shannon" => jensen_shannon(&r, &w, Base::Two),
            "hellinger" => hellinger(&r, &w),
            other => panic!("unknown method {other}"),
        };
        Some(score.expect("of one length"))
    };
    check_score_and_threshold(expected, &reference, &window, score);
}

fn check_score_and_threshold<T>(
    expected: &Expected<'_>,
    reference: &[T],
    window: &[T],
    score: impl Fn(&[T]) -> Option<f64>,
) {
    let of_chunks: Option<Vec<f64>> = reference.chunks_exact(reference.len() / 10).map(&score).collect();
    let [_, upper] = mean_and_three_deviations(&of_chunks.expect("no chunk is empty"));
    let value = score(window);
    expected.number("value", value);
    expected.number("upper_threshold", upper);
    expected.flag("alert", value.is_some_and(|value| value > upper));
}

fn mean_and_three_deviations(values: &[f64]) -> [f64; 2] {
    let sample = Sample::new(values).expect("numbers");
    let (mean, deviation) = (sample.mean().expect("rows"), sample.std(0).expect("rows"));
    [mean - 3.0 * deviation, mean + 3.0 * deviation]
}

/// Doane's bins of the reference, and one more for values outside of them.
fn jensen_shannon_of_numbers(reference: &Sample, window: &Sample) -> f64 {
    let edges = binning::doane_edges(reference).expect("a finite range");
    let [reference, window] = [reference, window].map(|sample| {
        let binned = binning::count(sample, &edges);
        Shares::of_counts(&[binned.counts, vec![binned.outside]].concat()).expect("rows")
    });
    jensen_shannon(&reference, &window, Base::Two).expect("of one length")
}

/// The number of rows from which NannyML bins the reference.
const BINNED_FROM: u64 = 10_000;

/// The number of these bins.
const BINS: usize = 10_000;

fn kolmogorov_smirnov_statistic(reference: &Sample, window: &Sample) -> f64 {
    if reference.rows() < BINNED_FROM {
        return ks(reference, window, Method::Auto).expect("rows").statistic;
    }
    let edges = binning::equal_width_edges(reference, BINS).expect("a finite range");
    let below = share(window, |value| value < edges[0]);
    let pairs = cumulative_shares(reference, &edges).into_iter().zip(cumulative_shares(window, &edges));
    pairs.map(|(r, w)| (r - (below + w)).abs()).fold(0.0, f64::max)
}

fn wasserstein_distance(reference: &Sample, window: &Sample) -> f64 {
    if reference.rows() < BINNED_FROM {
        return wasserstein(reference, window).expect("rows");
    }
    let edges = binning::equal_width_edges(reference, BINS).expect("a finite range");
    let (low, high) = (edges[0], edges[BINS]);
    let (below, below_distance) = beyond(window, low, |value| value < low);
    let (_, above_distance) = beyond(window, high, |value| value > high);
    let pairs = cumulative_shares(reference, &edges).into_iter().zip(cumulative_shares(window, &edges));
    let within: f64 = pairs.map(|(r, w)| (r - (w + below)).abs()).sum();
    within * (edges[1] - edges[0]) + below_distance + above_distance
}

/// Rows beyond an end of the reference, including the end itself: their share, and their part of the distance.
fn beyond(window: &Sample, end: f64, is_beyond: impl Fn(f64) -> bool) -> (f64, f64) {
    let rows = window.values().iter().copied().zip(window.counts().iter().copied());
    let with_end = Sample::from_counts(rows.filter(|(value, _)| is_beyond(*value)).chain([(end, 1)])).expect("numbers");
    if with_end.rows() == 1 {
        return (0.0, 0.0);
    }
    let share = with_end.rows() as f64 / window.rows() as f64;
    (share, share * wasserstein(&with_end, &sample(&[end])).expect("rows"))
}

fn cumulative_shares(sample: &Sample, edges: &[f64]) -> Vec<f64> {
    let mut so_far = 0;
    let through = |rows: u64| {
        so_far += rows;
        so_far as f64 / sample.rows() as f64
    };
    binning::count(sample, edges).counts.into_iter().map(through).collect()
}

fn share(sample: &Sample, holds: impl Fn(f64) -> bool) -> f64 {
    let rows = sample.values().iter().zip(sample.counts()).filter(|(value, _)| holds(**value));
    rows.map(|(_, rows)| *rows).sum::<u64>() as f64 / sample.rows() as f64
}

fn chi_square(reference: &[String], window: &[String]) -> ChiSquare {
    let categories = inputs::categories(reference, window);
    homogeneity(categories.reference(), categories.window(), Statistic::Pearson, Correction::Yates).expect("rows")
}

/// Counts over the categories of the reference, with one more for all other values of the window.
fn counts(reference: &[String], window: &[String]) -> [Vec<u64>; 2] {
    let (seen, window) = (inputs::name_counts(reference), inputs::name_counts(window));
    let unseen = window.iter().filter(|(name, _)| !seen.contains_key(*name)).map(|(_, rows)| *rows).sum();
    let of_seen = |name: &String| window.get(name).copied().unwrap_or(0);
    [seen.values().copied().chain([0]).collect(), seen.keys().map(of_seen).chain([unseen]).collect()]
}

fn method<'a>(case: &Case<'a>) -> &'a str {
    case.call.split('\'').nth(1).expect("the method's name in quotes")
}

/// The present values.
fn sample(values: &[f64]) -> Sample {
    let present: Vec<f64> = values.iter().copied().filter(|value| !value.is_nan()).collect();
    Sample::new(&present).expect("no value is NaN")
}
