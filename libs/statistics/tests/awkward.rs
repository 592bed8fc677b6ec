//! Columns that break drift detectors: the verdict must be right, and every number finite.

#![expect(clippy::unwrap_used, reason = "a test ends at the first surprise, in its helpers too")]

use rekindle_statistics::{
    Error,
    drift::{Drift, Settings, Verdict, compare},
    profile::{ColumnProfile, MAX_CATEGORIES, Profile},
};

fn ramp(rows: u32) -> Vec<Option<f64>> {
    (0..rows).map(|i| Some(f64::from(i * 7919 % 10_007) / 10_007.0)).collect()
}

fn numeric(reference: &[Option<f64>], window: &[Option<f64>]) -> Drift {
    let profile = ColumnProfile::from_numeric(reference.iter().copied());
    let counts = profile.count_numeric(window.iter().copied()).unwrap();
    assert_eq!(counts.rows(), window.len() as u64);
    finite(compare(&profile, &counts, &Settings { columns: 20, ..Settings::default() }).unwrap())
}

fn categorical(reference: &[Option<&str>], window: &[Option<&str>]) -> Drift {
    let profile = ColumnProfile::from_categorical(reference.iter().copied());
    let counts = profile.count_categorical(window.iter().copied()).unwrap();
    assert_eq!(counts.rows(), window.len() as u64);
    finite(compare(&profile, &counts, &Settings { columns: 20, ..Settings::default() }).unwrap())
}

fn finite(drift: Drift) -> Drift {
    let numbers = [drift.psi, drift.psi_by_chance, drift.p_value, drift.minimum_detectable_psi.unwrap_or(0.0)];
    assert!(numbers.iter().all(|number| number.is_finite()), "{drift:?}");
    assert!((0.0..=1.0).contains(&drift.p_value) && drift.psi >= 0.0, "{drift:?}");
    drift
}

#[test]
fn one_huge_value_neither_hides_nor_makes_a_shift() {
    let reference = ramp(5000);
    let mut same = ramp(2000);
    same[7] = Some(1e300);
    assert_eq!(numeric(&reference, &same).verdict, Verdict::Stable);
    let mut moved: Vec<_> = ramp(2000).into_iter().map(|x| x.map(|x| x + 0.3)).collect();
    moved[7] = Some(1e300);
    assert_eq!(numeric(&reference, &moved).verdict, Verdict::Drifted);
    let mut reference = reference;
    reference.extend([Some(1e300), Some(-1e308), Some(1e308)]);
    assert_eq!(numeric(&reference, &ramp(2000)).verdict, Verdict::Stable);
    assert_eq!(numeric(&reference, &moved).verdict, Verdict::Drifted);
}

#[test]
fn missing_values_are_a_shift_of_their_own() {
    let mut window = ramp(1000);
    window.iter_mut().skip(1).step_by(2).for_each(|value| *value = None);
    assert_eq!(numeric(&ramp(5000), &window).verdict, Verdict::Drifted);
    assert_eq!(numeric(&ramp(5000), &vec![None; 500]).verdict, Verdict::Drifted);
    assert_eq!(numeric(&vec![None; 5000], &vec![None; 500]).verdict, Verdict::Stable);
    assert_eq!(numeric(&vec![None; 5000], &ramp(500)).verdict, Verdict::Drifted);
    assert_eq!(categorical(&[Some("a"); 1000], &[None; 500]).verdict, Verdict::Drifted);
}

#[test]
fn non_finite_values_are_a_shift_of_their_own() {
    for odd in [f64::NAN, f64::INFINITY, f64::NEG_INFINITY] {
        let mut window = ramp(1000);
        window.iter_mut().step_by(3).for_each(|value| *value = Some(odd));
        assert_eq!(numeric(&ramp(5000), &window).verdict, Verdict::Drifted, "{odd}");
    }
}

#[test]
fn a_constant_that_stays_is_stable_and_one_that_moves_is_not() {
    for constant in [0.0, -0.0, 3.0, -1e-300, 1e300, f64::MAX, f64::MIN, f64::MIN_POSITIVE] {
        let reference = vec![Some(constant); 1000];
        assert_eq!(numeric(&reference, &vec![Some(constant); 500]).verdict, Verdict::Stable, "{constant:e}");
        for other in [constant + 1.0, constant - 1.0, constant * 2.0, constant / 2.0] {
            if other != constant && other.is_finite() {
                assert_eq!(
                    numeric(&reference, &vec![Some(other); 500]).verdict,
                    Verdict::Drifted,
                    "{constant} {other}"
                );
            }
        }
    }
}

#[test]
fn a_rare_code_that_is_replaced_by_another_is_seen() {
    let with = |code: f64| -> Vec<_> { (0..4000).map(|i| Some(if i % 12 == 0 { code } else { 0.0 })).collect() };
    assert_eq!(numeric(&with(1.0), &with(1.0)).verdict, Verdict::Stable);
    assert_eq!(numeric(&with(1.0), &with(9.0)).verdict, Verdict::Drifted);
    assert_eq!(numeric(&with(-1.0), &with(-9.0)).verdict, Verdict::Drifted);
}

