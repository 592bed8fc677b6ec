//! Scipy 1.17.1 and numpy 2.4.6: tests, distances, distributions and bin edges.

use rekindle_statistics::{
    Error,
    convention::scipy,
    multiple::{Procedure, adjusted},
    two_sample::{
        Ks, Method, Sample, binning,
        contingency::{self, Correction, Statistic, homogeneity},
        cramer_von_mises,
        divergence::{Base, Shares, jensen_shannon, jensen_shannon_divergence, kullback_leibler},
        kolmogorov_survival, ks,
        proportions::{Part, fisher_exact},
        wasserstein,
    },
};
use serde_json::Value;

use crate::{Case, expected::Expected, inputs};

pub(crate) fn check(case: &Case<'_>, expected: &Expected<'_>) {
    let function =
        case.call.split('(').next().and_then(|path| path.strip_prefix("scipy.").or(path.strip_prefix("np.")));
    match function {
        Some("stats.ks_2samp") => check_kolmogorov_smirnov(case, expected),
        Some("stats.cramervonmises_2samp") => check_cramer_von_mises(case, expected),
        Some("stats.wasserstein_distance") => {
            let [reference, window] = samples(case);
            expected.number("distance", wasserstein(&reference.expect("numbers"), &window.expect("numbers")).ok());
        }
        Some("spatial.distance.jensenshannon") => check_jensen_shannon(case, expected),
        Some("stats.entropy") => {
            let [p, q] = shares(case).map(|shares| shares.expect("shares"));
            expected.number("kl", kullback_leibler(&p, &q, Base::E).ok());
        }
        Some("stats.chi2_contingency") => check_homogeneity(case, expected),
        Some("stats.fisher_exact") => check_fisher(case, expected),
        Some("stats.false_discovery_control") => check_adjusted(case, expected),
        Some("stats.kstwo.sf") => {
            let survival = kolmogorov_survival(float(case, "d"), count(case, "n"));
            expected.number("sf", survival);
        }
        Some("stats.chi2.sf") => {
            let freedom = usize::try_from(count(case, "dof")).expect("small");
            expected.number("sf", contingency::chi_square_survival(float(case, "x"), freedom));
        }
        Some("histogram_bin_edges") => check_edges(case, expected),
        other => panic!("{}: {other:?} is not known", case.id),
    }
}

fn check_kolmogorov_smirnov(case: &Case<'_>, expected: &Expected<'_>) {
    let [reference, window] = samples(case);
    let test = reference.ok().zip(window.ok()).and_then(|(reference, window)| {
        let method = match () {
            () if case.call.contains("'exact'") => Method::Exact,
            () if case.call.contains("'asymp'") => Method::Asymptotic,
            // Scipy has its own choice of the p-value.
            () => {
                let p_value = scipy::kolmogorov_smirnov(&reference, &window).ok()?.p_value;
                return ks(&reference, &window, Method::Auto).ok().map(|test| Ks { p_value, ..test });
            }
        };
        ks(&reference, &window, method).ok()
    });
    expected.number("statistic", test.as_ref().map(|test| test.statistic));
    expected.number("pvalue", test.as_ref().map(|test| test.p_value));
    expected.number("statistic_location", test.as_ref().map(|test| test.location));
    expected.number("statistic_sign", test.as_ref().map(|test| f64::from(test.sign)));
    expected.no_statistic("warnings");
}

fn check_cramer_von_mises(case: &Case<'_>, expected: &Expected<'_>) {
    let [reference, window] = samples(case).map(|sample| sample.expect("numbers"));
    let exact = case.call.contains("'exact'");
    let method = if exact { Method::Exact } else { Method::Asymptotic };
    let test = cramer_von_mises(&reference, &window, method).ok();
    expected.number("statistic", test.as_ref().map(|test| test.statistic));
    expected.number("pvalue", test.as_ref().map(|test| test.p_value));
}

fn check_jensen_shannon(case: &Case<'_>, expected: &Expected<'_>) {
    let base = if case.call.contains("base=2") { Base::Two } else { Base::E };
    let [p, q] = shares(case);
    let both = p.and_then(|p| q.map(|q| (p, q))).ok();
    let of_both = |distance: fn(&Shares, &Shares, Base) -> Result<f64, Error>| {
        both.as_ref().map(|(p, q)| distance(p, q, base).expect("of one length"))
    };
    expected.number("distance", of_both(jensen_shannon));
    expected.number("divergence_squared", of_both(jensen_shannon_divergence));
}

/// A table of one category is two rows of one count. Scipy rejects a category that is empty in both
/// rows; our function omits it, as documented.
fn check_homogeneity(case: &Case<'_>, expected: &Expected<'_>) {
    let correction = if case.call.contains("correction=True") { Correction::Yates } else { Correction::None };
    let [reference, window] = rows(&case.input["table"]);
    let test = homogeneity(&reference, &window, Statistic::Pearson, correction).expect("both rows have counts");
    if expected.has("error") {
        let seen = |row: &[u64]| row.iter().copied().filter(|count| *count > 0).collect::<Vec<_>>();
        let without = homogeneity(&seen(&reference), &seen(&window), Statistic::Pearson, correction);
        assert_eq!(Ok(test), without, "{}", case.id);
        return expected.no_statistic("error");
    }
    expected.number("statistic", test.statistic);
    expected.number("pvalue", test.p_value);
    expected.number("dof", test.freedom as f64);
}

fn check_fisher(case: &Case<'_>, expected: &Expected<'_>) {
    let [reference, window] = rows(&case.input["table"]).map(|row| Part { hits: row[0], rows: row[0] + row[1] });
    let test = fisher_exact(reference, window).expect("a table of counts");
    expected.number("odds_ratio", test.odds_ratio);
    expected.number("pvalue", test.p_value);
}

fn check_adjusted(case: &Case<'_>, expected: &Expected<'_>) {
    let procedure =
        if case.call.contains("'by'") { Procedure::BenjaminiYekutieli } else { Procedure::BenjaminiHochberg };
    let p_values = inputs::numbers(&case.input["p"]);
    let adjusted = adjusted(&p_values, procedure).expect("p-values");
    expected.numbers("adjusted", &adjusted.into_iter().map(Some).collect::<Vec<_>>());
}

fn check_edges(case: &Case<'_>, expected: &Expected<'_>) {
    let sample = inputs::sample(&case.input["x"]).expect("numbers");
    let edges = if case.call.contains("'doane'") { binning::doane_edges } else { binning::sturges_edges };
    let edges = edges(&sample).expect("a finite range");
    if expected.has("edges") {
        return expected.numbers("edges", &edges.into_iter().map(Some).collect::<Vec<_>>());
    }
    expected.number("n_bins", (edges.len() - 1) as f64);
    expected.number("first", edges.first().copied());
    expected.number("second", edges.get(1).copied());
    expected.number("last", edges.last().copied());
}

fn samples(case: &Case<'_>) -> [Result<Sample, Error>; 2] {
    ["ref", "cur"].map(|side| inputs::sample(&case.input[side]))
}

fn shares(case: &Case<'_>) -> [Result<Shares, Error>; 2] {
    ["p", "q"].map(|side| Shares::of_weights(&inputs::numbers(&case.input[side])))
}

fn rows(table: &Value) -> [Vec<u64>; 2] {
    [inputs::counts(&table[0]), inputs::counts(&table[1])]
}

fn float(case: &Case<'_>, key: &str) -> f64 {
    inputs::number(&case.input[key])
}

fn count(case: &Case<'_>, key: &str) -> u64 {
    case.input[key].as_u64().expect("a count")
}