#[test]
fn a_new_category_is_seen_when_it_is_frequent_and_not_when_it_is_one_row() {
    let reference: Vec<_> = (0..2000).map(|i| Some(if i % 3 == 0 { "a" } else { "b" })).collect();
    let mut window = reference[..600].to_vec();
    window[0] = Some("new");
    assert_eq!(categorical(&reference, &window).verdict, Verdict::Stable);
    window.iter_mut().step_by(4).for_each(|value| *value = Some("new"));
    assert_eq!(categorical(&reference, &window).verdict, Verdict::Drifted);
}

#[test]
fn too_few_rows_cannot_tell_and_say_what_they_could_have_seen() {
    let reference = ramp(5000);
    assert_eq!(numeric(&reference, &[]).verdict, Verdict::Unknown);
    assert_eq!(numeric(&reference, &[]).minimum_detectable_psi, None);
    assert_eq!(numeric(&[], &ramp(500)).verdict, Verdict::Unknown);
    assert_eq!(numeric(&[], &[]).verdict, Verdict::Unknown);
    for rows in [1, 2, 49] {
        let drift = numeric(&reference, &ramp(rows));
        assert_eq!(drift.verdict, Verdict::Unknown, "{rows}");
        assert!(drift.minimum_detectable_psi.unwrap() > 0.1, "{drift:?}");
    }
    assert_eq!(categorical(&[Some("a")], &[Some("b")]).verdict, Verdict::Unknown);
    let (few, many) = (numeric(&reference, &ramp(100)), numeric(&reference, &ramp(2000)));
    assert!(few.minimum_detectable_psi > many.minimum_detectable_psi);
    assert_eq!((few.verdict, many.verdict), (Verdict::Unknown, Verdict::Stable));
}

#[test]
fn a_new_value_is_seen_beside_any_number_of_training_rows() {
    for rows in [100, 10_000, 300_000] {
        let reference = vec![Some(1.0); rows];
        for window in [vec![Some(2.0); 500], vec![Some(0.5); 500], vec![None; 500], vec![Some(f64::NAN); 500]] {
            assert_eq!(numeric(&reference, &window).verdict, Verdict::Drifted, "{rows} {:?}", window[0]);
        }
        assert_eq!(categorical(&vec![Some("a"); rows], &[Some("b"); 500]).verdict, Verdict::Drifted, "{rows}");
    }
}

#[test]
fn counts_merge_piecewise() {
    let names: Vec<String> = (0..MAX_CATEGORIES).map(|i| format!("c{i:03}")).collect();
    let rows: Vec<Option<&str>> = names.iter().cycle().take(1000).map(|name| Some(name.as_str())).collect();
    let profile = ColumnProfile::from_categorical(rows.iter().copied());
    let mut pieces = profile.no_counts();
    for piece in rows.chunks(37) {
        pieces.merge(&profile.count_categorical(piece.iter().copied()).unwrap()).unwrap();
    }
    assert_eq!(pieces, profile.reference_counts());
}

#[test]
fn of_more_categories_than_bins_half_the_rows_choose_and_half_are_counted() {
    let names: Vec<String> = (0..1000).map(|i| format!("c{:03}", i % 250)).collect();
    let rows = names.iter().flat_map(|name| [Some("often"), Some(name.as_str())]);
    let profile = ColumnProfile::from_categorical(rows);
    let ColumnProfile::Categorical { values, rest, missing, rows } = &profile else { panic!("{profile:?}") };
    assert_eq!((values.len(), *missing, *rows), (1, 0, 1000), "only even positions choose");
    assert_eq!(*rest, 1000, "and only odd ones are counted");
}

#[test]
fn a_profile_survives_json_to_the_last_bit() {
    let numeric = ColumnProfile::from_numeric([0.1 + 0.2, 1.0 / 3.0, 1e300, -5e-324, 0.0, 0.0, 2.0 / 3.0].map(Some));
    let categorical = ColumnProfile::from_categorical([Some("é"), None, Some("")]);
    let columns = [("n".to_owned(), numeric), ("c".to_owned(), categorical)].into();
    let profile = Profile::new(columns);
    let text = serde_json::to_string(&profile).unwrap();
    let back: Profile = serde_json::from_str(&text).unwrap();
    let edges = |profile: &Profile| match &profile.columns["n"] {
        ColumnProfile::Numeric { edges, .. } => edges.iter().map(|edge| edge.to_bits()).collect::<Vec<_>>(),
        ColumnProfile::Categorical { .. } => panic!("a numeric column"),
    };
    assert_eq!(edges(&back), edges(&profile));
    assert_eq!(back.columns["c"], profile.columns["c"]);
}

#[test]
fn counts_of_another_profile_are_refused() {
    let numbers = ColumnProfile::from_numeric(ramp(100));
    let texts = ColumnProfile::from_categorical([Some("a")]);
    assert!(matches!(numbers.count_categorical([Some("a")]), Err(Error::Kind { .. })));
    assert!(matches!(texts.count_numeric([Some(1.0)]), Err(Error::Kind { .. })));
    assert!(matches!(compare(&numbers, &texts.no_counts(), &Settings::default()), Err(Error::Bins { .. })));
    let settings = Settings { alpha: 0.0, ..Settings::default() };
    assert!(matches!(compare(&texts, &texts.no_counts(), &settings), Err(Error::NotAShare { .. })));
}
